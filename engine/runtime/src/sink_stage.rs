//! The sink of a chain: drives a [`SinkWriter`].
//!
//! While the writer is not ready, the stage is blocked; the writer calls the task's waker. A batch that cannot be
//! encoded is bisected until the failing rows are single, and only these are subject to the sink's error policy. At a
//! barrier the writer prepares its output off the slot thread; the resulting committables are part of the checkpoint.
//!
//! A writer prepares its rows once, but the checkpoint may fail afterwards. So every checkpoint contains all
//! committables that were prepared and not yet confirmed as published: those of a failed checkpoint are in the next
//! one, even if another coordinator leads by then. Committing is idempotent, so a committable may be in several
//! checkpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use arrow_array::RecordBatch;
use futures::future::BoxFuture;
use millstream_connectors::sink::{Committable, SinkWriter};
use millstream_graph::{ErrorPolicy, OperatorId, Port};
use tokio::sync::oneshot;

use crate::Error;
use crate::counters::{OperatorCounters, add};
use crate::dead_letters::{DeadLetter, dead_letters, row_as_json};
use crate::element::{Barrier, batch_bytes};
use crate::operator::{Collector, Timestamp};

/// One subtask of a sink.
pub(crate) struct SinkStage {
    name: OperatorId,
    writer: Box<dyn SinkWriter>,
    on_error: ErrorPolicy,
    waker: Waker,
    /// The committables not yet confirmed, passed from the preparation of one checkpoint to the next.
    unpublished: Option<oneshot::Receiver<Unpublished>>,
    /// The newest checkpoint that is confirmed as published.
    confirmed: Arc<AtomicU64>,
}

/// Committables by the checkpoint they were prepared for, oldest first.
type Unpublished = Vec<(u64, Vec<Committable>)>;

impl SinkStage {
    pub(crate) fn new(name: OperatorId, writer: Box<dyn SinkWriter>, on_error: ErrorPolicy, waker: Waker) -> Self {
        Self {
            name,
            writer,
            on_error,
            waker,
            unpublished: None,
            confirmed: Arc::default(),
        }
    }

    /// Returns true if the writer accepts a batch now. If not, it calls the task's waker when it does.
    pub(crate) fn is_ready(&mut self) -> Result<bool, Error> {
        match self.writer.poll_ready(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(ready) => Ok(ready.map(|()| true)?),
            Poll::Pending => Ok(false),
        }
    }

    /// Writes a batch. Rows that fail are subject to the error policy.
    pub(crate) fn write(
        &mut self,
        batch: &RecordBatch,
        now: Timestamp,
        counters: &OperatorCounters,
        out: &mut dyn Collector,
    ) -> Result<(), Error> {
        add(&counters.rows_in, batch.num_rows() as u64);
        add(&counters.bytes_in, batch_bytes(batch) as u64);
        self.write_rows(batch, now, counters, out)
    }

    fn write_rows(
        &mut self,
        rows: &RecordBatch,
        now: Timestamp,
        counters: &OperatorCounters,
        out: &mut dyn Collector,
    ) -> Result<(), Error> {
        let error = match self.writer.write(rows) {
            Ok(bytes) => {
                add(&counters.rows_out, rows.num_rows() as u64);
                add(&counters.bytes_out, bytes);
                return Ok(());
            }
            Err(error @ millstream_connectors::Error::Data(_)) if self.on_error != ErrorPolicy::Fail => error,
            Err(error) => return Err(error.into()),
        };
        if rows.num_rows() > 1 {
            let half = rows.num_rows() / 2;
            self.write_rows(&rows.slice(0, half), now, counters, out)?;
            return self.write_rows(&rows.slice(half, rows.num_rows() - half), now, counters, out);
        }
        add(&counters.bad_rows, 1);
        if self.on_error == ErrorPolicy::DeadLetter {
            let payload = row_as_json(rows)?;
            let letter = DeadLetter {
                position: None,
                error: &error.to_string(),
                payload: Some(&payload),
            };
            out.emit(
                Port::DeadLetters,
                dead_letters(&self.name.0, now, std::iter::once(letter))?,
            );
        }
        Ok(())
    }

    /// Prepares the rows written since the last barrier. The future returns their committables, and those of earlier
    /// checkpoints that are not confirmed as published.
    pub(crate) fn prepare(
        &mut self,
        barrier: Barrier,
    ) -> BoxFuture<'static, Result<Vec<Committable>, millstream_connectors::Error>> {
        let prepared = self.writer.prepare(barrier.number.checkpoint, barrier.last);
        let (sender, receiver) = oneshot::channel();
        let earlier = self.unpublished.replace(receiver);
        let confirmed = Arc::clone(&self.confirmed);
        Box::pin(async move {
            let committables = prepared.await?;
            let mut unpublished = match earlier {
                None => Vec::new(),
                Some(earlier) => earlier.await.map_err(|_| {
                    millstream_connectors::Error::Unavailable("the rows of an earlier checkpoint were lost".into())
                })?,
            };
            unpublished.retain(|(checkpoint, _)| *checkpoint > confirmed.load(Ordering::Acquire));
            unpublished.push((barrier.number.checkpoint, committables));
            let all = unpublished
                .iter()
                .flat_map(|(_, committables)| committables.iter().cloned());
            let all = all.collect();
            if sender.send(unpublished).is_err() {
                tracing::debug!("the sink ended before another checkpoint");
            }
            Ok(all)
        })
    }

    /// Confirms that the committables up to this checkpoint are published.
    pub(crate) fn confirm(&self, checkpoint: u64) {
        self.confirmed.fetch_max(checkpoint, Ordering::AcqRel);
    }
}
