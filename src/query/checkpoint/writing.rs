//! The thread that writes a checkpoint while the run goes on: pieces as they come, then what they were saved for.
//!
//! Nothing counts before [`Directory::commit`] has returned. What comes to no end is removed.

use super::received::Received;
use super::{Saved, Side};
use crate::Result;
use crate::checkpoint::Directory;
use crate::query::spill::cells::Pieces;
use crate::shuffle::Writer;
use crate::store::block::{Content, Label};
use crate::store::column::Column;
use crate::store::segment::{Segment, SegmentWriter};
use crossbeam_channel::Receiver;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the thread is handed.
pub(super) enum Message {
    /// The pieces of a partition, and the last block that they are of.
    Pieces(u32, u64, Vec<Pieces>),
    /// There are no more.
    End(Vec<Writer>, Box<Saved>),
}

/// What a complete checkpoint has brought.
pub(super) struct Written {
    /// Files of pieces that moved into the folder.
    pub(super) kept: Vec<Segment>,
    pub(super) busy: Duration,
    /// When it was.
    pub(super) at: Instant,
}

pub(super) fn lock(directory: &Mutex<Directory>) -> MutexGuard<'_, Directory> {
    directory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's side: writes what comes; `None` if the checkpoint was given up.
pub(super) fn write(
    directory: &Mutex<Directory>,
    messages: &Receiver<Message>,
    waiting: &AtomicUsize,
    sides: &[Arc<dyn Side>],
    received: Option<&Received>,
) -> Result<Option<Written>> {
    let (disk, dir) = {
        let directory = lock(directory);
        (directory.disk().clone(), directory.path().to_path_buf())
    };
    let mut busy = Duration::ZERO;
    let name = lock(directory).name("state");
    let mut state = SegmentWriter::create(&*disk, dir.join(&name))?;
    for message in messages {
        let start = Instant::now();
        match message {
            Message::Pieces(partition, taken, pieces) => {
                for piece in pieces {
                    let bytes = piece.bytes();
                    let label = Label { content: Content::Runs, partition, first: taken, last: taken, rows: 1 };
                    let columns = piece.into_columns()?;
                    state.append(label, &columns.iter().map(Column::view).collect::<Vec<_>>())?;
                    waiting.fetch_sub(bytes, Ordering::Relaxed);
                }
                busy += start.elapsed();
            }
            Message::End(writers, mut body) => {
                state.keep()?;
                body.state = Some(name.clone());
                let mut kept = Vec::new();
                for writer in writers {
                    let Some(mut segment) = writer.keep()? else { continue };
                    let name = lock(directory).name("spill");
                    segment.rename(&*disk, dir.join(&name))?;
                    body.pieces.push((name, body.done));
                    kept.push(segment);
                }
                sides.iter().try_for_each(|side| side.sync())?;
                let files = body.pieces.iter().map(|(name, _)| name.clone()).chain([name]).collect();
                lock(directory).commit(files, body.encode()?)?;
                received.into_iter().for_each(|received| received.counted(body.logged));
                sides.iter().zip(&body.sides).try_for_each(|(side, position)| side.committed(position))?;
                return Ok(Some(Written { kept, busy: busy + start.elapsed(), at: Instant::now() }));
            }
        }
    }
    drop(state);
    let _ = disk.remove(&dir.join(name));
    Ok(None)
}
