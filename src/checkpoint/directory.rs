//! The folder of a run's checkpoints.
//!
//! ```text
//! DIR/lock          held by the run that writes here; the system gives it up when the process ends, however it ends
//! DIR/manifest-0    two slots, written in turn: under another name, synced, renamed
//! DIR/manifest-1
//! DIR/7.state       files that a manifest names, and only they: the others are swept when a checkpoint is complete
//! DIR/9.spill
//! ```
//!
//! Invariants: a file is synced, and its name too, before a manifest names it; it is removed only when neither slot does. So
//! the newest whole slot always has all its files, and if it is damaged, the other one has.

use super::manifest::Manifest;
use crate::store::disk::{Disk, Lock, read_exact_at, write_all_at};
use crate::{Error, ErrorKind, Result};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SLOTS: [&str; 2] = ["manifest-0", "manifest-1"];
const DRAFT: &str = "manifest-new";
const LOCK: &str = "lock";

/// How the names of files end that checkpoints are made of. Others in the folder are not ours.
const ENDINGS: [&str; 2] = ["state", "spill"];

/// The longest manifest that is read.
const MOST_BYTES: u64 = 1 << 30;

/// See the module.
#[derive(Debug)]
pub struct Directory {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// The newest whole one, and the other slot, if that is whole and older.
    last: Option<Manifest>,
    before: Option<Manifest>,
    /// What each slot names.
    named: [Vec<String>; 2],
    /// The slot that is written next.
    next: usize,
    files: u64,
    warning: Option<String>,
    _lock: Box<dyn Lock>,
}

impl Directory {
    /// Opens `path`, which is created if its parent exists, and reads the newest whole checkpoint.
    ///
    /// # Errors
    /// [`ErrorKind::Output`] if nothing can be written there, or another run does; [`ErrorKind::Io`] if there are
    /// checkpoints and all are damaged.
    pub fn open(disk: Arc<dyn Disk>, path: impl Into<PathBuf>) -> Result<Directory> {
        let path = path.into();
        match disk.create_dir(&path) {
            Ok(()) => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                disk.sync_dir(parent.unwrap_or(Path::new("."))).map_err(|e| unusable(&path, e))?;
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(
                    Error::output("there is no such folder for checkpoints, and none to create it in").in_file(&path)
                );
            }
            Err(e) => return Err(unusable(&path, e)),
        }
        let lock = disk.lock(&path.join(LOCK)).map_err(|e| unusable(&path, e))?;
        let Some(lock) = lock else {
            let what = "another run writes its checkpoints here; wait for it, or name another folder";
            return Err(Error::output(what).in_file(path));
        };
        let mut named = [Vec::new(), Vec::new()];
        let (mut last, mut before, mut next, mut wrong) = (None::<Manifest>, None, 0, Vec::new());
        for (slot, name) in SLOTS.iter().enumerate() {
            match read(&*disk, &path.join(name)) {
                Ok(None) => {}
                Ok(Some(manifest)) => {
                    named[slot].clone_from(&manifest.files);
                    if last.as_ref().is_none_or(|last| last.number < manifest.number) {
                        (before, last, next) = (last, Some(manifest), 1 - slot);
                    } else {
                        before = Some(manifest);
                    }
                }
                Err(error) => wrong.push(error),
            }
        }
        let mut wrong = wrong.into_iter();
        let warning = match (wrong.next(), &last) {
            (Some(error), None) => return Err(error),
            (Some(error), Some(_)) => Some(format!("{error}; going on from the checkpoint before")),
            (None, _) => None,
        };
        let listed = disk.list(&path).map_err(|e| unusable(&path, e))?;
        let numbers = listed.iter().filter_map(|listed| numbered(&listed.path));
        let files = numbers.max().map_or(0, |greatest| greatest + 1);
        Ok(Directory { disk, path, last, before, named, next, files, warning, _lock: lock })
    }

    /// The newest whole checkpoint.
    pub fn last(&self) -> Option<&Manifest> {
        self.last.as_ref()
    }

    /// Takes the checkpoint before the newest one for the newest, whose files turned out to be damaged as `why` says, if there
    /// is one; the next one that is made takes the place of the damaged one.
    ///
    /// # Errors
    /// `why`, if there is none.
    pub fn fall_back(&mut self, why: Error) -> Result<()> {
        let Some(before) = self.before.take() else { return Err(why) };
        self.warning = Some(format!("{why}; going on from the checkpoint before"));
        self.last = Some(before);
        self.next = 1 - self.next;
        Ok(())
    }

    /// What should be told to a person: that the newest checkpoint is damaged and an older one was taken.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk that it is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// A name in the folder that no file has had; `ending` is `state` or `spill`.
    pub fn name(&mut self, ending: &'static str) -> String {
        debug_assert!(ENDINGS.contains(&ending), "files that end in .{ending} are never swept");
        self.files += 1;
        format!("{}.{ending}", self.files - 1)
    }

    /// Completes a checkpoint: from now on it is the newest. Its `files` are synced; their names are by this. What no
    /// checkpoint needs any more is removed.
    ///
    /// # Errors
    /// The disk's. The checkpoint before is then still whole; whether this one is, shows when the folder is opened again.
    pub fn commit(&mut self, files: Vec<String>, body: Vec<u8>) -> Result<()> {
        let number = self.last.as_ref().map_or(0, |last| last.number + 1);
        let manifest = Manifest { number, files, body };
        let bytes = manifest.encode();
        if bytes.len() as u64 > MOST_BYTES || u32::try_from(bytes.len()).is_err() {
            return Err(Error::new(ErrorKind::Io, "the manifest of a checkpoint is too long").in_file(&self.path));
        }
        self.sync()?;
        let draft = self.path.join(DRAFT);
        let failed =
            |e| Error::new(ErrorKind::Io, "the manifest of a checkpoint cannot be written").in_file(&draft).because(e);
        let _ = self.disk.remove(&draft);
        let file = self.disk.create(&draft).map_err(failed)?;
        write_all_at(&*file, 0, &bytes).and_then(|()| file.sync()).map_err(failed)?;
        self.disk.rename(&draft, &self.path.join(SLOTS[self.next])).map_err(failed)?;
        self.sync()?;
        self.named[self.next].clone_from(&manifest.files);
        self.next = 1 - self.next;
        self.before = self.last.replace(manifest);
        self.sweep();
        Ok(())
    }

    /// Makes the names of files outlive a crash.
    fn sync(&self) -> Result<()> {
        let failed =
            |e| Error::new(ErrorKind::Io, "the folder of checkpoints cannot be synced").in_file(&self.path).because(e);
        self.disk.sync_dir(&self.path).map_err(failed)
    }

    /// Removes the numbered files that neither slot names. What cannot be removed is tried again the next time.
    fn sweep(&self) {
        let Ok(listed) = self.disk.list(&self.path) else { return };
        for file in listed.iter().filter(|listed| !listed.is_dir && numbered(&listed.path).is_some()) {
            let name = file.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !self.named.iter().flatten().any(|named| named == name) {
                let _ = self.disk.remove(&file.path);
            }
        }
    }
}

/// The number of a file that is named as [`Directory::name`] does.
fn numbered(path: &Path) -> Option<u64> {
    let ending = path.extension()?.to_str()?;
    if !ENDINGS.contains(&ending) {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}

/// The manifest in a slot, if there is one.
fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Manifest>> {
    let unreadable =
        |e| Error::new(ErrorKind::Io, "the manifest of a checkpoint cannot be read").in_file(path).because(e);
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(e)),
    };
    let len = file.len().map_err(unreadable)?;
    if len > MOST_BYTES {
        return Err(Error::new(ErrorKind::Io, "it is too long for the manifest of a checkpoint").in_file(path));
    }
    let mut bytes = vec![0; len as usize];
    read_exact_at(&*file, 0, &mut bytes).map_err(unreadable)?;
    let damaged =
        |e: crate::store::block::Malformed| Error::new(ErrorKind::Io, e.what).in_file(path).at_offset(e.at as u64);
    Manifest::decode(&bytes).map(Some).map_err(damaged)
}

fn unusable(path: &Path, e: io::Error) -> Error {
    Error::output("the folder for checkpoints cannot be used; name another with --checkpoint").in_file(path).because(e)
}
