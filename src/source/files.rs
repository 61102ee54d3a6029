//! Input files: patterns expanded, kinds told apart by their first bytes, positional reads.

use crate::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Expands patterns (`*`, `?`, `[...]`) in the order given, each one's matches sorted by name. A name that exists is
/// taken as it is, whatever characters it has; `-` stays.
///
/// # Errors
/// [`crate::ErrorKind::Input`] if a pattern matches nothing, a file does not exist or is a directory.
pub fn expand(patterns: &[impl AsRef<Path>]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for pattern in patterns {
        let path = pattern.as_ref();
        if path == Path::new("-") {
            files.push(path.to_path_buf());
            continue;
        }
        if let Ok(metadata) = path.metadata() {
            if metadata.is_dir() {
                return Err(Error::input(
                    "is a directory; name the files in it, for example with a pattern such as DIR/*.log",
                )
                .in_file(path));
            }
            files.push(path.to_path_buf());
            continue;
        }
        let text = path.to_string_lossy();
        if !text.contains(['*', '?', '[']) {
            let why = path.metadata().err().unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
            return Err(Error::input("cannot be opened").in_file(path).because(why));
        }
        let matches = glob::glob(&text).map_err(|e| Error::usage(format!("the pattern {text:?} is malformed: {e}")))?;
        let mut found: Vec<PathBuf> = matches.filter_map(|m| m.ok()).filter(|p| p.is_file()).collect();
        found.sort();
        if found.is_empty() {
            return Err(Error::input(format!("no file matches the pattern {text:?}")));
        }
        files.append(&mut found);
    }
    Ok(files)
}

/// What a file is by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Magic {
    Gzip,
    Zstd,
    Parquet,
    Plain,
}

impl Magic {
    /// Of the first bytes of an input.
    pub(crate) fn of(bytes: &[u8]) -> Magic {
        match bytes {
            [0x1f, 0x8b, ..] => Magic::Gzip,
            // A frame, or one to be skipped, which may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Magic::Zstd,
            [b'P', b'A', b'R', b'1', ..] => Magic::Parquet,
            _ => Magic::Plain,
        }
    }
}

/// An opened input.
#[derive(Debug)]
pub(crate) struct InputFile {
    /// `None` for standard input.
    pub(crate) path: Option<PathBuf>,
    pub(crate) file: File,
    /// Bytes of a regular file when it was opened; nothing beyond them is read.
    pub(crate) len: Option<u64>,
    pub(crate) magic: Magic,
    /// The first bytes of an input that cannot be read again.
    pub(crate) peeked: Vec<u8>,
}

impl InputFile {
    /// Opens `path`; `-` is standard input.
    pub(crate) fn open(path: &Path) -> Result<InputFile> {
        let stdin = path == Path::new("-");
        let file = if stdin { open_stdin() } else { File::open(path) };
        let file = file.map_err(|e| Error::input("cannot be opened").in_file(path).because(e))?;
        let metadata = file.metadata().map_err(|e| Error::input("cannot be read").in_file(path).because(e))?;
        if metadata.is_dir() {
            return Err(Error::input("is a directory").in_file(path));
        }
        let len = if metadata.is_file() && !stdin { Some(metadata.len()) } else { None };
        let mut input = InputFile {
            path: (!stdin).then(|| path.to_path_buf()),
            file,
            len,
            magic: Magic::Plain,
            peeked: Vec::new(),
        };
        let mut head = [0; 4];
        if len.is_some() {
            let n = input.read_at(0, &mut head)?;
            input.magic = Magic::of(&head[..n]);
        } else {
            let mut reader = &input.file;
            while input.peeked.len() < head.len() {
                match reader.read(&mut head[input.peeked.len()..]) {
                    Ok(0) => break,
                    Ok(n) => {
                        let from = input.peeked.len();
                        input.peeked.extend_from_slice(&head[from..from + n]);
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(input.error("cannot be read").because(e)),
                }
            }
            input.magic = Magic::of(&input.peeked);
        }
        Ok(input)
    }

    /// An input error that names this file.
    pub(crate) fn error(&self, message: &str) -> Error {
        match &self.path {
            Some(path) => Error::input(message).in_file(path),
            None => Error::input(format!("standard input {message}")),
        }
    }

    /// Reads into `buffer` from `offset` until it is full or the file ends.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match read_at(&self.file, offset + done as u64, &mut buffer[done..]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error("cannot be read").at_offset(offset + done as u64).because(e)),
            }
        }
        Ok(done)
    }

    /// The bytes of a regular file from the first one on, whatever is read of it elsewhere and becomes of its name.
    pub(crate) fn reread(&self) -> std::io::Result<FromStart> {
        Ok(FromStart { file: self.file.try_clone()?, at: 0 })
    }

    /// Reads exactly `buffer.len()` bytes from `offset`, which lie below [`len`](Self::len).
    pub(crate) fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let n = self.read_at(offset, buffer)?;
        if n < buffer.len() {
            return Err(self.error("was cut short while it was read").at_offset(offset + n as u64));
        }
        Ok(())
    }
}

/// See [`InputFile::reread`].
pub(crate) struct FromStart {
    file: File,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = read_at(&self.file, self.at, buffer)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Standard input, of which nothing has been read.
#[cfg(unix)]
pub(super) fn open_stdin() -> std::io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(std::io::stdin().as_fd().try_clone_to_owned()?))
}

/// Standard input, of which nothing has been read.
#[cfg(windows)]
pub(super) fn open_stdin() -> std::io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(File::from(std::io::stdin().as_handle().try_clone_to_owned()?))
}

#[cfg(unix)]
fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}
