//! `ORDER BY` in a batch: emits all rows in their order at the end of the input, in one subtask.
//!
//! Rows are encoded with their sort key when they arrive. If memory is short, they are written to the store, whose
//! order is that of their keys; otherwise they are sorted in memory. Rows of equal order leave in the order of their
//! arrival.
//!
//! Key of a row in the store: the sort key, then its number (u64 BE). All rows are in one key group. Value: the
//! columns.

use std::sync::Arc;
use std::task::Waker;

use arrow::datatypes::{DataType, SchemaRef};
use arrow_array::{RecordBatch, RecordBatchOptions};
use millstream_graph::{self as graph, Port};
use millstream_state::Codec;
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::{
    CollectionRead, FlushSource, KeyedPosition, KeyedPrefix, PendingRead, ScannedRows, WriteChunk,
};
use serde::{Deserialize, Serialize};

use super::spill::{MemoryGrant, Spill};
use super::top_n::SortKeys;
use super::{OperatorContext, inline};
use crate::Error;
use crate::operator::{Collector, Operator, Progress, Snapshot};

/// Version of the inline state.
const INLINE_VERSION: u8 = 1;
/// Number of rows that one call emits.
const CALL_ROWS_MAX: usize = 4_096;
/// Number of bytes of a chunk that is written, about.
const CHUNK_BYTES: usize = 1 << 20;
/// Memory that the next batch needs, about.
const HEADROOM_BYTES: usize = 1 << 20;

/// The operator of `ORDER BY`.
pub(super) struct Sort {
    sort_keys: SortKeys,
    codec: Codec,
    output: SchemaRef,
    buffer: Buffer,
    /// Number of the next row.
    number: u64,
    spill: Spill,
    waker: Waker,
    emission: Emission,
}

/// The state of the output.
enum Emission {
    /// The input has not ended.
    Waiting,
    /// The rows are in memory: their order, and the number of those that have been emitted.
    Memory(Vec<u32>, usize),
    /// All rows are being written.
    Writing,
    /// Rows are being read from the store.
    Reading(PendingRead<ScannedRows>),
    /// The next rows are in the store, from this position on.
    Stored(Option<KeyedPosition>),
    Done,
}

/// Encoded rows: the key of each, then its columns.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// End of the key, and end of the row.
    ends: Vec<(usize, usize)>,
}

impl Buffer {
    fn push(&mut self, sort_key: &[u8], number: u64, row: &[u8]) {
        self.bytes.extend_from_slice(sort_key);
        self.bytes.extend_from_slice(&number.to_be_bytes());
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(row);
        self.ends.push((key_end, self.bytes.len()));
    }

    /// Returns the key and the columns of a row.
    fn row(&self, index: usize) -> (&[u8], &[u8]) {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let (key_end, end) = self.ends[index];
        (&self.bytes[start..key_end], &self.bytes[key_end..end])
    }

    fn order(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.ends.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.row(*a as usize).0.cmp(self.row(*b as usize).0));
        order
    }

    /// Returns the memory, with that of the order.
    fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<(usize, usize)>() + self.ends.len() * size_of::<u32>()
    }
}

/// Rows that are written to the store, sorted by the thread that writes them.
struct Run {
    buffer: Buffer,
    order: Option<Vec<u32>>,
    written: usize,
    /// Released when everything is written.
    _reservation: Reservation,
}

impl Run {
    fn new(buffer: Buffer, memory: &MemoryBudget) -> Self {
        let mut reservation = memory.reservation();
        reservation.force_resize(buffer.size());
        Self {
            buffer,
            order: None,
            written: 0,
            _reservation: reservation,
        }
    }
}

impl FlushSource for Run {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, millstream_state::Error> {
        let buffer = &self.buffer;
        let order = self.order.get_or_insert_with(|| buffer.order());
        let mut chunk = WriteChunk::keyed();
        while let Some(index) = order.get(self.written).filter(|_| chunk.bytes() < CHUNK_BYTES) {
            let (key, row) = buffer.row(*index as usize);
            let prefix = KeyedPrefix {
                group: KeyGroup(0),
                collection: 0,
                generation: 0,
                hash: 0,
            };
            chunk.put_keyed(prefix, key, row);
            self.written += 1;
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}

/// State in the manifest.
#[derive(Serialize, Deserialize)]
struct Inline {
    number: u64,
}

impl Sort {
    /// Makes the operator of a node.
    pub(super) fn new(
        node: &graph::Sort,
        input: &SchemaRef,
        output: &SchemaRef,
        context: OperatorContext,
    ) -> Result<Self, Error> {
        let types: Vec<DataType> = input.fields().iter().map(|field| field.data_type().clone()).collect();
        let mut number = 0;
        for state in &context.restored_inline {
            number = number.max(inline::decode::<Inline>(state, INLINE_VERSION)?.number);
        }
        Ok(Self {
            sort_keys: SortKeys::new(&node.order, input)?,
            codec: Codec::values(&types)?,
            output: Arc::clone(output),
            buffer: Buffer::default(),
            number,
            spill: Spill::new(context.store, context.memory, context.waker.clone()),
            waker: context.waker,
            emission: Emission::Waiting,
        })
    }

    /// Returns true if there is memory for the next batch; otherwise the waker is called.
    fn ensure_memory(&mut self) -> Result<bool, Error> {
        if !self.spill.is_ready()? {
            return Ok(false);
        }
        match self.spill.request_memory(self.buffer.size(), HEADROOM_BYTES)? {
            MemoryGrant::Granted => return Ok(true),
            MemoryGrant::Wait => return Ok(false),
            MemoryGrant::Evict => {}
        }
        metrics::counter!("millstream_state_evictions_total").increment(1);
        self.write()?;
        self.spill.wait_for_store();
        self.spill.is_ready()
    }

    /// Queues the writing of the rows in memory.
    fn write(&mut self) -> Result<(), Error> {
        let buffer = std::mem::take(&mut self.buffer);
        self.spill.shrink_to(0);
        if !buffer.ends.is_empty() {
            let run = Run::new(buffer, &self.spill.memory);
            self.spill.store.write(Box::new(run), None)?;
        }
        Ok(())
    }

    fn emit<'a>(&self, rows: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut dyn Collector) -> Result<(), Error> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        if rows.len() == 0 {
            return Ok(());
        }
        let columns = self.codec.decode(rows)?;
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)?;
        out.emit(Port::Main, batch);
        Ok(())
    }

    fn advance(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        match std::mem::replace(&mut self.emission, Emission::Done) {
            Emission::Waiting => {
                self.emission = Emission::Waiting;
                Ok(match self.ensure_memory()? {
                    true => Progress::Done,
                    false => Progress::Pending,
                })
            }
            Emission::Memory(order, emitted) => {
                let end = order.len().min(emitted + CALL_ROWS_MAX);
                let rows = order[emitted..end].iter();
                self.emit(rows.map(|index| self.buffer.row(*index as usize).1), out)?;
                if end == order.len() {
                    self.buffer = Buffer::default();
                    self.spill.shrink_to(0);
                    return Ok(Progress::Done);
                }
                self.emission = Emission::Memory(order, end);
                Ok(Progress::More)
            }
            Emission::Writing => {
                if !self.spill.is_ready()? {
                    self.emission = Emission::Writing;
                    return Ok(Progress::Pending);
                }
                self.emission = Emission::Stored(None);
                Ok(Progress::More)
            }
            Emission::Stored(from) => {
                let read = CollectionRead {
                    collection: 0,
                    generation: None,
                    from,
                    rows_max: CALL_ROWS_MAX,
                };
                let read = self.spill.store.read_collection(read, &self.waker)?;
                self.emission = Emission::Reading(read);
                Ok(Progress::More)
            }
            Emission::Reading(read) => {
                let Some(found) = read.take() else {
                    self.emission = Emission::Reading(read);
                    return Ok(Progress::Pending);
                };
                let (found, next) = found?;
                let rows: Vec<&[u8]> = (0..found.values.len()).filter_map(|at| found.values.get(at)).collect();
                self.emit(rows.into_iter(), out)?;
                if next.is_none() {
                    return Ok(Progress::Done);
                }
                self.emission = Emission::Stored(next);
                Ok(Progress::More)
            }
            Emission::Done => Ok(Progress::Done),
        }
    }
}

impl Operator for Sort {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let sort_keys = self.sort_keys.encode(&batch)?;
        let rows = self.codec.encode(batch.columns())?;
        for row in 0..batch.num_rows() {
            self.buffer.push(sort_keys.value(row), self.number, rows.row(row));
            self.number += 1;
        }
        self.advance(out)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.advance(out)
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        self.write()?;
        let inline = Inline { number: self.number };
        self.spill.snapshot(checkpoint, &inline, INLINE_VERSION)
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.emission = match self.spill.store.may_have_rows() {
            true => {
                self.write()?;
                self.spill.wait_for_store();
                Emission::Writing
            }
            false => Emission::Memory(self.buffer.order(), 0),
        };
        self.advance(out)
    }
}

#[cfg(test)]
mod tests;
