//! Joins of rows with the version of a table that is valid at their time.
//!
//! In event time, left rows wait until the watermark has reached their time: then all versions that they can be joined
//! with have arrived ([`waiting`]). They are processed by time: those of a short range of times together. The versions
//! of a key are in state with their times ([`versions`]), until the watermark has reached the next one.
//!
//! In processing time, left rows are joined with the rows that the right input has at that moment. If it is bounded,
//! they can wait for its end, so that the result does not depend on the order of arrival.

mod versions;
mod waiting;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow::datatypes::{Schema, SchemaRef};
use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_select::filter::filter_record_batch;
use arrow_select::take::take_record_batch;
use datafusion::physical_expr::PhysicalExprRef;
use millstream_graph::{self as graph, ChangelogMode, Emission, VersionTime};
use millstream_state::keyed::{Resolved, Rows, RowsOptions};

use self::versions::Versions;
use self::waiting::WaitingRows;
use super::OperatorContext;
use super::join::{NONE, Side, nullable_fields};
use super::keyed::{CHANGES_MAX, DUE, KeyedRows, OutputForm, RowKeys, RowsForm, RowsLogic, WeightedRows};
use crate::Error;
use crate::operator::{Timestamp, WATERMARK_MIN};
use crate::operators::window_aggregate::micros;

/// Makes the operator of a node.
pub(super) fn temporal_join(
    node: &graph::TemporalJoin,
    inputs: [&SchemaRef; 2],
    output: &SchemaRef,
    context: OperatorContext,
) -> Result<KeyedRows<TemporalLogic>, Error> {
    let logic = TemporalLogic::new(node, inputs, context.max_parallelism);
    let form = RowsForm {
        output: OutputForm {
            schema: Arc::clone(output),
            mode: ChangelogMode::Append,
            upsert_key: None,
            order: None,
        },
        emission: node.emission,
        state_ttl: vec![None, None],
    };
    KeyedRows::new(logic, form, context)
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

/// The logic of the operator. Collections: waiting left rows, and right rows.
pub(super) struct TemporalLogic {
    is_outer: bool,
    left: Side,
    versions: Versions,
    time: VersionTime,
    emission: Emission,
    condition: Option<PhysicalExprRef>,
    left_schema: SchemaRef,
    pair_schema: SchemaRef,
    max_parallelism: u16,
    waiting: WaitingRows,
    watermark: Timestamp,
    /// True if left rows must wait for the end of the right input.
    awaits_end: bool,
    /// Rows of the present call that have a key.
    batch: Option<RecordBatch>,
    /// Left rows of the present call that cannot be joined.
    unmatched: Option<RecordBatch>,
    /// The pairs of the present call: row of the batch, and entry, or [`NONE`].
    pairs: Vec<(u32, u32)>,
    returned: usize,
}

impl TemporalLogic {
    fn new(node: &graph::TemporalJoin, inputs: [&SchemaRef; 2], max_parallelism: u16) -> Self {
        let (left, right) = (nullable_fields(inputs[LEFT]), nullable_fields(inputs[RIGHT]));
        let (left_key, right_key) = node.on.iter().copied().unzip();
        Self {
            is_outer: node.is_outer,
            left: Side::new(inputs[LEFT], left_key, false, false),
            versions: Versions::new(inputs[RIGHT], right_key, &node.time),
            time: node.time,
            emission: node.emission,
            condition: node.filter.clone(),
            left_schema: Arc::new(Schema::new(left.clone())),
            pair_schema: Arc::new(Schema::new([left, right].concat())),
            max_parallelism,
            waiting: WaitingRows::default(),
            watermark: WATERMARK_MIN,
            awaits_end: node.time == VersionTime::Processing { waits_for_end: true },
            batch: None,
            unmatched: None,
            pairs: Vec::new(),
            returned: 0,
        }
    }

    /// Returns true if rows of the left input are stored when they arrive.
    fn left_waits(&self) -> bool {
        match self.time {
            VersionTime::Event { .. } => true,
            VersionTime::Processing { .. } => self.awaits_end,
        }
    }

    /// Splits a batch into rows with a key and rows that have a NULL in it.
    fn split_by_key(&self, input: usize, batch: &RecordBatch) -> Result<(RecordBatch, Option<RecordBatch>), Error> {
        let nulls = match input {
            RIGHT => self.versions.side.null_keys(batch),
            _ => self.left.null_keys(batch),
        };
        let Some(nulls) = nulls else {
            return Ok((batch.clone(), None));
        };
        let has_key = BooleanArray::new(nulls.inner().clone(), None);
        let without = arrow::compute::not(&has_key)?;
        let rest = filter_record_batch(batch, &without)?;
        Ok((filter_record_batch(batch, &has_key)?, Some(rest)))
    }

    /// Joins the left rows of the present call.
    fn join(&mut self, batch: &RecordBatch, slots: &[u32], rows: &Rows) -> Result<(), Error> {
        let times = match self.time {
            VersionTime::Event { left, .. } => Some(micros(batch.column(left))?.0),
            VersionTime::Processing { .. } => None,
        };
        let mut pairs = Vec::new();
        for (row, slot) in slots.iter().enumerate() {
            let time = times.as_ref().map(|times| times[row]);
            let found = self.versions.valid(rows, *slot, time);
            pairs.extend(found.into_iter().map(|entry| (row as u32, entry)));
        }
        let mut pairs = self.meeting(batch, pairs, rows)?;
        if self.is_outer {
            let mut matched = vec![false; slots.len()];
            pairs.iter().for_each(|(row, _)| matched[*row as usize] = true);
            let unmatched = (0..slots.len() as u32).filter(|row| !matched[*row as usize]);
            pairs.extend(unmatched.map(|row| (row, NONE)));
            pairs.sort_unstable();
        }
        self.pairs = pairs;
        self.returned = 0;
        Ok(())
    }

    /// Returns the pairs that meet the condition.
    fn meeting(&self, batch: &RecordBatch, pairs: Vec<(u32, u32)>, rows: &Rows) -> Result<Vec<(u32, u32)>, Error> {
        let Some(condition) = &self.condition else {
            return Ok(pairs);
        };
        let mut met = Vec::new();
        for part in pairs.chunks(CHANGES_MAX) {
            let options = RecordBatchOptions::new().with_row_count(Some(part.len()));
            let columns = self.columns(batch, part, rows)?;
            let pairs = RecordBatch::try_new_with_options(Arc::clone(&self.pair_schema), columns, &options)?;
            let passed = condition.evaluate(&pairs)?.into_array(part.len())?;
            let passed = datafusion::common::cast::as_boolean_array(&passed)?;
            let is_met = |at: usize| passed.is_valid(at) && passed.value(at);
            met.extend((0..part.len()).filter(|at| is_met(*at)).map(|at| part[at]));
        }
        Ok(met)
    }

    fn columns(&self, batch: &RecordBatch, pairs: &[(u32, u32)], rows: &Rows) -> Result<Vec<ArrayRef>, Error> {
        let own = UInt32Array::from_iter_values(pairs.iter().map(|pair| pair.0));
        let mut columns = take_record_batch(batch, &own)?.columns().to_vec();
        let entries: Vec<u32> = pairs.iter().map(|pair| pair.1).collect();
        columns.extend(self.versions.side.gather(rows, &entries)?);
        Ok(columns)
    }
}

impl RowsLogic for TemporalLogic {
    fn collections(&self) -> Vec<RowsOptions> {
        vec![
            self.left.options(0, self.max_parallelism, true),
            self.versions.side.options(1, self.max_parallelism, false),
        ]
    }

    fn late_rows(&self, input: usize, batch: &RecordBatch, watermark: Timestamp) -> Result<Vec<u32>, Error> {
        let VersionTime::Event { left, right } = self.time else {
            return Ok(Vec::new());
        };
        let (times, nulls) = micros(batch.column(if input == LEFT { left } else { right }))?;
        // A late version is that of the left rows to come.
        let is_late = |row: &u32| {
            let row = *row as usize;
            nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) || (input == LEFT && times[row] <= watermark)
        };
        Ok((0..batch.num_rows() as u32).filter(is_late).collect())
    }

    fn keys(&mut self, input: usize, batch: &RecordBatch) -> Result<Vec<RowKeys>, Error> {
        let (batch, without_key) = self.split_by_key(input, batch)?;
        self.unmatched = without_key.filter(|_| self.is_outer && input != RIGHT);
        let keys = |is_read: bool| RowKeys {
            keys: match input {
                RIGHT => self.versions.side.keys(&batch),
                _ => self.left.keys(&batch),
            },
            is_read,
            is_looked_up: false,
        };
        let is_probe = input == DUE || (input == LEFT && !self.left_waits());
        let keys = vec![keys(false), keys(input == RIGHT || is_probe)];
        self.batch = Some(batch);
        Ok(keys)
    }

    fn apply(
        &mut self,
        input: usize,
        _batch: &RecordBatch,
        resolved: &[Resolved],
        rows: &mut [Rows],
        _generations: &[u32],
    ) -> Result<(), Error> {
        let Some(batch) = self.batch.take() else { return Ok(()) };
        match input {
            RIGHT => {
                let joined_until = self.waiting.output_watermark(self.watermark);
                self.versions
                    .apply(&batch, &resolved[RIGHT], &mut rows[RIGHT], joined_until)?;
            }
            LEFT if self.left_waits() => {
                let encoded = self.left.encode(&batch, &rows[LEFT], Vec::new())?;
                let generations = match self.time {
                    VersionTime::Event { left, .. } => {
                        self.waiting
                            .generations(batch.column(left), self.watermark, self.emission)?
                    }
                    VersionTime::Processing { .. } => vec![0; batch.num_rows()],
                };
                for (row, slot) in resolved[LEFT].slots.iter().enumerate() {
                    rows[LEFT].insert(*slot, encoded.row(row), generations[row])?;
                }
            }
            _ => {
                self.join(&batch, &resolved[RIGHT].slots, &rows[RIGHT])?;
                self.batch = Some(batch);
            }
        }
        Ok(())
    }

    fn next_changes(&mut self, rows: &[Rows]) -> Result<Option<WeightedRows>, Error> {
        if let Some(unmatched) = self.unmatched.take() {
            let mut columns = unmatched.columns().to_vec();
            columns.extend(self.versions.side.nulls(unmatched.num_rows()));
            return Ok(Some(WeightedRows {
                columns,
                weights: vec![1; unmatched.num_rows()],
            }));
        }
        let end = self.pairs.len().min(self.returned + CHANGES_MAX);
        let part = &self.pairs[self.returned.min(end)..end];
        let Some(batch) = self.batch.as_ref().filter(|_| !part.is_empty()) else {
            self.pairs = Vec::new();
            self.returned = 0;
            self.batch = None;
            return Ok(None);
        };
        let changes = WeightedRows {
            columns: self.columns(batch, part, &rows[RIGHT])?,
            weights: vec![1; part.len()],
        };
        self.returned = end;
        Ok(Some(changes))
    }

    fn final_collections(&self) -> Vec<usize> {
        Vec::new()
    }

    fn apply_final(&mut self, _collection: usize, _resolved: &[Resolved], _rows: &[Rows]) -> Result<(), Error> {
        Ok(())
    }

    fn expired(&mut self, watermark: Timestamp) -> Vec<Vec<u32>> {
        self.watermark = self.watermark.max(watermark);
        match self.time {
            VersionTime::Event { .. } => vec![self.waiting.due(watermark), Vec::new()],
            VersionTime::Processing { .. } => Vec::new(),
        }
    }

    fn on_input_end(&mut self, input: usize) -> Vec<Vec<u32>> {
        match input == RIGHT && std::mem::take(&mut self.awaits_end) {
            true => vec![vec![0], Vec::new()],
            false => Vec::new(),
        }
    }

    fn sees_expired(&self, collection: usize) -> bool {
        collection == LEFT
    }

    fn expire_row(&mut self, _collection: usize, rows: &Rows, entry: u32) {
        self.waiting.take(rows.key_of(entry), rows.bytes(entry));
    }

    fn expire_stored(&mut self, _collection: usize, rows: &Rows, stored: &[(&[u8], &[u8])]) -> Result<(), Error> {
        let (keys, values) = rows.decode_chunks(stored)?;
        let count = keys.iter().chain(&values).map(Array::len).next();
        let count = count.unwrap_or(0);
        self.waiting.push(self.left_batch(keys, values, count)?);
        Ok(())
    }

    fn due_rows(&mut self, rows: &[Rows]) -> Result<Vec<RecordBatch>, Error> {
        let mut due = self.waiting.take_batches();
        if let Some((slots, stored)) = self.waiting.take_rows() {
            let keys = rows[LEFT].keys(&slots)?;
            let values = rows[LEFT].decode_stored((0..stored.len()).filter_map(|at| stored.get(at)))?;
            due.push(self.left_batch(keys, values, slots.len())?);
        }
        Ok(due)
    }

    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        match self.awaits_end {
            true => WATERMARK_MIN,
            false => self.waiting.output_watermark(watermark),
        }
    }

    fn inline(&self) -> Vec<(u8, u32, Timestamp)> {
        self.waiting.inline()
    }

    fn restore(&mut self, inline: Vec<(u8, u32, Timestamp)>, watermark: Timestamp) {
        self.waiting.restore(&inline);
        self.watermark = self.watermark.max(watermark);
    }
}

impl TemporalLogic {
    /// Returns left rows with these key columns and stored columns.
    fn left_batch(&self, keys: Vec<ArrayRef>, values: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, Error> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let columns = self.left.assemble(&keys, &values);
        let schema = Arc::clone(&self.left_schema);
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }
}

#[cfg(test)]
pub(super) mod tests;
