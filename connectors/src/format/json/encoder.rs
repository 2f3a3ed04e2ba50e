//! Encoding of columns to JSON records: one object per row, with its fields in the order of the columns.
//!
//! The type of each column is resolved once per batch, and each field's `"name":` is encoded once per encoder; a cell
//! then costs one branch and a copy. Numbers are written so that parsing them gives the same value; NaN and infinities,
//! which JSON does not have, as strings; binary data in base64.

use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;

use crate::Error;
use crate::format::text_column::{Cells, TextColumn};
use crate::format::time::TimestampStyle;
use crate::format::{EncodedRecords, Encoder, Framing};
use crate::options::Options;
use crate::sql_type;

/// Encodes JSON records.
pub(crate) struct JsonEncoder {
    objects: RowObjects,
    framing: Framing,
}

/// Writes rows as JSON objects.
pub(crate) struct RowObjects {
    /// `"name":` of each column.
    names: Vec<Vec<u8>>,
    settings: Settings,
}

struct Settings {
    /// Prefix of the format's options.
    format: String,
    style: TimestampStyle,
    ignore_nulls: bool,
    null_key: NullKey,
}

/// Treatment of a map's NULL key.
enum NullKey {
    Fail,
    Drop,
    Literal(String),
}

impl RowObjects {
    /// Creates a writer of the columns of `schema`. `format` is the prefix of its options.
    pub(crate) fn new(schema: &SchemaRef, options: &Options<'_>, format: &str) -> Result<Self, Error> {
        let names = schema
            .fields()
            .iter()
            .map(|field| {
                let mut name = Vec::new();
                write_string(field.name(), &mut name);
                name.push(b':');
                name
            })
            .collect();
        let text = |name: &str| options.text(&format!("{format}.{name}"));
        let ignore_nulls = options.boolean(&format!("{format}.encode.ignore-null-fields"))?;
        let settings = Settings {
            format: format.to_string(),
            style: match text("timestamp-format.standard") {
                Some(standard) if standard.eq_ignore_ascii_case("ISO-8601") => TimestampStyle::Iso8601,
                _ => TimestampStyle::Sql,
            },
            ignore_nulls: ignore_nulls.unwrap_or(false),
            null_key: match text("map-null-key.mode").map(str::to_ascii_uppercase).as_deref() {
                Some("DROP") => NullKey::Drop,
                Some("LITERAL") => NullKey::Literal(text("map-null-key.literal").unwrap_or("null").to_string()),
                _ => NullKey::Fail,
            },
        };
        Ok(Self { names, settings })
    }

    /// Returns true if NULL fields are left out.
    pub(crate) fn ignores_nulls(&self) -> bool {
        self.settings.ignore_nulls
    }

    /// Appends the object of one row of `columns`.
    pub(crate) fn write(&self, columns: &[TextColumn<'_>], row: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        out.push(b'{');
        let mut first = true;
        for (name, column) in self.names.iter().zip(columns) {
            let null = column.is_null(row);
            if null && self.settings.ignore_nulls {
                continue;
            }
            if !first {
                out.push(b',');
            }
            first = false;
            out.extend_from_slice(name);
            if null {
                out.extend_from_slice(b"null");
            } else {
                write_cell(column, row, &self.settings, out)?;
            }
        }
        out.push(b'}');
        Ok(())
    }
}

impl JsonEncoder {
    pub(crate) fn new(schema: &SchemaRef, framing: Framing, options: &Options<'_>) -> Result<Self, Error> {
        Ok(Self {
            objects: RowObjects::new(schema, options, "json")?,
            framing,
        })
    }
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRecords) -> Result<(), Error> {
        let columns = TextColumn::all(rows)?;
        out.ends.reserve(rows.num_rows());
        for row in 0..rows.num_rows() {
            self.objects.write(&columns, row, &mut out.data)?;
            out.end_record(self.framing);
        }
        Ok(())
    }
}

fn write_value(column: &TextColumn<'_>, row: usize, settings: &Settings, out: &mut Vec<u8>) -> Result<(), Error> {
    if column.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    write_cell(column, row, settings, out)
}

#[inline]
fn write_cell(column: &TextColumn<'_>, row: usize, settings: &Settings, out: &mut Vec<u8>) -> Result<(), Error> {
    match &column.cells {
        Cells::Utf8(array) => write_string(array.value(row), out),
        Cells::Date(_) | Cells::Time(_) | Cells::Timestamp { .. } | Cells::Binary(_) => {
            out.push(b'"');
            column.write_plain(row, settings.style, out);
            out.push(b'"');
        }
        Cells::Float64(array) if !array.value(row).is_finite() => write_non_finite(array.value(row), out),
        Cells::Float32(array) if !array.value(row).is_finite() => write_non_finite(array.value(row).into(), out),
        Cells::Struct(children) => {
            out.push(b'{');
            let mut first = true;
            for (name, child) in children {
                if settings.ignore_nulls && child.is_null(row) {
                    continue;
                }
                if !first {
                    out.push(b',');
                }
                first = false;
                write_string(name, out);
                out.push(b':');
                write_value(child, row, settings, out)?;
            }
            out.push(b'}');
        }
        Cells::List(array, child) => {
            out.push(b'[');
            let (start, end) = bounds(array.value_offsets(), row);
            for element in start..end {
                if element > start {
                    out.push(b',');
                }
                write_value(child, element, settings, out)?;
            }
            out.push(b']');
        }
        Cells::Map(array, keys, values) => {
            out.push(b'{');
            let (start, end) = bounds(array.value_offsets(), row);
            let mut first = true;
            let mut key = Vec::new();
            for entry in start..end {
                key.clear();
                if keys.is_null(entry) {
                    match &settings.null_key {
                        NullKey::Drop => continue,
                        NullKey::Literal(literal) => key.extend_from_slice(literal.as_bytes()),
                        NullKey::Fail => {
                            return Err(Error::Data(format!(
                                "a map has a NULL key, which JSON cannot write; set '{}.map-null-key.mode' to 'DROP' or \
                                 'LITERAL'",
                                settings.format
                            )));
                        }
                    }
                } else if !keys.write_plain(entry, settings.style, &mut key) {
                    return Err(Error::Data(format!(
                        "a map's key of type {} cannot be written as JSON; CAST it to STRING first",
                        sql_type::name(keys.array.data_type())
                    )));
                }
                if !first {
                    out.push(b',');
                }
                first = false;
                write_string_bytes(&key, out);
                out.push(b':');
                write_value(values, entry, settings, out)?;
            }
            out.push(b'}');
        }
        _ => {
            column.write_plain(row, settings.style, out);
        }
    }
    Ok(())
}

fn bounds(offsets: &[i32], row: usize) -> (usize, usize) {
    (offsets[row] as usize, offsets[row + 1] as usize)
}

fn write_non_finite(value: f64, out: &mut Vec<u8>) {
    let word: &[u8] = if value.is_nan() {
        b"\"NaN\""
    } else if value > 0.0 {
        b"\"Infinity\""
    } else {
        b"\"-Infinity\""
    };
    out.extend_from_slice(word);
}

#[inline]
fn write_string(value: &str, out: &mut Vec<u8>) {
    write_string_bytes(value.as_bytes(), out);
}

#[inline]
fn write_string_bytes(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut start = 0;
    for (index, byte) in value.iter().enumerate() {
        if NEEDS_ESCAPE[usize::from(*byte)] {
            out.extend_from_slice(&value[start..index]);
            write_escape(*byte, out);
            start = index + 1;
        }
    }
    out.extend_from_slice(&value[start..]);
    out.push(b'"');
}

const NEEDS_ESCAPE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

#[cold]
fn write_escape(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        8 => out.extend_from_slice(b"\\b"),
        12 => out.extend_from_slice(b"\\f"),
        _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
    }
}
