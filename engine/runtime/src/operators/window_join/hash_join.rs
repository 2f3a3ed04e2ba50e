//! A hash join of two sets of rows, in bounded steps.
//!
//! The right side is the build side: it is indexed by its key, batch by batch. The left side is the probe side: its
//! rows look up their matches, chunk by chunk. Each step returns a bounded number of rows. Rows without a match (outer
//! and anti joins) follow after all pairs. A NULL key equals nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_select::filter::filter;
use datafusion::logical_expr::JoinType;
use datafusion::physical_expr::PhysicalExprRef;

use super::batched_rows::BatchedRows;
use crate::Error;
use crate::operators::mutants::{self, Mutant};
use crate::operators::table::{GroupIndex, new_group_index};

/// Left rows looked up at once.
const PROBE_ROWS: usize = 8_192;
/// The absence of a row.
const NONE: u32 = u32::MAX;

/// The kind and the condition of a join, the same for all windows of an operator.
pub(super) struct JoinSpec {
    /// The type of join.
    pub join_type: JoinType,
    /// Columns that must be equal: left, right.
    pub on: Vec<(usize, usize)>,
    /// A further condition on pairs of rows.
    pub filter: Option<PhysicalExprRef>,
    /// Left fields, then right fields.
    pub pair_schema: SchemaRef,
}

impl JoinSpec {
    /// Creates the description of a join.
    pub(super) fn new(
        join_type: JoinType,
        on: Vec<(usize, usize)>,
        filter: Option<PhysicalExprRef>,
        left: &SchemaRef,
        right: &SchemaRef,
    ) -> Self {
        let fields: Vec<FieldRef> = left.fields().iter().chain(right.fields()).cloned().collect();
        Self {
            join_type,
            on,
            filter,
            pair_schema: Arc::new(Schema::new(fields)),
        }
    }

    /// Returns true if output rows have the columns of both sides.
    fn emits_pairs(&self) -> bool {
        matches!(
            self.join_type,
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full
        )
    }
}

/// Two sets of rows that are being joined.
pub(super) struct HashJoin {
    left: BatchedRows,
    right: BatchedRows,
    on: Vec<(usize, usize)>,
    index: Box<dyn GroupIndex>,
    /// By group: the first and the last right row of its chain. Groups of left keys without a right row have higher
    /// numbers.
    chains: Vec<(u32, u32)>,
    /// By right row: the next right row of the same group.
    next: Vec<u32>,
    left_matched: Vec<bool>,
    right_matched: Vec<bool>,
    /// Groups of the left rows from `chunk_start` on, and the rows among them without a NULL key.
    chunk: Vec<u32>,
    chunk_valid: Option<NullBuffer>,
    chunk_start: usize,
    /// The next left row, and the next of its matches if some have been returned.
    probe_row: usize,
    match_row: Option<u32>,
    phase: Phase,
    groups: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Build,
    Probe,
    UnmatchedLeft(usize),
    UnmatchedRight(usize),
    Done,
}

fn keys_of(batch: &RecordBatch, columns: impl Iterator<Item = usize>) -> (Vec<ArrayRef>, Option<NullBuffer>) {
    let keys: Vec<ArrayRef> = columns.map(|column| Arc::clone(batch.column(column))).collect();
    let valid = keys
        .iter()
        .fold(None, |valid, key| NullBuffer::union(valid.as_ref(), key.nulls()))
        .filter(|valid| valid.null_count() > 0 && !mutants::is_active(Mutant::NullKeysJoinedInWindows));
    (keys, valid)
}

impl HashJoin {
    /// Creates a join on the equality of these columns: those of the spec, and the windows' starts where they differ.
    pub(super) fn new(on: Vec<(usize, usize)>, left: BatchedRows, right: BatchedRows) -> Result<Self, Error> {
        let fields: Vec<FieldRef> = on
            .iter()
            .map(|(_, column)| Arc::clone(&right.schema().fields()[*column]))
            .collect();
        Ok(Self {
            index: new_group_index(&fields)?,
            on,
            chains: Vec::new(),
            next: Vec::new(),
            left_matched: Vec::new(),
            right_matched: Vec::new(),
            left,
            right,
            chunk: Vec::new(),
            chunk_valid: None,
            chunk_start: 0,
            probe_row: 0,
            match_row: None,
            phase: Phase::Build,
            groups: Vec::new(),
        })
    }

    /// Returns the bytes held.
    pub(super) fn size(&self) -> usize {
        self.left.size()
            + self.right.size()
            + self.index.size()
            + self.chains.capacity() * size_of::<(u32, u32)>()
            + self.next.capacity() * size_of::<u32>()
            + self.left_matched.capacity()
            + self.right_matched.capacity()
    }

    /// Makes some more rows of each side readable, and indexes those of the right side.
    fn build(&mut self) -> Result<(), Error> {
        self.left.advance()?;
        self.left_matched.resize(self.left.len(), false);
        self.build_right()?;
        if self.left.is_complete() && self.right.is_complete() {
            self.phase = Phase::Probe;
        }
        Ok(())
    }

    fn build_right(&mut self) -> Result<(), Error> {
        let first = self.right.len();
        let Some(batch) = self.right.advance()? else {
            return Ok(());
        };
        let (keys, valid) = keys_of(batch, self.on.iter().map(|pair| pair.1));
        self.index.intern(&keys, batch.num_rows(), &mut self.groups)?;
        self.chains.resize(self.index.len(), (NONE, NONE));
        self.next.resize(self.right.len(), NONE);
        self.right_matched.resize(self.right.len(), false);
        for (row, group) in self.groups.iter().enumerate() {
            if valid.as_ref().is_some_and(|valid| valid.is_null(row)) {
                continue;
            }
            let row = (first + row) as u32;
            let (head, tail) = &mut self.chains[*group as usize];
            if *head == NONE {
                *head = row;
            } else {
                self.next[*tail as usize] = row;
            }
            *tail = row;
        }
        Ok(())
    }

    /// Returns true if all rows have been returned.
    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Does a step and returns the next rows, at most `rows_max`; possibly none although the join is not done.
    pub(super) fn step(&mut self, spec: &JoinSpec, rows_max: usize) -> Result<Option<RecordBatch>, Error> {
        match self.phase {
            Phase::Build => {
                self.build()?;
                Ok(None)
            }
            Phase::Probe => self.probe(spec, rows_max),
            Phase::UnmatchedLeft(from) => {
                let wanted = match spec.join_type {
                    JoinType::Left | JoinType::Full | JoinType::LeftAnti => Some(false),
                    JoinType::LeftSemi => Some(true),
                    _ => None,
                };
                let (rows, to) = marked_rows(&self.left_matched, wanted, from, rows_max);
                self.phase = if to == self.left_matched.len() {
                    Phase::UnmatchedRight(0)
                } else {
                    Phase::UnmatchedLeft(to)
                };
                if rows.is_empty() {
                    return Ok(None);
                }
                let mut columns = self.left.take(&UInt32Array::from(rows.clone()))?;
                if spec.emits_pairs() {
                    columns.extend(nulls(self.right.schema(), rows.len()));
                }
                self.batch(spec, columns, rows.len()).map(Some)
            }
            Phase::UnmatchedRight(from) => {
                let wanted = matches!(spec.join_type, JoinType::Right | JoinType::Full).then_some(false);
                let (rows, to) = marked_rows(&self.right_matched, wanted, from, rows_max);
                self.phase = if to == self.right_matched.len() {
                    Phase::Done
                } else {
                    Phase::UnmatchedRight(to)
                };
                if rows.is_empty() {
                    return Ok(None);
                }
                let mut columns: Vec<ArrayRef> = nulls(self.left.schema(), rows.len()).collect();
                let count = rows.len();
                columns.extend(self.right.take(&UInt32Array::from(rows))?);
                self.batch(spec, columns, count).map(Some)
            }
            Phase::Done => Ok(None),
        }
    }

    /// Returns a batch of these columns, with the first fields of the pairs. All are nullable here; the output schema
    /// decides.
    fn batch(&self, spec: &JoinSpec, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, Error> {
        let fields: Vec<FieldRef> = spec
            .pair_schema
            .fields()
            .iter()
            .take(columns.len())
            .map(|field| Arc::new(field.as_ref().clone().with_nullable(true)))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            Arc::new(Schema::new(fields)),
            columns,
            &options,
        )?)
    }

    fn probe(&mut self, spec: &JoinSpec, rows_max: usize) -> Result<Option<RecordBatch>, Error> {
        let (left_rows, right_rows) = self.find_pairs(rows_max)?;
        if self.probe_row == self.left.len() {
            self.phase = Phase::UnmatchedLeft(0);
        }
        if left_rows.is_empty() {
            return Ok(None);
        }
        if !spec.emits_pairs() && spec.filter.is_none() {
            for row in left_rows {
                self.left_matched[row as usize] = true;
            }
            return Ok(None);
        }
        let (mut left_rows, mut right_rows) = (UInt32Array::from(left_rows), UInt32Array::from(right_rows));
        let mut columns = self.left.take(&left_rows)?;
        columns.extend(self.right.take(&right_rows)?);
        let mut pairs = self.batch(spec, columns, left_rows.len())?;
        if let Some(condition) = &spec.filter {
            let passed = condition.evaluate(&pairs)?.into_array(pairs.num_rows())?;
            let passed: &BooleanArray = datafusion::common::cast::as_boolean_array(&passed)?;
            if passed.true_count() < pairs.num_rows() {
                pairs = arrow_select::filter::filter_record_batch(&pairs, passed)?;
                left_rows = as_rows(&filter(&left_rows, passed)?)?;
                right_rows = as_rows(&filter(&right_rows, passed)?)?;
            }
        }
        for row in left_rows.values() {
            self.left_matched[*row as usize] = true;
        }
        for row in right_rows.values() {
            self.right_matched[*row as usize] = !mutants::is_active(Mutant::WindowMatchesForgotten);
        }
        Ok(Some(pairs).filter(|pairs| spec.emits_pairs() && pairs.num_rows() > 0))
    }

    /// Returns pairs of rows with equal keys: left rows and right rows.
    fn find_pairs(&mut self, rows_max: usize) -> Result<(Vec<u32>, Vec<u32>), Error> {
        let total = self.left.len();
        let mut left_rows = Vec::new();
        let mut right_rows = Vec::new();
        while self.probe_row < total && left_rows.len() < rows_max {
            if self.probe_row == self.chunk_start + self.chunk.len() {
                self.chunk_start = self.probe_row;
                let rows = self.left.slice(self.probe_row, PROBE_ROWS);
                let (keys, valid) = keys_of(&rows, self.on.iter().map(|pair| pair.0));
                self.index.intern(&keys, rows.num_rows(), &mut self.chunk)?;
                self.chunk_valid = valid;
            }
            let row = self.probe_row - self.chunk_start;
            let group = self.chunk[row] as usize;
            let is_valid = self.chunk_valid.as_ref().is_none_or(|valid| valid.is_valid(row));
            let first = self.chains.get(group).map_or(NONE, |chain| chain.0);
            let mut match_row = self.match_row.take().unwrap_or(first);
            while is_valid && match_row != NONE && left_rows.len() < rows_max {
                left_rows.push(self.probe_row as u32);
                right_rows.push(match_row);
                match_row = self.next[match_row as usize];
            }
            if is_valid && match_row != NONE {
                self.match_row = Some(match_row);
                break;
            }
            self.probe_row += 1;
        }
        Ok((left_rows, right_rows))
    }
}

fn nulls(schema: &SchemaRef, rows: usize) -> impl Iterator<Item = ArrayRef> {
    let fields = schema.fields().iter();
    fields.map(move |field| new_null_array(field.data_type(), rows))
}

fn as_rows(array: &ArrayRef) -> Result<UInt32Array, Error> {
    Ok(datafusion::common::cast::as_uint32_array(array)?.clone())
}

/// Returns up to `rows_max` rows from `from` on whose mark is `wanted`, and the row at which the search stopped.
/// Without `wanted`, returns no rows.
fn marked_rows(marks: &[bool], wanted: Option<bool>, from: usize, rows_max: usize) -> (Vec<u32>, usize) {
    let Some(wanted) = wanted else {
        return (Vec::new(), marks.len());
    };
    let mut rows = Vec::new();
    let mut at = from;
    while at < marks.len() && rows.len() < rows_max {
        if marks[at] == wanted {
            rows.push(at as u32);
        }
        at += 1;
    }
    (rows, at)
}
