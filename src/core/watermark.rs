//! The stream's own clock: how far it has come, and which records came too late or too far ahead for it.
//!
//! The watermark before a record is the greatest time of the records before it, less the lateness bound; it never
//! falls. A window is closed for a record when its end is not after that watermark. The clock judges record by record
//! in the order of the input, so that nothing depends on how the input is cut or on which thread decodes it.
//!
//! Cost: one pass of comparisons. A record whose time is not before the watermark has all its windows open, and in most
//! streams that is every record: then nothing is written down and nobody looks at the records a second time.

use serde::{Deserialize, Serialize};

/// A longer bound is taken for this one, which no two valid times are apart: windows before it fit 64 bits.
const LONGEST: i64 = 4_000_000 * 86_400_000_000;

/// Stands for the watermark of a record that is set aside as too far ahead.
pub const AHEAD: i64 = i64::MAX;

/// See the module. All times and distances in microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Clock {
    bound: i64,
    max_ahead: Option<i64>,
    before: Option<i64>,
    /// What the distance ahead is measured from, in place of the records before.
    now: Option<i64>,
    floor: i64,
    greatest: Option<i64>,
    disorder: i64,
}

impl Clock {
    /// A clock at rest: records may be `bound` late, and `max_ahead` ahead of the greatest time before them.
    pub fn new(bound: i64, max_ahead: Option<i64>) -> Clock {
        Clock {
            bound: bound.min(LONGEST),
            max_ahead,
            before: None,
            now: None,
            floor: i64::MIN,
            greatest: None,
            disorder: 0,
        }
    }

    /// The clock of an input that goes on where others are: the first record is ahead of `before`, if of anything, and the
    /// watermark begins at `floor`.
    pub fn after(self, before: Option<i64>, floor: i64) -> Clock {
        Clock { before, floor, ..self }
    }

    /// The next records are ahead of `now`, if of anything: that is how live inputs are measured.
    pub fn at(&mut self, now: i64) {
        self.now = Some(now);
    }

    /// The watermark is `floor` at least: windows that have closed without this clock.
    pub fn raise(&mut self, floor: i64) {
        self.floor = self.floor.max(floor);
    }

    /// The greatest time so far.
    pub fn greatest(&self) -> Option<i64> {
        self.greatest
    }

    /// The watermark; the least integer before the first record of all.
    pub fn watermark(&self) -> i64 {
        self.greatest.map_or(self.floor, |greatest| self.floor.max(greatest - self.bound))
    }

    /// The watermark that a first record of time `first` will bring under `bound`.
    pub fn before(first: i64, bound: i64) -> i64 {
        first - bound.min(LONGEST)
    }

    /// The greatest distance of a record below the greatest time before it.
    pub fn disorder(&self) -> i64 {
        self.disorder
    }

    /// Takes the next records, of which only the least and the greatest time and the disorder among them are known, if that
    /// is enough to tell that all are on time.
    pub fn pass(&mut self, least: i64, greatest: i64, disorder: i64) -> bool {
        let disorder = disorder.max(self.greatest.map_or(0, |before| before.saturating_sub(least)));
        // Only the first record is measured by what the other inputs have come to, the next ones by it.
        let first = || self.before.map_or(least, |before| before.min(least));
        let reference = self.now.or(self.greatest).unwrap_or_else(first);
        let far = |most| greatest.saturating_sub(reference) > most;
        let on_time = disorder <= self.bound && least >= self.floor && !self.max_ahead.is_some_and(far);
        if on_time {
            self.greatest = self.greatest.max(Some(greatest));
            self.disorder = self.disorder.max(disorder);
        }
        on_time
    }

    /// Takes the next records. Returns the watermark before each of them, or [`AHEAD`], if one of them may have a closed
    /// window or is ahead.
    pub fn judge(&mut self, times: &[i64]) -> Option<Vec<i64>> {
        let first = times.first()?;
        let mut greatest = self.greatest.unwrap_or(*first);
        let (mut back, mut forth, mut least) = (0, 0, *first);
        if let (None, None, Some(before)) = (self.now, self.greatest, self.before) {
            forth = first.saturating_sub(before);
        }
        for ts in times {
            forth = forth.max(ts.saturating_sub(self.now.unwrap_or(greatest)));
            greatest = greatest.max(*ts);
            back = back.max(greatest.saturating_sub(*ts));
            least = least.min(*ts);
        }
        if back <= self.bound && least >= self.floor && self.max_ahead.is_none_or(|most| forth <= most) {
            self.greatest = Some(greatest);
            self.disorder = self.disorder.max(back);
            return None;
        }
        Some(self.marks(times))
    }

    fn marks(&mut self, times: &[i64]) -> Vec<i64> {
        let mut marks = Vec::with_capacity(times.len());
        for ts in times {
            if let (Some(most), Some(reference)) = (self.max_ahead, self.now.or(self.greatest).or(self.before))
                && ts.saturating_sub(reference) > most
            {
                marks.push(AHEAD);
                continue;
            }
            marks.push(self.watermark());
            let greatest = self.greatest.map_or(*ts, |greatest| greatest.max(*ts));
            self.disorder = self.disorder.max(greatest.saturating_sub(*ts));
            self.greatest = Some(greatest);
        }
        marks
    }
}

/// The greatest distance of a time below one before it.
pub fn disorder(times: &[i64]) -> i64 {
    // Most inputs are in order, which takes half as long to see.
    if times.is_sorted() {
        return 0;
    }
    let (mut greatest, mut back) = (i64::MIN, 0);
    for ts in times {
        greatest = greatest.max(*ts);
        back = back.max(greatest.saturating_sub(*ts));
    }
    back
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The second record is too far ahead of the first, though not of what was before both.
    #[test]
    fn what_was_before_measures_the_first_record_only() {
        let mut clock = Clock::new(0, Some(19)).after(Some(0), -20);
        assert!(!clock.pass(-1, 19, 0));
        assert_eq!(clock.judge(&[-1, 19]), Some(vec![-20, AHEAD]));
    }

    #[test]
    fn live_records_are_measured_by_the_clock_on_the_wall() {
        let mut clock = Clock::new(0, Some(10));
        clock.at(100);
        // Far from each other, and none of them ahead of the wall.
        assert_eq!(clock.judge(&[0, 50, 110]), None);
        assert!(!clock.pass(111, 111, 0));
        assert_eq!(clock.judge(&[111, 120]), Some(vec![AHEAD, AHEAD]));
        clock.at(110);
        assert!(clock.pass(111, 120, 0));
        clock.raise(130);
        assert_eq!(clock.watermark(), 130);
        assert_eq!(clock.judge(&[120]), Some(vec![130]));
    }

    proptest! {
        /// The twin looks at all records before; the cut into blocks changes nothing.
        #[test]
        fn judges_by_the_records_before(
            times in prop::collection::vec(-50i64..50, 0..60), bound in 0i64..30, ahead in prop::option::of(0i64..40),
            before in prop::option::of(-50i64..50), cut in 1usize..9,
        ) {
            let floor = before.map_or(i64::MIN, |before| before - 20);
            let mut clock = Clock::new(bound, ahead).after(before, floor);
            let mut ours = Vec::new();
            for (i, block) in times.chunks(cut).enumerate() {
                let (least, greatest) = (*block.iter().min().unwrap(), *block.iter().max().unwrap());
                if i % 2 == 0 && clock.pass(least, greatest, disorder(block)) {
                    ours.extend(block.iter().map(|_| None));
                    continue;
                }
                match clock.judge(block) {
                    Some(marks) => ours.extend(marks.into_iter().map(Some)),
                    None => ours.extend(block.iter().map(|_| None)),
                }
            }
            let (mut kept, mut disorder): (Vec<i64>, i64) = (Vec::new(), 0);
            for (ts, mark) in times.iter().zip(ours) {
                let greatest = kept.iter().max();
                if ahead.zip(greatest.or(before.as_ref())).is_some_and(|(most, before)| ts - before > most) {
                    prop_assert_eq!(mark, Some(AHEAD));
                    continue;
                }
                let watermark = greatest.map_or(floor, |greatest| floor.max(greatest - bound));
                match mark {
                    Some(mark) => prop_assert_eq!(mark, watermark),
                    // A window that holds the instant ends after it.
                    None => prop_assert!(watermark < ts + 1),
                }
                disorder = disorder.max(greatest.map_or(0, |greatest| greatest - ts));
                kept.push(*ts);
            }
            prop_assert_eq!(clock.disorder(), disorder);
            prop_assert_eq!(clock.watermark(), kept.iter().max().map_or(floor, |greatest| floor.max(greatest - bound)));
        }
    }
}
