//! Changelog streams: rows with a kind, which insert, update or delete rows of a table.
//!
//! A batch of a changelog has one more column than its table, the last one: [`KIND_COLUMN`], of type `Int8`, which is
//! never NULL. The sign of a kind is the weight of its row. An append-only stream has no such column.
//!
//! An [`UpdateBefore`](RowKind::UpdateBefore) row is directly followed by its [`UpdateAfter`](RowKind::UpdateAfter) row
//! in the same batch. In a stream in upsert mode there are no `UpdateBefore` rows, and only the key columns of `Delete`
//! rows are valid.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int8Type;
use arrow_array::{Array, Int8Array, RecordBatch};
use arrow_schema::{DataType, Field, Fields, Schema};

use crate::Error;

/// Name of the column of row kinds. Names of columns that begin with `$` are reserved.
pub const KIND_COLUMN: &str = "$kind";

/// Kind of a row in a changelog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i8)]
pub enum RowKind {
    /// Adds a row.
    Insert = 1,
    /// Removes the former version of a row; the next row is the new version.
    UpdateBefore = -2,
    /// Adds the new version of a row.
    UpdateAfter = 2,
    /// Removes a row.
    Delete = -1,
}

impl RowKind {
    /// Returns the kind that a value of [`KIND_COLUMN`] stands for.
    pub fn from_value(value: i8) -> Option<Self> {
        match value {
            1 => Some(Self::Insert),
            -2 => Some(Self::UpdateBefore),
            2 => Some(Self::UpdateAfter),
            -1 => Some(Self::Delete),
            _ => None,
        }
    }

    /// Returns the kind in Flink's notation: `+I`, `-U`, `+U` or `-D`.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }

    /// Returns true if the row is removed from the table, false if it is added.
    pub fn is_removal(self) -> bool {
        matches!(self, Self::UpdateBefore | Self::Delete)
    }
}

/// Changes that a sink accepts, or that a source provides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangelogSupport {
    /// Inserted rows only.
    Append,
    /// Inserts, new versions and deletions of rows by primary key, without the former versions.
    Upsert,
    /// Rows of all kinds.
    Retract,
}

/// Returns the field of [`KIND_COLUMN`].
pub fn kind_field() -> Field {
    Field::new(KIND_COLUMN, DataType::Int8, false)
}

/// Returns true if rows with these columns are changes.
pub fn is_changelog(schema: &Schema) -> bool {
    let last = schema.fields().last();
    last.is_some_and(|field| field.name() == KIND_COLUMN && field.data_type() == &DataType::Int8)
}

/// Returns the kinds of the rows of a changelog; `None` if the batch is append-only.
pub fn kinds(batch: &RecordBatch) -> Option<&Int8Array> {
    is_changelog(batch.schema_ref()).then(|| batch.column(batch.num_columns() - 1).as_primitive::<Int8Type>())
}

/// Returns rows as changes of these kinds.
pub fn with_kinds(rows: &RecordBatch, kinds: Int8Array) -> Result<RecordBatch, Error> {
    let fields = rows.schema_ref().fields().iter().cloned();
    let fields: Fields = fields.chain([Arc::new(kind_field())]).collect();
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(kinds));
    let schema = Schema::new_with_metadata(fields, rows.schema_ref().metadata().clone());
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}

/// The kinds of the rows of a batch, checked to be known ones.
#[derive(Debug, Clone, Copy)]
pub struct Kinds<'a> {
    /// `None` if the batch is append-only.
    values: Option<&'a [i8]>,
}

impl<'a> Kinds<'a> {
    /// Kinds of an append-only batch.
    pub const INSERTS: Self = Self { values: None };

    /// Returns the kinds of the rows of a batch, which are all inserts if it is append-only.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, Error> {
        kinds(batch).map_or(Ok(Self::INSERTS), Self::new)
    }

    /// Checks the values of [`KIND_COLUMN`].
    pub fn new(column: &'a Int8Array) -> Result<Self, Error> {
        let values = column.values();
        if column.null_count() > 0 {
            return Err(Error::Invalid(format!("a change has no kind: {KIND_COLUMN} is NULL")));
        }
        match values.iter().find(|value| RowKind::from_value(**value).is_none()) {
            Some(unknown) => Err(Error::Invalid(format!("{unknown} is not the kind of a change"))),
            None => Ok(Self { values: Some(values) }),
        }
    }

    /// Returns the kind of a row.
    #[inline]
    pub fn kind(&self, row: usize) -> RowKind {
        let value = self.values.and_then(|values| values.get(row));
        value
            .and_then(|value| RowKind::from_value(*value))
            .unwrap_or(RowKind::Insert)
    }

    /// Returns true if every row is an insert.
    pub fn are_inserts(&self) -> bool {
        self.values
            .is_none_or(|values| values.iter().all(|value| *value == RowKind::Insert as i8))
    }

    /// Returns true if no row is removed.
    pub fn are_additions(&self) -> bool {
        self.values.is_none_or(|values| values.iter().all(|value| *value > 0))
    }
}
