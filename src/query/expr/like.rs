//! `like`: a pattern taken apart once, matched on the raw bytes.
//!
//! `%` stands for any text, `_` for one character: a whole UTF-8 sequence, or one byte where the bytes are not UTF-8.
//! There is no escape. Patterns without `_` and with `%` only at their ends, nearly all, are a comparison of an end or
//! one search; others are matched with one backtracking point, at most pattern × text steps.

use memchr::memmem::Finder;

/// A pattern, ready to match.
#[derive(Debug, Clone)]
pub(super) enum Like {
    Anything,
    Equal(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<Finder<'static>>),
    General(Box<[Symbol]>),
}

/// One step of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symbol {
    Byte(u8),
    /// `_`
    One,
    /// `%`
    Many,
}

impl Like {
    pub(super) fn new(pattern: &str) -> Like {
        let inner = pattern.trim_matches('%');
        if inner.contains(['%', '_']) {
            let mut symbols: Vec<Symbol> = pattern
                .bytes()
                .map(|b| match b {
                    b'%' => Symbol::Many,
                    b'_' => Symbol::One,
                    b => Symbol::Byte(b),
                })
                .collect();
            symbols.dedup_by(|a, b| *a == Symbol::Many && *b == Symbol::Many);
            return Like::General(symbols.into());
        }
        let bytes = inner.as_bytes();
        match (pattern.starts_with('%'), pattern.ends_with('%')) {
            (true, _) if bytes.is_empty() => Like::Anything,
            (false, false) => Like::Equal(bytes.into()),
            (false, true) => Like::Prefix(bytes.into()),
            (true, false) => Like::Suffix(bytes.into()),
            (true, true) => Like::Contains(Box::new(Finder::new(bytes).into_owned())),
        }
    }

    /// Whether the pattern matches all of `text`.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Like::Anything => true,
            Like::Equal(bytes) => text == &**bytes,
            Like::Prefix(bytes) => text.starts_with(bytes),
            Like::Suffix(bytes) => text.ends_with(bytes),
            Like::Contains(finder) => finder.find(text).is_some(),
            Like::General(symbols) => matches_symbols(symbols, text),
        }
    }
}

/// Whether `symbols` match all of `text`.
pub(super) fn matches_symbols(symbols: &[Symbol], text: &[u8]) -> bool {
    let (mut s, mut t) = (0, 0);
    // Behind the last `%` met, and where its text ends for now.
    let mut back = None;
    while t < text.len() {
        match symbols.get(s) {
            Some(Symbol::Byte(b)) if *b == text[t] => {
                s += 1;
                t += 1;
            }
            Some(Symbol::One) => {
                s += 1;
                t += width(&text[t..]);
            }
            Some(Symbol::Many) => {
                s += 1;
                back = Some((s, t));
            }
            _ => match back {
                Some((symbol, end)) => {
                    let end = end + width(&text[end..]);
                    back = Some((symbol, end));
                    (s, t) = (symbol, end);
                }
                None => return false,
            },
        }
    }
    symbols[s..].iter().all(|symbol| *symbol == Symbol::Many)
}

/// Bytes of the first character of `text`, which is not empty; 1 when it is not UTF-8.
fn width(text: &[u8]) -> usize {
    if text[0] < 0x80 {
        return 1;
    }
    (2..=4.min(text.len())).find(|n| std::str::from_utf8(&text[..*n]).is_ok()).unwrap_or(1)
}
