//! Datasets and their partitions: what a [`Batch`](super::Batch) is made of.
//!
//! A dataset is a plan. [`stage`](Dataset::stage) runs whatever has to be complete before its partitions can run (the
//! shuffles above it), on a thread that is not a worker, and gives the partitions; a [`Part`] pushes its records, one
//! after the other and through all the narrow operators in between, into the sink at the end of the chain. Nothing is
//! collected on the way.
//!
//! Ownership decides whether records are copied: a dataset that nobody else holds gives its records away, one that is
//! shared clones them. So a stream with one consumer moves each record from source to sink.
//!
//! Cost: one indirect call per record and narrow operator, none for records that lie in a vector ([`each`]); one allocation
//! per operator and partition.

use super::Data;
use super::exec::guarded;
use crate::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Takes a record; says whether more are wanted.
pub(crate) type Sink<'a, T> = &'a mut dyn FnMut(T) -> bool;

/// The records of one partition, ready to be pushed.
pub(crate) trait Part<T>: Send {
    /// About how many records come from the source.
    fn weight(&self) -> usize;

    /// Pushes every record until `sink` has enough; says whether it wants more.
    fn run(self: Box<Self>, sink: Sink<'_, T>) -> Result<bool>;

    /// The records where they lie in a vector and need not be pushed; the part is empty afterwards.
    fn take(&mut self) -> Option<Rows<T>> {
        None
    }
}

pub(crate) type BoxPart<T> = Box<dyn Part<T>>;

/// Records in a vector.
pub(crate) enum Rows<T> {
    /// To be given away.
    Owned(Vec<T>),
    /// That somebody else holds too.
    Shared(Arc<Vec<T>>, Range<usize>),
}

/// Calls `f` with every record until it has enough; says whether it wants more. As [`Part::run`], without an indirect
/// call per record where the records lie in a vector.
#[inline]
pub(crate) fn each<T: Clone>(mut part: BoxPart<T>, mut f: impl FnMut(T) -> bool) -> Result<bool> {
    match part.take() {
        Some(Rows::Owned(records)) => Ok(records.into_iter().all(f)),
        Some(Rows::Shared(records, range)) => Ok(records[range].iter().all(|record| f(record.clone()))),
        None => part.run(&mut f),
    }
}

/// A partitioned dataset that is evaluated when its partitions run.
pub(crate) trait Dataset<T>: Send + Sync {
    /// How many partitions it has.
    fn partitions(&self) -> usize;

    /// Runs the stages before this one and gives the partitions.
    fn stage(self: Arc<Self>) -> Result<Vec<BoxPart<T>>>;

    /// Whether it can be staged again without having kept its records for that.
    fn repeats(&self) -> bool {
        true
    }

    /// Whether staging it runs nothing, so that a worker may do it.
    fn is_plain(&self) -> bool {
        false
    }

    /// Lets go of what is kept, if it is.
    fn unpersist(&self) {}
}

/// Records that are given away.
struct Owned<T>(Vec<T>);

impl<T: Send + 'static> Part<T> for Owned<T> {
    fn weight(&self) -> usize {
        self.0.len()
    }

    fn run(self: Box<Self>, sink: Sink<'_, T>) -> Result<bool> {
        Ok(self.0.into_iter().all(sink))
    }

    fn take(&mut self) -> Option<Rows<T>> {
        Some(Rows::Owned(std::mem::take(&mut self.0)))
    }
}

/// Records that somebody else holds too.
struct Shared<T>(Arc<Vec<T>>, Range<usize>);

impl<T: Data> Part<T> for Shared<T> {
    fn weight(&self) -> usize {
        self.1.len()
    }

    fn run(self: Box<Self>, sink: Sink<'_, T>) -> Result<bool> {
        Ok(self.0[self.1.clone()].iter().all(|record| sink(record.clone())))
    }

    fn take(&mut self) -> Option<Rows<T>> {
        Some(Rows::Shared(self.0.clone(), self.1.clone()))
    }
}

/// All records of a vector that others may hold too.
pub(crate) fn shared<T: Data>(records: Arc<Vec<T>>) -> BoxPart<T> {
    let all = 0..records.len();
    part_of(records, all)
}

/// Some of them.
pub(crate) fn part_of<T: Data>(records: Arc<Vec<T>>, range: Range<usize>) -> BoxPart<T> {
    Box::new(Shared(records, range))
}

pub(crate) fn owned<T: Send + 'static>(records: Vec<T>) -> BoxPart<T> {
    Box::new(Owned(records))
}

/// A vector of records, cut into neighbouring partitions of (nearly) equal length.
#[derive(Clone)]
pub(crate) struct Records<T> {
    pub(crate) records: Arc<Vec<T>>,
    pub(crate) partitions: usize,
}

impl<T: Data> Dataset<T> for Records<T> {
    fn partitions(&self) -> usize {
        self.partitions
    }

    fn is_plain(&self) -> bool {
        true
    }

    fn stage(self: Arc<Self>) -> Result<Vec<BoxPart<T>>> {
        let Records { records, partitions } = Arc::unwrap_or_clone(self);
        let (len, n) = (records.len(), partitions);
        let shared = |records: Arc<Vec<T>>| {
            (0..n).map(|i| Box::new(Shared(records.clone(), len * i / n..len * (i + 1) / n)) as BoxPart<T>).collect()
        };
        // Records without anything to drop are as well copied where they stand.
        if !std::mem::needs_drop::<T>() {
            return Ok(shared(records));
        }
        match Arc::try_unwrap(records) {
            Ok(mut records) => {
                let mut parts: Vec<_> = (0..n).rev().map(|i| owned(records.split_off(len * i / n))).collect();
                parts.reverse();
                Ok(parts)
            }
            Err(records) => Ok(shared(records)),
        }
    }
}

/// A narrow operator: each partition of the parent, piped.
pub(crate) struct Piped<T, R> {
    pub(crate) parent: Arc<dyn Dataset<T>>,
    /// Runs a partition of the parent (its number is given) into the sink.
    pub(crate) pipe: Arc<R>,
}

struct PipedPart<T, R> {
    parent: BoxPart<T>,
    index: usize,
    pipe: Arc<R>,
}

impl<T, U, R> Dataset<U> for Piped<T, R>
where
    T: 'static,
    U: 'static,
    R: Fn(usize, BoxPart<T>, Sink<'_, U>) -> Result<bool> + Send + Sync + 'static,
{
    fn partitions(&self) -> usize {
        self.parent.partitions()
    }

    fn repeats(&self) -> bool {
        self.parent.repeats()
    }

    fn is_plain(&self) -> bool {
        self.parent.is_plain()
    }

    fn stage(self: Arc<Self>) -> Result<Vec<BoxPart<U>>> {
        let (parent, pipe) = match Arc::try_unwrap(self) {
            Ok(this) => (this.parent, this.pipe),
            Err(this) => (this.parent.clone(), this.pipe.clone()),
        };
        let piped = |(index, parent)| Box::new(PipedPart { parent, index, pipe: pipe.clone() }) as BoxPart<U>;
        Ok(parent.stage()?.into_iter().enumerate().map(piped).collect())
    }
}

impl<T, U, R> Part<U> for PipedPart<T, R>
where
    T: 'static,
    R: Fn(usize, BoxPart<T>, Sink<'_, U>) -> Result<bool> + Send + Sync + 'static,
{
    fn weight(&self) -> usize {
        self.parent.weight()
    }

    fn run(self: Box<Self>, sink: Sink<'_, U>) -> Result<bool> {
        (self.pipe)(self.index, self.parent, sink)
    }
}

/// The partitions of several datasets, one after the other.
pub(crate) struct Union<T>(pub(crate) Vec<Arc<dyn Dataset<T>>>);

impl<T: 'static> Dataset<T> for Union<T> {
    fn partitions(&self) -> usize {
        self.0.iter().map(|set| set.partitions()).sum()
    }

    fn repeats(&self) -> bool {
        self.0.iter().all(|set| set.repeats())
    }

    fn is_plain(&self) -> bool {
        self.0.iter().all(|set| set.is_plain())
    }

    fn stage(self: Arc<Self>) -> Result<Vec<BoxPart<T>>> {
        let sets = match Arc::try_unwrap(self) {
            Ok(this) => this.0,
            Err(this) => this.0.clone(),
        };
        let mut parts = Vec::new();
        for set in sets {
            parts.extend(set.stage()?);
        }
        Ok(parts)
    }
}

/// A dataset that has to be complete before its partitions can run: a shuffle, a state, something kept.
///
/// It is evaluated once, whoever asks and however often, and lets go of what it was made from.
pub(crate) struct Staged<T> {
    partitions: usize,
    state: Mutex<Stage<T>>,
}

type Evaluate<T> = Box<dyn FnOnce() -> Result<Evaluated<T>> + Send>;

/// What a stage has made.
pub(crate) enum Evaluated<T> {
    /// The records of each partition.
    Here(Vec<Vec<T>>),
    /// Partitions that read them from somewhere else.
    Elsewhere(Arc<dyn Dataset<T>>),
}

impl<T> From<Vec<Vec<T>>> for Evaluated<T> {
    fn from(parts: Vec<Vec<T>>) -> Self {
        Evaluated::Here(parts)
    }
}

enum Stage<T> {
    Waiting(Evaluate<T>),
    Done(Vec<Arc<Vec<T>>>),
    Elsewhere(Arc<dyn Dataset<T>>),
    Failed(ErrorKind, String),
}

impl<T: Data> Staged<T> {
    /// What `evaluate` gives: `partitions` partitions.
    pub(crate) fn dataset<R: Into<Evaluated<T>>>(
        partitions: usize,
        evaluate: impl FnOnce() -> Result<R> + Send + 'static,
    ) -> Arc<dyn Dataset<T>> {
        let evaluate = || evaluate().map(R::into);
        Arc::new(Staged { partitions, state: Mutex::new(Stage::Waiting(Box::new(evaluate))) })
    }
}

impl<T: Data> Dataset<T> for Staged<T> {
    fn partitions(&self) -> usize {
        self.partitions
    }

    fn repeats(&self) -> bool {
        false
    }

    fn stage(self: Arc<Self>) -> Result<Vec<BoxPart<T>>> {
        let all_shared = |done: &[Arc<Vec<T>>]| done.iter().cloned().map(shared).collect();
        let this = match Arc::try_unwrap(self) {
            Ok(only) => {
                return match only.state.into_inner().unwrap_or_else(PoisonError::into_inner) {
                    Stage::Waiting(evaluate) => match guarded(evaluate)? {
                        Evaluated::Here(parts) => Ok(parts.into_iter().map(owned).collect()),
                        Evaluated::Elsewhere(set) => set.stage(),
                    },
                    Stage::Elsewhere(set) => set.stage(),
                    Stage::Done(parts) => Ok(parts
                        .into_iter()
                        .map(|part| match Arc::try_unwrap(part) {
                            Ok(records) => owned(records),
                            Err(part) => shared(part),
                        })
                        .collect()),
                    Stage::Failed(kind, why) => Err(Error::new(kind, why)),
                };
            }
            Err(this) => this,
        };
        let mut state = this.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, Stage::Failed(ErrorKind::Data, String::new()));
        let (after, parts) = match before {
            Stage::Waiting(evaluate) => match guarded(evaluate) {
                Ok(Evaluated::Elsewhere(set)) => (Stage::Elsewhere(set.clone()), set.stage()),
                Ok(Evaluated::Here(parts)) => {
                    let done: Vec<_> = parts.into_iter().map(Arc::new).collect();
                    let parts = all_shared(&done);
                    (Stage::Done(done), Ok(parts))
                }
                Err(error) => (Stage::Failed(error.kind(), error.to_string()), Err(error)),
            },
            Stage::Done(done) => {
                let parts = all_shared(&done);
                (Stage::Done(done), Ok(parts))
            }
            Stage::Elsewhere(set) => (Stage::Elsewhere(set.clone()), set.stage()),
            Stage::Failed(kind, why) => (Stage::Failed(kind, why.clone()), Err(Error::new(kind, why))),
        };
        *state = after;
        parts
    }
}

/// Records that come from an iterator made anew for each partition and each run: files, generated data.
pub(crate) struct Made<F> {
    pub(crate) partitions: usize,
    pub(crate) make: Arc<F>,
}

struct MadePart<F> {
    index: usize,
    make: Arc<F>,
}

impl<T, F> Dataset<T> for Made<F>
where
    F: Fn(usize, Sink<'_, T>) -> Result<bool> + Send + Sync + 'static,
{
    fn partitions(&self) -> usize {
        self.partitions
    }

    fn is_plain(&self) -> bool {
        true
    }

    fn stage(self: Arc<Self>) -> Result<Vec<BoxPart<T>>> {
        Ok((0..self.partitions)
            .map(|index| Box::new(MadePart { index, make: self.make.clone() }) as BoxPart<T>)
            .collect())
    }
}

impl<T, F> Part<T> for MadePart<F>
where
    F: Fn(usize, Sink<'_, T>) -> Result<bool> + Send + Sync + 'static,
{
    fn weight(&self) -> usize {
        // Not known; enough for a partition to be worth a worker.
        UNKNOWN
    }

    fn run(self: Box<Self>, sink: Sink<'_, T>) -> Result<bool> {
        (self.make)(self.index, sink)
    }
}

/// The weight of a partition whose length is not known.
const UNKNOWN: usize = 1 << 16;

/// The weight of all of `parts`.
pub(crate) fn weight<T>(parts: &[BoxPart<T>]) -> usize {
    parts.iter().map(|part| part.weight()).sum()
}
