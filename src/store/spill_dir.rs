//! The folder of one run's spill files: private, locked, gone with the run.
//!
//! Below the folder that the user names, each run makes `windrow-spill-PID-N` (0700) and takes the lock on its file `lock`,
//! which the system gives up when the process ends, however it ends. Whoever comes next sweeps the folders whose lock is
//! free. A folder is swept only while its lock is held, and only files with the names that runs give; a run whose
//! lock file was swept from under it before it had the lock takes another name. So no order of events removes the
//! files of a run that lives.
//!
//! A file goes before the folder does, with whoever writes or reads it: a run may last for months.

use super::disk::{Disk, Lock, OsDisk};
use crate::{Error, ErrorKind, Result};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = "windrow-spill-";
const LOCK: &str = "lock";
const ENDING: &str = "spill";

/// Attempts at a name that nobody has.
const NAMES: u32 = 1000;

/// Tells the folders of one process apart.
static FOLDERS: AtomicU64 = AtomicU64::new(0);

/// See the module. Clones share the folder, which is removed with the last of them.
#[derive(Debug, Clone)]
pub struct SpillDir(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    files: AtomicU64,
    lock: Option<Box<dyn Lock>>,
}

impl SpillDir {
    /// A folder for this run below `base`, after sweeping what dead runs have left there.
    ///
    /// # Errors
    /// [`ErrorKind::Output`] if `base` does not exist or nothing can be created in it.
    pub fn create(base: impl AsRef<Path>) -> Result<SpillDir> {
        SpillDir::create_on(Arc::new(OsDisk), base)
    }

    /// The same on any disk.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_on(disk: Arc<dyn Disk>, base: impl AsRef<Path>) -> Result<SpillDir> {
        let base = base.as_ref();
        sweep(&*disk, base);
        for _ in 0..NAMES {
            let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match disk.create_dir(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    let what = "the spill directory does not exist; create it, or name another with --spill-dir";
                    return Err(Error::output(what).in_file(base));
                }
                Err(e) => return Err(unusable(base, e)),
            }
            match disk.lock(&path.join(LOCK)) {
                Ok(Some(lock)) => {
                    let inner = Inner { disk, path, files: AtomicU64::new(0), lock: Some(lock) };
                    return Ok(SpillDir(Arc::new(inner)));
                }
                // Swept by a run that came between.
                Ok(None) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    let _ = disk.remove_dir(&path);
                    return Err(unusable(base, e));
                }
            }
        }
        Err(Error::output("no folder for spill files can be made in the spill directory").in_file(base))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The disk that it is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.0.disk
    }

    /// A name for a spill file that no other has.
    pub fn name(&self) -> PathBuf {
        self.0.path.join(format!("{}.{ENDING}", self.0.files.fetch_add(1, Ordering::Relaxed)))
    }
}

/// A file of the folder, which is removed when this is dropped; the folder lives as long.
#[derive(Debug)]
pub(super) struct SpillFile {
    dir: SpillDir,
    path: PathBuf,
    kept: bool,
}

impl SpillFile {
    pub(super) fn new(dir: &SpillDir, path: PathBuf) -> SpillFile {
        SpillFile { dir: dir.clone(), path, kept: false }
    }

    /// Leaves the file where it is.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed goes with the folder.
            let _ = self.dir.disk().remove(&self.path);
        }
    }
}

fn unusable(base: &Path, e: io::Error) -> Error {
    let what = "the spill directory cannot be used; name another with --spill-dir";
    Error::new(ErrorKind::Output, what).in_file(base).because(e)
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The lock goes first where open files cannot be removed; whoever sweeps then does the same as this.
        clear(&*self.disk, &self.path);
        drop(self.lock.take());
    }
}

/// Removes what runs that are dead have left in `base`. What cannot be removed stays.
fn sweep(disk: &dyn Disk, base: &Path) {
    for listed in disk.list(base).unwrap_or_default() {
        let named = listed.path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(PREFIX));
        if named
            && listed.is_dir
            && listed.own
            && let Ok(Some(_lock)) = disk.lock(&listed.path.join(LOCK))
        {
            clear(disk, &listed.path);
        }
    }
}

/// Removes the spill files in `folder`, the lock file last, and the folder if nothing else is in it.
fn clear(disk: &dyn Disk, folder: &Path) {
    for listed in disk.list(folder).unwrap_or_default() {
        if listed.path.extension().is_some_and(|e| e == ENDING) && !listed.is_dir {
            let _ = disk.remove(&listed.path);
        }
    }
    let _ = disk.remove(&folder.join(LOCK));
    let _ = disk.remove_dir(folder);
}
