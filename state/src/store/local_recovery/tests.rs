//! Restores with local files, and with local files that are damaged.

use super::super::{Backend, BackendOptions, FlushSource, KeyPrefix, KeyedSnapshot, WriteChunk};
use super::*;
use crate::Error;
use crate::job_files::JobFiles;
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::storage::Storage;

const RANGE: KeyGroupRange = KeyGroupRange { start: 0, end: 8 };
const ROWS: u32 = 1_000;

struct Rows(Option<WriteChunk>);

impl FlushSource for Rows {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, Error> {
        Ok(self.0.take())
    }
}

fn rows(first: u32) -> Box<Rows> {
    let prefix = KeyPrefix {
        group: KeyGroup(3),
        namespace: 0,
    };
    let mut chunk = WriteChunk::default();
    for row in first..first + ROWS {
        chunk.put(prefix, &row.to_be_bytes(), b"value");
    }
    Box::new(Rows(Some(chunk)))
}

/// One worker's folder and the object storage.
struct Place {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        }
    }

    /// A process that starts there.
    fn process(&self) -> Backend {
        let options = BackendOptions {
            dir: self.folder.path().join("state"),
            memory_bytes: 64 << 20,
            process_gauge: None,
            background_threads: 1,
        };
        let storage = Storage::from_url(&self.folder.path().join("root").display().to_string()).unwrap();
        Backend::new(options)
            .unwrap()
            .with_files(JobFiles::new(storage, "job", 1))
    }

    fn kept(&self) -> Vec<PathBuf> {
        let mut names = names_in(&self.folder.path().join("state/kept/job"));
        names.sort();
        let folder = self.folder.path().join("state/kept/job");
        names.into_iter().map(|name| folder.join(name)).collect()
    }

    fn restore(&self, backend: &Backend, snapshot: &KeyedSnapshot) -> Result<usize, Error> {
        let restored = backend.restore("w-0", RANGE, std::slice::from_ref(snapshot));
        let store = self.runtime.block_on(restored)?;
        let mut count = 0;
        for prefix in store.namespaces()? {
            store.scan(prefix, None, usize::MAX, &mut |_, _| count += 1)?;
        }
        Ok(count)
    }

    /// A snapshot, and the backend that took it.
    fn snapshot(&self) -> (Backend, KeyedSnapshot) {
        let backend = self.process();
        let mut store = backend.store("w-0", RANGE);
        store.write(rows(0), None).unwrap();
        let snapshot = self.runtime.block_on(store.snapshot(1).unwrap().finished).unwrap();
        (backend, snapshot)
    }

    fn empty_storage(&self) {
        fs::remove_dir_all(self.folder.path().join("root")).unwrap();
    }
}

#[test]
fn a_restart_in_this_process_or_the_next_fetches_nothing() {
    let place = Place::new();
    let (backend, snapshot) = place.snapshot();
    place.empty_storage();
    assert_eq!(place.restore(&backend, &snapshot).unwrap(), ROWS as usize);
    drop(backend);
    let next = place.process();
    assert_eq!(place.restore(&next, &snapshot).unwrap(), ROWS as usize);
    assert_eq!(place.restore(&next, &snapshot).unwrap(), ROWS as usize);
}

#[test]
fn what_another_process_left_damaged_is_fetched() {
    let place = Place::new();
    let (backend, snapshot) = place.snapshot();
    drop(backend);
    for kept in place.kept() {
        let mut content = fs::read(&kept).unwrap();
        let last = content.len() / 2;
        content[last] ^= 1;
        // Not in place: the object storage may have the same file.
        fs::remove_file(&kept).unwrap();
        fs::write(&kept, content).unwrap();
    }
    let next = place.process();
    assert_eq!(place.restore(&next, &snapshot).unwrap(), ROWS as usize);
    // What was fetched is kept in its place.
    place.empty_storage();
    let manifest = |file: &&FileReference| file.name.starts_with("MANIFEST");
    let kept = &next.shared.data_folder.local_recovery;
    for file in &snapshot.files {
        let to = place.folder.path().join("brought");
        assert_eq!(kept.take("job", file, &to, false), !manifest(&file), "{}", file.name);
        if to.exists() {
            assert_eq!(storage::measure(&to).unwrap().crc32, file.crc32);
            fs::remove_file(&to).unwrap();
        }
    }
}

#[test]
fn what_is_cut_short_in_this_process_is_fetched() {
    let place = Place::new();
    let (backend, snapshot) = place.snapshot();
    for kept in place.kept() {
        fs::remove_file(&kept).unwrap();
        fs::write(&kept, b"short").unwrap();
    }
    assert_eq!(place.restore(&backend, &snapshot).unwrap(), ROWS as usize);
}

#[test]
fn nothing_is_believed_once_a_database_has_found_fault() {
    let place = Place::new();
    let (backend, snapshot) = place.snapshot();
    for kept in place.kept() {
        let length = fs::metadata(&kept).unwrap().len() as usize;
        fs::remove_file(&kept).unwrap();
        fs::write(&kept, vec![0; length]).unwrap();
    }
    let error = place.restore(&backend, &snapshot).unwrap_err();
    assert!(error.is_local_damage(), "{error}");
    assert_eq!(place.restore(&backend, &snapshot).unwrap(), ROWS as usize);
}

#[test]
fn only_the_newest_snapshots_stay() {
    let place = Place::new();
    let backend = place.process();
    let mut store = backend.store("w-0", RANGE);
    let mut snapshots = Vec::new();
    for checkpoint in 1..=4 {
        store.write(rows(checkpoint as u32 * ROWS), None).unwrap();
        let ticket = store.snapshot(checkpoint).unwrap();
        snapshots.push(place.runtime.block_on(ticket.finished).unwrap());
    }
    let named = |snapshots: &[KeyedSnapshot]| -> BTreeSet<String> {
        let files = snapshots.iter().flat_map(|snapshot| &snapshot.files);
        files.filter_map(local_name).map(str::to_string).collect()
    };
    let kept = || -> BTreeSet<String> {
        let names = place.kept().into_iter();
        names
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_string())
            .collect()
    };
    assert_eq!(kept(), named(&snapshots[2..]));
    // A new attempt deletes nothing before it has taken a snapshot of its own.
    drop(store);
    let again = backend.with_files(backend.files().clone());
    assert_eq!(place.restore(&again, &snapshots[3]).unwrap(), 4 * ROWS as usize);
    assert_eq!(kept(), named(&snapshots[2..]));
    let mut store = place
        .runtime
        .block_on(again.restore("w-0", RANGE, &snapshots[3..]))
        .unwrap();
    let ticket = store.snapshot(5).unwrap();
    snapshots.push(place.runtime.block_on(ticket.finished).unwrap());
    assert_eq!(kept(), named(&snapshots[3..]));
}
