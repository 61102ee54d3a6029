//! The scanner: strict JSON (RFC 8259) on one line, one byte position that only moves forward.
//!
//! Every value is checked in full, wanted or not, so that a record is taken only if all of it is JSON; nothing is
//! built. A value becomes a [`Token`], its kind and where it stands. The end of a line and the end of the data are
//! the same to the scanner: it never passes a newline, so a broken record cannot touch its neighbour. Bytes above
//! 0x7f are not looked at: invalid UTF-8 is data like any other. Nesting is counted in a small bit stack, not on
//! the call stack.
//!
//! Cost: about 1.3 cycles per byte of strings, a few cycles per token, no allocation.

use super::lanes;

/// Levels of nesting that a value may have.
pub(super) const MAX_DEPTH: usize = 1024;

/// Why a line is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Fault {
    /// It does not begin with a brace.
    NotAnObject,
    /// Something follows the object.
    Trailing,
    /// It ends before the object does.
    Truncated,
    /// A value was expected.
    NoValue,
    /// A member name was expected.
    NoName,
    /// A name without colon.
    NoColon,
    /// Neither comma nor closing bracket after a value.
    NoComma,
    /// A malformed number.
    Number,
    /// A raw control character in a string.
    Control,
    /// An unknown escape.
    Escape,
    /// Deeper than [`MAX_DEPTH`].
    Depth,
}

impl Fault {
    /// The words for [`super::super::BadRecord::reason`].
    pub(super) fn reason(self) -> &'static str {
        match self {
            Fault::NotAnObject => "not a JSON object",
            Fault::Trailing => "text after the JSON object",
            Fault::Truncated => "the JSON object does not end",
            Fault::NoValue => "invalid JSON: a value was expected",
            Fault::NoName => "invalid JSON: a member name in double quotes was expected",
            Fault::NoColon => "invalid JSON: a colon was expected",
            Fault::NoComma => "invalid JSON: a comma or closing bracket was expected",
            Fault::Number => "invalid JSON: malformed number",
            Fault::Control => "invalid JSON: control character in a string",
            Fault::Escape => "invalid JSON: unknown escape in a string",
            Fault::Depth => "invalid JSON: nested deeper than 1024 levels",
        }
    }
}

/// What a value is. As wide as a position, and so is [`Fault`]: otherwise copies of a `Result<Token, Fault>` overlap
/// the stores that made it, and the stalls cost as much as all other scanning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// There is no such member.
    Absent,
    /// `null`.
    Null,
    /// `true`.
    True,
    /// `false`.
    False,
    /// A number without fraction and exponent.
    Integer,
    /// Any other number.
    Float,
    /// A string without escapes; the token is what stands between the quotes.
    Plain,
    /// A string with escapes; likewise.
    Escaped,
    /// An object; the token includes its brackets.
    Object,
    /// An array; likewise.
    Array,
}

/// A value: its kind and its bytes, `start..end` of the scanned data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    /// First byte.
    pub(super) start: u32,
    /// One past the last byte.
    pub(super) end: u32,
    /// What it is.
    pub(super) kind: Kind,
}

impl Token {
    /// No such member.
    pub(super) const ABSENT: Token = Token { start: 0, end: 0, kind: Kind::Absent };

    /// Positions fit 32 bits: the decoder refuses longer blocks.
    #[inline(always)]
    fn new(kind: Kind, start: usize, end: usize) -> Token {
        Token { start: start as u32, end: end as u32, kind }
    }

    /// The token's bytes in `data`.
    #[inline(always)]
    pub(super) fn of(self, data: &[u8]) -> &[u8] {
        &data[self.start as usize..self.end as usize]
    }
}

/// A position in the data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a> {
    /// What is scanned, up to the end of the block.
    pub(super) data: &'a [u8],
    /// The next byte.
    pub(super) pos: usize,
}

impl<'a> Scan<'a> {
    /// The next byte; the end of the data looks like the end of a line.
    #[inline(always)]
    pub(super) fn peek(&self) -> u8 {
        self.data.get(self.pos).copied().unwrap_or(b'\n')
    }

    /// Passes white space, but not a newline, and returns the byte after it.
    #[inline(always)]
    pub(super) fn space(&mut self) -> u8 {
        loop {
            let byte = self.peek();
            if !matches!(byte, b' ' | b'\t' | b'\r') {
                return byte;
            }
            self.pos += 1;
        }
    }

    /// `fault`, unless the line ends here.
    #[cold]
    fn fault<T>(&self, fault: Fault) -> Result<T, Fault> {
        let ended = Scan { ..*self }.space() == b'\n';
        Err(if ended { Fault::Truncated } else { fault })
    }

    /// A string, from its opening quote.
    #[inline(always)]
    pub(super) fn string(&mut self) -> Result<Token, Fault> {
        let start = self.pos + 1;
        let end = lanes::plain_end(self.data, start);
        if self.data.get(end) == Some(&b'"') {
            self.pos = end + 1;
            return Ok(Token::new(Kind::Plain, start, end));
        }
        self.escaped_string(start, end)
    }

    /// The rest of a string whose plain run ended at `at` without a quote.
    #[cold]
    fn escaped_string(&mut self, start: usize, mut at: usize) -> Result<Token, Fault> {
        loop {
            self.pos = at;
            match self.peek() {
                b'"' => {
                    self.pos = at + 1;
                    return Ok(Token::new(Kind::Escaped, start, at));
                }
                b'\\' => {
                    self.pos = at + 1;
                    at += match self.peek() {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                        b'u' => {
                            let hex = self.data.get(at + 2..at + 6);
                            if !hex.is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)) {
                                return self.fault(Fault::Escape);
                            }
                            6
                        }
                        _ => return self.fault(Fault::Escape),
                    };
                    at = lanes::plain_end(self.data, at);
                }
                _ => return self.fault(Fault::Control),
            }
        }
    }

    /// A number, from its sign or first digit.
    #[inline(always)]
    fn number(&mut self) -> Result<Token, Fault> {
        let (data, start) = (self.data, self.pos);
        self.pos += usize::from(self.peek() == b'-');
        let whole = lanes::digits(data, self.pos);
        if whole == 0 || (whole > 1 && data[self.pos] == b'0') {
            return self.fault(Fault::Number);
        }
        self.pos += whole;
        let mut kind = Kind::Integer;
        if self.peek() == b'.' {
            kind = Kind::Float;
            self.pos += 1;
            let fraction = lanes::digits(data, self.pos);
            if fraction == 0 {
                return self.fault(Fault::Number);
            }
            self.pos += fraction;
        }
        if matches!(self.peek(), b'e' | b'E') {
            kind = Kind::Float;
            self.pos += 1;
            self.pos += usize::from(matches!(self.peek(), b'+' | b'-'));
            let exponent = lanes::digits(data, self.pos);
            if exponent == 0 {
                return self.fault(Fault::Number);
            }
            self.pos += exponent;
        }
        Ok(Token::new(kind, start, self.pos))
    }

    /// The word `true`, `false` or `null`.
    #[inline(always)]
    fn literal(&mut self, word: &[u8], kind: Kind) -> Result<Token, Fault> {
        let start = self.pos;
        if !self.data[start..].starts_with(word) {
            return self.fault(Fault::NoValue);
        }
        self.pos += word.len();
        Ok(Token::new(kind, start, self.pos))
    }

    /// Any value that is neither object nor array, from its first byte.
    #[inline(always)]
    fn scalar(&mut self) -> Result<Token, Fault> {
        match self.peek() {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal(b"true", Kind::True),
            b'f' => self.literal(b"false", Kind::False),
            b'n' => self.literal(b"null", Kind::Null),
            _ => self.fault(Fault::NoValue),
        }
    }

    /// Any value, from its first byte.
    #[inline(always)]
    pub(super) fn value(&mut self) -> Result<Token, Fault> {
        match self.peek() {
            b'{' | b'[' => self.container(),
            _ => self.scalar(),
        }
    }

    /// A member name from its quote, its colon, and the space up to the value; returns the name.
    #[inline(always)]
    pub(super) fn name(&mut self) -> Result<Token, Fault> {
        if self.peek() != b'"' {
            return self.fault(Fault::NoName);
        }
        let name = self.string()?;
        if self.space() != b':' {
            return self.fault(Fault::NoColon);
        }
        self.pos += 1;
        self.space();
        Ok(name)
    }

    /// To the next member of an object: `first` at its opening brace, else after a value. `None` passes the
    /// closing brace; otherwise the position is at the value.
    #[inline(always)]
    pub(super) fn member(&mut self, first: bool) -> Result<Option<Token>, Fault> {
        if first {
            self.pos += 1;
        }
        match self.space() {
            b'}' => {
                self.pos += 1;
                return Ok(None);
            }
            b',' if !first => {
                self.pos += 1;
                self.space();
            }
            _ if !first => return self.fault(Fault::NoComma),
            _ => {}
        }
        self.name().map(Some)
    }

    /// An object or array, from its opening bracket.
    fn container(&mut self) -> Result<Token, Fault> {
        let start = self.pos;
        let kind = if self.peek() == b'{' { Kind::Object } else { Kind::Array };
        let mut open = Nesting::default();
        loop {
            // At the first byte of a value.
            match self.peek() {
                b'{' => {
                    open.push(true)?;
                    self.pos += 1;
                    if self.space() != b'}' {
                        self.name()?;
                        continue;
                    }
                    self.pos += 1;
                    open.pop();
                }
                b'[' => {
                    open.push(false)?;
                    self.pos += 1;
                    if self.space() != b']' {
                        continue;
                    }
                    self.pos += 1;
                    open.pop();
                }
                _ => {
                    self.scalar()?;
                }
            }
            // After a value: close what it ends.
            loop {
                if open.depth == 0 {
                    return Ok(Token::new(kind, start, self.pos));
                }
                match (self.space(), open.in_object) {
                    (b'}', true) | (b']', false) => {
                        self.pos += 1;
                        open.pop();
                    }
                    (b',', in_object) => {
                        self.pos += 1;
                        self.space();
                        if in_object {
                            self.name()?;
                        }
                        break;
                    }
                    _ => return self.fault(Fault::NoComma),
                }
            }
        }
    }

    /// White space and the end of the line, whose newline it passes; anything else is a fault.
    #[inline(always)]
    pub(super) fn line_end(&mut self) -> Result<(), Fault> {
        if self.space() != b'\n' {
            return Err(Fault::Trailing);
        }
        Ok(())
    }
}

/// Which brackets are open: one bit for each, set for a brace.
struct Nesting {
    bits: [u64; MAX_DEPTH / 64],
    depth: usize,
    in_object: bool,
}

impl Default for Nesting {
    fn default() -> Self {
        Nesting { bits: [0; MAX_DEPTH / 64], depth: 0, in_object: false }
    }
}

impl Nesting {
    #[inline(always)]
    fn push(&mut self, object: bool) -> Result<(), Fault> {
        let word = self.bits.get_mut(self.depth / 64).ok_or(Fault::Depth)?;
        let bit = 1u64 << (self.depth % 64);
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        self.in_object = object;
        Ok(())
    }

    #[inline(always)]
    fn pop(&mut self) {
        self.depth -= 1;
        let outer = self.depth.wrapping_sub(1);
        self.in_object = self.bits.get(outer / 64).is_some_and(|word| word >> (outer % 64) & 1 == 1);
    }
}

/// Appends what the escaped string content `raw` stands for to `out`. A surrogate without its partner is kept as
/// three bytes of its own (WTF-8), so that different strings stay different.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let Some((&code, tail)) = rest.split_first() else { return };
        rest = tail;
        match code {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let mut unit = u32::from(hex4(rest));
                rest = rest.get(4..).unwrap_or_default();
                if (0xd800..0xdc00).contains(&unit) && rest.starts_with(b"\\u") {
                    let low = u32::from(hex4(&rest[2..]));
                    if (0xdc00..0xe000).contains(&low) {
                        unit = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                        rest = rest.get(6..).unwrap_or_default();
                    }
                }
                push_code_point(unit, out);
            }
            other => out.push(other),
        }
    }
    out.extend_from_slice(rest);
}

/// The four hexadecimal digits with which `text` begins; the scanner has checked them.
fn hex4(text: &[u8]) -> u16 {
    text.iter().take(4).fold(0, |unit, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10) & 15,
        };
        unit << 4 | u16::from(value)
    })
}

/// Appends `point` in UTF-8, and a surrogate as if it were a character.
fn push_code_point(point: u32, out: &mut Vec<u8>) {
    match char::from_u32(point) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => out.extend([0xe0 | (point >> 12) as u8, 0x80 | (point >> 6 & 63) as u8, 0x80 | (point & 63) as u8]),
    }
}
