//! On what machine, with which versions and options a record is made: a JSON file beside it.

use crate::runners::RUNNERS;
use crate::{Failure, Options, Tools};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Writes the note; versions of runners that are not installed are left out, those noted before are kept.
pub fn note(tools: &Tools, options: &Options, path: &Path) -> Result<(), Failure> {
    let before: Value =
        fs::read_to_string(path).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null);
    let mut versions = before["versions"].as_object().cloned().unwrap_or_default();
    for runner in RUNNERS.iter().filter(|runner| Options::wants(&options.runners, runner.name)) {
        if let Ok(version) = runner.version(tools) {
            versions.insert(runner.name.into(), version.into());
        }
    }
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        output.ok().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).filter(|text| !text.is_empty())
    };
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let note = json!({
        "date": said("date", &["-u", "+%Y-%m-%d"]),
        "cpu": cpu,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_gb": memory.and_then(|kb| kb.parse::<f64>().ok()).map(|kb| (kb / 1e5).round() / 10.0),
        "kernel": kernel.trim(),
        "threads": options.threads,
        "commit": said("git", &["rev-parse", "--short", "HEAD"]),
        "rustc": said("rustc", &["--version"]),
        "versions": versions,
    });
    fs::write(path, serde_json::to_string_pretty(&note)? + "\n")?;
    Ok(())
}
