//! Pairs of rows of equal keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow::datatypes::{Schema, SchemaRef};
use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_select::take::take;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use millstream_state::keyed::Rows;

use super::{JoinLogic, NONE, nullable_fields};
use crate::Error;
use crate::operators::calc::rebase;
use crate::operators::keyed::{CHANGES_MAX, WeightedRows};
use crate::operators::mutants::{self, Mutant};

/// Bytes of rows of the other input that are copied to pairs at once, about: larger batches would not stay in the
/// processor's cache until they are used.
const PAIRS_BYTES_MAX: usize = 512 << 10;

/// A condition on pairs besides the equality of keys.
pub(super) struct Condition {
    /// Over the columns that it uses, as `schema` has them.
    filter: PhysicalExprRef,
    /// By input: the columns that the filter uses.
    columns: [Vec<usize>; 2],
    /// These columns: those of the left input, then those of the right one.
    schema: SchemaRef,
}

impl Condition {
    /// Creates a condition from a filter over the columns of the left input and then those of the right one.
    pub(super) fn new(filter: &PhysicalExprRef, inputs: [&SchemaRef; 2]) -> Result<Self, Error> {
        let fields = inputs.map(nullable_fields);
        let width = fields[0].len();
        let used: BTreeSet<usize> = collect_columns(filter).iter().map(Column::index).collect();
        let used: Vec<usize> = used.into_iter().collect();
        let fields = fields.concat();
        let schema = used.iter().map(|column| Arc::clone(&fields[*column]));
        let schema: SchemaRef = Arc::new(Schema::new(schema.collect::<Vec<_>>()));
        let filter = rebase(filter, &used, &schema)?;
        let (left, right): (Vec<usize>, Vec<usize>) = used.iter().partition(|column| **column < width);
        Ok(Self {
            filter,
            columns: [left, right.iter().map(|column| column - width).collect()],
            schema,
        })
    }

    /// Returns true for the pairs that meet the condition. NULL is not met. `columns` are those that the filter uses,
    /// of `rows` pairs.
    fn evaluate(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<BooleanArray, Error> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let pairs = RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), columns, &options)?;
        let passed = self.filter.evaluate(&pairs)?.into_array(rows)?;
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

    /// Returns the next pairs, at most about [`CHANGES_MAX`] and [`PAIRS_BYTES_MAX`]; none at the end.
    fn next(&mut self, others: &Rows) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        let mut bytes = 0;
        while let Some(row) = self.rows.get(self.returned).copied()
            && changes.len() < CHANGES_MAX
            && bytes < PAIRS_BYTES_MAX
        {
            let weight = self.weights[row as usize];
            let first = || others.first_entry(self.slots[row as usize]);
            let mut entry = self.entry.take().unwrap_or_else(first);
            while entry != NONE && changes.len() < CHANGES_MAX && bytes < PAIRS_BYTES_MAX {
                let other_weight = others.weight(entry);
                if other_weight > 0 || mutants::is_active(Mutant::InvisibleRowsJoined) {
                    bytes += others.bytes(entry).len();
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
            let mut changes = pairs.next(&rows[1 - self.own]);
            if changes.is_empty() {
                return Ok(None);
            }
            if let Some(condition) = &self.condition {
                // The other columns are only copied for the pairs that meet it.
                let passed = self.evaluate(condition, batch, &changes, rows)?;
                let mut passed = passed.values().iter();
                changes.retain(|_| passed.next() == Some(true));
                if changes.is_empty() {
                    continue;
                }
            }
            return Ok(Some(WeightedRows {
                columns: self.pair_columns(batch, &changes, rows)?,
                weights: changes.iter().map(|change| change.weight).collect(),
            }));
        }
    }

    /// Returns the pairs of a batch's rows that meet the condition, of these pairs of rows and entries.
    pub(super) fn meeting(&self, batch: &RecordBatch, pairs: Vec<Change>, rows: &[Rows]) -> Result<Vec<Change>, Error> {
        let Some(condition) = self
            .condition
            .as_ref()
            .filter(|_| !mutants::is_active(Mutant::ConditionIgnored))
        else {
            return Ok(pairs);
        };
        let mut met = Vec::new();
        for part in pairs.chunks(CHANGES_MAX) {
            let passed = self.evaluate(condition, batch, part, rows)?;
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
            let gather = |side: usize, entries: Vec<u32>| {
                self.sides[side].gather_some(&rows[side], &entries, &condition.columns[side])
            };
            let own = gather(side, entries(|pair| pair.own))?;
            let other = gather(1 - side, entries(|pair| pair.other))?;
            let passed = condition.evaluate(in_order(side, own, other), part.len())?;
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

    /// Returns true for the pairs of a batch's rows that meet the condition.
    fn evaluate(
        &self,
        condition: &Condition,
        batch: &RecordBatch,
        pairs: &[Change],
        rows: &[Rows],
    ) -> Result<BooleanArray, Error> {
        let (own, other) = (self.own, 1 - self.own);
        let own_rows = UInt32Array::from_iter_values(pairs.iter().map(|pair| pair.own));
        let own_columns = condition.columns[own].iter();
        let own_columns = own_columns.map(|column| take(batch.column(*column), &own_rows, None));
        let own_columns = own_columns.collect::<Result<Vec<_>, _>>()?;
        let entries: Vec<u32> = pairs.iter().map(|pair| pair.other).collect();
        let others = self.sides[other].gather_some(&rows[other], &entries, &condition.columns[other])?;
        condition.evaluate(in_order(own, own_columns, others), pairs.len())
    }
}

/// Returns the columns of the left input, then those of the right one.
fn in_order(side: usize, own: Vec<ArrayRef>, other: Vec<ArrayRef>) -> Vec<ArrayRef> {
    match side {
        0 => [own, other].concat(),
        _ => [other, own].concat(),
    }
}
