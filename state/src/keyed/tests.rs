//! Tables against a map, with evictions, reads, checkpoints and restores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray, StringArray,
};
use arrow_schema::{DataType, Field};

use super::*;
use crate::key_group::KeyGroupRange;
use crate::memory::MemoryBudget;
use crate::store::{Backend, BackendOptions, CollectionRead, PendingRead, Store, StoredRows};

const MAX_PARALLELISM: u16 = 16;

fn table(keys: &[DataType], values: &[DataType], hashed: usize) -> Table {
    Table::new(TableOptions {
        layout: Layout::new(keys, values).unwrap(),
        collection: 7,
        hashed,
        max_parallelism: MAX_PARALLELISM,
        is_ordered: false,
        is_expiring: false,
    })
    .unwrap()
}

fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn integers(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

#[test]
fn keys_of_every_kind_are_told_apart() {
    let list = |values: Vec<Option<Vec<Option<i32>>>>| -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<arrow_array::types::Int32Type, _, _>(
            values,
        ))
    };
    let long = "a string that is longer than a cell";
    let columns: Vec<(ArrayRef, Vec<u32>)> = vec![
        (
            strings(&[Some("a"), None, Some(""), Some("a"), Some(long), Some(long), None]),
            vec![0, 1, 2, 0, 3, 3, 1],
        ),
        (
            Arc::new(Int32Array::from(vec![Some(0), None, Some(-1), Some(0), None])),
            vec![0, 1, 2, 0, 1],
        ),
        (
            Arc::new(BooleanArray::from(vec![Some(false), None, Some(true), Some(false)])),
            vec![0, 1, 2, 0],
        ),
        (
            Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.5])),
            vec![0, 0, 1, 1, 2],
        ),
        (
            Arc::new(Decimal128Array::from(vec![Some(1), Some(1 << 100), None, Some(1)])),
            vec![0, 1, 2, 0],
        ),
        (
            list(vec![
                Some(vec![Some(1), None]),
                None,
                Some(vec![]),
                Some(vec![Some(1), None]),
            ]),
            vec![0, 1, 2, 0],
        ),
    ];
    for (column, expected) in columns {
        let mut table = table(&[column.data_type().clone()], &[], 1);
        let mut resolved = Resolved::default();
        table
            .resolve(&[Arc::clone(&column)], column.len(), &mut resolved)
            .unwrap();
        assert_eq!(resolved.slots, expected, "{}", column.data_type());
        assert_eq!(resolved.unknown, resolved.distinct);
        table.release(&resolved);
        // The same column from its middle on: offsets are respected.
        let rest = column.slice(1, column.len() - 1);
        table.resolve(&[rest], expected.len() - 1, &mut resolved).unwrap();
        assert_eq!(resolved.slots, expected[1..], "{}", column.data_type());
        assert!(resolved.unknown.is_empty());
        table.release(&resolved);
    }
}

#[test]
fn a_table_without_key_columns_has_one_row() {
    let mut table = table(&[], &[DataType::Int64], 0);
    let mut resolved = Resolved::default();
    table.resolve(&[], 3, &mut resolved).unwrap();
    assert_eq!(resolved.slots, [0, 0, 0]);
    assert_eq!(resolved.unknown, [0]);
}

struct Stored {
    store: Store,
    table: Table,
    memory: MemoryBudget,
}

impl Stored {
    fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.store.poll_idle(Waker::noop()).unwrap() {
            assert!(Instant::now() < deadline, "the store does not settle");
            std::thread::yield_now();
        }
    }

    fn flush(&mut self, rows_max: usize) {
        if let Some(frozen) = self.table.freeze(rows_max) {
            self.store
                .write(Box::new(frozen.charged_to(&self.memory)), None)
                .unwrap();
        }
    }

    /// Resolves keys and reads those that are not in memory.
    fn resolve(&mut self, keys: &[ArrayRef]) -> Resolved {
        let mut resolved = Resolved::default();
        self.table.resolve(keys, keys[0].len(), &mut resolved).unwrap();
        let wanted = self.table.store_keys(&resolved.unknown).unwrap();
        let found = wait(&self.store.read(wanted, Waker::noop()).unwrap());
        self.table.load(&resolved.unknown, &found).unwrap();
        resolved
    }
}

/// Waits for a read.
fn wait<T>(pending: &PendingRead<T>) -> T {
    loop {
        match pending.take() {
            Some(found) => return found.unwrap(),
            None => std::thread::yield_now(),
        }
    }
}

/// A deterministic sequence of numbers.
fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

type Model = BTreeMap<(String, i64), (i128, Option<String>)>;

/// Returns the rows that the table and the store have for all keys of `keys`.
fn contents(stored: &mut Stored, keys: &[(String, i64)]) -> Model {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(keys.iter().map(|(key, _)| key))),
        Arc::new(Int64Array::from_iter_values(keys.iter().map(|(_, key)| *key))),
    ];
    let resolved = stored.resolve(&columns);
    let numbers = stored.table.values(0, &resolved.slots).unwrap();
    let texts = stored.table.values(1, &resolved.slots).unwrap();
    stored.table.release(&resolved);
    let mut found = Model::new();
    for (row, key) in keys.iter().enumerate() {
        if stored.table.is_present(resolved.slots[row]) {
            let texts = texts.as_string::<i32>();
            let text = texts.is_valid(row).then(|| texts.value(row).to_owned());
            found.insert(key.clone(), (numbers.as_primitive::<Decimal128Type>().value(row), text));
        }
    }
    found
}

#[test]
fn rows_survive_evictions_checkpoints_and_restores() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let backend = Backend::new(BackendOptions {
        dir: folder.path().to_path_buf(),
        memory_bytes: 64 << 20,
        process_gauge: None,
        background_threads: 2,
    })
    .unwrap();
    let new_table = || {
        table(
            &[DataType::Utf8, DataType::Int64],
            &[DataType::Decimal128(38, 0), DataType::Utf8],
            1,
        )
    };
    let whole = KeyGroupRange::of_subtask(MAX_PARALLELISM, 1, 0);
    let mut stored = Stored {
        store: backend.store("keyed", whole),
        table: new_table(),
        memory: MemoryBudget::new(1 << 30),
    };
    let mut model = Model::new();
    let keys: Vec<(String, i64)> = (0..3_000)
        .map(|number| (format!("key {}", number % 71), number / 71))
        .collect();
    let mut state = 1;
    for round in 0..60 {
        let mut chosen: Vec<usize> = (0..200).map(|_| random(&mut state) as usize % keys.len()).collect();
        chosen.sort_unstable();
        chosen.dedup();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(chosen.iter().map(|at| &keys[*at].0))),
            Arc::new(Int64Array::from_iter_values(chosen.iter().map(|at| keys[*at].1))),
        ];
        let resolved = stored.resolve(&columns);
        for (at, slot) in chosen.iter().zip(&resolved.slots) {
            let key = keys[*at].clone();
            assert_eq!(stored.table.is_present(*slot), model.contains_key(&key));
            if random(&mut state).is_multiple_of(4) {
                stored.table.remove(*slot);
                model.remove(&key);
                continue;
            }
            let before = i128::from_le_bytes(stored.table.fixed(*slot, 0));
            let entry = model.entry(key).or_insert((0, None));
            assert_eq!(before, entry.0);
            entry.0 += i128::from(random(&mut state)) << 40;
            entry.1 = match random(&mut state) % 3 {
                0 => None,
                1 => Some("short".to_owned()),
                _ => Some("long text ".repeat(random(&mut state) as usize % 9)),
            };
            stored.table.set_fixed(*slot, 0, entry.0.to_le_bytes());
            stored
                .table
                .scatter(1, &[*slot], &strings(&[entry.1.as_deref()]))
                .unwrap();
            stored.table.set_changed(*slot);
        }
        stored.table.release(&resolved);
        match round % 5 {
            // Some of the changes, without waiting.
            1 => stored.flush(50),
            3 => {
                stored.flush(usize::MAX);
                stored.wait();
                let before = stored.table.len();
                let evicted = stored.table.evict(before / 2);
                assert!(evicted > 0 && stored.table.len() == before - evicted);
            }
            _ => {}
        }
        if round == 30 || round == 59 {
            assert_eq!(contents(&mut stored, &keys), model);
        }
    }
    // A restore of two halves, then of the whole from both.
    stored.flush(usize::MAX);
    let mut snapshots = vec![runtime.block_on(stored.store.snapshot(1).unwrap().finished).unwrap()];
    for parallelism in [2, 1] {
        let mut all = Model::new();
        let mut next = Vec::new();
        for subtask in 0..parallelism {
            let range = KeyGroupRange::of_subtask(MAX_PARALLELISM, parallelism, subtask);
            let mut part = Stored {
                store: runtime.block_on(backend.restore("keyed", range, &snapshots)).unwrap(),
                table: new_table(),
                memory: stored.memory.clone(),
            };
            assert!(part.store.may_have_rows());
            all.extend(contents(&mut part, &keys));
            let mut scanned = 0;
            let mut position = None;
            loop {
                let read = CollectionRead {
                    collection: 7,
                    generation: None,
                    from: position.take(),
                    rows_max: 100,
                };
                let pending = part.store.read_collection(read, Waker::noop()).unwrap();
                let (found, next) = wait(&pending);
                let mut scratch = new_table();
                scanned += scratch.load_scanned(&found).unwrap().len();
                position = next;
                if position.is_none() {
                    break;
                }
            }
            next.push((
                scanned,
                runtime.block_on(part.store.snapshot(2).unwrap().finished).unwrap(),
            ));
        }
        assert_eq!(all, model);
        assert_eq!(next.iter().map(|(scanned, _)| scanned).sum::<usize>(), model.len());
        snapshots = next.into_iter().map(|(_, snapshot)| snapshot).collect();
    }
    assert_eq!(stored.memory.used_bytes(), 0, "written rows are not charged");
    drop(stored);
    drop(backend);
}

#[test]
fn a_row_that_was_never_written_is_removed_without_a_write() {
    let mut table = table(&[DataType::Int64], &[DataType::Int64], 1);
    let mut resolved = Resolved::default();
    table.resolve(&[integers(&[1, 2])], 2, &mut resolved).unwrap();
    table.set_changed(resolved.slots[0]);
    table.remove(resolved.slots[0]);
    table.release(&resolved);
    assert!(table.freeze(usize::MAX).is_none());
    assert_eq!(table.len(), 1, "the key that was removed is gone");
    assert_eq!(table.evict(10), 1);
    assert!(table.is_empty());
    table.resolve(&[integers(&[2])], 1, &mut resolved).unwrap();
    assert_eq!(
        table.keys(&resolved.slots).unwrap()[0]
            .as_primitive::<Int64Type>()
            .value(0),
        2
    );
    assert!(!table.is_present(resolved.slots[0]));
}

#[test]
fn types_that_state_cannot_hold_are_refused() {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    assert!(Layout::new(&[dictionary], &[]).is_err());
    let nested = DataType::Struct(vec![Field::new("a", DataType::Utf8, true)].into());
    assert!(Layout::new(std::slice::from_ref(&nested), std::slice::from_ref(&nested)).is_ok());
}

mod rows {
    use super::*;

    fn rows(identity: Identity) -> Rows {
        Rows::new(RowsOptions {
            keys: vec![DataType::Int64],
            values: vec![DataType::Utf8],
            collection: 3,
            max_parallelism: MAX_PARALLELISM,
            identity,
            is_expiring: false,
        })
        .unwrap()
    }

    /// Returns the rows that a flush writes: key after the prefix, and value; `None` for deletions.
    fn written(rows: &mut Rows) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let Some(mut frozen) = rows.freeze(usize::MAX) else {
            return Vec::new();
        };
        let mut written = Vec::new();
        while let Some(chunk) = crate::store::FlushSource::next_chunk(&mut frozen).unwrap() {
            for (key, value) in chunk.rows() {
                let value = value.map(|value| value[1..].to_vec());
                written.push((crate::store::key_after_prefix(key).to_vec(), value));
            }
        }
        written
    }

    #[test]
    fn rows_with_content_are_golden() {
        let mut rows = rows(Identity::Content);
        let mut resolved = Resolved::default();
        rows.resolve(&[integers(&[5])], 1, &mut resolved, false).unwrap();
        let encoded = rows.encode(&[strings(&[Some("ab")])], 1).unwrap();
        let slot = resolved.slots[0];
        assert_eq!(rows.add(slot, encoded.row(0), 2, 0).unwrap().1, 0);
        rows.release(&resolved);
        let key = [&[1, 0x80, 0, 0, 0, 0, 0, 0, 5][..], &[1, b'a', b'b', 0, 0]].concat();
        let value = [&2i64.to_le_bytes()[..], &[0]].concat();
        assert_eq!(written(&mut rows), [(key.clone(), Some(value))]);
        // A row whose weight is zero is deleted, unless it was never written.
        rows.resolve(&[integers(&[5])], 1, &mut resolved, true).unwrap();
        let (entry, before) = rows.add(slot, encoded.row(0), -2, 0).unwrap();
        assert_eq!((before, rows.weight(entry), rows.visible(slot)), (2, 0, 0));
        let other = rows.encode(&[strings(&[None])], 1).unwrap();
        rows.add(slot, other.row(0), 1, 0).unwrap();
        rows.add(slot, other.row(0), -1, 0).unwrap();
        rows.release(&resolved);
        assert_eq!(written(&mut rows), [(key, None)]);
        assert_eq!(rows.entries(slot).count(), 0);
    }

    #[test]
    fn rows_with_numbers_are_stored_together_by_key() {
        let mut rows = rows(Identity::Sequence);
        let mut resolved = Resolved::default();
        rows.resolve(&[integers(&[7, 8, 7])], 3, &mut resolved, false).unwrap();
        let encoded = rows.encode(&[strings(&[Some("a"), Some("b"), Some("c")])], 3).unwrap();
        for (row, slot) in resolved.slots.iter().enumerate() {
            rows.insert(*slot, encoded.row(row), 0).unwrap();
        }
        rows.release(&resolved);
        let key = |key: u8, number: u64| [&[1, 0x80, 0, 0, 0, 0, 0, 0, key][..], &number.to_be_bytes()].concat();
        let row = |text: u8| [&3u32.to_le_bytes()[..], &[1, 1, text]].concat();
        let mut found = written(&mut rows);
        found.sort();
        let expected = [
            (key(7, 0), Some([row(b'a'), row(b'c')].concat())),
            (key(8, 1), Some(row(b'b'))),
        ];
        assert_eq!(found, expected);
        assert!(written(&mut rows).is_empty());
        assert_eq!(rows.next_sequence(), 3);
    }

    #[test]
    fn an_incomplete_key_takes_its_other_rows_from_the_store() {
        let mut rows = rows(Identity::Sequence);
        rows.restore(10, []);
        let mut resolved = Resolved::default();
        rows.resolve(&[integers(&[7])], 1, &mut resolved, true).unwrap();
        let slot = resolved.slots[0];
        let (missing, prefixes) = rows.missing(&resolved).unwrap().unwrap();
        assert_eq!((missing.keys(), prefixes.len()), (1, 1));
        let encoded = rows.encode(&[strings(&[Some("new")])], 1).unwrap();
        rows.insert(slot, encoded.row(0), 0).unwrap();
        // The new row has been written meanwhile, and is found together with one that was not in memory.
        let mut stored = StoredRows::default();
        for (number, text) in [(4u64, "old"), (10, "new")] {
            let row = rows.encode(&[strings(&[Some(text)])], 1).unwrap();
            stored.keys.push(Some(&number.to_be_bytes()));
            let length = (row.row(0).len() as u32).to_le_bytes();
            stored.values.push(Some(&[&length[..], row.row(0)].concat()));
        }
        rows.load(&missing, &[stored]).unwrap();
        assert!(rows.missing(&resolved).unwrap().is_none());
        let columns = rows.decode(rows.entries(slot).collect::<Vec<_>>()).unwrap();
        let mut found: Vec<&str> = columns[0].as_string::<i32>().iter().flatten().collect();
        found.sort_unstable();
        assert_eq!(found, ["new", "old"]);
        rows.release(&resolved);
    }

    #[test]
    fn entries_are_renumbered_after_an_eviction() {
        let mut rows = rows(Identity::Content);
        let keys: Vec<i64> = (0..5_000).collect();
        let mut resolved = Resolved::default();
        rows.resolve(&[integers(&keys)], keys.len(), &mut resolved, false)
            .unwrap();
        let text: Vec<String> = keys.iter().map(|key| format!("a row of key {key}")).collect();
        let text: ArrayRef = Arc::new(StringArray::from(text));
        let encoded = rows.encode(&[text], keys.len()).unwrap();
        for (row, slot) in resolved.slots.iter().enumerate() {
            rows.add(*slot, encoded.row(row), 1, 0).unwrap();
        }
        rows.release(&resolved);
        assert_eq!(rows.evict(usize::MAX), 0, "changed rows are not evicted");
        assert_eq!(written(&mut rows).len(), keys.len());
        let before = rows.size();
        // The last 500 are changed again, so they stay.
        rows.resolve(&[integers(&keys[4_500..])], 500, &mut resolved, true)
            .unwrap();
        for (row, slot) in resolved.slots.iter().enumerate() {
            rows.add(*slot, encoded.row(4_500 + row), 1, 0).unwrap();
        }
        rows.release(&resolved);
        assert_eq!(rows.evict(usize::MAX), 4_500);
        rows.shrink_if_sparse();
        assert!(rows.size() < before / 2, "{} of {before} bytes", rows.size());
        rows.resolve(&[integers(&keys[4_990..])], 10, &mut resolved, true)
            .unwrap();
        assert!(rows.missing(&resolved).unwrap().is_none());
        for (slot, key) in resolved.slots.iter().zip(4_990..) {
            let entry = rows.first_entry(*slot);
            assert_eq!(rows.weight(entry), 2);
            assert_eq!(rows.bytes(entry), encoded.row(key));
        }
        rows.release(&resolved);
        assert_eq!(written(&mut rows).len(), 500);
    }

    #[test]
    fn only_keys_that_were_written_are_looked_for_in_the_store() {
        let mut rows = rows(Identity::Sequence);
        let mut resolved = Resolved::default();
        rows.resolve(&[integers(&[1, 2])], 2, &mut resolved, false).unwrap();
        let encoded = rows.encode(&[strings(&[Some("a"), Some("b")])], 2).unwrap();
        for (row, slot) in resolved.slots.iter().enumerate() {
            rows.insert(*slot, encoded.row(row), 0).unwrap();
        }
        rows.release(&resolved);
        assert_eq!(written(&mut rows).len(), 2);
        assert_eq!(rows.evict(usize::MAX), 2);
        rows.resolve(&[integers(&[1, 2, 3, 4])], 4, &mut resolved, true)
            .unwrap();
        let (missing, prefixes) = rows.missing(&resolved).unwrap().unwrap();
        assert_eq!((missing.keys(), prefixes.len()), (2, 2));
        rows.load(&missing, &[StoredRows::default(), StoredRows::default()])
            .unwrap();
        assert!(rows.missing(&resolved).unwrap().is_none());
        rows.release(&resolved);
    }

    #[test]
    fn rows_expire_with_their_last_generation() {
        let mut rows = Rows::new(RowsOptions {
            keys: vec![DataType::Int64],
            values: vec![DataType::Int64],
            collection: 3,
            max_parallelism: MAX_PARALLELISM,
            identity: Identity::Content,
            is_expiring: true,
        })
        .unwrap();
        let mut resolved = Resolved::default();
        let values: Vec<i64> = (0..100).collect();
        let encoded = rows.encode(&[integers(&values)], 100).unwrap();
        let mut last: BTreeMap<usize, u32> = BTreeMap::new();
        for step in 0..5_000_usize {
            rows.resolve(&[integers(&[step as i64 % 7])], 1, &mut resolved, false)
                .unwrap();
            // Row 7k + r belongs to the key r. Some are removed again; others move to another generation.
            let row = step % 7 + 7 * (step * step % 13);
            let generation = (step / 50 + row % 3) as u32;
            let weight = if last.contains_key(&row) && step % 5 == 0 {
                -1
            } else {
                1
            };
            let entry = rows
                .add(resolved.slots[0], encoded.row(row), weight, generation)
                .unwrap()
                .0;
            match rows.weight(entry) {
                0 => last.remove(&row),
                _ => last.insert(row, generation),
            };
            rows.release(&resolved);
            if step % 50 == 49 {
                let end = (step / 50) as u32;
                let mut seen = Vec::new();
                rows.expire(
                    |generation| generation < end,
                    |rows, entry| seen.push(rows.bytes(entry).to_vec()),
                );
                rows.forget_empty_keys();
                let expired = last.extract_if(.., |_, generation| *generation < end);
                let mut expected: Vec<_> = expired.map(|(row, _)| encoded.row(row).to_vec()).collect();
                seen.sort();
                expected.sort();
                assert_eq!(seen, expected, "step {step}");
            }
        }
    }

    #[test]
    fn expired_rows_leave_no_keys_in_memory() {
        let mut rows = Rows::new(RowsOptions {
            keys: vec![DataType::Int64],
            values: vec![DataType::Utf8],
            collection: 3,
            max_parallelism: MAX_PARALLELISM,
            identity: Identity::Sequence,
            is_expiring: true,
        })
        .unwrap();
        let mut resolved = Resolved::default();
        rows.resolve(&[integers(&[1, 2, 2])], 3, &mut resolved, false).unwrap();
        let encoded = rows.encode(&[strings(&[Some("a"), Some("b"), Some("c")])], 3).unwrap();
        for (row, generation) in [(0, 1), (1, 1), (2, 2)] {
            rows.insert(resolved.slots[row], encoded.row(row), generation).unwrap();
        }
        rows.release(&resolved);
        let mut seen = Vec::new();
        rows.expire(
            |generation| generation == 1,
            |rows, entry| seen.push(rows.bytes(entry).to_vec()),
        );
        assert_eq!(seen, [encoded.row(0), encoded.row(1)]);
        assert_eq!(rows.len(), 2);
        rows.forget_empty_keys();
        assert_eq!(rows.len(), 1);
        rows.resolve(&[integers(&[1, 2])], 2, &mut resolved, false).unwrap();
        let counts = resolved.slots.iter().map(|slot| rows.entries(*slot).count());
        assert_eq!(counts.collect::<Vec<_>>(), [0, 1]);
        rows.release(&resolved);
    }
}
