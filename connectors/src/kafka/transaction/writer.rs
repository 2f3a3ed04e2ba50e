//! The writer of exactly-once delivery: collects the records of an epoch in parts, and writes full parts to the
//! checkpoint storage. With a buffer ([`UpsertBuffer`]), records are added to a part when it is full and at each
//! checkpoint.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::epoch::{
    EPOCH_FILES_MAX, Epoch, INLINE_BYTES_MAX, MarkerPartition, PART_BYTES_MAX, PendingEpoch, push_record,
};
use super::recent_parts::RecentParts;
use crate::clock::now_us;
use crate::kafka::record_encoder::RecordEncoder;
use crate::kafka::upsert_buffer::{BufferOptions, UpsertBuffer};
use crate::{Committable, Error, OutputFile, OutputStorage, SinkWriter, WriterContext};

/// Number of parts being written at which the writer applies backpressure.
const PARTS_IN_FLIGHT_MAX: usize = 4;

/// The target of an epoch's output.
#[derive(Debug, Clone)]
pub struct EpochTarget {
    /// Transactional id to publish under.
    pub transactional_id: String,
    /// Topic of the records.
    pub topic: String,
    /// Partition of the markers.
    pub markers: MarkerPartition,
}

/// The writer of a subtask under exactly-once delivery.
pub struct ExactlyOnceWriter {
    rows: RecordEncoder,
    target: EpochTarget,
    buffer: Option<UpsertBuffer>,
    attempt: String,
    /// Part under construction.
    part: Vec<u8>,
    /// Number of records of the present epoch.
    records: u64,
    /// Writes of the full parts of the present epoch, in order.
    writes: Vec<PartWrite>,
    uploads: Arc<PartUploads>,
    runtime: tokio::runtime::Handle,
}

type PartWrite = JoinHandle<Result<OutputFile, Error>>;

/// The state shared by the writer and the writes of its parts.
struct PartUploads {
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

impl PartUploads {
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
        self.recent.insert(&file, part);
        Ok(file)
    }
}

impl ExactlyOnceWriter {
    /// Creates a writer without records.
    pub fn new(
        rows: RecordEncoder,
        target: EpochTarget,
        buffer: Option<BufferOptions>,
        context: WriterContext,
        recent: Arc<RecentParts>,
    ) -> Self {
        Self {
            rows,
            target,
            buffer: buffer.map(UpsertBuffer::new),
            attempt: context.job.attempt,
            part: Vec::new(),
            records: 0,
            writes: Vec::new(),
            uploads: Arc::new(PartUploads {
                storage: context.storage,
                recent,
                state: Mutex::new(State::default()),
            }),
            runtime: context.runtime,
        }
    }

    /// Adds the records of the present batch to the part under construction, or to the buffer.
    fn add_records(&mut self) -> Result<(), Error> {
        let Some(buffer) = &mut self.buffer else {
            let part = &mut self.part;
            self.rows.each_record(|record| push_record(part, record))?;
            self.records += self.rows.len() as u64;
            return Ok(());
        };
        self.rows.each_record(|record| {
            buffer.insert(record);
            Ok(())
        })?;
        match buffer.is_full() {
            true => self.flush_buffer(),
            false => Ok(()),
        }
    }

    /// Adds the records of the buffer to parts.
    fn flush_buffer(&mut self) -> Result<(), Error> {
        let Some(mut buffer) = self.buffer.take() else {
            return Ok(());
        };
        for record in buffer.records() {
            push_record(&mut self.part, &record)?;
            if self.part.len() >= PART_BYTES_MAX {
                self.store_part();
            }
        }
        self.records += buffer.len() as u64;
        buffer.clear();
        self.buffer = Some(buffer);
        Ok(())
    }

    /// Starts to write the part under construction to the storage.
    fn store_part(&mut self) {
        let part = Bytes::from(std::mem::take(&mut self.part));
        self.uploads.state.lock().in_flight += 1;
        let uploads = self.uploads.clone();
        self.writes
            .push(self.runtime.spawn(async move { uploads.store(part).await }));
    }
}

impl SinkWriter for ExactlyOnceWriter {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.uploads.state.lock();
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
                self.target.topic
            )));
        }
        self.rows.encode(rows)?;
        self.add_records()?;
        if self.part.len() >= PART_BYTES_MAX {
            self.store_part();
        }
        Ok(self.rows.value_bytes() + self.rows.key_bytes())
    }

    fn prepare(&mut self, checkpoint: u64, _last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>> {
        if let Err(error) = self.flush_buffer() {
            return Box::pin(std::future::ready(Err(error)));
        }
        if self.records == 0 {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        if self.part.len() > INLINE_BYTES_MAX {
            self.store_part();
        }
        let epoch = Epoch {
            transactional_id: self.target.transactional_id.clone(),
            attempt: self.attempt.clone(),
            checkpoint,
            prepared_ms: now_us() / 1_000,
            topic: self.target.topic.clone(),
            markers: self.target.markers.clone(),
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
            Ok(vec![PendingEpoch { epoch, files }.encode()?])
        })
    }
}
