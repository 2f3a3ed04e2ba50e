//! The comparison of `docs/connectors.md` with the code: its example is compiled and run here, and its tables of
//! options are generated from the registry. `UPDATE_DOCS=1 cargo test --workspace --test main documentation` updates
//! the page.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::task::Waker;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType, Field, Schema};
use millstream_connectors::format::formats;
use millstream_connectors::sink::NoStorage;
use millstream_connectors::*;

use super::sequence::Sequence;

fn page() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/connectors.md")
}

/// Replaces the text between two markers; panics if the page does not have them.
fn replaced(page: &str, marker: &str, content: &str) -> String {
    let (begin, end) = (format!("<!-- begin: {marker} -->\n"), format!("<!-- end: {marker} -->"));
    let start = page
        .find(&begin)
        .unwrap_or_else(|| panic!("docs/connectors.md lacks `{}`", begin.trim()))
        + begin.len();
    let stop = start
        + page[start..]
            .find(&end)
            .unwrap_or_else(|| panic!("docs/connectors.md lacks `{end}`"));
    format!("{}{content}{}", &page[..start], &page[stop..])
}

fn options_table(rows: impl Iterator<Item = (OptionDescription, String)>) -> String {
    let mut table = "| option | for | value | default | meaning |\n|---|---|---|---|---|\n".to_string();
    for (option, role) in rows {
        let kind = match option.kind {
            OptionKind::Text => "text".to_string(),
            OptionKind::Integer => "integer".to_string(),
            OptionKind::Float => "number".to_string(),
            OptionKind::Boolean => "boolean".to_string(),
            OptionKind::Duration => "duration".to_string(),
            OptionKind::Bytes => "size".to_string(),
            OptionKind::OneOf(words) => words
                .iter()
                .map(|word| format!("`{word}`"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let default = match (option.required, option.default) {
            (true, _) => "*required*".to_string(),
            (false, Some(default)) => format!("`{default}`"),
            (false, None) => String::new(),
        };
        let help = option.help.replace('|', "\\|");
        writeln!(table, "| `{}` | {role} | {kind} | {default} | {help} |", option.name).unwrap();
    }
    table
}

fn connector_section(connector: &dyn Connector) -> String {
    let mut options: Vec<(OptionDescription, Vec<Role>)> = Vec::new();
    for role in connector.roles() {
        for option in connector.options(*role) {
            match options.iter_mut().find(|(known, _)| known.name == option.name) {
                Some((_, roles)) => roles.push(*role),
                None => options.push((*option, vec![*role])),
            }
        }
    }
    let name = |roles: &[Role]| match roles {
        [Role::Source] => "source".to_string(),
        [Role::Sink] => "sink".to_string(),
        _ => "both".to_string(),
    };
    let mut section = format!("{}\n\n", connector.help());
    section += &options_table(options.into_iter().map(|(option, roles)| (option, name(&roles))));
    section += &flink_options_list(connector.flink_options());
    let metadata = connector.metadata();
    if !metadata.is_empty() {
        section += "\n| metadata key | type | may be written |\n|---|---|---|\n";
        for key in metadata {
            let writable = if key.writable { "yes" } else { "no" };
            writeln!(
                section,
                "| `{}` | `{}` | {writable} |",
                key.key,
                sql_type(&key.data_type)
            )
            .unwrap();
        }
    }
    section
}

fn flink_options_list(options: &[FlinkOption]) -> String {
    if options.is_empty() {
        return String::new();
    }
    let mut table = "\n| option of Flink | treatment |\n|---|---|\n".to_string();
    for option in options {
        let treatment = match option.treatment {
            Treatment::NoEffect(reason) => format!("no effect: {reason}"),
            Treatment::Refused(instead) => format!("refused: {instead}"),
        };
        writeln!(table, "| `{}` | {} |", option.name, treatment.replace('|', "\\|")).unwrap();
    }
    table
}

fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 => "STRING".to_string(),
        DataType::Binary => "BYTES".to_string(),
        DataType::Int32 => "INT".to_string(),
        DataType::Int64 => "BIGINT".to_string(),
        DataType::Timestamp(_, None) => "TIMESTAMP(6)".to_string(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP_LTZ(6)".to_string(),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!(
                    "MAP<{}, {}>",
                    sql_type(fields[0].data_type()),
                    sql_type(fields[1].data_type())
                )
            }
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

#[test]
fn the_page_matches_the_code() {
    let written = std::fs::read_to_string(page()).unwrap();
    let example = include_str!("sequence.rs");
    let mark = "<!-- not run: compiled and run by connectors/tests/sequence.rs -->";
    let mut wanted = replaced(&written, "example", &format!("{mark}\n```rust\n{example}```\n"));
    for connector in registry::connectors() {
        wanted = replaced(&wanted, connector.name(), &connector_section(*connector));
    }
    let common = registry::COMMON_OPTIONS
        .iter()
        .map(|option| (*option, "both".to_string()));
    let common = options_table(common) + &flink_options_list(flink_options::COMMON);
    wanted = replaced(&wanted, "common", &common);
    for format in formats() {
        let rows = format.options.iter().map(|option| (*option, "both".to_string()));
        let content = options_table(rows) + &flink_options_list(format.flink_options);
        wanted = replaced(&wanted, &format!("format {}", format.name), &content);
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(page(), &wanted).unwrap();
    } else {
        assert!(
            wanted == written,
            "docs/connectors.md is out of date: run UPDATE_DOCS=1 cargo test -p millstream-connectors"
        );
    }
}

fn table(options: &[(&str, &str)]) -> TableDefinition {
    TableDefinition {
        name: "t".to_string(),
        schema: Arc::new(Schema::new(vec![Field::new("number", DataType::Int64, false)])),
        metadata: Vec::new(),
        options: options
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    }
}

#[test]
fn the_example_counts_resumes_and_appends() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let source = Sequence.source(&table(&[("rows", "1000"), ("parts", "3")])).unwrap();
    let context = ReaderContext {
        projection: None,
        batch_rows_max: 64,
        batch_bytes_max: 1 << 20,
        waker: Waker::noop().clone(),
        runtime: runtime.handle().clone(),
        subtask: 0,
        parallelism: 1,
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.json").to_string_lossy().into_owned();
    let sink = Sequence.sink(&table(&[("file", &file), ("format", "json")])).unwrap();
    let job = JobIdentity {
        job: "j".to_string(),
        attempt: "1".to_string(),
    };
    runtime.block_on(sink.start(&job)).unwrap();
    let mut writer = sink
        .writer(WriterContext {
            job,
            subtask: 0,
            parallelism: 1,
            runtime: runtime.handle().clone(),
            storage: Arc::new(NoStorage),
        })
        .unwrap();

    let mut splits = runtime.block_on(source.splits()).unwrap();
    let mut numbers = Vec::new();
    for stop_after in [5, usize::MAX] {
        let mut reader = source.reader(context.clone()).unwrap();
        reader
            .add_splits(splits.into_iter().filter(|split| !split.finished).collect())
            .unwrap();
        reader.no_more_splits();
        let mut batches = 0;
        while batches < stop_after {
            match reader.poll().unwrap() {
                SourceEvent::Batch(batch) => {
                    numbers.extend_from_slice(batch.rows.column(0).as_primitive::<Int64Type>().values());
                    writer.write(&batch.rows).unwrap();
                    batches += 1;
                }
                SourceEvent::End => break,
                _ => {}
            }
        }
        splits = reader.snapshot().unwrap();
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    let committables = runtime.block_on(writer.prepare(1, true)).unwrap();
    assert!(committables.is_empty());
    assert_eq!(std::fs::read_to_string(file).unwrap().lines().count(), 1000);
}

#[test]
fn all_mistakes_in_a_table_are_reported_with_the_remedy() {
    #[track_caller]
    fn check(options: &[(&str, &str)], role: Role, expected: &[(&str, &str)]) {
        let found: Vec<_> = registry::validate(&table(options), role)
            .into_iter()
            .map(|error| {
                let message = error.message.split(" (known: blackhole").next().unwrap().to_string();
                (error.subject.unwrap_or_default(), message)
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(at, text)| (at.to_string(), text.to_string()))
            .collect();
        assert_eq!(found, expected);
    }
    let (source, sink) = (Role::Source, Role::Sink);
    check(
        &[("connector", "filesystem"), ("path", "x"), ("format", "json")],
        source,
        &[],
    );
    check(
        &[("connector", "filesytem")],
        source,
        &[("connector", "unknown connector `filesytem`; did you mean `filesystem`?")],
    );
    check(
        &[
            ("connector", "filesystem"),
            ("pth", "x"),
            ("format", "jsn"),
            ("source.split-size", "many"),
        ],
        source,
        &[
            (
                "format",
                "unknown format `jsn`; did you mean `json`? (known: json, csv, raw, debezium-json, parquet)",
            ),
            (
                "pth",
                "unknown option 'pth' for the connector `filesystem`; did you mean `path`?",
            ),
            (
                "source.split-size",
                "`many` is not a size; write e.g. '64mb', '1 gb' or '4096'",
            ),
            (
                "path",
                "the option 'path' is missing: A file, a folder, a glob (`data/*.json`) or a URL (`file://`, `s3://`, \
                 `gs://`, `az://`).",
            ),
        ],
    );
    check(
        &[
            ("connector", "filesystem"),
            ("path", "x"),
            ("format", "json"),
            ("json.ignore-parse-error", "true"),
        ],
        source,
        &[(
            "json.ignore-parse-error",
            "unknown option 'json.ignore-parse-error' for the connector `filesystem`; did you mean \
             `json.ignore-parse-errors`?",
        )],
    );
    check(
        &[("connector", "filesystem"), ("path", "x")],
        sink,
        &[(
            "format",
            "the option 'format' is missing; it is one of json, csv, raw, debezium-json, parquet",
        )],
    );
    check(
        &[("connector", "nexmark")],
        sink,
        &[(
            "connector",
            "a table of the connector `nexmark` can be read from, not written to",
        )],
    );
}

/// Every option of the connectors and formats of Flink 2.3 is described, has no effect, or is refused with a remedy.
#[test]
fn options_of_flink_are_known() {
    #[track_caller]
    fn check(connector: &str, format: &str, options: &[&str]) {
        for option in options {
            let mut definition = table(&[("connector", connector), (option, "1")]);
            if !format.is_empty() {
                definition.options.insert("format".to_string(), format.to_string());
            }
            for role in registry::find(connector).unwrap().roles() {
                let unknown = format!("unknown option '{option}'");
                let errors = registry::validate(&definition, *role);
                assert!(
                    errors.iter().all(|error| !error.message.starts_with(&unknown)),
                    "{connector}: {unknown}"
                );
            }
        }
    }
    check("print", "", &["print-identifier", "standard-error", "sink.parallelism"]);
    check(
        "datagen",
        "",
        &[
            "rows-per-second",
            "number-of-rows",
            "scan.parallelism",
            "fields.number.var-len",
            "fields.number.kind",
        ],
    );
    check(
        "kafka",
        "json",
        &[
            "topic",
            "topic-pattern",
            "properties.bootstrap.servers",
            "properties.group.id",
            "properties.max.poll.records",
            "key.format",
            "key.fields",
            "key.fields-prefix",
            "value.format",
            "value.fields-include",
            "scan.startup.mode",
            "scan.startup.specific-offsets",
            "scan.startup.timestamp-millis",
            "scan.bounded.mode",
            "scan.bounded.specific-offsets",
            "scan.bounded.timestamp-millis",
            "scan.topic-partition-discovery.interval",
            "scan.parallelism",
            "scan.watermark.emit.strategy",
            "scan.watermark.emit.on-event.gap",
            "scan.watermark.alignment.group",
            "scan.watermark.alignment.max-drift",
            "scan.watermark.alignment.update-interval",
            "scan.watermark.idle-timeout",
            "sink.partitioner",
            "sink.semantic",
            "sink.delivery-guarantee",
            "sink.transactional-id-prefix",
            "sink.transaction-naming-strategy",
            "sink.parallelism",
            "json.fail-on-missing-field",
            "json.ignore-parse-errors",
            "json.timestamp-format.standard",
            "json.map-null-key.mode",
            "json.map-null-key.literal",
            "json.encode.decimal-as-plain-number",
            "json.encode.ignore-null-fields",
            "json.decode.json-parser.enabled",
            "value.json.ignore-parse-errors",
        ],
    );
    check(
        "filesystem",
        "csv",
        &[
            "path",
            "source.monitor-interval",
            "source.path.regex-pattern",
            "source.report-statistics",
            "partition.default-name",
            "partition.time-extractor.kind",
            "partition.time-extractor.class",
            "partition.time-extractor.timestamp-pattern",
            "partition.time-extractor.timestamp-formatter",
            "sink.rolling-policy.file-size",
            "sink.rolling-policy.rollover-interval",
            "sink.rolling-policy.check-interval",
            "sink.shuffle-by-partition.enable",
            "sink.partition-commit.trigger",
            "sink.partition-commit.delay",
            "sink.partition-commit.watermark-time-zone",
            "sink.partition-commit.policy.kind",
            "sink.partition-commit.policy.class",
            "sink.partition-commit.policy.class.parameters",
            "sink.partition-commit.success-file.name",
            "sink.parallelism",
            "auto-compaction",
            "compaction.file-size",
            "compaction.parallelism",
            "csv.field-delimiter",
            "csv.disable-quote-character",
            "csv.quote-character",
            "csv.allow-comments",
            "csv.ignore-parse-errors",
            "csv.array-element-delimiter",
            "csv.escape-character",
            "csv.null-literal",
            "csv.write-bigdecimal-in-scientific-notation",
        ],
    );
    check("filesystem", "raw", &["raw.charset", "raw.endianness"]);
    check(
        "filesystem",
        "parquet",
        &[
            "parquet.compression",
            "parquet.utc-timezone",
            "parquet.write.int64.timestamp",
            "parquet.timestamp.time.unit",
        ],
    );
}

#[test]
fn options_without_an_effect_are_noted() {
    let table = table(&[
        ("connector", "filesystem"),
        ("path", "x"),
        ("format", "csv"),
        ("sink.parallelism", "1"),
        ("csv.write-bigdecimal-in-scientific-notation", "true"),
    ]);
    let notes: Vec<String> = registry::notes(&table).into_iter().map(|note| note.message).collect();
    assert_eq!(
        notes,
        [
            "the option 'csv.write-bigdecimal-in-scientific-notation' has no effect: decimals are written with all their \
             digits",
            "the option 'sink.parallelism' has no effect: all operators have the parallelism of the job",
        ]
    );
    assert!(registry::validate(&table, Role::Sink).is_empty());
}

#[test]
fn secrets_are_masked() {
    let table = table(&[
        ("connector", "filesystem"),
        ("store.aws_secret_access_key", "hush"),
        ("path", "x"),
    ]);
    let masked = options::masked(&table, registry::find("filesystem"));
    assert_eq!(masked["store.aws_secret_access_key"], options::MASK);
    assert_eq!(masked["path"], "x");
    let mut wrong = table.clone();
    wrong.options.insert("store.x".to_string(), "hush".to_string());
    let errors = registry::validate(&wrong, Role::Source);
    assert!(errors.iter().all(|error| !error.message.contains("hush")), "{errors:?}");
}
