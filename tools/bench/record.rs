//! Raw rows of measurements: one for each process that ran, as CSV under `benches/record/`, and their medians.

use std::fmt::Write;

/// The columns of a record, in this order.
pub const COLUMNS: &str = "section,x,scale,workload,runner,variant,class,sink,rep,wall_s,cpu_s,query_s,resident_mb,\
                           anonymous_mb,spilled_mb,other_cpu_s,rows,verdict";

/// One process that ran.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// `peers`, or the name of a series of `scaling`, or `library`.
    pub section: String,
    /// Where on the series; empty for `peers`.
    pub x: String,
    pub scale: String,
    pub workload: String,
    pub runner: String,
    pub variant: String,
    /// `windrow`; of a peer's query `tuned`, `range` (tuned, knows the range of keys beforehand) or `idiomatic`.
    pub class: String,
    /// `parquet`, `csv`, or `dropped` (rows that are built and not written).
    pub sink: String,
    pub rep: u32,
    pub wall_s: f64,
    /// User and system time.
    pub cpu_s: f64,
    /// The query alone, as measured inside the process; 0 where it does not say.
    pub query_s: f64,
    pub resident_mb: f64,
    pub anonymous_mb: f64,
    pub spilled_mb: f64,
    /// Processor time that others took meanwhile.
    pub other_cpu_s: f64,
    pub rows: u64,
    /// `ok`, or what is wrong with the answer, or why there is none.
    pub verdict: String,
}

impl Row {
    /// One line of the CSV, without its end.
    pub fn line(&self) -> String {
        let clean = |text: &str| text.replace([',', '\n', '\r', '"'], ";");
        let texts = [&self.section, &self.x, &self.scale, &self.workload, &self.runner, &self.variant];
        let mut line: String = texts.iter().map(|text| clean(text) + ",").collect();
        let _ = write!(line, "{},{},{},", self.class, self.sink, self.rep);
        let _ = write!(line, "{:.3},{:.2},{:.3},", self.wall_s, self.cpu_s, self.query_s);
        let _ = write!(line, "{:.0},{:.0},{:.0},", self.resident_mb, self.anonymous_mb, self.spilled_mb);
        let _ = write!(line, "{:.2},{},{}", self.other_cpu_s, self.rows, clean(&self.verdict));
        line
    }

    /// Reads a line back; `None` if it is not one.
    fn parse(line: &str) -> Option<Row> {
        let fields: Vec<&str> = line.split(',').collect();
        let [section, x, scale, workload, runner, variant, class, sink, rest @ ..] = fields.as_slice() else {
            return None;
        };
        let [rep, wall, cpu, query, resident, anonymous, spilled, other, rows, verdict] = rest else { return None };
        let [section, x, scale, workload, runner, variant, class, sink, verdict] =
            [section, x, scale, workload, runner, variant, class, sink, verdict].map(|text| (*text).to_owned());
        Some(Row {
            section,
            x,
            scale,
            workload,
            runner,
            variant,
            class,
            sink,
            rep: rep.parse().ok()?,
            wall_s: wall.parse().ok()?,
            cpu_s: cpu.parse().ok()?,
            query_s: query.parse().ok()?,
            resident_mb: resident.parse().ok()?,
            anonymous_mb: anonymous.parse().ok()?,
            spilled_mb: spilled.parse().ok()?,
            other_cpu_s: other.parse().ok()?,
            rows: rows.parse().ok()?,
            verdict,
        })
    }
}

/// The rows of a record.
///
/// # Errors
/// A sentence that names the line which is not one.
pub fn parse(text: &str) -> Result<Vec<Row>, String> {
    let mut lines = text.lines();
    if lines.next() != Some(COLUMNS) {
        return Err("a record starts with the line of its columns".into());
    }
    let row = |(i, line)| Row::parse(line).ok_or_else(|| format!("line {} is no row of a record: {line}", i + 2));
    lines.enumerate().map(row).collect()
}

/// Of a second, how much processor time others may take for a run to count as one on a quiet machine.
const QUIET: f64 = 0.15;

/// All runs of one query by one runner; those of a busy machine are left out where there are others.
#[derive(Debug, Clone)]
pub struct Runs<'a> {
    pub rows: Vec<&'a Row>,
}

impl<'a> Runs<'a> {
    /// Groups rows that differ in nothing but what was measured, in the order in which they first come.
    pub fn of(rows: impl IntoIterator<Item = &'a Row>) -> Vec<Runs<'a>> {
        let mut all: Vec<Runs<'a>> = Vec::new();
        let same = |a: &Row, b: &Row| {
            let key =
                |r: &Row| [&r.section, &r.x, &r.scale, &r.workload, &r.runner, &r.variant, &r.sink].map(String::clone);
            key(a) == key(b)
        };
        for row in rows {
            match all.iter_mut().find(|runs| same(runs.rows[0], row)) {
                Some(runs) => runs.rows.push(row),
                None => all.push(Runs { rows: vec![row] }),
            }
        }
        for runs in &mut all {
            let quiet = |row: &&Row| row.other_cpu_s <= QUIET * row.wall_s.max(0.2);
            if runs.rows.iter().any(quiet) {
                runs.rows.retain(quiet);
            }
        }
        all
    }

    /// What they have in common.
    pub fn first(&self) -> &'a Row {
        self.rows[0]
    }

    /// Whether every answer was right.
    pub fn right(&self) -> bool {
        self.rows.iter().all(|row| row.verdict == "ok")
    }

    /// Least, median and greatest of a figure.
    pub fn spread(&self, figure: impl Fn(&Row) -> f64) -> [f64; 3] {
        let mut figures: Vec<f64> = self.rows.iter().map(|row| figure(row)).collect();
        figures.sort_by(f64::total_cmp);
        let n = figures.len();
        let median = (figures[(n - 1) / 2] + figures[n / 2]) / 2.0;
        [figures[0], median, figures[n - 1]]
    }

    /// Median wall time, seconds.
    pub fn wall(&self) -> f64 {
        self.spread(|row| row.wall_s)[1]
    }

    /// Median peak of resident memory, in 10^6 bytes.
    pub fn resident(&self) -> f64 {
        self.spread(|row| row.resident_mb)[1]
    }
}
