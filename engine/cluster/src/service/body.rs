//! Decodes the body of a request to the rows of its tables.
//!
//! With one table, a JSON body is a row (an object) or several (an array of objects); NDJSON and CSV are several rows,
//! CSV with a line of column names. With several tables, the body is a JSON object that has a row or rows for each
//! table; tables that it lacks are empty. A field that is not a column is a mistake, as is a value of another type. All
//! mistakes of a request are found at once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use millstream_connectors::format::{Decoded, Decoder, Document, FormatSpec, Records};
use millstream_connectors::{RejectedRecord, TableDefinition};
use millstream_graph::{ErrorPolicy, NodeIndex};
use millstream_proto::spec::did_you_mean;
use millstream_runtime::request::RequestRows;

use super::pool::Pool;
use super::{Failure, RowError};
use crate::Error;

/// Options of the format JSON for requests.
const JSON: [(&str, &str); 2] = [("format", "json"), ("json.fail-on-unknown-field", "true")];
/// Options of the format CSV for requests.
const CSV: [(&str, &str); 3] = [
    ("format", "csv"),
    ("csv.header", "true"),
    ("csv.quoted-newlines", "true"),
];

/// Content type of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFormat {
    Json,
    /// JSON records, one per line.
    Ndjson,
    Csv,
}

impl BodyFormat {
    /// Returns the format of a content type.
    pub(super) fn of(content_type: Option<&str>) -> Result<Self, Failure> {
        let known = "application/json, application/x-ndjson or text/csv";
        let Some(content_type) = content_type else {
            return Err(Failure::content_type(format!(
                "the request has no Content-Type; send {known}"
            )));
        };
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/json" => Ok(Self::Json),
            "application/x-ndjson" | "application/jsonl" | "application/ndjson" => Ok(Self::Ndjson),
            "text/csv" => Ok(Self::Csv),
            _ => Err(Failure::content_type(format!(
                "the Content-Type is `{essence}`; send {known}"
            ))),
        }
    }
}

/// A table whose rows are in the request.
pub(super) struct Input {
    pub source: NodeIndex,
    pub table: Arc<TableDefinition>,
    on_error: ErrorPolicy,
    json: FormatSpec,
    csv: FormatSpec,
    json_decoders: Pool<Box<dyn Decoder>>,
}

impl Input {
    pub(super) fn new(source: NodeIndex, table: &Arc<TableDefinition>, on_error: ErrorPolicy) -> Result<Self, Error> {
        let spec = |options: &[(&str, &str)]| {
            let mut table = TableDefinition::clone(table);
            let options = options
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()));
            table.options.extend(options);
            FormatSpec::of_value(&table)
        };
        Ok(Self {
            source,
            table: Arc::clone(table),
            on_error,
            json: spec(&JSON)?,
            csv: spec(&CSV)?,
            json_decoders: Pool::default(),
        })
    }

    fn decoder(&self, spec: &FormatSpec) -> Result<Box<dyn Decoder>, Failure> {
        let columns: Vec<usize> = (0..self.table.schema.fields().len()).collect();
        let decoder = spec.decoder(&self.table.schema, &columns);
        decoder.map_err(|error| Failure::internal(error.to_string()))
    }

    /// Decodes JSON records of several requests.
    pub(super) fn decode_together(&self, records: Records<'_>) -> Result<Decoded, Failure> {
        let make = || self.decoder(&self.json);
        self.json_decoders.with(make, |decoder| {
            let decoded = decoder.decode(records);
            decoded.map_err(|error| Failure::internal(error.to_string()))
        })
    }

    /// Decodes JSON records.
    fn decode_json(&self, records: Records<'_>) -> Result<(RequestRows, Vec<RowError>), Failure> {
        let make = || self.decoder(&self.json);
        self.json_decoders
            .with(make, |decoder| self.decode(decoder.as_mut(), records))
    }

    /// Decodes a CSV text, whose first line has the names of the columns.
    fn decode_csv(&self, text: &[u8]) -> Result<(RequestRows, Vec<RowError>), Failure> {
        let internal = |error: millstream_connectors::Error| Failure::internal(error.to_string());
        let mut decoder = self.decoder(&self.csv)?;
        let header = self.csv.header().map_err(internal)?;
        let found = header.and_then(|header| header.find(text, true));
        let Some(found) = found else {
            return Err(Failure::malformed(
                "the body has no line of column names; CSV begins with one",
            ));
        };
        let names = text.get(found.start..found.end).unwrap_or_default();
        decoder.set_header(names).map_err(Failure::malformed)?;
        let lines = self.csv.lines().map_err(internal)?;
        let mut ranges = Vec::new();
        let mut start = found.next;
        while start < text.len() {
            let end = lines.end(text, start).unwrap_or(text.len());
            ranges.push((start, end));
            start = end + 1;
        }
        self.decode(
            decoder.as_mut(),
            Records {
                data: text,
                ranges: &ranges,
            },
        )
    }

    fn decode(&self, decoder: &mut dyn Decoder, records: Records<'_>) -> Result<(RequestRows, Vec<RowError>), Failure> {
        let decoded = decoder
            .decode(records)
            .map_err(|error| Failure::internal(error.to_string()))?;
        let mut errors = Vec::new();
        let mut rejected = Vec::new();
        for rejection in decoded.rejected {
            let row = rejection.record;
            if self.on_error == ErrorPolicy::Fail {
                errors.push(RowError {
                    table: self.table.name.clone(),
                    row,
                    message: rejection.error,
                });
                continue;
            }
            let (start, end) = records.ranges.get(row).copied().unwrap_or_default();
            rejected.push(RejectedRecord {
                payload: records.data.get(start..end).unwrap_or_default().to_vec(),
                position: format!("row {row}"),
                error: rejection.error,
            });
        }
        let rows = RequestRows {
            source: self.source,
            rows: decoded.rows,
            rejected,
        };
        Ok((rows, errors))
    }
}

/// Decodes a body to the rows of all tables.
pub(super) fn decode(inputs: &[Input], format: BodyFormat, body: &[u8]) -> Result<Vec<RequestRows>, Failure> {
    let decoded = match (inputs, format) {
        ([input], BodyFormat::Csv) => vec![input.decode_csv(body)?],
        ([input], BodyFormat::Json | BodyFormat::Ndjson) => vec![input.decode_json(Records {
            data: body,
            ranges: &rows(format, body)?,
        })?],
        (inputs, BodyFormat::Json) => decode_tables(inputs, body)?,
        (inputs, BodyFormat::Ndjson | BodyFormat::Csv) => {
            let names: Vec<&str> = inputs.iter().map(|input| input.table.name.as_str()).collect();
            return Err(Failure::content_type(format!(
                "the pipeline reads several tables ({}); send application/json, an object with the rows of each",
                names.join(", ")
            )));
        }
    };
    let (rows, errors): (Vec<_>, Vec<_>) = decoded.into_iter().unzip();
    let errors: Vec<RowError> = errors.into_iter().flatten().collect();
    match errors.is_empty() {
        true => Ok(rows),
        false => Err(Failure::invalid_rows(errors)),
    }
}

/// Decodes an object with the rows of each table.
fn decode_tables(inputs: &[Input], body: &[u8]) -> Result<Vec<(RequestRows, Vec<RowError>)>, Failure> {
    let names = || inputs.iter().map(|input| input.table.name.as_str());
    let expected = || names().collect::<Vec<_>>().join(", ");
    let document = Document::read(body, 0..body.len()).map_err(Failure::malformed)?;
    let Document::Object(members) = document else {
        let message = format!(
            "the pipeline reads several tables; send an object with the rows of {}",
            expected()
        );
        return Err(Failure::malformed(message));
    };
    let mut by_name: BTreeMap<String, Range<usize>> = BTreeMap::new();
    for (name, range) in members {
        if !names().any(|known| known == name) {
            let near = did_you_mean(&name, names());
            let message = format!(
                "`{name}` is not a table of the pipeline{near}; its tables are {}",
                expected()
            );
            return Err(Failure::malformed(message));
        }
        by_name.insert(name, range);
    }
    let mut decoded = Vec::new();
    for input in inputs {
        let ranges = match by_name.get(&input.table.name) {
            Some(range) => json_rows(body, range.clone())
                .map_err(|failure| Failure::malformed(format!("`{}`: {}", input.table.name, failure.message)))?,
            None => Vec::new(),
        };
        decoded.push(input.decode_json(Records {
            data: body,
            ranges: &ranges,
        })?);
    }
    Ok(decoded)
}

/// Returns the ranges of the rows in the body of a request for one table. CSV has no rows of JSON.
pub(super) fn rows(format: BodyFormat, body: &[u8]) -> Result<Vec<(usize, usize)>, Failure> {
    match format {
        BodyFormat::Json => json_rows(body, 0..body.len()),
        BodyFormat::Ndjson => lines(body),
        BodyFormat::Csv => Ok(Vec::new()),
    }
}

/// Returns the ranges of the rows in a JSON value: the elements of an array, or the one object.
fn json_rows(body: &[u8], range: Range<usize>) -> Result<Vec<(usize, usize)>, Failure> {
    match Document::read(body, range.clone()).map_err(Failure::malformed)? {
        Document::Array(elements) => Ok(elements),
        Document::Object(_) => Ok(vec![(range.start, range.end)]),
    }
}

/// Returns the ranges of the lines that are not blank.
fn lines(body: &[u8]) -> Result<Vec<(usize, usize)>, Failure> {
    if let Err(error) = std::str::from_utf8(body) {
        let message = format!("the body is not UTF-8 text at byte {}", error.valid_up_to());
        return Err(Failure::malformed(message));
    }
    let mut ranges = Vec::new();
    let mut start = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let end = start + line.len();
        if !line.trim_ascii().is_empty() {
            ranges.push((start, end));
        }
        start = end;
    }
    Ok(ranges)
}
