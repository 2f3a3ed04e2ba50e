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
    wanted = replaced(&wanted, "common", &options_table(common));
    for format in formats() {
        let rows = format.options.iter().map(|option| (*option, "both".to_string()));
        wanted = replaced(&wanted, &format!("format {}", format.name), &options_table(rows));
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
