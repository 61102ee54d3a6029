//! The naive twin of the access-log decoder: one line cut by the simplest loops, straight from the rules in the module
//! above, for tests to compare with.

/// The twin's fields, in the order of [`NAMES`].
pub(super) type Texts = [Option<Vec<u8>>; 12];

/// Drops leading spaces, of which there must be one.
fn past_spaces(line: &[u8]) -> Option<&[u8]> {
    let rest: &[u8] = &line[line.iter().take_while(|b| **b == b' ').count()..];
    (rest.len() < line.len() && !rest.is_empty()).then_some(rest)
}

/// The bytes up to the next space, and what follows.
fn token(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
    line.split_at(end)
}

fn starts_request(rest: &[u8]) -> bool {
    rest[0] == b'"' || token(rest).0 == b"-"
}

/// Splits `text` at its first quote that satisfies `fits` and is not escaped.
fn closing(text: &[u8], fits: impl Fn(&[u8]) -> bool) -> Option<(&[u8], &[u8])> {
    let mut escaped = false;
    for (n, byte) in text.iter().enumerate() {
        if *byte == b'"' && !escaped && fits(&text[n + 1..]) {
            return Some((&text[..n], &text[n + 1..]));
        }
        escaped = *byte == b'\\' && !escaped;
    }
    None
}

/// One line without its newline; `None`: not a record; `Some(None)`: blank.
pub(super) fn twin(line: &[u8]) -> Option<Option<Texts>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.iter().all(u8::is_ascii_whitespace) {
        return Some(None);
    }
    let mut texts = Texts::default();
    let spaces: Vec<usize> = (0..line.len()).filter(|n| line[*n] == b' ').collect();
    let (host, identity) = (*spaces.first()?, *spaces.get(1)?);
    let mut found = None;
    for open in identity + 2..line.len() {
        if line[open] == b'['
            && line[open - 1] == b' '
            && let Some(close) = (open..line.len()).find(|n| line[*n] == b']')
            && let Some(rest) = past_spaces(&line[close + 1..])
            && starts_request(rest)
        {
            found = Some((open - 1, &line[open + 1..close], rest));
            break;
        }
    }
    if found.is_none() {
        let (user, rest) = token(&line[identity + 1..]);
        let (time, rest) = token(past_spaces(rest)?);
        let rest = past_spaces(rest)?;
        if user.is_empty() || time != b"-" || !starts_request(rest) {
            return None;
        }
        found = Some((identity + 1 + user.len(), time, rest));
    }
    let (user, time, rest) = found?;
    let filled = |text: &[u8]| (!text.is_empty()).then(|| text.to_vec());
    texts[0] = filled(&line[..host]);
    texts[1] = filled(&line[host + 1..identity]);
    texts[2] = filled(&line[identity + 1..user]);
    texts[3] = filled(time);
    let rest = if rest[0] == b'"' {
        let number = |rest: &[u8]| past_spaces(rest).is_some_and(|r| r[0].is_ascii_digit() || r[0] == b'-');
        let (request, after) = closing(&rest[1..], number).or_else(|| closing(&rest[1..], |_| true))?;
        let parts: Vec<&[u8]> = request.split(|b| *b == b' ').collect();
        if parts.len() == 3 && parts.iter().all(|p| !p.is_empty()) {
            for (n, part) in parts.iter().enumerate() {
                texts[5 + n] = Some(part.to_vec());
            }
        }
        texts[4] = Some(request.to_vec());
        after
    } else {
        &rest[1..]
    };
    let (status, rest) = token(past_spaces(rest)?);
    let (bytes, mut rest) = token(past_spaces(rest)?);
    texts[8] = Some(status.to_vec());
    texts[9] = Some(bytes.to_vec());
    for text in &mut texts[10..] {
        let Some(next) = past_spaces(rest) else { break };
        if next[0] == b'"' {
            let (value, after) = closing(&next[1..], |r| r.is_empty() || r[0] == b' ').unwrap_or((&next[1..], b""));
            *text = Some(value.to_vec());
            rest = after;
        } else if token(next).0 == b"-" {
            rest = token(next).1;
        } else {
            break;
        }
    }
    for text in &mut texts {
        if text.as_deref() == Some(b"-") {
            *text = None;
        }
    }
    Some(Some(texts))
}
