//! The memory of a context: one budget, a folder for what does not fit, and who gives way.
//!
//! Kept partitions lease their bytes. When a lease is refused, the kept partition of *another* dataset that was used least
//! recently gives way (to disk, or into nothing, as its level says), until the lease is granted or nobody is left.
//! Leases are for kept batches and for what a shuffle or a sort holds. The records in flight through fused operators have none, nor do
//! the states of operators: they are what the program asked to be remembered, a row for each key.

use crate::Result;
use crate::memory::{Budget, Lease};
use crate::store::disk::{Disk, OsDisk};
use crate::store::spill_dir::SpillDir;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Something that keeps partitions.
pub(crate) trait Keeper: Send + Sync {
    /// Gives the memory of a partition back; false if it cannot.
    fn give_way(&self, partition: usize) -> bool;
}

struct Kept {
    dataset: u64,
    partition: usize,
    used: u64,
    keeper: Weak<dyn Keeper>,
}

/// See the module.
pub(crate) struct Storage {
    budget: Budget,
    limit: Option<usize>,
    disk: Arc<dyn Disk>,
    base: PathBuf,
    dir: Mutex<Option<SpillDir>>,
    kept: Mutex<Vec<Kept>>,
    ticks: AtomicU64,
    spilled: AtomicU64,
    durable: AtomicBool,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Storage {
    pub(crate) fn new(limit: Option<usize>, base: Option<PathBuf>) -> Self {
        Storage {
            budget: limit.map_or_else(Budget::unlimited, Budget::new),
            limit,
            disk: Arc::new(OsDisk),
            base: base.unwrap_or_else(std::env::temp_dir),
            dir: Mutex::default(),
            kept: Mutex::default(),
            ticks: AtomicU64::new(0),
            spilled: AtomicU64::new(0),
            durable: AtomicBool::new(false),
        }
    }

    /// With its folder on another disk.
    #[cfg(test)]
    pub(crate) fn on(self, disk: Arc<dyn Disk>) -> Self {
        Storage { disk, ..self }
    }

    pub(crate) fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Whether files that are put out have to outlive a crash: batches that a checkpoint holds are not put out again.
    pub(crate) fn is_durable(&self) -> bool {
        self.durable.load(Ordering::Relaxed)
    }

    pub(crate) fn make_durable(&self) {
        self.durable.store(true, Ordering::Relaxed);
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The folder, made when it is first needed.
    pub(crate) fn dir(&self) -> Result<SpillDir> {
        let mut dir = self.dir.lock().unwrap_or_else(PoisonError::into_inner);
        match &*dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(dir.insert(SpillDir::create_on(self.disk.clone(), &self.base)?).clone()),
        }
    }

    /// Bytes that went to disk so far.
    pub(crate) fn spilled(&self) -> u64 {
        self.spilled.load(Ordering::Relaxed)
    }

    pub(crate) fn note_spilled(&self, bytes: u64) {
        self.spilled.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A number that no other dataset has; greater ones were asked for later.
    pub(crate) fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    /// A partition of `dataset` is kept in memory from now on.
    pub(crate) fn keep(&self, dataset: u64, partition: usize, keeper: Weak<dyn Keeper>) {
        let used = self.tick();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|k| k.keeper.strong_count() > 0 && (k.dataset, k.partition) != (dataset, partition));
        kept.push(Kept { dataset, partition, used, keeper });
    }

    /// The partitions of `dataset` were used.
    pub(crate) fn touch(&self, dataset: u64) {
        if self.limit.is_some() {
            let used = self.tick();
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.iter_mut().filter(|k| k.dataset == dataset).for_each(|k| k.used = used);
        }
    }

    /// `bytes` for `dataset`, others giving way; none if there is not so much.
    pub(crate) fn lease(&self, dataset: u64, bytes: usize) -> Option<Lease> {
        let mut lease = self.budget.lease("kept batches");
        loop {
            if lease.resize(bytes).is_ok() {
                return Some(lease);
            }
            let first = {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                let others = kept.iter().enumerate().filter(|(_, k)| k.dataset != dataset);
                let at = others.min_by_key(|(_, k)| k.used).map(|(at, _)| at)?;
                kept.swap_remove(at)
            };
            if let Some(keeper) = Weak::upgrade(&first.keeper) {
                keeper.give_way(first.partition);
            }
        }
    }
}

/// A storage without a limit.
impl Default for Storage {
    fn default() -> Self {
        Storage::new(None, None)
    }
}

/// The storage of a context, shared by all its batches.
pub(crate) type Shared = Arc<Storage>;
