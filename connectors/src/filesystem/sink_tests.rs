//! Writing files: nothing is visible before a commit, nothing is lost after a crash.

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arrow_array::builder::{Int64Builder, ListBuilder, MapBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, Int8Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use super::Filesystem;
use super::location::{Location, StoreLocation};
use super::sink::FileSink;
use super::source_tests::{ids, read_all, runtime, table};
use crate::sink::NoStorage;
use crate::{
    ChangelogSupport, Committable, Connector, Error, JobIdentity, Role, Sink, SinkWriter, TableDefinition,
    WriterContext, changelog,
};

pub(super) fn job(attempt: &str) -> JobIdentity {
    JobIdentity {
        job: "job".to_string(),
        attempt: attempt.to_string(),
    }
}

fn writer(sink: &dyn Sink, runtime: &tokio::runtime::Runtime, attempt: &str, subtask: usize) -> Box<dyn SinkWriter> {
    let runtime = runtime.handle().clone();
    sink.writer(WriterContext {
        job: job(attempt),
        subtask,
        parallelism: 2,
        runtime,
        storage: Arc::new(NoStorage),
    })
    .unwrap()
}

pub(super) fn rows(table: &TableDefinition, range: std::ops::Range<i64>) -> RecordBatch {
    let names = range.clone().map(|id| {
        if id % 3 == 0 {
            None
        } else {
            Some(format!("n/{}", id % 3))
        }
    });
    RecordBatch::try_new(
        table.schema.clone(),
        vec![
            Arc::new(Int64Array::from_iter_values(range.clone())),
            Arc::new(StringArray::from_iter(names)),
        ],
    )
    .unwrap()
}

/// All files below a folder, hidden ones included, without the folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

pub(super) fn visible(folder: &Path) -> Vec<String> {
    files(folder)
        .into_iter()
        .filter(|name| !name.contains(".inprogress"))
        .collect()
}

#[test]
fn every_format_and_compression_survives_the_round_trip() {
    let runtime = runtime();
    for options in [
        vec![("format", "json")],
        vec![("format", "json"), ("sink.compression", "gzip")],
        vec![
            ("format", "csv"),
            ("sink.compression", "zstd"),
            ("csv.header", "true"),
            ("csv.null-literal", "NULL"),
        ],
        vec![("format", "parquet")],
        vec![
            ("format", "parquet"),
            ("parquet.compression", "ZSTD"),
            ("sink.rolling-policy.file-size", "1kb"),
        ],
        vec![("format", "json"), ("sink.rolling-policy.file-size", "1kb")],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let table = table(&folder.path().join("out").to_string_lossy(), &ids(), &options);
        assert_eq!(crate::registry::validate(&table, crate::Role::Sink), []);
        let sink = Filesystem.sink(&table).unwrap();
        runtime.block_on(sink.start(&job("a"))).unwrap();
        let mut writer = writer(&*sink, &runtime, "a", 0);
        for start in (0..1000).step_by(100) {
            assert!(writer.write(&rows(&table, start..start + 100)).unwrap() > 0);
        }
        let committables = runtime.block_on(writer.prepare(1, true)).unwrap();
        assert_eq!(visible(folder.path()), [""; 0]);
        runtime.block_on(sink.commit(committables.clone())).unwrap();
        runtime.block_on(sink.commit(committables)).unwrap();
        let mut found = read_all(&table).unwrap().ids();
        found.sort_unstable();
        assert_eq!(found, (0..1000).collect::<Vec<_>>(), "{options:?}");
        let rolled = options.iter().any(|(name, _)| name.ends_with("file-size"));
        assert_eq!(visible(folder.path()).len() > 1, rolled, "{options:?}");
    }
}

#[test]
fn changes_are_written_and_read_by_a_format_of_changes_only() {
    let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let path = folder.path().to_str().unwrap();
    let kinds = [1, -2, 2, -1];
    let changes = |table: &TableDefinition| {
        let kinds = Int8Array::from_iter_values(kinds);
        changelog::with_kinds(&rows(table, 0..4), kinds).unwrap()
    };
    let mut table = table(path, &ids(), &[("format", "debezium-json")]);
    table.partitioned_by = vec!["name".to_string()];
    assert_eq!(Filesystem.changelog(&table, Role::Sink), ChangelogSupport::Retract);
    let sink = Filesystem.sink(&table).unwrap();
    runtime.block_on(sink.start(&job("1"))).unwrap();
    let mut out = writer(&*sink, &runtime, "1", 0);
    out.write(&changes(&table)).unwrap();
    let committables = runtime.block_on(out.prepare(1, true)).unwrap();
    runtime.block_on(sink.commit(committables)).unwrap();
    let mut read: Vec<(i64, i8)> = Vec::new();
    for batch in read_all(&table).unwrap().batches {
        let kinds = changelog::kinds(&batch).expect("changes").values().to_vec();
        read.extend(
            batch
                .column(0)
                .as_primitive::<Int64Type>()
                .values()
                .iter()
                .copied()
                .zip(kinds),
        );
    }
    read.sort_unstable();
    // As in Flink, an update is written as a deletion and an insertion.
    assert_eq!(read, [(0, 1), (1, -1), (2, 1), (3, -1)]);

    let json = super::source_tests::table(path, &ids(), &[]);
    assert_eq!(Filesystem.changelog(&json, Role::Sink), ChangelogSupport::Append);
    let sink = Filesystem.sink(&json).unwrap();
    let error = writer(&*sink, &runtime, "2", 0).write(&changes(&json)).unwrap_err();
    assert!(error.to_string().contains("inserted rows only"), "{error}");
}

#[test]
fn files_are_rolled_by_age() {
    let runtime = runtime();
    for (age, expected) in [("0 ms", 3), ("1 h", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let options = [
            ("sink.rolling-policy.rollover-interval", age),
            ("sink.rolling-policy.check-interval", "1 min"),
            ("auto-compaction", "false"),
        ];
        let table = table(&folder.path().to_string_lossy(), &ids(), &options);
        assert_eq!(crate::registry::validate(&table, crate::Role::Sink), []);
        let sink = Filesystem.sink(&table).unwrap();
        runtime.block_on(sink.start(&job("a"))).unwrap();
        let mut writer = writer(&*sink, &runtime, "a", 0);
        for start in [0, 10, 20] {
            writer.write(&rows(&table, start..start + 10)).unwrap();
        }
        let committables = runtime.block_on(writer.prepare(1, true)).unwrap();
        runtime.block_on(sink.commit(committables)).unwrap();
        assert_eq!(visible(folder.path()).len(), expected, "{age}");
        let mut found = read_all(&table).unwrap().ids();
        found.sort_unstable();
        assert_eq!(found, (0..30).collect::<Vec<_>>());
    }
}

#[test]
fn partitions_become_folders_and_come_back() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let mut table = table(
        &folder.path().to_string_lossy(),
        &ids(),
        &[("sink.max-open-files", "2")],
    );
    table.partitioned_by = vec!["name".to_string()];
    let sink = Filesystem.sink(&table).unwrap();
    runtime.block_on(sink.start(&job("a"))).unwrap();
    let mut writer = writer(&*sink, &runtime, "a", 1);
    writer.write(&rows(&table, 0..30)).unwrap();
    let committables = runtime.block_on(writer.prepare(1, true)).unwrap();
    runtime.block_on(sink.commit(committables)).unwrap();
    let folders: Vec<_> = visible(folder.path())
        .iter()
        .map(|name| name.split('/').next().unwrap().to_string())
        .collect();
    assert_eq!(folders, ["name=__HIVE_DEFAULT_PARTITION__", "name=n%2F1", "name=n%2F2"]);
    let mut found = read_all(&table).unwrap().ids();
    found.sort_unstable();
    assert_eq!(found, (0..30).collect::<Vec<_>>());
}

/// Rows of `id`, `name` and a map; the map of `bad` has a key that JSON cannot write.
fn rows_with_maps(ids: std::ops::Range<i64>, bad: i64) -> RecordBatch {
    let mut maps = MapBuilder::new(None, ListBuilder::new(Int64Builder::new()), Int64Builder::new());
    for id in ids.clone() {
        if id == bad {
            maps.keys().append(true);
            maps.values().append_value(id);
        }
        maps.append(true).unwrap();
    }
    let names = ids.clone().map(|id| Some(format!("n{id}")));
    let columns: [(&str, Arc<dyn Array>); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values(ids))),
        ("name", Arc::new(StringArray::from_iter(names))),
        ("map", Arc::new(maps.finish())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn a_row_that_cannot_be_encoded_leaves_its_batch_unwritten_in_every_partition() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let bad = 2;
    let batch = rows_with_maps(0..5, bad);
    let columns: Vec<(&str, DataType)> = ["id", "name", "map"]
        .into_iter()
        .zip(batch.columns().iter().map(|column| column.data_type().clone()))
        .collect();
    let mut table = table(&folder.path().to_string_lossy(), &columns, &[]);
    table.schema = batch.schema();
    table.partitioned_by = vec!["name".to_string()];
    let sink = Filesystem.sink(&table).unwrap();
    runtime.block_on(sink.start(&job("a"))).unwrap();
    let mut writer = writer(&*sink, &runtime, "a", 0);
    let refused = |result: Result<u64, Error>| matches!(result, Err(Error::Data(_)));
    // As the engine does to find the row: the whole batch, then smaller ones.
    assert!(refused(writer.write(&batch)));
    for id in 0..5 {
        let result = writer.write(&batch.slice(id, 1));
        assert_eq!(refused(result), id as i64 == bad);
    }
    let committables = runtime.block_on(writer.prepare(1, true)).unwrap();
    runtime.block_on(sink.commit(committables)).unwrap();
    let mut lines: Vec<String> = visible(folder.path())
        .iter()
        .flat_map(|name| {
            let content = std::fs::read_to_string(folder.path().join(name)).unwrap();
            let partition = name.split('/').next().unwrap().to_string();
            content
                .lines()
                .map(|line| format!("{partition} {line}"))
                .collect::<Vec<_>>()
        })
        .collect();
    lines.sort();
    let expected = [0, 1, 3, 4].map(|id| format!("name=n{id} {{\"id\":{id},\"map\":{{}}}}"));
    assert_eq!(lines, expected);
}

#[test]
fn a_crash_loses_only_files_that_no_checkpoint_names() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder.path().to_string_lossy(), &ids(), &[]);
    let first = Filesystem.sink(&table).unwrap();
    runtime.block_on(first.start(&job("a"))).unwrap();
    let mut one = writer(&*first, &runtime, "a", 0);
    one.write(&rows(&table, 0..10)).unwrap();
    let in_checkpoint = runtime.block_on(one.prepare(1, false)).unwrap();
    one.write(&rows(&table, 10..20)).unwrap();
    let in_no_checkpoint = runtime.block_on(one.prepare(2, false)).unwrap();
    assert_eq!(in_no_checkpoint.len(), 1);
    // Another job's file in the same folder.
    let strange = folder.path().join(".part-x-0-0.json.0000000000000000.inprogress");
    std::fs::write(&strange, "").unwrap();

    let second = Filesystem.sink(&table).unwrap();
    runtime.block_on(second.commit(in_checkpoint.clone())).unwrap();
    runtime.block_on(second.start(&job("b"))).unwrap();
    assert_eq!(read_all(&table).unwrap().ids(), (0..10).collect::<Vec<_>>());
    assert!(strange.exists());
    assert_eq!(files(folder.path()).len(), 2);
    // Told again, after the reader of the output took the file away.
    std::fs::remove_file(folder.path().join(&visible(folder.path())[0])).unwrap();
    runtime.block_on(second.commit(in_checkpoint)).unwrap();
}

#[test]
fn a_dropped_writer_removes_its_unpublished_files() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder.path().to_string_lossy(), &ids(), &[]);
    let sink = Filesystem.sink(&table).unwrap();
    runtime.block_on(sink.start(&job("a"))).unwrap();
    let mut writer = writer(&*sink, &runtime, "a", 0);
    writer.write(&rows(&table, 0..10)).unwrap();
    drop(writer);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !files(folder.path()).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", files(folder.path()));
        std::thread::yield_now();
    }
}

#[test]
fn many_writers_share_one_thread() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder.path().to_string_lossy(), &ids(), &[]);
    let sink = Filesystem.sink(&table).unwrap();
    runtime.block_on(sink.start(&job("a"))).unwrap();
    let mut writers: Vec<_> = (0..20).map(|subtask| writer(&*sink, &runtime, "a", subtask)).collect();
    let mut committables = Vec::new();
    for (number, writer) in writers.iter_mut().enumerate() {
        let first = number as i64 * 10;
        writer.write(&rows(&table, first..first + 10)).unwrap();
        committables.extend(runtime.block_on(writer.prepare(1, false)).unwrap());
    }
    runtime.block_on(sink.commit(committables)).unwrap();
    assert_eq!(visible(folder.path()).len(), 20);
}

#[test]
fn a_file_changed_after_it_was_prepared_is_not_published() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder.path().to_string_lossy(), &ids(), &[]);
    let sink = Filesystem.sink(&table).unwrap();
    let mut writer = writer(&*sink, &runtime, "a", 0);
    writer.write(&rows(&table, 0..10)).unwrap();
    let committables = runtime.block_on(writer.prepare(1, true)).unwrap();
    std::fs::write(folder.path().join(&files(folder.path())[0]), "half").unwrap();
    let error = runtime.block_on(sink.commit(committables)).unwrap_err().to_string();
    assert!(error.contains("nothing is published from it"), "{error}");
    assert_eq!(visible(folder.path()), [""; 0]);
}

#[test]
fn a_target_that_cannot_be_written_is_refused_at_the_start() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let start = |path: &Path| {
        let sink = Filesystem.sink(&table(&path.to_string_lossy(), &ids(), &[])).unwrap();
        runtime.block_on(sink.start(&job("a"))).unwrap_err().to_string()
    };
    assert!(start(&file).contains("is a file"));
    assert!(start(&file.join("below")).contains("cannot create the folder"));
    let errors = crate::registry::validate(&table("out/*", &ids(), &[]), crate::Role::Sink);
    assert!(errors[0].message.contains("needs a folder"), "{errors:?}");
}

#[test]
fn a_write_error_is_reported_and_publishes_nothing() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let table = table(&out.to_string_lossy(), &ids(), &[]);
    let sink = Filesystem.sink(&table).unwrap();
    runtime.block_on(sink.start(&job("a"))).unwrap();
    let mut writer = writer(&*sink, &runtime, "a", 0);
    std::fs::remove_dir(&out).unwrap();
    std::fs::write(&out, "").unwrap();
    writer.write(&rows(&table, 0..10)).unwrap();
    let error = runtime.block_on(writer.prepare(1, true)).unwrap_err().to_string();
    assert!(error.contains("cannot create the f"), "{error}");
}

#[test]
fn a_slow_disk_applies_backpressure_and_wakes_the_writer_later() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let table = table(
        &folder.path().to_string_lossy(),
        &ids(),
        &[("sink.compression", "gzip")],
    );
    let sink = Filesystem.sink(&table).unwrap();
    let mut writer = writer(&*sink, &runtime, "a", 0);
    let batch = rows(&table, 0..200_000);
    let mut context = Context::from_waker(Waker::noop());
    let mut pauses = 0;
    while pauses == 0 {
        match writer.poll_ready(&mut context) {
            Poll::Ready(ready) => {
                ready.unwrap();
                writer.write(&batch).unwrap();
            }
            Poll::Pending => pauses += 1,
        }
    }
    runtime
        .block_on(futures::future::poll_fn(|context| writer.poll_ready(context)))
        .unwrap();
}

#[test]
fn uploads_are_completed_from_the_checkpoint_and_invisible_before() {
    let runtime = runtime();
    let store = Arc::new(InMemory::new());
    let table = table("memory://x/out", &ids(), &[("sink.rolling-policy.file-size", "20mb")]);
    let sink = || {
        let location = Location::Store(StoreLocation {
            store: store.clone(),
            multipart: store.clone(),
            root: "memory://x".to_string(),
            key: "out".to_string(),
        });
        FileSink::at(&table, location).unwrap()
    };
    let names = || -> Vec<_> { runtime.block_on(store.list(None).try_collect::<Vec<_>>()).unwrap() };
    let first = sink();
    runtime.block_on(first.start(&job("a"))).unwrap();
    let mut writer = writer(&first, &runtime, "a", 0);
    for start in 0..10 {
        writer
            .write(&rows(&table, start * 50_000..(start + 1) * 50_000))
            .unwrap();
    }
    let committables: Vec<Committable> = runtime.block_on(writer.prepare(1, true)).unwrap();
    assert!(names().is_empty());
    drop(first);

    let second = sink();
    runtime.block_on(second.commit(committables.clone())).unwrap();
    let published = names();
    assert!(!published.is_empty());
    let size: u64 = published.iter().map(|meta| meta.size).sum();
    assert!(size > 8 << 20, "{size}");
    runtime.block_on(second.commit(committables)).unwrap();
    assert_eq!(names(), published);
    let data = runtime.block_on(async { store.get(&published[0].location).await.unwrap().bytes().await.unwrap() });
    assert!(data.ends_with(b"}\n"));
}

#[test]
fn only_earlier_output_in_an_object_store_is_described_and_removed() {
    let runtime = runtime();
    let store = Arc::new(InMemory::new());
    let table = table("memory://x/out", &ids(), &[]);
    let location = Location::Store(StoreLocation {
        store: store.clone(),
        multipart: store.clone(),
        root: "memory://x".to_string(),
        key: "out".to_string(),
    });
    let sink = FileSink::at(&table, location).unwrap();
    assert_eq!(runtime.block_on(sink.earlier_output()).unwrap(), None);
    runtime.block_on(async { store.put(&"out/notes.json".into(), "{}".into()).await.unwrap() });
    assert_eq!(runtime.block_on(sink.earlier_output()).unwrap(), None);

    let mut writer = writer(&sink, &runtime, "0123456789abcdef0123456789abcdef", 0);
    writer.write(&rows(&table, 0..10)).unwrap();
    let committables = runtime.block_on(writer.prepare(1, true)).unwrap();
    runtime.block_on(sink.commit(committables)).unwrap();
    let named = runtime.block_on(sink.earlier_output()).unwrap();
    assert_eq!(named.as_deref(), Some("1 file of earlier runs in memory://x/out/"));
    runtime.block_on(sink.remove_earlier_output()).unwrap();
    let left: Vec<_> = runtime.block_on(store.list(None).try_collect::<Vec<_>>()).unwrap();
    let left: Vec<&str> = left.iter().map(|meta| meta.location.as_ref()).collect();
    assert_eq!(left, ["out/notes.json"]);
}

#[test]
fn a_success_file_is_in_every_partition_after_its_files_are_published() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_string_lossy().into_owned();
    let options = [
        ("sink.partition-commit.policy.kind", "success-file"),
        ("sink.partition-commit.success-file.name", "_DONE"),
        ("sink.partition-commit.trigger", "process-time"),
        ("sink.partition-commit.delay", "0 s"),
    ];
    let mut table = table(&path, &ids(), &options);
    table.partitioned_by = vec!["name".to_string()];
    assert_eq!(crate::registry::validate(&table, crate::Role::Sink), []);
    let sink = Filesystem.sink(&table).unwrap();
    runtime.block_on(sink.start(&job("a"))).unwrap();
    let mut writer = writer(&*sink, &runtime, "a", 0);
    writer.write(&rows(&table, 0..10)).unwrap();
    let committables = runtime.block_on(writer.prepare(1, true)).unwrap();
    let partitions = || {
        let folders = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        folders.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    assert!(!partitions().is_empty());
    assert!(partitions().iter().all(|partition| !partition.join("_DONE").exists()));
    runtime.block_on(sink.commit(committables.clone())).unwrap();
    for partition in partitions() {
        assert!(partition.join("_DONE").exists(), "{partition:?}");
        std::fs::remove_file(partition.join("_DONE")).unwrap();
    }
    // The process was killed before the success files were written.
    runtime.block_on(sink.recover(committables)).unwrap();
    assert!(partitions().iter().all(|partition| partition.join("_DONE").exists()));
    let mut found = read_all(&table).unwrap().ids();
    found.sort_unstable();
    assert_eq!(found, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_success_file_is_not_written_early() {
    for option in [
        ("sink.partition-commit.trigger", "partition-time"),
        ("sink.partition-commit.delay", "1 h"),
    ] {
        let mut table = table(
            "out",
            &ids(),
            &[("sink.partition-commit.policy.kind", "success-file"), option],
        );
        table.partitioned_by = vec!["name".to_string()];
        assert_eq!(crate::registry::validate(&table, crate::Role::Sink), []);
        assert_eq!(super::success_file::name_of(&table).unwrap(), None, "{option:?}");
    }
}

#[test]
fn policies_of_partitions_that_cannot_be_kept_are_refused() {
    let check = |option: (&str, &str), expected: &str| {
        let options = [("sink.partition-commit.policy.kind", "success-file"), option];
        let options: std::collections::BTreeMap<&str, &str> = options.into();
        let options: Vec<(&str, &str)> = options.into_iter().collect();
        let mut table = table("out", &ids(), &options);
        table.partitioned_by = vec!["name".to_string()];
        let errors = crate::registry::validate(&table, crate::Role::Sink);
        let messages: Vec<String> = errors.into_iter().map(|error| error.message).collect();
        assert!(messages.concat().contains(expected), "{messages:?}");
    };
    check(
        ("sink.partition-commit.policy.kind", "metastore,success-file"),
        "'metastore' is not supported",
    );
    check(("sink.partition-commit.policy.kind", "file"), "`file` is not a policy");
    check(
        ("sink.partition-commit.success-file.name", "DONE"),
        "would be read as data",
    );
}
