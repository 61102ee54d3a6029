//! Where batches go: to a closure, to the terminal, to text, object and Parquet files.
//!
//! An output is at-least-once: a batch that is run again is put out again. What is to be exactly-once must be able to
//! tell by the time of a batch that it has it already, as files do that are named by it. Where the context is saved they
//! are synced before their batch is done.

use super::batch::collect_part;
use super::clock::Time;
use super::codec::{Codec, Postcard};
use super::exec::{Label, blame};
use super::part::{BoxPart, Sink};
use super::{Batch, DStream, Data, StreamingContext};
use crate::store::disk::{Disk, OsDisk};
use crate::{Error, Result};
use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::{Debug, Display};
use std::fs::File;
use std::io::{BufRead, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

impl<T: Data> DStream<T> {
    /// Calls `f` with each batch and its time, in order.
    pub fn for_each_batch(&self, f: impl Fn(Batch<T>, Time) -> Result<()> + Send + Sync + 'static) {
        self.output("for_each_batch", move |batch, time, label| blame(label, || f(batch, time)));
    }

    /// Prints the time and the first `n` records of each batch to standard output.
    pub fn print(&self, n: usize)
    where
        T: Debug,
    {
        self.output("print", move |batch, time, _| {
            let first = batch.take(n.saturating_add(1))?;
            let mut text = format!("-------------------------------------------\nTime: {time}\n");
            text.push_str("-------------------------------------------\n");
            for record in first.iter().take(n) {
                text.push_str(&format!("{record:?}\n"));
            }
            if first.len() > n {
                text.push_str("...\n");
            }
            let mut out = std::io::stdout().lock();
            let done = writeln!(out, "{text}").and_then(|()| out.flush());
            done.map_err(|e| Error::output("the batch cannot be printed").because(e))
        });
    }

    /// Writes each batch, one record a line, to a new directory `PREFIX-MILLISECONDS.SUFFIX`, one file per partition.
    ///
    /// The directory appears under its name when it is complete; one that is there is replaced.
    pub fn save_as_text_files(&self, prefix: impl Into<PathBuf>, suffix: impl Into<String>)
    where
        T: Display,
    {
        let (prefix, suffix) = (prefix.into(), suffix.into());
        self.output("save_as_text_files", move |batch, time, _| {
            batch.save_as_text_file(name_of(&prefix, time, &suffix))
        });
    }

    /// As [`save_as_text_files`](Self::save_as_text_files), in a binary form that
    /// [`object_file`](StreamingContext::object_file) reads back.
    pub fn save_as_object_files(&self, prefix: impl Into<PathBuf>, suffix: impl Into<String>)
    where
        T: Serialize + DeserializeOwned,
    {
        let (prefix, suffix) = (prefix.into(), suffix.into());
        self.output("save_as_object_files", move |batch, time, _| {
            batch.save_as_object_file(name_of(&prefix, time, &suffix))
        });
    }

    /// As [`save_as_text_files`](Self::save_as_text_files), one Parquet file per partition, of the record batch that
    /// `columns` makes of the partition's records.
    pub fn save_as_parquet_files(
        &self,
        prefix: impl Into<PathBuf>,
        suffix: impl Into<String>,
        columns: impl Fn(Vec<T>) -> Result<RecordBatch> + Send + Sync + 'static,
    ) {
        let (prefix, suffix) = (prefix.into(), suffix.into());
        self.output("save_as_parquet_files", move |batch, time, _| {
            batch.save_as_parquet(name_of(&prefix, time, &suffix), &columns)
        });
    }
}

/// `PREFIX-MILLISECONDS.SUFFIX`.
fn name_of(prefix: &Path, time: Time, suffix: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(format!("-{}", time.millis()));
    if !suffix.is_empty() {
        name.push(format!(".{suffix}"));
    }
    PathBuf::from(name)
}

impl<T: Data> Batch<T> {
    /// Writes the records, one a line, to a new directory `path`, one file `part-00000` and so on per partition.
    ///
    /// The directory appears under its name when it is complete; one that is there is replaced.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Output`] for what cannot be written, and as [`collect`](Batch::collect).
    pub fn save_as_text_file(self, path: impl AsRef<Path>) -> Result<()>
    where
        T: Display,
    {
        self.save(path.as_ref(), "", |part, out| {
            let mut outcome = Ok(());
            part.run(&mut |record| {
                outcome = writeln!(out, "{record}");
                outcome.is_ok()
            })?;
            outcome.map_err(|e| Error::output("the batch cannot be saved").because(e))
        })
    }

    /// As [`save_as_text_file`](Self::save_as_text_file), in a binary form that
    /// [`object_file`](StreamingContext::object_file) reads back.
    ///
    /// # Errors
    /// As [`save_as_text_file`](Self::save_as_text_file).
    pub fn save_as_object_file(self, path: impl AsRef<Path>) -> Result<()>
    where
        T: Serialize + DeserializeOwned,
    {
        self.save(path.as_ref(), "", |part, out| {
            let failed = |e| Error::output("the batch cannot be saved").because(e);
            let (mut block, mut outcome) = (Vec::new(), out.write_all(MAGIC).map_err(failed));
            let put = |block: &mut Vec<u8>, out: &mut BufWriter<File>| {
                let head = [(block.len() as u64).to_le_bytes(), xxh3_64(block).to_le_bytes()].concat();
                let written = out.write_all(&head).and_then(|()| out.write_all(block));
                block.clear();
                written.map_err(failed)
            };
            part.run(&mut |record| {
                outcome = std::mem::replace(&mut outcome, Ok(())).and_then(|()| Postcard.encode(&record, &mut block));
                if outcome.is_ok() && block.len() >= BLOCK {
                    outcome = put(&mut block, out);
                }
                outcome.is_ok()
            })?;
            outcome?;
            put(&mut block, out)
        })
    }

    /// Writes a Parquet file per partition to a new directory `path`, of the record batch that `columns` makes of the
    /// partition's records; see [`save_as_text_file`](Self::save_as_text_file).
    ///
    /// # Errors
    /// As [`save_as_text_file`](Self::save_as_text_file), and what `columns` returns.
    pub fn save_as_parquet(
        self,
        path: impl AsRef<Path>,
        columns: impl Fn(Vec<T>) -> Result<RecordBatch> + Send + Sync,
    ) -> Result<()> {
        let label: Label = "save_as_parquet".into();
        self.save(path.as_ref(), ".parquet", |part, out| {
            let records = collect_part(part)?;
            let batch = blame(&label, || columns(records))?;
            let failed = |e: ParquetError| Error::output(format!("the batch cannot be saved as Parquet: {e}"));
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
            let mut writer = ArrowWriter::try_new(out, batch.schema(), Some(properties)).map_err(failed)?;
            writer.write(&batch).map_err(failed)?;
            writer.close().map(|_| ()).map_err(failed)
        })
    }

    /// Writes one file per partition to a directory that appears when it is complete.
    fn save(
        self,
        path: &Path,
        ending: &str,
        write: impl Fn(BoxPart<T>, &mut BufWriter<File>) -> Result<()> + Sync,
    ) -> Result<()> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let failed = |path: &Path, e| Error::output("the batch cannot be saved").in_file(path).because(e);
        let gone = |path: &Path| match std::fs::remove_dir_all(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(path, e)),
            _ => Ok(()),
        };
        let durable = self.exec.storage.is_durable();
        gone(&partial)?;
        std::fs::create_dir_all(&partial).map_err(|e| failed(&partial, e))?;
        let written = self.run(&Default::default(), |i, part| {
            let file = partial.join(format!("part-{i:05}{ending}"));
            let mut out = BufWriter::new(File::create(&file).map_err(|e| failed(&file, e))?);
            write(part, &mut out).map_err(|e| e.in_file(&file))?;
            let synced = |out: BufWriter<File>| out.into_inner().map_err(|e| e.into_error())?.sync_all();
            out.flush().and_then(|()| if durable { synced(out) } else { Ok(()) }).map_err(|e| failed(&file, e))
        });
        if let Err(error) = written {
            gone(&partial)?;
            return Err(error);
        }
        let sync = |dir: &Path| if durable { OsDisk.sync_dir(dir).map_err(|e| failed(dir, e)) } else { Ok(()) };
        sync(&partial)?;
        gone(path)?;
        std::fs::rename(&partial, path).map_err(|e| failed(path, e))?;
        sync(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }
}

/// How an object file begins. Blocks follow: length and xxh3 of the bytes, both u64, and the bytes of whole records.
const MAGIC: &[u8] = b"windrow objects 1\n";

/// Bytes of a block of an object file.
const BLOCK: usize = if cfg!(test) { 64 } else { 1 << 20 };

/// Pushes the records of an object file.
fn read_objects<T: Serialize + DeserializeOwned>(path: &Path, sink: Sink<'_, T>) -> Result<bool> {
    let failed = |e| Error::input("the object file cannot be read").in_file(path).because(e);
    let foreign = || Error::input("this is no object file, or not all of one").in_file(path);
    let mut file = std::io::BufReader::with_capacity(1 << 18, File::open(path).map_err(failed)?);
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).map_err(|_| foreign())?;
    if magic != *MAGIC {
        return Err(foreign());
    }
    let mut block = Vec::new();
    while !file.fill_buf().map_err(failed)?.is_empty() {
        let (mut len, mut sum) = ([0; 8], [0; 8]);
        file.read_exact(&mut len).and_then(|()| file.read_exact(&mut sum)).map_err(|_| foreign())?;
        block.clear();
        let len = u64::from_le_bytes(len);
        let read = file.by_ref().take(len).read_to_end(&mut block).map_err(failed)?;
        if read as u64 != len || xxh3_64(&block) != u64::from_le_bytes(sum) {
            return Err(foreign());
        }
        let mut bytes = &block[..];
        while !bytes.is_empty() {
            if !sink(Postcard.decode(&mut bytes).map_err(|e: Error| e.in_file(path))?) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

impl StreamingContext {
    /// The records that [`save_as_object_file`](Batch::save_as_object_file) wrote to the directory `path`, in as many
    /// partitions.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Input`] if the directory cannot be read.
    pub fn object_file<T: Data + Serialize + DeserializeOwned>(&self, path: impl AsRef<Path>) -> Result<Batch<T>> {
        let path = path.as_ref();
        let failed = |e| Error::input("the directory cannot be read").in_file(path).because(e);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with("part-") {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(Batch::made(&self.core.exec, files.len(), move |i, sink| read_objects(&files[i], sink)))
    }
}
