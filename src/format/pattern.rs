//! Lines by a regular expression: its named groups are the fields.
//!
//! A line is a record if the expression matches somewhere in it; `^` and `$` are its ends, without the carriage return.
//! One that does not match is bad, a blank one is no record. A group that took no part is null; one that matched nothing
//! is an empty text. The expression sees bytes: `\d` and `\w` are ASCII, `.` is any byte.
//!
//! Whether a line is good does not depend on which fields are wanted, the time excepted. Cost: that of the `regex` crate,
//! 0.1 to 0.5 GB/s of one core.

use super::columns::Place;
use super::infer::{SAMPLE_RECORDS, narrowest};
use super::records::{Records, Slots};
use super::{BadRecord, Decoded, Decoder, Field, FieldType, TextBlock, Wanted};
use crate::{Error, Result};
use memchr::memchr;
use regex::bytes::{Regex, RegexBuilder};

const TOO_LONG: &str = "longer than the longest record (--max-record)";
const NO_MATCH: &str = "the pattern does not match";
const NO_TIME: &str = "no valid time";

/// A regular expression with named groups.
#[derive(Debug, Clone)]
pub struct Pattern {
    regex: Regex,
    /// The names of the groups, and their numbers in the expression.
    names: Vec<String>,
    groups: Vec<usize>,
}

impl Pattern {
    /// Reads an expression such as `(?<ts>\S+) (?<level>\w+)`.
    ///
    /// # Errors
    /// A usage error if it is malformed, or names no group.
    pub fn parse(text: &str) -> Result<Pattern> {
        let regex = RegexBuilder::new(text).unicode(false).build().map_err(|e| {
            let why = e.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Error::usage(format!("the pattern {text:?} is malformed: {why}"))
        })?;
        let named = regex.capture_names().enumerate().filter_map(|(i, name)| Some((name?.to_owned(), i)));
        let (names, groups): (Vec<String>, Vec<usize>) = named.unzip();
        if names.is_empty() {
            return Err(Error::usage(format!(
                "the pattern {text:?} names no group; fields are groups with a name, such as (?<level>\\w+)"
            )));
        }
        Ok(Pattern { regex, names, groups })
    }

    /// The fields.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The type of every field, from the first lines of `sample` that match.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn infer(&self, sample: &TextBlock) -> Result<Vec<FieldType>> {
        let mut sample = sample.clone();
        let lines = memchr::memchr_iter(b'\n', sample.bytes()).nth(4 * SAMPLE_RECORDS);
        sample.end = lines.map_or(sample.end, |n| sample.start + n + 1);
        let fields = self.names.iter().map(|n| Field { name: n.clone(), ty: FieldType::Text }).collect();
        let decoded = PatternDecoder::new(&Wanted { fields, ..Wanted::default() }, self)?.decode(&sample)?;
        Ok(decoded.columns.iter().map(narrowest).collect())
    }
}

/// Decodes lines by a pattern.
///
/// ```
/// use arrow_array::{cast::AsArray, types::Int64Type};
/// use windrow::format::pattern::{Pattern, PatternDecoder};
/// use windrow::format::{Decoder, Field, FieldType, TextBlock, Wanted};
///
/// let pattern = Pattern::parse(r"^(?<level>\w+) took (?<ms>\d+)")?;
/// let text = b"INFO took 12 ms\nanything else\n";
/// let block = TextBlock { data: text.into(), start: 0, end: text.len(), offset: 0, max_record: 1 << 24 };
/// let fields = vec![Field { name: "ms".into(), ty: FieldType::Int64 }];
/// let decoded = PatternDecoder::new(&Wanted { fields, ..Wanted::default() }, &pattern)?.decode(&block)?;
/// assert_eq!(decoded.columns[0].as_primitive::<Int64Type>().value(0), 12);
/// assert_eq!(decoded.bad[0].reason, "the pattern does not match");
/// # Ok::<(), windrow::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PatternDecoder {
    regex: Regex,
    slots: Slots,
    /// The group of each slot.
    groups: Vec<usize>,
}

impl PatternDecoder {
    /// A decoder for what `wanted` names.
    ///
    /// # Errors
    /// A usage error for a field that is no group of the pattern.
    pub fn new(wanted: &Wanted, pattern: &Pattern) -> Result<PatternDecoder> {
        let slots = Slots::new(wanted, &pattern.names, |name| {
            Error::usage(format!("the pattern has no group {name:?}; its groups are {}", pattern.names.join(", ")))
        })?;
        let mut groups = vec![0; slots.width];
        for (group, slot) in pattern.groups.iter().zip(&slots.of_column) {
            if *slot > 0 {
                groups[*slot as usize - 1] = *group;
            }
        }
        Ok(PatternDecoder { regex: pattern.regex.clone(), slots, groups })
    }
}

impl Decoder for PatternDecoder {
    fn decode(&self, block: &TextBlock) -> Result<Decoded> {
        let mut records = Records::new(&self.slots, block, None)?;
        let mut found = self.regex.capture_locations();
        let mut pos = block.start;
        if block.offset + pos as u64 == 0 && block.bytes().starts_with(b"\xef\xbb\xbf") {
            pos += 3;
        }
        while pos < block.end {
            let end = memchr(b'\n', &block.data[pos..block.end]).map_or(block.end, |n| pos + n);
            let line = &block.data[pos..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let first = records.places.len();
            let reason = if end - pos > block.max_record {
                Some(TOO_LONG)
            } else if line.is_empty() {
                None
            } else if self.regex.captures_read(&mut found, line).is_none() {
                Some(NO_MATCH)
            } else {
                let place = |group: &usize| {
                    found.get(*group).map_or(Place::MISSING, |(from, to)| Place::new(pos + from, pos + to))
                };
                records.places.extend(self.groups.iter().map(place));
                if records.take(end)? {
                    if self.slots.wanted.places {
                        records.done.places.push((pos, end));
                    }
                    None
                } else {
                    records.places.truncate(first);
                    Some(NO_TIME)
                }
            };
            if let Some(reason) = reason {
                records.done.bad.push(BadRecord { line: records.done.lines, start: pos, len: end - pos, reason });
            }
            records.done.lines += 1;
            pos = end + 1;
        }
        records.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::TimeField;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use proptest::prelude::*;

    fn block(text: &[u8]) -> TextBlock {
        TextBlock { data: text.to_vec().into(), start: 0, end: text.len(), offset: 0, max_record: 100 }
    }

    fn fields(names: &[&str]) -> Vec<Field> {
        names.iter().map(|n| Field { name: (*n).to_owned(), ty: FieldType::Text }).collect()
    }

    #[test]
    fn groups_are_fields() {
        let text = b"\xef\xbb\xbf[2024-01-01 00:00:00,5] WARN a=1\r\n\n[never] INFO a=\nrubbish\n[2024-01-01 00:00:01] \xff a=2";
        let pattern = Pattern::parse(r"^\[(?<ts>[^\]]*)\] (?<level>\S+)(?: a=(?<a>\d*))?$").unwrap();
        assert_eq!(pattern.names(), ["ts", "level", "a"]);
        let types = pattern.infer(&block(text)).unwrap();
        assert_eq!(types, [FieldType::Text, FieldType::Text, FieldType::Int64]);
        let time = Some(TimeField { name: "ts".into(), format: Default::default() });
        let wanted = Wanted { time, fields: fields(&["a", "level", "a"]), ..Wanted::default() };
        let decoded = PatternDecoder::new(&wanted, &pattern).unwrap().decode(&block(text)).unwrap();
        assert_eq!(decoded.times, [1_704_067_200_500_000, 1_704_067_201_000_000]);
        let level: Vec<_> = decoded.columns[1].as_binary_view().iter().collect();
        assert_eq!(level, [Some(&b"WARN"[..]), Some(b"\xff")]);
        assert_eq!(decoded.columns[0].as_ref(), decoded.columns[2].as_ref());
        let bad: Vec<_> = decoded.bad.iter().map(|b| (b.line, b.reason)).collect();
        assert_eq!((bad, decoded.lines), (vec![(2, NO_TIME), (3, NO_MATCH)], 5));

        let optional = Pattern::parse("(?<x>a)|(?<y>b*)").unwrap();
        let wanted = Wanted { fields: fields(&["x", "y"]), ..Wanted::default() };
        let decoded = PatternDecoder::new(&wanted, &optional).unwrap().decode(&block(b"a\nc\n")).unwrap();
        assert!(decoded.columns[0].is_valid(0) && decoded.columns[1].is_null(0));
        assert!(decoded.columns[0].is_null(1) && decoded.columns[1].as_binary_view().value(1).is_empty());
    }

    #[test]
    fn what_is_no_pattern_is_said() {
        let said = |text| Pattern::parse(text).unwrap_err().to_string();
        assert_eq!(said("(?<a>x"), "the pattern \"(?<a>x\" is malformed: unclosed group");
        assert!(said("a+").contains("names no group"));
        let pattern = Pattern::parse("(?<a>x)").unwrap();
        let wanted = Wanted { fields: fields(&["b"]), ..Wanted::default() };
        let error = PatternDecoder::new(&wanted, &pattern).unwrap_err().to_string();
        assert_eq!(error, "the pattern has no group \"b\"; its groups are a");
    }

    proptest! {
        /// Words and numbers by a pattern, and by splitting at the space.
        #[test]
        fn agrees_with_splitting(lines in prop::collection::vec("[a-c]{0,3}[ x]{0,2}[0-9]{0,3}", 0..300)) {
            let text = lines.join("\n");
            let pattern = Pattern::parse("^(?<w>[a-c]+) (?<n>[0-9]+)$").unwrap();
            let wanted = Wanted { fields: fields(&["n", "w"]), ..Wanted::default() };
            let decoded = PatternDecoder::new(&wanted, &pattern).unwrap().decode(&block(text.as_bytes())).unwrap();
            let split = |l: &String| {
                let (w, n) = l.split_once(' ')?;
                let word = !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() && b < b'd');
                let number = !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
                (word && number).then(|| (n.to_owned(), w.to_owned()))
            };
            let want: Vec<_> = lines.iter().filter_map(split).collect();
            let cell = |c: usize, row| String::from_utf8_lossy(decoded.columns[c].as_binary_view().value(row)).into_owned();
            let got: Vec<_> = (0..decoded.rows).map(|row| (cell(0, row), cell(1, row))).collect();
            prop_assert_eq!(got, want);
            prop_assert_eq!(decoded.rows + decoded.bad.len(), lines.iter().filter(|l| !l.is_empty()).count());
        }
    }
}
