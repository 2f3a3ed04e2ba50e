//! One input of a join.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow_array::RecordBatch;
use arrow_select::take::take;
use millstream_connectors::changelog;
use millstream_state::EncodedRows;
use millstream_state::keyed::{Identity, Rows, RowsOptions};

use crate::Error;
use crate::operators::keyed::Keys;

/// The absence of a row.
pub(in crate::operators) const NONE: u32 = u32::MAX;

/// A column of a row of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A key column of the collection.
    Key(usize),
    /// A column of the stored row.
    Value(usize),
}

/// Returns the columns of an input without the kind of rows, nullable as in the pairs of an outer join.
pub(in crate::operators) fn nullable_fields(schema: &SchemaRef) -> Vec<FieldRef> {
    let width = schema.fields().len() - usize::from(changelog::is_changelog(schema));
    let fields = schema.fields()[..width].iter();
    fields
        .map(|field| Arc::new(field.as_ref().clone().with_nullable(true)))
        .collect()
}

/// An input: which of its columns are keys, and how its rows are stored.
pub(in crate::operators) struct Side {
    /// Types of the columns, without the kind.
    types: Vec<DataType>,
    /// Columns that must equal those of the other input.
    key: Vec<usize>,
    /// Types of the columns that are stored before those of the row.
    leading: Vec<DataType>,
    /// Columns that are stored with a row.
    values: Vec<usize>,
    /// The place of each column in state; empty if rows are only counted.
    places: Vec<Place>,
    /// True if the input is a changelog.
    pub is_changelog: bool,
    /// The property that distinguishes the stored rows of a key.
    pub identity: Identity,
}

impl Side {
    /// Creates the description of an input. `is_marked`: rows are marked as matched in state; `is_counted`: only the
    /// number of rows per key matters, not their values.
    pub(in crate::operators) fn new(schema: &SchemaRef, key: Vec<usize>, is_marked: bool, is_counted: bool) -> Self {
        let is_changelog = changelog::is_changelog(schema);
        let width = schema.fields().len() - usize::from(is_changelog);
        let types: Vec<DataType> = schema.fields()[..width]
            .iter()
            .map(|field| field.data_type().clone())
            .collect();
        let mut values = Vec::new();
        let mut places = Vec::new();
        for (column, data_type) in types.iter().enumerate().filter(|_| !is_counted) {
            // Equal keys may be different floats, -0.0 and 0.0, or nested values with such.
            let at = key.iter().position(|key| *key == column);
            places.push(
                match at.filter(|_| !data_type.is_floating() && !data_type.is_nested()) {
                    Some(at) => Place::Key(at),
                    None => {
                        values.push(column);
                        Place::Value(values.len() - 1)
                    }
                },
            );
        }
        let identity = match is_changelog || is_marked || is_counted {
            true => Identity::Content,
            false => Identity::Sequence,
        };
        Self {
            types,
            key,
            leading: Vec::new(),
            values,
            places,
            is_changelog,
            identity,
        }
    }

    /// Adds columns that are stored before those of a row.
    pub(in crate::operators) fn with_leading(self, leading: Vec<DataType>) -> Self {
        Self { leading, ..self }
    }

    /// Returns the settings of the collection of the input's rows.
    pub(in crate::operators) fn options(&self, collection: u8, max_parallelism: u16, is_expiring: bool) -> RowsOptions {
        let types =
            |columns: &[usize]| -> Vec<DataType> { columns.iter().map(|column| self.types[*column].clone()).collect() };
        RowsOptions {
            keys: types(&self.key),
            values: [self.leading.clone(), types(&self.values)].concat(),
            collection,
            max_parallelism,
            identity: self.identity,
            is_expiring,
        }
    }

    /// Returns the number of columns, without the kind.
    pub(in crate::operators) fn width(&self) -> usize {
        self.types.len()
    }

    /// Returns the keys of some rows of a batch.
    pub(in crate::operators) fn keys(&self, batch: &RecordBatch) -> Keys {
        Keys {
            columns: self
                .key
                .iter()
                .map(|column| Arc::clone(batch.column(*column)))
                .collect(),
            rows: batch.num_rows(),
        }
    }

    /// Returns the rows that have a NULL in a key column as invalid; `None` if there are none.
    pub(in crate::operators) fn null_keys(&self, batch: &RecordBatch) -> Option<NullBuffer> {
        let nulls = self.key.iter().map(|column| batch.column(*column).logical_nulls());
        let nulls = nulls.fold(None, |nulls, other| NullBuffer::union(nulls.as_ref(), other.as_ref()));
        nulls.filter(|nulls| nulls.null_count() > 0)
    }

    /// Returns the rows of a batch as they are stored, after the leading columns.
    pub(in crate::operators) fn encode(
        &self,
        batch: &RecordBatch,
        rows: &Rows,
        leading: Vec<ArrayRef>,
    ) -> Result<EncodedRows, Error> {
        debug_assert_eq!(leading.len(), self.leading.len());
        let mut columns = leading;
        columns.extend(self.values.iter().map(|column| Arc::clone(batch.column(*column))));
        Ok(rows.encode(&columns, batch.num_rows())?)
    }

    /// Stores the rows of a batch. `visit` gets the row, its entry, and its weight before and after. With `forgets`, a
    /// deletion without its row is ignored, because the row has expired.
    pub(in crate::operators) fn store(
        &self,
        batch: &RecordBatch,
        slots: &[u32],
        rows: &mut Rows,
        generation: impl Fn(usize) -> u32,
        forgets: bool,
        mut visit: impl FnMut(&mut Rows, usize, u32, i64, i64),
    ) -> Result<(), Error> {
        let encoded = self.encode(batch, rows, Vec::new())?;
        let kinds = changelog::kinds(batch).filter(|_| self.is_changelog);
        let mut unmatched = 0;
        for (row, slot) in slots.iter().enumerate() {
            let generation = generation(row);
            if self.identity == Identity::Sequence {
                let entry = rows.insert(*slot, encoded.row(row), generation)?;
                visit(rows, row, entry, 0, 1);
                continue;
            }
            let weight = kinds.map_or(1, |kinds| i64::from(kinds.value(row).signum()));
            let (entry, before) = rows.add(*slot, encoded.row(row), weight, generation)?;
            if forgets && before + weight < 0 {
                rows.add(*slot, encoded.row(row), -weight, generation)?;
                unmatched += 1;
                visit(rows, row, entry, before, before);
                continue;
            }
            visit(rows, row, entry, before, before + weight);
        }
        if unmatched > 0 {
            metrics::counter!("millstream_unmatched_retractions_total").increment(unmatched);
        }
        Ok(())
    }

    /// Stores the rows of a batch as [`Side::store`] does. Returns how often each row is added to or removed from the
    /// visible ones: that of equal rows is the first one's.
    pub(in crate::operators) fn store_net(
        &self,
        batch: &RecordBatch,
        slots: &[u32],
        rows: &mut Rows,
        generation: impl Fn(usize) -> u32,
        forgets: bool,
    ) -> Result<Vec<i64>, Error> {
        let mut weights = vec![0; slots.len()];
        let mut places: HashMap<u32, usize> = HashMap::new();
        self.store(
            batch,
            slots,
            rows,
            generation,
            forgets,
            |_, row, entry, before, after| {
                let place = match self.is_changelog {
                    true => *places.entry(entry).or_insert(row),
                    false => row,
                };
                weights[place] += after.max(0) - before.max(0);
            },
        )?;
        Ok(weights)
    }

    /// Returns the columns of some rows of a batch; all are NULL for [`NONE`].
    pub(in crate::operators) fn take(&self, batch: &RecordBatch, rows: &[u32]) -> Result<Vec<ArrayRef>, Error> {
        let places = match rows.contains(&NONE) {
            true => UInt32Array::from_iter(rows.iter().map(|row| (*row != NONE).then_some(*row))),
            false => UInt32Array::from(rows.to_vec()),
        };
        let columns = batch.columns()[..self.width()].iter();
        Ok(columns
            .map(|column| take(column, &places, None))
            .collect::<Result<_, _>>()?)
    }

    /// Returns some columns of some entries, in their order.
    pub(in crate::operators) fn gather_some(
        &self,
        rows: &Rows,
        entries: &[u32],
        columns: &[usize],
    ) -> Result<Vec<ArrayRef>, Error> {
        let places = columns.iter().map(|column| self.places[*column]);
        let mut wanted = Vec::new();
        let mut needs_keys = false;
        for place in places.clone() {
            match place {
                Place::Key(_) => needs_keys = true,
                Place::Value(at) => wanted.push(self.leading.len() + at),
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let values = rows.decode_some(entries.iter().copied(), &wanted)?;
        let keys = match needs_keys {
            true => {
                let slots: Vec<u32> = entries.iter().map(|entry| rows.key_of(*entry)).collect();
                rows.keys(&slots)?
            }
            false => Vec::new(),
        };
        let columns = places.map(|place| match place {
            Place::Key(at) => Arc::clone(&keys[at]),
            Place::Value(at) => {
                let value = wanted.partition_point(|value| *value < self.leading.len() + at);
                Arc::clone(&values[value])
            }
        });
        Ok(columns.collect())
    }

    /// Returns the columns of some entries; all are NULL for [`NONE`].
    pub(in crate::operators) fn gather(&self, rows: &Rows, entries: &[u32]) -> Result<Vec<ArrayRef>, Error> {
        let known: Vec<u32> = entries.iter().copied().filter(|entry| *entry != NONE).collect();
        let slots: Vec<u32> = known.iter().map(|entry| rows.key_of(*entry)).collect();
        let columns = self.assemble(&rows.keys(&slots)?, &rows.decode(known.iter().copied())?);
        if known.len() == entries.len() {
            return Ok(columns);
        }
        let mut next = 0;
        let places = UInt32Array::from_iter(entries.iter().map(|entry| {
            (*entry != NONE).then(|| {
                next += 1;
                next - 1
            })
        }));
        Ok(columns
            .iter()
            .map(|column| take(column, &places, None))
            .collect::<Result<_, _>>()?)
    }

    /// Returns the input's columns of rows with these key columns and stored columns.
    pub(in crate::operators) fn assemble(&self, keys: &[ArrayRef], values: &[ArrayRef]) -> Vec<ArrayRef> {
        let columns = self.places.iter().map(|place| match place {
            Place::Key(at) => Arc::clone(&keys[*at]),
            Place::Value(at) => Arc::clone(&values[self.leading.len() + *at]),
        });
        columns.collect()
    }

    /// Returns columns of NULLs.
    pub(in crate::operators) fn nulls(&self, rows: usize) -> Vec<ArrayRef> {
        let types = self.types.iter();
        types
            .map(|data_type| arrow::array::new_null_array(data_type, rows))
            .collect()
    }
}
