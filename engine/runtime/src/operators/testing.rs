//! What the operators' tests share: a collector that keeps what it hears, batches from literals, rows as text.

use std::sync::Arc;
use std::task::Waker;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use arrow_array::RecordBatch;
use millstream_planner::graph::Port;
use millstream_state::key_group::KeyGroupRange;
use millstream_state::memory::MemoryBudget;
use millstream_state::store::{Backend, BackendOptions};

use crate::Error;
use crate::operator::{Collector, Operator, Progress};

/// Keeps everything.
#[derive(Default)]
pub struct Emitted {
    pub main: Vec<RecordBatch>,
    pub late: Vec<RecordBatch>,
    pub dead_letters: Vec<RecordBatch>,
}

impl Collector for Emitted {
    fn emit(&mut self, port: Port, batch: RecordBatch) {
        assert!(batch.num_rows() > 0, "empty batches are never emitted");
        match port {
            Port::Main => self.main.push(batch),
            Port::Late => self.late.push(batch),
            Port::DeadLetters => self.dead_letters.push(batch),
        }
    }
}

/// Calls `resume` until the operator is through.
pub fn settle(operator: &mut dyn Operator, mut progress: Progress, out: &mut dyn Collector) -> Result<(), Error> {
    loop {
        match progress {
            Progress::Done => return Ok(()),
            Progress::More => {}
            Progress::Pending => std::thread::yield_now(),
        }
        progress = operator.resume(out)?;
    }
}

pub fn timestamps(times: &[Option<i64>]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(times.to_vec()))
}

pub fn integers(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

/// Rows as comma-separated text, sorted; timestamps in microseconds, NULL as nothing.
pub fn rows_of(batches: &[RecordBatch]) -> Vec<String> {
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

/// A context with this budget for all hot state, and a store in a folder of its own.
pub fn context(memory_bytes: usize) -> super::OperatorContext {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let backend = Backend::new(BackendOptions {
        dir: dir.keep(),
        memory_bytes: 64 << 20,
        background_threads: 1,
    })
    .expect("a backend for the test");
    let key_groups = KeyGroupRange { start: 0, end: 128 };
    super::OperatorContext {
        subtask: 0,
        parallelism: 1,
        max_parallelism: 128,
        key_groups,
        store: backend.store("test-0", key_groups),
        restored_inline: Vec::new(),
        memory: MemoryBudget::new(memory_bytes),
        waker: Waker::noop().clone(),
    }
}
