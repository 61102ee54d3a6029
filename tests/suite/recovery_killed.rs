//! A program of typed streams that is killed at random moments, and started again: everything is counted once.
//!
//! The program is this very binary: the test starts it with the name of the other "test" below, a folder in its environment,
//! and kills it with a signal that it cannot see coming, while records keep coming.

use crate::run::kills;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use windrow::stream::{SourceOptions, StreamingContext, TailSource};

const FOLDER: &str = "WINDROW_KILLED_IN";

fn program(dir: &Path) -> windrow::Result<()> {
    let ms = Duration::from_millis;
    let ctx = StreamingContext::get_or_create(dir.join("saved"), || {
        let ctx = StreamingContext::builder().batch_interval(ms(40)).threads(2).partitions(1).build()?;
        let tailed = ctx.source_stream(TailSource::new([dir.join("a"), dir.join("b")]), SourceOptions::default());
        let dropped = ctx.text_directory_stream_all(dir.join("files"));
        let lines = tailed.union(&dropped);
        lines.save_as_text_files(dir.join("out/lines"), "");
        let counts = lines.map(|line| (line.len(), 1u64));
        let counts = counts.update_state_by_key(|ones, n: Option<u64>| Some(n.unwrap_or(0) + ones.iter().sum::<u64>()));
        counts.checkpoint(ms(80));
        counts.map(|(key, n)| format!("{key} {n}")).save_as_text_files(dir.join("out/counts"), "");
        Ok(ctx)
    })?;
    let from = ctx.recovers_from().map_or(0, |time| time.millis());
    let mut lives = std::fs::OpenOptions::new().append(true).create(true).open(dir.join("lives"))?;
    writeln!(lives, "{from}")?;
    ctx.start()?;
    ctx.await_termination()
}

#[test]
#[ignore = "the program that the test beside it starts and kills"]
fn the_program() {
    if let Some(dir) = std::env::var_os(FOLDER) {
        program(Path::new(&dir)).unwrap();
    }
}

/// The lines of each batch of an output, by the number in the name of its folder.
fn batches(dir: &Path, prefix: &str) -> BTreeMap<u64, Vec<String>> {
    let mut batches = BTreeMap::new();
    for entry in std::fs::read_dir(dir.join("out")).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')?.parse().ok());
        let (Some(number), Ok(parts)) = (number, std::fs::read_dir(&path)) else { continue };
        let parts: Vec<PathBuf> = parts.map(|part| part.unwrap().path()).collect();
        let lines = parts.iter().flat_map(|part| {
            let text = std::fs::read_to_string(part).unwrap_or_default();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        });
        batches.insert(number, lines.collect());
    }
    batches
}

/// What the checkpoints are: other bytes with each one.
fn saved(dir: &Path) -> [Option<Vec<u8>>; 2] {
    ["manifest-0", "manifest-1"].map(|name| std::fs::read(dir.join("saved").join(name)).ok())
}

#[test]
fn f1_f2_a_program_that_is_killed_at_random_counts_everything_once() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    let start = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "recovery_killed::the_program", "--ignored"]).env(FOLDER, dir.path());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let (mut written, mut seed) = (Vec::new(), 0x2545_f491_4f6c_dd1d_u64);
    let mut random = move |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    let mut write = |n: u64, random: &mut dyn FnMut(u64) -> u64| {
        let line = format!("{n}{}", "x".repeat(random(5) as usize));
        let appended = |name: &str| {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(dir.path().join(name)).unwrap();
            writeln!(file, "{line}").unwrap();
        };
        match random(3) {
            0 => appended("a"),
            1 => appended("b"),
            _ => {
                std::fs::write(files.join(".new"), format!("{line}\n")).unwrap();
                std::fs::rename(files.join(".new"), files.join(n.to_string())).unwrap();
            }
        }
        written.push(line);
    };
    let mut n = 0;
    let kills = kills();
    for kill in 0..kills {
        let lives = || std::fs::read_to_string(dir.path().join("lives")).map_or(0, |lives| lives.lines().count());
        let (mut child, before, patience) = (start(), lives(), Instant::now() + Duration::from_secs(10));
        while lives() == before && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Every other one lives until it has saved itself, however slow the disk is, so that the next ones go on from there.
        let (known, patience) = (saved(dir.path()), Instant::now() + Duration::from_secs(60));
        while kill % 2 == 1 && saved(dir.path()) == known && Instant::now() < patience {
            n += 1;
            write(n, &mut random);
            std::thread::sleep(Duration::from_millis(10));
        }
        let until = Instant::now() + Duration::from_millis(random(400));
        while Instant::now() < until {
            n += 1;
            write(n, &mut random);
            std::thread::sleep(Duration::from_millis(random(5)));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // Nobody disturbs the last life.
    let mut child = start();
    let end = Instant::now() + Duration::from_secs(120);
    let total =
        |counts: &[String]| counts.iter().map(|row| row.split(' ').nth(1).unwrap().parse::<usize>().unwrap()).sum();
    while batches(dir.path(), "counts").pop_last().is_none_or(|(_, counts)| {
        let total: usize = total(&counts);
        total < written.len()
    }) {
        assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "the last life did not finish");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut lines: Vec<String> = batches(dir.path(), "lines").into_values().flatten().collect();
    lines.sort();
    written.sort();
    assert_eq!(lines, written, "each line is put out once");
    // Each count is that of the lines that were put out up to then.
    let (mut lines, mut counts) = (batches(dir.path(), "lines"), batches(dir.path(), "counts"));
    counts.pop_last();
    let mut known: BTreeMap<usize, u64> = BTreeMap::new();
    for (k, counts) in counts {
        let later = lines.split_off(&(k + 1));
        std::mem::replace(&mut lines, later)
            .into_values()
            .flatten()
            .for_each(|l| *known.entry(l.len()).or_default() += 1);
        let mut counts: Vec<String> = counts;
        counts.sort();
        let mut expected: Vec<_> = known.iter().map(|(key, n)| format!("{key} {n}")).collect();
        expected.sort();
        assert_eq!(counts, expected, "at {k} ms");
    }
    let lives = std::fs::read_to_string(dir.path().join("lives")).unwrap();
    let starts: std::collections::BTreeSet<_> = lives.lines().collect();
    println!(
        "{kills} kills, {} lives that got going, from {} checkpoints, {} lines",
        lives.lines().count(),
        starts.len(),
        n
    );
    assert!(starts.len() > 3, "{starts:?}");
}
