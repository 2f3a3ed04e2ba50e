//! The store against a plain map: the same operations, snapshots in between, restores at other ranges.

use std::collections::BTreeMap;
use std::sync::mpsc;

use proptest::prelude::*;

use super::*;
use crate::job_files::JobFiles;
use crate::lock::DataFolderLock;
use crate::storage::Storage;

type Model = BTreeMap<(u16, i64, Vec<u8>), Vec<u8>>;

struct Rows(Vec<WriteChunk>);

impl FlushSource for Rows {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, Error> {
        if self.0.is_empty() {
            Ok(None)
        } else {
            Ok(Some(self.0.remove(0)))
        }
    }
}

fn backend(dir: &std::path::Path) -> Backend {
    Backend::new(BackendOptions {
        dir: dir.to_path_buf(),
        memory_bytes: 64 << 20,
        process_gauge: None,
        background_threads: 2,
    })
    .unwrap()
}

fn prefix(group: u16, namespace: i64) -> KeyPrefix {
    KeyPrefix {
        group: KeyGroup(group),
        namespace,
    }
}

fn range(start: u16, end: u16) -> KeyGroupRange {
    KeyGroupRange { start, end }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Waits by waker, as a slot thread does by being unparked.
fn settle(store: &mut Store) -> Result<(), Error> {
    struct Signal(mpsc::Sender<()>);
    impl std::task::Wake for Signal {
        fn wake(self: Arc<Self>) {
            self.0.send(()).expect("the test waits");
        }
    }
    let (sender, receiver) = mpsc::channel();
    let waker = Waker::from(Arc::new(Signal(sender)));
    while !store.poll_idle(&waker)? {
        receiver
            .recv_timeout(std::time::Duration::from_secs(30))
            .expect("the waker is called");
    }
    Ok(())
}

fn contents(store: &Store) -> Model {
    contents_by(store, 1_000)
}

/// Reads all rows of the store, a few at a time.
fn contents_by(store: &Store, rows_max: usize) -> Model {
    let mut model = Model::new();
    for prefix in store.namespaces().unwrap() {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let more = store
                .scan(prefix, after.clone().as_deref(), rows_max, &mut |key, value| {
                    after = Some(key.to_vec());
                    model.insert((prefix.group.0, prefix.namespace, key.to_vec()), value.to_vec());
                })
                .unwrap();
            if !more {
                break;
            }
        }
    }
    model
}

/// Key group, namespace, key, value unless deleted.
type Row = (u16, i64, Vec<u8>, Option<Vec<u8>>);

#[derive(Debug, Clone)]
enum Operation {
    Write(Vec<Row>),
    DeleteNamespaces(i64, i64),
    Snapshot,
}

fn operation() -> impl Strategy<Value = Operation> {
    let row = (
        0u16..8,
        -2i64..3,
        proptest::collection::vec(0u8..4, 0..3),
        proptest::option::of(any::<[u8; 2]>()),
    );
    let row = row.prop_map(|(group, namespace, key, value)| (group, namespace, key, value.map(|v| v.to_vec())));
    prop_oneof![
        4 => proptest::collection::vec(row, 1..20).prop_map(Operation::Write),
        1 => (-2i64..3, 0i64..3).prop_map(|(first, more)| Operation::DeleteNamespaces(first, first + more)),
        1 => Just(Operation::Snapshot),
    ]
}

fn apply(store: &mut Store, model: &mut Model, operation: &Operation) {
    let owned = store.range();
    match operation {
        Operation::Write(rows) => {
            let mut chunk = WriteChunk::default();
            let mut rows: Vec<_> = rows.iter().filter(|row| owned.contains(KeyGroup(row.0))).collect();
            rows.sort();
            rows.dedup_by_key(|row| (row.0, row.1, row.2.clone()));
            for (group, namespace, key, value) in rows {
                match value {
                    Some(value) => {
                        chunk.put(prefix(*group, *namespace), key, value);
                        model.insert((*group, *namespace, key.clone()), value.clone());
                    }
                    None => {
                        chunk.delete(prefix(*group, *namespace), key);
                        model.remove(&(*group, *namespace, key.clone()));
                    }
                }
            }
            store.write(Box::new(Rows(vec![chunk])), None).unwrap();
        }
        Operation::DeleteNamespaces(first, last) => {
            let groups: Vec<KeyGroup> = (owned.start..owned.end).map(KeyGroup).collect();
            store.delete_namespaces(*first, *last, &groups).unwrap();
            model.retain(|key, _| !(*first..=*last).contains(&key.1));
        }
        Operation::Snapshot => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_store_is_a_map_through_snapshots_and_restores_at_other_ranges(
        operations in proptest::collection::vec(operation(), 1..12),
        cuts in proptest::collection::btree_set(1u16..8, 0..3),
    ) {
        let runtime = runtime();
        let folder = tempfile::tempdir().unwrap();
        let backend = backend(folder.path());
        let mut store = backend.store("model-0", range(0, 8));
        let mut model = Model::new();
        for (index, operation) in operations.iter().enumerate() {
            apply(&mut store, &mut model, operation);
            if matches!(operation, Operation::Snapshot) {
                let ticket = store.snapshot(index as u64).unwrap();
                let snapshot = runtime.block_on(ticket.finished).unwrap();
                let restored = runtime.block_on(backend.restore("model-0", range(0, 8), &[snapshot])).unwrap();
                prop_assert_eq!(contents_by(&restored, 3), model.clone());
            }
        }
        let ticket = store.snapshot(99).unwrap();
        // What is queued after a snapshot is not in it.
        apply(&mut store, &mut Model::new(), &Operation::DeleteNamespaces(0, 0));
        let snapshot = runtime.block_on(ticket.finished).unwrap();
        settle(&mut store).unwrap();

        // Several subtasks instead of one, and back to one.
        let bounds: Vec<u16> = [0].into_iter().chain(cuts).chain([8]).collect();
        let mut parts = Vec::new();
        let mut together = Model::new();
        for bounds in bounds.windows(2) {
            let owned = range(bounds[0], bounds[1]);
            let restore = backend.restore("model-1", owned, std::slice::from_ref(&snapshot));
            let mut part = runtime.block_on(restore).unwrap();
            let rows = contents(&part);
            prop_assert!(rows.keys().all(|key| owned.contains(KeyGroup(key.0))));
            together.extend(rows);
            parts.push(runtime.block_on(part.snapshot(1).unwrap().finished).unwrap());
        }
        prop_assert_eq!(&together, &model);
        let one = runtime.block_on(backend.restore("model-2", range(0, 8), &parts)).unwrap();
        prop_assert_eq!(contents(&one), model);
    }
}

#[test]
fn a_store_that_was_not_written_to_is_not_uploaded_again() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let backend = backend(folder.path());
    let mut store = backend.store("quiet-0", range(0, 8));
    let snapshot = |store: &mut Store, checkpoint| {
        let ticket = store.snapshot(checkpoint).unwrap();
        runtime.block_on(ticket.finished).unwrap()
    };
    assert_eq!(snapshot(&mut store, 1), snapshot(&mut store, 2));
    store.write(chunks(0, 10), None).unwrap();
    let written = snapshot(&mut store, 3);
    assert_eq!(written, snapshot(&mut store, 4));
    // Of two under way, each has what was there when it was asked for.
    let early = store.snapshot(5).unwrap();
    store.write(chunks(10, 20), None).unwrap();
    let late = snapshot(&mut store, 6);
    assert_ne!(late, written);
    assert_eq!(runtime.block_on(early.finished).unwrap(), written);
}

fn chunks(from: u32, to: u32) -> Box<Rows> {
    let mut chunks = Vec::new();
    let mut chunk = WriteChunk::default();
    for number in from..to {
        chunk.put(prefix(1, 5), &number.to_be_bytes(), &[7; 100]);
        if chunk.bytes() > 1 << 20 {
            chunks.push(std::mem::take(&mut chunk));
        }
    }
    chunks.push(chunk);
    Box::new(Rows(chunks))
}

#[test]
fn a_large_sorted_generation_goes_in_as_files_and_over_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = backend(folder.path()).store("bulk-0", range(0, 8));
    let mut first = WriteChunk::default();
    first.put(prefix(1, 5), &7u32.to_be_bytes(), b"old");
    store.write(Box::new(Rows(vec![first])), None).unwrap();
    store.write(chunks(0, 200_000), None).unwrap();
    let mut last = WriteChunk::default();
    last.put(prefix(1, 5), &9u32.to_be_bytes(), b"new");
    store.write(Box::new(Rows(vec![last])), None).unwrap();
    settle(&mut store).unwrap();
    let keys: Vec<[u8; 4]> = [7u32, 8, 9, 199_999, 200_000].map(u32::to_be_bytes).to_vec();
    let asked: Vec<(KeyPrefix, &[u8])> = keys.iter().map(|key| (prefix(1, 5), key.as_slice())).collect();
    let found = store.get_many(&asked).unwrap();
    let row = Some(vec![7; 100]);
    assert_eq!(found, [row.clone(), row.clone(), Some(b"new".to_vec()), row, None]);
    assert_eq!(contents(&store).len(), 200_000);
}

#[test]
fn a_later_snapshot_uploads_only_what_is_new() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let mut store = backend(folder.path()).store("bulk-0", range(0, 8));
    store.write(chunks(0, 200_000), None).unwrap();
    let first = runtime.block_on(store.snapshot(1).unwrap().finished).unwrap();
    store.write(chunks(300_000, 300_010), None).unwrap();
    let second = runtime.block_on(store.snapshot(2).unwrap().finished).unwrap();
    let shared = second.files.iter().filter(|file| first.files.contains(file)).count();
    assert_eq!(
        shared,
        first.files.iter().filter(|file| file.name.ends_with(".sst")).count()
    );
    assert_eq!(second.files.len(), shared + 2, "{second:?}");
}

#[test]
fn a_damaged_file_is_named_by_the_restore() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let backend = backend(&folder.path().join("state"));
    let storage = Storage::from_url(&folder.path().join("root").display().to_string()).unwrap();
    let backend = backend.with_files(JobFiles::new(storage, "job", 1));
    let mut store = backend.store("w-0", range(0, 8));
    store.write(chunks(0, 10), None).unwrap();
    let snapshot = runtime.block_on(store.snapshot(1).unwrap().finished).unwrap();
    drop(store);
    let file = snapshot.files.iter().find(|file| file.name.ends_with(".sst")).unwrap();
    let path = folder.path().join("root/job").join(&file.path);
    let good = std::fs::read(&path).unwrap();
    type Damage<'a> = (&'static str, Box<dyn Fn() + 'a>);
    let damages: [Damage<'_>; 3] = [
        (
            "checksum",
            Box::new(|| {
                let mut flipped = good.clone();
                flipped[20] ^= 1;
                std::fs::write(&path, flipped).unwrap();
            }),
        ),
        (
            "bytes long",
            Box::new(|| std::fs::write(&path, &good[..good.len() - 1]).unwrap()),
        ),
        ("missing", Box::new(|| std::fs::remove_file(&path).unwrap())),
    ];
    for (what, damage) in &damages {
        damage();
        // Where nothing of it is kept.
        let other = self::backend(&folder.path().join(what)).with_files(backend.files().clone());
        let restored = runtime.block_on(other.restore("w-0", range(0, 8), std::slice::from_ref(&snapshot)));
        let error = restored.err().expect("damage is found");
        assert!(error.is_damage(), "{error}");
        assert!(
            error.to_string().contains(what) && error.to_string().contains(&file.path),
            "{error}"
        );
    }
}

#[test]
fn a_failing_generation_fails_the_store_with_its_reason() {
    struct Fails {
        by_panic: bool,
    }
    impl FlushSource for Fails {
        fn next_chunk(&mut self) -> Result<Option<WriteChunk>, Error> {
            assert!(!self.by_panic, "no such column");
            Err(Error::Invalid("a column of another type".into()))
        }
    }
    for (by_panic, expected) in [
        (true, "p-0 panicked: no such column"),
        (false, "p-0: a column of another type"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = backend(folder.path()).store("p-0", range(0, 8));
        store.write(Box::new(Fails { by_panic }), None).unwrap();
        // A checkpoint that is cut behind it fails, and says why.
        let ticket = store.snapshot(1);
        let error = settle(&mut store).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        if let Ok(ticket) = ticket {
            let error = runtime().block_on(ticket.finished).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(store.write(chunks(0, 1), None).is_err());
        assert!(store.snapshot(1).is_err());
    }
}

#[test]
fn a_folder_of_another_process_is_refused_and_one_of_this_process_shared() {
    let folder = tempfile::tempdir().unwrap();
    let other = DataFolderLock::acquire(folder.path()).unwrap();
    let options = BackendOptions {
        dir: folder.path().to_path_buf(),
        memory_bytes: 1 << 20,
        process_gauge: None,
        background_threads: 1,
    };
    assert!(matches!(Backend::new(options.clone()), Err(Error::Busy(_))));
    drop(other);
    // A restarted attempt begins while the one before it still winds up.
    let first = Backend::new(options.clone()).unwrap();
    let mut old = first.store("same-0", range(0, 8));
    old.write(chunks(0, 10), None).unwrap();
    drop(first);
    let mut new = Backend::new(options.clone()).unwrap().store("same-0", range(0, 8));
    new.write(chunks(10, 20), None).unwrap();
    settle(&mut old).unwrap();
    settle(&mut new).unwrap();
    assert_eq!((contents(&old).len(), contents(&new).len()), (10, 10));
}

#[test]
fn a_store_never_written_snapshots_to_nothing_and_restores_from_it() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let backend = backend(folder.path());
    let mut store = backend.store("e-0", range(0, 8));
    let snapshot = runtime.block_on(store.snapshot(1).unwrap().finished).unwrap();
    assert!(snapshot.files.is_empty());
    let store = runtime
        .block_on(backend.restore("e-0", range(0, 8), &[snapshot]))
        .unwrap();
    assert!(store.namespaces().unwrap().is_empty());
}
