//! The assignment of a table's columns to the key and the value of its records.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::record_metadata::FORMAT_METADATA_PREFIX;
use super::upsert;
use crate::format::FormatSpec;
use crate::options::Options;
use crate::{ChangelogSupport, Error, OptionError, TableDefinition};

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
    /// Reads the options of a table. Returns all mistakes.
    pub(super) fn of(table: &TableDefinition) -> Result<Self, Vec<OptionError>> {
        let mut reader = LayoutReader {
            table,
            options: Options::of(table),
            errors: Vec::new(),
        };
        match (reader.layout(), reader.errors.is_empty()) {
            (Some(layout), true) => Ok(layout),
            _ => Err(reader.errors),
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
fn value_schema(table: &TableDefinition, columns: &[usize]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|&index| table.schema.fields()[index].clone())
            .collect::<Vec<_>>(),
    ))
}

/// Reads the options of a layout and collects all mistakes.
struct LayoutReader<'a> {
    table: &'a TableDefinition,
    options: Options<'a>,
    errors: Vec<OptionError>,
}

impl<'a> LayoutReader<'a> {
    fn add_error(&mut self, option: &str, message: String) {
        self.errors.push(OptionError::new(option, message));
    }

    fn collect<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result
            .map_err(|error| self.errors.push(OptionError::of_table(error.to_string())))
            .ok()
    }

    fn layout(&mut self) -> Option<RecordLayout> {
        let value_format = FormatSpec::of_value(self.table);
        let value_format = self.collect(value_format);
        let key_format = FormatSpec::of(self.table, "key.");
        let key_format = self.collect(key_format)?;
        let is_upsert = upsert::is_upsert(self.table);
        let fields = match is_upsert {
            true => self.table.primary_key.iter().map(String::as_str).collect(),
            false => self.options.list("key.fields").unwrap_or_default(),
        };
        if is_upsert && fields.is_empty() {
            self.errors.push(OptionError::of_table(
                "a table of the connector `upsert-kafka` needs a primary key, whose columns are the keys of records; \
                 declare it: PRIMARY KEY (column) NOT ENFORCED",
            ));
            return None;
        }
        let prefix = self.options.text("key.fields-prefix").unwrap_or_default().to_string();
        let mut columns = Vec::new();
        for name in &fields {
            match self.physical().position(|column| column == *name) {
                Some(_) if !name.starts_with(&prefix) => {
                    let message = format!("the key column `{name}` does not start with the prefix '{prefix}'");
                    self.add_error("key.fields-prefix", message);
                }
                Some(index) => columns.push(index),
                None if is_upsert => {
                    let message = format!(
                        "the column `{name}` of the primary key is not stored in records; the primary key of a table of \
                         `upsert-kafka` consists of physical columns"
                    );
                    self.add_error(name, message);
                }
                None => {
                    let near = millstream_proto::spec::did_you_mean(name, self.physical());
                    self.add_error("key.fields", format!("the table has no column `{name}`{near}"));
                }
            }
        }
        let key = match (key_format, fields.is_empty()) {
            (Some(format), false) => Some(KeyLayout {
                format,
                columns,
                prefix,
            }),
            (None, true) => None,
            (Some(_), true) => {
                self.add_error(
                    "key.fields",
                    "'key.format' needs 'key.fields', the columns of the key".into(),
                );
                None
            }
            (None, false) => {
                self.add_error(
                    "key.format",
                    "'key.fields' needs 'key.format', e.g. 'raw' or 'json'".into(),
                );
                None
            }
        };
        let except_key = self
            .options
            .text("value.fields-include")
            .is_some_and(|include| include.trim().eq_ignore_ascii_case("EXCEPT_KEY"));
        let in_key = |index: &usize| key.as_ref().is_some_and(|key| key.columns.contains(index));
        let value: Vec<usize> = (0..self.table.physical_columns())
            .filter(|index| !(except_key && in_key(index)))
            .collect();
        let value_format = value_format?;
        self.check_formats(&value_format, &value, key.as_ref());
        Some(RecordLayout {
            value_format,
            value,
            key,
            is_upsert,
        })
    }

    /// Checks that the formats support the columns, by creating decoders, and the types of metadata columns.
    fn check_formats(&mut self, value_format: &FormatSpec, value: &[usize], key: Option<&KeyLayout>) {
        let schema = value_schema(self.table, value);
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        self.collect(value_format.decoder(&schema, &all).map(drop));
        for format in [Some(value_format), key.map(|key| &key.format)].into_iter().flatten() {
            if matches!(format.header(), Ok(Some(_))) {
                let message = "Kafka records have no header line: only files have one (connector `filesystem`), and columns \
                               of records are matched by position; remove the option, and declare the columns in the \
                               order of the fields";
                self.add_error("csv.header", message.into());
            }
        }
        if upsert::is_upsert(self.table) && value_format.changelog() != ChangelogSupport::Append {
            let message = format!(
                "a record of the connector `upsert-kafka` is a row and not a change, so its format is not `{}`; choose \
                 e.g. 'json', or the connector `kafka`",
                value_format.format.name
            );
            self.add_error("value.format", message);
        }
        if let Some(key) = key {
            if key.format.changelog() != ChangelogSupport::Append {
                let message = format!(
                    "a key is not a change, so its format is not `{}`",
                    key.format.format.name
                );
                self.add_error("key.format", format!("{message}; choose e.g. 'json' or 'raw'"));
            }
            let schema = key.schema(self.table);
            let all: Vec<usize> = (0..schema.fields().len()).collect();
            self.collect(key.format.decoder(&schema, &all).map(drop));
        }
        let time = DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None);
        for column in &self.table.metadata {
            let Some(field) = self.table.field(&column.column) else {
                continue;
            };
            if let Some(key) = column.key.strip_prefix(FORMAT_METADATA_PREFIX) {
                let problem = format_metadata_problem(value_format, key, field.data_type());
                self.errors
                    .extend(problem.map(|problem| OptionError::new(column.column.clone(), problem)));
                continue;
            }
            let fits = match column.key.as_str() {
                "topic" | "timestamp-type" => *field.data_type() == DataType::Utf8,
                "timestamp" => field.data_type().is_temporal() || *field.data_type() == DataType::Int64,
                "partition" | "offset" => field.data_type().is_integer(),
                "headers" => matches!(field.data_type(), DataType::Map(_, _)),
                "key" => matches!(field.data_type(), DataType::Binary | DataType::Utf8),
                _ => true,
            };
            if !fits {
                let wanted = match column.key.as_str() {
                    "timestamp" => format!("{time} WITH LOCAL TIME ZONE (TIMESTAMP_LTZ(3))"),
                    "partition" => "INT".into(),
                    "offset" => "BIGINT".into(),
                    "headers" => "MAP<STRING, BYTES>".into(),
                    "key" => "BYTES".into(),
                    _ => "STRING".into(),
                };
                let message = format!(
                    "the metadata '{}' of the column `{}` is {wanted}",
                    column.key, column.column
                );
                self.errors.push(OptionError::new(column.column.clone(), message));
            }
        }
    }

    fn physical(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let table = self.table;
        table
            .schema
            .fields()
            .iter()
            .take(table.physical_columns())
            .map(|field| field.name().as_str())
    }
}

/// Returns the reason why a column of this type cannot have the metadata `key` of a format.
fn format_metadata_problem(format: &FormatSpec, key: &str, data_type: &DataType) -> Option<String> {
    let name = format.format.name;
    let known = format.format.metadata;
    let Some(metadata) = known.iter().find(|metadata| metadata.key == key) else {
        return Some(match known {
            [] => format!("the format `{name}` has no metadata, so no key 'value.{key}'"),
            _ => format!("the format `{name}` has no metadata 'value.{key}'"),
        });
    };
    let expected = (metadata.data_type)();
    let fits = *data_type == expected
        || expected.is_temporal() && data_type.is_temporal()
        || matches!((data_type, &expected), (DataType::Map(_, _), DataType::Map(_, _)));
    let shown = match expected {
        DataType::Timestamp(_, _) => "TIMESTAMP_LTZ(3)",
        DataType::Map(_, _) => "MAP<STRING, STRING>",
        _ => "STRING",
    };
    (!fits).then(|| format!("the metadata 'value.{key}' is {shown}"))
}
