//! Fuzz targets of the formats of records.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use millstream_connectors::TableDefinition;
use millstream_connectors::changelog::Kinds;
use millstream_connectors::format::{EncodedRecords, FormatSpec, Framing, Records};

use super::targets::{Target, all_types, folder, table};

/// Records of the format json.
pub(super) const JSON: Target = Target {
    name: "json",
    run: json,
    seeds: || folder("json"),
    words: &["null", "true", "\\u0000", "[]", "{}"],
    runs: 3000,
};

/// Records of the format debezium-json.
pub(super) const DEBEZIUM_JSON: Target = Target {
    name: "debezium-json",
    run: debezium,
    seeds: debezium_seeds,
    words: &["null", "\"before\":", "\"after\":", "\"op\":\"u\"", "{}"],
    runs: 1000,
};

/// Records of the format csv.
pub(super) const CSV: Target = Target {
    name: "csv",
    run: csv,
    seeds: || folder("csv"),
    words: &["\"", "\"\"", "n/a"],
    runs: 10000,
};

/// Records of the format raw.
pub(super) const RAW: Target = Target {
    name: "raw",
    run: raw,
    seeds: || folder("raw"),
    words: &[],
    runs: 20000,
};

/// Decodes the input's lines as records. Each becomes a row (an update of a changelog two), a rejection or is skipped;
/// decoded rows can be encoded and decoded again.
fn decode(table: &TableDefinition, input: &[u8]) {
    let spec = FormatSpec::of_value(table).expect("the table names a format");
    let columns: Vec<usize> = (0..table.schema.fields().len()).collect();
    let mut decoder = spec
        .decoder(&table.schema, &columns)
        .expect("the format has these types");
    let mut decode = |data: &[u8], ranges: &[(usize, usize)]| {
        decoder
            .decode(Records { data, ranges })
            .expect("only the engine's limits are errors")
    };
    let decoded = decode(input, &lines(input));
    let mut accepted: Vec<u32> = match &decoded.records {
        Some(records) => records.values().to_vec(),
        None => (0..decoded.rows.num_rows() as u32).collect(),
    };
    accepted.dedup();
    let (rejected, skipped) = (decoded.rejected.len(), decoded.skipped.len());
    assert_eq!(accepted.len() + rejected + skipped, lines(input).len());
    let kinds = decoded.kinds.as_ref();
    let kinds = kinds.map_or(Kinds::INSERTS, |kinds| Kinds::new(kinds).expect("known kinds"));
    let mut encoder = spec
        .encoder(&table.schema, Framing::Bare)
        .expect("the format has these types");
    let mut encoded = EncodedRecords::default();
    if encoder.encode_changes(&decoded.rows, kinds, &mut encoded).is_err() {
        return;
    }
    let mut start = 0;
    let ranges: Vec<(usize, usize)> = encoded
        .ends
        .iter()
        .map(|end| (std::mem::replace(&mut start, *end), *end))
        .collect();
    let again = decode(&encoded.data, &ranges);
    assert!(
        again.rejected.is_empty(),
        "what was written is not readable: {:?}",
        again.rejected
    );
}

pub(super) fn lines(input: &[u8]) -> Vec<(usize, usize)> {
    let mut start = 0;
    input
        .split(|byte| *byte == b'\n')
        .map(|line| {
            let range = (start, start + line.len());
            start += line.len() + 1;
            range
        })
        .collect()
}

fn json(input: &[u8]) {
    for ignore in ["false", "true"] {
        let options = [("format", "json"), ("json.ignore-parse-errors", ignore)];
        decode(&table(all_types(true), &options), input);
    }
}

/// The first byte chooses options. The key makes updates of it deletions and insertions.
fn debezium(input: &[u8]) {
    let Some((choice, input)) = input.split_first() else {
        return;
    };
    let choices = [
        ("debezium-json.ignore-parse-errors", "true"),
        ("debezium-json.encode.ignore-null-fields", "true"),
    ];
    let mut options = vec![("format", "debezium-json")];
    let chosen = choices.iter().enumerate().filter(|(bit, _)| choice & (1 << bit) != 0);
    options.extend(chosen.map(|(_, option)| *option));
    let mut table = table(all_types(true), &options);
    table.primary_key = vec!["i64".into(), "row".into()];
    decode(&table, input);
}

/// Returns the JSON seeds as rows of changes.
fn debezium_seeds() -> Vec<Vec<u8>> {
    let rows = folder("json").concat();
    let rows: Vec<&str> = rows
        .split(|byte| *byte == b'\n')
        .filter_map(|row| str::from_utf8(row).ok())
        .collect();
    let envelopes = rows
        .iter()
        .zip(rows.iter().rev())
        .zip(["u", "c", "d", "r"].iter().cycle());
    let envelopes =
        envelopes.map(|((before, after), op)| format!("{{\"before\":{before},\"after\":{after},\"op\":\"{op}\"}}"));
    let mut seed = vec![0];
    seed.extend(envelopes.collect::<Vec<_>>().join("\n").into_bytes());
    vec![seed]
}

/// The first byte chooses options.
fn csv(input: &[u8]) {
    let Some((choice, input)) = input.split_first() else {
        return;
    };
    let choices = [
        ("csv.ignore-parse-errors", "true"),
        ("csv.allow-comments", "true"),
        ("csv.null-literal", "n/a"),
        ("csv.escape-character", "\\"),
        ("csv.field-delimiter", ";"),
        ("csv.array-element-delimiter", "|"),
    ];
    let mut options = vec![("format", "csv")];
    let chosen = choices.iter().enumerate().filter(|(bit, _)| choice & (1 << bit) != 0);
    options.extend(chosen.map(|(_, option)| *option));
    // Otherwise elements cannot be distinguished from fields.
    if choice & 16 != 0 && choice & 32 == 0 {
        options.push(choices[5]);
    }
    decode(&table(all_types(false), &options), input);
}

/// The first byte chooses the type.
fn raw(input: &[u8]) {
    let Some((choice, input)) = input.split_first() else {
        return;
    };
    let types = [
        DataType::Utf8,
        DataType::Binary,
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
    ];
    let data_type = types[usize::from(*choice) % types.len()].clone();
    let schema = Arc::new(Schema::new(vec![Field::new("v", data_type, true)]));
    decode(&table(schema, &[("format", "raw")]), input);
}
