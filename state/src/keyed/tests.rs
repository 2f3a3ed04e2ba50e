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
use crate::store::StoredValues;
use crate::store::{Backend, BackendOptions, Store};

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
        let pending = self.store.read(wanted, Waker::noop()).unwrap();
        let found = loop {
            match pending.take() {
                Some(found) => break found.unwrap(),
                None => std::thread::yield_now(),
            }
        };
        self.table.load(&resolved.unknown, &found).unwrap();
        resolved
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
                let (mut found_keys, mut values) = (StoredValues::default(), StoredValues::default());
                position = part
                    .store
                    .scan_keyed(7, position, 100, &mut |key, value| {
                        found_keys.push(Some(key));
                        values.push(Some(value));
                    })
                    .unwrap();
                let mut scratch = new_table();
                scanned += scratch.load_scanned(&found_keys, &values).unwrap().len();
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
