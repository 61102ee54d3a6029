//! A batch: the records of one interval, or any other dataset, partitioned and evaluated when something asks for them.
//!
//! Operators build a plan, actions ([`collect`](Batch::collect), [`count`](Batch::count), ...) run it. Both take the
//! batch itself: cloning one is cheap (a handle), and records of a batch that is held once are moved, not cloned.
//!
//! Narrow operators are fused (see [`super::part`]): a record goes from its source through all of them, into the table,
//! file or vector at the end, before the next one starts. What is brought together by key, sorted or
//! [cached](Batch::cache) is complete, in memory or on disk, before what follows begins.

use super::codec::Coder;
use super::exec::{Exec, Label, Pace, blame};
use super::keyed::{Fold, Keyed, Partitioner};
use super::part::{
    BoxPart, Dataset, Evaluated, Made, Piped, Records, Rows, Sink, Staged, Union, each, part_of, weight,
};
use super::runs::Order;
use super::{Data, Key};
use crate::{Error, Result};
use std::sync::Arc;

/// See the module.
pub struct Batch<T> {
    pub(crate) set: Arc<dyn Dataset<T>>,
    pub(crate) exec: Arc<Exec>,
    /// How records go to disk, if they may.
    pub(crate) coder: Option<Coder<T>>,
}

impl<T> Clone for Batch<T> {
    fn clone(&self) -> Self {
        Batch { set: self.set.clone(), exec: self.exec.clone(), coder: self.coder.clone() }
    }
}

impl<T> std::fmt::Debug for Batch<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("partitions", &self.set.partitions()).finish_non_exhaustive()
    }
}

/// Sources.
impl<T: Data> Batch<T> {
    /// `records` cut into neighbouring partitions of equal length.
    pub(crate) fn of(exec: &Arc<Exec>, records: Vec<T>, partitions: usize) -> Self {
        let set = Records { records: Arc::new(records), partitions: partitions.max(1) };
        Batch { set: Arc::new(set), exec: exec.clone(), coder: None }
    }

    /// No records in no partition.
    pub(crate) fn empty(exec: &Arc<Exec>) -> Self {
        Batch { set: Arc::new(Union(Vec::new())), exec: exec.clone(), coder: None }
    }

    /// `partitions` partitions pushed by `make`.
    pub(crate) fn made(
        exec: &Arc<Exec>,
        partitions: usize,
        make: impl Fn(usize, Sink<'_, T>) -> Result<bool> + Send + Sync + 'static,
    ) -> Self {
        Batch { set: Arc::new(Made { partitions, make: Arc::new(make) }), exec: exec.clone(), coder: None }
    }

    /// What `evaluate` gives: that many partitions.
    pub(crate) fn staged<R: Into<Evaluated<T>>>(
        exec: &Arc<Exec>,
        partitions: usize,
        evaluate: impl FnOnce() -> Result<R> + Send + 'static,
    ) -> Self {
        Batch { set: Staged::dataset(partitions, evaluate), exec: exec.clone(), coder: None }
    }
}

/// Operators.
impl<T: Data> Batch<T> {
    /// How many partitions there are.
    pub fn partitions(&self) -> usize {
        self.set.partitions()
    }

    /// Runs the stages before, gives the partitions.
    pub(crate) fn stage(self) -> Result<(Arc<Exec>, Vec<BoxPart<T>>)> {
        Ok((self.exec, self.set.stage()?))
    }

    /// The narrow operator that runs each partition through `pipe`.
    pub(crate) fn piped<U: Data, R>(self, pipe: &Arc<R>) -> Batch<U>
    where
        R: Fn(usize, BoxPart<T>, Sink<'_, U>) -> Result<bool> + Send + Sync + 'static,
    {
        Batch { set: Arc::new(Piped { parent: self.set, pipe: pipe.clone() }), exec: self.exec, coder: None }
    }

    /// `f` of each record.
    pub fn map<U: Data>(self, f: impl Fn(T) -> U + Send + Sync + 'static) -> Batch<U> {
        self.piped(&map_pipe("map".into(), f))
    }

    /// Each of what `f` gives for each record.
    pub fn flat_map<U: Data, I: IntoIterator<Item = U>>(self, f: impl Fn(T) -> I + Send + Sync + 'static) -> Batch<U> {
        self.piped(&flat_map_pipe("flat_map".into(), f))
    }

    /// The records of which `f` is true.
    pub fn filter(self, f: impl Fn(&T) -> bool + Send + Sync + 'static) -> Batch<T> {
        self.piped(&filter_pipe("filter".into(), f))
    }

    /// What `f` makes of each partition's records.
    pub fn map_partitions<U: Data, I: IntoIterator<Item = U>>(
        self,
        f: impl Fn(std::vec::IntoIter<T>) -> I + Send + Sync + 'static,
    ) -> Batch<U> {
        self.piped(&map_partitions_pipe("map_partitions".into(), f))
    }

    /// One vector per partition.
    pub fn glom(self) -> Batch<Vec<T>> {
        self.map_partitions(|records| [records.collect()])
    }

    /// The records of both, those of `other` in further partitions.
    pub fn union(self, other: Batch<T>) -> Batch<T> {
        Batch { set: Arc::new(Union(vec![self.set, other.set])), exec: self.exec, coder: self.coder.or(other.coder) }
    }

    /// The records of all `batches`.
    pub(crate) fn union_all(exec: &Arc<Exec>, batches: impl IntoIterator<Item = Batch<T>>) -> Batch<T> {
        let mut coder = None;
        let join = |batch: Batch<T>| {
            coder = coder.take().or(batch.coder);
            batch.set
        };
        let set = Arc::new(Union(batches.into_iter().map(join).collect()));
        Batch { set, exec: exec.clone(), coder }
    }

    /// The same records dealt out evenly to `partitions` partitions (at least one).
    pub fn repartition(self, partitions: usize) -> Batch<T> {
        let (exec, n) = (self.exec.clone(), partitions.max(1));
        let order = Order { key: |_| &(), cut: |len, n, i| (len.div_ceil(n) * i).min(len) };
        Batch::staged(&exec, n, move || order.apply(self, n))
    }

    /// Each different record once.
    pub fn distinct(self) -> Batch<T>
    where
        T: Key,
    {
        self.map(|record| (record, ())).reduce_by_key(|(), ()| ()).map(|row| row.0)
    }

    /// How often each record occurs.
    pub fn count_by_value(self) -> Batch<(T, u64)>
    where
        T: Key,
    {
        self.map(|record| (record, 1)).reduce_by_key(|a, b| a + b)
    }

    /// A batch of one record: how many there are.
    pub(crate) fn counted(self, pace: Arc<Pace>) -> Batch<u64> {
        let exec = self.exec.clone();
        Batch::staged(&exec, 1, move || Ok(vec![vec![self.count_at(&pace)?]]))
    }

    /// A batch of one record, the reduction of all; of none if there is none.
    pub(crate) fn reduced(
        self,
        label: Label,
        pace: Arc<Pace>,
        f: Arc<impl Fn(&T, &T) -> T + Send + Sync + 'static>,
    ) -> Batch<T> {
        let exec = self.exec.clone();
        Batch::staged(&exec, 1, move || Ok(vec![self.reduce_at(&label, &pace, &*f)?.into_iter().collect()]))
    }
}

/// Actions.
impl<T: Data> Batch<T> {
    /// Runs every partition through `f`, in parallel; results by partition.
    pub(crate) fn run<R: Send>(self, pace: &Pace, f: impl Fn(usize, BoxPart<T>) -> Result<R> + Sync) -> Result<Vec<R>> {
        let (exec, parts) = self.stage()?;
        let records = weight(&parts);
        exec.paced(parts, records, pace, f)
    }

    /// All records, partition after partition.
    ///
    /// # Errors
    /// As for every action: what a source or a closure met, with the name of the operator.
    pub fn collect(self) -> Result<Vec<T>> {
        let parts = self.collect_partitions()?;
        let len = parts.iter().map(Vec::len).sum::<usize>();
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_default();
        all.reserve_exact(len - all.len());
        parts.for_each(|part| all.extend(part));
        Ok(all)
    }

    /// The records of each partition.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub fn collect_partitions(self) -> Result<Vec<Vec<T>>> {
        let (exec, parts) = self.stage()?;
        // What lies there already needs no worker.
        let sort = |mut part: BoxPart<T>| match part.take() {
            Some(Rows::Owned(records)) => Ok(records),
            Some(Rows::Shared(records, range)) => Err(part_of(records, range)),
            None => Err(part),
        };
        let parts: Vec<std::result::Result<Vec<T>, BoxPart<T>>> = parts.into_iter().map(sort).collect();
        let records = parts.iter().map(|part| part.as_ref().map_or_else(|part| part.weight(), |_| 0)).sum();
        exec.paced(parts, records, &Pace::default(), |_, part| part.or_else(collect_part))
    }

    /// How many records there are.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub fn count(self) -> Result<u64> {
        self.count_at(&Pace::default())
    }

    fn count_at(self, pace: &Pace) -> Result<u64> {
        let counts = self.run(pace, |_, part| {
            let mut count = 0;
            part.run(&mut |_| {
                count += 1;
                true
            })?;
            Ok(count)
        })?;
        Ok(counts.iter().sum())
    }

    /// Whether there are no records; looks at no more than one.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub fn is_empty(self) -> Result<bool> {
        Ok(self.take(1)?.is_empty())
    }

    /// The first `n` records; evaluates no more partitions, and no more of the last one, than that takes.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub fn take(self, n: usize) -> Result<Vec<T>> {
        let (exec, parts) = self.stage()?;
        let mut taken = Vec::new();
        for part in parts {
            if taken.len() >= n {
                break;
            }
            let more = n - taken.len();
            let some = exec.run(vec![part], true, |_, part| {
                let mut some = Vec::new();
                part.run(&mut |record| {
                    some.push(record);
                    some.len() < more
                })?;
                Ok(some)
            })?;
            taken.extend(some.into_iter().flatten());
        }
        Ok(taken)
    }

    /// The first record.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub fn first(self) -> Result<Option<T>> {
        Ok(self.take(1)?.pop())
    }

    /// The reduction of all records by an associative `f`, in order; none if there are none.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub fn reduce(self, f: impl Fn(&T, &T) -> T + Send + Sync) -> Result<Option<T>> {
        self.reduce_at(&"reduce".into(), &Pace::default(), &f)
    }

    fn reduce_at(self, label: &Label, pace: &Pace, f: &(impl Fn(&T, &T) -> T + Sync)) -> Result<Option<T>> {
        let join = |all: &mut Option<T>, record: T| match all {
            Some(all) => *all = blame(label, || f(all, &record)),
            None => *all = Some(record),
        };
        let parts = self.run(pace, |_, part| {
            let mut all = None;
            part.run(&mut |record| {
                join(&mut all, record);
                true
            })?;
            Ok(all)
        })?;
        let mut all = None;
        super::exec::guarded(|| {
            parts.into_iter().flatten().for_each(|part| join(&mut all, part));
            Ok(())
        })?;
        Ok(all)
    }

    /// Folds each partition from a clone of `zero`, then the partitions' results in order.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub fn aggregate<A: Clone + Send + Sync>(
        self,
        zero: A,
        fold: impl Fn(&mut A, T) + Send + Sync,
        merge: impl Fn(&mut A, A),
    ) -> Result<A> {
        let label: Label = "aggregate".into();
        let parts = self.run(&Pace::default(), |_, part| {
            let mut all = zero.clone();
            part.run(&mut |record| {
                blame(&label, || fold(&mut all, record));
                true
            })?;
            Ok(all)
        })?;
        let mut all = zero.clone();
        super::exec::guarded(|| {
            parts.into_iter().for_each(|part| blame(&label, || merge(&mut all, part)));
            Ok(())
        })?;
        Ok(all)
    }

    /// Calls `f` with each record, on several threads.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub fn for_each(self, f: impl Fn(T) + Send + Sync) -> Result<()> {
        let label: Label = "for_each".into();
        self.run(&Pace::default(), |_, part| {
            part.run(&mut |record| {
                blame(&label, || f(record));
                true
            })
        })?;
        Ok(())
    }

    /// Calls `f` with the number and the records of each partition, on several threads.
    ///
    /// # Errors
    /// As [`collect`](Self::collect), and what `f` returns.
    pub fn for_each_partition(self, f: impl Fn(usize, Vec<T>) -> Result<()> + Send + Sync) -> Result<()> {
        let label: Label = "for_each_partition".into();
        self.run(&Pace::default(), |i, part| {
            let records = collect_part(part)?;
            blame(&label, || f(i, records))
        })?;
        Ok(())
    }
}

/// Operators on pairs.
impl<K: Key, V: Data> Batch<(K, V)> {
    pub(crate) fn combined<C: Data>(
        self,
        keyed: Arc<Keyed<K>>,
        how: Arc<
            Fold<
                impl Fn(V) -> C + Send + Sync + 'static,
                impl Fn(&mut C, V) + Send + Sync + 'static,
                impl Fn(&mut C, C) + Send + Sync + 'static,
            >,
        >,
    ) -> Batch<(K, C)> {
        let exec = self.exec.clone();
        Batch::staged(&exec, keyed.by.partitions(), move || keyed.combine(self, &how))
    }

    fn keyed(&self, name: &str) -> Arc<Keyed<K>> {
        Keyed::new(&name.into(), Partitioner::hash(self.exec.partitions))
    }

    /// Each key once, its values reduced by an associative `f`, in order.
    pub fn reduce_by_key(self, f: impl Fn(&V, &V) -> V + Send + Sync + 'static) -> Batch<(K, V)> {
        let keyed = self.keyed("reduce_by_key");
        let how = reducing(keyed.label.clone(), Arc::new(f));
        self.combined(keyed, how)
    }

    /// Each key once, with all its values, in order.
    pub fn group_by_key(self) -> Batch<(K, Vec<V>)> {
        let keyed = self.keyed("group_by_key");
        self.combined(keyed, grouping())
    }

    /// Each key once: its first value made a `C`, the others folded in, the partial results merged in order.
    pub fn combine_by_key<C: Data>(
        self,
        create: impl Fn(V) -> C + Send + Sync + 'static,
        fold: impl Fn(&mut C, V) + Send + Sync + 'static,
        merge: impl Fn(&mut C, C) + Send + Sync + 'static,
    ) -> Batch<(K, C)> {
        let keyed = self.keyed("combine_by_key");
        let how = combining(keyed.label.clone(), create, fold, merge);
        self.combined(keyed, how)
    }

    /// `f` of each value, under the same key.
    pub fn map_values<W: Data>(self, f: impl Fn(V) -> W + Send + Sync + 'static) -> Batch<(K, W)> {
        self.piped(&map_pipe("map_values".into(), move |(key, value)| (key, f(value))))
    }

    /// Each of what `f` gives for each value, under the same key.
    pub fn flat_map_values<W: Data, I: IntoIterator<Item = W>>(
        self,
        f: impl Fn(V) -> I + Send + Sync + 'static,
    ) -> Batch<(K, W)> {
        self.piped(&flat_map_values_pipe("flat_map_values".into(), f))
    }

    /// The rows in the order of their keys; rows of one key stay in their order.
    pub fn sort_by_key(self) -> Batch<(K, V)>
    where
        K: Ord,
    {
        let (exec, n) = (self.exec.clone(), self.exec.partitions);
        let order = Order { key: |row: &(K, V)| &row.0, cut: |len, n, i| len * i / n };
        Batch::staged(&exec, n, move || order.apply(self, n))
    }
}

pub(crate) fn collect_part<T: Data>(mut part: BoxPart<T>) -> Result<Vec<T>> {
    match part.take() {
        Some(Rows::Owned(records)) => return Ok(records),
        Some(Rows::Shared(records, range)) => return Ok(records[range].to_vec()),
        None => {}
    }
    let mut records = Vec::with_capacity(part.weight().min(1 << 16));
    part.run(&mut |record| {
        records.push(record);
        true
    })?;
    Ok(records)
}

macro_rules! pipe {
    ($t:ty => $u:ty) => { Arc<impl Fn(usize, BoxPart<$t>, Sink<'_, $u>) -> Result<bool> + Send + Sync + 'static> };
}

pub(crate) fn map_pipe<T: Data, U: Data>(label: Label, f: impl Fn(T) -> U + Send + Sync + 'static) -> pipe!(T => U) {
    Arc::new(move |_: usize, part: BoxPart<T>, sink: Sink<'_, U>| {
        each(part, |record| sink(blame(&label, || f(record))))
    })
}

pub(crate) fn filter_pipe<T: Data>(label: Label, f: impl Fn(&T) -> bool + Send + Sync + 'static) -> pipe!(T => T) {
    Arc::new(move |_: usize, part: BoxPart<T>, sink: Sink<'_, T>| {
        each(part, |record| if blame(&label, || f(&record)) { sink(record) } else { true })
    })
}

pub(crate) fn flat_map_pipe<T: Data, U: Data, I: IntoIterator<Item = U>>(
    label: Label,
    f: impl Fn(T) -> I + Send + Sync + 'static,
) -> pipe!(T => U) {
    Arc::new(move |_: usize, part: BoxPart<T>, sink: Sink<'_, U>| {
        each(part, |record| blame(&label, || f(record).into_iter().all(&mut *sink)))
    })
}

pub(crate) fn flat_map_values_pipe<K: Data, V: Data, W: Data, I: IntoIterator<Item = W>>(
    label: Label,
    f: impl Fn(V) -> I + Send + Sync + 'static,
) -> pipe!((K, V) => (K, W)) {
    Arc::new(move |_: usize, part: BoxPart<(K, V)>, sink: Sink<'_, (K, W)>| {
        each(part, |(key, value)| blame(&label, || f(value).into_iter().all(|value| sink((key.clone(), value)))))
    })
}

pub(crate) fn map_partitions_pipe<T: Data, U: Data, I: IntoIterator<Item = U>>(
    label: Label,
    f: impl Fn(std::vec::IntoIter<T>) -> I + Send + Sync + 'static,
) -> pipe!(T => U) {
    Arc::new(move |_: usize, part: BoxPart<T>, sink: Sink<'_, U>| {
        let records = collect_part(part)?;
        Ok(blame(&label, || f(records.into_iter()).into_iter().all(&mut *sink)))
    })
}

macro_rules! fold {
    ($v:ty => $c:ty) => {
        Arc<
            Fold<
                impl Fn($v) -> $c + Send + Sync + 'static,
                impl Fn(&mut $c, $v) + Send + Sync + 'static,
                impl Fn(&mut $c, $c) + Send + Sync + 'static,
            >,
        >
    };
}

pub(crate) fn reducing<V: Data>(label: Label, f: Arc<impl Fn(&V, &V) -> V + Send + Sync + 'static>) -> fold!(V => V) {
    let (fold, merge) = ((label.clone(), f.clone()), (label, f));
    Arc::new(Fold {
        create: |value| value,
        fold: move |all: &mut V, value| *all = blame(&fold.0, || (fold.1)(all, &value)),
        merge: move |all: &mut V, more| *all = blame(&merge.0, || (merge.1)(all, &more)),
    })
}

pub(crate) fn grouping<V: Data>() -> fold!(V => Vec<V>) {
    Arc::new(Fold {
        create: |value| vec![value],
        fold: |all: &mut Vec<V>, value| all.push(value),
        merge: |all: &mut Vec<V>, more: Vec<V>| all.extend(more),
    })
}

pub(crate) fn combining<V: Data, C: Data>(
    label: Label,
    create: impl Fn(V) -> C + Send + Sync + 'static,
    fold: impl Fn(&mut C, V) + Send + Sync + 'static,
    merge: impl Fn(&mut C, C) + Send + Sync + 'static,
) -> fold!(V => C) {
    let (a, b, c) = (label.clone(), label.clone(), label);
    Arc::new(Fold {
        create: move |value| blame(&a, || create(value)),
        fold: move |all: &mut C, value| blame(&b, || fold(all, value)),
        merge: move |all: &mut C, more| blame(&c, || merge(all, more)),
    })
}

/// Why a batch has no dataset to work on.
pub(crate) fn absent(label: &Label) -> Error {
    Error::data(format!("{label} has no dataset to work on: its parent gave none in this batch"))
}
