//! The number of rows of a call, bounded by what the rows of their keys take.

use super::CALL_ROWS_MAX;

/// Bytes of stored rows that a call reads, about.
const READ_BYTES_MAX: usize = 8 << 20;

/// The number of input rows of a call. It follows the bytes that calls have read, so that a barrier, which waits for
/// the end of a call, does not wait for many more than [`READ_BYTES_MAX`], and so that these are in memory at once.
#[derive(Debug)]
pub(super) struct CallSize {
    rows_max: usize,
}

impl Default for CallSize {
    fn default() -> Self {
        Self {
            rows_max: CALL_ROWS_MAX,
        }
    }
}

impl CallSize {
    /// Returns the number of rows that the next call may have.
    pub(super) fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// Takes the reads of a call into account: the number of keys, and the bytes of their rows.
    pub(super) fn record_reads(&mut self, keys: usize, bytes: usize) {
        let key_bytes = bytes / keys.max(1);
        let fitting = READ_BYTES_MAX / key_bytes.max(1);
        // By steps, because keys differ.
        self.rows_max = fitting
            .clamp(self.rows_max / 8, self.rows_max * 2)
            .clamp(1, CALL_ROWS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_as_large_as_their_reads_allow() {
        let mut size = CallSize::default();
        let mut after = |keys: usize, key_bytes: usize| {
            (0..20).for_each(|_| size.record_reads(keys, keys * key_bytes));
            size.rows_max()
        };
        assert_eq!(after(1_000, 100), CALL_ROWS_MAX);
        assert_eq!(after(1_000, 0), CALL_ROWS_MAX);
        assert_eq!(after(100, 64 << 10), 128);
        assert_eq!(after(3, 100 << 20), 1, "a row at a time");
        assert_eq!(after(1, 8 << 10), 1_024);
        assert_eq!(after(0, 0), CALL_ROWS_MAX, "calls that read nothing");
    }

    #[test]
    fn one_large_key_does_not_make_calls_tiny() {
        let mut size = CallSize::default();
        (0..20).for_each(|_| size.record_reads(100, 0));
        size.record_reads(1, 1 << 30);
        assert_eq!(size.rows_max(), CALL_ROWS_MAX / 8);
    }
}
