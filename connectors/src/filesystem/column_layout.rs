//! The mapping from a file's columns, folders and metadata to the columns that a reader delivers.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow_schema::SchemaRef;

use super::partition;
use super::source_settings::SourceSettings;
use super::split::Position;
use crate::Error;

/// The origin of each delivered column.
#[derive(Debug, Clone)]
pub(super) struct ColumnLayout {
    /// The delivered columns.
    pub schema: SchemaRef,
    /// Columns to decode, as indices into the file's schema.
    pub file_columns: Vec<usize>,
    origins: Vec<ColumnOrigin>,
}

/// The origin of one delivered column.
#[derive(Debug, Clone)]
enum ColumnOrigin {
    /// Index into `file_columns`.
    File(usize),
    /// Index of the column in the table's schema.
    Partition(usize),
    /// The metadata key, and the column's index in the table's schema.
    Metadata(String, usize),
}

impl ColumnLayout {
    /// Lays out the columns at `projection` of the table's schema, in that order; all columns if `None`.
    pub(super) fn new(settings: &SourceSettings, projection: Option<&[usize]>) -> Result<Self, Error> {
        let table = &settings.table;
        let all: Vec<usize> = (0..table.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        let mut file_columns: Vec<usize> = Vec::new();
        let mut origins = Vec::new();
        for column in wanted {
            let name = table.schema.field(*column).name();
            origins.push(if *column >= table.physical_columns() {
                ColumnOrigin::Metadata(table.metadata[*column - table.physical_columns()].key.clone(), *column)
            } else if let Ok(index) = settings.file_schema.index_of(name) {
                let at = file_columns
                    .iter()
                    .position(|known| *known == index)
                    .unwrap_or_else(|| {
                        file_columns.push(index);
                        file_columns.len() - 1
                    });
                ColumnOrigin::File(at)
            } else {
                ColumnOrigin::Partition(*column)
            });
        }
        let schema = Arc::new(table.schema.project(wanted)?);
        Ok(Self {
            schema,
            file_columns,
            origins,
        })
    }

    /// Returns the one-row constants of a file by delivered column; `None` for columns that are decoded.
    pub(super) fn constants(
        &self,
        settings: &SourceSettings,
        position: &Position,
    ) -> Result<Vec<Option<ArrayRef>>, Error> {
        self.origins
            .iter()
            .map(|origin| constant(settings, position, origin))
            .collect()
    }

    /// Combines decoded columns and constants into a batch of the delivered columns.
    pub(super) fn assemble(&self, decoded: &RecordBatch, constants: &[Option<ArrayRef>]) -> Result<RecordBatch, Error> {
        let rows = decoded.num_rows();
        let columns = self
            .origins
            .iter()
            .zip(constants)
            .map(|(origin, constant)| match (origin, constant) {
                (ColumnOrigin::File(index), _) => Ok(decoded.column(*index).clone()),
                (_, Some(value)) => partition::repeat(value, rows),
                (_, None) => Err(Error::Invalid("a column of a file has no value".to_string())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            columns,
            &options,
        )?)
    }
}

/// Returns the value that a column has in every row of a file; `None` for a decoded column.
fn constant(settings: &SourceSettings, position: &Position, origin: &ColumnOrigin) -> Result<Option<ArrayRef>, Error> {
    let path = position.path.as_str();
    let (key, column) = match origin {
        ColumnOrigin::File(_) => return Ok(None),
        ColumnOrigin::Partition(column) => {
            return partition::value(&settings.table, *column, path, &settings.default_partition).map(Some);
        }
        ColumnOrigin::Metadata(key, column) => (key.as_str(), *column),
    };
    let value: ArrayRef = match key {
        "file.path" => partition::text(path),
        "file.name" => partition::text(path.rsplit('/').next().unwrap_or(path)),
        "file.size" => Arc::new(Int64Array::from(vec![position.size as i64])),
        "file.modification-time" => {
            Arc::new(TimestampMicrosecondArray::from(vec![position.modified_us]).with_timezone("UTC"))
        }
        other => {
            return Err(Error::Invalid(format!(
                "table `{}`: unknown metadata key '{other}'",
                settings.table.name
            )));
        }
    };
    let wanted = settings.table.schema.field(column).data_type();
    Ok(Some(arrow_cast::cast(&value, wanted)?))
}
