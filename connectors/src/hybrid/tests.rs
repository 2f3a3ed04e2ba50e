//! Without a broker: options, and the order in which a reader reads its splits. Everything else is tested against a
//! real broker, in `integration-tests`.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};

use super::reader::HybridReader;
use super::*;
use crate::registry;
use crate::{SourceBatch, SourceEvent, SourceReader};

const COMPLETE: [(&str, &str); 7] = [
    ("connector", "hybrid"),
    ("history.path", "data"),
    ("properties.bootstrap.servers", "localhost:9092"),
    ("topic", "entries"),
    ("scan.startup.mode", "timestamp"),
    ("scan.startup.timestamp-millis", "1000"),
    ("format", "json"),
];

/// Returns the mistakes of a table with changes of its options; those with an empty value are removed.
fn mistakes(changes: &[(&str, &str)]) -> Vec<String> {
    let mut options: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in COMPLETE.iter().chain(changes) {
        match value.is_empty() {
            true => drop(options.remove(*name)),
            false => drop(options.insert((*name).to_owned(), (*value).to_owned())),
        }
    }
    let table = TableDefinition {
        name: "t".into(),
        schema: Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)])),
        metadata: Vec::new(),
        options,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    };
    let errors = registry::validate(&table, Role::Source).into_iter();
    errors
        .map(|error| format!("{}: {}", error.subject.unwrap_or_default(), error.message))
        .collect()
}

#[track_caller]
fn check(changes: &[(&str, &str)], expected: &str) {
    let found = mistakes(changes);
    assert!(found.iter().any(|message| message.contains(expected)), "{found:#?}");
}

#[test]
fn options_of_both_parts_are_checked() {
    assert_eq!(mistakes(&[]), Vec::<String>::new());
    assert_eq!(
        mistakes(&[
            ("history.format", "csv"),
            ("history.csv.field-delimiter", ";"),
            ("history.source.split-size", "1mb"),
            ("json.ignore-parse-errors", "true"),
        ]),
        Vec::<String>::new()
    );
    check(&[("history.path", "")], "the option 'history.path' is missing");
    check(&[("topic", "")], "topic");
    check(&[("history.source.monitor-interval", "1 s")], "unknown option");
    check(&[("history.csv.field-delimiter", ";")], "the history: unknown option");
    check(
        &[("scan.startup.mode", "earliest-offset")],
        "scan.startup.mode: the topic is read from the end",
    );
    check(
        &[("scan.startup.mode", "")],
        "scan.startup.mode: the topic is read from the end",
    );
    check(&[("format", "debezium-json")], "rows, not changes");
}

#[test]
fn secrets_of_the_files_are_secrets() {
    assert!(registry::is_secret("history.store.aws_secret_access_key"));
    assert!(!registry::is_secret("history.path"));
}

/// A reader that delivers a row for each split, then finishes the split.
#[derive(Default)]
struct OneRow {
    splits: VecDeque<Split>,
    is_delivered: bool,
    finished: Vec<Split>,
    no_more: bool,
}

impl SourceReader for OneRow {
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error> {
        self.splits.extend(splits);
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more = true;
    }

    fn poll(&mut self) -> Result<SourceEvent, Error> {
        let Some(split) = self.splits.front_mut() else {
            return Ok(if self.no_more {
                SourceEvent::End
            } else {
                SourceEvent::Pending
            });
        };
        let id: Arc<str> = split.id.as_str().into();
        if self.is_delivered {
            self.is_delivered = false;
            split.finished = true;
            self.finished.extend(self.splits.pop_front());
            return Ok(SourceEvent::SplitFinished { split: id });
        }
        self.is_delivered = true;
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        Ok(SourceEvent::Batch(SourceBatch {
            split: id,
            rows: RecordBatch::try_from_iter([("id", column)])?,
            rejected: Vec::new(),
            bytes: 1,
            lag: None,
        }))
    }

    fn snapshot(&mut self) -> Result<Vec<Split>, Error> {
        Ok(self.finished.iter().chain(&self.splits).cloned().collect())
    }
}

fn splits(ids: &[&str]) -> Vec<Split> {
    let split = |id: &&str| Split {
        id: (*id).to_owned(),
        position: Vec::new(),
        weight: 0,
        finished: false,
    };
    ids.iter().map(split).collect()
}

/// Returns the splits of a snapshot, the finished ones with a star.
fn snapshot(reader: &mut HybridReader) -> Vec<String> {
    let splits = reader.snapshot().expect("a snapshot").into_iter();
    splits
        .map(|split| format!("{}{}", split.id, if split.finished { "*" } else { "" }))
        .collect()
}

#[test]
fn a_reader_reads_its_files_before_its_partitions() {
    let mut reader = HybridReader::new(Box::<OneRow>::default(), Box::<OneRow>::default());
    assert!(reader.is_deferred("topic/a-0") && !reader.is_deferred("history/a"));
    reader
        .add_splits(splits(&["topic/a-0", "history/x.json", "history/a-0"]))
        .expect("splits");
    let mut read = Vec::new();
    while let SourceEvent::Batch(SourceBatch { split, .. }) | SourceEvent::SplitFinished { split } =
        reader.poll().expect("an event")
    {
        read.push(split.to_string());
        let expected: &[&str] = match read.len() {
            1 => &["history/x.json", "history/a-0", "topic/a-0"],
            3 => &["history/x.json*", "history/a-0", "topic/a-0"],
            5 => &["history/x.json*", "history/a-0*", "topic/a-0"],
            6 => &["history/x.json*", "history/a-0*", "topic/a-0*"],
            _ => continue,
        };
        assert_eq!(snapshot(&mut reader), expected);
    }
    assert_eq!(
        read,
        [
            "history/x.json",
            "history/x.json",
            "history/a-0",
            "history/a-0",
            "topic/a-0",
            "topic/a-0"
        ]
    );
    assert!(matches!(reader.poll(), Ok(SourceEvent::Pending)));
    reader.no_more_splits();
    assert!(matches!(reader.poll(), Ok(SourceEvent::End)));
}
