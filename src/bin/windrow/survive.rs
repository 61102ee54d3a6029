//! `--checkpoint` and `--supervise`: runs that go on where they died.

use crate::args::Replay;
use crate::common::{Output, at_signals};
use crate::lines::Lines;
use crate::progress::say;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use windrow::query::{Checkpoint, Rows, Side};
use windrow::sink::{self, Sink, SinkSummary};
use windrow::time::parse_duration;
use windrow::{Error, ErrorKind, Result};

/// The exit status, for a supervisor, of a run that would fail again.
pub const HOPELESS: u8 = 3;

/// How long a supervisor waits before it starts a run again: at first, and at most. Each time twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How often a supervisor looks after its run.
const LOOK: Duration = Duration::from_millis(20);

/// The checkpoints that the flags ask for.
pub fn checkpoint<'a>(args: &Replay, dir: &Path, sides: impl Iterator<Item = &'a Lines>) -> Result<Checkpoint> {
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let mut checkpoint = Checkpoint::new(dir)
        .skip_damaged(args.skip_damaged)
        .fact("--output", path(&args.common.output))
        .fact("--output-format", args.common.output_format.clone().unwrap_or_default())
        .fact("--bad-lines", path(&args.common.bad_lines))
        .fact("--late", path(&args.late))
        .fact("--roll", args.roll.map(|roll| format!("{}rows", roll.rows)).unwrap_or_default());
    if let Some(every) = &args.checkpoint_every {
        let micros = parse_duration(every).map_err(|e| Error::usage(format!("--checkpoint-every: {e}")))?;
        checkpoint = checkpoint.every(Duration::from_micros(micros.unsigned_abs()));
    }
    for side in sides {
        checkpoint = checkpoint.side(Arc::new(side.clone()));
    }
    Ok(checkpoint)
}

/// The output of the rows as a part of checkpoints. Clones are the same output.
#[derive(Clone, Default)]
pub struct RowsOut(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    sink: Option<Box<dyn Sink>>,
    /// Where it is to go on.
    at: Option<Vec<u8>>,
    /// The file, as of the last checkpoint.
    file: Option<File>,
}

impl fmt::Debug for RowsOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowsOut").finish_non_exhaustive()
    }
}

impl RowsOut {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all rows, beginning anew or where the checkpoint was made.
    pub fn write(&self, output: &Output<'_>, args: &Replay, rows: &mut Rows) -> Result<SinkSummary> {
        let streams = args.lateness.is_some() || args.follow;
        let target = output.target()?;
        let unfinished = target.path.as_ref().and_then(sink::unfinished);
        if rows.is_sealed() && unfinished.is_some_and(|path| !path.exists()) {
            // It had its name already, and only that was not written down.
            return Ok(SinkSummary::default());
        }
        let mut opened = output.open_at(&rows.schema(), args.roll, self.state().at.as_deref())?;
        let stays = opened.position()?.is_some();
        if streams && !stays {
            let what = "with --lateness and --follow rows are written as the input is read, and --checkpoint needs an output that \
                        can be gone on with: -o FILE.csv, FILE.ndjson, FILE.parquet, FILE.arrow, or null";
            return Err(Error::usage(what));
        }
        self.state().sink = Some(opened);
        let live = output.is_live();
        rows.for_each_block(|batches| {
            let mut state = self.state();
            let Some(sink) = &mut state.sink else { return Ok(false) };
            sink.write(batches)?;
            if live {
                sink.flush()?;
            }
            Ok(!sink.closed())
        })?;
        if rows.is_saved() {
            // It stands where the checkpoint says, and goes on there.
            drop(self.state().sink.take());
            return Ok(SinkSummary::default());
        }
        if stays {
            rows.seal()?;
        }
        let sink = self.state().sink.take();
        sink.map_or(Ok(SinkSummary::default()), Sink::finish)
    }
}

impl Side for RowsOut {
    fn position(&self) -> Result<Vec<u8>> {
        let mut state = self.state();
        let position = state.sink.as_mut().map_or(Ok(None), |sink| sink.position())?;
        let (bytes, file) = position.map(|position| (position.bytes, position.file)).unwrap_or_default();
        state.file = file;
        Ok(bytes)
    }

    fn sync(&self) -> Result<()> {
        let file = self.state().file.take();
        let synced = file.map_or(Ok(()), |file| file.sync_data());
        synced.map_err(|e| Error::output("the output cannot be synced to disk").because(e))
    }

    fn committed(&self, position: &[u8]) -> Result<()> {
        self.state().sink.as_mut().map_or(Ok(()), |sink| sink.committed(position))
    }

    fn rewind(&self, position: Option<&[u8]>) -> Result<()> {
        self.state().at = position.map(<[u8]>::to_vec);
        Ok(())
    }
}

/// Runs this very command in a process of its own, and again as long as that is of use, at most `restarts` times.
pub fn supervise(restarts: u32) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    at_signals(&stop);
    let program =
        std::env::current_exe().map_err(|e| Error::new(ErrorKind::Io, "the program is not found").because(e))?;
    let mut arguments: Vec<std::ffi::OsString> = Vec::new();
    let mut all = std::env::args_os().skip(1);
    while let Some(argument) = all.next() {
        match argument.to_str() {
            Some("--supervise") => drop(all.next()),
            Some(text) if text.starts_with("--supervise=") => {}
            _ => arguments.push(argument),
        }
    }
    let mut wait = FIRST_WAIT;
    for run in 0..=restarts {
        let mut command = Command::new(&program);
        command.args(&arguments[..1]).arg("--supervised").args(&arguments[1..]).stdin(Stdio::piped());
        let child = command.spawn();
        let child = child.map_err(|e| Error::new(ErrorKind::Io, "the run cannot be started").because(e))?;
        let status = watch(child, &stop)?;
        match status.code() {
            Some(0) => return Ok(()),
            Some(2) => return Err(Error::usage("wrong usage is not started again")),
            Some(code) if code == i32::from(HOPELESS) => {
                return Err(Error::data("the run would fail again and is not started again"));
            }
            _ if stop.load(Ordering::Relaxed) => return Err(stopped()),
            _ if run == restarts => {}
            _ => {
                say(format_args!("windrow: the run ended ({status}); it is started again in {wait:?}\n"));
                rest(wait, &stop);
                if stop.load(Ordering::Relaxed) {
                    return Err(stopped());
                }
                wait = (2 * wait).min(LONGEST_WAIT);
            }
        }
    }
    Err(Error::new(ErrorKind::Io, format!("the run failed {} times; its last checkpoint is kept", restarts + 1)))
}

fn stopped() -> Error {
    Error::new(ErrorKind::Io, "stopped; the last checkpoint of the run is kept")
}

/// Sets `stop` once the supervisor has gone or wants an end: it holds the other end of standard input, which is no input here.
pub fn stop_with_supervisor(stop: Arc<AtomicBool>) {
    let wait = move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        stop.store(true, Ordering::Relaxed);
    };
    // Without it the run goes on to its end.
    let _ = std::thread::Builder::new().name("windrow-supervised".into()).spawn(wait);
}

/// Waits for the end of a run, which is told to save its state and end when this process is to.
fn watch(mut child: Child, stop: &AtomicBool) -> Result<ExitStatus> {
    let failed = |e| Error::new(ErrorKind::Io, "the run cannot be watched").because(e);
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(status);
        }
        if stop.load(Ordering::Relaxed) {
            drop(child.stdin.take());
        }
        std::thread::sleep(LOOK);
    }
}

fn rest(wait: Duration, stop: &AtomicBool) {
    let mut left = wait;
    while !left.is_zero() && !stop.load(Ordering::Relaxed) {
        let step = left.min(LOOK);
        std::thread::sleep(step);
        left -= step;
    }
}
