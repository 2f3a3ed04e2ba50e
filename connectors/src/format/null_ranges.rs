//! The NULL cells of a column under construction.

use arrow_buffer::{BooleanBufferBuilder, NullBuffer};

/// Indices of NULL cells as ascending ranges, so that cells that are not NULL cost nothing.
#[derive(Default)]
pub(super) struct NullRanges {
    /// Start and end of each range.
    ranges: Vec<(usize, usize)>,
}

impl NullRanges {
    /// Adds the cells from `start` to `end`, which are after all others.
    #[inline]
    pub(super) fn push(&mut self, start: usize, end: usize) {
        match self.ranges.last_mut() {
            Some((_, last)) if *last == start => *last = end,
            _ => self.ranges.push((start, end)),
        }
    }

    /// Removes the cells from `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        while let Some((start, end)) = self.ranges.last_mut() {
            if *start < rows {
                *end = rows.min(*end);
                break;
            }
            self.ranges.pop();
        }
    }

    /// Returns the validity of `rows` cells, and removes all; `None` if none is NULL.
    pub(super) fn finish(&mut self, rows: usize) -> Option<NullBuffer> {
        if self.ranges.is_empty() {
            return None;
        }
        let mut valid = BooleanBufferBuilder::new(rows);
        for (start, end) in self.ranges.drain(..) {
            valid.append_n(start - valid.len(), true);
            valid.append_n(end - start, false);
        }
        valid.append_n(rows - valid.len(), true);
        Some(NullBuffer::new(valid.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pushed: &[(usize, usize)], truncated: usize, rows: usize, expected: &[usize]) {
        let mut nulls = NullRanges::default();
        for (start, end) in pushed {
            nulls.push(*start, *end);
        }
        nulls.truncate(truncated);
        let buffer = nulls.finish(rows);
        let found = (0..rows).filter(|row| buffer.as_ref().is_some_and(|nulls| nulls.is_null(*row)));
        assert_eq!(found.collect::<Vec<_>>(), expected);
        assert!(nulls.finish(rows).is_none());
    }

    #[test]
    fn exactly_the_cells_of_the_ranges_are_null() {
        check(&[], 9, 3, &[]);
        check(&[(0, 1), (1, 3), (5, 6)], 9, 7, &[0, 1, 2, 5]);
        check(&[(0, 4), (6, 8)], 7, 7, &[0, 1, 2, 3, 6]);
        check(&[(0, 4), (6, 8)], 6, 6, &[0, 1, 2, 3]);
        check(&[(0, 4), (6, 8)], 2, 5, &[0, 1]);
        check(&[(1, 4)], 1, 5, &[]);
    }
}
