//! The first rows of each partition of a changelog.
//!
//! All rows are in a collection, in their order: by sort key, then by their columns. Each has its weight, which may be
//! negative for a while, because a deletion may arrive before the insertion it belongs to; such a row is not visible.
//!
//! The list of a partition has the first of its visible rows: those that are emitted, and some more. A row that is
//! deleted is replaced by the next one. If fewer rows than emitted ones are left, but there are more, the list is read
//! from the collection.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow_array::RecordBatch;
use millstream_connectors::changelog;
use millstream_state::Codec;
use millstream_state::keyed::{Layout, Resolved, Table, TableOptions};
use millstream_state::store::{RowFilter, StoredValues};

use super::Common;
use super::best_rows::{check_size, lists};
use super::ranked_list::{Entries, Entry, list_of};
use crate::Error;
use crate::operators::keyed::{KeyedLogic, Keys, Output, OutputForm, Refill};
use crate::operators::mutants::{self, Mutant};

/// Value column of partitions: the number of visible rows, without repetitions.
const ROWS: usize = 0;
/// Value column of partitions: the list.
const LIST: usize = 1;
/// Value column of rows.
const WEIGHT: usize = 0;
/// The collection of rows.
const OF_ROWS: usize = 1;
/// Least number of entries that a list may have beyond the emitted ones.
const MARGIN_MIN: usize = 16;

/// The logic of the operator. Collections: the number of rows and the list by partition; the weight by partition, sort
/// key and row.
pub(super) struct AllRows {
    common: Common,
    collections: Vec<TableOptions>,
    /// Sort keys and rows of the batch whose keys were asked for last.
    encoded: Option<(BinaryArray, BinaryArray)>,
    /// By slot of the first collection: its index among the distinct slots of the present call.
    ordinals: Vec<u32>,
    /// By slot of the second collection: its index among the distinct slots of the present call.
    row_ordinals: Vec<u32>,
    next_refill: Option<Refill>,
}

/// The change of the weight of a row by a call.
#[derive(Clone, Copy)]
struct WeightChange {
    /// Index of the partition's slot among the distinct slots.
    ordinal: u32,
    /// A row of the batch with the same values.
    row: usize,
    before: i64,
    after: i64,
    /// True if a deletion had no row, whose state may have expired.
    is_unmatched: bool,
}

impl AllRows {
    pub(super) fn new(common: Common) -> Result<Self, Error> {
        let partition = common.output.partition_types();
        let row_keys = [partition, &[DataType::Binary, DataType::Binary]].concat();
        let options = |collection: u8, layout: Arc<Layout>| TableOptions {
            layout,
            collection,
            hashed: partition.len(),
            max_parallelism: common.max_parallelism,
            is_ordered: collection as usize == OF_ROWS,
            is_expiring: common.is_expiring,
        };
        let collections = vec![
            options(0, Layout::new(partition, &[DataType::Int64, DataType::Binary])?),
            options(OF_ROWS as u8, Layout::new(&row_keys, &[DataType::Int64])?),
        ];
        Ok(Self {
            common,
            collections,
            encoded: None,
            ordinals: Vec::new(),
            row_ordinals: Vec::new(),
            next_refill: None,
        })
    }

    /// Returns the number of entries that a list keeps of those that are known.
    fn kept(&self, entries: &[Entry<'_>]) -> usize {
        let emitted = self.common.ranks.count(entries.iter().copied());
        entries.len().min(emitted + self.margin())
    }

    fn margin(&self) -> usize {
        MARGIN_MIN.max(usize::try_from(self.common.ranks.to / 2).unwrap_or(usize::MAX))
    }

    /// Updates the weights of rows. Returns the rows that were visible or are, by partition and in their order.
    fn weight_changes(
        &mut self,
        batch: &RecordBatch,
        resolved: &[Resolved],
        table: &mut Table,
        encoded: &(BinaryArray, BinaryArray),
    ) -> Vec<WeightChange> {
        set_ordinals(&mut self.ordinals, &resolved[0].distinct);
        set_ordinals(&mut self.row_ordinals, &resolved[OF_ROWS].distinct);
        let mut changes: Vec<Option<WeightChange>> = vec![None; resolved[OF_ROWS].distinct.len()];
        let kinds = changelog::kinds(batch);
        let mut unmatched = 0;
        for (row, (slot, partition)) in resolved[OF_ROWS].slots.iter().zip(&resolved[0].slots).enumerate() {
            let change = changes[self.row_ordinals[*slot as usize] as usize].get_or_insert_with(|| {
                let before = i64::from_le_bytes(table.fixed(*slot, WEIGHT));
                WeightChange {
                    ordinal: self.ordinals[*partition as usize],
                    row,
                    before,
                    after: before,
                    is_unmatched: false,
                }
            });
            let weight = i64::from(kinds.map_or(1, |kinds| kinds.value(row).signum()));
            if table.is_expiring() && change.after + weight < 0 {
                change.is_unmatched = true;
                unmatched += 1;
            } else {
                change.after += weight;
            }
        }
        if unmatched > 0 {
            metrics::counter!("millstream_unmatched_retractions_total").increment(unmatched);
        }
        for (change, slot) in changes.iter().flatten().zip(&resolved[OF_ROWS].distinct) {
            table.set_fixed(*slot, WEIGHT, change.after.to_le_bytes());
            match change.after {
                0 if table.is_present(*slot) => table.remove(*slot),
                0 => {}
                _ => table.set_changed(*slot),
            }
        }
        let is_visible = |change: &WeightChange| {
            change.before.max(0) != change.after.max(0) || (change.is_unmatched && change.after == 0)
        };
        let mut changes: Vec<WeightChange> = changes.into_iter().flatten().filter(is_visible).collect();
        let (sort_keys, rows) = encoded;
        changes.sort_unstable_by(|a, b| {
            a.ordinal
                .cmp(&b.ordinal)
                .then_with(|| sort_keys.value(a.row).cmp(sort_keys.value(b.row)))
                .then_with(|| rows.value(a.row).cmp(rows.value(b.row)))
        });
        changes
    }

    /// Updates the list and the number of rows of a partition, whose changes are in the order of the rows. Returns a
    /// request if too few rows are known.
    fn update(
        &self,
        table: &mut Table,
        slot: u32,
        changes: &[WeightChange],
        encoded: &(BinaryArray, BinaryArray),
    ) -> Result<Option<Refill>, Error> {
        let (sort_keys, rows) = encoded;
        let mut count = i64::from_le_bytes(table.fixed(slot, ROWS));
        let known: Vec<Entry<'_>> = Entries::of(table.bytes(slot, LIST)).collect();
        let is_complete = known.len() as i64 == count;
        let last = known.last().copied();
        let mut entries = Vec::with_capacity(known.len() + changes.len());
        let mut known = known.into_iter().peekable();
        for change in changes {
            let new = Entry {
                sort_key: sort_keys.value(change.row),
                row: rows.value(change.row),
                weight: u32::try_from(change.after.max(0)).unwrap_or(u32::MAX),
            };
            while let Some(entry) = known.next_if(|entry| compare(entry, &new) == Ordering::Less) {
                entries.push(entry);
            }
            let is_known = known.next_if(|entry| compare(entry, &new) == Ordering::Equal).is_some();
            // Behind the last known row, there may be others before the new one, unless all are known.
            let is_complete = is_complete || mutants::is_active(Mutant::UnknownRowsSkipped);
            let is_listed = is_complete || last.is_some_and(|last| compare(&new, &last) != Ordering::Greater);
            if is_listed && new.weight > 0 {
                entries.push(new);
            }
            let was_visible = is_known || change.before > 0;
            count += i64::from(new.weight > 0) - i64::from(was_visible);
        }
        entries.extend(known);
        entries.truncate(self.kept(&entries));
        let is_enough = entries.len() as i64 >= count
            || self.common.ranks.is_full(entries.iter().copied())
            || mutants::is_active(Mutant::ListsNotRefilled);
        let list = list_of(&entries);
        check_size(&self.common.name, &list)?;
        if count <= 0 && list.is_empty() {
            if table.is_present(slot) {
                table.remove(slot);
            }
            return Ok(None);
        }
        table.set_fixed(slot, ROWS, count.to_le_bytes());
        table.set_bytes(slot, LIST, &list);
        table.set_changed(slot);
        let rows = usize::try_from(self.common.ranks.to).unwrap_or(usize::MAX);
        Ok((!is_enough).then(|| refill_of(slot, rows.saturating_add(self.margin()))))
    }
}

/// Returns a request for the first rows of a partition.
fn refill_of(slot: u32, rows: usize) -> Refill {
    Refill {
        collection: OF_ROWS,
        is_reversed: false,
        purpose: rows,
        slot,
    }
}

fn compare(a: &Entry<'_>, b: &Entry<'_>) -> Ordering {
    a.sort_key.cmp(b.sort_key).then_with(|| a.row.cmp(b.row))
}

/// Sets the index of each of some slots.
fn set_ordinals(ordinals: &mut Vec<u32>, distinct: &[u32]) {
    for (ordinal, slot) in distinct.iter().enumerate() {
        let slot = *slot as usize;
        if ordinals.len() <= slot {
            ordinals.resize(slot + 1, 0);
        }
        ordinals[slot] = ordinal as u32;
    }
}

/// Returns the weight in the encoded values of a row.
fn weight_of(values: &[u8]) -> Result<i64, millstream_state::Error> {
    let columns = Codec::values(&[DataType::Int64])?.decode([values])?;
    Ok(columns[0].as_primitive::<Int64Type>().value(0))
}

/// Bytes of the encoded values of a row: the mark of a value that is not NULL, and the weight.
const VALUES_BYTES: usize = 9;

impl KeyedLogic for AllRows {
    fn collections(&self) -> Vec<TableOptions> {
        self.collections.clone()
    }

    fn keys(&mut self, batch: &RecordBatch) -> Result<Vec<Keys>, Error> {
        let partitions = Keys::of(batch, &self.common.partition);
        let sort_keys = self.common.sort_keys.encode(batch)?;
        let rows = self.common.encoding.encode(batch.columns(), batch.num_rows())?;
        let mut columns = partitions.columns.clone();
        columns.extend([Arc::new(sort_keys.clone()) as ArrayRef, Arc::new(rows.clone())]);
        self.encoded = Some((sort_keys, rows));
        let rows = partitions.rows;
        Ok(vec![partitions, Keys { columns, rows }])
    }

    fn apply(
        &mut self,
        batch: &RecordBatch,
        resolved: &[Resolved],
        tables: &mut [Table],
    ) -> Result<Vec<Refill>, Error> {
        let ([partitions, rows], Some(encoded)) = (tables, self.encoded.take()) else {
            return Ok(Vec::new());
        };
        let changes = self.weight_changes(batch, resolved, rows, &encoded);
        let mut refills = Vec::new();
        for group in changes.chunk_by(|a, b| a.ordinal == b.ordinal) {
            let slot = resolved[0].distinct[group[0].ordinal as usize];
            refills.extend(self.update(partitions, slot, group, &encoded)?);
        }
        Ok(refills)
    }

    fn refill(&mut self, refill: &Refill, rows: &StoredValues, table: &mut Table) -> Result<(), Error> {
        let rows: Vec<&[u8]> = (0..rows.len()).filter_map(|row| rows.get(row)).collect();
        let split = rows
            .iter()
            .map(|row| row.split_at(row.len().saturating_sub(VALUES_BYTES)));
        let keys = Codec::keys(&[DataType::Binary, DataType::Binary])?.decode(split.clone().map(|(key, _)| key))?;
        let (sort_keys, encoded) = (keys[0].as_binary::<i32>(), keys[1].as_binary::<i32>());
        let mut entries = Vec::with_capacity(rows.len());
        for (row, (_, values)) in split.enumerate() {
            entries.push(Entry {
                sort_key: sort_keys.value(row),
                row: encoded.value(row),
                weight: u32::try_from(weight_of(values)?).unwrap_or(u32::MAX),
            });
        }
        let is_complete = entries.len() < refill.purpose;
        if is_complete {
            table.set_fixed(refill.slot, ROWS, (entries.len() as i64).to_le_bytes());
        } else if !self.common.ranks.is_full(entries.iter().copied()) {
            self.next_refill = Some(refill_of(refill.slot, refill.purpose.saturating_mul(2)));
        }
        entries.truncate(self.kept(&entries));
        let list = list_of(&entries);
        check_size(&self.common.name, &list)?;
        table.set_bytes(refill.slot, LIST, &list);
        table.set_changed(refill.slot);
        Ok(())
    }

    fn refill_rows(&self, refill: &Refill) -> usize {
        refill.purpose
    }

    fn refill_has_values(&self) -> bool {
        true
    }

    fn next_refill(&mut self) -> Option<Refill> {
        self.next_refill.take()
    }

    fn refill_accepts(&self) -> RowFilter {
        Box::new(|values| Ok(weight_of(values)? > 0))
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
