//! The binary as tests run it, and its output as they read it.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

/// What a run of the binary came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The statistics that `--stats` wrote to standard error.
    pub fn stats(&self) -> serde_json::Value {
        let line =
            self.err.lines().find(|l| l.starts_with('{')).unwrap_or_else(|| panic!("no statistics in {:?}", self.err));
        serde_json::from_str(line).unwrap()
    }

    /// The named statistic, a number.
    pub fn stat(&self, name: &str) -> u64 {
        self.stats()[name].as_u64().unwrap_or_else(|| panic!("no number {name} in {}", self.err))
    }

    /// Asserts that the run succeeded and that its ledger balances.
    pub fn good(self) -> Ran {
        assert_eq!(self.code, 0, "{}", self.err);
        if self.err.lines().any(|l| l.starts_with('{')) {
            let parts: u64 = ["used", "bad", "filtered", "outside", "late", "ahead"].iter().map(|n| self.stat(n)).sum();
            assert_eq!(self.stat("read"), parts, "the ledger balances");
        }
        self
    }

    /// Asserts a failure with `code`, told in one sentence on standard error and no panic.
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(!self.err.contains("panicked") && !self.err.contains("RUST_BACKTRACE"), "{}", self.err);
        self.err
    }
}

/// Starts `windrow` with `args`, all of its streams in the test's hands.
pub fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windrow"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs `windrow` with `args` and `input` on its standard input.
pub fn windrow_with(args: &[&str], input: &[u8]) -> Ran {
    let mut child = start(args);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The program may end without reading everything.
    let feeder = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    Ran {
        code: status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Runs `windrow` with `args`.
pub fn windrow(args: &[&str]) -> Ran {
    windrow_with(args, b"")
}

/// A file with `contents` in a temporary folder that lives as long as the result.
pub fn file(name: &str, contents: &[u8]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, contents).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

/// An access-log line.
pub fn line(host: &str, time: &str, path: &str, status: u32, bytes: &str) -> String {
    format!("{host} - - [{time}] \"GET {path} HTTP/1.1\" {status} {bytes} \"-\" \"test\"\n")
}

/// The rows of a CSV text without quotes, the header left out.
pub fn rows(csv: &str) -> Vec<Vec<String>> {
    csv.lines().skip(1).map(|l| l.split(',').map(str::to_owned).collect()).collect()
}

/// How often a program is killed: `WINDROW_KILLS`, or 20.
pub fn kills() -> u32 {
    std::env::var("WINDROW_KILLS").map_or(20, |text| text.parse().expect("WINDROW_KILLS is a number"))
}
