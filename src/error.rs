//! One error for the whole crate: a kind to act on, and a sentence that says what is wrong, where, and what to do.
//!
//! Nothing in the library panics on what input, disk or a caller can cause; it returns this.

use std::fmt;
use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of thing went wrong, for programs that react differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A wrong option, unknown field, malformed expression: the caller has to change the query.
    Usage,
    /// Input that cannot be read or is not what it claims to be.
    Input,
    /// The records themselves: too many bad ones, a sum that leaves its type.
    Data,
    /// An output that cannot be written.
    Output,
    /// The memory budget refused a lease.
    Memory,
    /// Anything the operating system reported that is none of the above.
    Io,
}

/// Where in the input it happened; each part is known or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// File, or `None` for standard input and data from memory.
    pub file: Option<PathBuf>,
    /// Line (record) number, from 1.
    pub line: Option<u64>,
    /// Byte offset in the decompressed input, from 0.
    pub offset: Option<u64>,
}

/// An error with its kind, its sentence and, where known, its place.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    place: Place,
    source: Option<std::io::Error>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), place: Place::default(), source: None }
    }

    /// A wrong option or expression.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// Input that cannot be read.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Input, message)
    }

    /// Records whose values the query cannot answer for.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// An output that cannot be written.
    pub fn output(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Output, message)
    }

    /// The same error, in `file`.
    #[must_use]
    pub fn in_file(mut self, file: impl AsRef<Path>) -> Self {
        self.place.file = Some(file.as_ref().to_path_buf());
        self
    }

    /// The same error, at byte `offset` of the decompressed input.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.place.offset = Some(offset);
        self
    }

    /// The same error, on `line` (from 1).
    #[must_use]
    pub fn at_line(mut self, line: u64) -> Self {
        self.place.line = Some(line);
        self
    }

    /// The same error, caused by `source`, whose text is appended to the sentence.
    #[must_use]
    pub fn because(mut self, source: std::io::Error) -> Self {
        self.source = Some(source);
        self
    }

    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where it happened.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The operating system's error behind it, if any.
    pub fn io(&self) -> Option<&std::io::Error> {
        self.source.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.place.file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(line) = self.place.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(offset) = self.place.offset {
            write!(f, "byte {offset}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Error::new(ErrorKind::Io, "the operating system refused").because(e)
    }
}

impl From<arrow_schema::ArrowError> for Error {
    fn from(e: arrow_schema::ArrowError) -> Self {
        Error::new(ErrorKind::Data, e.to_string())
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(e: parquet::errors::ParquetError) -> Self {
        Error::new(ErrorKind::Input, e.to_string())
    }
}
