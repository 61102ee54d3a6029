//! A disk in memory that does to a store what real ones do on bad days.
//!
//! It can fail at the n-th write or sync ([`MemoryDisk::fail_at`]), or from then on ([`MemoryDisk::die_at`]), fill up
//! ([`MemoryDisk::capacity`]), answer with short reads and writes ([`MemoryDisk::short`]), flip a bit ([`MemoryDisk::damage`]), and give the image that a crash would
//! leave ([`MemoryDisk::crash`]): names that were not synced are gone, bytes that were not synced are lost or torn.
//! One lock guards all of it; it is made for tests, not for speed.

use super::disk::{Disk, DiskFile, Listed, Lock};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most that a short read or write moves.
const SHORT: usize = 7;

/// See the module. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    names: Names,
    /// The names that a crash leaves.
    durable: Names,
    locks: BTreeSet<PathBuf>,
    /// Writes and syncs so far, and which of them fails.
    operations: u64,
    fail_at: Option<u64>,
    die_at: Option<u64>,
    capacity: Option<u64>,
    short: bool,
    interrupted: bool,
}

#[derive(Debug, Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, Arc<Mutex<Contents>>>,
    dirs: BTreeSet<PathBuf>,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    bytes: Vec<u8>,
    /// As of the last sync.
    synced: Vec<u8>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    /// An empty disk with the folder `root`.
    pub fn new(root: impl Into<PathBuf>) -> MemoryDisk {
        let disk = MemoryDisk::default();
        let root = root.into();
        let mut state = lock(&disk.0);
        state.names.dirs.insert(root.clone());
        state.durable.dirs.insert(root);
        drop(state);
        disk
    }

    /// Lets the n-th write or sync from now on fail, counted from 0, and no other. `None`: none fails.
    pub fn fail_at(&self, n: Option<u64>) {
        let mut state = lock(&self.0);
        state.fail_at = n.map(|n| state.operations + n);
    }

    /// Lets the n-th write or sync from now on fail, counted from 0, and all that follow: the machine has stopped.
    pub fn die_at(&self, n: u64) {
        let mut state = lock(&self.0);
        state.die_at = Some(state.operations + n);
    }

    /// Writes and syncs so far.
    pub fn operations(&self) -> u64 {
        lock(&self.0).operations
    }

    /// How many bytes all files together may hold.
    pub fn capacity(&self, bytes: Option<u64>) {
        lock(&self.0).capacity = bytes;
    }

    /// Whether every read and write moves a few bytes at most, and every other one is interrupted.
    pub fn short(&self, short: bool) {
        lock(&self.0).short = short;
    }

    /// All files, in the order of their names.
    pub fn files(&self) -> Vec<PathBuf> {
        lock(&self.0).names.files.keys().cloned().collect()
    }

    /// All folders, in the order of their names.
    pub fn dirs(&self) -> Vec<PathBuf> {
        lock(&self.0).names.dirs.iter().cloned().collect()
    }

    /// Changes the bytes of a file behind its owner's back; `false` if there is no such file.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let file = lock(&self.0).names.files.get(path).cloned();
        file.map(|file| change(&mut lock(&file).bytes)).is_some()
    }

    /// What a crash now would leave: synced names and bytes, and of the bytes written since then as many as `torn` (0 to 1)
    /// says. Nobody holds a lock afterwards.
    pub fn crash(&self, torn: f64) -> MemoryDisk {
        let state = lock(&self.0);
        let mut names = state.durable.clone();
        for file in names.files.values_mut() {
            let contents = lock(file).clone();
            let changed = contents.bytes.len() - contents.synced.len().min(contents.bytes.len());
            let kept = contents.bytes.len() - changed + (changed as f64 * torn.clamp(0.0, 1.0)) as usize;
            let bytes = if torn > 0.0 { contents.bytes[..kept].to_vec() } else { contents.synced };
            *file = Arc::new(Mutex::new(Contents { synced: bytes.clone(), bytes }));
        }
        MemoryDisk(Arc::new(Mutex::new(State { durable: names.clone(), names, ..State::default() })))
    }
}

impl State {
    /// Counts a write or sync, which may be the one that fails.
    fn operation(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        if self.fail_at == Some(number) || self.die_at.is_some_and(|first| number >= first) {
            return Err(io::Error::other("the disk failed, as it was told to"));
        }
        Ok(())
    }

    /// How many of `len` bytes are moved at once.
    fn moved(&mut self, len: usize) -> io::Result<usize> {
        if !self.short {
            return Ok(len);
        }
        self.interrupted = !self.interrupted;
        if self.interrupted { Err(ErrorKind::Interrupted.into()) } else { Ok(len.min(SHORT)) }
    }

    fn used(&self) -> u64 {
        self.names.files.values().map(|file| lock(file).bytes.len() as u64).sum()
    }

    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if self.names.dirs.contains(parent) => Ok(()),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.0);
        state.parent_exists(path)?;
        if state.names.files.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let contents = Arc::<Mutex<Contents>>::default();
        state.names.files.insert(path.to_path_buf(), contents.clone());
        Ok(Arc::new(MemoryFile { disk: self.clone(), contents }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let contents = lock(&self.0).names.files.get(path).cloned().ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile { disk: self.clone(), contents }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = lock(&self.0).names.files.remove(path);
        removed.map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.parent_exists(to)?;
        let file = state.names.files.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.files.insert(to.to_path_buf(), file);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.parent_exists(path)?;
        if state.names.dirs.insert(path.to_path_buf()) { Ok(()) } else { Err(ErrorKind::AlreadyExists.into()) }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        if state.names.files.keys().chain(&state.names.dirs).any(|p| p.parent() == Some(path)) {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        if state.names.dirs.remove(path) { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        let state = lock(&self.0);
        if !state.names.dirs.contains(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let listed = |(p, is_dir): (&PathBuf, bool)| Listed { path: p.clone(), is_dir, own: true };
        let files = state.names.files.keys().map(|p| (p, false));
        let all = files.chain(state.names.dirs.iter().map(|p| (p, true)));
        Ok(all.filter(|(p, _)| p.parent() == Some(path)).map(listed).collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.operation()?;
        let State { names, durable, .. } = &mut *state;
        durable.files.retain(|p, _| p.parent() != Some(path));
        durable.dirs.retain(|p| p.parent() != Some(path));
        durable
            .files
            .extend(names.files.iter().filter(|(p, _)| p.parent() == Some(path)).map(|(p, f)| (p.clone(), f.clone())));
        durable.dirs.extend(names.dirs.iter().filter(|p| p.parent() == Some(path)).cloned());
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let mut state = lock(&self.0);
        state.parent_exists(path)?;
        state.names.files.entry(path.to_path_buf()).or_default();
        let free = state.locks.insert(path.to_path_buf());
        Ok(free.then(|| Box::new(MemoryLock { disk: self.clone(), path: path.to_path_buf() }) as Box<dyn Lock>))
    }
}

#[derive(Debug)]
struct MemoryLock {
    disk: MemoryDisk,
    path: PathBuf,
}

impl Lock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        lock(&self.disk.0).locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    contents: Arc<Mutex<Contents>>,
}

impl DiskFile for MemoryFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut state = lock(&self.disk.0);
        let mut moved = state.moved(bytes.len())?;
        state.operation()?;
        if let Some(capacity) = state.capacity {
            moved = moved.min(capacity.saturating_sub(state.used()) as usize);
            if moved == 0 && !bytes.is_empty() {
                return Err(ErrorKind::StorageFull.into());
            }
        }
        let at = usize::try_from(offset).map_err(|_| ErrorKind::FileTooLarge)?;
        let mut contents = lock(&self.contents);
        if contents.bytes.len() < at + moved {
            contents.bytes.resize(at + moved, 0);
        }
        contents.bytes[at..at + moved].copy_from_slice(&bytes[..moved]);
        Ok(moved)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let moved = lock(&self.disk.0).moved(buffer.len())?;
        let contents = lock(&self.contents);
        let rest = usize::try_from(offset).ok().and_then(|at| contents.bytes.get(at..)).unwrap_or_default();
        let moved = moved.min(rest.len());
        buffer[..moved].copy_from_slice(&rest[..moved]);
        Ok(moved)
    }

    fn sync(&self) -> io::Result<()> {
        lock(&self.disk.0).operation()?;
        let mut contents = lock(&self.contents);
        contents.synced = contents.bytes.clone();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.contents).bytes.len() as u64)
    }
}
