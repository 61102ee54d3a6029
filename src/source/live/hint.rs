//! A wait that ends early when the system says that something happened in the folder of a file that is followed.
//!
//! It is only a hint: what happened is found out by looking, and is looked for every now and then anyway. So nothing depends
//! on being told: not of folders that cannot be watched, nor of network file systems, links to other folders, changes that
//! are lost because there were too many. Where nothing can be watched, or without the feature `cli`, it is a plain wait.
//!
//! Cost: a thread that the system wakes at every change; changes that come while nobody waits are one.

use std::path::Path;
#[cfg(feature = "cli")]
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Whether something has happened since it was last waited for.
#[derive(Default)]
struct Told {
    told: Mutex<bool>,
    changed: Condvar,
}

/// See the module.
#[derive(Default)]
pub(super) struct Hint {
    told: Arc<Told>,
    #[cfg(feature = "cli")]
    watch: Watch,
}

/// What is watched.
#[cfg(feature = "cli")]
#[derive(Default)]
enum Watch {
    /// Nothing yet.
    #[default]
    None,
    Folders(Box<notify::RecommendedWatcher>, Vec<PathBuf>),
    /// Nothing can be.
    Impossible,
}

#[cfg(feature = "cli")]
impl Hint {
    /// From now on `folders` are watched as well. Those that cannot be are left out.
    pub(super) fn watch<'a>(&mut self, folders: impl Iterator<Item = &'a Path>) {
        use notify::Watcher;
        for folder in folders {
            if matches!(self.watch, Watch::None) {
                let told = self.told.clone();
                let tell = move |event: notify::Result<notify::Event>| {
                    if event.is_ok_and(|event| is_read(event.kind)) {
                        return;
                    }
                    *told.told.lock().unwrap_or_else(PoisonError::into_inner) = true;
                    told.changed.notify_one();
                };
                self.watch = match notify::recommended_watcher(tell) {
                    Ok(watcher) => Watch::Folders(Box::new(watcher), Vec::new()),
                    Err(_) => Watch::Impossible,
                };
            }
            let Watch::Folders(watcher, watched) = &mut self.watch else { return };
            if !watched.iter().any(|known| known == folder)
                && watcher.watch(folder, notify::RecursiveMode::NonRecursive).is_ok()
            {
                watched.push(folder.to_path_buf());
            }
        }
    }

    /// As on a system that has no way to tell.
    #[cfg(test)]
    pub(super) fn impossible() -> Hint {
        Hint { watch: Watch::Impossible, ..Hint::default() }
    }
}

/// Whether somebody has only read: as this run does itself.
#[cfg(feature = "cli")]
fn is_read(kind: notify::EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode, EventKind};
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

#[cfg(not(feature = "cli"))]
impl Hint {
    /// Nothing is watched.
    pub(super) fn watch<'a>(&mut self, _folders: impl Iterator<Item = &'a Path>) {}

    /// As it always is.
    #[cfg(test)]
    pub(super) fn impossible() -> Hint {
        Hint::default()
    }
}

impl Hint {
    /// Waits until something happens, `most` at most. What has happened since the last wait counts.
    pub(super) fn wait(&self, most: Duration) {
        let told = self.told.told.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.changed.wait_timeout_while(told, most, |told| !*told);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}
