//! The first rows of each partition of append-only input.

use std::cmp::Ordering;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, UInt32Array};
use arrow::datatypes::DataType;
use arrow_array::RecordBatch;
use arrow_select::take::take_arrays;
use millstream_graph::RankFunction;
use millstream_state::keyed::{Layout, Resolved, Table, TableOptions};

use super::Common;
use super::ranked_list::{Entries, Entry, LIST_BYTES_MAX, list_of};
use crate::Error;
use crate::operators::keyed::{KeyedLogic, Keys, Output, OutputForm, Refill};
use crate::operators::mutants::{self, Mutant};

/// Value column with the list of the first rows of a partition.
pub(super) const LIST: usize = 0;

/// The logic of the operator. Collection: the list of the first rows by partition.
pub(super) struct BestRows {
    common: Common,
    options: TableOptions,
    /// True if a row is ranked before those of equal order that came before it; otherwise after them.
    prefers_last: bool,
    /// By slot: the index among the distinct slots of the present call.
    ordinals: Vec<u32>,
    /// The rows of the next batch that may be among the first, and the sort keys of all of its rows.
    candidates: Option<(Vec<Candidate>, BinaryArray)>,
}

/// A row of a batch that may be among the first of its partition.
struct Candidate {
    /// Index of the partition's slot among the distinct slots.
    ordinal: u32,
    row: u32,
}

impl BestRows {
    pub(super) fn new(common: Common, prefers_last: bool) -> Result<Self, Error> {
        let types = common.output.partition_types();
        Ok(Self {
            options: TableOptions {
                layout: Layout::new(types, &[DataType::Binary])?,
                collection: 0,
                hashed: types.len(),
                max_parallelism: common.max_parallelism,
                is_ordered: false,
                is_expiring: common.is_expiring,
            },
            common,
            prefers_last,
            ordinals: Vec::new(),
            candidates: None,
        })
    }

    /// Returns the rows that may be among the first, by partition, and in the order of their ranks.
    fn candidates(&mut self, sort_keys: &BinaryArray, resolved: &Resolved, table: &Table) -> Vec<Candidate> {
        let ranks = self.common.ranks;
        let bounds: Vec<Option<(&[u8], bool)>> = resolved
            .distinct
            .iter()
            .map(|slot| ranks.bound(Entries::of(table.bytes(*slot, LIST))))
            .collect();
        for (ordinal, slot) in resolved.distinct.iter().enumerate() {
            let slot = *slot as usize;
            if self.ordinals.len() <= slot {
                self.ordinals.resize(slot + 1, 0);
            }
            self.ordinals[slot] = ordinal as u32;
        }
        let mut candidates = Vec::new();
        for (row, slot) in resolved.slots.iter().enumerate() {
            let ordinal = self.ordinals[*slot as usize];
            let is_beyond =
                bounds[ordinal as usize].is_some_and(|(bound, includes_ties)| match sort_keys.value(row).cmp(bound) {
                    Ordering::Less => false,
                    Ordering::Equal => includes_ties && !self.prefers_last,
                    Ordering::Greater => true,
                });
            if !is_beyond && ranks.to > 0 {
                let row = row as u32;
                candidates.push(Candidate { ordinal, row });
            }
        }
        let sort_key = |candidate: &Candidate| sort_keys.value(candidate.row as usize);
        candidates.sort_unstable_by(|a, b| {
            let by_arrival = match self.prefers_last {
                false => a.row.cmp(&b.row),
                true => b.row.cmp(&a.row),
            };
            a.ordinal
                .cmp(&b.ordinal)
                .then_with(|| sort_key(a).cmp(sort_key(b)))
                .then(by_arrival)
        });
        if ranks.function == RankFunction::RowNumber {
            // Of the rows of a batch, too, no more than the last rank are among the first.
            let (mut ordinal, mut rank) = (None, 0);
            candidates.retain(|candidate| {
                if ordinal != Some(candidate.ordinal) {
                    (ordinal, rank) = (Some(candidate.ordinal), 0);
                }
                rank += 1;
                rank <= ranks.to
            });
        }
        candidates
    }

    /// Returns the list of a partition with new rows, which are in the order of their ranks.
    fn merged(&self, list: &[u8], new: &[Entry<'_>]) -> Result<Vec<u8>, Error> {
        let mut merged = Vec::with_capacity(new.len() + 16);
        let mut new = new.iter().peekable();
        for entry in Entries::of(list) {
            let is_before = |new: &&Entry<'_>| match new.sort_key.cmp(entry.sort_key) {
                Ordering::Less => true,
                Ordering::Equal => self.prefers_last != mutants::is_active(Mutant::LaterTiesFirst),
                Ordering::Greater => false,
            };
            while let Some(new) = new.next_if(is_before) {
                merged.push(*new);
            }
            merged.push(entry);
        }
        merged.extend(new);
        let count = self.common.ranks.count(merged.iter().copied());
        let list = list_of(&merged[..count]);
        check_size(&self.common.name, &list)?;
        Ok(list)
    }
}

/// Checks the size of a list.
pub(super) fn check_size(name: &str, list: &[u8]) -> Result<(), Error> {
    if list.len() <= LIST_BYTES_MAX {
        return Ok(());
    }
    Err(Error::Operator {
        operator: name.to_owned(),
        message: format!(
            "the first rows of one partition have more than {} MB; rank fewer rows, or let ROW_NUMBER() tell rows of \
             equal order apart",
            LIST_BYTES_MAX >> 20
        ),
    })
}

impl KeyedLogic for BestRows {
    fn collections(&self) -> Vec<TableOptions> {
        vec![self.options.clone()]
    }

    fn keys(&mut self, batch: &RecordBatch) -> Result<Vec<Keys>, Error> {
        Ok(vec![Keys::of(batch, &self.common.partition)])
    }

    fn changing(
        &mut self,
        batch: &RecordBatch,
        resolved: &[Resolved],
        tables: &[Table],
    ) -> Result<Option<Vec<u32>>, Error> {
        let (Some(resolved), Some(table)) = (resolved.first(), tables.first()) else {
            return Ok(None);
        };
        let sort_keys = self.common.sort_keys.encode(batch)?;
        let candidates = self.candidates(&sort_keys, resolved, table);
        let groups = candidates.chunk_by(|a, b| a.ordinal == b.ordinal);
        let slots = groups
            .map(|group| resolved.distinct[group[0].ordinal as usize])
            .collect();
        self.candidates = Some((candidates, sort_keys));
        Ok(Some(slots))
    }

    fn apply(
        &mut self,
        batch: &RecordBatch,
        resolved: &[Resolved],
        tables: &mut [Table],
    ) -> Result<Vec<Refill>, Error> {
        let (Some(resolved), Some(table)) = (resolved.first(), tables.first_mut()) else {
            return Ok(Vec::new());
        };
        let Some((candidates, sort_keys)) = self.candidates.take() else {
            return Ok(Vec::new());
        };
        let rows = UInt32Array::from_iter_values(candidates.iter().map(|candidate| candidate.row));
        let columns = take_arrays(batch.columns(), &rows, None)?;
        let rows = self.common.encoding.encode(&columns, candidates.len())?;
        let mut start = 0;
        for group in candidates.chunk_by(|a, b| a.ordinal == b.ordinal) {
            let entries: Vec<Entry<'_>> = group
                .iter()
                .zip(start..)
                .map(|(candidate, at)| Entry {
                    sort_key: sort_keys.value(candidate.row as usize),
                    row: rows.value(at),
                    weight: 1,
                })
                .collect();
            start += group.len();
            let slot = resolved.distinct[group[0].ordinal as usize];
            let list = self.merged(table.bytes(slot, LIST), &entries)?;
            table.set_bytes(slot, LIST, &list);
            table.set_changed(slot);
        }
        Ok(Vec::new())
    }

    fn output(&mut self, table: &Table, slots: &[u32]) -> Result<Output, Error> {
        lists(table, LIST, slots)
    }

    fn changes(
        &mut self,
        form: &OutputForm,
        keys: &[ArrayRef],
        before: Option<&Output>,
        after: &Output,
        from: usize,
    ) -> Result<(RecordBatch, usize), Error> {
        let Common { output, encoding, .. } = &self.common;
        output.changes(encoding, form, keys, before, after, from)
    }

    fn output_order(&self) -> Option<Vec<usize>> {
        Some(self.common.output.order())
    }
}

/// Returns the lists of partitions as their output.
pub(super) fn lists(table: &Table, list: usize, slots: &[u32]) -> Result<Output, Error> {
    let present: Vec<bool> = slots.iter().map(|slot| table.is_present(*slot)).collect();
    Ok(Output {
        columns: vec![table.values(list, slots)?],
        present: BooleanArray::from(present),
    })
}
