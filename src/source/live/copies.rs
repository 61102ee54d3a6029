//! Copies of logs beside them: what rotation by copying and cutting back leaves, packed or not.

use super::content::head_of;
use super::position::{Fingerprint, HEAD, Identity};
use crate::Result;
use crate::source::files::{InputFile, Magic};
use std::path::{Path, PathBuf};

/// Files that are looked at, the newest first.
const MOST: usize = 64;

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

/// A file beside `name`, not one that `is_read`, that begins with `head` and holds at least `offset` bytes of text: its path,
/// its identity and its first bytes.
pub(super) fn find_copy(
    name: &Path,
    head: &Fingerprint,
    offset: u64,
    is_read: &dyn Fn(Identity) -> bool,
) -> Result<Option<(PathBuf, Identity, Vec<u8>)>> {
    let folder = match name.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(None) };
    let mut files: Vec<_> = entries
        .flatten()
        .filter(|entry| is_related(&entry.path(), name))
        .filter_map(|entry| {
            let metadata = entry.path().metadata().ok().filter(|m| m.is_file() && m.len() > 0)?;
            Some((metadata.modified().ok(), entry.path(), Identity::of(&metadata), metadata.len()))
        })
        .filter(|(_, _, id, _)| !is_read(*id))
        .collect();
    files.sort_by(|a, b| (b.0, &b.1).cmp(&(a.0, &a.1)));
    for (_, path, id, len) in files.into_iter().take(MOST) {
        // One that goes in this moment is no copy.
        let Ok(file) = InputFile::open(&path) else { continue };
        if file.magic == Magic::Plain && len < offset {
            continue;
        }
        if let Ok(Some(first)) = head_of(&path, HEAD)
            && head.begins(&first)
        {
            return Ok(Some((path, id, first)));
        }
    }
    Ok(None)
}
