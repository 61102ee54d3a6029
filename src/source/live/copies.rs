//! Copies of logs beside them: what rotation by copying and cutting back leaves, packed or not.
//!
//! Invariant: a copy that is there while it is looked for is found, also if it is packed or renamed meanwhile. What was in a
//! listing and has gone when its turn comes stands under another name in the next one, so a folder is listed until nothing
//! has changed since the time before. What is found is open: it can be read whatever becomes of its name.

use super::content::head_of;
use super::position::{Fingerprint, HEAD, Identity};
use crate::source::files::{InputFile, Magic};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files that are looked at, the newest first.
const MOST: usize = 64;
/// How often a folder that keeps changing is listed.
const LISTINGS: usize = 8;

/// Whether two names may be of one log and its rotated parts: they agree up to the first `.`, `-` or `_`.
pub(super) fn is_related(a: &Path, b: &Path) -> bool {
    let stem = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let end =
            name.char_indices().skip(1).find(|(_, c)| matches!(c, '.' | '-' | '_')).map_or(name.len(), |(at, _)| at);
        name[..end].to_owned()
    };
    stem(a) == stem(b)
}

/// A file with the first bytes of another.
pub(super) struct Copied {
    pub(super) file: InputFile,
    pub(super) id: Identity,
    /// Its first bytes.
    pub(super) head: Vec<u8>,
}

/// A file beside `name`, not one that `is_read`, that begins with `head` and holds at least `offset` bytes of text.
pub(super) fn find_copy(
    name: &Path,
    head: &Fingerprint,
    offset: u64,
    is_read: &dyn Fn(Identity) -> bool,
) -> Option<Copied> {
    let mut before = None;
    for _ in 0..LISTINGS {
        let mut files = related_files(name, is_read);
        let as_before = before.as_ref() == Some(&files);
        if as_before {
            return None;
        }
        before = Some(files.clone());
        files.sort_by(|a, b| (b.modified, &b.path).cmp(&(a.modified, &a.path)));
        let copy = |file: Listed| copy_in(&file.path, head, offset, is_read);
        if let Some(copy) = files.into_iter().take(MOST).find_map(copy) {
            return Some(copy);
        }
    }
    None
}

/// A file as it is listed.
#[derive(Debug, Clone, PartialEq)]
struct Listed {
    path: PathBuf,
    id: Identity,
    len: u64,
    modified: Option<SystemTime>,
}

/// The files beside `name` that may be of the same log and are not read, by their names.
fn related_files(name: &Path, is_read: &dyn Fn(Identity) -> bool) -> Vec<Listed> {
    let folder = match name.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<Listed> = entries
        .filter(|path| is_related(path, name))
        .filter_map(|path| {
            let metadata = path.metadata().ok().filter(|m| m.is_file() && m.len() > 0)?;
            Some(Listed { path, id: Identity::of(&metadata), len: metadata.len(), modified: metadata.modified().ok() })
        })
        .filter(|file| !is_read(file.id))
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The file under `path`, if it is what is looked for.
fn copy_in(path: &Path, head: &Fingerprint, offset: u64, is_read: &dyn Fn(Identity) -> bool) -> Option<Copied> {
    let file = InputFile::open(path).ok()?;
    let id = Identity::of(&file.file.metadata().ok()?);
    // Another file may have come under the name since it was listed.
    if is_read(id) || file.magic == Magic::Plain && file.len.is_some_and(|len| len < offset) {
        return None;
    }
    let first = head_of(&file, HEAD).ok()??;
    head.begins(&first).then_some(Copied { file, id, head: first })
}
