//! `UNNEST`: emits each row once per element of an array or map, or as often as a number says.
//!
//! A large collection is cut: a call emits a bounded number of rows, and continues where it stopped. An update becomes
//! deletions and insertions, as its rows have different elements; elements that both rows begin with are not emitted if
//! the other columns are equal.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBufferBuilder, DynComparator, Int8Array, Int32Array, MapArray, StructArray,
    UInt32Array, make_array, make_comparator,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow_array::RecordBatch;
use arrow_select::take::take;
use millstream_connectors::{RowKind, changelog};
use millstream_graph::{self as graph, Port};

use crate::Error;
use crate::operator::{Collector, EMIT_ROWS_MAX, Operator, Progress, Snapshot};

/// Number of bytes of repeated columns that one call emits, about.
const EMIT_BYTES_MAX: usize = 4 << 20;

/// The operator of `UNNEST`.
pub(super) struct Unnest {
    node: graph::Unnest,
    output: SchemaRef,
    /// Rows that have not been emitted yet.
    rest: Option<Rest>,
}

/// A batch whose rows are being emitted.
struct Rest {
    /// The columns that are kept.
    kept: Vec<ArrayRef>,
    /// Kinds of the emitted rows, if the input is a changelog.
    kinds: Option<Int8Array>,
    elements: Elements,
    /// By row: number of first elements that are not emitted.
    skipped: Vec<usize>,
    /// Greatest number of rows that a call emits.
    rows_max: usize,
    /// Position of the next element: its row, and its place in the collection.
    row: usize,
    place: usize,
}

/// The elements of the collections of a batch.
struct Elements {
    places: Places,
    /// NULL collections, which have no elements.
    nulls: Option<NullBuffer>,
    /// The columns of the elements.
    columns: Vec<ArrayRef>,
}

/// The places of the elements in their columns, by row.
enum Places {
    Offsets(OffsetBuffer<i32>),
    /// Numbers of elements that have no columns.
    Numbers(ScalarBuffer<i64>),
}

impl Elements {
    /// Returns the elements of a column of arrays, maps or numbers.
    fn of(collection: &ArrayRef) -> Result<Self, Error> {
        let (offsets, values): (_, ArrayRef) = match collection.data_type() {
            DataType::Int64 => {
                let numbers = collection.as_primitive::<Int64Type>().values().clone();
                return Ok(Self {
                    places: Places::Numbers(numbers),
                    nulls: collection.nulls().cloned(),
                    columns: Vec::new(),
                });
            }
            DataType::List(_) => {
                let list = collection.as_list::<i32>();
                (list.offsets().clone(), Arc::clone(list.values()))
            }
            DataType::Map(..) => {
                let map: &MapArray = collection.as_map();
                (map.offsets().clone(), Arc::new(map.entries().clone()))
            }
            other => {
                return Err(Error::Operator {
                    operator: "unnest".to_owned(),
                    message: format!("a value of type {other} has no elements"),
                });
            }
        };
        let columns = match values.as_struct_opt() {
            Some(rows) => fields(rows)?,
            None => vec![values],
        };
        Ok(Self {
            places: Places::Offsets(offsets),
            nulls: collection.nulls().cloned(),
            columns,
        })
    }

    /// Returns the index of the first element of a row, and the number of its elements.
    fn of_row(&self, row: usize) -> (usize, usize) {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return (0, 0);
        }
        match &self.places {
            Places::Offsets(offsets) => {
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                (start, end - start)
            }
            Places::Numbers(numbers) => (0, usize::try_from(numbers[row]).unwrap_or(0)),
        }
    }
}

/// Returns the columns of rows; a field of a NULL row is NULL.
fn fields(rows: &StructArray) -> Result<Vec<ArrayRef>, Error> {
    let Some(nulls) = rows.nulls().filter(|nulls| nulls.null_count() > 0) else {
        return Ok(rows.columns().to_vec());
    };
    let masked = rows.columns().iter().map(|column| {
        let all = NullBuffer::union(Some(nulls), column.logical_nulls().as_ref());
        let data = column.to_data().into_builder().nulls(all).build()?;
        Ok(make_array(data))
    });
    masked.collect()
}

impl Unnest {
    /// Makes the operator of a node.
    pub(super) fn new(node: &graph::Unnest, output: &SchemaRef) -> Self {
        Self {
            node: node.clone(),
            output: Arc::clone(output),
            rest: None,
        }
    }

    /// Returns the rows of a batch as they are to be emitted.
    fn prepare(&self, batch: &RecordBatch) -> Result<Rest, Error> {
        let elements = Elements::of(batch.column(self.node.collection))?;
        let kept: Vec<ArrayRef> = self
            .node
            .kept
            .iter()
            .map(|&index| batch.column(index).clone())
            .collect();
        let kinds = changelog::kinds(batch);
        let skipped = match kinds {
            Some(kinds) => self.skipped(&kept, kinds, &elements),
            None => vec![0; batch.num_rows()],
        };
        let bytes = kept
            .iter()
            .map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
        let bytes_per_row = (bytes.sum::<usize>() / batch.num_rows().max(1)).max(1);
        // The two rows of an update may be cut: they leave as a deletion and insertions.
        let single = |kind: &i8| {
            if *kind < 0 {
                RowKind::Delete as i8
            } else {
                RowKind::Insert as i8
            }
        };
        Ok(Rest {
            kept,
            kinds: kinds.map(|kinds| kinds.values().iter().map(single).collect::<Vec<_>>().into()),
            elements,
            skipped,
            rows_max: (EMIT_BYTES_MAX / bytes_per_row).clamp(1, EMIT_ROWS_MAX),
            row: 0,
            place: 0,
        })
    }

    /// Returns the number of first elements of each row that an update does not change.
    fn skipped(&self, kept: &[ArrayRef], kinds: &Int8Array, elements: &Elements) -> Vec<usize> {
        let mut skipped = vec![0; kinds.len()];
        let comparators = |columns: &[ArrayRef]| -> Option<Vec<DynComparator>> {
            let made = columns
                .iter()
                .map(|column| make_comparator(column, column, SortOptions::default()));
            // Some types cannot be compared; such rows are emitted whole.
            made.collect::<Result<_, _>>().ok()
        };
        let (Some(of_rows), Some(of_elements)) = (comparators(kept), comparators(&elements.columns)) else {
            return skipped;
        };
        let equal =
            |by: &[DynComparator], a: usize, b: usize| by.iter().all(|compare| compare(a, b) == Ordering::Equal);
        for row in 1..kinds.len() {
            let is_update =
                kinds.value(row - 1) == RowKind::UpdateBefore as i8 && kinds.value(row) == RowKind::UpdateAfter as i8;
            if !is_update || !equal(&of_rows, row - 1, row) {
                continue;
            }
            let ((old, old_count), (new, new_count)) = (elements.of_row(row - 1), elements.of_row(row));
            let both = old_count.min(new_count);
            let mut common = match of_elements.is_empty() {
                true => both,
                false => (0..both)
                    .take_while(|place| equal(&of_elements, old + place, new + place))
                    .count(),
            };
            if self.node.is_outer && old_count == 0 && new_count == 0 {
                common = 1;
            }
            skipped[row - 1] = common;
            skipped[row] = common;
        }
        skipped
    }

    /// Emits as many rows as one call may.
    fn emit(&mut self, mut rest: Rest, out: &mut dyn Collector) -> Result<Progress, Error> {
        let mut rows: Vec<u32> = Vec::new();
        let mut indices: Vec<u32> = Vec::new();
        let mut exists = BooleanBufferBuilder::new(0);
        let mut positions: Vec<i32> = Vec::new();
        while rows.len() < rest.rows_max && rest.row < rest.skipped.len() {
            let (start, count) = rest.elements.of_row(rest.row);
            // An outer row without elements leaves once, with NULLs.
            let is_empty = count == 0 && self.node.is_outer;
            let places = if is_empty { 1 } else { count };
            let from = rest.place.max(rest.skipped[rest.row]);
            let to = places.min(from.saturating_add(rest.rows_max - rows.len())).max(from);
            for place in from..to {
                rows.push(rest.row as u32);
                indices.push(if is_empty { 0 } else { (start + place) as u32 });
                if self.node.with_ordinality {
                    positions.push(place as i32 + 1);
                }
            }
            exists.append_n(to - from, !is_empty);
            if to < places {
                rest.place = to;
            } else {
                (rest.row, rest.place) = (rest.row + 1, 0);
            }
        }
        let exists = NullBuffer::new(exists.finish());
        let rows = UInt32Array::from(rows);
        let indices = UInt32Array::new(indices.into(), Some(exists.clone()));
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.output.fields().len());
        for column in &rest.kept {
            columns.push(take(column, &rows, None)?);
        }
        for column in &rest.elements.columns {
            columns.push(take(column, &indices, None)?);
        }
        if self.node.with_ordinality {
            columns.push(Arc::new(Int32Array::new(positions.into(), Some(exists))));
        }
        if let Some(kinds) = &rest.kinds {
            columns.push(take(kinds, &rows, None)?);
        }
        if !rows.is_empty() {
            out.emit(Port::Main, RecordBatch::try_new(Arc::clone(&self.output), columns)?);
        }
        if rest.row == rest.skipped.len() {
            return Ok(Progress::Done);
        }
        self.rest = Some(rest);
        Ok(Progress::More)
    }
}

impl Operator for Unnest {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let rest = self.prepare(&batch)?;
        self.emit(rest, out)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        match self.rest.take() {
            Some(rest) => self.emit(rest, out),
            None => Ok(Progress::Done),
        }
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<Snapshot, Error> {
        Ok(Snapshot::default())
    }
}

#[cfg(test)]
mod tests;
