//! Files that stay open across checkpoints: few and large, visible once, complete after every failure.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use object_store::memory::InMemory;
use parking_lot::Mutex;

use super::location::{Location, StoreLocation};
use super::sink::FileSink;
use super::sink_tests::{job, rows, visible};
use super::source_tests::{ids, read_all, runtime, table};
use crate::{Committable, Error, OutputFile, OutputStorage, Sink, SinkWriter, TableDefinition, WriterContext};

/// Segments in memory.
#[derive(Default)]
struct Storage {
    files: Mutex<BTreeMap<String, Bytes>>,
    next: AtomicU64,
}

#[async_trait]
impl OutputStorage for Storage {
    async fn write(&self, content: Bytes) -> Result<OutputFile, Error> {
        let path = format!("files/{}", self.next.fetch_add(1, Ordering::Relaxed));
        let length = content.len() as u64;
        self.files.lock().insert(path.clone(), content);
        Ok(OutputFile { path, length, crc32: 0 })
    }

    async fn read(&self, file: &OutputFile) -> Result<Bytes, Error> {
        let found = self.files.lock().get(&file.path).cloned();
        found.ok_or_else(|| Error::Data(format!("{} is missing", file.path)))
    }
}

/// A sink with its storage, of which attempts make writers.
struct Setup {
    runtime: tokio::runtime::Runtime,
    storage: Arc<Storage>,
    table: TableDefinition,
    sink: FileSink,
}

impl Setup {
    fn new(folder: &Path, options: &[(&str, &str)]) -> Self {
        let all = [&[("auto-compaction", "true")], options].concat();
        let table = table(&folder.to_string_lossy(), &ids(), &all);
        assert_eq!(crate::registry::validate(&table, crate::Role::Sink), []);
        let sink = FileSink::new(&table).unwrap();
        Self::of(table, sink)
    }

    fn of(table: TableDefinition, sink: FileSink) -> Self {
        let storage = Arc::new(Storage::default());
        sink.use_storage(storage.clone());
        Self {
            runtime: runtime(),
            storage,
            table,
            sink,
        }
    }

    fn start(&self, attempt: &str) -> Box<dyn SinkWriter> {
        self.runtime.block_on(self.sink.start(&job(attempt))).unwrap();
        let context = WriterContext {
            job: job(attempt),
            subtask: 0,
            parallelism: 1,
            runtime: self.runtime.handle().clone(),
            storage: self.storage.clone(),
        };
        self.sink.writer(context).unwrap()
    }

    fn write(&self, writer: &mut dyn SinkWriter, range: std::ops::Range<i64>) {
        let rows: RecordBatch = rows(&self.table, range);
        writer.write(&rows).unwrap();
    }

    fn prepare(&self, writer: &mut dyn SinkWriter, last: bool) -> Vec<Committable> {
        self.runtime.block_on(writer.prepare(1, last)).unwrap()
    }

    fn commit(&self, committables: &[Committable]) {
        self.runtime.block_on(self.sink.commit(committables.to_vec())).unwrap();
    }

    fn recover(&self, committables: &[Committable]) {
        self.runtime.block_on(self.sink.recover(committables.to_vec())).unwrap();
    }

    #[track_caller]
    fn check_rows(&self, expected: std::ops::Range<i64>) {
        let mut found = read_all(&self.table).unwrap().ids();
        found.sort_unstable();
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}

const FORMATS: [&[(&str, &str)]; 5] = [
    &[("format", "json")],
    &[("format", "json"), ("sink.compression", "gzip")],
    &[("format", "csv"), ("csv.header", "true"), ("csv.null-literal", "NULL")],
    &[
        ("format", "csv"),
        ("sink.compression", "zstd"),
        ("csv.null-literal", "NULL"),
    ],
    &[("format", "parquet")],
];

#[test]
fn rows_of_many_checkpoints_are_one_file() {
    for options in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        let setup = Setup::new(folder.path(), options);
        let mut writer = setup.start("a");
        for start in (0..100).step_by(10) {
            setup.write(&mut *writer, start..start + 10);
            setup.commit(&setup.prepare(&mut *writer, false));
            assert_eq!(visible(folder.path()), [""; 0], "{options:?}");
        }
        setup.commit(&setup.prepare(&mut *writer, true));
        assert_eq!(visible(folder.path()).len(), 1, "{options:?}");
        setup.check_rows(0..100);
    }
}

#[test]
fn a_restore_publishes_what_the_checkpoint_holds_once() {
    for options in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        let setup = Setup::new(folder.path(), options);
        let mut writer = setup.start("a");
        let mut unconfirmed = Vec::new();
        for start in (0..50).step_by(10) {
            setup.write(&mut *writer, start..start + 10);
            unconfirmed.extend(setup.prepare(&mut *writer, false));
        }
        // Rows after the checkpoint are read again by the next attempt.
        setup.write(&mut *writer, 50..60);
        setup.recover(&unconfirmed);
        setup.check_rows(0..50);
        // The process that wrote may still run when the restore begins, and a restore may be repeated.
        setup.recover(&unconfirmed);
        drop(writer);
        let mut writer = setup.start("b");
        setup.write(&mut *writer, 50..60);
        setup.commit(&setup.prepare(&mut *writer, true));
        setup.check_rows(0..60);
    }
}

#[test]
fn partitions_are_logged_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(folder.path(), &[("format", "parquet")]);
    setup.table.partitioned_by = vec!["name".to_string()];
    setup.sink = FileSink::new(&setup.table).unwrap();
    setup.sink.use_storage(setup.storage.clone());
    let mut writer = setup.start("a");
    let mut newest = Vec::new();
    for start in (0..40).step_by(4) {
        setup.write(&mut *writer, start..start + 4);
        newest = setup.prepare(&mut *writer, false);
        setup.commit(&newest);
    }
    drop(writer);
    setup.recover(&newest);
    assert_eq!(visible(folder.path()).len(), 3);
    setup.check_rows(0..40);
}

#[test]
fn files_roll_by_size_and_age_between_checkpoints() {
    for (option, value, expected) in [
        ("compaction.file-size", "1kb", 2..40),
        ("sink.rolling-policy.rollover-interval", "0 ms", 20..21),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let setup = Setup::new(folder.path(), &[("format", "json"), (option, value)]);
        let mut writer = setup.start("a");
        let mut newest = Vec::new();
        for start in (0..200).step_by(10) {
            setup.write(&mut *writer, start..start + 10);
            newest = setup.prepare(&mut *writer, false);
            setup.commit(&newest);
        }
        drop(writer);
        setup.recover(&newest);
        let count = visible(folder.path()).len();
        assert!(expected.contains(&count), "{option}: {count} files");
        setup.check_rows(0..200);
    }
}

#[test]
fn a_file_that_was_closed_later_is_not_published_again() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &[("format", "json")]);
    let mut writer = setup.start("a");
    setup.write(&mut *writer, 0..10);
    let open = setup.prepare(&mut *writer, false);
    setup.write(&mut *writer, 10..20);
    let closed = setup.prepare(&mut *writer, true);
    // One checkpoint holds both, as the first was not confirmed.
    setup.recover(&[open.clone(), closed].concat());
    setup.check_rows(0..20);
    // An older checkpoint, restored later.
    setup.recover(&open);
    setup.check_rows(0..20);
}

#[test]
fn a_missing_segment_is_an_error_and_publishes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), &[("format", "json")]);
    let mut writer = setup.start("a");
    setup.write(&mut *writer, 0..10);
    let open = setup.prepare(&mut *writer, false);
    setup.storage.files.lock().clear();
    let error = setup.runtime.block_on(setup.sink.recover(open)).unwrap_err();
    assert!(error.to_string().contains("files/0 is missing"), "{error}");
    assert_eq!(visible(folder.path()), [""; 0]);
}

#[test]
fn object_stores_hold_few_objects_too() {
    let table = table(
        "memory://x/out",
        &ids(),
        &[("auto-compaction", "true"), ("format", "parquet")],
    );
    let store = Arc::new(InMemory::new());
    let location = Location::Store(StoreLocation {
        store: store.clone(),
        multipart: store.clone(),
        root: "memory://x".to_string(),
        key: "out".to_string(),
    });
    let setup = Setup::of(table.clone(), FileSink::at(&table, location).unwrap());
    let mut writer = setup.start("a");
    let mut newest = Vec::new();
    for start in (0..30).step_by(10) {
        setup.write(&mut *writer, start..start + 10);
        newest = setup.prepare(&mut *writer, false);
        setup.commit(&newest);
    }
    let count = || {
        let list = object_store::ObjectStore::list(&*store, None);
        setup
            .runtime
            .block_on(futures::TryStreamExt::try_collect::<Vec<_>>(list))
            .unwrap()
    };
    assert_eq!(count(), []);
    setup.recover(&newest);
    setup.recover(&newest);
    assert_eq!(count().len(), 1);
}
