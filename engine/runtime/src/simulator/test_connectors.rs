//! Sources and sinks for tests: a source of numbered rows, and a sink that collects their numbers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arrow::array::{AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow_array::RecordBatch;
use futures::future::BoxFuture;
use millstream_connectors::sink::{Delivery, Sink, SinkWriter, WriterContext};
use millstream_connectors::source::{ReaderContext, Source, SourceBatch, SourceEvent, SourceReader};
use millstream_connectors::{Boundedness, Committable, Error, JobIdentity, Split};
use parking_lot::Mutex;

use super::random::Random;

/// Returns the schema of all rows: columns `id`, `key`, `ts`.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("key", DataType::Int64, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]))
}

/// A source with splits of `rows` rows each. The id of a row is `split * 1_000_000 + index`. Batches have random sizes,
/// and pauses are random.
pub(super) struct NumberSource {
    pub first_split: u64,
    pub splits: u64,
    pub rows: u64,
    pub seed: u64,
}

pub(super) fn rows(split: u64, from: u64, to: u64) -> RecordBatch {
    let ids: Vec<i64> = (from..to).map(|row| (split * 1_000_000 + row) as i64).collect();
    let keys: Vec<i64> = ids.iter().map(|id| id % 13).collect();
    let times: Vec<i64> = (from..to).map(|row| row as i64 * 1_000).collect();
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(Int64Array::from(ids)),
            Arc::new(Int64Array::from(keys)),
            Arc::new(TimestampMicrosecondArray::from(times)),
        ],
    )
    .expect("three columns")
}

#[async_trait::async_trait]
impl Source for NumberSource {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    async fn splits(&self) -> Result<Vec<Split>, Error> {
        Ok((self.first_split..self.first_split + self.splits)
            .map(|split| Split {
                id: split.to_string(),
                position: 0u64.to_le_bytes().to_vec(),
                weight: self.rows,
                finished: false,
            })
            .collect())
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error> {
        Ok(Box::new(NumberReader {
            open: VecDeque::new(),
            all: BTreeMap::new(),
            rows: self.rows,
            no_more: false,
            random: Random(self.seed ^ context.subtask as u64),
            waker: context.waker,
        }))
    }
}

struct NumberReader {
    open: VecDeque<u64>,
    all: BTreeMap<u64, u64>,
    rows: u64,
    no_more: bool,
    random: Random,
    waker: Waker,
}

impl SourceReader for NumberReader {
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error> {
        for split in splits {
            let number = split.id.parse().expect("a number");
            let position = u64::from_le_bytes(split.position.try_into().expect("eight bytes"));
            self.open.push_back(number);
            self.all.insert(number, position);
        }
        self.waker.wake_by_ref();
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more = true;
        self.waker.wake_by_ref();
    }

    fn poll(&mut self) -> Result<SourceEvent, Error> {
        if self.open.is_empty() {
            return Ok(if self.no_more {
                SourceEvent::End
            } else {
                SourceEvent::Pending
            });
        }
        if self.random.below(5) == 0 {
            self.waker.wake_by_ref();
            return Ok(SourceEvent::Pending);
        }
        let turn = self.random.below(self.open.len() as u64) as usize;
        let split = self.open[turn];
        let position = self.all[&split];
        if position == self.rows {
            self.open.remove(turn);
            return Ok(SourceEvent::SplitFinished {
                split: Arc::from(split.to_string()),
            });
        }
        let end = (position + 1 + self.random.below(40)).min(self.rows);
        self.all.insert(split, end);
        Ok(SourceEvent::Batch(SourceBatch {
            split: Arc::from(split.to_string()),
            rows: rows(split, position, end),
            rejected: Vec::new(),
            bytes: 0,
            lag: None,
        }))
    }

    fn snapshot(&mut self) -> Result<Vec<Split>, Error> {
        Ok(self
            .all
            .iter()
            .map(|(split, position)| Split {
                id: split.to_string(),
                position: position.to_le_bytes().to_vec(),
                weight: self.rows,
                finished: *position == self.rows && !self.open.contains(split),
            })
            .collect())
    }
}

/// Blocks the writers of a sink while it is closed.
#[derive(Default)]
pub(super) struct Gate(Mutex<Closed>);

#[derive(Default)]
struct Closed {
    is_closed: bool,
    waiting: Vec<Waker>,
}

impl Gate {
    pub(super) fn close(&self) {
        self.0.lock().is_closed = true;
    }

    pub(super) fn open(&self) {
        let mut closed = self.0.lock();
        closed.is_closed = false;
        closed.waiting.drain(..).for_each(Waker::wake);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.lock().is_closed
    }

    fn is_open_or_wait(&self, waker: &Waker) -> bool {
        let mut closed = self.0.lock();
        if closed.is_closed {
            closed.waiting.push(waker.clone());
        }
        !closed.is_closed
    }
}

/// A sink that collects the ids of rows. Those written before a barrier are the committable of that checkpoint.
#[derive(Default)]
pub(super) struct CollectingSink {
    /// Seed of the random moments at which writers are not ready.
    pub seed: u64,
    /// All ids that were written, for tests without checkpoints.
    pub written: Arc<Mutex<Vec<i64>>>,
    /// Id at which the writer panics.
    pub panic_at: Option<i64>,
    pub gate: Arc<Gate>,
}

#[async_trait::async_trait]
impl Sink for CollectingSink {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    async fn start(&self, _job: &JobIdentity) -> Result<(), Error> {
        Ok(())
    }

    fn writer(&self, context: WriterContext) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(CollectingWriter {
            epoch: Vec::new(),
            written: Arc::clone(&self.written),
            panic_at: self.panic_at,
            gate: Arc::clone(&self.gate),
            random: Random(self.seed ^ context.subtask as u64),
        }))
    }

    async fn commit(&self, _committables: Vec<Committable>) -> Result<(), Error> {
        Ok(())
    }
}

struct CollectingWriter {
    epoch: Vec<i64>,
    written: Arc<Mutex<Vec<i64>>>,
    panic_at: Option<i64>,
    gate: Arc<Gate>,
    random: Random,
}

impl SinkWriter for CollectingWriter {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.random.below(4) == 0 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !self.gate.is_open_or_wait(context.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<u64, Error> {
        let ids = rows.column(0).as_primitive::<Int64Type>().values();
        assert!(
            !self.panic_at.is_some_and(|panic_at| ids.contains(&panic_at)),
            "the id to panic at was written"
        );
        self.epoch.extend(ids);
        self.written.lock().extend(ids);
        Ok(rows.num_rows() as u64)
    }

    fn prepare(&mut self, checkpoint: u64, _last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>> {
        // The checkpoint's number distinguishes equal rows that were prepared for different checkpoints.
        let mut bytes = checkpoint.to_le_bytes().to_vec();
        bytes.extend(std::mem::take(&mut self.epoch).iter().flat_map(|id| id.to_le_bytes()));
        Box::pin(async move { Ok(vec![Committable::new(bytes)]) })
    }
}

pub(super) fn ids_of(committable: &Committable) -> Vec<i64> {
    let ids = committable.content.chunks_exact(8).skip(1);
    ids.map(|id| i64::from_le_bytes(id.try_into().expect("eight bytes")))
        .collect()
}
