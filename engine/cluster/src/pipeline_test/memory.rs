//! Sources and sinks in memory: a source delivers what its [`Inbox`] is given, a sink keeps what is written.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures::future::BoxFuture;
use millstream_connectors::changelog::is_changelog;
use millstream_connectors::{
    Boundedness, Committable, Delivery, Error, JobIdentity, ReaderContext, Sink, SinkWriter, Source, SourceBatch,
    SourceEvent, SourceReader, Split, WriterContext,
};
use parking_lot::Mutex;

use super::rows::Given;

/// Id of the only split of a source.
pub(super) const SPLIT: &str = "test";

/// The input that a source delivers next.
#[derive(Default)]
pub(super) struct Inbox(Mutex<State>);

#[derive(Default)]
struct State {
    given: VecDeque<Given>,
    has_ended: bool,
    waker: Option<Waker>,
}

impl Inbox {
    pub(super) fn push(&self, given: Given) {
        let mut state = self.0.lock();
        state.given.push_back(given);
        state.wake();
    }

    pub(super) fn end(&self) {
        let mut state = self.0.lock();
        state.has_ended = true;
        state.wake();
    }
}

impl State {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// A source of one split.
pub(super) struct MemorySource {
    pub schema: SchemaRef,
    pub inbox: Arc<Inbox>,
    /// True if the source is read as a batch.
    pub batch: bool,
}

#[async_trait]
impl Source for MemorySource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn boundedness(&self) -> Boundedness {
        match self.batch {
            true => Boundedness::Bounded,
            false => Boundedness::Unbounded,
        }
    }

    /// The split is assigned by the deployment.
    async fn splits(&self) -> Result<Vec<Split>, Error> {
        Ok(Vec::new())
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error> {
        self.inbox.0.lock().waker = Some(context.waker);
        Ok(Box::new(Reader {
            inbox: Arc::clone(&self.inbox),
            projection: context.projection,
            is_caught_up: true,
            is_finished: false,
        }))
    }
}

struct Reader {
    inbox: Arc<Inbox>,
    projection: Option<Vec<usize>>,
    /// True once it is reported that the split was read up to its end.
    is_caught_up: bool,
    /// True once it is reported that the split has ended.
    is_finished: bool,
}

impl Reader {
    /// Returns the requested columns, and the kinds of changes.
    fn project(&self, rows: RecordBatch) -> Result<RecordBatch, Error> {
        let Some(projection) = &self.projection else {
            return Ok(rows);
        };
        let mut columns = projection.clone();
        if is_changelog(rows.schema_ref()) {
            columns.push(rows.num_columns() - 1);
        }
        Ok(rows.project(&columns)?)
    }
}

impl SourceReader for Reader {
    fn add_splits(&mut self, _splits: Vec<Split>) -> Result<(), Error> {
        Ok(())
    }

    fn no_more_splits(&mut self) {}

    fn poll(&mut self) -> Result<SourceEvent, Error> {
        let mut state = self.inbox.0.lock();
        if let Some(given) = state.given.pop_front() {
            drop(state);
            self.is_caught_up = false;
            return Ok(SourceEvent::Batch(SourceBatch {
                split: Arc::from(SPLIT),
                rows: self.project(given.rows)?,
                rejected: given.rejected,
                bytes: 0,
                lag: None,
            }));
        }
        if state.has_ended {
            return Ok(match std::mem::replace(&mut self.is_finished, true) {
                false => SourceEvent::SplitFinished {
                    split: Arc::from(SPLIT),
                },
                true => SourceEvent::End,
            });
        }
        Ok(match std::mem::replace(&mut self.is_caught_up, true) {
            false => SourceEvent::CaughtUp {
                split: Arc::from(SPLIT),
            },
            true => SourceEvent::Pending,
        })
    }

    fn snapshot(&mut self) -> Result<Vec<Split>, Error> {
        Ok(Vec::new())
    }
}

/// A sink that keeps all rows.
#[derive(Default)]
pub(super) struct MemorySink(Arc<Mutex<Vec<RecordBatch>>>);

impl MemorySink {
    /// Returns the rows that were written.
    pub(super) fn take(&self) -> Vec<RecordBatch> {
        std::mem::take(&mut *self.0.lock())
    }
}

#[async_trait]
impl Sink for MemorySink {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    async fn start(&self, _job: &JobIdentity) -> Result<(), Error> {
        Ok(())
    }

    fn writer(&self, _context: WriterContext) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(Writer(Arc::clone(&self.0))))
    }

    async fn commit(&self, _committables: Vec<Committable>) -> Result<(), Error> {
        Ok(())
    }
}

struct Writer(Arc<Mutex<Vec<RecordBatch>>>);

impl SinkWriter for Writer {
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<u64, Error> {
        self.0.lock().push(rows.clone());
        Ok(0)
    }

    fn prepare(&mut self, _checkpoint: u64, _last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
