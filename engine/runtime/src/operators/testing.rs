//! Tools for the tests of operators: a collector that stores its batches, batches from literals, rows as text.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use arrow_array::RecordBatch;
use millstream_graph::Port;
use millstream_state::key_group::{KeyGroup, KeyGroupRange};
use millstream_state::memory::MemoryBudget;
use millstream_state::store::{Backend, BackendOptions, Store};
use proptest::test_runner::Config as ProptestConfig;

use super::{OperatorContext, mutants};
use crate::Error;
use crate::operator::{Collector, Operator, Progress};

/// A collector that stores all batches.
#[derive(Default)]
pub(super) struct Emitted {
    pub main: Vec<RecordBatch>,
    pub late: Vec<RecordBatch>,
    pub dead_letters: Vec<RecordBatch>,
    pub bad_rows: u64,
}

impl Collector for Emitted {
    fn count_bad(&mut self, rows: u64) {
        self.bad_rows += rows;
    }

    fn emit(&mut self, port: Port, batch: RecordBatch) {
        assert!(batch.num_rows() > 0, "empty batches are never emitted");
        match port {
            Port::Main => self.main.push(batch),
            Port::Late(_) => self.late.push(batch),
            Port::DeadLetters => self.dead_letters.push(batch),
        }
    }
}

/// Resumes an operator until its call is done.
pub(super) fn settle(
    operator: &mut dyn Operator,
    mut progress: Progress,
    out: &mut dyn Collector,
) -> Result<(), Error> {
    loop {
        match progress {
            Progress::Done => return Ok(()),
            Progress::More => {}
            Progress::Pending => std::thread::yield_now(),
        }
        progress = operator.resume(out)?;
    }
}

pub(super) fn timestamps(times: &[Option<i64>]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(times.to_vec()))
}

pub(super) fn integers(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

/// Returns rows as comma-separated text, sorted. Timestamps are in microseconds, NULL is empty.
pub(super) fn rows_of(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = batch
                .columns()
                .iter()
                .map(|column| match column.data_type() {
                    _ if column.is_null(row) => String::new(),
                    DataType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
                    _ => array_value_to_string(column, row).unwrap(),
                })
                .collect();
            rows.push(cells.join(","));
        }
    }
    rows.sort();
    rows
}

/// Asserts that a call is done.
#[track_caller]
pub(super) fn settled(progress: Result<Progress, Error>) {
    assert_eq!(progress.expect("the call succeeds"), Progress::Done);
}

/// Returns the backend for all tests of the process, and the folder of its stores.
fn backend() -> &'static (Backend, PathBuf) {
    static BACKEND: OnceLock<(Backend, PathBuf)> = OnceLock::new();
    BACKEND.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a folder for the tests").keep();
        let backend = Backend::new(BackendOptions {
            dir: dir.clone(),
            memory_bytes: 64 << 20,
            process_gauge: None,
            background_threads: 1,
        })
        .expect("a backend for the tests");
        (backend, dir.join("stores"))
    })
}

/// Returns a store name that no other test uses.
fn store_name() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("test{}x", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            // No thread that has read a database ends before the process does.
            .thread_keep_alive(Duration::from_secs(3_600))
            .build()
            .expect("a runtime for the tests")
    })
}

pub(super) const MAX_PARALLELISM: u16 = 16;

/// Makes a context with an empty store and this memory budget.
pub(super) fn context(memory_bytes: usize) -> OperatorContext {
    let key_groups = KeyGroupRange::of_subtask(MAX_PARALLELISM, 1, 0);
    let store = backend().0.store(&store_name(), key_groups);
    context_of(0, 1, memory_bytes, store, Vec::new())
}

fn context_of(
    subtask: usize,
    parallelism: usize,
    memory_bytes: usize,
    store: Store,
    restored_inline: Vec<Vec<u8>>,
) -> OperatorContext {
    OperatorContext {
        max_parallelism: MAX_PARALLELISM,
        key_groups: KeyGroupRange::of_subtask(MAX_PARALLELISM, parallelism, subtask),
        store,
        restored_inline,
        memory: MemoryBudget::new(memory_bytes),
        waker: Waker::noop().clone(),
        holds_back: false,
    }
}

/// Least number of cases in which a mutant must be detected.
const MUTANT_CASES_MIN: u32 = 400;

/// Returns the settings of a property test with this number of cases. With a mutant, the first failure ends it.
pub(super) fn proptest_config(cases: u32) -> ProptestConfig {
    let config = ProptestConfig::with_cases(cases);
    match mutants::active() {
        None => config,
        Some(_) => ProptestConfig {
            cases: cases.max(MUTANT_CASES_MIN),
            max_shrink_iters: 0,
            failure_persistence: None,
            ..config
        },
    }
}

/// Runs a test that reads stores on a thread of its own, which has ended, including the destructors of its
/// thread-locals, when this returns. RocksDB's destructors must not run while the process exits.
pub(super) fn on_own_thread<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    let mutant = mutants::active();
    std::thread::scope(|scope| {
        scope
            .spawn(|| mutants::with(mutant, test))
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// All subtasks of one operator. Rows are routed by key; a restore may change the parallelism.
pub(super) struct Subtasks<'a> {
    make: &'a dyn Fn(OperatorContext) -> Box<dyn Operator>,
    /// The key column of each input.
    keys: Vec<usize>,
    memory_bytes: usize,
    name: String,
    operators: Vec<Box<dyn Operator>>,
    pub out: Emitted,
}

impl<'a> Subtasks<'a> {
    pub(super) fn new(
        make: &'a dyn Fn(OperatorContext) -> Box<dyn Operator>,
        keys: &[usize],
        memory_bytes: usize,
    ) -> Self {
        let name = store_name();
        let store = backend()
            .0
            .store(&name, KeyGroupRange::of_subtask(MAX_PARALLELISM, 1, 0));
        Self {
            make,
            keys: keys.to_vec(),
            memory_bytes,
            name,
            operators: vec![make(context_of(0, 1, memory_bytes, store, Vec::new()))],
            out: Emitted::default(),
        }
    }

    pub(super) fn process(&mut self, input: usize, batch: &RecordBatch) {
        let mut hashes = Vec::new();
        millstream_state::hash_columns(&[Arc::clone(batch.column(self.keys[input]))], &mut hashes).unwrap();
        let parallelism = self.operators.len();
        for (subtask, operator) in self.operators.iter_mut().enumerate() {
            let mine: Vec<u32> = (0..batch.num_rows() as u32)
                .filter(|row| {
                    let group = KeyGroup::of_hash(hashes[*row as usize], MAX_PARALLELISM);
                    KeyGroupRange::owner(MAX_PARALLELISM, parallelism, group) == subtask
                })
                .collect();
            if mine.is_empty() {
                continue;
            }
            let rows = arrow_select::take::take_record_batch(batch, &arrow::array::UInt32Array::from(mine)).unwrap();
            let progress = operator.process(input, rows, &mut self.out).unwrap();
            settle(operator.as_mut(), progress, &mut self.out).unwrap();
        }
    }

    /// Advances processing time. It does not go back at a restore.
    pub(super) fn time(&mut self, now: i64) {
        for operator in &mut self.operators {
            let progress = operator.on_time(now, &mut self.out).unwrap();
            settle(operator.as_mut(), progress, &mut self.out).unwrap();
        }
    }

    pub(super) fn watermark(&mut self, watermark: i64) {
        for operator in &mut self.operators {
            let progress = operator.on_watermark(watermark, &mut self.out).unwrap();
            settle(operator.as_mut(), progress, &mut self.out).unwrap();
        }
    }

    pub(super) fn input_end(&mut self, input: usize) {
        for operator in &mut self.operators {
            let progress = operator.on_input_end(input, &mut self.out).unwrap();
            settle(operator.as_mut(), progress, &mut self.out).unwrap();
        }
    }

    /// Takes a snapshot. If `restore_at` is given, restores it at that parallelism.
    pub(super) fn snapshot(&mut self, restore_at: Option<usize>) {
        static CHECKPOINT: AtomicU64 = AtomicU64::new(1);
        let mut inline = Vec::new();
        let mut keyed = Vec::new();
        let checkpoint = CHECKPOINT.fetch_add(1, Ordering::Relaxed);
        for operator in &mut self.operators {
            let snapshot = operator.snapshot(checkpoint).unwrap();
            inline.push(snapshot.inline);
            if let Some(ticket) = snapshot.keyed {
                keyed.push(runtime().block_on(ticket.finished).unwrap());
            }
        }
        let Some(parallelism) = restore_at else {
            return;
        };
        self.operators = (0..parallelism)
            .map(|subtask| {
                let key_groups = KeyGroupRange::of_subtask(MAX_PARALLELISM, parallelism, subtask);
                let store = runtime()
                    .block_on(backend().0.restore(&self.name, key_groups, &keyed))
                    .unwrap();
                (self.make)(context_of(
                    subtask,
                    parallelism,
                    self.memory_bytes,
                    store,
                    inline.clone(),
                ))
            })
            .collect();
    }
}

impl Drop for Subtasks<'_> {
    /// Waits until the databases are closed, because the process must not exit while one of them works.
    fn drop(&mut self) {
        self.operators.clear();
        let deadline = Instant::now() + Duration::from_secs(30);
        let is_open = || {
            std::fs::read_dir(&backend().1).is_ok_and(|mut folders| {
                folders
                    .any(|folder| folder.is_ok_and(|folder| folder.file_name().to_string_lossy().ends_with(&self.name)))
            })
        };
        while is_open() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}
