//! A rate-limited source: option `scan.rate-limit`, in rows per second over all subtasks.
//!
//! It wraps the source of any connector, for replays that must not overload downstream systems. After a batch of `n`
//! rows the next batch is due `n / rate` seconds later. The small batches that are due within one round are delivered
//! together, so that the slot is not woken for each of them. A slow consumer never causes a burst of more than one
//! round.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_schema::SchemaRef;
use async_trait::async_trait;

use crate::source::{Boundedness, ReaderContext, Source, SourceEvent, SourceReader, Split};
use crate::{Error, InputFields, Outage};

/// Name of the option.
pub const OPTION: &str = "scan.rate-limit";

/// Target number of batches per second and subtask: enough for an even flow, few enough for a small overhead.
const BATCHES_PER_SECOND: f64 = 20.0;
/// Duration of a round.
const ROUND: Duration = Duration::from_millis(50);

/// A source whose readers deliver no more than a number of rows per second.
pub struct RateLimited {
    inner: Arc<dyn Source>,
    rows_per_second: f64,
}

impl RateLimited {
    /// Limits a source. `rows_per_second` must be positive.
    pub fn new(inner: Arc<dyn Source>, rows_per_second: f64) -> Self {
        Self { inner, rows_per_second }
    }
}

#[async_trait]
impl Source for RateLimited {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn boundedness(&self) -> Boundedness {
        self.inner.boundedness()
    }

    fn resume(&self) {
        self.inner.resume();
    }

    async fn splits(&self) -> Result<Vec<Split>, Error> {
        self.inner.splits().await
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.inner.discovery_interval()
    }

    fn splits_are_ordered(&self) -> bool {
        self.inner.splits_are_ordered()
    }

    fn has_changed(&self, read: &Split, found: &Split) -> bool {
        self.inner.has_changed(read, found)
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error> {
        let rate = self.rows_per_second / context.parallelism.max(1) as f64;
        let batch_rows = ((rate / BATCHES_PER_SECOND) as usize).clamp(1, context.batch_rows_max);
        let reader = RateLimitedReader {
            seconds_per_row: rate.recip(),
            due: Instant::now(),
            round_end: Instant::now(),
            wait: None,
            inner: self.inner.reader(ReaderContext {
                batch_rows_max: batch_rows,
                ..context
            })?,
        };
        Ok(Box::new(reader))
    }

    fn outage(&self) -> Option<Outage> {
        self.inner.outage()
    }

    fn input_fields(&self) -> Option<InputFields> {
        self.inner.input_fields()
    }

    async fn checkpoint_completed(&self, splits: &[Split]) -> Result<(), Error> {
        self.inner.checkpoint_completed(splits).await
    }
}

struct RateLimitedReader {
    inner: Box<dyn SourceReader>,
    seconds_per_row: f64,
    /// Time at which the next batch may be delivered.
    due: Instant,
    /// Time until which batches may be delivered early.
    round_end: Instant,
    /// Time until then as of the last poll.
    wait: Option<Duration>,
}

impl SourceReader for RateLimitedReader {
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error> {
        self.inner.add_splits(splits)
    }

    fn no_more_splits(&mut self) {
        self.inner.no_more_splits();
    }

    fn poll(&mut self) -> Result<SourceEvent, Error> {
        let now = Instant::now();
        self.wait = None;
        if self.due <= now {
            self.round_end = now + ROUND;
        } else if self.due >= self.round_end {
            self.wait = Some(self.due - now);
            return Ok(SourceEvent::Pending);
        }
        let event = self.inner.poll()?;
        if let SourceEvent::Batch(batch) = &event {
            let rows = batch.rows.num_rows() + batch.rejected.len();
            self.due = self.due.max(now) + Duration::from_secs_f64(rows as f64 * self.seconds_per_row);
        }
        Ok(event)
    }

    fn pending_for(&self) -> Option<Duration> {
        self.wait.or_else(|| self.inner.pending_for())
    }

    fn is_deferred(&self, split: &str) -> bool {
        self.inner.is_deferred(split)
    }

    fn snapshot(&mut self) -> Result<Vec<Split>, Error> {
        self.inner.snapshot()
    }
}
