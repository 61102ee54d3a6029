//! The files that are followed, through all that is done to logs: rotation by renaming and by copying and cutting back,
//! packing of what was rotated, new files, files that vanish.
//!
//! The truth is what a look at the folder and at each open file tells, again and again; nothing relies on being told of
//! changes ([`hint`](super::hint) may say that a look is worth while). A *content* is one text, read once, whatever the names and
//! files are that hold it. What a look finds under the names is a content that is being read (by device and inode), a copy of one
//! that is or was (by its first bytes), or a new one.
//!
//! Cost of a look: a listing of the folders of patterns, one `stat` for each file, and the first bytes of those that changed in the
//! last two seconds.

use super::content::{Content, head_of};
use super::copies::{Copied, find_copy, is_related};
use super::position::{Fingerprint, HEAD, Identity, Position};
use crate::source::files::{InputFile, Magic};
use crate::{Error, Result};
use std::collections::HashMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How long a file that was rotated away is still looked at for what is written to it late, and how long one that cannot
/// be opened may stay so.
const GRACE: Duration = Duration::from_secs(10);
/// How long a packed file must have been as it is, to be taken for whole.
const SETTLED: Duration = Duration::from_millis(300);
/// Contents that were read to their end and are remembered, so that copies of them are known.
const REMEMBERED: usize = 4096;

/// See the module.
pub(super) struct Files {
    patterns: Vec<PathBuf>,
    /// What is being read, older ones of a name first.
    pub(super) contents: Vec<Content>,
    /// Files that hold nothing new as long as they are as they were.
    known: HashMap<Identity, Seen>,
    /// Packed files that may still be written, and since when they have been as they are.
    settling: HashMap<Identity, (Seen, Instant)>,
    /// Files that cannot be opened, and since when.
    unreadable: HashMap<Identity, Instant>,
    /// What is not being read: read to its end, or not found.
    remembered: Vec<Position>,
    /// The numbers of the inputs that names stand for.
    names: HashMap<PathBuf, usize>,
    started: bool,
    /// It goes on where a run before it stopped.
    resumed: bool,
    grace: Duration,
    next_look: Instant,
    /// The last look was put off.
    skipped: bool,
    /// The number of the next text.
    next_text: u64,
}

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    path: PathBuf,
    len: u64,
    modified: Option<SystemTime>,
}

/// What a file under one of the names turns out to be.
enum Found {
    /// It cannot be told yet.
    Unclear,
    /// It holds what is being read, or was read, elsewhere.
    Copy,
    /// It goes on where a content that is not being read stopped.
    Rest(Position, Copied),
    New,
}

/// The folder that `path` is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// The file under `path`; `None` if it has gone, or another one has come under the name, since it was listed as `id`.
fn open(path: &Path, id: Identity) -> Result<Option<InputFile>> {
    match InputFile::open(path) {
        Ok(file) => Ok(file.file.metadata().is_ok_and(|m| Identity::of(&m) == id).then_some(file)),
        Err(_) if !path.exists() => Ok(None),
        Err(e) => Err(e),
    }
}

impl Files {
    /// What `patterns` match, and will match; it goes on behind `positions`.
    pub(super) fn new(patterns: Vec<PathBuf>, positions: Vec<Position>) -> Result<Files> {
        if let Some(folder) = patterns.iter().find(|p| p.is_dir()) {
            return Err(Error::input(
                "is a directory; name the files in it, for example with a pattern such as 'DIR/*.log'",
            )
            .in_file(folder));
        }
        if let Some(other) = patterns.iter().find(|p| p.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir())) {
            return Err(Error::input(
                "is no regular file; give it as standard input: windrow replay --follow - < FILE",
            )
            .in_file(other));
        }
        for pattern in &patterns {
            glob::Pattern::new(&pattern.to_string_lossy())
                .map_err(|e| Error::usage(format!("the pattern {:?} is malformed: {e}", pattern.display())))?;
        }
        let next_text = positions.iter().map(|p| p.text + 1).max().unwrap_or(0);
        Ok(Files {
            patterns,
            contents: Vec::new(),
            known: HashMap::new(),
            settling: HashMap::new(),
            unreadable: HashMap::new(),
            remembered: positions.into_iter().filter(|p| p.offset > 0).collect(),
            names: HashMap::new(),
            started: false,
            resumed: next_text > 0,
            grace: GRACE,
            next_look: Instant::now(),
            skipped: false,
            next_text,
        })
    }

    #[cfg(test)]
    pub(super) fn grace(mut self, grace: Duration) -> Files {
        self.grace = grace;
        self
    }

    /// Whether there is anything that files may come under.
    pub(super) fn are_followed(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// How long it is until a look that was put off, if one was.
    pub(super) fn put_off(&self) -> Option<Duration> {
        self.skipped.then(|| self.next_look.saturating_duration_since(Instant::now()))
    }

    /// The folders in which something may happen.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.patterns
            .iter()
            .map(PathBuf::as_path)
            .chain(self.contents.iter().map(|content| &*content.path))
            .map(folder_of)
    }

    /// What stands under the names now, in the order of the patterns, each pattern's by name.
    fn list(&self) -> Vec<(PathBuf, Metadata)> {
        let mut found = Vec::new();
        let mut add = |path: PathBuf| {
            if let Ok(metadata) = path.metadata()
                && metadata.is_file()
            {
                found.push((path, metadata));
            }
        };
        for pattern in &self.patterns {
            let text = pattern.to_string_lossy();
            if pattern.exists() || !text.contains(['*', '?', '[']) {
                add(pattern.clone());
                continue;
            }
            let mut paths: Vec<PathBuf> = glob::glob(&text).into_iter().flatten().filter_map(|p| p.ok()).collect();
            paths.sort();
            paths.into_iter().for_each(&mut add);
        }
        found
    }

    /// Looks what has become of the files. `number` gives the input of a new name its number.
    pub(super) fn look(&mut self, mut number: impl FnMut(&Path) -> usize) -> Result<()> {
        let begun = Instant::now();
        self.skipped = begun < self.next_look;
        if self.skipped {
            return Ok(());
        }
        let listed = self.list();
        let mut names: HashMap<Identity, PathBuf> = HashMap::new();
        for (path, metadata) in &listed {
            names.entry(Identity::of(metadata)).or_insert_with(|| path.clone());
        }
        for content in &mut self.contents {
            match names.get(&content.id) {
                Some(path) => {
                    if *path != content.name {
                        content.retire();
                    }
                    if *path != *content.path {
                        content.path = path.as_path().into();
                    }
                }
                // Under another name, or under none.
                None => content.retire(),
            }
        }
        self.known.retain(|id, _| names.contains_key(id));
        self.settling.retain(|id, _| names.contains_key(id));
        self.unreadable.retain(|id, _| names.contains_key(id));
        for (path, metadata) in listed {
            let id = Identity::of(&metadata);
            let seen = Seen { path: path.clone(), len: metadata.len(), modified: metadata.modified().ok() };
            if self.contents.iter().any(|c| c.id == id) || self.known.get(&id) == Some(&seen) {
                continue;
            }
            match self.begin(&path, id, seen, &mut number) {
                Ok(()) => {
                    self.unreadable.remove(&id);
                }
                // It may have gone in this moment.
                Err(_) if !path.exists() => {}
                // Its owner, or its mode, may be about to be set.
                Err(_) if self.started && self.unreadable.entry(id).or_insert(begun).elapsed() < self.grace => {}
                Err(e) => return Err(e),
            }
        }
        if !self.started {
            self.started = true;
            self.find_moved(&mut number)?;
        }
        // Large folders are not looked at all the time.
        self.next_look = begun + 20 * begun.elapsed();
        Ok(())
    }

    /// Begins to read the file under `path`, if there is anything new in it.
    fn begin(&mut self, path: &Path, id: Identity, seen: Seen, number: &mut impl FnMut(&Path) -> usize) -> Result<()> {
        match self.tell(path, id, &seen)? {
            Found::Unclear => {}
            Found::Copy => {
                self.known.insert(id, seen);
            }
            Found::New => {
                let input = self.input(path, number);
                let position = self.start(path);
                // One that has gone meanwhile is not read.
                if let Some(file) = open(path, id)? {
                    self.add(input, position, Copied { file, id, head: Vec::new() })?;
                }
            }
            Found::Rest(position, copy) => {
                self.add_rest(&position, copy, number)?;
                self.remembered.retain(|p| *p != position);
            }
        }
        Ok(())
    }

    /// Contents of an earlier run that are no longer under a name that is followed: their rest is read where it is now.
    fn find_moved(&mut self, number: &mut impl FnMut(&Path) -> usize) -> Result<()> {
        let lost: Vec<Position> = self.remembered.iter().filter(|p| !p.done).cloned().collect();
        for position in lost {
            let name = PathBuf::from(&position.path);
            if let Some(copy) = find_copy(&name, &position.head, position.offset, &|id| self.is_read(id)) {
                self.remembered.retain(|p| *p != position);
                self.add_rest(&position, copy, number)?;
            }
        }
        // What is older than what has its name now comes first.
        self.contents.sort_by_key(|content| !content.retired);
        Ok(())
    }

    /// Reads the rest of what was read up to `position`, where it is now.
    fn add_rest(&mut self, position: &Position, copy: Copied, number: &mut impl FnMut(&Path) -> usize) -> Result<()> {
        let name = Path::new(&position.path);
        let (input, before, id) = (self.input(name, number), self.contents.len(), copy.id);
        self.add(input, position.clone(), copy)?;
        // What lost its name gets no more of it; what still has it may grow.
        let keeps_it = name.metadata().is_ok_and(|metadata| Identity::of(&metadata) == id);
        if let Some(content) = self.contents.get_mut(before).filter(|_| !keeps_it) {
            content.retire();
        }
        Ok(())
    }

    fn is_read(&self, id: Identity) -> bool {
        self.contents.iter().any(|content| content.id == id)
    }

    fn input(&mut self, name: &Path, number: &mut impl FnMut(&Path) -> usize) -> usize {
        *self.names.entry(name.to_path_buf()).or_insert_with(|| number(name))
    }

    /// The start of a new text that is called `name`.
    fn start(&mut self, name: &Path) -> Position {
        let text = self.next_text;
        self.next_text += 1;
        let path = name.to_string_lossy().into_owned();
        let (device, inode, offset, inside, done) = (0, 0, 0, false, false);
        Position { text, path, device, inode, head: Fingerprint::default(), offset, inside, done }
    }

    /// Reads a file from `from` on.
    fn add(&mut self, input: usize, from: Position, Copied { file, id, mut head }: Copied) -> Result<()> {
        if file.magic == Magic::Parquet {
            return Err(file.error("is a Parquet file, which cannot be followed"));
        }
        head.truncate(usize::try_from(from.offset).unwrap_or(HEAD).min(HEAD));
        self.contents.push(Content::new(input, from, file, id, head));
        Ok(())
    }

    /// What the file under `path` is.
    fn tell(&mut self, path: &Path, id: Identity, seen: &Seen) -> Result<Found> {
        if seen.len == 0 {
            // What takes over a name may be gone from it before the next look. Under other names it may become a copy.
            return Ok(if self.takes_over(path) { Found::New } else { Found::Unclear });
        }
        let Some(file) = open(path, id)? else { return Ok(Found::Unclear) };
        let packed = file.magic != Magic::Plain;
        if packed && !self.is_settled(id, seen) {
            return Ok(Found::Unclear);
        }
        let Some(head) = head_of(&file, HEAD)? else { return Ok(Found::Unclear) };
        let related = |other: &str| is_related(path, Path::new(other));
        for content in &self.contents {
            // What takes over a name is new, however alike it is.
            if path == content.name || !is_related(path, &content.name) {
                continue;
            }
            // Files that were there before are copies only if they are so beyond doubt.
            if !self.started && !self.resumed && !packed && head.len() < HEAD {
                continue;
            }
            let theirs = content.first(head.len().max(content.head.len()))?;
            if !theirs.starts_with(&content.head) && head.starts_with(&content.head) {
                // It was cut back in this moment, and this is its copy; its next reading will tell.
                return Ok(Found::Unclear);
            }
            // A copy that is still being made holds less.
            if theirs.starts_with(&head) {
                return Ok(if packed { Found::Copy } else { Found::Unclear });
            }
        }
        for position in self.remembered.iter().filter(|p| related(&p.path)) {
            let is_it = position.identity() == id;
            if !is_it && position.done && Path::new(&position.path) == path {
                continue;
            }
            // Few bytes are a header that others have as well, unless they are all there is.
            let enough =
                position.head.is_whole() || is_it || !position.done || head.len() == position.head.len as usize;
            if position.head.len == 0 || !enough || !position.head.begins(&head) {
                continue;
            }
            let more = if packed { !position.done } else { seen.len > position.offset };
            return Ok(if more { Found::Rest(position.clone(), Copied { file, id, head }) } else { Found::Copy });
        }
        Ok(Found::New)
    }

    /// Whether `path` is the name of a log that was read, not one that its rotated parts or their copies come under.
    fn takes_over(&self, path: &Path) -> bool {
        let rotated = |name: &Path| is_related(path, name) && name.as_os_str().len() < path.as_os_str().len();
        let packed = path.extension().is_some_and(|end| end == "gz" || end == "zst");
        !packed && self.names.contains_key(path) && !self.names.keys().any(|name| rotated(name))
    }

    /// Whether a packed file has not changed for a while.
    fn is_settled(&mut self, id: Identity, seen: &Seen) -> bool {
        let old = seen.modified.and_then(|t| t.elapsed().ok()).is_some_and(|age| age > SETTLED);
        if !self.started && old {
            return true;
        }
        match self.settling.get(&id) {
            Some((before, since)) if before == seen => since.elapsed() >= SETTLED,
            _ => {
                self.settling.insert(id, (seen.clone(), Instant::now()));
                false
            }
        }
    }

    /// Content number `at` was cut back or written anew: what was not read of it may be in a copy, and the file starts again.
    /// Returns how many contents were put before it.
    pub(super) fn replaced(&mut self, at: usize) -> Result<usize> {
        let old = self.contents[at].position();
        let (name, input) = (self.contents[at].name.clone(), self.contents[at].input);
        if old.offset == 0 {
            return Ok(0);
        }
        let text = self.start(&name).text;
        self.contents[at].restart(text);
        let Some(copy) = find_copy(&name, &old.head, old.offset, &|id| self.is_read(id)) else {
            self.remember(old);
            return Ok(0);
        };
        self.add(input, old, copy)?;
        if let Some(mut rest) = self.contents.pop() {
            rest.retire();
            self.contents.insert(at, rest);
        }
        Ok(1)
    }

    fn remember(&mut self, position: Position) {
        if position.offset == 0 {
            return;
        }
        if self.remembered.len() == REMEMBERED {
            self.remembered.remove(0);
        }
        self.remembered.push(position);
    }

    /// Whether content number `at` has been quiet for so long that nothing more comes of it.
    pub(super) fn is_over(&self, at: usize) -> bool {
        let content = &self.contents[at];
        content.ended || content.retired && content.changed.elapsed() >= self.grace
    }

    /// Leaves content number `at`, which was read to its end.
    pub(super) fn close(&mut self, at: usize) -> Position {
        let mut content = self.contents.remove(at);
        content.ended = true;
        let position = content.position();
        if let Ok(metadata) = content.path.metadata()
            && Identity::of(&metadata) == content.id
        {
            let seen =
                Seen { path: content.path.to_path_buf(), len: metadata.len(), modified: metadata.modified().ok() };
            self.known.insert(content.id, seen);
        }
        self.remember(position.clone());
        position
    }
}
