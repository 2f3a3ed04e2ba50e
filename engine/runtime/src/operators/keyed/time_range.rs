//! Ranges of event times, which number the generations of rows.

use crate::operator::Timestamp;

const MILLISECOND: i64 = 1_000;
/// Bits of a generation's number that count the ranges of one length; the others tell the length.
const NUMBER_BITS: u32 = 27;
/// Two to this power is the ratio of the lengths of [`TimeRange::of_few_lengths`].
const STEP: u32 = 3;
/// Exponent of the longest range.
const EXPONENT_MAX: u32 = (1 << (u32::BITS - NUMBER_BITS)) - 1;

/// A range of times. Its length is a power of two in milliseconds, and its start is a multiple of the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operators) struct TimeRange {
    /// The length is a quarter of two to this power.
    exponent: u32,
    number: i64,
}

impl TimeRange {
    /// Returns the range with `end` for a row that lives from `start` to `end`: it covers between a quarter and a half
    /// of this time. So rows that are alive at the same time have few ranges, and expire about when they need to.
    pub(in crate::operators) fn new(start: Timestamp, end: Timestamp) -> Self {
        let life_ms = u64::try_from(end.saturating_sub(start) / MILLISECOND).unwrap_or(0);
        Self::of_exponent(u64::BITS - life_ms.leading_zeros(), end)
    }

    /// Returns the range with `end` for a row that lives from `start` to `end`, of one of few lengths: each is eight
    /// times the one before, and `shortest` is a quarter of two to this power in milliseconds. The length is at most
    /// half of the life, except for the shortest one. So rows of very different lives have few ranges, too.
    pub(in crate::operators) fn of_few_lengths(start: Timestamp, end: Timestamp, shortest: u32) -> Self {
        let exponent = Self::new(start, end).exponent;
        let steps = exponent.saturating_sub(shortest) / STEP;
        Self::of_exponent(
            (shortest + steps * STEP).min(EXPONENT_MAX - (EXPONENT_MAX - shortest) % STEP),
            end,
        )
    }

    /// Returns the range with `time` whose length is a quarter of two to this power, or the longest one.
    pub(in crate::operators) fn of_exponent(exponent: u32, time: Timestamp) -> Self {
        let exponent = exponent.min(EXPONENT_MAX);
        Self {
            exponent,
            number: time.div_euclid(length_of(exponent)),
        }
    }

    /// Returns the length in microseconds.
    pub(in crate::operators) fn length(self) -> i64 {
        length_of(self.exponent)
    }

    /// Returns the first time after the range.
    pub(in crate::operators) fn end(self) -> Timestamp {
        self.number.saturating_add(1).saturating_mul(self.length())
    }

    /// Returns the number of the generation of the range's rows. Numbers repeat after a long time: of ranges of a
    /// millisecond, after 37 hours; of longer ones, after more than 16 million times the life of their rows.
    pub(in crate::operators) fn generation(self) -> u32 {
        (self.exponent << NUMBER_BITS) | (self.number as u32 & ((1 << NUMBER_BITS) - 1))
    }
}

fn length_of(exponent: u32) -> i64 {
    (1 << exponent.saturating_sub(2)) * MILLISECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_covers_between_a_quarter_and_a_half_of_the_life_of_its_rows() {
        for life_ms in [0, 1, 2, 5, 100, 1_000, 59_999, 3_600_000, 86_400_000] {
            let covered = TimeRange::new(0, life_ms * MILLISECOND).length() / MILLISECOND;
            assert!(covered <= (life_ms / 2).max(1), "{life_ms} ms: {covered} ms");
            assert!(covered * 4 >= life_ms, "{life_ms} ms: {covered} ms");
        }
    }

    #[test]
    fn ranges_of_few_lengths_cover_at_most_half_of_long_lives() {
        let mut lengths = std::collections::BTreeSet::new();
        for life_ms in 0..100_000 {
            let range = TimeRange::of_few_lengths(7_000_000, 7_000_000 + life_ms * MILLISECOND, 12);
            let covered = range.length() / MILLISECOND;
            assert!(covered <= (life_ms / 2).max(1_024), "{life_ms} ms: {covered} ms");
            assert!(covered * 16 >= life_ms, "{life_ms} ms: {covered} ms");
            assert!(range.end() > 7_000_000 + life_ms * MILLISECOND);
            lengths.insert(covered);
        }
        assert_eq!(Vec::from_iter(lengths), [1_024, 8_192]);
        let longest = TimeRange::of_few_lengths(0, i64::MAX, 12);
        assert_eq!(longest.exponent, 30);
    }

    #[test]
    fn a_range_contains_the_end_of_the_life_of_its_rows() {
        for (start, end) in [(-10_000_000, -9_999_000), (-1, 0), (0, 7_000), (i64::MIN, i64::MAX)] {
            let range = TimeRange::new(start, end);
            assert!(range.end() > end || range.end() == i64::MAX, "{range:?}");
            assert!(range.end().saturating_sub(range.length()) <= end, "{range:?}");
        }
    }
}
