//! Reading files: every record exactly once, however they are cut, compressed and resumed.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use proptest::prelude::*;

use super::Filesystem;
use super::location::{Location, StoreLocation};
use super::source::FileSource;
use crate::{
    Connector, Error, MetadataColumn, ReaderContext, RejectedRecord, Source, SourceEvent, Split, TableDefinition,
};

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap()
}

pub(super) fn table(path: &str, columns: &[(&str, DataType)], options: &[(&str, &str)]) -> TableDefinition {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, kind)| Field::new(*name, kind.clone(), true))
        .collect();
    let mut all: BTreeMap<String, String> = options
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    all.insert("connector".to_string(), "filesystem".to_string());
    all.insert("path".to_string(), path.to_string());
    all.entry("format".to_string()).or_insert("json".to_string());
    TableDefinition {
        name: "t".to_string(),
        schema: Arc::new(Schema::new(fields)),
        metadata: Vec::new(),
        options: all,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    }
}

pub(super) fn ids() -> Vec<(&'static str, DataType)> {
    vec![("id", DataType::Int64), ("name", DataType::Utf8)]
}

fn context(runtime: &tokio::runtime::Runtime, rows: usize) -> ReaderContext {
    ReaderContext {
        projection: None,
        batch_rows_max: rows,
        batch_bytes_max: 1 << 20,
        waker: Waker::noop().clone(),
        runtime: runtime.handle().clone(),
        subtask: 0,
        parallelism: 1,
    }
}

/// Result of reading a table to its end.
#[derive(Default)]
pub(super) struct Outcome {
    pub batches: Vec<RecordBatch>,
    pub rejected: Vec<RejectedRecord>,
}

impl Outcome {
    pub(super) fn ids(&self) -> Vec<i64> {
        self.batches
            .iter()
            .flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect()
    }
}

/// Reads splits to their end; with `stop_after` batches, what is left.
pub(super) fn read(
    source: &dyn Source,
    runtime: &tokio::runtime::Runtime,
    splits: Vec<Split>,
    rows: usize,
    stop_after: Option<usize>,
) -> Result<(Outcome, Vec<Split>), Error> {
    let mut reader = source.reader(context(runtime, rows))?;
    reader.add_splits(splits)?;
    reader.no_more_splits();
    let mut outcome = Outcome::default();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if stop_after.is_some_and(|stop| outcome.batches.len() >= stop) {
            return Ok((outcome, reader.snapshot()?));
        }
        match reader.poll()? {
            SourceEvent::Batch(batch) => {
                assert!(batch.rows.num_rows() <= rows);
                outcome.batches.push(batch.rows);
                outcome.rejected.extend(batch.rejected);
            }
            SourceEvent::End => return Ok((outcome, reader.snapshot()?)),
            SourceEvent::Pending => {
                assert!(Instant::now() < deadline, "nothing arrives");
                std::thread::yield_now();
            }
            SourceEvent::SplitFinished { .. } | SourceEvent::CaughtUp { .. } => {}
        }
    }
}

pub(super) fn read_all(table: &TableDefinition) -> Result<Outcome, Error> {
    let runtime = runtime();
    let source = Filesystem.source(table)?;
    let splits = runtime.block_on(source.splits())?;
    read(&*source, &runtime, splits, 100, None).map(|(outcome, _)| outcome)
}

fn lines(count: i64) -> String {
    (0..count)
        .map(|id| format!("{{\"id\":{id},\"name\":\"{}\"}}\n", "x".repeat((id % 17) as usize)))
        .collect()
}

pub(super) fn write(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path.to_string_lossy().into_owned()
}

pub(super) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn folders_globs_and_compressed_files_are_read_in_order_of_name() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "b.json.gz", &gzip(b"{\"id\":2}\n{\"id\":3}"));
    write(folder.path(), "a.json", b"\xef\xbb\xbf{\"id\":0}\r\n\n{\"id\":1}");
    write(
        folder.path(),
        "sub/c.json.zst",
        &zstd::encode_all(b"{\"id\":4}\n".as_slice(), 3).unwrap(),
    );
    write(folder.path(), ".hidden.json", b"{\"id\":90}\n");
    write(folder.path(), "_SUCCESS", b"{\"id\":91}\n");
    write(folder.path(), "d-empty.json", b"");
    let path = folder.path().to_string_lossy();
    assert_eq!(read_all(&table(&path, &ids(), &[])).unwrap().ids(), [0, 1, 2, 3, 4]);
    assert_eq!(
        read_all(&table(&format!("file://{path}"), &ids(), &[])).unwrap().ids(),
        [0, 1, 2, 3, 4]
    );
    assert_eq!(
        read_all(&table(&format!("{path}/[ab]*"), &ids(), &[])).unwrap().ids(),
        [0, 1, 2, 3]
    );
    assert_eq!(
        read_all(&table(&format!("{path}/a.json"), &ids(), &[])).unwrap().ids(),
        [0, 1]
    );
}

#[test]
fn read_errors_name_the_file_and_the_remedy() {
    #[track_caller]
    fn check(table: &TableDefinition, expected: &str) {
        let error = read_all(table).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_string_lossy().into_owned();
    check(
        &table(&format!("{path}/nothing"), &ids(), &[]),
        "check the option 'path'",
    );
    check(&table(&format!("{path}/*.json"), &ids(), &[]), "no file matches");
    let mut cut = gzip(lines(1000).as_bytes());
    cut.truncate(cut.len() / 2);
    let cut = write(folder.path(), "cut.json.gz", &cut);
    check(
        &table(&cut, &ids(), &[]),
        "cut.json.gz`: the compressed data is damaged or truncated",
    );
    let long = write(folder.path(), "long.json", "x".repeat(5000).as_bytes());
    check(
        &table(&long, &ids(), &[("source.max-record-size", "1kb")]),
        "longer than 'source.max-record-size'",
    );
    let garbage = write(folder.path(), "garbage.parquet", b"PAR1 this is nothing PAR1");
    check(
        &table(&garbage, &ids(), &[("format", "parquet")]),
        "is not a complete Parquet file",
    );
    check(&table("ftp://host/x", &ids(), &[]), "the supported schemes are");
}

#[test]
fn rejected_records_keep_their_bytes_and_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.csv", b"id,name\n1,\"x\nx\"\n\ntwo,y\n3,z,extra\n4,w");
    let outcome = read_all(&table(&path, &ids(), &[("format", "csv"), ("csv.header", "true")])).unwrap();
    assert_eq!(outcome.ids(), [1, 4]);
    let found: Vec<_> = outcome
        .rejected
        .iter()
        .map(|rejected| {
            let line = rejected.position.rsplit(':').next().unwrap();
            (
                line,
                std::str::from_utf8(&rejected.payload).unwrap(),
                rejected.error.as_str(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("5", "two,y", "column `id`: `two` is not a BIGINT"),
            ("6", "3,z,extra", "the line has 3 fields, but the header has 2 columns")
        ]
    );
}

#[test]
fn a_quoted_first_field_may_follow_a_byte_order_mark() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.csv", b"\xef\xbb\xbf\"1\",\"x\ny\"\n2,z\n");
    let outcome = read_all(&table(&path, &ids(), &[("format", "csv")])).unwrap();
    assert_eq!((outcome.ids(), outcome.rejected.len()), (vec![1, 2], 0));
    let first = b"\xef\xbb\xbf\"one\n\",x\n2,z\n";
    let path = write(folder.path(), "b.csv", first);
    let outcome = read_all(&table(&path, &ids(), &[("format", "csv")])).unwrap();
    let payloads: Vec<_> = outcome
        .rejected
        .iter()
        .map(|rejected| rejected.payload.clone())
        .collect();
    assert_eq!((outcome.ids(), payloads), (vec![2], vec![b"\"one\n\",x".to_vec()]));
}

#[test]
fn extensions_of_compressed_files_may_be_in_capitals() {
    let folder = tempfile::tempdir().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, b"{\"id\":1}\n").unwrap();
    let path = write(folder.path(), "A.JSON.GZ", &gzip.finish().unwrap());
    assert_eq!(read_all(&table(&path, &ids(), &[])).unwrap().ids(), [1]);
}

#[test]
fn metadata_and_partition_columns_come_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "day=2024-01-02/city=S%3Do/city=other.json",
        b"{\"id\":1}\n{\"id\":2}\n",
    );
    write(
        folder.path(),
        "day=2024-01-03/city=__HIVE_DEFAULT_PARTITION__/part.json",
        b"{\"id\":3}\n",
    );
    let columns = [
        ("id", DataType::Int64),
        ("day", DataType::Date32),
        ("city", DataType::Utf8),
        ("file", DataType::Utf8),
        ("size", DataType::Int64),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
    ];
    let mut table = table(&folder.path().to_string_lossy(), &columns, &[]);
    table.partitioned_by = vec!["day".to_string(), "city".to_string()];
    table.metadata = [
        ("file", "file.name"),
        ("size", "file.size"),
        ("at", "file.modification-time"),
    ]
    .map(|(column, key)| MetadataColumn {
        column: column.to_string(),
        key: key.to_string(),
        is_virtual: true,
    })
    .to_vec();
    let outcome = read_all(&table).unwrap();
    let rows = arrow_select::concat::concat_batches(&table.schema, &outcome.batches).unwrap();
    assert_eq!(outcome.ids(), [1, 2, 3]);
    assert_eq!(
        rows.column(2).as_string::<i32>(),
        &StringArray::from(vec![Some("S=o"), Some("S=o"), None])
    );
    assert_eq!(rows.column(3).as_string::<i32>().value(0), "city=other.json");
    assert_eq!(rows.column(4).as_primitive::<Int64Type>().values(), &[18, 18, 9]);

    let number = Field::new("at", DataType::Int64, true);
    let mut fields = table.schema.fields().to_vec();
    fields[5] = Arc::new(number);
    let mut wrong = table.clone();
    wrong.schema = Arc::new(Schema::new(fields));
    let errors = Filesystem.validate(&wrong, crate::Role::Source);
    assert!(
        errors[0]
            .message
            .contains("is a time (TIMESTAMP_LTZ(6)), which cannot become"),
        "{errors:?}"
    );
    assert!(Filesystem.validate(&table, crate::Role::Source).is_empty());

    let runtime = runtime();
    let source = Filesystem.source(&table).unwrap();
    let mut context = context(&runtime, 10);
    context.projection = Some(vec![2, 0]);
    let mut reader = source.reader(context).unwrap();
    reader.add_splits(runtime.block_on(source.splits()).unwrap()).unwrap();
    let batch = loop {
        if let SourceEvent::Batch(batch) = reader.poll().unwrap() {
            break batch;
        }
    };
    assert_eq!(
        batch
            .rows
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect::<Vec<_>>(),
        ["city", "id"]
    );
}

#[test]
fn quoted_line_breaks_keep_a_file_in_one_split() {
    let folder = tempfile::tempdir().unwrap();
    let content: String = (0..500).map(|id| format!("{id},\"a\nb,\"\"\"\n")).collect();
    let path = write(folder.path(), "a.csv", content.as_bytes());
    let outcome = read_all(&table(
        &path,
        &ids(),
        &[("format", "csv"), ("source.split-size", "100")],
    ))
    .unwrap();
    assert_eq!(outcome.ids(), (0..500).collect::<Vec<_>>());
    assert!(outcome.rejected.is_empty());
}

#[test]
fn a_file_that_changed_since_the_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.json", lines(100).as_bytes());
    let runtime = runtime();
    let source = Filesystem.source(&table(&path, &ids(), &[])).unwrap();
    let splits = runtime.block_on(source.splits()).unwrap();
    let (_, middle) = read(&*source, &runtime, splits, 10, Some(3)).unwrap();
    std::fs::write(&path, "{\"id\":1}\n").unwrap();
    let error = read(&*source, &runtime, middle, 10, None).err().unwrap().to_string();
    assert!(error.contains("shrank") && error.contains("--fresh"), "{error}");
}

#[test]
fn a_watched_folder_never_ends_and_its_files_are_whole_splits() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.json", lines(100).as_bytes());
    let options = [("source.monitor-interval", "5 s"), ("source.split-size", "100")];
    let table = table(&folder.path().to_string_lossy(), &ids(), &options);
    let source = Filesystem.source(&table).unwrap();
    assert_eq!(source.discovery_interval(), Some(Duration::from_secs(5)));
    assert!(!Filesystem.is_bounded(&table));
    assert_eq!(runtime().block_on(source.splits()).unwrap().len(), 1);
}

#[test]
fn objects_of_a_store_are_read_like_files() {
    let runtime = runtime();
    let store = Arc::new(InMemory::new());
    for (key, content) in [
        ("in/a.json", lines(1000)),
        ("in/b.json", lines(10)),
        ("other/c.json", lines(5)),
    ] {
        runtime
            .block_on(store.put(&key.into(), content.into_bytes().into()))
            .unwrap();
    }
    for (key, expected) in [("in", 1010), ("in/a.json", 1000), ("*/[bc].json", 15), ("", 1015)] {
        let location = Location::Store(StoreLocation {
            store: store.clone(),
            multipart: store.clone(),
            root: "memory://x".to_string(),
            key: key.to_string(),
        });
        let table = table("memory://x", &ids(), &[("source.split-size", "3kb")]);
        let source = FileSource::at(&table, location).unwrap();
        let splits = runtime.block_on(source.splits()).unwrap();
        let (outcome, _) = read(&source, &runtime, splits, 64, None).unwrap();
        assert_eq!(outcome.ids().len(), expected, "{key}");
    }
}

#[test]
fn parquet_is_read_by_row_group_and_converted_to_the_declared_types() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("name", DataType::LargeUtf8, true),
        Field::new("id", DataType::Int32, false),
        Field::new("unused", DataType::Int64, false),
    ]));
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(100))
        .build();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, schema.clone(), Some(properties)).unwrap();
    let numbers: Vec<i32> = (0..1000).collect();
    let rows = RecordBatch::try_new(
        schema,
        vec![
            Arc::new(arrow_array::LargeStringArray::from_iter_values(
                numbers.iter().map(|n| n.to_string()),
            )),
            Arc::new(arrow_array::Int32Array::from(numbers.clone())),
            Arc::new(Int64Array::from_iter_values(numbers.iter().map(|n| i64::from(*n)))),
        ],
    )
    .unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();

    let mut columns = ids();
    columns.push(("missing", DataType::Float64));
    let table = table(
        &path.to_string_lossy(),
        &columns,
        &[("format", "parquet"), ("source.split-size", "2kb")],
    );
    let runtime = runtime();
    let source = Filesystem.source(&table).unwrap();
    let splits = runtime.block_on(source.splits()).unwrap();
    assert!(splits.len() > 3);
    let (mut first, rest) = read(&*source, &runtime, splits, 64, Some(4)).unwrap();
    let unfinished = rest.into_iter().filter(|split| !split.finished).collect();
    let (second, _) = read(&*source, &runtime, unfinished, 64, None).unwrap();
    first.batches.extend(second.batches);
    assert_eq!(first.ids(), (0..1000).collect::<Vec<_>>());
    assert_eq!(first.batches[0].column(1).as_string::<i32>().value(5), "5");
    assert_eq!(first.batches[0].column(2).null_count_of(), 64);

    let bytes = std::fs::read(&path).unwrap();
    for cut in [0, 1, bytes.len() / 2, bytes.len() - 5] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let error = read_all(&table).err().expect("a file that is not whole").to_string();
        assert!(error.contains("a.parquet"), "{error}");
    }
}

trait NullCount {
    fn null_count_of(&self) -> usize;
}

impl NullCount for arrow_array::ArrayRef {
    fn null_count_of(&self) -> usize {
        arrow_array::Array::null_count(self.as_ref())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_record_is_read_once_however_files_are_cut_and_resumed(
        lengths in prop::collection::vec(0..40usize, 1..60),
        split in 1..400u64,
        rows in 1..20usize,
        stop in 0..12usize,
        newline_at_end in any::<bool>(),
        compression in 0..3usize,
    ) {
        let mut content: String = lengths.iter().enumerate()
            .map(|(id, length)| format!("{{\"id\":{id},\"name\":\"{}\"}}\n", "é".repeat(*length))).collect();
        if !newline_at_end {
            content.pop();
        }
        let (name, bytes) = match compression {
            0 => ("a.json", content.into_bytes()),
            1 => ("a.json.gz", gzip(content.as_bytes())),
            _ => ("a.json.zst", zstd::encode_all(content.as_bytes(), 1).unwrap()),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), name, &bytes);
        let runtime = runtime();
        let source = Filesystem.source(&table(&path, &ids(), &[("source.split-size", &split.to_string())])).unwrap();
        let splits = runtime.block_on(source.splits()).unwrap();
        let (mut outcome, rest) = read(&*source, &runtime, splits, rows, Some(stop)).unwrap();
        let unfinished = rest.into_iter().filter(|split| !split.finished).collect();
        let (again, _) = read(&*source, &runtime, unfinished, rows, None).unwrap();
        outcome.batches.extend(again.batches);
        prop_assert_eq!(outcome.ids(), (0..lengths.len() as i64).collect::<Vec<_>>());
        prop_assert!(outcome.rejected.is_empty() && again.rejected.is_empty());
    }

    #[test]
    fn no_bytes_in_a_parquet_file_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), tail in prop::collection::vec(any::<u8>(), 0..40)) {
        let folder = tempfile::tempdir().unwrap();
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
        let mut bytes = Vec::new();
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, schema.clone(), None).unwrap();
        writer.write(&RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(0..50))]).unwrap()).unwrap();
        writer.close().unwrap();
        let index = at.index(bytes.len());
        bytes[index] = byte;
        if tail.len() % 2 == 1 {
            let keep = bytes.len() - 8;
            bytes.splice(keep.saturating_sub(tail.len())..keep, tail);
        }
        let path = write(folder.path(), "a.parquet", &bytes);
        // An error or rows: anything but a panic that reaches the caller.
        if let Err(error) = read_all(&table(&path, &ids(), &[("format", "parquet")])) {
            prop_assert!(error.to_string().contains("a.parquet"), "{}", error);
        }
    }
}

#[test]
fn a_regular_expression_chooses_files_by_their_whole_path() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("a")).unwrap();
    for (name, id) in [("a/1.json", 1), ("a/2.json", 2), ("3.json", 3), ("a/4.txt", 4)] {
        std::fs::write(folder.path().join(name), format!("{{\"id\": {id}}}\n")).unwrap();
    }
    let check = |pattern: &str, expected: &[i64]| {
        let path = folder.path().to_string_lossy().into_owned();
        let table = table(&path, &ids(), &[("source.path.regex-pattern", pattern)]);
        assert_eq!(crate::registry::validate(&table, crate::Role::Source), []);
        let mut found = read_all(&table).unwrap().ids();
        found.sort_unstable();
        assert_eq!(found, expected, "{pattern}");
    };
    check("/.*/a/[0-9]+\\.json", &[1, 2]);
    check(".*[13].json", &[1, 3]);
    check("a/1.json", &[]);
    let invalid = table("data", &ids(), &[("source.path.regex-pattern", "(")]);
    let errors = crate::registry::validate(&invalid, crate::Role::Source);
    assert!(
        errors[0].message.contains("`(` is not a regular expression"),
        "{errors:?}"
    );
}
