//! Sizes of blocks, and the order and selection of rows for them.

use arrow::array::{ArrayRef, UInt32Array};
use arrow_select::take::take_arrays;

use crate::Error;

/// Converts an error in reading a table's state, for a flush.
pub(super) fn state_error(error: Error) -> millstream_state::Error {
    millstream_state::Error::Invalid(format!("state cannot be read from its table: {error}"))
}

/// Returns some rows of columns of state.
pub(crate) fn take_rows(columns: &[ArrayRef], rows: &[u32]) -> Result<Vec<ArrayRef>, millstream_state::Error> {
    take_arrays(columns, &UInt32Array::from(rows.to_vec()), None)
        .map_err(|error| millstream_state::Error::Invalid(format!("rows of state: {error}")))
}

/// Maximal number of rows of a block: large enough to make the database's cost per entry negligible.
pub(crate) const BLOCK_ROWS_MAX: usize = 4_096;
/// Approximate bytes of a block: few compared to a chunk.
const BLOCK_BYTES: usize = 256 << 10;
/// Blocks read from the store at once; fewer if they have many bytes.
pub(crate) const SCAN_BLOCKS: usize = 64;
/// Approximate bytes of blocks that are passed to the database at once.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Returns the number of rows per block, for `rows` rows of `bytes` bytes in all.
pub(crate) fn rows_per_block(bytes: usize, rows: usize) -> usize {
    (BLOCK_BYTES / (bytes / rows.max(1)).max(1)).clamp(1, BLOCK_ROWS_MAX)
}

/// Returns the rows ordered by key group, and otherwise in their present order (a counting sort).
pub(crate) fn rows_by_key_group(key_groups: &[u16]) -> Vec<u32> {
    let mut starts = vec![0u32; key_groups.iter().max().map_or(0, |max| *max as usize + 2)];
    for group in key_groups {
        starts[*group as usize + 1] += 1;
    }
    for group in 1..starts.len() {
        starts[group] += starts[group - 1];
    }
    let mut order = vec![0; key_groups.len()];
    for (row, group) in key_groups.iter().enumerate() {
        let place = &mut starts[*group as usize];
        order[*place as usize] = row as u32;
        *place += 1;
    }
    order
}
