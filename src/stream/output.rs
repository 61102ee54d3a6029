//! Where batches go: to a closure, to the terminal, to text files.
//!
//! An output is at-least-once: a batch that is run again is put out again. What is to be exactly-once must be able to
//! tell by the time of a batch that it has it already.

use super::clock::Time;
use super::exec::blame;
use super::{Batch, DStream, Data};
use crate::{Error, Result};
use std::fmt::{Debug, Display};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

impl<T: Data> DStream<T> {
    /// Calls `f` with each batch and its time, in order.
    pub fn for_each_batch(&self, f: impl Fn(Batch<T>, Time) -> Result<()> + Send + Sync + 'static) {
        self.output("for_each_batch", move |batch, time, label| blame(label, || f(batch, time)));
    }

    /// Prints the time and the first `n` records of each batch to standard output.
    pub fn print(&self, n: usize)
    where
        T: Debug,
    {
        self.output("print", move |batch, time, _| {
            let first = batch.take(n.saturating_add(1))?;
            let mut text = format!("-------------------------------------------\nTime: {time}\n");
            text.push_str("-------------------------------------------\n");
            for record in first.iter().take(n) {
                text.push_str(&format!("{record:?}\n"));
            }
            if first.len() > n {
                text.push_str("...\n");
            }
            let mut out = std::io::stdout().lock();
            let done = writeln!(out, "{text}").and_then(|()| out.flush());
            done.map_err(|e| Error::output("the batch cannot be printed").because(e))
        });
    }

    /// Writes each batch, one record a line, to a new directory `PREFIX-MILLISECONDS.SUFFIX`, one file per partition.
    ///
    /// The directory appears under its name when it is complete; one that is there is replaced.
    pub fn save_as_text_files(&self, prefix: impl Into<PathBuf>, suffix: impl Into<String>)
    where
        T: Display,
    {
        let (prefix, suffix) = (prefix.into(), suffix.into());
        self.output("save_as_text_files", move |batch, time, _| {
            let mut name = prefix.clone().into_os_string();
            name.push(format!("-{}", time.millis()));
            if !suffix.is_empty() {
                name.push(format!(".{suffix}"));
            }
            batch.save_as_text_file(PathBuf::from(name))
        });
    }
}

impl<T: Data + Display> Batch<T> {
    /// Writes the records, one a line, to a new directory `path`, one file `part-00000` and so on per partition.
    ///
    /// The directory appears under its name when it is complete; one that is there is replaced.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Output`] for what cannot be written, and as [`collect`](Batch::collect).
    pub fn save_as_text_file(self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let failed = |path: &Path, e| Error::output("the batch cannot be saved").in_file(path).because(e);
        let gone = |path: &Path| match std::fs::remove_dir_all(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(path, e)),
            _ => Ok(()),
        };
        gone(&partial)?;
        std::fs::create_dir_all(&partial).map_err(|e| failed(&partial, e))?;
        let written = self.run(&Default::default(), |i, part| {
            let file = partial.join(format!("part-{i:05}"));
            let failed = |e| failed(&file, e);
            let mut out = BufWriter::new(std::fs::File::create(&file).map_err(failed)?);
            let mut outcome = Ok(());
            part.run(&mut |record| {
                outcome = writeln!(out, "{record}");
                outcome.is_ok()
            })?;
            outcome.and_then(|()| out.flush()).map_err(failed)
        });
        if let Err(error) = written {
            gone(&partial)?;
            return Err(error);
        }
        gone(path)?;
        std::fs::rename(&partial, path).map_err(|e| failed(path, e))
    }
}
