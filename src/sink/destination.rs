//! The place that bytes are written to: a file under a temporary name, a device or fifo, or standard output.
//!
//! Invariant: until [`Destination::commit`] the target is as it was; whoever drops an uncommitted destination
//! removes the temporary file. `.NAME.windrow-PID.tmp` lies in the target's directory, so the rename is atomic.

use crate::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Attempts at a temporary name nobody has, before giving up.
const NAME_ATTEMPTS: u32 = 100;

/// The longest temporary name that every common file system takes, bytes.
const NAME_MAX: usize = 255;

/// An open output.
#[derive(Debug)]
pub(super) struct Destination {
    out: Out,
    /// The output's name for messages.
    name: PathBuf,
    /// The temporary file and the name it takes at the end; `None` for what is written directly.
    rename: Option<Rename>,
    is_stdout: bool,
}

#[derive(Debug)]
enum Out {
    File(File),
    #[cfg_attr(unix, expect(dead_code, reason = "on unix the descriptor is written to directly"))]
    Stdout(io::Stdout),
}

#[derive(Debug)]
struct Rename {
    from: PathBuf,
    to: PathBuf,
    /// It outlives this process, for another one to go on with.
    stays: bool,
}

impl Destination {
    /// Opens `path`, or standard output.
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        match path {
            None => Self::stdout(),
            Some(path) => match fs::metadata(path) {
                Ok(meta) if meta.is_dir() => {
                    Err(Error::output(format!("the output {} is a directory; name a file in it", path.display())))
                }
                Ok(meta) if meta.is_file() => Self::temporary(path, Some(meta.permissions())),
                Ok(_) => Self::device(path),
                Err(_) => Self::temporary(path, None),
            },
        }
    }

    /// Opens `path`, or standard output, to be read while it grows: a file under its final name, empty.
    pub(super) fn open_live(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Self::stdout() };
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            return Self::open(Some(path));
        }
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
        let file = file.map_err(|e| cannot("create", path).because(e))?;
        Ok(Destination { out: Out::File(file), name: path.to_path_buf(), rename: None, is_stdout: false })
    }

    /// Opens `path` to go on behind the first `len` bytes of what a process before this one has written, under a temporary
    /// name that stays. A device is written to directly.
    pub(super) fn open_at(path: &Path, len: u64) -> Result<Self> {
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            return Self::open(Some(path));
        }
        let Some((from, to)) = unfinished(path) else {
            return Err(Error::output(format!("the output {} names no file", path.display())));
        };
        let file = Self::cut(path, &from, len)?;
        let rename = Some(Rename { from, to, stays: true });
        Ok(Destination { out: Out::File(file), name: path.to_path_buf(), rename, is_stdout: false })
    }

    /// Opens `path` under its own name, to be read while it grows, to go on behind its first `len` bytes. A device is written
    /// to directly.
    pub(super) fn open_live_at(path: &Path, len: u64) -> Result<Self> {
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            return Self::open(Some(path));
        }
        let file = Self::cut(path, path, len)?;
        Ok(Destination { out: Out::File(file), name: path.to_path_buf(), rename: None, is_stdout: false })
    }

    /// Opens the file `from`, which holds the output `path`, cut back to `len` bytes and at its end.
    fn cut(path: &Path, from: &Path, len: u64) -> Result<File> {
        let failed = |e| cannot("open", path).because(e);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(from).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        if found < len {
            return Err(Error::output(format!(
                "the output {} was written up to byte {len}, and of that {} holds {found} bytes only; remove the checkpoint to \
                 begin anew",
                path.display(),
                from.display(),
            )));
        }
        file.set_len(len).and_then(|()| (&file).seek(SeekFrom::Start(len))).map_err(failed)?;
        Ok(file)
    }

    /// The file, if it is one that can be gone on with.
    pub(super) fn file(&self) -> Result<Option<File>> {
        let failed = |e| cannot("open", &self.name).because(e);
        match &self.out {
            Out::File(file) if file.metadata().map_err(failed)?.is_file() => file.try_clone().map(Some).map_err(failed),
            _ => Ok(None),
        }
    }

    fn stdout() -> Result<Self> {
        let name = PathBuf::from("standard output");
        let mut stdout = io::stdout();
        // What was printed before goes out first; a closed pipe is noticed at the first write.
        let _ = stdout.flush();
        #[cfg(unix)]
        let out = {
            use std::os::fd::AsFd;
            // The line buffer of `Stdout` would copy every byte once more.
            let fd = stdout.as_fd().try_clone_to_owned();
            Out::File(File::from(fd.map_err(|e| cannot("open", &name).because(e))?))
        };
        #[cfg(not(unix))]
        let out = Out::Stdout(stdout);
        Ok(Destination { out, name, rename: None, is_stdout: true })
    }

    /// An existing device or fifo: written to directly.
    fn device(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().write(true).open(path);
        let file = file.map_err(|e| cannot("open", path).because(e))?;
        Ok(Destination { out: Out::File(file), name: path.to_path_buf(), rename: None, is_stdout: false })
    }

    /// A file under a temporary name, with the permissions of the one it will replace.
    fn temporary(path: &Path, permissions: Option<fs::Permissions>) -> Result<Self> {
        // A link keeps pointing where it points: the file behind it is what is replaced.
        let to = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let Some(name) = to.file_name() else {
            return Err(Error::output(format!("the output {} names no file", path.display())));
        };
        let directory = match to.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        for attempt in 0..NAME_ATTEMPTS {
            let mut end = format!(".windrow-{}", std::process::id());
            if attempt > 0 {
                end.push_str(&format!("-{attempt}"));
            }
            end.push_str(".tmp");
            let mut temporary = std::ffi::OsString::new();
            if name.len() + end.len() < NAME_MAX {
                temporary.push(".");
                temporary.push(name);
            }
            temporary.push(&end);
            let from = directory.join(temporary);
            match OpenOptions::new().write(true).create_new(true).open(&from) {
                Ok(file) => {
                    if let Some(permissions) = permissions {
                        // As good as it goes: not every file system has them.
                        let _ = file.set_permissions(permissions);
                    }
                    let rename = Some(Rename { from, to, stays: false });
                    let (out, name) = (Out::File(file), path.to_path_buf());
                    return Ok(Destination { out, name, rename, is_stdout: false });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    return Err(Error::output(format!(
                        "cannot create the output {}: there is no directory {}",
                        path.display(),
                        directory.display()
                    )));
                }
                Err(e) => {
                    return Err(Error::output(format!(
                        "cannot create the output {} in {}",
                        path.display(),
                        directory.display()
                    ))
                    .because(e));
                }
            }
        }
        Err(Error::output(format!(
            "cannot create the output {}: remove the old temporary files (.*.windrow-*.tmp) from {}",
            path.display(),
            directory.display()
        )))
    }

    /// Writes all of `bytes`. `Ok(false)`: nobody reads any more (a closed pipe).
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<bool> {
        let written = match &mut self.out {
            Out::File(file) => file.write_all(bytes),
            Out::Stdout(stdout) => stdout.write_all(bytes).and_then(|()| stdout.flush()),
        };
        match written {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(e) => Err(cannot("write", &self.name).because(e)),
        }
    }

    /// Gives the output its final name.
    pub(super) fn commit(mut self) -> Result<()> {
        if let Some(rename) = &self.rename {
            let failed = |e| cannot("give its final name to", &self.name).because(e);
            if let (true, Out::File(file)) = (rename.stays, &self.out) {
                file.sync_all().map_err(failed)?;
            }
            fs::rename(&rename.from, &rename.to).map_err(failed)?;
        }
        self.rename = None;
        Ok(())
    }

    pub(super) fn is_stdout(&self) -> bool {
        self.is_stdout
    }

    /// The output's name, for messages.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }
}

/// The name of an output that can be gone on with until it is complete, and then.
pub(super) fn unfinished(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let to = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(to.file_name()?);
    temporary.push(".windrow-checkpoint.tmp");
    Some((to.with_file_name(temporary), to))
}

impl Drop for Destination {
    fn drop(&mut self) {
        if let Some(rename) = self.rename.as_ref().filter(|rename| !rename.stays) {
            let _ = fs::remove_file(&rename.from);
        }
    }
}

fn cannot(verb: &str, name: &Path) -> Error {
    Error::output(format!("cannot {verb} the output {}", name.display()))
}
