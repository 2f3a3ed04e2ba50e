//! Ranges of event times, which number the generations of rows.

use crate::operator::Timestamp;

const MILLISECOND: i64 = 1_000;
/// Bits of a generation's number that count the ranges of one length; the others tell the length.
const NUMBER_BITS: u32 = 27;
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
    fn a_range_contains_the_end_of_the_life_of_its_rows() {
        for (start, end) in [(-10_000_000, -9_999_000), (-1, 0), (0, 7_000), (i64::MIN, i64::MAX)] {
            let range = TimeRange::new(start, end);
            assert!(range.end() > end || range.end() == i64::MAX, "{range:?}");
            assert!(range.end().saturating_sub(range.length()) <= end, "{range:?}");
        }
    }
}
