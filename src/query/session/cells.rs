//! The sessions of one block: which of them each record belongs to.
//!
//! Records that are about in order extend the session of their key that was last extended. One that lies outside of it
//! begins another, even if it belongs to one before that; only then are the sessions of the block sorted and those merged
//! that are within the gap of each other. Either way the numbers depend on the block and nothing else.
//!
//! Cost: two dependent loads a record, and a sort of the sessions (not the records) of a block with disorder.

use crate::core::session::Span;

/// A session in the making.
struct Found {
    span: Span,
    key: u32,
    /// Whether it is the first of its key, so that it can grow downwards unseen.
    alone: bool,
}

/// Replaces the key of each row in `local`, below `keys`, by the number of its session, and returns the key of each session.
pub(crate) fn number_sessions(gap: i64, times: &[i64], keys: usize, local: &mut [u32]) -> Vec<u32> {
    let mut current = vec![u32::MAX; keys];
    let mut found: Vec<Found> = Vec::new();
    let mut apart = true;
    for (row, ts) in local.iter_mut().zip(times) {
        let session = &mut current[*row as usize];
        let known = found.get_mut(*session as usize);
        let alone = known.is_none();
        if let Some(Found { span, alone, .. }) = known {
            if *ts >= span.first.saturating_sub(gap) && *ts <= span.last.saturating_add(gap) {
                apart &= *ts >= span.first || *alone;
                span.extend(Span::at(*ts));
                *row = *session;
                continue;
            }
            apart &= *ts > span.last;
            *alone = false;
        }
        *session = found.len() as u32;
        found.push(Found { span: Span::at(*ts), key: *row, alone });
        *row = *session;
    }
    if apart {
        return found.into_iter().map(|session| session.key).collect();
    }
    let mut order: Vec<u32> = (0..found.len() as u32).collect();
    order.sort_unstable_by_key(|i| (found[*i as usize].key, found[*i as usize].span));
    let mut numbers = vec![0; found.len()];
    let mut merged: Vec<u32> = Vec::new();
    let mut whole = Span::NONE;
    for i in order {
        let Found { span, key, .. } = found[i as usize];
        if merged.last() == Some(&key) && !span.is_after(whole, gap) {
            whole.extend(span);
        } else {
            merged.push(key);
            whole = span;
        }
        numbers[i as usize] = merged.len() as u32 - 1;
    }
    local.iter_mut().for_each(|row| *row = numbers[*row as usize]);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

        /// The twin sorts the times of each key.
        #[test]
        fn records_share_a_session_if_steps_of_the_gap_lead_from_one_to_the_other(
            rows in prop::collection::vec((0u32..4, 0i64..=30, 0i64..=60), 0..60), gap in 1i64..40, disorder in any::<bool>(),
        ) {
            let mut now = 0;
            let times: Vec<i64> = rows
                .iter()
                .map(|(_, step, back)| {
                    now += step;
                    if disorder { now - back } else { now }
                })
                .collect();
            let mut local: Vec<u32> = rows.iter().map(|r| r.0).collect();
            let keys = number_sessions(gap, &times, 4, &mut local);
            let mut want: BTreeMap<u32, BTreeMap<i64, Vec<usize>>> = BTreeMap::new();
            for (row, (key, ..)) in rows.iter().enumerate() {
                want.entry(*key).or_default().entry(times[row]).or_default().push(row);
            }
            let mut sessions = BTreeSet::new();
            for (key, times) in want {
                let (mut session, mut last) = (Vec::new(), i64::MIN / 2);
                for (ts, rows) in times {
                    if ts - last > gap && !session.is_empty() {
                        sessions.insert((key, std::mem::take(&mut session)));
                    }
                    last = ts;
                    session.extend(rows);
                    session.sort_unstable();
                }
                sessions.insert((key, session));
            }
            let mut got: Vec<(u32, Vec<usize>)> = keys.iter().map(|key| (*key, Vec::new())).collect();
            local.iter().enumerate().for_each(|(row, session)| got[*session as usize].1.push(row));
            prop_assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), sessions);
        }
    }
}
