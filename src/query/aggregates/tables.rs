//! Several columns as one: the states of cells ([`Columns`]) and the tables of a window ([`ColumnTables`]).

use super::{Column, Sliding};
use crate::core::panes::{Log, Run, States};
use crate::core::session::Joined;
use crate::core::slide::WindowTable;
use crate::core::words::Bytes;
use std::ops::Range;

/// The primitive columns of a query, all of one length.
pub(crate) struct Columns {
    columns: Vec<Box<dyn Column>>,
    len: usize,
}

impl Columns {
    /// Of the kinds of `columns`, all empty.
    pub(crate) fn new(columns: Vec<Box<dyn Column>>) -> Self {
        Columns { columns, len: 0 }
    }

    /// Grows every column to `len` identities.
    pub(crate) fn grow(&mut self, len: usize) {
        if len > self.len {
            self.len = len;
            self.columns.iter_mut().for_each(|c| c.grow(len));
        }
    }

    /// Appends the states of `cells` to `out`.
    pub(crate) fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>) {
        self.columns.iter().for_each(|c| c.save(cells, out));
    }

    /// Appends `cells` states that [`save`](Self::save) wrote; `None` if the bytes are not such states.
    pub(crate) fn load(&mut self, cells: usize, from: &mut Bytes<'_>) -> Option<()> {
        self.len += cells;
        self.columns.iter_mut().try_for_each(|c| c.load(cells, from))
    }

    /// The columns, in the order of the plan.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Box<dyn Column>> {
        self.columns.iter_mut()
    }
}

impl States for Columns {
    fn empty(&self) -> Self {
        Columns::new(self.columns.iter().map(|c| c.empty()).collect())
    }

    fn admit(&mut self, source: &Self) {
        for (to, from) in self.columns.iter_mut().zip(&source.columns) {
            to.admit(&**from);
        }
    }

    fn fold(&mut self, at: &[u32], source: &Self, range: Range<usize>) {
        if self.columns.is_empty() {
            return;
        }
        self.grow(at.iter().max().map_or(0, |max| *max as usize + 1));
        for (to, from) in self.columns.iter_mut().zip(&source.columns) {
            to.fold(at, &**from, range.clone());
        }
    }

    fn settle(&mut self) {
        self.columns.iter_mut().for_each(|c| c.settle());
    }

    fn bytes(&self) -> usize {
        self.columns.iter().map(|c| c.bytes()).sum()
    }
}

impl Joined for Columns {
    fn grow(&mut self, len: usize) {
        Columns::grow(self, len);
    }

    fn join(&mut self, at: u32, from: u32) {
        for column in &mut self.columns {
            if !column.join_unread(at, from) {
                let mut one = column.empty();
                one.grow(1);
                one.admit(&**column);
                one.fold(&[0], &**column, from as usize..from as usize + 1);
                // The bound of one state, not that of all.
                one.settle();
                column.admit(&*one);
                column.fold(&[at], &*one, 0..1);
            }
        }
    }
}

/// One column of a window's table.
pub(crate) enum Table {
    /// The state of everything in the window.
    Inverse(Box<dyn Column>),
    /// The state is `suffix ⊕ front`, or `suffix ⊕ shown` while there are late cells: `shown` is `front ⊕ late`.
    Suffix { suffix: Box<dyn Column>, front: Box<dyn Column>, shown: Option<Box<dyn Column>> },
}

impl Table {
    /// The column to read and, if it slides by suffix, the one to fold behind it.
    pub(crate) fn parts(&self) -> (&dyn Column, Option<&dyn Column>) {
        match self {
            Table::Inverse(column) => (&**column, None),
            Table::Suffix { suffix, front, shown } => (&**suffix, Some(&**shown.as_ref().unwrap_or(front))),
        }
    }
}

/// The table of a window, one [`Table`] per primitive column.
pub(crate) struct ColumnTables {
    tables: Vec<Table>,
    groups: usize,
    slides: bool,
}

impl ColumnTables {
    /// Empty tables for the kinds of `columns`. Without `slides`, a window is folded anew each time and needs no suffixes.
    pub(crate) fn new(columns: &Columns, slides: bool) -> Self {
        let table = |c: &dyn Column| match c.sliding() {
            Sliding::Suffix if slides => Table::Suffix { suffix: c.table(), front: c.table(), shown: None },
            _ => Table::Inverse(c.table()),
        };
        ColumnTables { tables: columns.columns.iter().map(|c| table(&**c)).collect(), groups: 0, slides }
    }

    /// The table of primitive column `i`.
    pub(crate) fn get(&self, i: usize) -> &Table {
        &self.tables[i]
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |t: &Table| match t {
            Table::Inverse(column) => column.bytes(),
            Table::Suffix { suffix, front, shown } => {
                suffix.bytes() + front.bytes() + shown.as_ref().map_or(0, |shown| shown.bytes())
            }
        };
        self.tables.iter().map(bytes).sum()
    }
}

impl WindowTable<Columns> for ColumnTables {
    fn prepare(&mut self, groups: usize, logs: &[Log<Columns>]) {
        self.groups = groups;
        for (i, table) in self.tables.iter_mut().enumerate() {
            match table {
                Table::Inverse(column) => {
                    logs.iter().for_each(|log| column.admit(&*log.states.columns[i]));
                    column.grow(groups);
                }
                Table::Suffix { suffix, front, .. } => {
                    suffix.grow(groups);
                    front.grow(groups);
                }
            }
        }
    }

    fn absorb(&mut self, ids: &[u32], cells: &Columns, range: Range<usize>) {
        for (table, cells) in self.tables.iter_mut().zip(&cells.columns) {
            match table {
                Table::Inverse(column) | Table::Suffix { front: column, .. } => {
                    column.fold(ids, &**cells, range.clone())
                }
            }
        }
    }

    fn expel(&mut self, ids: &[u32], cells: &Columns, range: Range<usize>, turned: bool) {
        for (table, cells) in self.tables.iter_mut().zip(&cells.columns) {
            match table {
                Table::Inverse(column) => column.retract(ids, &**cells, range.clone()),
                Table::Suffix { suffix, .. } if turned => suffix.store(ids, &**cells, range.clone()),
                Table::Suffix { .. } => {}
            }
        }
    }

    fn reset(&mut self, ids: &[u32]) {
        for table in &mut self.tables {
            match table {
                Table::Inverse(column) => column.reset(ids),
                Table::Suffix { suffix, front, .. } => {
                    suffix.reset(ids);
                    front.reset(ids);
                }
            }
        }
    }

    fn store(&mut self, ids: &[u32], cells: &Columns, range: Range<usize>) {
        for (table, cells) in self.tables.iter_mut().zip(&cells.columns) {
            match table {
                Table::Inverse(column) => column.store(ids, &**cells, range.clone()),
                Table::Suffix { suffix, front, .. } => {
                    suffix.reset(ids);
                    front.store(ids, &**cells, range.clone());
                }
            }
        }
    }

    fn late(&mut self, logs: &[Log<Columns>], came: &[Run], left: &[Run], late: &[Run]) {
        let groups = self.groups;
        for (i, table) in self.tables.iter_mut().enumerate() {
            let cells = |run: &Run| {
                let log = &logs[run.log as usize];
                (&log.ids[run.range()], &*log.states.columns[i], run.range())
            };
            match table {
                Table::Inverse(column) => {
                    // Tables that are folded anew for every window were reset.
                    for (ids, states, range) in left.iter().filter(|_| self.slides).map(cells) {
                        column.retract(ids, states, range);
                    }
                    for (ids, states, range) in came.iter().map(cells) {
                        column.fold(ids, states, range);
                    }
                }
                Table::Suffix { shown, .. } if late.is_empty() => *shown = None,
                Table::Suffix { front, shown, .. } => {
                    // Late cells can be taken neither out of `front` nor out of what was turned: they are few, and are
                    // folded again for every window.
                    let shown = shown.get_or_insert_with(|| front.table());
                    shown.grow(groups);
                    let all: Vec<u32> = (0..groups as u32).collect();
                    shown.store(&all, &**front, 0..groups);
                    for (ids, states, range) in late.iter().map(cells) {
                        shown.fold(ids, states, range);
                    }
                }
            }
        }
    }

    fn turn(&mut self, logs: &mut [Log<Columns>], entered: &[Run], stay: usize) {
        for (i, table) in self.tables.iter_mut().enumerate() {
            if let Table::Suffix { suffix, front, .. } = table {
                for run in entered {
                    front.reset(&logs[run.log as usize].ids[run.range()]);
                }
                for run in entered[stay..].iter().rev() {
                    let log = &mut logs[run.log as usize];
                    log.states.columns[i].turn(&log.ids[run.range()], run.range(), &mut **suffix);
                }
            }
        }
    }
}
