//! Partition columns: columns stored in the names of a file's folders (`day=2024-01-01/city=Berlin/`), not in the file.
//!
//! The layout is Hive's, as in Flink: one folder per partition column in the order of `PARTITIONED BY`, values as text
//! with the characters that a path cannot hold percent-encoded, and a fixed name for NULL.

use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray, UInt32Array};
use arrow_schema::{Schema, SchemaRef};

use crate::format::{TextColumn, TimestampStyle, parse_cell};
use crate::options::Options;
use crate::{Error, TableDefinition};

/// Folder value that stands for NULL and for the empty string unless the option `partition.default-name` sets another.
const DEFAULT_NAME: &str = "__HIVE_DEFAULT_PARTITION__";

/// Returns the folder value that stands for NULL and for the empty string.
pub(super) fn default_name<'a>(options: &Options<'a>) -> &'a str {
    options.text("partition.default-name").unwrap_or(DEFAULT_NAME)
}

/// Returns the columns that are stored in the files: physical columns that are not partition columns.
pub(super) fn file_schema(table: &TableDefinition) -> Result<SchemaRef, Error> {
    let fields: Vec<_> = table.schema.fields()[..table.physical_columns()]
        .iter()
        .filter(|field| !table.partitioned_by.contains(field.name()))
        .cloned()
        .collect();
    if fields.is_empty() {
        return Err(Error::Invalid(format!(
            "table `{}`: every column is a partition column, so no column is left to store in the files",
            table.name
        )));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Appends the partition folder of one row, ending with `/`; nothing without partition columns.
pub(super) fn folder(columns: &[(String, TextColumn<'_>)], row: usize, default_name: &str, out: &mut Vec<u8>) {
    for (name, column) in columns {
        escape(name.as_bytes(), out);
        out.push(b'=');
        let start = out.len();
        if !column.is_null(row) {
            let mut text = Vec::new();
            column.write_plain(row, TimestampStyle::Sql, &mut text);
            escape(&text, out);
        }
        if out.len() == start {
            out.extend_from_slice(default_name.as_bytes());
        }
        out.push(b'/');
    }
}

/// Appends a name or value, with the characters that Hive escapes percent-encoded.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            0..0x20
            | 0x7f
            | b'"'
            | b'#'
            | b'%'
            | b'\''
            | b'*'
            | b'/'
            | b':'
            | b'='
            | b'?'
            | b'\\'
            | b'{'
            | b'['
            | b']'
            | b'^' => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => out.push(*byte),
        }
    }
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match (bytes[at], hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns the value of a partition column for the file at `path`, as an array of one row.
pub(super) fn value(table: &TableDefinition, column: usize, path: &str, default_name: &str) -> Result<ArrayRef, Error> {
    let field = &table.schema.fields()[column];
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    let text = folders
        .split('/')
        .filter_map(|part| part.split_once('='))
        .filter(|(name, _)| unescape(name) == *field.name())
        .map(|(_, value)| value)
        .next_back();
    let Some(text) = text else {
        return Err(Error::Data(format!(
            "`{path}`: the path has no folder `{}=...`, but the table is PARTITIONED BY this column",
            field.name()
        )));
    };
    let text = (text != default_name).then(|| unescape(text));
    parse_cell(field, text.as_deref())
        .map_err(|problem| Error::Data(format!("`{path}`: partition column `{}`: {problem}", field.name())))
}

/// Repeats an array of one row.
pub(super) fn repeat(value: &ArrayRef, rows: usize) -> Result<ArrayRef, Error> {
    Ok(arrow_select::take::take(
        value,
        &UInt32Array::from_value(0, rows),
        None,
    )?)
}

/// Returns a string as an array of one row.
pub(super) fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}
