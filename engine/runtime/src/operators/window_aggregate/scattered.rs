//! Pre-aggregation of batches whose rows are scattered over many slices: one table for all slices.
//!
//! Where rows arrive in no order of time, a batch has few rows of each slice, and a table per slice costs more for each
//! slice than for the rows. Here, keys and slices are numbered, and a group is a pair of their numbers.
//!
//! Groups cannot be removed one by one. Those of slices that have been emitted remain, and are ignored, until the table
//! is compacted or cleared. A late row of such a slice compacts the table first, so that its group is a new one.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow_array::RecordBatch;

use super::Layout;
use super::slice_assignment::SeveralSlices;
use crate::Error;
use crate::operator::{WATERMARK_MAX, WATERMARK_MIN};
use crate::operators::table::{Argument, GroupIndex, Select, Table, TableSpec, new_group_index};

/// Groups by slice and key.
pub(super) struct ScatteredSlices {
    keys: Box<dyn GroupIndex>,
    /// Ends of slices.
    slices: Box<dyn GroupIndex>,
    /// The specification of `table`: its key is the number of the slice and, in the lower half, that of the key.
    spec: Arc<TableSpec>,
    table: Table,
    /// The end of each group's slice.
    ends: Vec<i64>,
    /// The end up to which slices have been emitted.
    emitted_end: i64,
    /// Number of groups that have been emitted.
    emitted_groups: usize,
    /// The end of the first slice that has not been emitted; `WATERMARK_MAX` if there is none.
    next_end: i64,
    /// Scratch: the numbers of the keys of a batch's rows, and of its slices.
    key_numbers: Vec<u32>,
    slice_numbers: Vec<u32>,
}

impl ScatteredSlices {
    /// Creates an empty table for groups of this layout.
    pub(super) fn new(layout: &Layout) -> Result<Self, Error> {
        let number = Arc::new(Field::new("number", DataType::Int64, false));
        let aggregates: Vec<_> = layout
            .spec
            .aggregates
            .iter()
            .map(|spec| spec.aggregate.clone())
            .collect();
        let spec = TableSpec::new(vec![Arc::clone(&number)], &aggregates)?;
        Ok(Self {
            keys: new_group_index(&layout.spec.key_fields)?,
            slices: new_group_index(&[number])?,
            table: Table::new(&spec)?,
            spec,
            ends: Vec::new(),
            emitted_end: WATERMARK_MIN,
            emitted_groups: 0,
            next_end: WATERMARK_MAX,
            key_numbers: Vec::new(),
            slice_numbers: Vec::new(),
        })
    }

    /// Returns the number of groups that have not been emitted.
    pub(super) fn len(&self) -> usize {
        self.ends.len() - self.emitted_groups
    }

    /// Returns the number of keys, slices or emitted groups that are kept although no group may need them.
    pub(super) fn unused_max(&self) -> usize {
        self.keys.len().max(self.slices.len()).max(self.emitted_groups)
    }

    /// Aggregates rows, none of which is late. Replaces `groups` by the group of each row.
    pub(super) fn update(
        &mut self,
        keys: &[ArrayRef],
        arguments: &[Argument],
        rows: &SeveralSlices,
        groups: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let first_end = rows.ends.iter().copied().min().unwrap_or(WATERMARK_MAX);
        if first_end <= self.emitted_end {
            self.compact()?;
        }
        let slices: ArrayRef = Arc::new(Int64Array::from(rows.ends.clone()));
        self.slices
            .intern(&[slices], rows.ends.len(), &mut self.slice_numbers)?;
        self.keys.intern(keys, rows.places.len(), &mut self.key_numbers)?;
        let numbers = rows.places.iter().zip(&self.key_numbers);
        let numbers = numbers.map(|(place, key)| {
            let slice = self.slice_numbers[*place as usize];
            i64::from(slice) << u32::BITS | i64::from(*key)
        });
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
        let known = self.table.len();
        self.table.update(&[numbers], arguments, rows.places.len(), groups)?;
        self.ends.resize(self.table.len(), 0);
        for (group, place) in groups.iter().zip(&rows.places) {
            if *group as usize >= known {
                self.ends[*group as usize] = rows.ends[*place as usize];
            }
        }
        self.next_end = self.next_end.min(first_end);
        Ok(())
    }

    /// Returns the groups of slices up to `end` that have not been emitted, by slice.
    pub(super) fn due(&self, end: i64) -> Vec<u32> {
        if end < self.next_end {
            return Vec::new();
        }
        let due = self.ends.iter().enumerate();
        let due = due.filter(|(_, slice_end)| self.emitted_end < **slice_end && **slice_end <= end);
        let mut groups: Vec<u32> = due.map(|(group, _)| group as u32).collect();
        groups.sort_by_key(|group| self.ends[*group as usize]);
        groups
    }

    /// Returns some groups as partial states.
    pub(super) fn states(&mut self, groups: &[u32], layout: &Layout) -> Result<RecordBatch, Error> {
        let select = Select::Indices(groups);
        let numbers = self.table.keys(&select)?;
        let numbers = numbers[0].as_primitive::<Int64Type>().values();
        // The lower half is the key's number.
        let keys: Vec<u32> = numbers.iter().map(|number| *number as u32).collect();
        let keys = self.keys.keys(&Select::Indices(&keys))?;
        let states = self.table.states(&select)?.into_iter().flatten();
        let ends = select.gather(&self.ends);
        layout
            .output
            .batch_of_slices(keys, states, ends, |end| layout.slices.slice_start(end))
    }

    /// Notes that all groups of slices up to `end` have been emitted.
    pub(super) fn set_emitted(&mut self, end: i64) -> Result<(), Error> {
        if end < self.next_end {
            return Ok(());
        }
        self.emitted_end = self.emitted_end.max(end);
        let rest = self.ends.iter().filter(|slice_end| **slice_end > self.emitted_end);
        let (count, next_end) = rest.fold((0, WATERMARK_MAX), |(count, min), end| (count + 1, min.min(*end)));
        if count == 0 {
            return self.clear();
        }
        self.emitted_groups = self.ends.len() - count;
        self.next_end = next_end;
        Ok(())
    }

    /// Removes the groups that have been emitted.
    pub(super) fn compact(&mut self) -> Result<(), Error> {
        let rest = self.due(WATERMARK_MAX);
        let select = Select::Indices(&rest);
        let numbers = self.table.keys(&select)?;
        let states = self.table.states(&select)?;
        let mut table = Table::new(&self.spec)?;
        let mut groups = Vec::new();
        table.merge(&numbers, &states, rest.len(), &mut groups)?;
        self.ends = select.gather(&self.ends);
        self.table = table;
        self.emitted_end = WATERMARK_MIN;
        self.emitted_groups = 0;
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.keys.clear();
        self.slices.clear();
        self.table.clear()?;
        self.ends.clear();
        self.emitted_end = WATERMARK_MIN;
        self.emitted_groups = 0;
        self.next_end = WATERMARK_MAX;
        Ok(())
    }
}
