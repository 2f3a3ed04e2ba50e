//! The assignment of a table's columns to the key and the value of its records.

use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};

use crate::format::FormatSpec;
use crate::{ChangelogSupport, TableDefinition};

/// Beginning of the keys of metadata that the format of values reads.
pub(super) const FORMAT_METADATA_PREFIX: &str = "value.";

/// The columns and formats of a record's key and value.
#[derive(Debug, Clone)]
pub struct RecordLayout {
    /// Format of values.
    pub value_format: FormatSpec,
    /// Indices into the table's schema of the columns in the value.
    pub value: Vec<usize>,
    /// Layout of the key; `None` if records have no key columns.
    pub key: Option<KeyLayout>,
    /// True if a record is the newest version of the row of its key, and a record without a value deletes the row.
    pub is_upsert: bool,
}

/// The columns and format of a record's key.
#[derive(Debug, Clone)]
pub struct KeyLayout {
    /// Format of keys.
    pub format: FormatSpec,
    /// Indices into the table's schema of the columns in the key.
    pub columns: Vec<usize>,
    /// Prefix of the columns' names in the table, which their names in the key do not have.
    pub prefix: String,
}

impl RecordLayout {
    /// Returns the changes that records represent.
    pub(super) fn changelog(&self) -> ChangelogSupport {
        match self.is_upsert {
            true => ChangelogSupport::Upsert,
            false => self.value_format.changelog(),
        }
    }

    /// Returns the columns of the value.
    pub fn value_schema(&self, table: &TableDefinition) -> SchemaRef {
        value_schema(table, &self.value)
    }
}

impl KeyLayout {
    /// Returns the columns of the key, under their names in the key.
    pub fn schema(&self, table: &TableDefinition) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|&index| {
                let field = table.schema.field(index);
                let name = field.name().strip_prefix(&self.prefix).unwrap_or(field.name());
                field.clone().with_name(name)
            })
            .collect();
        Arc::new(Schema::new(fields))
    }
}

/// Returns the columns at these indices of the table's schema.
pub(super) fn value_schema(table: &TableDefinition, columns: &[usize]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|&index| table.schema.fields()[index].clone())
            .collect::<Vec<_>>(),
    ))
}
