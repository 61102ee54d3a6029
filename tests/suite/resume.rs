//! `--checkpoint`: the real binary, killed at random moments and started again, gives the bytes of a run that was left alone.

use crate::run::{Ran, file, kills, windrow};
use crate::shared::shared;
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use windrow::sink::{self, Target};

/// NDJSON of many keys over an hour, a little out of order, with a bad line now and then.
fn events(rows: u64, keys: u64) -> String {
    let mut text = String::new();
    let mut state = 7u64;
    for i in 0..rows {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = state >> 20;
        let second = i * 3600 / rows + random % 7;
        let (key, value) = (random % keys, (random >> 8) % 10_000);
        let _ = writeln!(
            text,
            "{{\"ts\":{},\"user\":\"user-{key}\",\"ms\":{value}.37,\"path\":\"/p{}\"}}",
            1_700_000_000 + second,
            value % 50
        );
        if i % 5_000 == 17 {
            text.push_str("no record\n");
        }
    }
    text
}

const QUERY: [&str; 8] = [
    "--key",
    "user",
    "--window",
    "10m",
    "--slide",
    "2m",
    "--agg",
    "count, sum(ms), avg(ms), p90(ms), distinct(path), first(path), stddev(ms)",
];

/// What a folder of checkpoints tells of a run that was killed.
#[derive(Debug, Default)]
struct Moments {
    after: u32,
    during: u32,
    spilled: u32,
    finished: u32,
    /// What the kill before this one left behind.
    left: Vec<String>,
}

impl Moments {
    fn look(&mut self, dir: &Path) {
        let Ok(listed) = std::fs::read_dir(dir) else { return };
        let names: Vec<String> = listed.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        let manifests: Vec<Vec<u8>> = names
            .iter()
            .filter(|n| n.starts_with("manifest-"))
            .filter_map(|n| std::fs::read(dir.join(n)).ok())
            .collect();
        let named = |name: &str| manifests.iter().any(|m| m.windows(name.len()).any(|part| part == name.as_bytes()));
        self.after += u32::from(!manifests.is_empty());
        let half = |name: &&String| name.ends_with(".state") && !named(name) && !self.left.contains(name);
        self.during += u32::from(names.iter().any(|name| half(&name)));
        let living = names.iter().filter(|n| n.starts_with("windrow-spill-")).any(|folder| {
            let files = std::fs::read_dir(dir.join(folder)).into_iter().flatten().flatten();
            files.filter(|file| file.path().extension().is_some_and(|e| e == "spill")).count() > 0
        });
        self.spilled += u32::from(living || names.iter().any(|name| name.ends_with(".spill")));
        self.left = names;
    }
}

/// The files of an output, by what follows `stem` in their names.
fn files(dir: &Path, stem: &str, ending: &str) -> BTreeMap<String, Vec<u8>> {
    let listed = std::fs::read_dir(dir).unwrap().flatten();
    let named = listed.filter_map(|e| Some((e.path(), e.file_name().to_str()?.strip_prefix(stem)?.to_owned())));
    let own = named.filter(|(_, rest)| rest.ends_with(ending) && (rest.starts_with('.') || rest.starts_with("-0")));
    own.map(|(path, rest)| (rest, std::fs::read(path).unwrap())).collect()
}

/// Whether `child` ends before `time` has passed; that is not waited for longer.
fn ends_within(child: &mut Child, time: Duration) -> bool {
    let begun = Instant::now();
    loop {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        let left = time.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(left.min(Duration::from_millis(1)));
    }
}

/// Kills a run over `inputs` at random moments until it has been killed `kills` times, each time going on or beginning anew,
/// and compares.
fn killed((inputs, query): (&[&str], &[&str]), dir: &Path, ending: &str, more: &[&str], kills: u32) -> Moments {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let whole = path(&format!("whole.{ending}"));
    let bad = [path("bad-whole"), path("bad-killed")];
    let start = Instant::now();
    // Parquet is rolled if it is to be gone on with.
    let rolled = path("whole-saved");
    let rolled = if ending == "parquet" { &["--checkpoint", &rolled][..] } else { &[] };
    let want = windrow(
        &[&["replay", "-q", "--bad-lines", &bad[0], "--stats", "-o", &whole], inputs, query, more, rolled].concat(),
    )
    .good();
    let whole = files(dir, "whole", ending);
    assert!(ending != "parquet" || whole.len() > 3, "{:?}", whole.keys());
    // A machine that is less busy later makes it shorter.
    let mut alone = start.elapsed();
    let mut moments = Moments::default();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let (mut killed, mut round) = (0, 0);
    while killed < kills {
        round += 1;
        let saved = path(&format!("saved-{round}"));
        let output = path(&format!("out-{round}.{ending}"));
        let all = [
            &["replay", "-q", "--stats", "-o", &output, "--bad-lines", &bad[1], "--checkpoint", &saved][..],
            &["--checkpoint-every", "0s"],
            inputs,
            query,
            more,
        ]
        .concat();
        moments.left.clear();
        // Killed a few times, then left alone.
        for life in 0..4 {
            let begun = Instant::now();
            let mut child =
                Command::new(env!("CARGO_BIN_EXE_windrow")).args(&all).stderr(Stdio::null()).spawn().unwrap();
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Every other time once there is something to go on from, however slow that was.
            let most = if killed % 2 == 0 { alone } else { alone / 4 };
            let manifest = Path::new(&saved).join("manifest-0");
            while killed % 2 == 1 && !manifest.exists() && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            if ends_within(&mut child, Duration::from_micros((random >> 20) % (most.as_micros() as u64).max(1))) {
                if life == 0 {
                    alone = alone.min(begun.elapsed());
                }
                moments.finished += 1;
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            moments.look(Path::new(&saved));
            killed += 1;
        }
        let ran = windrow(&all).good();
        let found = files(dir, &format!("out-{round}"), ending);
        assert_eq!(found.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>(), "round {round} of {more:?}");
        assert!(found == whole, "round {round} of {more:?}: other bytes");
        if ran.err.contains('{') {
            assert!(
                std::fs::read(&bad[0]).unwrap() == std::fs::read(&bad[1]).unwrap(),
                "round {round}: other bad lines"
            );
            for name in ["read", "used", "bad", "late", "rows_out", "windows", "max_disorder_us"] {
                assert_eq!(ran.stat(name), want.stat(name), "round {round}: {name}");
            }
        }
        assert!(is_finished(&windrow(&[&all[..1], &all[2..]].concat())));
        std::fs::remove_dir_all(&saved).unwrap();
    }
    let left = std::fs::read_dir(dir).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let left = left.filter(|n| n.ends_with(".tmp")).count();
    let Moments { after, during, spilled, finished, .. } = moments;
    println!(
        "{more:?}: killed {killed} times: {after} after a checkpoint, {during} during one, {spilled} while spilled state was live; \
         too late {finished} times; unfinished outputs left: {left}"
    );
    assert_eq!(left, 0);
    moments
}

fn is_finished(ran: &Ran) -> bool {
    ran.code == 0 && ran.err.contains("the run was finished before; to run it again, remove ")
}

/// Rows leave as the watermark passes: the output is cut back to what the checkpoint knows of.
#[test]
fn a_killed_run_with_a_bound_gives_the_same_bytes() {
    let (dir, input) = file("in.ndjson", events(250_000, 20_000).as_bytes());
    let late = dir.path().join("late");
    let late = ["--lateness", "5s", "--late", late.to_str().unwrap(), "--threads", "1"];
    let moments = killed((&[&input], &QUERY), dir.path(), "csv", &late, kills() / 2);
    assert!(moments.after > 0, "{moments:?}");
    let sessions = [&late[..], &["--memory", "2GiB"]].concat();
    killed((&[&input], &QUERY), dir.path(), "ndjson", &sessions, kills() / 4);
    let rolled = [&late[..], &["--roll", "20000rows"]].concat();
    killed((&[&input], &QUERY), dir.path(), "parquet", &rolled, kills() / 4);
    let stdout = windrow(
        &[&["replay", &input, "--lateness", "5s", "--checkpoint", dir.path().join("x").to_str().unwrap()], &QUERY[..]]
            .concat(),
    );
    assert!(stdout.fails(2).contains("an output that can be gone on with"));
}

#[test]
fn a_killed_run_gives_the_same_bytes() {
    // A small state, which is saved long before the end; and a large one, of which much is spilled.
    let (dir, input) = file("in.ndjson", events(1_200_000, 500).as_bytes());
    let plain = killed((&[&input], &QUERY), dir.path(), "csv", &["--threads", "1"], kills() / 2);
    let (dir, input) = file("in.ndjson", events(1_200_000, 5_000).as_bytes());
    let short = ["--memory", "48MiB", "--threads", "2"];
    let short = killed((&[&input], &QUERY), dir.path(), "ndjson", &short, kills() - kills() / 2);
    assert!(plain.after > 0 && short.after > 0 && short.spilled > 0, "{plain:?} {short:?}");
    assert!(plain.during + short.during > 0, "{plain:?} {short:?}");
}

/// A thousand keys over an hour in a Parquet file, half of the records of a few of them.
fn write_columns(path: &str, rows: i64) {
    let types = [
        ("ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("key", DataType::Int64),
        ("value", DataType::Float64),
    ];
    let schema = Arc::new(Schema::new(types.map(|(name, of)| Field::new(name, of, false)).to_vec()));
    let mut sink = sink::open(&Target::file(path).unwrap(), &schema).unwrap();
    for from in (0..rows).step_by(1 << 16) {
        let of = from..rows.min(from + (1 << 16));
        let random = |i: i64| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let key = |i: i64| (random(i) % if i % 2 == 0 { 10 } else { 1000 }) as i64;
        let ts = of.clone().map(|i| Some(1_700_000_000_000_000 + i * (3_600_000_000 / rows)));
        let columns: [ArrayRef; 3] = [
            Arc::new(ts.collect::<TimestampMicrosecondArray>()),
            Arc::new(of.clone().map(key).collect::<Int64Array>()),
            Arc::new(of.map(|i| random(i) as f64 / 8.0).collect::<Float64Array>()),
        ];
        sink.write(vec![RecordBatch::try_new(schema.clone(), columns.to_vec()).unwrap()]).unwrap();
    }
    sink.finish().unwrap();
}

/// The same over columns, and over real logs where there are any.
#[test]
fn a_killed_run_over_columns_and_real_logs_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let columns = dir.path().join("columns.parquet").to_str().unwrap().to_owned();
    write_columns(&columns, 2_000_000);
    let query = ["--key", "key", "--window", "60s", "--slide", "5s", "--agg", "count,sum(value),avg(value)"];
    let moments = killed((&[&columns], &query), dir.path(), "csv", &["--threads", "2"], kills() / 4);
    assert!(moments.after > 0, "{moments:?}");
    let Some(shared) = shared() else { return };
    let logs = ["access_elastic_apache.log", "access_srhegde_2005_2018.log.gz"];
    let logs = logs.map(|name| shared.join("data").join(name).to_str().unwrap().to_owned());
    // The same ones again and again, so that there is time to die in.
    let inputs: Vec<&str> = logs.iter().map(String::as_str).cycle().take(8).collect();
    let query = ["--key", "path", "--window", "10d", "--slide", "1d", "--agg", "count,sum(bytes),distinct(host)"];
    let moments = killed((&inputs, &query), dir.path(), "ndjson", &["--threads", "2"], kills() / 4);
    assert!(moments.after > 0, "{moments:?}");
}

#[test]
fn another_run_is_refused_and_a_finished_one_says_so() {
    let (dir, input) = file("in.ndjson", events(500, 20).as_bytes());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (saved, output) = (path("saved"), path("out.csv"));
    let run = |inputs: &[&str], more: &[&str]| {
        windrow(&[&["replay"], inputs, &["--checkpoint", &saved, "-o", &output], &QUERY[..], more].concat())
    };
    let first = run(&[&input], &[]).good();
    assert!(!is_finished(&first));
    let bytes = std::fs::read(&output).unwrap();
    std::fs::remove_file(&output).unwrap();
    assert!(is_finished(&run(&[&input], &["--threads", "1", "--memory", "100MiB"])));
    assert!(!Path::new(&output).exists(), "nothing is written by a run that was finished");
    let other = path("other.ndjson");
    std::fs::write(&other, events(500, 21)).unwrap();
    for (inputs, more, what) in [
        (&[&input[..]][..], &["--where", "ms > 5"][..], "--where was not given and is ms > 5"),
        (&[&input], &["--agg", "count"], "--agg was "),
        (&[&other], &[], "its inputs were "),
        (&[&input, &other], &[], "its inputs were "),
    ] {
        let error = run(inputs, more).fails(2);
        assert!(error.contains("the checkpoint is of another run: ") && error.contains(what), "{error}");
    }
    let error =
        windrow(&[&["replay", &input, "--checkpoint", &saved, "-o", &path("x.csv")], &QUERY[..]].concat()).fails(2);
    assert!(error.contains("--output was ") && error.contains("x.csv"), "{error}");
    // The input is another one now.
    std::fs::copy(&other, &input).unwrap();
    let error = run(&[&input], &[]).fails(2);
    assert!(error.contains("in.ndjson: it "), "{error}");
    std::fs::write(&input, "{\"ts\":1}\n").unwrap();
    let error = run(&[&input], &[]).fails(2);
    assert!(error.contains("bytes and has 9"), "{error}");
    // Without the folder it is run anew.
    std::fs::write(&input, events(500, 20)).unwrap();
    std::fs::remove_dir_all(&saved).unwrap();
    run(&[&input], &[]).good();
    assert!(bytes == std::fs::read(&output).unwrap());
}

#[test]
fn what_cannot_be_resumed_is_refused() {
    let (dir, input) = file("in.ndjson", events(500, 20).as_bytes());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let run = |args: &[&str]| windrow(&[&["replay"], args, &QUERY[..]].concat());
    let error = run(&["-", "--checkpoint", &path("saved")]).fails(2);
    assert!(error.contains("must be a file, which can be read again"), "{error}");
    let error = run(&[&input, "--checkpoint", &path("none/saved")]).fails(1);
    assert!(error.contains("none/saved: there is no such folder for checkpoints"), "{error}");
    let error = run(&[&input, "--checkpoint", &input]).fails(1);
    assert!(error.contains("the folder for checkpoints cannot be used"), "{error}");
    let error = run(&[&input, "--checkpoint", &path("saved"), "--naive"]).fails(2);
    assert!(error.contains("does not go with --naive"), "{error}");
    let error = run(&[&input, "--checkpoint", &path("saved"), "--checkpoint-every", "soon"]).fails(2);
    assert!(error.contains("--checkpoint-every"), "{error}");
    std::fs::write(path("x-000001.parquet"), "somebody's").unwrap();
    let error = run(&[&input, "--checkpoint", &path("saved"), "-o", &path("x.parquet")]).fails(1);
    assert!(error.contains("x-000001.parquet: is there already and would be part of this output"), "{error}");
    let error = run(&[&input, "--checkpoint", &path("saved"), "-o", &path("y.parquet"), "--roll", "1MiB"]).fails(2);
    assert!(error.contains("--roll 1000000rows"), "{error}");
    let error = run(&[&input, "--checkpoint-every", "1s"]).fails(2);
    assert!(error.contains("--checkpoint"), "{error}");
}

/// A read-only folder, where the user is bound by its rights.
#[test]
#[cfg(unix)]
fn a_read_only_folder_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, input) = file("in.ndjson", events(500, 20).as_bytes());
    let saved = dir.path().join("saved");
    std::fs::create_dir(&saved).unwrap();
    std::fs::set_permissions(&saved, std::fs::Permissions::from_mode(0o500)).unwrap();
    if std::fs::File::create(saved.join("probe")).is_ok() {
        return;
    }
    let error = windrow(&["replay", &input, "--checkpoint", saved.to_str().unwrap()]).fails(1);
    assert!(error.contains("saved: the folder for checkpoints cannot be used"), "{error}");
}

/// An input that grew meanwhile is read as far as it went when the run began.
#[test]
fn an_input_that_grew_is_read_as_far_as_it_went() {
    let (dir, input) = file("in.ndjson", events(200_000, 5_000).as_bytes());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (whole, output, saved) = (path("whole.csv"), path("out.csv"), path("saved"));
    windrow(&[&["replay", &input, "-q", "-o", &whole], &QUERY[..]].concat()).good();
    let all = [
        &["replay", &input, "-q", "-o", &output, "--checkpoint", &saved, "--checkpoint-every", "1ms"][..],
        &QUERY[..],
        &["--threads", "1", "--memory", "64MiB"],
    ]
    .concat();
    let mut child = Command::new(env!("CARGO_BIN_EXE_windrow")).args(&all).spawn().unwrap();
    let start = Instant::now();
    while !dir.path().join("saved/manifest-1").exists() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    let finished = child.wait().unwrap().success();
    let mut log = std::fs::OpenOptions::new().append(true).open(&input).unwrap();
    std::io::Write::write_all(&mut log, events(100, 10).as_bytes()).unwrap();
    let ran = windrow(&all).good();
    assert!(!finished || is_finished(&ran));
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&output).unwrap());
}

/// A signal ends a run with its state saved: what was read is not read again.
#[test]
#[cfg(unix)]
fn a_signal_saves_the_state() {
    let (dir, input) = file("in.ndjson", events(1_200_000, 500).as_bytes());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let whole = path("whole.csv");
    windrow(&[&["replay", &input, "-q", "-o", &whole], &QUERY[..]].concat()).good();
    let mut ended = 0;
    for (number, signal) in ["-TERM", "-INT", "-TERM", "-INT"].iter().enumerate() {
        let (output, saved) = (path(&format!("{number}.csv")), path(&format!("saved-{number}")));
        let all = [
            &["replay", &input, "-o", &output, "--checkpoint", &saved, "--checkpoint-every", "0s"][..],
            &QUERY[..],
            &["--threads", "1"],
        ]
        .concat();
        let child = Command::new(env!("CARGO_BIN_EXE_windrow")).args(&all).stderr(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        while !Path::new(&saved).join("manifest-0").exists() && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = Command::new("kill").args([signal, &child.id().to_string()[..]]).status();
        let told = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&told.stderr);
        // Where it was too late the rows were on their way out, or written.
        if error.contains("stopped before the end of the input; the state of the run is saved") {
            assert_eq!(told.status.code(), Some(1), "{error}");
            ended += 1;
        }
        let ran = windrow(&all).good();
        assert!(ran.err.contains("going on from the checkpoint in ") || is_finished(&ran), "{}", ran.err);
        assert!(std::fs::read(&whole).unwrap() == std::fs::read(&output).unwrap());
    }
    assert!(ended > 0);
}

/// A supervisor starts again what was killed or failed, not what would fail again, and ends what it is to end.
#[test]
#[cfg(unix)]
fn a_supervised_run_survives() {
    let (dir, input) = file("in.ndjson", events(1_200_000, 5_000).as_bytes());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (whole, output, saved) = (path("whole.csv"), path("out.csv"), path("saved"));
    windrow(&[&["replay", &input, "-q", "-o", &whole], &QUERY[..]].concat()).good();
    let all = [
        &["replay", &input, "-o", &output, "--checkpoint", &saved, "--checkpoint-every", "1ms", "--supervise", "3"][..],
        &QUERY[..],
        &["--threads", "1", "--memory", "64MiB"],
    ]
    .concat();
    let supervisor = Command::new(env!("CARGO_BIN_EXE_windrow")).args(&all).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !dir.path().join("saved/manifest-0").exists() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let children = Command::new("pkill").args(["-KILL", "-P", &supervisor.id().to_string()]).status();
    let told = supervisor.wait_with_output().unwrap();
    let told = (told.status.success(), String::from_utf8_lossy(&told.stderr).into_owned());
    assert!(told.0, "{}", told.1);
    if children.is_ok_and(|status| status.success()) {
        assert!(
            told.1.contains("it is started again in 500ms") && told.1.contains("going on from the checkpoint"),
            "{}",
            told.1
        );
    }
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&output).unwrap());
    // Told to end, it lets the run save its state first.
    let (output, saved) = (path("stopped.csv"), path("s1"));
    let all = [&["replay", &input, "-o", &output, "--checkpoint", &saved, "--supervise", "3"][..], &QUERY[..]].concat();
    let supervisor = Command::new(env!("CARGO_BIN_EXE_windrow")).args(&all).stderr(Stdio::piped()).spawn().unwrap();
    while !dir.path().join("s1/lock").exists() && start.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = Command::new("kill").args(["-TERM", &supervisor.id().to_string()]).status();
    let told = supervisor.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&told.stderr);
    assert!(told.contains("stopped before the end of the input") || Path::new(&output).exists(), "{told}");
    windrow(&all).good();
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&output).unwrap());
    let error = windrow(&[
        "replay",
        &input,
        "--checkpoint",
        &path("s2"),
        "--supervise",
        "9",
        "--key",
        "nobody-has-it",
        "--max-bad",
        "1",
    ])
    .fails(1);
    assert!(error.contains("would fail again") && !error.contains("started again in"), "{error}");
    let error =
        windrow(&["replay", &input, "--checkpoint", &path("s3"), "--supervise", "9", "--where", "ms >"]).fails(2);
    assert!(!error.contains("started again in"), "{error}");
    let missing = path("none/out.csv");
    let error = windrow(&["replay", &input, "--checkpoint", &path("s4"), "--supervise", "1", "-o", &missing]).fails(1);
    assert!(error.contains("the run failed 2 times; its last checkpoint is kept"), "{error}");
}
