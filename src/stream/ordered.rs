//! State that absorbs every batch once, in the order of time, whoever asks first.
//!
//! When a batch is due its input is *noted*; when a job asks for what the state says at `k`, all inputs noted up to `k`
//! are applied, in order. What nobody asks for is applied by the last job of its batch, so that inputs do not pile up.
//! With several jobs at once, a later batch that comes first applies the earlier one on the way and leaves its result.
//!
//! Invariant: an input that cannot be applied leaves the state as if it had not been there, and its own batch fails.

use super::batch::Batch;
use super::exec::guarded;
use super::saved::Section;
use super::scheduler::lock;
use crate::{Error, Result};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

/// How a state takes a batch in.
pub(crate) trait Apply<I>: Send {
    /// What it says afterwards, by partition.
    type Row: Send;

    /// What it is made of, for a checkpoint.
    type Kept: Clone + Send + Sync + 'static;

    /// Takes in batch `k` (none: there was no dataset). `emit`: whether the result will be asked for.
    fn apply(&mut self, k: u64, batch: Option<Batch<I>>, emit: bool) -> Result<Vec<Vec<Self::Row>>>;

    /// All of the state; none while a batch that failed has left it damaged.
    fn sections(&self) -> Option<Vec<Section<Self::Kept>>>;

    /// Takes the place of a state before any batch; the number of partitions may be another.
    fn restore(&mut self, sections: Vec<Section<Self::Kept>>) -> Result<()>;
}

/// Where a state is put when it is wanted for a checkpoint.
pub(crate) type Slot<R> = Mutex<Option<Vec<Section<R>>>>;

/// See the module.
pub(crate) struct Ordered<I, S: Apply<I>> {
    inner: Mutex<Inner<I, S>>,
    /// Batches that came and were not applied: apart, so that noting one does not wait for a job.
    noted: Mutex<Queue<I, S::Kept>>,
}

/// By the numbers of batches.
type Queue<I, R> = VecDeque<(u64, Noted<I, R>)>;

enum Noted<I, R> {
    Batch {
        batch: Option<Batch<I>>,
        emit: bool,
    },
    /// The state as it is here goes into the slot, if somebody still holds that.
    Save(Weak<Slot<R>>),
}

struct Inner<I, S: Apply<I>> {
    state: S,
    results: BTreeMap<u64, Result<Vec<Vec<S::Row>>>>,
    _input: std::marker::PhantomData<fn(I)>,
}

impl<I: Send, S: Apply<I>> Ordered<I, S> {
    pub(crate) fn new(state: S) -> Self {
        let inner = Inner { state, results: BTreeMap::new(), _input: std::marker::PhantomData };
        Ordered { inner: Mutex::new(inner), noted: Mutex::default() }
    }

    /// Batch `k` is due; later ones have not been noted.
    pub(crate) fn note(&self, k: u64, batch: Option<Batch<I>>, emit: bool) {
        lock(&self.noted).push_back((k, Noted::Batch { batch, emit }));
    }

    /// Batch `k` has been noted, and the state after it will be [asked for](Self::saved).
    pub(crate) fn save(&self, k: u64) -> Arc<Slot<S::Kept>> {
        let slot = Arc::new(Mutex::new(None));
        lock(&self.noted).push_back((k, Noted::Save(Arc::downgrade(&slot))));
        slot
    }

    /// The state after batch `k`. Can be had once.
    pub(crate) fn saved(&self, k: u64, slot: &Slot<S::Kept>) -> Option<Vec<Section<S::Kept>>> {
        self.apply_until(k);
        lock(slot).take()
    }

    pub(crate) fn restore(&self, sections: Vec<Section<S::Kept>>) -> Result<()> {
        lock(&self.inner).state.restore(sections)
    }

    fn advance(&self, inner: &mut Inner<I, S>, k: u64) {
        loop {
            let next = {
                let mut noted = lock(&self.noted);
                if noted.front().is_some_and(|(noted, _)| *noted <= k) { noted.pop_front() } else { None }
            };
            match next {
                Some((k, Noted::Batch { batch, emit })) => {
                    let result = guarded(|| inner.state.apply(k, batch, emit));
                    // What nobody will ask for need not be kept, but for an error.
                    if emit || result.is_err() {
                        inner.results.insert(k, result);
                    }
                }
                Some((_, Noted::Save(slot))) => {
                    if let Some(slot) = slot.upgrade() {
                        *lock(&slot) = guarded(|| Ok(inner.state.sections())).ok().flatten();
                    }
                }
                None => return,
            }
        }
    }

    /// What the state says at `k`. Can be had once.
    pub(crate) fn result(&self, k: u64) -> Result<Vec<Vec<S::Row>>> {
        let mut inner = lock(&self.inner);
        self.advance(&mut inner, k);
        let gone = || Err(Error::data(format!("the state of batch {k} has been forgotten")));
        inner.results.remove(&k).unwrap_or_else(gone)
    }

    /// Takes in everything up to `k`.
    pub(crate) fn apply_until(&self, k: u64) {
        self.advance(&mut lock(&self.inner), k);
    }

    /// The state of batch `k` will not be asked for any more.
    pub(crate) fn settle(&self, k: u64) -> Result<()> {
        let mut inner = lock(&self.inner);
        self.advance(&mut inner, k);
        inner.results.remove(&k).map_or(Ok(()), |result| result.map(|_| ()))
    }
}
