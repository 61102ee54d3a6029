//! The application queries of LightSaber (Theodorakis and others, "LightSaber: Efficient Window Aggregation on Multi-core
//! Processors", SIGMOD 2020) and their data files, which its repository holds. Windows slide by a second.

use crate::Failure;
use arrow_array::{ArrayRef, Float32Array, Int32Array, Int64Array};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use windrow::query::{Agg, avg, count, sum};

/// One query.
pub struct Application {
    pub name: &'static str,
    file: &'static str,
    /// Rows of the file that are replayed again and again.
    rows: usize,
    /// Bytes of one of LightSaber's tuples.
    pub tuple: usize,
    /// Seconds.
    pub window: i64,
    pub keys: &'static [&'static str],
    /// Aggregates: sum or averages of these columns; beside them a count.
    pub sums: bool,
    pub values: &'static [&'static str],
    pub filter: Option<&'static str>,
    pub having: Option<&'static str>,
    /// Rows out per replay once windows are full, known from brute force.
    pub rows_per_replay: u64,
    /// Tuples of a measurement at scale 1, in millions.
    pub millions: f64,
}

const GOOGLE: Application = Application {
    name: "CM1",
    file: "google-cluster-data.txt",
    rows: 8192,
    tuple: 64,
    window: 60,
    keys: &["category"],
    sums: true,
    values: &["cpu"],
    filter: None,
    having: None,
    rows_per_replay: 1012,
    millions: 200.0,
};

const GRID: Application = Application {
    name: "SG1",
    file: "smartgrid-data.txt",
    rows: 16_384,
    tuple: 32,
    window: 3600,
    keys: &[],
    sums: false,
    values: &["value"],
    rows_per_replay: 41,
    ..GOOGLE
};

/// All of them.
pub const APPLICATIONS: [Application; 6] = [
    GOOGLE,
    Application { name: "CM2", keys: &["job_id"], filter: Some("event_type = 3"), rows_per_replay: 1095, ..GOOGLE },
    GRID,
    Application {
        name: "SG2",
        window: 128,
        keys: &["plug", "household", "house"],
        rows_per_replay: 19_270,
        millions: 50.0,
        ..GRID
    },
    Application {
        name: "LRB1",
        file: "lrb-data-small-ht.txt",
        window: 300,
        keys: &["highway", "direction", "segment"],
        values: &["speed"],
        having: Some("avg_speed < 40"),
        rows_per_replay: 44_778,
        millions: 20.0,
        ..GRID
    },
    Application {
        name: "ME1",
        file: "DEBS2012-small.txt",
        rows: 4096,
        tuple: 64,
        window: 60,
        values: &["mf01", "mf02", "mf03"],
        ..GRID
    },
];

/// Rows of a file, parsed once: seconds, and columns.
pub struct Table {
    pub times: Vec<i64>,
    pub columns: Vec<(&'static str, ArrayRef)>,
}

impl Application {
    /// What is asked for beside the keys.
    pub fn aggregates(&self) -> Vec<Agg> {
        let value = |name: &&str| if self.sums { sum(*name) } else { avg(*name) };
        self.values.iter().map(value).chain([count()]).collect()
    }

    /// Reads the rows that are replayed from the file in `folder`, plain or with `.gz` at its end.
    pub fn load(&self, folder: &Path) -> Result<Table, Failure> {
        let (plain, packed) = (folder.join(self.file), folder.join(format!("{}.gz", self.file)));
        let mut text = String::new();
        if plain.is_file() {
            File::open(&plain)?.read_to_string(&mut text)?;
        } else {
            let file = File::open(&packed).map_err(|e| format!("cannot open {}: {e}", packed.display()))?;
            flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text)?;
        }
        let lines: Vec<Vec<&str>> =
            text.lines().take(self.rows).map(|line| line.split_whitespace().collect()).collect();
        if lines.len() < self.rows {
            return Err(format!("{} has fewer than {} rows", self.file, self.rows).into());
        }
        let float = |at: usize| -> Result<Vec<f64>, Failure> {
            let field = |(i, line): (usize, &Vec<&str>)| {
                let number = line.get(at).and_then(|field| field.parse().ok());
                number.ok_or_else(|| format!("{}, row {}: no number in column {}", self.file, i + 1, at + 1).into())
            };
            lines.iter().enumerate().map(field).collect()
        };
        let ints = |at: usize| -> Result<ArrayRef, Failure> {
            Ok(Arc::new(Int32Array::from_iter_values(float(at)?.into_iter().map(|v| v as i32))))
        };
        let longs = |at: usize| -> Result<ArrayRef, Failure> {
            Ok(Arc::new(Int64Array::from_iter_values(float(at)?.into_iter().map(|v| v as i64))))
        };
        let floats = |at: usize| -> Result<ArrayRef, Failure> {
            Ok(Arc::new(Float32Array::from_iter_values(float(at)?.into_iter().map(|v| v as f32))))
        };
        let whole = |values: Vec<f64>| values.into_iter().map(|v| v as i64).collect::<Vec<i64>>();
        let (times, columns) = match self.file {
            "google-cluster-data.txt" => {
                let columns =
                    vec![("job_id", longs(1)?), ("event_type", ints(4)?), ("category", ints(6)?), ("cpu", floats(8)?)];
                (whole(float(0)?), columns)
            }
            "smartgrid-data.txt" => {
                let columns =
                    vec![("value", floats(1)?), ("plug", ints(3)?), ("household", ints(4)?), ("house", ints(5)?)];
                let times = whole(float(0)?);
                (times.iter().map(|time| time - times[0]).collect(), columns)
            }
            "lrb-data-small-ht.txt" => {
                let columns =
                    vec![("speed", floats(2)?), ("highway", ints(3)?), ("direction", ints(5)?), ("position", ints(6)?)];
                (whole(float(0)?), columns)
            }
            _ => {
                let instants = lines.iter().map(|line| line[0].parse::<jiff::Timestamp>());
                let instants = instants.collect::<Result<Vec<_>, _>>()?;
                let first = instants[0].as_microsecond();
                let times = instants.iter().map(|time| (time.as_microsecond() - first).div_euclid(1_000_000)).collect();
                (times, vec![("mf01", ints(2)?), ("mf02", ints(3)?), ("mf03", ints(4)?)])
            }
        };
        Ok(Table { times, columns })
    }
}
