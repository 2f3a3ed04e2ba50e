//! Fuzz targets: the parts that accept bytes from outside, with their properties.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use millstream_cluster::exchange::frame::FrameDecoder;
use millstream_connectors::TableDefinition;
use millstream_connectors::format::{FormatSpec, Records, parquet};
use millstream_connectors::kafka::transaction::epoch::{Epoch, MarkerPartition, PendingEpoch, RecordReader};
use millstream_planner::{Input, PlanOptions};
use millstream_proto::v1::Mode;
use millstream_proto::{spec, v1};
use millstream_runtime::subtask_state::{SplitState, SubtaskState};
use millstream_state::{BlockCodec, Codec, Header, Manifest, OperatorEntry};

use super::formats;

pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that are inserted into inputs.
    pub words: &'static [&'static str],
    /// Number of inputs in `make test`: a second or two of work.
    pub runs: u64,
}

pub const TARGETS: &[Target] = &[
    formats::JSON,
    formats::DEBEZIUM_JSON,
    formats::CSV,
    formats::RAW,
    Target {
        name: "parquet",
        run: parquet_file,
        seeds: || folder("parquet"),
        words: &[],
        runs: 10000,
    },
    Target {
        name: "sql",
        run: sql,
        seeds: sql_scripts,
        words: SQL_WORDS,
        runs: 300,
    },
    Target {
        name: "yaml",
        run: yaml,
        seeds: yaml_specs,
        words: YAML_WORDS,
        runs: 3000,
    },
    Target {
        name: "state-rows",
        run: state_rows,
        seeds: state_row_seeds,
        words: &[],
        runs: 3000,
    },
    Target {
        name: "state-blocks",
        run: state_blocks,
        seeds: state_block_seeds,
        words: &[],
        runs: 10000,
    },
    Target {
        name: "manifest",
        run: manifest,
        seeds: manifest_seeds,
        words: &[],
        runs: 20000,
    },
    Target {
        name: "exchange",
        run: exchange,
        seeds: exchange_seeds,
        words: &[],
        runs: 10000,
    },
    Target {
        name: "kafka-epoch",
        run: kafka_epoch,
        seeds: kafka_epoch_seeds,
        words: &[],
        runs: 20000,
    },
];

const SQL_WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "UNION ALL",
    "JOIN",
    "ON",
    "NULL",
    "CASE",
    "WHEN",
    "END",
    "CAST(",
    ")",
    "(",
    ",",
    ";",
    "'",
    "INTERVAL '1' SECOND",
    "TUMBLE(",
    "HOP(",
    "SESSION(",
    "CUMULATE(",
    "DESCRIPTOR(",
    "TABLE",
    "WATERMARK FOR",
    "ROW<",
    "ARRAY<",
    "MAP<",
    ">",
    "DISTINCT",
    "FILTER (WHERE",
    "OVER (PARTITION BY",
    "ROW_NUMBER()",
    "count(*)",
    "*",
    "-",
    "''",
    "INSERT INTO",
    "CREATE VIEW",
    "WITH (",
    "SET",
    "EXPLAIN",
    "METADATA",
    "PROCTIME()",
    "IS NOT",
    "LIKE",
    "BETWEEN",
];
const YAML_WORDS: &[&str] = &[
    "&a", "*a", "!!int", "|", ">", "- ", ": ", "[", "]", "{", "}", "null", "~", "${", "}", "\"", "#", "---", "...",
    "<<:",
];

pub(super) fn folder(target: &str) -> Vec<Vec<u8>> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/seeds")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(&seeds)
        .unwrap_or_else(|error| panic!("{}: {error}", seeds.display()))
        .map(|entry| entry.expect("a folder can be listed").path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a seed")).collect()
}

/// Returns the SQL cases as seeds.
fn sql_scripts() -> Vec<Vec<u8>> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let tables = std::fs::read(cases.join("tables.sql")).expect("the cases' tables");
    let mut scripts: Vec<_> = std::fs::read_dir(&cases)
        .expect("the cases")
        .map(|entry| entry.expect("a folder can be listed").path().join("pipeline.sql"))
        .filter(|script| script.is_file())
        .collect();
    scripts.sort();
    let cases = scripts.iter().map(|script| {
        let script = std::fs::read(script).expect("a case");
        [tables.as_slice(), b"\n", &script].concat()
    });
    folder("sql").into_iter().chain(cases).collect()
}

fn yaml_specs() -> Vec<Vec<u8>> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/toll-booth/stream.yaml");
    let mut specs = folder("yaml");
    specs.push(std::fs::read(example).expect("the example"));
    specs
}

pub(super) fn table(schema: SchemaRef, options: &[(&str, &str)]) -> TableDefinition {
    let options = options
        .iter()
        .map(|(name, value)| ((*name).to_string(), (*value).to_string()));
    TableDefinition {
        name: "t".into(),
        schema,
        metadata: Vec::new(),
        options: options.collect(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    }
}

/// Returns a column of every type that a table may declare.
pub(super) fn all_types(nested: bool) -> SchemaRef {
    let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let list = |of: DataType| DataType::List(Arc::new(Field::new("item", of, true)));
    let mut fields = vec![
        Field::new("b", DataType::Boolean, true),
        Field::new("i8", DataType::Int8, true),
        Field::new("i16", DataType::Int16, true),
        Field::new("i32", DataType::Int32, true),
        Field::new("i64", DataType::Int64, true),
        Field::new("f32", DataType::Float32, true),
        Field::new("f64", DataType::Float64, true),
        Field::new("d", DataType::Decimal128(12, 2), true),
        Field::new("s", DataType::Utf8, false),
        Field::new("x", DataType::Binary, true),
        Field::new("day", DataType::Date32, true),
        Field::new("at", micros(None), true),
        Field::new("ltz", micros(Some("UTC")), true),
        Field::new("l", list(DataType::Int64), true),
    ];
    if nested {
        let row = Fields::from(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("l", list(DataType::Utf8), true),
        ]);
        let entries = Fields::from(vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Int64, true),
        ]);
        fields.push(Field::new("row", DataType::Struct(row), true));
        let entries = Field::new("entries", DataType::Struct(entries), false);
        fields.push(Field::new("map", DataType::Map(Arc::new(entries), false), true));
    }
    Arc::new(Schema::new(fields))
}

/// Returns rows with a value of every type, and with nulls, as JSON seeds.
fn rows() -> RecordBatch {
    let table = table(all_types(true), &[("format", "json")]);
    let spec = FormatSpec::of_value(&table).expect("the table names a format");
    let columns: Vec<usize> = (0..table.schema.fields().len()).collect();
    let mut decoder = spec.decoder(&table.schema, &columns).expect("JSON has these types");
    let data = folder("json").remove(0);
    let ranges = formats::lines(&data);
    let records = Records {
        data: &data,
        ranges: &ranges,
    };
    let rows = decoder.decode(records).expect("the seed").rows;
    assert!(rows.num_rows() > 0, "the JSON seed has rows");
    rows
}

/// Decodes a whole file. Any failure of the decoder, a panic included, must be an error that names the file.
fn parquet_file(input: &[u8]) {
    let part = parquet::Part {
        start: 0,
        end: u64::MAX,
        skip_rows: 0,
        batch_rows: 1024,
    };
    let input = Bytes::copy_from_slice(input);
    if let Ok(mut reader) = parquet::FileReader::new(input, "f.parquet", &all_types(true), part) {
        // Stops at files that claim to have endless rows.
        for _ in 0..64 {
            match reader.next_batch() {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
}

fn sql(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Err(errors) = millstream_planner::sql_settings(text) {
        assert!(!errors.0.is_empty(), "refused without a word");
    }
    plan(Input::Sql { name: "fuzz", text });
}

fn yaml(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match spec::parse(text) {
        Ok(parsed) => {
            for mode in [Mode::Stream, Mode::Batch, Mode::Serve] {
                let (mut spec, mut positions) = (parsed.spec.clone(), parsed.positions.clone());
                let variable = |name: &str| Some(name.to_lowercase());
                let applied = spec::apply_mode(&mut spec, &mut positions, mode)
                    .and_then(|parameters| spec::expand(&mut spec, &positions, &parameters, &variable));
                if applied.is_ok() {
                    plan(Input::Spec(&spec));
                }
            }
        }
        Err(errors) => assert!(!errors.is_empty(), "refused without a word"),
    }
}

/// Checks that a refusal has a message.
fn plan(input: Input<'_>) {
    let options = PlanOptions {
        now_us: 1_700_000_000_000_000,
        environment: BTreeMap::from([("NAME".to_string(), "value".to_string())]),
        ..PlanOptions::default()
    };
    if let Err(errors) = millstream_planner::plan(input, &options) {
        assert!(!errors.0.is_empty(), "refused without a word");
    }
}

fn state_types() -> Vec<DataType> {
    let schema = all_types(true);
    let types = schema.fields().iter().map(|field| field.data_type().clone());
    // Maps have no order, so they cannot be keys.
    types
        .filter(|data_type| !matches!(data_type, DataType::Map(..)))
        .collect()
}

fn state_columns() -> Vec<ArrayRef> {
    let rows = rows();
    let columns = rows.columns().iter();
    columns
        .filter(|column| !matches!(column.data_type(), DataType::Map(..)))
        .cloned()
        .collect()
}

fn codecs() -> [Codec; 2] {
    let types = state_types();
    [Codec::keys(&types), Codec::values(&types)].map(|codec| codec.expect("types that state takes"))
}

fn state_row_seeds() -> Vec<Vec<u8>> {
    let columns = state_columns();
    let encoded = codecs().map(|codec| codec.encode(&columns).expect("rows"));
    encoded
        .iter()
        .flat_map(|rows| rows.iter().map(<[u8]>::to_vec).collect::<Vec<_>>())
        .collect()
}

/// Decodes a key or a value. Decoded values have one canonical encoding (NaN and zero have several on input).
fn state_rows(input: &[u8]) {
    for codec in codecs() {
        if let Ok(columns) = codec.decode([input]) {
            let once = codec.encode(&columns).expect("what was decoded");
            let columns = codec.decode(once.iter()).expect("what was encoded");
            let twice = codec.encode(&columns).expect("what was decoded");
            assert!(once.row(0) == twice.row(0), "written in another way each time");
        }
    }
}

fn state_block_seeds() -> Vec<Vec<u8>> {
    let (types, columns) = (state_types(), state_columns());
    let codec = BlockCodec::new(&types).expect("types that state takes");
    let mut block = Vec::new();
    codec.encode(&columns, columns[0].len(), &mut block).expect("rows");
    vec![block]
}

fn state_blocks(input: &[u8]) {
    let codec = BlockCodec::new(&state_types()).expect("types that state takes");
    if let Ok((columns, rows)) = codec.decode(input) {
        let mut block = Vec::new();
        codec.encode(&columns, rows, &mut block).expect("what was decoded");
    }
}

const BODY_VERSION: u16 = 7;

fn manifest_seeds() -> Vec<Vec<u8>> {
    let header = Header {
        job: "job".into(),
        checkpoint: 3,
        epoch: 2,
        attempt: 2,
        created_ms: 1_700_000_000_000,
        fingerprint: "f".into(),
        max_parallelism: 128,
        parallelism: 2,
        savepoint: Some("kept".into()),
        files: Vec::new(),
        properties: BTreeMap::from([("version".into(), "1".into())]),
    };
    let state = SubtaskState {
        inline: vec![1, 2, 3],
        splits: vec![SplitState {
            id: "topic-1".into(),
            position: vec![1; 17],
            weight: 4,
            finished: false,
            watermark: Some(5),
        }],
        ..SubtaskState::default()
    };
    let operators = vec![OperatorEntry {
        operator: "source".into(),
        subtasks: vec![state],
    }];
    let manifest = Manifest {
        header,
        body_version: BODY_VERSION,
        operators,
    };
    let bytes = manifest.encode().expect("a manifest");
    // The target adds the checksum.
    vec![bytes[..bytes.len() - 4].to_vec()]
}

/// Decodes a record with a correct checksum, as the checksum would detect all damage.
fn manifest(input: &[u8]) {
    let bytes = [input, &crc32fast::hash(input).to_le_bytes()].concat();
    let whole = Manifest::<SubtaskState>::decode(&bytes, "here", BODY_VERSION);
    if whole.is_ok() {
        Header::decode(&bytes, "here").expect("a part of what decodes");
    }
}

fn exchange_seeds() -> Vec<Vec<u8>> {
    let plain = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
        ("word", Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]))),
    ]);
    [plain.expect("two columns"), rows()]
        .iter()
        .map(|rows| {
            let mut encoder = arrow_ipc::writer::StreamEncoder::try_new(&rows.schema()).expect("a schema");
            let buffers = encoder.encode(rows).expect("rows");
            buffers.iter().flat_map(|buffer| buffer.as_slice().to_vec()).collect()
        })
        .collect()
}

/// Decodes a frame, then the same frame again as the rest of the stream.
fn exchange(input: &[u8]) {
    let mut decoder = FrameDecoder::default();
    for starts_stream in [true, false] {
        let batch = v1::Batch {
            ipc: Bytes::copy_from_slice(input),
            starts_stream,
            bytes: input.len() as u64,
        };
        match decoder.decode(batch) {
            Ok(rows) => drop(format!("{:?}", rows.slice(0, rows.num_rows().min(10)))),
            Err(reason) => assert!(!reason.is_empty(), "refused without a word"),
        }
    }
}

fn kafka_epoch_seeds() -> Vec<Vec<u8>> {
    let bytes = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes(), bytes].concat();
    let any_partition = (-1_i32).to_le_bytes();
    // The reader documents the layout: first a record with key and value, then one with every field except a key.
    let part = [
        &[3][..],
        &any_partition,
        &bytes(b"key"),
        &bytes(b"value"),
        &[2 | 4 | 8],
        &any_partition,
        &bytes(b"value"),
        &5_i64.to_le_bytes(),
        &2_u32.to_le_bytes(),
        &bytes(b"name"),
        &bytes(b"header"),
        &bytes(b"none"),
        &u32::MAX.to_le_bytes(),
    ]
    .concat();
    let mut records = RecordReader::new(&part);
    for _ in 0..2 {
        assert!(records.next_any().expect("the layout").is_some());
    }
    assert!(records.next_any().expect("the layout").is_none());
    let epoch = Epoch {
        transactional_id: "id-0".into(),
        attempt: "attempt".into(),
        checkpoint: 3,
        prepared_ms: 1_700_000_000_000,
        topic: "topic".into(),
        markers: MarkerPartition {
            topic: "markers".into(),
            partition: 2,
        },
        records: 2,
        inline: part.clone(),
    };
    let files = Vec::new();
    let pending = PendingEpoch { epoch, files }.encode().expect("an epoch");
    vec![part, pending.content]
}

/// Returns a part of an epoch's output and its record in the checkpoint.
fn kafka_epoch(input: &[u8]) {
    let mut records = RecordReader::new(input);
    while let Ok(Some(_)) = records.next_any() {}
    let mut records = RecordReader::new(input);
    while let Ok(Some(_)) = records.next_plain() {}
    drop(PendingEpoch::decode(millstream_connectors::Committable::new(
        input.to_vec(),
    )));
}
