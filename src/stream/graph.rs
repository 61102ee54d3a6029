//! The graph of a context: nodes that make one batch per interval out of their parents' batches, and its outputs.
//!
//! Batches are numbered: batch `k` has time `k` × interval. At each number every node is *ticked*, parents first (inputs
//! take what has arrived, states and windows note what they will have to absorb), then each output asks its node for the
//! batch, which asks its parents, and so on: what comes out is a plan that has cost nothing but its nodes.
//!
//! A batch that has one reader is handed over; others are kept until [`forget`](AnyNode::forget) is told that all who
//! could ask for them are done. Invariant: everything here runs under the generation lock of the context.

use super::Data;
use super::batch::Batch;
use super::exec::Label;
use super::saved::{Coded, Identity, Saved};
use crate::Result;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A task of a batch.
pub(crate) type Job = Box<dyn FnOnce() -> Result<()> + Send>;

/// What all nodes have in common, whatever their records.
pub(crate) trait AnyNode: Send + Sync {
    fn parents(&self) -> &[Arc<dyn AnyNode>];
    /// Keeps batches for at least so many intervals after they were made; tells the parents.
    fn remember(&self, batches: u64);
    /// Batches are counted from here.
    fn begin(&self, zero: u64);
    /// Batch `k` is due.
    fn tick(&self, k: u64) -> Result<()>;
    /// What has to be done about batch `k` even if nobody asks for it.
    fn settle(&self, k: u64) -> Option<Job>;
    /// Batches up to `k` are done.
    fn forget(&self, k: u64);
    /// What it keeps from batch to batch, if it does.
    fn saved(&self) -> Option<&Arc<dyn Saved>>;
}

type Compute<T> = Box<dyn Fn(u64) -> Result<Option<Batch<T>>> + Send + Sync>;
type Keep<T> = Box<dyn Fn(Batch<T>) -> Batch<T> + Send + Sync>;
type Tick = Box<dyn Fn(u64) -> Result<()> + Send + Sync>;
type Settle = Box<dyn Fn(u64) -> Option<Job> + Send + Sync>;

/// A stream: one batch per slide.
pub(crate) struct Node<T> {
    pub(crate) label: Label,
    /// Intervals between two batches.
    pub(crate) slide: u64,
    parents: Vec<Arc<dyn AnyNode>>,
    compute: Compute<T>,
    tick: Option<Tick>,
    settle: Option<Settle>,
    /// Where batches come in: they are made when they are due, asked for or not.
    input: bool,
    /// How much longer than itself its parents have to remember, in intervals.
    reach: u64,
    kept: Mutex<BTreeMap<u64, Option<Batch<T>>>>,
    remembers: AtomicU64,
    readers: AtomicUsize,
    persisted: AtomicBool,
    /// How batches are kept, if not as records in memory.
    keep: OnceLock<Keep<T>>,
    zero: AtomicU64,
    pub(crate) identity: Arc<Identity>,
    saved: Option<Arc<dyn Saved>>,
    /// What can be told how the records of this stream are written: its own state, or that of the operator behind it.
    coded: OnceLock<Arc<dyn Coded<T>>>,
}

impl<T: Data> Node<T> {
    pub(crate) fn new(
        label: Label,
        slide: u64,
        parents: Vec<Arc<dyn AnyNode>>,
        compute: impl Fn(u64) -> Result<Option<Batch<T>>> + Send + Sync + 'static,
    ) -> Self {
        Node {
            identity: Identity::new(label.clone()),
            saved: None,
            coded: OnceLock::new(),
            label,
            slide,
            parents,
            compute: Box::new(compute),
            tick: None,
            settle: None,
            input: false,
            reach: 0,
            kept: Mutex::default(),
            remembers: AtomicU64::new(0),
            readers: AtomicUsize::new(0),
            persisted: AtomicBool::new(false),
            keep: OnceLock::new(),
            // Before the start there are no batches.
            zero: AtomicU64::new(u64::MAX),
        }
    }

    pub(crate) fn input(mut self) -> Self {
        self.input = true;
        self
    }

    pub(crate) fn reach(mut self, batches: u64) -> Self {
        self.reach = batches;
        self
    }

    pub(crate) fn on_tick(mut self, tick: impl Fn(u64) -> Result<()> + Send + Sync + 'static) -> Self {
        self.tick = Some(Box::new(tick));
        self
    }

    pub(crate) fn on_settle(mut self, settle: impl Fn(u64) -> Option<Job> + Send + Sync + 'static) -> Self {
        self.settle = Some(Box::new(settle));
        self
    }

    /// With a state.
    pub(crate) fn saved(mut self, saved: Arc<dyn Saved>) -> Self {
        self.saved = Some(saved);
        self
    }

    /// A state, its own or that of an operator behind it, has rows that are written as the records are.
    pub(crate) fn codes(&self, coded: Arc<dyn Coded<T>>) {
        let _ = self.coded.set(coded);
    }

    pub(crate) fn coded(&self) -> Option<&Arc<dyn Coded<T>>> {
        self.coded.get()
    }

    /// Somebody will ask for each batch.
    pub(crate) fn read(&self) {
        self.readers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn persist(&self) {
        self.persisted.store(true, Ordering::Relaxed);
    }

    /// Keeps batches as `keep` does; the first one counts.
    pub(crate) fn persist_as(&self, keep: impl Fn(Batch<T>) -> Batch<T> + Send + Sync + 'static) {
        let _ = self.keep.set(Box::new(keep));
        self.persist();
    }

    pub(crate) fn unpersist(&self) {
        self.persisted.store(false, Ordering::Relaxed);
    }

    /// How many intervals a batch is kept for after it was made.
    pub(crate) fn remembers(&self) -> u64 {
        self.remembers.load(Ordering::Relaxed).max(self.slide)
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.zero.load(Ordering::Relaxed) != u64::MAX
    }

    /// Whether the batch is still there.
    pub(crate) fn holds(&self, k: u64) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&k)
    }

    /// Whether there is a batch at `k`.
    pub(crate) fn is_due(&self, k: u64) -> bool {
        self.ends_slide(k, self.slide)
    }

    /// Whether batch `k` ends a stretch of `slide` intervals.
    pub(crate) fn ends_slide(&self, k: u64, slide: u64) -> bool {
        let zero = self.zero.load(Ordering::Relaxed);
        k > zero && (k - zero).is_multiple_of(slide)
    }

    /// Whether batches go to one reader and need not be kept.
    fn is_handed_over(&self) -> bool {
        self.readers.load(Ordering::Relaxed) <= 1
            && self.remembers.load(Ordering::Relaxed) == 0
            && !self.persisted.load(Ordering::Relaxed)
    }

    /// Batch `k`; none if there is none at this time, or nothing came in.
    pub(crate) fn get(&self, k: u64) -> Result<Option<Batch<T>>> {
        if !self.is_due(k) {
            return Ok(None);
        }
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if self.is_handed_over() {
                if let Some(batch) = kept.remove(&k) {
                    return Ok(batch);
                }
            } else if let Some(batch) = kept.get(&k) {
                return Ok(batch.clone());
            }
        }
        if self.input { Ok(None) } else { self.make(k, !self.is_handed_over()) }
    }

    /// Gives it a batch that was made in another life.
    pub(crate) fn put(&self, k: u64, batch: Batch<T>) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(k, Some(batch));
    }

    fn make(&self, k: u64, keep: bool) -> Result<Option<Batch<T>>> {
        let mut batch = (self.compute)(k)?;
        if self.persisted.load(Ordering::Relaxed) {
            batch = batch.map(|batch| match self.keep.get() {
                Some(keep) => keep(batch),
                None => batch.cache(),
            });
        }
        if keep {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(k, batch.clone());
        }
        Ok(batch)
    }
}

impl<T: Data> AnyNode for Node<T> {
    fn parents(&self) -> &[Arc<dyn AnyNode>] {
        &self.parents
    }

    fn remember(&self, batches: u64) {
        self.remembers.fetch_max(batches, Ordering::Relaxed);
        // A batch that is persisted never needs its parents again.
        if !self.persisted.load(Ordering::Relaxed) {
            let own = self.remembers.load(Ordering::Relaxed);
            self.parents.iter().for_each(|parent| parent.remember(own + self.reach));
        }
    }

    fn begin(&self, zero: u64) {
        self.zero.store(zero, Ordering::Relaxed);
    }

    fn tick(&self, k: u64) -> Result<()> {
        if self.input && self.is_due(k) {
            // A reader takes it, or nobody does and it is forgotten.
            self.make(k, true)?;
        }
        self.tick.as_ref().map_or(Ok(()), |tick| tick(k))
    }

    fn settle(&self, k: u64) -> Option<Job> {
        self.settle.as_ref().and_then(|settle| settle(k))
    }

    fn saved(&self) -> Option<&Arc<dyn Saved>> {
        self.saved.as_ref()
    }

    fn forget(&self, k: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.is_empty() {
            let until = k.saturating_sub(self.remembers());
            while kept.first_key_value().is_some_and(|(first, _)| *first <= until) {
                kept.pop_first();
            }
        }
    }
}

/// What a batch is made for.
pub(crate) struct Output {
    pub(crate) node: Arc<dyn AnyNode>,
    pub(crate) job: Box<dyn Fn(u64) -> Result<Option<Job>> + Send + Sync>,
}

/// The outputs, and once started all nodes they need, parents first.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) outputs: Vec<Output>,
    /// Inputs run even where no output needs them.
    pub(crate) inputs: Vec<Arc<dyn AnyNode>>,
    nodes: Vec<Arc<dyn AnyNode>>,
}

impl Graph {
    /// The first batch will be `zero + 1`; every batch is remembered for `remember` intervals at least.
    pub(crate) fn begin(&mut self, zero: u64, remember: u64) {
        let ends: Vec<_> = self.inputs.iter().chain(self.outputs.iter().map(|output| &output.node)).cloned().collect();
        for end in ends {
            end.remember(remember);
            self.visit(end);
        }
        self.nodes.iter().for_each(|node| node.begin(zero));
    }

    /// Adds a node after its parents. Graphs are as deep as a program chains calls, so recursion is no danger.
    fn visit(&mut self, node: Arc<dyn AnyNode>) {
        if self.nodes.iter().any(|known| Arc::ptr_eq(known, &node)) {
            return;
        }
        for parent in node.parents() {
            self.visit(parent.clone());
        }
        self.nodes.push(node);
    }

    /// The jobs of batch `k`, in order.
    pub(crate) fn generate(&self, k: u64) -> Result<Vec<Job>> {
        self.nodes.iter().try_for_each(|node| node.tick(k))?;
        let mut jobs = Vec::with_capacity(self.outputs.len());
        for output in &self.outputs {
            jobs.extend((output.job)(k)?);
        }
        jobs.extend(self.nodes.iter().filter_map(|node| node.settle(k)));
        Ok(jobs)
    }

    /// Batches up to `k` are done.
    pub(crate) fn forget(&self, k: u64) {
        self.nodes.iter().for_each(|node| node.forget(k));
    }

    /// The states, in the order of the graph.
    pub(crate) fn saved(&self) -> Vec<Arc<dyn Saved>> {
        self.nodes.iter().filter_map(|node| node.saved().cloned()).collect()
    }

    /// Lets go of everything, for a context that has stopped.
    pub(crate) fn clear(&mut self) {
        *self = Graph::default();
    }
}
