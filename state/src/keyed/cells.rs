//! Rows of fixed-width cells.
//!
//! A row is a bitmap of the cells that have a value (all others are NULL), followed by the cells in the order of the
//! columns. Numbers, dates and times have their own width. Strings and byte strings have 16 bytes: their length, then
//! the bytes themselves if there are at most [`INLINE_BYTES_MAX`], or else their position in the heap, a buffer that
//! all rows share. Nested values are stored like byte strings, in the encoding of the state crate.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, BooleanArray, StringArray, make_array};
use arrow_buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer, OffsetBuffer};
use arrow_data::ArrayDataBuilder;
use arrow_schema::DataType;

use super::column_values::ColumnValues;
use super::layout::{BYTES_CELL, CellKind, Layout};
use crate::Error;

/// Length of the longest string that is stored in its cell.
const INLINE_BYTES_MAX: usize = 12;
/// The heap is compacted when this many bytes of it, and half of all, are unused.
const HEAP_GARBAGE_BYTES_MIN: usize = 1 << 16;

/// Rows of cells, numbered from 0.
#[derive(Debug)]
pub(crate) struct Cells {
    layout: Arc<Layout>,
    rows: Vec<u8>,
    heap: Vec<u8>,
    /// Bytes of the heap that no cell refers to.
    garbage: usize,
}

impl Cells {
    pub(crate) fn new(layout: Arc<Layout>) -> Self {
        Self {
            layout,
            rows: Vec::new(),
            heap: Vec::new(),
            garbage: 0,
        }
    }

    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() / self.layout.stride
    }

    /// Returns the bytes of all rows.
    pub(crate) fn size(&self) -> usize {
        self.rows.capacity() + self.heap.capacity()
    }

    /// Returns the bytes that `more` rows need in addition, without their strings in the heap.
    pub(crate) fn growth(&self, more: usize) -> usize {
        let needed = self.rows.len() + more * self.layout.stride;
        match needed <= self.rows.capacity() {
            true => 0,
            false => needed.max(2 * self.rows.capacity()) - self.rows.capacity(),
        }
    }

    /// Adds a row of NULLs.
    pub(crate) fn push_row(&mut self) {
        self.rows.resize(self.rows.len() + self.layout.stride, 0);
    }

    /// Asks the processor to load the beginning of a row.
    #[inline(always)]
    pub(crate) fn prefetch(&self, row: usize) {
        super::slot_index::prefetch(&self.rows, row * self.layout.stride);
    }

    /// Makes all cells of a row NULL.
    pub(crate) fn clear_row(&mut self, row: usize) {
        for column in 0..self.layout.columns.len() {
            self.release(row, column);
        }
        let base = row * self.layout.stride;
        self.rows[base..base + self.layout.stride].fill(0);
    }

    #[inline(always)]
    pub(crate) fn is_null(&self, row: usize, column: usize) -> bool {
        self.rows[row * self.layout.stride + column / 8] & (1 << (column % 8)) == 0
    }

    #[inline(always)]
    fn set_valid(&mut self, row: usize, column: usize) {
        self.rows[row * self.layout.stride + column / 8] |= 1 << (column % 8);
    }

    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> usize {
        row * self.layout.stride + self.layout.columns[column].offset
    }

    /// Returns a fixed-width value. NULL is zero.
    #[inline(always)]
    pub(crate) fn fixed<const WIDTH: usize>(&self, row: usize, column: usize) -> [u8; WIDTH] {
        let at = self.at(row, column);
        self.rows[at..at + WIDTH].try_into().unwrap_or([0; WIDTH])
    }

    /// Sets a fixed-width value.
    #[inline(always)]
    pub(crate) fn set_fixed<const WIDTH: usize>(&mut self, row: usize, column: usize, value: [u8; WIDTH]) {
        self.set_valid(row, column);
        let at = self.at(row, column);
        self.rows[at..at + WIDTH].copy_from_slice(&value);
    }

    /// Sets a fixed-width value to NULL.
    #[inline(always)]
    pub(crate) fn set_null<const WIDTH: usize>(&mut self, row: usize, column: usize) {
        self.rows[row * self.layout.stride + column / 8] &= !(1 << (column % 8));
        let at = self.at(row, column);
        self.rows[at..at + WIDTH].fill(0);
    }

    /// Returns a string or byte string. NULL is empty.
    pub(crate) fn bytes(&self, row: usize, column: usize) -> &[u8] {
        let at = self.at(row, column);
        let length = u32::from_le_bytes(self.fixed_at(at)) as usize;
        if length <= INLINE_BYTES_MAX {
            return &self.rows[at + 4..at + 4 + length];
        }
        let position = u64::from_le_bytes(self.fixed_at(at + 8)) as usize;
        &self.heap[position..position + length]
    }

    #[inline(always)]
    fn fixed_at<const WIDTH: usize>(&self, at: usize) -> [u8; WIDTH] {
        self.rows[at..at + WIDTH].try_into().unwrap_or([0; WIDTH])
    }

    /// Sets a string or byte string.
    pub(crate) fn set_bytes(&mut self, row: usize, column: usize, value: &[u8]) {
        let at = self.at(row, column);
        let former = u32::from_le_bytes(self.fixed_at(at)) as usize;
        let reused = former > INLINE_BYTES_MAX && former >= value.len() && value.len() > INLINE_BYTES_MAX;
        if reused {
            let position = u64::from_le_bytes(self.fixed_at(at + 8)) as usize;
            self.heap[position..position + value.len()].copy_from_slice(value);
            self.garbage += former - value.len();
        } else {
            self.release(row, column);
            if value.len() <= INLINE_BYTES_MAX {
                self.rows[at + 4..at + BYTES_CELL].fill(0);
                self.rows[at + 4..at + 4 + value.len()].copy_from_slice(value);
            } else {
                let position = self.heap.len() as u64;
                self.heap.extend_from_slice(value);
                self.rows[at + 4..at + 8].fill(0);
                self.rows[at + 8..at + BYTES_CELL].copy_from_slice(&position.to_le_bytes());
            }
        }
        let length = u32::try_from(value.len()).expect("a value of state has less than 4 GB, as rows in batches do");
        self.rows[at..at + 4].copy_from_slice(&length.to_le_bytes());
        self.set_valid(row, column);
    }

    /// Makes a cell NULL.
    pub(crate) fn reset(&mut self, row: usize, column: usize) {
        match self.layout.columns[column].kind {
            CellKind::Fixed(16) => self.set_null::<16>(row, column),
            CellKind::Fixed(8) => self.set_null::<8>(row, column),
            CellKind::Fixed(4) => self.set_null::<4>(row, column),
            CellKind::Fixed(2) => self.set_null::<2>(row, column),
            CellKind::Fixed(_) | CellKind::Boolean => self.set_null::<1>(row, column),
            CellKind::Bytes | CellKind::Encoded(_) => {
                self.release(row, column);
                self.rows[row * self.layout.stride + column / 8] &= !(1 << (column % 8));
            }
        }
    }

    /// Counts the bytes of a cell in the heap as unused, and makes the cell an empty string.
    fn release(&mut self, row: usize, column: usize) {
        if !matches!(self.layout.columns[column].kind, CellKind::Bytes | CellKind::Encoded(_)) {
            return;
        }
        let at = self.at(row, column);
        let length = u32::from_le_bytes(self.fixed_at(at)) as usize;
        if length > INLINE_BYTES_MAX {
            self.garbage += length;
        }
        self.rows[at..at + 4].fill(0);
    }

    /// Removes the unused bytes of the heap if they are most of it.
    pub(crate) fn compact_heap(&mut self) {
        if self.garbage < HEAP_GARBAGE_BYTES_MIN || self.garbage * 2 < self.heap.len() {
            return;
        }
        let mut heap = Vec::with_capacity(self.heap.len() - self.garbage);
        for row in 0..self.len() {
            for column in 0..self.layout.columns.len() {
                self.move_to_heap(row, column, &mut heap);
            }
        }
        self.heap = heap;
        self.garbage = 0;
    }

    fn move_to_heap(&mut self, row: usize, column: usize, heap: &mut Vec<u8>) {
        if !matches!(self.layout.columns[column].kind, CellKind::Bytes | CellKind::Encoded(_)) {
            return;
        }
        let at = self.at(row, column);
        let length = u32::from_le_bytes(self.fixed_at(at)) as usize;
        if length > INLINE_BYTES_MAX {
            let position = heap.len() as u64;
            heap.extend_from_slice(self.bytes(row, column));
            self.rows[at + 8..at + BYTES_CELL].copy_from_slice(&position.to_le_bytes());
        }
    }

    /// Returns a copy of some rows, in this order.
    pub(crate) fn copy_rows(&self, rows: &[u32]) -> Self {
        let stride = self.layout.stride;
        let mut copy = Self::new(Arc::clone(&self.layout));
        copy.rows.reserve_exact(rows.len() * stride);
        for row in rows {
            let base = *row as usize * stride;
            copy.rows.extend_from_slice(&self.rows[base..base + stride]);
        }
        for column in 0..self.layout.columns.len() {
            if !matches!(self.layout.columns[column].kind, CellKind::Bytes | CellKind::Encoded(_)) {
                continue;
            }
            for (to, from) in rows.iter().enumerate() {
                let value = self.bytes(*from as usize, column);
                if value.len() > INLINE_BYTES_MAX {
                    let position = copy.heap.len() as u64;
                    copy.heap.extend_from_slice(value);
                    let at = copy.at(to, column);
                    copy.rows[at + 8..at + BYTES_CELL].copy_from_slice(&position.to_le_bytes());
                }
            }
        }
        copy
    }

    /// Returns true if a cell has this value. NULL equals NULL.
    #[inline]
    pub(crate) fn equals(&self, row: usize, column: usize, values: &ColumnValues, at: usize) -> bool {
        if let CellKind::Encoded(_) = self.layout.columns[column].kind {
            return self.bytes(row, column) == values.bytes(at);
        }
        if values.is_null(at) || self.is_null(row, column) {
            return values.is_null(at) && self.is_null(row, column);
        }
        match self.layout.columns[column].kind {
            CellKind::Fixed(8) => self.fixed::<8>(row, column) == values.fixed::<8>(at),
            CellKind::Fixed(4) => self.fixed::<4>(row, column) == values.fixed::<4>(at),
            CellKind::Fixed(16) => self.fixed::<16>(row, column) == values.fixed::<16>(at),
            CellKind::Fixed(2) => self.fixed::<2>(row, column) == values.fixed::<2>(at),
            CellKind::Fixed(_) | CellKind::Boolean => self.fixed::<1>(row, column) == values.fixed::<1>(at),
            CellKind::Bytes | CellKind::Encoded(_) => self.bytes(row, column) == values.bytes(at),
        }
    }

    /// Sets a cell.
    #[inline]
    pub(crate) fn set(&mut self, row: usize, column: usize, values: &ColumnValues, at: usize) {
        let is_null = values.is_null(at);
        macro_rules! fixed {
            ($width:literal) => {
                match is_null {
                    true => self.set_null::<$width>(row, column),
                    false => self.set_fixed::<$width>(row, column, values.fixed(at)),
                }
            };
        }
        match self.layout.columns[column].kind {
            CellKind::Fixed(8) => fixed!(8),
            CellKind::Fixed(4) => fixed!(4),
            CellKind::Fixed(16) => fixed!(16),
            CellKind::Fixed(2) => fixed!(2),
            CellKind::Fixed(_) | CellKind::Boolean => fixed!(1),
            CellKind::Bytes | CellKind::Encoded(_) if is_null => self.reset(row, column),
            CellKind::Bytes | CellKind::Encoded(_) => self.set_bytes(row, column, values.bytes(at)),
        }
    }

    /// Returns a column of some rows.
    pub(crate) fn gather(&self, column: usize, rows: &[u32]) -> Result<ArrayRef, Error> {
        let described = &self.layout.columns[column];
        if let CellKind::Encoded(codec) = &described.kind {
            const NULL: &[u8] = &[0];
            let encoded = rows.iter().map(|row| match self.bytes(*row as usize, column) {
                [] => NULL,
                bytes => bytes,
            });
            let mut columns = codec.decode(encoded)?;
            return columns
                .pop()
                .ok_or_else(|| Error::Invalid("an encoding without columns".into()));
        }
        let valid = BooleanBuffer::collect_bool(rows.len(), |at| !self.is_null(rows[at] as usize, column));
        let nulls = Some(NullBuffer::new(valid)).filter(|nulls| nulls.null_count() > 0);
        Ok(match described.kind {
            CellKind::Fixed(8) => self.gather_fixed::<8>(column, rows, nulls)?,
            CellKind::Fixed(4) => self.gather_fixed::<4>(column, rows, nulls)?,
            CellKind::Fixed(16) => self.gather_fixed::<16>(column, rows, nulls)?,
            CellKind::Fixed(2) => self.gather_fixed::<2>(column, rows, nulls)?,
            CellKind::Fixed(_) => self.gather_fixed::<1>(column, rows, nulls)?,
            CellKind::Boolean => {
                let bit = |at: usize| self.fixed::<1>(rows[at] as usize, column) != [0];
                Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(rows.len(), bit), nulls))
            }
            CellKind::Bytes | CellKind::Encoded(_) => self.gather_bytes(column, rows, nulls)?,
        })
    }

    fn gather_fixed<const WIDTH: usize>(
        &self,
        column: usize,
        rows: &[u32],
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, Error> {
        let mut values = MutableBuffer::with_capacity(rows.len() * WIDTH);
        for row in rows {
            values.extend_from_slice(&self.fixed::<WIDTH>(*row as usize, column));
        }
        let data = ArrayDataBuilder::new(self.layout.columns[column].data_type.clone())
            .len(rows.len())
            .add_buffer(values.into())
            .nulls(nulls)
            .build()
            .map_err(invalid)?;
        Ok(make_array(data))
    }

    fn gather_bytes(&self, column: usize, rows: &[u32], nulls: Option<NullBuffer>) -> Result<ArrayRef, Error> {
        let lengths = rows.iter().map(|row| self.bytes(*row as usize, column).len());
        let total: usize = lengths.clone().sum();
        if i32::try_from(total).is_err() {
            return Err(Error::Limit(format!(
                "a column of state has {total} bytes in one batch; a batch holds 2 GB at most"
            )));
        }
        let mut values = MutableBuffer::with_capacity(total);
        for row in rows {
            values.extend_from_slice(self.bytes(*row as usize, column));
        }
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        let values: Buffer = values.into();
        Ok(match &self.layout.columns[column].data_type {
            DataType::Utf8 => Arc::new(StringArray::try_new(offsets, values, nulls).map_err(invalid)?),
            _ => Arc::new(BinaryArray::try_new(offsets, values, nulls).map_err(invalid)?),
        })
    }
}

fn invalid(error: arrow_schema::ArrowError) -> Error {
    Error::Invalid(format!("cells of state: {error}"))
}
