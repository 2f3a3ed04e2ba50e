//! Decodes the rows that a case gives and expects, with the formats of the connectors.
//!
//! Rows are JSON objects whose fields are the columns of the table, metadata columns included. Records are in the
//! table's own format.

use std::sync::Arc;

use arrow_array::{Int8Array, RecordBatch, new_null_array};
use arrow_schema::{ArrowError, Field, Fields, Schema, SchemaRef};
use millstream_connectors::changelog::{ChangelogSupport, with_kinds};
use millstream_connectors::format::{Decoded, EncodedRecords, FormatSpec, Framing, Records};
use millstream_connectors::{RejectedRecord, Role, RowKind, TableDefinition, registry};
use millstream_graph::NodeIndex;
use millstream_runtime::request::RequestRows;

use crate::Error;

/// Options of the format of given and expected rows.
const JSON: [(&str, &str); 2] = [("format", "json"), ("json.fail-on-unknown-field", "true")];

/// A row of a case.
#[derive(Debug, Clone)]
pub struct Row {
    /// Kind of the change.
    pub kind: RowKind,
    /// The row as a JSON object.
    pub json: String,
    /// Names of its fields.
    pub names: Vec<String>,
}

/// Rows of a source, and records that did not decode.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub rows: RecordBatch,
    pub rejected: Vec<RejectedRecord>,
}

impl Given {
    pub(super) fn into_request(self, source: NodeIndex) -> RequestRows {
        RequestRows {
            source,
            rows: self.rows,
            rejected: self.rejected,
        }
    }
}

/// The columns of a table, for rows in JSON.
pub(super) struct Shape {
    /// The table of the pipeline.
    table: TableDefinition,
    /// The same table as JSON rows, all columns of which are in the row.
    json: TableDefinition,
    /// True if rows of the table are changes.
    is_changelog: bool,
}

impl Shape {
    pub(super) fn of_source(table: &TableDefinition) -> Self {
        let connector = registry::find(table.connector());
        let changelog = connector.map(|connector| connector.changelog(table, Role::Source));
        Self {
            is_changelog: changelog.is_some_and(|changelog| changelog != ChangelogSupport::Append),
            json: json_table(table, Arc::clone(&table.schema)),
            table: table.clone(),
        }
    }

    /// Returns the shape of the rows of a sink. An expected row may leave any column out.
    pub(super) fn of_sink(table: &TableDefinition) -> Self {
        let fields = table.schema.fields().iter();
        let fields: Fields = fields.map(|field| Field::clone(field).with_nullable(true)).collect();
        Self {
            json: json_table(table, Arc::new(Schema::new(fields))),
            table: table.clone(),
            is_changelog: false,
        }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.json.schema
    }

    /// Decodes rows. A row that does not fit its columns is a mistake of the case.
    pub(super) fn decode(&self, rows: &[Row]) -> Result<Given, Error> {
        let texts: Vec<&str> = rows.iter().map(|row| row.json.as_str()).collect();
        let decoded = decode(&self.json, self.schema(), &texts)?;
        if let Some(rejection) = decoded.rejected.first() {
            let row = texts.get(rejection.record).copied().unwrap_or_default();
            return Err(Error::Invalid(format!(
                "`{}`: the row {row}: {}",
                self.table.name, rejection.error
            )));
        }
        let kinds: Int8Array = rows.iter().map(|row| row.kind as i8).collect::<Vec<_>>().into();
        let rows = match self.is_changelog {
            true => with_kinds(&decoded.rows, kinds)?,
            false => decoded.rows,
        };
        Ok(Given {
            rows,
            rejected: Vec::new(),
        })
    }

    /// Decodes records of the table's own format. Metadata columns are NULL.
    pub(super) fn decode_payload(&self, records: &[String]) -> Result<Given, Error> {
        let format = FormatSpec::of_value(&self.table)?;
        if format.is_file_format() || format.header()?.is_some() {
            return Err(Error::Invalid(format!(
                "`{}`: files of its format are more than single records; give `rows` instead of `payload`",
                self.table.name
            )));
        }
        let schema = &self.table.schema;
        let physical = schema.fields().len() - self.table.metadata.len();
        let texts: Vec<&str> = records.iter().map(String::as_str).collect();
        let own = SchemaRef::new(schema.project(&(0..physical).collect::<Vec<_>>()).map_err(arrow)?);
        let decoded = decode(&self.table, &own, &texts)?;
        let mut columns = decoded.rows.columns().to_vec();
        let metadata = schema.fields().iter().skip(physical);
        columns.extend(metadata.map(|field| new_null_array(field.data_type(), decoded.rows.num_rows())));
        let rows = RecordBatch::try_new(Arc::clone(schema), columns).map_err(arrow)?;
        let rows = match (self.is_changelog, decoded.kinds) {
            (false, _) => rows,
            (true, Some(kinds)) => with_kinds(&rows, kinds)?,
            (true, None) => {
                let inserts = Int8Array::from(vec![RowKind::Insert as i8; rows.num_rows()]);
                with_kinds(&rows, inserts)?
            }
        };
        let rejected = decoded.rejected.into_iter().map(|rejection| RejectedRecord {
            payload: records.get(rejection.record).cloned().unwrap_or_default().into_bytes(),
            position: format!("record {}", rejection.record + 1),
            error: rejection.error,
        });
        Ok(Given {
            rows,
            rejected: rejected.collect(),
        })
    }

    /// Returns the cells of rows as JSON text, in the order of the columns.
    pub(super) fn cells(&self, rows: &RecordBatch) -> Result<Vec<Vec<String>>, Error> {
        let mut cells = vec![Vec::new(); rows.num_rows()];
        for (index, field) in self.schema().fields().iter().enumerate() {
            let schema = SchemaRef::new(self.schema().project(&[index]).map_err(arrow)?);
            let column =
                RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(rows.column(index))]).map_err(arrow)?;
            let mut records = EncodedRecords::default();
            let mut encoder = FormatSpec::of_value(&self.json)?.encoder(&schema, Framing::Bare)?;
            encoder.encode(&column, &mut records)?;
            let name = serde_json::Value::from(field.name().as_str()).to_string();
            for (cells, record) in cells.iter_mut().zip(records.iter()) {
                let text = String::from_utf8_lossy(record);
                let value = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
                let value = value.and_then(|text| text.strip_prefix(name.as_str()));
                let value = value.and_then(|text| text.trim_start().strip_prefix(':'));
                cells.push(value.unwrap_or("null").trim().to_owned());
            }
        }
        Ok(cells)
    }
}

fn arrow(error: ArrowError) -> Error {
    Error::Connector(error.into())
}

fn json_table(table: &TableDefinition, schema: SchemaRef) -> TableDefinition {
    let options = JSON.iter();
    TableDefinition {
        schema,
        metadata: Vec::new(),
        options: options
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..table.clone()
    }
}

/// Decodes one record per text.
fn decode(table: &TableDefinition, schema: &SchemaRef, texts: &[&str]) -> Result<Decoded, Error> {
    let mut data = Vec::new();
    let ranges: Vec<(usize, usize)> = texts
        .iter()
        .map(|text| {
            let start = data.len();
            data.extend_from_slice(text.as_bytes());
            (start, data.len())
        })
        .collect();
    let columns: Vec<usize> = (0..schema.fields().len()).collect();
    let mut decoder = FormatSpec::of_value(table)?.decoder(schema, &columns)?;
    Ok(decoder.decode(Records {
        data: &data,
        ranges: &ranges,
    })?)
}
