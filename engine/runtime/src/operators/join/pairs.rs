//! Pairs of rows of equal keys.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow_array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow_select::filter::{filter, filter_record_batch};
use datafusion::physical_expr::PhysicalExprRef;
use millstream_state::keyed::Rows;

use super::{JoinLogic, NONE};
use crate::Error;
use crate::operators::keyed::{CHANGES_MAX, WeightedRows};

/// A condition on pairs besides the equality of keys.
pub(super) struct Condition {
    pub filter: PhysicalExprRef,
    /// Columns of the left input, then of the right one.
    pub schema: SchemaRef,
}

impl Condition {
    /// Returns true for the pairs that meet the condition. NULL is not met.
    pub(super) fn evaluate(&self, pairs: &RecordBatch) -> Result<BooleanArray, Error> {
        let passed = self.filter.evaluate(pairs)?.into_array(pairs.num_rows())?;
        let passed = datafusion::common::cast::as_boolean_array(&passed)?;
        Ok(match passed.null_count() {
            0 => passed.clone(),
            _ => arrow_select::filter::prep_null_mask_filter(passed),
        })
    }
}

/// A change of the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    /// Row of the input whose rows arrived (a row of the batch, or an entry), or [`NONE`].
    pub own: u32,
    /// Entry of the other input, or [`NONE`].
    pub other: u32,
    pub weight: i64,
}

/// The pairs of a batch's rows with the rows of the other input, as far as they have not been returned.
pub(super) struct Pairs {
    /// The key of each row of the batch in the other input's collection.
    slots: Vec<u32>,
    /// Number of times that each row is added or removed.
    weights: Vec<i64>,
    /// The rows that are added or removed: removed ones first.
    rows: Vec<u32>,
    /// Number of rows whose pairs have been returned.
    returned: usize,
    /// The next entry for the present row; `None`: its first.
    entry: Option<u32>,
}

/// Returns the rows whose weight is not zero: removed ones before added ones.
pub(in crate::operators) fn removed_first(weights: &[i64]) -> Vec<u32> {
    let of_sign = |sign: i64| {
        let rows = (0..weights.len() as u32).zip(weights);
        rows.filter(move |(_, weight)| weight.signum() == sign)
            .map(|(row, _)| row)
    };
    of_sign(-1).chain(of_sign(1)).collect()
}

impl Pairs {
    pub(super) fn new(slots: Vec<u32>, weights: Vec<i64>) -> Self {
        Self {
            rows: removed_first(&weights),
            slots,
            weights,
            returned: 0,
            entry: None,
        }
    }

    /// Returns the next pairs, about [`CHANGES_MAX`]; none at the end.
    fn next(&mut self, others: &Rows) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        while let Some(row) = self.rows.get(self.returned).copied()
            && changes.len() < CHANGES_MAX
        {
            let weight = self.weights[row as usize];
            let first = || others.first_entry(self.slots[row as usize]);
            let mut entry = self.entry.take().unwrap_or_else(first);
            while entry != NONE && changes.len() < CHANGES_MAX {
                let other_weight = others.weight(entry);
                if other_weight > 0 {
                    changes.push(Change {
                        own: row,
                        other: entry,
                        weight: weight * other_weight,
                    });
                }
                entry = others.next_entry(entry);
            }
            match entry {
                NONE => self.returned += 1,
                entry => self.entry = Some(entry),
            }
        }
        changes
    }
}

impl JoinLogic {
    /// Returns the next pairs that meet the condition as changes of the output.
    pub(super) fn next_pairs(&self, pairs: &mut Pairs, rows: &[Rows]) -> Result<Option<WeightedRows>, Error> {
        let Some(batch) = &self.batch else { return Ok(None) };
        loop {
            let changes = pairs.next(&rows[1 - self.own]);
            if changes.is_empty() {
                return Ok(None);
            }
            let columns = self.pair_columns(batch, &changes, rows)?;
            let weights: Vec<i64> = changes.iter().map(|change| change.weight).collect();
            let Some(condition) = &self.condition else {
                return Ok(Some(WeightedRows { columns, weights }));
            };
            let pairs = self.pair_batch(condition, columns, weights.len())?;
            let passed = condition.evaluate(&pairs)?;
            if passed.true_count() == 0 {
                continue;
            }
            let weights = filter(&Int64Array::from(weights), &passed)?;
            return Ok(Some(WeightedRows {
                columns: filter_record_batch(&pairs, &passed)?.columns().to_vec(),
                weights: weights.as_primitive::<Int64Type>().values().to_vec(),
            }));
        }
    }

    /// Returns the pairs of a batch's rows that meet the condition, of these pairs of rows and entries.
    pub(super) fn meeting(&self, batch: &RecordBatch, pairs: Vec<Change>, rows: &[Rows]) -> Result<Vec<Change>, Error> {
        let Some(condition) = &self.condition else {
            return Ok(pairs);
        };
        let mut met = Vec::new();
        for part in pairs.chunks(CHANGES_MAX) {
            let columns = self.pair_columns(batch, part, rows)?;
            let passed = condition.evaluate(&self.pair_batch(condition, columns, part.len())?)?;
            let part = part.iter().zip(passed.values()).filter(|(_, passed)| *passed);
            met.extend(part.map(|(pair, _)| *pair));
        }
        Ok(met)
    }

    /// Returns the pairs of entries that meet the condition; `own` are entries of the input `side`.
    pub(super) fn meeting_entries(&self, side: usize, pairs: Vec<Change>, rows: &[Rows]) -> Result<Vec<Change>, Error> {
        let Some(condition) = &self.condition else {
            return Ok(pairs);
        };
        let mut met = Vec::new();
        for part in pairs.chunks(CHANGES_MAX) {
            let entries = |of: fn(&Change) -> u32| -> Vec<u32> { part.iter().map(of).collect() };
            let own = self.sides[side].gather(&rows[side], &entries(|pair| pair.own))?;
            let other = self.sides[1 - side].gather(&rows[1 - side], &entries(|pair| pair.other))?;
            let columns = in_order(side, own, other);
            let passed = condition.evaluate(&self.pair_batch(condition, columns, part.len())?)?;
            let part = part.iter().zip(passed.values()).filter(|(_, passed)| *passed);
            met.extend(part.map(|(pair, _)| *pair));
        }
        Ok(met)
    }

    /// Returns the columns of pairs: those of the left input, then those of the right one.
    fn pair_columns(&self, batch: &RecordBatch, pairs: &[Change], rows: &[Rows]) -> Result<Vec<ArrayRef>, Error> {
        let own: Vec<u32> = pairs.iter().map(|pair| pair.own).collect();
        let others: Vec<u32> = pairs.iter().map(|pair| pair.other).collect();
        let own = self.sides[self.own].take(batch, &own)?;
        let other = self.sides[1 - self.own].gather(&rows[1 - self.own], &others)?;
        Ok(in_order(self.own, own, other))
    }

    fn pair_batch(&self, condition: &Condition, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, Error> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = SchemaRef::clone(&condition.schema);
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }
}

/// Returns the columns of the left input, then those of the right one.
fn in_order(side: usize, own: Vec<ArrayRef>, other: Vec<ArrayRef>) -> Vec<ArrayRef> {
    match side {
        0 => [own, other].concat(),
        _ => [other, own].concat(),
    }
}
