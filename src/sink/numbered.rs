//! The names of an output that is a row of files: `rows-000001.parquet` and so on, beside the name that was given.

use std::io;
use std::path::{Path, PathBuf};

/// Names that differ by a number, in one folder.
#[derive(Debug, Clone)]
pub(super) struct Numbered {
    path: PathBuf,
    before: String,
    behind: String,
}

impl Numbered {
    /// Named like the file `path`.
    pub(super) fn beside(path: &Path) -> Numbered {
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let ending = part(path.extension());
        let behind = if ending.is_empty() { ending } else { format!(".{ending}") };
        Numbered { path: path.to_path_buf(), before: format!("{}-", part(path.file_stem())), behind }
    }

    /// The same with a dot before the name, so that no pattern matches it, and `ending` behind it.
    pub(super) fn hidden(&self, ending: &str) -> Numbered {
        let (before, behind) = (format!(".{}", self.before), format!("{}{ending}", self.behind));
        Numbered { path: self.path.clone(), before, behind }
    }

    pub(super) fn folder(&self) -> &Path {
        self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    pub(super) fn name(&self, number: u64) -> PathBuf {
        self.path.with_file_name(format!("{}{number:06}{}", self.before, self.behind))
    }

    /// The numbers that files have already, in order.
    pub(super) fn numbers(&self) -> io::Result<Vec<u64>> {
        let number = |name: &str| name.strip_prefix(&self.before)?.strip_suffix(&self.behind)?.parse().ok();
        let files = std::fs::read_dir(self.folder())?.flatten();
        let numbers = files.filter_map(|file| number(file.file_name().to_str()?).map(|number| (number, file)));
        // Others may have numbers written otherwise.
        let own = numbers.filter(|(number, file)| self.name(*number).file_name() == Some(&file.file_name()));
        let mut numbers: Vec<u64> = own.map(|(number, _)| number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}
