//! Files of records that were left out: `--bad-lines`, `--late`.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use windrow::query::Side;
use windrow::{Error, Result};

/// One of them. Clones are the same file.
#[derive(Debug, Clone)]
pub struct Lines {
    path: PathBuf,
    writer: Arc<Mutex<BufWriter<File>>>,
}

impl Lines {
    /// A new file, empty.
    pub fn create(path: &Path) -> Result<Lines> {
        Self::with(path, OpenOptions::new().write(true).create(true).truncate(true))
    }

    /// A file that may be there, as it is: a checkpoint says how much of it counts.
    pub fn open(path: &Path) -> Result<Lines> {
        Self::with(path, OpenOptions::new().write(true).create(true).truncate(false))
    }

    fn with(path: &Path, options: &OpenOptions) -> Result<Lines> {
        let file = options.open(path).map_err(|e| Error::output("cannot be written").in_file(path).because(e))?;
        Ok(Lines { path: path.to_path_buf(), writer: Arc::new(Mutex::new(BufWriter::new(file))) })
    }

    fn lock(&self) -> Result<MutexGuard<'_, BufWriter<File>>> {
        self.writer.lock().map_err(|_| Error::output("was abandoned").in_file(&self.path))
    }

    fn failed(&self, e: std::io::Error) -> Error {
        Error::output("cannot be written").in_file(&self.path).because(e)
    }

    /// Appends a line.
    pub fn writer(&self) -> impl Fn(&[u8]) -> Result<()> + Send + use<> {
        let lines = self.clone();
        move |bytes| {
            let mut writer = lines.lock()?;
            writer.write_all(bytes).and_then(|()| writer.write_all(b"\n")).map_err(|e| lines.failed(e))
        }
    }

    /// Writes what is left.
    pub fn finish(&self) -> Result<()> {
        self.lock()?.flush().map_err(|e| self.failed(e))
    }
}

impl Side for Lines {
    fn position(&self) -> Result<Vec<u8>> {
        let at = self.lock()?.stream_position();
        self.finish()?;
        // A pipe has no position.
        Ok(at.map(|at| at.to_le_bytes().to_vec()).unwrap_or_default())
    }

    fn sync(&self) -> Result<()> {
        // Not under the lock: the run goes on meanwhile.
        let file = self.lock()?.get_ref().try_clone();
        file.and_then(|file| file.sync_data()).map_err(|e| self.failed(e))
    }

    fn rewind(&self, position: Option<&[u8]>) -> Result<()> {
        let position = position.and_then(|at| at.first_chunk()).copied().map_or(0, u64::from_le_bytes);
        let mut writer = self.lock()?;
        let file = writer.get_ref();
        // A pipe has no length: whoever reads it gets what it gets.
        if file.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return Ok(());
        }
        if file.metadata().map_err(|e| self.failed(e))?.len() < position {
            return Err(Error::output(
                "is shorter than when the checkpoint was made; remove the checkpoint to begin anew",
            )
            .in_file(&self.path));
        }
        let cut = file.set_len(position);
        cut.and_then(|()| writer.seek(SeekFrom::Start(position))).map(drop).map_err(|e| self.failed(e))
    }
}
