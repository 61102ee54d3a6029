//! Reducing by keys that are parts of records: words of lines, fields of text.
//!
//! A key is looked up where it stands in its record and becomes a value of its own only when it is new, so that a word
//! that occurs a million times is allocated once for each task. Cost: one probe and one indirect call for each key.

use super::batch::reducing;
use super::exec::blame;
use super::keyed::{Fold, Keyed, Mapped, Partitioner, Table, hash_of};
use super::part::{each, weight};
use super::{Batch, DStream, Data, Key};
use crate::Result;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

/// Takes the keys of a record and their values.
pub type Emit<'a, Q, V> = &'a mut dyn FnMut(&Q, V);

impl<K: Key> Keyed<K> {
    fn combine_borrowed<T, Q, V, A, B, M>(
        &self,
        batch: Batch<T>,
        split: &(impl Fn(&T, Emit<'_, Q, V>) + Sync),
        how: &Fold<A, B, M>,
    ) -> Result<Vec<Vec<(K, V)>>>
    where
        T: Data,
        K: Borrow<Q>,
        Q: ToOwned<Owned = K> + Hash + Eq + ?Sized,
        V: Data,
        A: Fn(V) -> V + Sync,
        B: Fn(&mut V, V) + Sync,
        M: Fn(&mut V, V) + Sync,
    {
        let (exec, parts) = batch.stage()?;
        let n = self.by.partitions();
        let records = weight(&parts);
        let mapped = exec.paced(parts, records, &self.pace, |_, part| {
            let mut tables: Vec<Table<K, V>> = (0..n).map(|_| Table::with_capacity(0)).collect();
            each(part, |record| {
                blame(&self.label, || {
                    split(&record, &mut |key, value| {
                        let hash = hash_of(key);
                        tables[super::keyed::part_of(hash, n)].upsert_borrowed(
                            hash,
                            key,
                            value,
                            &how.create,
                            &how.fold,
                        );
                    });
                });
                true
            })?;
            Ok(Mapped { tables, subs: Vec::new() })
        })?;
        self.merge(&exec, mapped, n, how)
    }
}

impl<T: Data> Batch<T> {
    /// Each key that `split` finds in a record once, its values reduced by an associative `f`, in order.
    ///
    /// ```
    /// use windrow::stream::StreamingContext;
    /// let ctx = StreamingContext::builder().build()?;
    /// let lines = ctx.batch_from(["to be or not", "to be"].map(String::from));
    /// let words = lines.reduce_by_borrowed_key(
    ///     |line: &String, emit| line.split(' ').for_each(|word| emit(word, 1)),
    ///     |a, b| a + b,
    /// );
    /// let mut rows: Vec<(String, u64)> = words.collect()?;
    /// rows.sort();
    /// assert_eq!(rows[0], ("be".to_owned(), 2));
    /// # Ok::<(), windrow::Error>(())
    /// ```
    pub fn reduce_by_borrowed_key<Q, V: Data>(
        self,
        split: impl Fn(&T, Emit<'_, Q, V>) + Send + Sync + 'static,
        f: impl Fn(&V, &V) -> V + Send + Sync + 'static,
    ) -> Batch<(Q::Owned, V)>
    where
        Q: ToOwned + Hash + Eq + ?Sized,
        Q::Owned: Key,
    {
        let keyed = Keyed::new(&"reduce_by_borrowed_key".into(), Partitioner::hash(self.exec.partitions));
        let how = reducing(keyed.label.clone(), Arc::new(f));
        let exec = self.exec.clone();
        Batch::staged(&exec, keyed.by.partitions(), move || keyed.combine_borrowed(self, &split, &how))
    }
}

impl<T: Data> DStream<T> {
    /// Each key that `split` finds in a record of a batch once, its values reduced by an associative `f`, in order. What
    /// [`flat_map`](Self::flat_map) and [`reduce_by_key`](DStream::reduce_by_key) do, without a copy of each key.
    pub fn reduce_by_borrowed_key<Q, V: Data>(
        &self,
        split: impl Fn(&T, Emit<'_, Q, V>) + Send + Sync + 'static,
        f: impl Fn(&V, &V) -> V + Send + Sync + 'static,
    ) -> DStream<(Q::Owned, V)>
    where
        Q: ToOwned + Hash + Eq + ?Sized + 'static,
        Q::Owned: Key,
    {
        self.each("reduce_by_borrowed_key", |label, exec| {
            let keyed = Keyed::new(label, Partitioner::hash(exec.partitions));
            let (how, split) = (reducing(label.clone(), Arc::new(f)), Arc::new(split));
            Box::new(move |batch| {
                let (exec, keyed, how, split) = (batch.exec.clone(), keyed.clone(), how.clone(), split.clone());
                let partitions = keyed.by.partitions();
                Batch::staged(&exec, partitions, move || keyed.combine_borrowed(batch, &*split, &how))
            })
        })
    }
}
