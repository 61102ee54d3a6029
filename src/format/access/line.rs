//! One line taken apart: where each field lies.
//!
//! Invariant: where [`quick`] answers, [`careful`] gives the same fields and the time is the same; where it does not
//! answer, `careful` decides. `quick` never looks past the newline of its line, though it is given the whole block.
//!
//! Cost: `quick` makes one search for the bracket and one over the target; the rest is compares of a word. `careful`
//! is linear in the line, whatever the line holds.

use super::FieldId;
use crate::format::columns::Place;
use crate::time::AccessTimes;
use memchr::{memchr, memchr2, memchr3};
use std::ops::Range;

/// Which fields are wanted, so that `quick` need not look for the others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cut {
    /// Host, identity or user.
    pub(super) head: bool,
    /// How many of referer and user agent: 0, 1 or 2.
    pub(super) quoted: usize,
}

/// The fields of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fields([Place; 12]);

impl Default for Fields {
    fn default() -> Self {
        Fields([Place::MISSING; 12])
    }
}

impl Fields {
    /// The place of `field`, missing if a lone `-` stands there.
    #[inline]
    pub(super) fn value(&self, field: FieldId, text: &[u8]) -> Place {
        let place = self.0[field.0];
        if place.text(text) == Some(b"-") { Place::MISSING } else { place }
    }

    #[inline]
    fn set(&mut self, field: FieldId, place: Place) {
        self.0[field.0] = place;
    }
}

/// Cuts a line of the usual form that starts at `pos`; `fields` come in as missing. Gives its time and a place from which
/// to look for its newline, or `None` when the line has to be looked at with more care.
#[inline]
pub(super) fn quick(
    text: &[u8],
    pos: usize,
    cut: Cut,
    times: &mut AccessTimes,
    fields: &mut Fields,
) -> Option<(usize, i64)> {
    let line = text.get(pos..)?;
    // `host identity user `
    let bracket = pos + memchr2(b'[', b'\n', line)?;
    let head = text.get(pos..bracket)?;
    if cut.head || head.len() < 6 || !head.ends_with(b" - - ") {
        let host = memchr(b' ', head)?;
        let identity = host + 1 + memchr(b' ', &head[host + 1..])?;
        let user = head.len() - 1;
        if user <= identity || head[user] != b' ' {
            return None;
        }
        fields.set(FieldId::HOST, Place::unless_empty(pos, pos + host));
        fields.set(FieldId::IDENTITY, Place::unless_empty(pos + host + 1, pos + identity));
        fields.set(FieldId::USER, Place::unless_empty(pos + identity + 1, bracket - 1));
    }
    // `[10/Oct/2000:13:55:36 -0700] "`
    let stamp: &[u8; 30] = text.get(bracket..)?.first_chunk()?;
    let [b'[', inner @ .., b']', b' ', b'"'] = stamp else {
        return None;
    };
    let time = times.parse(inner)?;
    fields.set(FieldId::TIME, Place::new(bracket + 1, bracket + 27));
    // `GET /target HTTP/1.1" 200 `
    let request = bracket + 30;
    let rest = text.get(request..)?;
    let method = request
        + match rest.first_chunk()? {
            b"GET " => 3,
            b"POST" | b"HEAD" => 4,
            _ => rest.iter().take(16).position(|b| !b.is_ascii_uppercase())?,
        };
    let rest = text.get(method..)?;
    if rest.first() != Some(&b' ') || method == request {
        return None;
    }
    let target = method + 1 + memchr3(b' ', b'"', b'\n', &rest[1..])?;
    let tail = text.get(target..)?.first_chunk()?;
    if target == method + 1 || !usual(tail) {
        return None;
    }
    fields.set(FieldId::REQUEST, Place::new(request, target + 9));
    fields.set(FieldId::METHOD, Place::new(request, method));
    fields.set(FieldId::PATH, Place::new(method + 1, target));
    fields.set(FieldId::PROTOCOL, Place::new(target + 1, target + 9));
    fields.set(FieldId::STATUS, Place::new(target + 11, target + 14));
    // `12345`
    let bytes = target + 15;
    let mut end = bytes;
    loop {
        let word = text.get(end..)?.first_chunk()?;
        match below_graphic(u64::from_le_bytes(*word)) {
            8 => end += 8,
            n => break end += n,
        }
    }
    if end == bytes {
        return None;
    }
    fields.set(FieldId::BYTES, Place::new(bytes, end));
    let followed = (text[end] == b' ') || at_end(text, end);
    if !followed {
        return None;
    }
    if cut.quoted == 0 || text[end] != b' ' {
        return Some((end, time));
    }
    // `"referer" "user agent"`
    for field in [FieldId::REFERER, FieldId::USER_AGENT].into_iter().take(cut.quoted) {
        if text.get(end..end + 2) != Some(b" \"") {
            return None;
        }
        let start = end + 2;
        let close = start + memchr2(b'"', b'\n', text.get(start..)?)?;
        let last = field == FieldId::USER_AGENT && at_end(text, close + 1);
        let followed = last || text.get(close + 1) == Some(&b' ');
        if text[close] != b'"' || text[close - 1] == b'\\' || !followed {
            return None;
        }
        fields.set(field, Place::new(start, close));
        end = close + 1;
    }
    Some((end, time))
}

/// Whether the newline, with or without a carriage return, is at `at`.
#[inline]
fn at_end(text: &[u8], at: usize) -> bool {
    match text.get(at) {
        Some(b'\n') => true,
        Some(b'\r') => text.get(at + 1) == Some(&b'\n'),
        _ => false,
    }
}

/// Whether this is ` HTTP/d.d" ddd ` and then anything: the status begins with a digit, the other `d` are any of the
/// sixteen characters from `0` on, none of which means anything here.
#[inline]
fn usual(tail: &[u8; 16]) -> bool {
    const TEXT: u128 = u128::from_le_bytes(*b" HTTP/0.0\" 000 \0");
    // Digits may differ in their low half, the last byte in all of it.
    const MASK: u128 =
        u128::from_le_bytes([255, 255, 255, 255, 255, 255, 0xf0, 255, 0xf0, 255, 255, 0xf0, 0xf0, 0xf0, 255, 0]);
    u128::from_le_bytes(*tail) & MASK == TEXT & MASK && tail[11].is_ascii_digit()
}

/// The end of the line that `from` lies in: its newline or the end of the text.
#[inline]
pub(super) fn end_of_line(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    memchr(b'\n', rest).map_or(text.len(), |n| from + n)
}

/// The index of the first byte that is a space or a control, 8 if there is none.
#[inline]
fn below_graphic(word: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let below = word.wrapping_sub(ONES * 0x21) & !word & (ONES * 0x80);
    below.trailing_zeros() as usize / 8
}

/// Cuts any line, without its newline, that starts at `base` of the block's text; `fields` come in as missing.
///
/// # Errors
/// What keeps the line from being a record. That a time is in its place is checked, not that it is one.
pub(super) fn careful(line: &[u8], base: usize, fields: &mut Fields) -> Result<(), &'static str> {
    let mut set = |field, range: Range<usize>| {
        fields.set(field, Place::new(base + range.start, base + range.end));
    };
    let (head, time, mut at) = find_time(line)?;
    for (field, range) in [FieldId::HOST, FieldId::IDENTITY, FieldId::USER, FieldId::TIME].into_iter().zip([
        head.host,
        head.identity,
        head.user,
        time,
    ]) {
        if !range.is_empty() {
            set(field, range);
        }
    }

    if line[at] == b'"' {
        let request = at + 1..request_end(line, at + 1)?;
        if let Some([method, target, protocol]) = request_parts(line, request.clone()) {
            set(FieldId::METHOD, method);
            set(FieldId::PATH, target);
            set(FieldId::PROTOCOL, protocol);
        }
        at = request.end;
        set(FieldId::REQUEST, request);
    }
    let status = next_token(line, at + 1).ok_or("no status after the request")?;
    let bytes = next_token(line, status.end).ok_or("no bytes after the status")?;
    at = bytes.end;
    set(FieldId::STATUS, status);
    set(FieldId::BYTES, bytes);

    for field in [FieldId::REFERER, FieldId::USER_AGENT] {
        match next_token(line, at) {
            Some(token) if line[token.start] == b'"' => {
                let value = token.start + 1..quoted_end(line, token.start + 1);
                at = (value.end + 1).min(line.len());
                set(field, value);
            }
            Some(token) if line[token.clone()] == *b"-" => at = token.end,
            _ => break,
        }
    }
    Ok(())
}

/// The three fields before the time.
struct Head {
    host: Range<usize>,
    identity: Range<usize>,
    user: Range<usize>,
}

/// The head, the time without its brackets, and where the request starts: at its quote or bare `-`.
fn find_time(line: &[u8]) -> Result<(Head, Range<usize>, usize), &'static str> {
    const NO_TIME: &str = "no [time] in brackets";
    let host = memchr(b' ', line).ok_or(NO_TIME)?;
    let identity = memchr(b' ', &line[host + 1..]).ok_or(NO_TIME)? + host + 1;
    let head = |user_end| Head { host: 0..host, identity: host + 1..identity, user: identity + 1..user_end };
    let mut reason = NO_TIME;
    // The first bracket after three fields that closes before a request; each `]` is looked at once.
    let mut refused = 0;
    for open in memchr::memchr_iter(b'[', line) {
        if open == 0 || line[open - 1] != b' ' || open < refused {
            continue;
        }
        if open < identity + 2 {
            reason = "no host, identity and user before the time";
            continue;
        }
        let Some(close) = memchr(b']', &line[open..]) else {
            break;
        };
        let close = open + close;
        if let Some(request) = request_start(line, close + 1) {
            return Ok((head(open - 1), open + 1..close, request));
        }
        refused = close;
        reason = "no request in quotes after the time";
    }
    // `- - - - - - -`: no time at all.
    let bare = next_token(line, identity)
        .filter(|user| user.start == identity + 1)
        .and_then(|user| Some((user.end, next_token(line, user.end)?)))
        .filter(|(_, time)| line[time.clone()] == *b"-")
        .and_then(|(user, time)| Some((user, request_start(line, time.end)?, time)));
    match bare {
        Some((user, request, time)) => Ok((head(user), time, request)),
        None => Err(reason),
    }
}

/// Where the request starts after the time that ends before `at`.
fn request_start(line: &[u8], at: usize) -> Option<usize> {
    let token = next_token(line, at)?;
    (line[token.start] == b'"' || line[token.clone()] == *b"-").then_some(token.start)
}

/// The bytes between spaces that follow the space or spaces at `at`.
fn next_token(line: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = line.get(at..)?;
    let spaces = rest.iter().take_while(|b| **b == b' ').count();
    let start = at + spaces;
    if spaces == 0 || start == line.len() {
        return None;
    }
    let length = memchr(b' ', &line[start..]).unwrap_or(line.len() - start);
    Some(start..start + length)
}

/// The quotes from `from` on that no backslash escapes.
fn open_quotes(line: &[u8], from: usize) -> impl Iterator<Item = usize> + '_ {
    memchr::memchr_iter(b'"', &line[from..]).filter_map(move |n| {
        let before = &line[from..from + n];
        let escapes = before.iter().rev().take_while(|b| **b == b'\\').count();
        (escapes % 2 == 0).then_some(from + n)
    })
}

/// The closing quote of the request that starts at `from`: the first that a number or `-` follows, else the first.
fn request_end(line: &[u8], from: usize) -> Result<usize, &'static str> {
    let before_status = |quote: &usize| {
        let rest = &line[quote + 1..];
        let spaces = rest.iter().take_while(|b| **b == b' ').count();
        let next = rest.get(spaces);
        spaces > 0 && next.is_some_and(|b| b.is_ascii_digit() || *b == b'-')
    };
    open_quotes(line, from)
        .find(before_status)
        .or_else(|| open_quotes(line, from).next())
        .ok_or("no closing quote after the request")
}

/// Method, target and protocol, if the request has exactly these three.
fn request_parts(line: &[u8], request: Range<usize>) -> Option<[Range<usize>; 3]> {
    let mut spaces = memchr::memchr_iter(b' ', &line[request.clone()]);
    let first = request.start + spaces.next()?;
    let second = request.start + spaces.next()?;
    if spaces.next().is_some() {
        return None;
    }
    let parts = [request.start..first, first + 1..second, second + 1..request.end];
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
}

/// The end of the quoted field that starts at `from`: its quote, or the end of a line that is cut off.
fn quoted_end(line: &[u8], from: usize) -> usize {
    open_quotes(line, from).find(|quote| matches!(line.get(quote + 1), None | Some(b' '))).unwrap_or(line.len())
}
