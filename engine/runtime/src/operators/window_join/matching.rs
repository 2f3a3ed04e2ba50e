//! Joining two sets of rows, in bounded steps.
//!
//! The right side is indexed by its key, batch by batch; left rows look their partners up, chunk by chunk. Each step
//! yields at most the asked number of rows. Rows without a partner (outer and anti joins) follow once all pairs are
//! known. A NULL key equals nothing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_select::filter::filter;
use datafusion::logical_expr::JoinType;
use datafusion::physical_expr::PhysicalExprRef;

use super::rows::Rows;
use crate::Error;
use crate::operators::table::{GroupIndex, new_group_index};

/// Left rows looked up at once.
const PROBE_ROWS: usize = 8_192;
/// No row.
const NONE: u32 = u32::MAX;

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
    left: Rows,
    right: Rows,
    on: Vec<(usize, usize)>,
    index: Box<dyn GroupIndex>,
    /// First and last right row of each group; left keys that are new get higher numbers.
    ends: Vec<(u32, u32)>,
    /// The next right row of the same group, by right row.
    next: Vec<u32>,
    left_matched: Vec<bool>,
    right_matched: Vec<bool>,
    /// Groups of the left rows from `chunk_start` on, and which of them have no NULL key.
    chunk: Vec<u32>,
    chunk_valid: Option<NullBuffer>,
    chunk_start: usize,
    /// The next left row, and the next of its partners if it has met some.
    at: usize,
    partner: Option<u32>,
    phase: Phase,
    groups: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Index,
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
    pub fn new(on: Vec<(usize, usize)>, left: Rows, right: Rows) -> Result<Self, Error> {
        let fields: Vec<FieldRef> = on
            .iter()
            .map(|(_, column)| Arc::clone(&right.schema().fields()[*column]))
            .collect();
        Ok(Self {
            index: new_group_index(&fields)?,
            on,
            ends: Vec::new(),
            next: Vec::new(),
            left_matched: Vec::new(),
            right_matched: Vec::new(),
            left,
            right,
            chunk: Vec::new(),
            chunk_valid: None,
            chunk_start: 0,
            at: 0,
            partner: None,
            phase: Phase::Index,
            groups: Vec::new(),
        })
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.left.size()
            + self.right.size()
            + self.index.size()
            + self.ends.capacity() * size_of::<(u32, u32)>()
            + self.next.capacity() * size_of::<u32>()
            + self.left_matched.capacity()
            + self.right_matched.capacity()
    }

    /// Takes in some more rows of each side.
    fn index(&mut self) -> Result<(), Error> {
        self.left.advance()?;
        self.left_matched.resize(self.left.len(), false);
        self.index_right()?;
        if self.left.is_whole() && self.right.is_whole() {
            self.phase = Phase::Pairs;
        }
        Ok(())
    }

    fn index_right(&mut self) -> Result<(), Error> {
        let first = self.right.len();
        let Some(batch) = self.right.advance()? else {
            return Ok(());
        };
        let (keys, valid) = keys_of(batch, self.on.iter().map(|pair| pair.1));
        self.index.intern(&keys, batch.num_rows(), &mut self.groups)?;
        self.ends.resize(self.index.len(), (NONE, NONE));
        self.next.resize(self.right.len(), NONE);
        self.right_matched.resize(self.right.len(), false);
        for (row, group) in self.groups.iter().enumerate() {
            if valid.as_ref().is_some_and(|valid| valid.is_null(row)) {
                continue;
            }
            let row = (first + row) as u32;
            let (head, tail) = &mut self.ends[*group as usize];
            if *head == NONE {
                *head = row;
            } else {
                self.next[*tail as usize] = row;
            }
            *tail = row;
        }
        Ok(())
    }

    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// The next rows, at most `rows_max` of them; possibly none although it is not done.
    pub fn step(&mut self, spec: &JoinSpec, rows_max: usize) -> Result<Option<RecordBatch>, Error> {
        match self.phase {
            Phase::Index => {
                self.index()?;
                Ok(None)
            }
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
                let mut columns = self.left.take(&UInt32Array::from(rows.clone()))?;
                if spec.emits_pairs() {
                    columns.extend(nulls(self.right.schema(), rows.len()));
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
                let mut columns: Vec<ArrayRef> = nulls(self.left.schema(), rows.len()).collect();
                let count = rows.len();
                columns.extend(self.right.take(&UInt32Array::from(rows))?);
                self.batch(spec, columns, count).map(Some)
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
        if self.at == self.left.len() {
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
            self.right_matched[*row as usize] = true;
        }
        Ok(Some(pairs).filter(|pairs| spec.emits_pairs() && pairs.num_rows() > 0))
    }

    /// Pairs of equal keys: left rows and right rows.
    fn find_pairs(&mut self, rows_max: usize) -> Result<(Vec<u32>, Vec<u32>), Error> {
        let total = self.left.len();
        let mut left_rows = Vec::new();
        let mut right_rows = Vec::new();
        while self.at < total && left_rows.len() < rows_max {
            if self.at == self.chunk_start + self.chunk.len() {
                self.chunk_start = self.at;
                let rows = self.left.stretch(self.at, PROBE_ROWS);
                let (keys, valid) = keys_of(&rows, self.on.iter().map(|pair| pair.0));
                self.index.intern(&keys, rows.num_rows(), &mut self.chunk)?;
                self.chunk_valid = valid;
            }
            let row = self.at - self.chunk_start;
            let group = self.chunk[row] as usize;
            let is_valid = self.chunk_valid.as_ref().is_none_or(|valid| valid.is_valid(row));
            let first = self.ends.get(group).map_or(NONE, |ends| ends.0);
            let mut partner = self.partner.take().unwrap_or(first);
            while is_valid && partner != NONE && left_rows.len() < rows_max {
                left_rows.push(self.at as u32);
                right_rows.push(partner);
                partner = self.next[partner as usize];
            }
            if is_valid && partner != NONE {
                self.partner = Some(partner);
                break;
            }
            self.at += 1;
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
