//! One whole process, measured from outside: wall and processor time, peak memory, bytes spilled, and what else the machine did.
//!
//! Memory is read from `/proc` every few milliseconds, added up over the process and its descendants (a JVM is a child of
//! Python). The peak of resident memory of a process alone is the kernel's own (`VmHWM`); anonymous memory is sampled.
//! Processor time is that of the children that ended, which the kernel counts in hundredths of a second.

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at the process.
const PERIOD: Duration = Duration::from_millis(5);

/// What a process cost and said.
#[derive(Debug, Default)]
pub struct Cost {
    pub wall_s: f64,
    /// User and system time.
    pub cpu_s: f64,
    /// Peaks, in bytes.
    pub resident: u64,
    pub anonymous: u64,
    pub spilled: u64,
    /// Seconds of processor time that others took meanwhile: a figure of a busy machine if large.
    pub other_cpu_s: f64,
    pub stdout: String,
    pub stderr: String,
    /// Why it failed.
    pub failed: Option<String>,
}

/// Kernel ticks per second in `/proc`: 100 on every Linux that we know of.
const TICKS: f64 = 100.0;

fn numbers(path: &str) -> Vec<f64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or(text.as_str(), |(_, rest)| rest);
    fields.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect()
}

/// Processor seconds of our children that ended.
fn children() -> f64 {
    let stat = numbers("/proc/self/stat");
    (stat.get(13).unwrap_or(&0.0) + stat.get(14).unwrap_or(&0.0)) / TICKS
}

/// Processor seconds of the whole machine.
fn machine() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    let times: Vec<f64> = first.split_whitespace().skip(1).map(|t| t.parse().unwrap_or(0.0)).collect();
    // All but idle, waiting for disks, and guests (counted as user already).
    [0, 1, 2, 5, 6, 7].iter().filter_map(|i| times.get(*i)).sum::<f64>() / TICKS
}

/// A process and its descendants.
fn tree(pid: u32) -> Vec<u32> {
    let (mut all, mut next) = (vec![pid], 0);
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    all
}

/// Bytes of files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.metadata().map_or(0, |m| if m.is_dir() { size(&entry.path()) } else { m.len() })).sum()
}

/// What one look at the processes adds to.
#[derive(Default)]
struct Peaks {
    resident: u64,
    anonymous: u64,
    spilled: u64,
    /// Of processes that are not our children, whose time the kernel does not hand to us.
    cpu: HashMap<u32, f64>,
}

impl Peaks {
    fn look(&mut self, pid: u32, look: u64, spill: &Path) {
        let (mut resident, mut anonymous, mut peak) = (0, 0, 0);
        // A single process needs no look for children each time.
        let pids = if look.is_multiple_of(8) || self.cpu.len() > 1 { tree(pid) } else { vec![pid] };
        for one in pids {
            let status = fs::read_to_string(format!("/proc/{one}/status")).unwrap_or_default();
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
            };
            resident += field("VmRSS:");
            anonymous += field("RssAnon:");
            peak = field("VmHWM:").max(peak);
            if look.is_multiple_of(8) {
                let stat = numbers(&format!("/proc/{one}/stat"));
                let cpu = (stat.get(11).unwrap_or(&0.0) + stat.get(12).unwrap_or(&0.0)) / TICKS;
                if cpu > 0.0 {
                    self.cpu.insert(one, cpu);
                }
            }
        }
        self.resident = self.resident.max(resident).max(peak);
        self.anonymous = self.anonymous.max(anonymous);
        if look.is_multiple_of(20) {
            self.spilled = self.spilled.max(size(spill));
        }
    }
}

/// Runs a command to its end, or for `most`; `spill` is the folder in which it keeps what it spills.
pub fn run(command: &mut Command, most: Duration, spill: &Path) -> Cost {
    let (busy, own) = (machine(), children());
    let started = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let failed = Some(format!("cannot start {:?}: {error}", command.get_program()));
            return Cost { failed, ..Cost::default() };
        }
    };
    let pid = child.id();
    let (done, late) = (AtomicBool::new(false), AtomicBool::new(false));
    let (output, wall_s, peaks) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut peaks = Peaks::default();
            for look in 0.. {
                if done.load(Ordering::Acquire) {
                    break;
                }
                peaks.look(pid, look, spill);
                if started.elapsed() > most && !late.swap(true, Ordering::AcqRel) {
                    // The whole group: a JVM outlives the Python that started it.
                    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{pid}")]).status();
                }
                std::thread::sleep(PERIOD);
            }
            peaks
        });
        let output = child.wait_with_output();
        let wall_s = started.elapsed().as_secs_f64();
        done.store(true, Ordering::Release);
        (output, wall_s, sampler.join().unwrap_or_default())
    });
    let cpu_s = (children() - own).max(peaks.cpu.values().sum());
    let mut cost = Cost {
        wall_s,
        cpu_s,
        resident: peaks.resident,
        anonymous: peaks.anonymous,
        spilled: peaks.spilled,
        other_cpu_s: (machine() - busy - cpu_s).max(0.0),
        ..Cost::default()
    };
    match output {
        Ok(output) => {
            cost.stdout = String::from_utf8_lossy(&output.stdout).into_owned();
            cost.stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            if late.into_inner() {
                cost.failed = Some(format!("stopped after {:.0} s", most.as_secs_f64()));
            } else if !output.status.success() {
                let last = cost.stderr.trim().lines().last().unwrap_or_default();
                cost.failed = Some(format!("{}: {}", output.status, last.chars().take(200).collect::<String>()));
            }
        }
        Err(error) => cost.failed = Some(error.to_string()),
    }
    cost
}

/// Reads a file once, so that every runner finds it in the page cache.
pub fn warm(path: &Path) {
    if let Ok(mut file) = fs::File::open(path) {
        let _ = std::io::copy(&mut file, &mut std::io::sink());
    }
}
