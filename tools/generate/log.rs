//! A day of web server records, in order, one second resolution, diurnal: as a combined access log, as NDJSON or as CSV.
//!
//! 2,000 paths zipf(1.0), 50,000 addresses zipf(1.05), 60 user agents zipf(1.2), 400 referers of which two fifths are
//! `-`; 8 % of the records are 304 and have no bytes. All formats hold the same records.
//!
//! A chunk of [`CHUNK`] lines is one random stream; chunks are printed in parallel and written in order.

use crate::expect::{Expect, Extra, text_key};
use crate::random::{Random, Weighted};
use crate::{Failure, Options, START_MICROS};
use rayon::prelude::*;
use std::fs::File;
use std::io::Write;

/// Lines that one task prints.
const CHUNK: usize = 20_000;

/// Seconds of a day.
const DAY: usize = 86_400;

/// Lines of the full-size log.
pub const LINES: usize = 5_000_000;

const PATHS: usize = 2000;
const ADDRESSES: usize = 50_000;
const REFERERS: usize = 400;

/// How the records are written.
#[derive(Clone, Copy, PartialEq)]
pub enum Style {
    Combined,
    Ndjson,
    Csv,
}

const METHODS: [(&str, f64); 4] = [("GET", 0.86), ("POST", 0.10), ("PUT", 0.03), ("DELETE", 0.01)];

const STATUSES: [(&str, f64); 8] = [
    ("200", 0.80),
    ("304", 0.08),
    ("404", 0.05),
    ("301", 0.03),
    ("500", 0.015),
    ("502", 0.01),
    ("503", 0.005),
    ("403", 0.01),
];

const SECTIONS: [&str; 10] =
    ["products", "blog", "api/v1", "static/js", "static/css", "images", "account", "search", "docs", "cart"];
const WORDS: [&str; 16] = [
    "alpha", "river", "stone", "summer", "packet", "quartz", "ledger", "matrix", "copper", "window", "forest",
    "signal", "orange", "vector", "harbor", "meadow",
];
const ENDINGS: [&str; 6] = ["", ".html", ".js", ".css", ".png", "/"];
const SYSTEMS: [&str; 5] = [
    "Windows NT 10.0; Win64; x64",
    "Macintosh; Intel Mac OS X 10_15_7",
    "X11; Linux x86_64",
    "iPhone; CPU iPhone OS 17_2 like Mac OS X",
    "Linux; Android 14; Pixel 8",
];

/// Everything that records choose from.
struct World {
    /// How many of the records lie before each second, as a share.
    before: Vec<f64>,
    paths: Vec<String>,
    path: Weighted,
    addresses: Vec<String>,
    address: Weighted,
    agents: Vec<String>,
    agent: Weighted,
    referers: Vec<String>,
    method: Weighted,
    status: Weighted,
    seed: u64,
    lines: usize,
}

/// One record; what is a choice, as its number.
struct Record {
    second: usize,
    path: usize,
    address: usize,
    agent: usize,
    referer: usize,
    method: usize,
    status: usize,
    bytes: u64,
    /// Microseconds, a whole number of them: printed in milliseconds with three digits.
    latency: u64,
}

/// Writes the log and says what the query's result must be, if asked.
pub fn run(style: Style, options: &Options) -> Result<Option<String>, Failure> {
    let lines = options.rows(LINES);
    let world = World::new(lines, options.seed);
    let mut out: Box<dyn Write> = if options.output == "-" {
        Box::new(std::io::stdout())
    } else {
        Box::new(File::create(&options.output).map_err(|e| options.failed(&e))?)
    };
    let mut expect = options.expect.map(|(length, slide)| {
        Expect::new(length, slide, world.paths.iter().map(|path| text_key(path.as_bytes())).collect(), true)
    });
    if style == Style::Csv {
        out.write_all(b"ts,ip,method,path,status,bytes,latency_ms,user_agent\n").map_err(|e| options.failed(&e))?;
    }
    let chunks: Vec<usize> = (0..lines.div_ceil(CHUNK)).collect();
    let mut buffers: Vec<Vec<u8>> = vec![Vec::new(); 4 * rayon::current_num_threads()];
    for some in chunks.chunks(buffers.len()) {
        buffers.par_iter_mut().zip(some).for_each(|(buffer, chunk)| {
            buffer.clear();
            world.records(*chunk, |record| match style {
                Style::Combined => world.combined(&record, buffer),
                Style::Ndjson => world.ndjson(&record, buffer),
                Style::Csv => world.csv(&record, buffer),
            });
        });
        for buffer in &buffers[..some.len()] {
            out.write_all(buffer).map_err(|e| options.failed(&e))?;
        }
    }
    out.flush().map_err(|e| options.failed(&e))?;
    if let Some(expect) = &mut expect {
        for chunk in chunks {
            world.records(chunk, |record| {
                let time = START_MICROS + record.second as i64 * 1_000_000;
                let error = STATUSES[record.status].0.starts_with('5');
                let extra = Extra { error, latency: record.latency as f64 / 1000.0 };
                expect.add(time, record.path, record.bytes as f64, extra);
            });
        }
    }
    Ok(expect.map(|expect| expect.finish().json()))
}

impl World {
    fn new(lines: usize, seed: u64) -> Self {
        let random = &mut Random::new(seed, 1 << 40);
        let density = |second: usize| {
            let angle = (second as f64 - 30_000.0) / DAY as f64 * std::f64::consts::TAU;
            1.0 + 0.6 * angle.sin()
        };
        let total: f64 = (0..DAY).map(density).sum();
        let mut sum = 0.0;
        let before = (0..DAY)
            .map(|second| {
                sum += density(second) / total;
                sum
            })
            .collect();
        let paths: Vec<String> = (0..PATHS)
            .map(|i| {
                let mut word = || WORDS[random.below(WORDS.len())];
                let (a, b) = (word(), word());
                let section = SECTIONS[random.below(SECTIONS.len())];
                format!("/{section}/{a}-{b}-{i}{}", ENDINGS[random.below(ENDINGS.len())])
            })
            .collect();
        let addresses = (0..ADDRESSES)
            .map(|_| {
                let mut part = || 1 + random.below(254);
                format!("{}.{}.{}.{}", part(), part(), part(), part())
            })
            .collect();
        let referers = (0..REFERERS)
            .map(|i| match i {
                0..160 => "-".to_string(),
                160..360 => format!("https://www.example.com{}", paths[random.below(PATHS)]),
                _ => {
                    format!("https://search.example.org/?q={}+{}", WORDS[i % 16], WORDS[i * 7 % 16])
                }
            })
            .collect();
        let weights =
            |choices: &[(&str, f64)]| Weighted::new(&choices.iter().map(|(_, weight)| *weight).collect::<Vec<f64>>());
        let agents = agents();
        World {
            before,
            path: Weighted::zipf(PATHS, 1.0, seed ^ 11),
            paths,
            address: Weighted::zipf(ADDRESSES, 1.05, seed ^ 12),
            addresses,
            agent: Weighted::zipf(agents.len(), 1.2, seed ^ 13),
            agents,
            referers,
            method: weights(&METHODS),
            status: weights(&STATUSES),
            seed,
            lines,
        }
    }

    /// The records of a chunk, in order.
    fn records(&self, chunk: usize, mut take: impl FnMut(Record)) {
        let random = &mut Random::new(self.seed, chunk as u64 + 1);
        let first = chunk * CHUNK;
        let mut second = self.before.partition_point(|b| *b <= first as f64 / self.lines as f64);
        for i in first..self.lines.min(first + CHUNK) {
            let share = (i as f64 + random.unit()) / self.lines as f64;
            while second + 1 < DAY && self.before[second] <= share {
                second += 1;
            }
            let status = self.status.draw(random);
            let bytes = random.log_normal(8.5, 1.3) as u64 + 100;
            take(Record {
                second: second.min(DAY - 1),
                path: self.path.draw(random),
                address: self.address.draw(random),
                agent: self.agent.draw(random),
                referer: random.below(REFERERS),
                method: self.method.draw(random),
                status,
                bytes: if STATUSES[status].0 == "304" { 0 } else { bytes },
                latency: (random.log_normal(3.2, 0.9) * 1000.0) as u64,
            });
        }
    }

    fn combined(&self, record: &Record, out: &mut Vec<u8>) {
        put(out, &self.addresses[record.address]);
        put(out, " - - [01/Jan/2024:");
        clock(out, record.second);
        put(out, " +0000] \"");
        put(out, METHODS[record.method].0);
        put(out, " ");
        put(out, &self.paths[record.path]);
        put(out, " HTTP/1.1\" ");
        put(out, STATUSES[record.status].0);
        put(out, " ");
        match record.bytes {
            0 => put(out, "-"),
            bytes => number(out, bytes),
        }
        put(out, " \"");
        put(out, &self.referers[record.referer]);
        put(out, "\" \"");
        put(out, &self.agents[record.agent]);
        put(out, "\"\n");
    }

    fn ndjson(&self, record: &Record, out: &mut Vec<u8>) {
        put(out, "{\"ts\":\"2024-01-01T");
        clock(out, record.second);
        put(out, "Z\",\"ip\":\"");
        put(out, &self.addresses[record.address]);
        put(out, "\",\"method\":\"");
        put(out, METHODS[record.method].0);
        put(out, "\",\"path\":\"");
        put(out, &self.paths[record.path]);
        put(out, "\",\"status\":");
        put(out, STATUSES[record.status].0);
        put(out, ",\"bytes\":");
        number(out, record.bytes);
        put(out, ",\"latency_ms\":");
        put(out, zmij::Buffer::new().format(record.latency as f64 / 1000.0));
        put(out, ",\"user_agent\":\"");
        put(out, &self.agents[record.agent]);
        put(out, "\"}\n");
    }

    fn csv(&self, record: &Record, out: &mut Vec<u8>) {
        put(out, "2024-01-01T");
        clock(out, record.second);
        put(out, "Z,");
        put(out, &self.addresses[record.address]);
        put(out, ",");
        put(out, METHODS[record.method].0);
        put(out, ",");
        put(out, &self.paths[record.path]);
        put(out, ",");
        put(out, STATUSES[record.status].0);
        put(out, ",");
        number(out, record.bytes);
        put(out, ",");
        put(out, zmij::Buffer::new().format(record.latency as f64 / 1000.0));
        put(out, ",\"");
        put(out, &self.agents[record.agent]);
        put(out, "\"\n");
    }
}

fn agents() -> Vec<String> {
    let browser = |i: usize| {
        let system = SYSTEMS[i % SYSTEMS.len()];
        match i % 3 {
            0 => format!(
                "Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36",
                100 + i
            ),
            1 => format!("Mozilla/5.0 ({system}; rv:{0}.0) Gecko/20100101 Firefox/{0}.0", 90 + i),
            _ => format!(
                "Mozilla/5.0 ({system}) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.{} Safari/605.1.15",
                i % 10
            ),
        }
    };
    let others =
        ["curl/8.4.0", "Googlebot/2.1 (+http://www.google.com/bot.html)", "python-requests/2.31.0", "kube-probe/1.28"];
    (0..56).map(browser).chain(others.map(String::from)).collect()
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn number(out: &mut Vec<u8>, value: u64) {
    put(out, itoa::Buffer::new().format(value));
}

/// `hh:mm:ss`.
fn clock(out: &mut Vec<u8>, second: usize) {
    let two = |value: usize| [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8];
    let ([h1, h2], [m1, m2]) = (two(second / 3600), two(second / 60 % 60));
    let [s1, s2] = two(second % 60);
    out.extend_from_slice(&[h1, h2, b':', m1, m2, b':', s1, s2]);
}
