//! Lines of text files: those of a batch outside of streams, and those that appear in a directory.
//!
//! A file of a directory is taken once, whole, in the batch that first sees it: write it elsewhere and move it in. Its
//! lines are read when the batch runs, one partition per file; where a context is saved, files have to stay until a
//! checkpoint holds their batch. Names that begin with a dot or an underscore, or end in
//! `.partial` or `.tmp`, are left alone.

use super::resume::{Resume, Takes, from_bytes, to_bytes};
use crate::stream::exec::Exec;
use crate::stream::part::Sink;
use crate::stream::scheduler::{Input, lock};
use crate::stream::{Batch, DStream, StreamingContext};
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The lines of `files`, one partition per file.
pub(crate) fn lines_of(exec: &Arc<Exec>, files: Vec<PathBuf>) -> Batch<String> {
    Batch::made(exec, files.len(), move |i, sink| read_lines(&files[i], sink))
}

/// Pushes each line without its end; what is not UTF-8 in it becomes U+FFFD.
fn read_lines(path: &Path, sink: Sink<'_, String>) -> Result<bool> {
    let failed = |e| Error::input("the file cannot be read").in_file(path).because(e);
    let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(failed)?);
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line).map_err(failed)? > 0 {
        let more = sink(text_of(&line));
        line.clear();
        if !more {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The text of a line without its end.
pub(crate) fn text_of(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8_lossy(line).into_owned()
}

struct Directory {
    path: PathBuf,
    new_only: bool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Files that were taken or are not wanted, and are still there; none before anybody has looked.
    known: Option<BTreeSet<OsString>>,
    takes: Takes,
}

impl Directory {
    fn names(&self) -> Result<BTreeSet<OsString>> {
        let failed = |e| Error::input("the directory cannot be read").in_file(&self.path).because(e);
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let text = name.to_string_lossy();
            let hidden = text.starts_with(['.', '_']) || text.ends_with(".partial") || text.ends_with(".tmp");
            // Following links; what is gone again is not there.
            if !hidden && std::fs::metadata(entry.path()).is_ok_and(|m| m.is_file()) {
                names.insert(name);
            }
        }
        Ok(names)
    }

    /// Looks for the first time.
    fn begin<'a>(&self, seen: &'a mut Seen) -> Result<&'a mut BTreeSet<OsString>> {
        if seen.known.is_none() {
            seen.known = Some(if self.new_only { self.names()? } else { BTreeSet::new() });
        }
        Ok(seen.known.get_or_insert_default())
    }

    fn appeared(&self) -> Result<Vec<PathBuf>> {
        let mut seen = lock(&self.seen);
        self.begin(&mut seen)?;
        let Seen { known: Some(known), takes } = &mut *seen else { return Ok(Vec::new()) };
        let new: Vec<OsString> = match takes.again() {
            Some(None) => return Ok(Vec::new()),
            Some(Some(taken)) => {
                let new: Vec<OsString> = from_bytes(&taken)?;
                known.extend(new.iter().cloned());
                new
            }
            None => {
                let names = self.names()?;
                let new = names.difference(known).cloned().collect();
                *known = names;
                new
            }
        };
        takes.note(&new)?;
        Ok(new.iter().map(|name| self.path.join(name)).collect())
    }
}

impl Input for Directory {
    fn start(&self) -> Result<()> {
        self.names()?;
        self.begin(&mut lock(&self.seen)).map(drop)
    }

    fn stop(&self) {}

    fn resume(&self) -> std::result::Result<&dyn Resume, &'static str> {
        Ok(self)
    }
}

impl Resume for Directory {
    fn taken(&self) -> Option<Vec<u8>> {
        lock(&self.seen).takes.taken()
    }

    fn retake(&self, taken: Option<Vec<u8>>) {
        lock(&self.seen).takes.retake(taken);
    }

    fn position(&self) -> Result<Vec<u8>> {
        to_bytes(self.begin(&mut lock(&self.seen))?)
    }

    fn restore(&self, position: &[u8], _: Option<u64>) -> Result<()> {
        lock(&self.seen).known = Some(from_bytes(position)?);
        Ok(())
    }
}

impl StreamingContext {
    /// The lines of the text files that appear in `directory` after the start, those of a file in one batch.
    pub fn text_directory_stream(&self, directory: impl Into<PathBuf>) -> DStream<String> {
        self.directory(directory.into(), true)
    }

    /// As [`text_directory_stream`](Self::text_directory_stream), the files that are there at the start first.
    pub fn text_directory_stream_all(&self, directory: impl Into<PathBuf>) -> DStream<String> {
        self.directory(directory.into(), false)
    }

    fn directory(&self, path: PathBuf, new_only: bool) -> DStream<String> {
        let directory = Arc::new(Directory { path, new_only, seen: Mutex::default() });
        let exec = self.core.exec.clone();
        self.input("text_directory_stream", Some(directory.clone()), move |_| {
            Ok(Some(lines_of(&exec, directory.appeared()?)))
        })
    }
}
