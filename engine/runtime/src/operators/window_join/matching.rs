//! Joining two sets of rows, in bounded steps.
//!
//! The right side is indexed by its key; left rows look their partners up, chunk by chunk. Each step yields at most the
//! asked number of rows. Rows without a partner (outer and anti joins) follow once all pairs are known. A NULL key
//! equals nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_select::filter::filter;
use arrow_select::take::take_arrays;
use datafusion::logical_expr::JoinType;
use datafusion::physical_expr::PhysicalExprRef;

use crate::Error;
use crate::operators::table::{GroupIndex, new_group_index};

/// Left rows looked up at once.
const PROBE_ROWS: usize = 8_192;

/// What is to be joined, and how; the same for all windows of an operator.
pub struct JoinSpec {
    pub join_type: JoinType,
    /// Columns that must be equal: left, right.
    pub on: Vec<(usize, usize)>,
    pub filter: Option<PhysicalExprRef>,
    /// Left fields, then right fields.
    pub pair_schema: SchemaRef,
}

impl JoinSpec {
    pub fn new(
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

    fn emits_pairs(&self) -> bool {
        matches!(
            self.join_type,
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full
        )
    }
}

/// Two sets of rows being joined.
pub struct Matching {
    left: RecordBatch,
    right: RecordBatch,
    left_keys: Vec<ArrayRef>,
    left_valid: Option<NullBuffer>,
    index: Box<dyn GroupIndex>,
    /// Groups that have right rows; left keys that are new get higher numbers.
    right_groups: usize,
    /// Right rows by group: `rows[starts[g]..starts[g + 1]]`.
    starts: Vec<u32>,
    rows: Vec<u32>,
    left_matched: Vec<bool>,
    right_matched: Vec<bool>,
    /// Groups of the left rows from `chunk_start` on.
    chunk: Vec<u32>,
    chunk_start: usize,
    /// The next left row, and how many of its partners it has met.
    at: usize,
    met: usize,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Pairs,
    LeftRest(usize),
    RightRest(usize),
    Done,
}

fn keys_of(batch: &RecordBatch, columns: impl Iterator<Item = usize>) -> (Vec<ArrayRef>, Option<NullBuffer>) {
    let keys: Vec<ArrayRef> = columns.map(|column| Arc::clone(batch.column(column))).collect();
    let valid = keys
        .iter()
        .fold(None, |valid, key| NullBuffer::union(valid.as_ref(), key.nulls()))
        .filter(|valid| valid.null_count() > 0);
    (keys, valid)
}

impl Matching {
    /// `on` are the columns that must be equal here: the spec's, and the window's start where it is needed.
    pub fn new(on: &[(usize, usize)], left: RecordBatch, right: RecordBatch) -> Result<Self, Error> {
        let (left_keys, left_valid) = keys_of(&left, on.iter().map(|pair| pair.0));
        let (right_keys, right_valid) = keys_of(&right, on.iter().map(|pair| pair.1));
        let fields: Vec<FieldRef> = on
            .iter()
            .map(|(_, column)| Arc::clone(&right.schema().fields()[*column]))
            .collect();
        let mut index = new_group_index(&fields)?;
        let mut groups = Vec::new();
        index.intern(&right_keys, right.num_rows(), &mut groups)?;
        let right_groups = index.len();
        let is_valid = |row: usize| right_valid.as_ref().is_none_or(|valid| valid.is_valid(row));
        let mut starts = vec![0u32; right_groups + 1];
        for (row, group) in groups.iter().enumerate() {
            if is_valid(row) {
                starts[*group as usize + 1] += 1;
            }
        }
        for group in 0..right_groups {
            starts[group + 1] += starts[group];
        }
        let mut next = starts.clone();
        let mut rows = vec![0; starts[right_groups] as usize];
        for (row, group) in groups.iter().enumerate() {
            if is_valid(row) {
                let place = &mut next[*group as usize];
                rows[*place as usize] = row as u32;
                *place += 1;
            }
        }
        Ok(Self {
            left_matched: vec![false; left.num_rows()],
            right_matched: vec![false; right.num_rows()],
            left,
            right,
            left_keys,
            left_valid,
            index,
            right_groups,
            starts,
            rows,
            chunk: Vec::new(),
            chunk_start: 0,
            at: 0,
            met: 0,
            phase: Phase::Pairs,
        })
    }

    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// The next rows, at most `rows_max` of them; possibly none although it is not done.
    pub fn step(&mut self, spec: &JoinSpec, rows_max: usize) -> Result<Option<RecordBatch>, Error> {
        match self.phase {
            Phase::Pairs => self.pairs(spec, rows_max),
            Phase::LeftRest(from) => {
                let wanted = match spec.join_type {
                    JoinType::Left | JoinType::Full | JoinType::LeftAnti => Some(false),
                    JoinType::LeftSemi => Some(true),
                    _ => None,
                };
                let (rows, to) = rest(&self.left_matched, wanted, from, rows_max);
                self.phase = if to == self.left_matched.len() {
                    Phase::RightRest(0)
                } else {
                    Phase::LeftRest(to)
                };
                if rows.is_empty() {
                    return Ok(None);
                }
                let mut columns = take_arrays(self.left.columns(), &UInt32Array::from(rows.clone()), None)?;
                if spec.emits_pairs() {
                    let nulls = |column: &ArrayRef| new_null_array(column.data_type(), rows.len());
                    columns.extend(self.right.columns().iter().map(nulls));
                }
                self.batch(spec, columns, rows.len()).map(Some)
            }
            Phase::RightRest(from) => {
                let wanted = matches!(spec.join_type, JoinType::Right | JoinType::Full).then_some(false);
                let (rows, to) = rest(&self.right_matched, wanted, from, rows_max);
                self.phase = if to == self.right_matched.len() {
                    Phase::Done
                } else {
                    Phase::RightRest(to)
                };
                if rows.is_empty() {
                    return Ok(None);
                }
                let nulls = |column: &ArrayRef| new_null_array(column.data_type(), rows.len());
                let mut columns: Vec<ArrayRef> = self.left.columns().iter().map(nulls).collect();
                columns.extend(take_arrays(
                    self.right.columns(),
                    &UInt32Array::from(rows.clone()),
                    None,
                )?);
                self.batch(spec, columns, rows.len()).map(Some)
            }
            Phase::Done => Ok(None),
        }
    }

    /// Columns with the fields of the pairs, as many as there are; nullability is the output schema's business.
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

    fn pairs(&mut self, spec: &JoinSpec, rows_max: usize) -> Result<Option<RecordBatch>, Error> {
        let (left_rows, right_rows) = self.find_pairs(rows_max)?;
        if self.at == self.left.num_rows() {
            self.phase = Phase::LeftRest(0);
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
        let mut columns = take_arrays(self.left.columns(), &left_rows, None)?;
        columns.extend(take_arrays(self.right.columns(), &right_rows, None)?);
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
            self.right_matched[*row as usize] = true;
        }
        Ok(Some(pairs).filter(|pairs| spec.emits_pairs() && pairs.num_rows() > 0))
    }

    /// Pairs of equal keys: left rows and right rows.
    fn find_pairs(&mut self, rows_max: usize) -> Result<(Vec<u32>, Vec<u32>), Error> {
        let total = self.left.num_rows();
        let mut left_rows = Vec::new();
        let mut right_rows = Vec::new();
        while self.at < total && left_rows.len() < rows_max {
            if self.at == self.chunk_start + self.chunk.len() {
                self.chunk_start = self.at;
                let rows = PROBE_ROWS.min(total - self.at);
                let keys: Vec<ArrayRef> = self.left_keys.iter().map(|key| key.slice(self.at, rows)).collect();
                self.index.intern(&keys, rows, &mut self.chunk)?;
            }
            let group = self.chunk[self.at - self.chunk_start] as usize;
            let is_valid = self.left_valid.as_ref().is_none_or(|valid| valid.is_valid(self.at));
            if group < self.right_groups && is_valid {
                let partners = &self.rows[self.starts[group] as usize..self.starts[group + 1] as usize];
                let partners = &partners[self.met..];
                let taken = partners.len().min(rows_max - left_rows.len());
                left_rows.resize(left_rows.len() + taken, self.at as u32);
                right_rows.extend_from_slice(&partners[..taken]);
                self.met += taken;
                if taken < partners.len() {
                    break;
                }
            }
            self.at += 1;
            self.met = 0;
        }
        Ok((left_rows, right_rows))
    }
}

fn as_rows(array: &ArrayRef) -> Result<UInt32Array, Error> {
    Ok(datafusion::common::cast::as_uint32_array(array)?.clone())
}

/// Rows from `from` on whose mark is as wanted, and where the search stopped.
fn rest(marks: &[bool], wanted: Option<bool>, from: usize, rows_max: usize) -> (Vec<u32>, usize) {
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
