//! Sessions against their definition, against a twin that merges eagerly, and against one that judges each record by
//! the watermark before it.

use super::*;
use proptest::prelude::*;

/// States that do not commute: the fold of `a` and `b` is `ab`.
#[derive(Debug, Default)]
struct Texts(Vec<String>);

impl States for Texts {
    fn empty(&self) -> Self {
        Texts::default()
    }
    fn admit(&mut self, _: &Self) {}
    fn fold(&mut self, at: &[u32], source: &Self, range: Range<usize>) {
        for (at, text) in at.iter().zip(&source.0[range]) {
            self.0[*at as usize].push_str(text);
        }
    }
    fn settle(&mut self) {}
    fn bytes(&self) -> usize {
        0
    }
}

impl Joined for Texts {
    fn grow(&mut self, len: usize) {
        self.0.resize(len.max(self.0.len()), String::new());
    }
    fn join(&mut self, at: u32, from: u32) {
        let text = std::mem::take(&mut self.0[from as usize]);
        self.0[at as usize].push_str(&text);
    }
}

/// A session as it is handed out: end, start, group, records, what was folded.
type Row = (i64, i64, GroupId, u64, String);

/// The twin: every session of every group, in no structure at all.
#[derive(Debug, Default)]
struct Twin {
    open: Vec<(GroupId, Span, u64, String)>,
    closed: Vec<(GroupId, Span, u64, String)>,
}

impl Twin {
    fn touched(&mut self, id: GroupId, span: Span, gap: i64) -> Vec<(GroupId, Span, u64, String)> {
        let touches =
            |s: &(GroupId, Span, u64, String)| s.0 == id && !s.1.is_after(span, gap) && !span.is_after(s.1, gap);
        let mut touched: Vec<_> = self.open.extract_if(.., |s| touches(s)).collect();
        touched.sort_by_key(|s| s.1);
        touched
    }

    fn add(&mut self, id: GroupId, span: Span, rows: u64, text: &str, gap: i64) {
        let mut all = (id, Span::NONE, 0, String::new());
        for (_, span, rows, text) in self.touched(id, span, gap) {
            all.1.extend(span);
            all.2 += rows;
            all.3 += &text;
        }
        all.1.extend(span);
        self.open.push((id, all.1, all.2 + rows, all.3 + text));
    }

    fn close(&mut self, watermark: i64, gap: i64) {
        self.closed.extend(self.open.extract_if(.., |s| watermark > s.1.last + gap));
    }

    fn rows(mut self, gap: i64, latest: i64) -> Vec<Row> {
        self.closed.append(&mut self.open);
        let row = |(id, span, rows, text): (GroupId, Span, u64, String)| {
            ((span.last + gap).min(latest), span.first, id, rows, text)
        };
        let mut rows: Vec<Row> = self.closed.into_iter().map(row).collect();
        rows.sort();
        rows
    }
}

fn rows_of(closed: &Closed<Texts>, gap: i64, latest: i64) -> Vec<Row> {
    let row = |(i, (span, id)): (usize, &(Span, GroupId))| {
        ((span.last + gap).min(latest), span.first, *id, closed.rows.get(i), closed.states.0[i].clone())
    };
    closed.sessions.iter().enumerate().map(row).collect()
}

/// The records of a block folded: group, span, records, their numbers.
fn fold_block(records: &[(usize, GroupId, i64)], gap: i64) -> Vec<(GroupId, Span, u64, String)> {
    let mut sorted = records.to_vec();
    sorted.sort_by_key(|r| (r.1, r.2));
    let mut cells: Vec<(GroupId, Span, Vec<usize>)> = Vec::new();
    for (number, id, ts) in sorted {
        match cells.last_mut() {
            Some(cell) if cell.0 == id && ts <= cell.1.last + gap => {
                cell.1.extend(Span::at(ts));
                cell.2.push(number);
            }
            _ => cells.push((id, Span::at(ts), vec![number])),
        }
    }
    let text = |mut numbers: Vec<usize>| {
        numbers.sort_unstable();
        numbers.iter().map(|n| format!("{n},")).collect::<String>()
    };
    cells.into_iter().map(|(id, span, numbers)| (id, span, numbers.len() as u64, text(numbers))).collect()
}

/// Cells in the form in which they are added.
fn block(cells: &[(GroupId, Span, u64, String)]) -> (Vec<GroupId>, Vec<Span>, Counts, Texts) {
    let mut rows = Counts::default();
    rows.grow(cells.len());
    for (i, cell) in cells.iter().enumerate() {
        rows.add(&[i as u32], cell.2.into(), |_| cell.2 as u32);
    }
    let texts = Texts(cells.iter().map(|c| c.3.clone()).collect());
    (cells.iter().map(|c| c.0).collect(), cells.iter().map(|c| c.1).collect(), rows, texts)
}

/// Sorts the numbers in a text, for ways that fold in another order.
fn sorted(mut row: Row) -> Row {
    let mut numbers: Vec<u32> = row.4.split_terminator(',').map(|n| n.parse().unwrap()).collect();
    numbers.sort_unstable();
    row.4 = numbers.iter().map(|n| format!("{n},")).collect();
    row
}

/// Records of few keys in blocks: in order, displaced, or anywhere.
fn records() -> impl Strategy<Value = Vec<Vec<(GroupId, i64)>>> {
    let order = prop::sample::select(vec![(40i64, 3i64), (10, 30), (3, 200), (0, 600)]);
    order.prop_flat_map(|(step, jitter)| {
        let block = prop::collection::vec((0u32..5, 0..=step, 0..=jitter), 1..30);
        prop::collection::vec(block, 0..12).prop_map(|blocks| {
            let mut now = 0;
            let mut time = |(id, step, jitter): (u32, i64, i64)| {
                now += step;
                (id, now - jitter)
            };
            blocks.into_iter().map(|block| block.into_iter().map(&mut time).collect()).collect()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    /// Whatever the order of the records: the definition by sorting, and the folds of the eager twin.
    #[test]
    fn sessions_are_those_of_the_definition(blocks in records(), gap in 1i64..60, latest in prop::option::of(0i64..400)) {
        let latest = latest.unwrap_or(i64::MAX);
        let mut sessions = Sessions::new(gap, Texts::default());
        let mut swept = Sessions::swept(gap, Texts::default());
        let mut twin = Twin::default();
        let mut all = Vec::new();
        for records in &blocks {
            let numbered: Vec<_> = records.iter().enumerate().map(|(i, r)| (all.len() + i, r.0, r.1)).collect();
            let cells = fold_block(&numbered, gap);
            let (ids, spans, rows, texts) = block(&cells);
            sessions.admit(&rows, &texts);
            swept.admit(&rows, &texts);
            // In two parts, as of two partitions.
            let cut = cells.len() / 2;
            for part in [0..cut, cut..cells.len()] {
                sessions.add(&ids[part.clone()], &spans[part.clone()], &rows, &texts, part.clone());
                swept.add(&ids[part.clone()], &spans[part.clone()], &rows, &texts, part);
            }
            cells.iter().for_each(|(id, span, rows, text)| twin.add(*id, *span, *rows, text, gap));
            sessions.tidy();
            all.extend(numbered);
            prop_assert_eq!(sessions.len(), twin.open.len());
        }
        let definition = fold_block(&all, gap);
        let definition = Twin { open: definition, ..Twin::default() }.rows(gap, latest);
        let closed = sessions.close(i64::MAX, latest, |a, b| a.cmp(&b));
        let got = rows_of(&closed, gap, latest);
        prop_assert_eq!(&got, &twin.rows(gap, latest));
        prop_assert_eq!(got.into_iter().map(sorted).collect::<Vec<_>>(), &definition[..]);
        // The sweep folds in the order of arrival of the blocks' cells.
        let closed = swept.close(i64::MAX, latest, |a, b| a.cmp(&b));
        prop_assert_eq!(rows_of(&closed, gap, latest).into_iter().map(sorted).collect::<Vec<_>>(), definition);
        prop_assert!(sessions.is_empty() && swept.is_empty());
        let mut groups: Vec<GroupId> = all.iter().map(|r| r.1).collect();
        groups.sort_unstable();
        groups.dedup();
        prop_assert_eq!(closed.gone, groups);
    }

    /// With a watermark: the same as closing before every record, though blocks ahead of it are folded first and closed
    /// sessions are taken out only now and then; what is taken out is in order over all.
    #[test]
    fn lateness_is_judged_per_record(blocks in records(), gap in 1i64..60, bound in 0i64..80, seldom in 1usize..4) {
        let mut sessions = Sessions::new(gap, Texts::default());
        let mut twin = Twin::default();
        let (mut got, mut late, mut want_late) = (Vec::new(), 0, 0);
        let (mut greatest, mut number) = (i64::MIN / 2, 0);
        for (b, records) in blocks.iter().enumerate() {
            let mut watermarks = Vec::new();
            let first = number;
            for (id, ts) in records {
                let watermark = greatest - bound;
                watermarks.push(watermark);
                twin.close(watermark, gap);
                let joins = !twin.touched(*id, Span::at(*ts), gap).into_iter().map(|s| twin.open.push(s)).collect::<Vec<_>>().is_empty();
                if joins || watermark <= ts + gap {
                    twin.add(*id, Span::at(*ts), 1, &format!("{number},"), gap);
                } else {
                    want_late += 1;
                }
                greatest = greatest.max(*ts);
                number += 1;
            }
            let numbered: Vec<_> = records.iter().enumerate().map(|(i, r)| (first + i, r.0, r.1)).collect();
            let ahead = records.iter().zip(&watermarks).all(|((_, ts), watermark)| ts > watermark);
            let single = |r: &(usize, GroupId, i64)| (r.1, Span::at(r.2), 1, format!("{},", r.0));
            let cells = if ahead { fold_block(&numbered, gap) } else { numbered.iter().map(single).collect() };
            let (ids, spans, rows, texts) = block(&cells);
            sessions.admit(&rows, &texts);
            if ahead {
                sessions.add(&ids, &spans, &rows, &texts, 0..cells.len());
            } else {
                let mut dropped = Vec::new();
                sessions.add_judged((&ids, &watermarks), &spans, &rows, &texts, 0..cells.len(), &mut dropped);
                late += dropped.len() as u64;
            }
            if b % seldom == 0 {
                let closed = sessions.close(greatest - bound, i64::MAX, |a, b| a.cmp(&b));
                got.extend(rows_of(&closed, gap, i64::MAX));
                prop_assert!(closed.gone.iter().all(|id| sessions.heads[*id as usize] == NONE));
            }
            sessions.tidy();
        }
        got.extend(rows_of(&sessions.close(i64::MAX, i64::MAX, |a, b| a.cmp(&b)), gap, i64::MAX));
        let got: Vec<Row> = got.into_iter().map(sorted).collect();
        prop_assert_eq!(got, twin.rows(gap, i64::MAX).into_iter().map(sorted).collect::<Vec<_>>());
        prop_assert_eq!(late, want_late);
    }
}

#[test]
fn a_distance_of_the_gap_is_one_session_and_more_is_two() {
    let mut sessions = Sessions::new(10, Texts::default());
    let cells: Vec<_> = [0, 10, 21].iter().map(|ts| (0, Span::at(*ts), 1, format!("{ts},"))).collect();
    let (ids, spans, rows, texts) = block(&cells);
    sessions.admit(&rows, &texts);
    // One by one: in one block they would have been folded before.
    for i in 0..3 {
        sessions.add(&ids[i..=i], &spans[i..=i], &rows, &texts, i..i + 1);
    }
    let closed = sessions.close(20, i64::MAX, |a, b| a.cmp(&b));
    assert!(closed.sessions.is_empty(), "the watermark must be greater than the end");
    let closed = sessions.close(21, i64::MAX, |a, b| a.cmp(&b));
    assert_eq!(rows_of(&closed, 10, i64::MAX), vec![(20, 0, 0, 2, "0,10,".to_owned())]);
    assert!(closed.gone.is_empty(), "the key has another session");
    let closed = sessions.close(i64::MAX, i64::MAX, |a, b| a.cmp(&b));
    assert_eq!(rows_of(&closed, 10, i64::MAX), vec![(31, 21, 0, 1, "21,".to_owned())]);
    assert_eq!(closed.gone, vec![0]);
}
