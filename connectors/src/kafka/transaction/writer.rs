//! Gathers an epoch's records into parts, on the slot thread; full parts go to the checkpoint storage meanwhile.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::epoch::{EPOCH_FILES_MAX, Epoch, INLINE_BYTES_MAX, MarkerPlace, PART_BYTES_MAX, Pending, push_record};
use super::publisher::RecentParts;
use crate::clock::now_us;
use crate::kafka::sink::rows::RowEncoder;
use crate::{Committable, Error, OutputFile, OutputStorage, SinkWriter, WriterContext};

/// Parts on their way to the storage at a time; above it the writer says that it is not ready.
const PARTS_IN_FLIGHT_MAX: usize = 4;

/// What an epoch's output is to be published as.
#[derive(Debug, Clone)]
pub struct Label {
    pub transactional_id: String,
    pub topic: String,
    pub markers: MarkerPlace,
}

pub struct EpochWriter {
    rows: RowEncoder,
    label: Label,
    attempt: String,
    /// The part being made.
    part: Vec<u8>,
    /// Records of the present epoch.
    records: u64,
    /// The present epoch's full parts, in order.
    writes: Vec<Write>,
    storing: Arc<Storing>,
    runtime: tokio::runtime::Handle,
}

type Write = JoinHandle<Result<OutputFile, Error>>;

/// What the writer and its parts on their way both know.
struct Storing {
    storage: Arc<dyn OutputStorage>,
    recent: Arc<RecentParts>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    in_flight: usize,
    blocked: Option<Waker>,
    failure: Option<String>,
}

impl Storing {
    async fn store(&self, part: Bytes) -> Result<OutputFile, Error> {
        let stored = self.storage.write(part.clone()).await;
        let waker = {
            let mut state = self.state.lock();
            state.in_flight -= 1;
            if let Err(error) = &stored {
                state.failure.get_or_insert(error.to_string());
            }
            state.blocked.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        let file = stored?;
        self.recent.keep(&file, part);
        Ok(file)
    }
}

impl EpochWriter {
    pub fn new(rows: RowEncoder, label: Label, context: WriterContext, recent: Arc<RecentParts>) -> Self {
        Self {
            rows,
            label,
            attempt: context.job.attempt,
            part: Vec::new(),
            records: 0,
            writes: Vec::new(),
            storing: Arc::new(Storing {
                storage: context.storage,
                recent,
                state: Mutex::new(State::default()),
            }),
            runtime: context.runtime,
        }
    }

    /// Sends the part being made to the storage.
    fn store_part(&mut self) {
        let part = Bytes::from(std::mem::take(&mut self.part));
        self.storing.state.lock().in_flight += 1;
        let storing = self.storing.clone();
        self.writes
            .push(self.runtime.spawn(async move { storing.store(part).await }));
    }
}

impl SinkWriter for EpochWriter {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.storing.state.lock();
        if let Some(failure) = &state.failure {
            return Poll::Ready(Err(Error::Unavailable(failure.clone())));
        }
        if state.in_flight < PARTS_IN_FLIGHT_MAX {
            return Poll::Ready(Ok(()));
        }
        state.blocked = Some(context.waker().clone());
        Poll::Pending
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<u64, Error> {
        if self.writes.len() >= EPOCH_FILES_MAX {
            return Err(Error::Invalid(format!(
                "Kafka topic `{}`: more than {EPOCH_FILES_MAX} parts of {PART_BYTES_MAX} bytes since the last checkpoint \
                 (EPOCH_FILES_MAX): under exactly-once delivery, take checkpoints more often",
                self.label.topic
            )));
        }
        self.rows.encode(rows)?;
        let part = &mut self.part;
        self.rows.each_record(rows, |record| push_record(part, record))?;
        self.records += self.rows.len() as u64;
        if self.part.len() >= PART_BYTES_MAX {
            self.store_part();
        }
        Ok(self.rows.value_bytes() + self.rows.key_bytes())
    }

    fn prepare(&mut self, checkpoint: u64, _last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>> {
        if self.records == 0 {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        if self.part.len() > INLINE_BYTES_MAX {
            self.store_part();
        }
        let epoch = Epoch {
            transactional_id: self.label.transactional_id.clone(),
            attempt: self.attempt.clone(),
            checkpoint,
            prepared_ms: now_us() / 1_000,
            topic: self.label.topic.clone(),
            markers: self.label.markers.clone(),
            records: std::mem::take(&mut self.records),
            inline: std::mem::take(&mut self.part),
        };
        let writes = std::mem::take(&mut self.writes);
        Box::pin(async move {
            let mut files = Vec::with_capacity(writes.len());
            for write in writes {
                let written = write.await;
                files.push(written.map_err(|error| Error::Unavailable(format!("a part was not written: {error}")))??);
            }
            Ok(vec![Pending { epoch, files }.encode()?])
        })
    }
}
