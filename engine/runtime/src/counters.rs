//! Counters of a running job: plain atomics per operator and source split, cheap enough to update once per batch.
//!
//! Tasks update them from their slot threads; the status line reads [`JobProgress`]; a background task publishes the
//! same numbers through the `metrics` facade ([`JobCounters::publish`]), so the hot path never looks up a metric.

mod publish;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use millstream_graph::{JobGraph, Operator, OperatorId};
use parking_lot::Mutex;

use crate::chain::parallelism_of;
use crate::operator::{Timestamp, WATERMARK_MAX, WATERMARK_MIN};

/// Stands for the lag of a split whose source does not know it.
const LAG_UNKNOWN: u64 = u64::MAX;

/// The kind of an operator, which decides which of its counters count for the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its input counts as the input of the job.
    Source,
    /// It counts for itself only.
    Operator,
    /// Its output counts as the output of the job.
    Sink,
}

/// Counters of one subtask of one operator.
#[derive(Debug)]
pub struct OperatorCounters {
    /// The operator.
    pub operator: OperatorId,
    /// Its subtask.
    pub subtask: usize,
    /// The kind of the operator.
    pub kind: Kind,
    /// Number of rows processed.
    pub rows_in: AtomicU64,
    /// Number of rows emitted.
    pub rows_out: AtomicU64,
    /// Bytes of the rows processed; of a source, bytes read.
    pub bytes_in: AtomicU64,
    /// Bytes of the rows emitted; of a sink, bytes written.
    pub bytes_out: AtomicU64,
    /// Nanoseconds spent inside the operator.
    pub busy_ns: AtomicU64,
    /// Microseconds of back-pressure: the task waited for credit of its output channels.
    pub blocked_us: AtomicU64,
    /// Number of late events.
    pub late_rows: AtomicU64,
    /// Number of rows emitted as dead letters.
    pub dead_letters: AtomicU64,
    /// Number of records that did not decode, and of rows that an expression failed for or that did not encode,
    /// whatever the error policy.
    pub bad_rows: AtomicU64,
    /// Number of rows too far ahead of the clock to advance the watermark.
    pub future_rows: AtomicU64,
    /// Microseconds between the first and the last barrier of checkpoints, summed.
    pub alignment_us: AtomicU64,
    /// Nanoseconds of the slot thread that cutting checkpoints took, summed.
    pub checkpoint_pause_ns: AtomicU64,
    /// Number of changes that were held back until a consistency point.
    pub held_back_rows: AtomicU64,
    /// The watermark that the operator has processed, the final one left out.
    pub watermark: AtomicI64,
    /// True once the final watermark was processed.
    pub is_complete: AtomicBool,
    /// The values published so far, in the order of [`publish::metrics`].
    published: [AtomicU64; publish::METRICS],
}

impl OperatorCounters {
    /// Makes counters that are zero.
    pub fn new(operator: OperatorId, subtask: usize, kind: Kind) -> Self {
        Self {
            operator,
            subtask,
            kind,
            rows_in: AtomicU64::new(0),
            rows_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
            blocked_us: AtomicU64::new(0),
            late_rows: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            bad_rows: AtomicU64::new(0),
            future_rows: AtomicU64::new(0),
            alignment_us: AtomicU64::new(0),
            checkpoint_pause_ns: AtomicU64::new(0),
            held_back_rows: AtomicU64::new(0),
            watermark: AtomicI64::new(WATERMARK_MIN),
            is_complete: AtomicBool::new(false),
            published: Default::default(),
        }
    }

    pub(crate) fn set_watermark(&self, watermark: Timestamp) {
        match watermark {
            WATERMARK_MAX => self.is_complete.store(true, Ordering::Relaxed),
            watermark => self.watermark.store(watermark, Ordering::Relaxed),
        }
    }
}

/// Adds to a counter that only its own slot thread writes, without a locked instruction.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Watermark and lag of one source split.
#[derive(Debug)]
pub struct SplitCounters {
    /// The source.
    pub source: OperatorId,
    /// Id of the split.
    pub split: Arc<str>,
    /// Watermark of the split.
    pub watermark: AtomicI64,
    lag: AtomicU64,
    /// True once a lag was published.
    lag_is_published: AtomicBool,
}

impl SplitCounters {
    pub(crate) fn set_lag(&self, lag: Option<u64>) {
        self.lag.store(lag.unwrap_or(LAG_UNKNOWN), Ordering::Relaxed);
    }

    /// Returns the number of records that wait to be read, if the source knows it.
    pub fn lag(&self) -> Option<u64> {
        Some(self.lag.load(Ordering::Relaxed)).filter(|lag| *lag != LAG_UNKNOWN)
    }
}

/// All counters of a running job.
#[derive(Debug, Default)]
pub struct JobCounters {
    /// Name of the job.
    pub job: String,
    /// Counters of the subtasks of all operators.
    pub operators: Vec<Arc<OperatorCounters>>,
    /// The longest pause of one task for one checkpoint.
    checkpoint_pause_ns_max: AtomicU64,
    /// Number of publications so far.
    published: AtomicU64,
    splits: Mutex<Vec<Arc<SplitCounters>>>,
    /// True once the tasks have ended. Written and read under the lock of `splits`, so that no older value is published
    /// after the end.
    ended: AtomicBool,
}

/// The numbers of a job at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobProgress {
    /// Number of rows that sources have decoded.
    pub rows_in: u64,
    /// Bytes that sources have read.
    pub bytes_in: u64,
    /// Number of rows that sinks have written.
    pub rows_out: u64,
    /// Bytes that sinks have encoded.
    pub bytes_out: u64,
    /// Number of late events.
    pub late_rows: u64,
    /// Number of dead letters.
    pub dead_letters: u64,
    /// Number of bad rows; see [`OperatorCounters::bad_rows`].
    pub bad_rows: u64,
    /// Number of rows too far ahead of the clock to advance a watermark.
    pub future_rows: u64,
    /// The watermark that all sinks have reached that have not ended; `None` before the first.
    pub watermark: Option<Timestamp>,
    /// True once all sinks have processed the end of their input.
    pub is_complete: bool,
    /// The longest pause of one task for one checkpoint.
    pub checkpoint_pause_max: Duration,
    /// The sum of the pauses of all tasks for all checkpoints.
    pub checkpoint_pause_sum: Duration,
    /// Number of records that wait to be read, of the sources that know it.
    pub lag: Option<u64>,
}

impl JobProgress {
    /// Adds the progress of a later attempt: counts are added up, everything else is that of the later attempt.
    pub fn add_attempt(&mut self, later: &JobProgress) {
        let Self {
            rows_in,
            bytes_in,
            rows_out,
            bytes_out,
            late_rows,
            dead_letters,
            bad_rows,
            future_rows,
            watermark,
            is_complete,
            checkpoint_pause_max,
            checkpoint_pause_sum,
            lag,
        } = self;
        *rows_in += later.rows_in;
        *bytes_in += later.bytes_in;
        *rows_out += later.rows_out;
        *bytes_out += later.bytes_out;
        *late_rows += later.late_rows;
        *dead_letters += later.dead_letters;
        *bad_rows += later.bad_rows;
        *future_rows += later.future_rows;
        *watermark = later.watermark;
        *is_complete = later.is_complete;
        *checkpoint_pause_max = later.checkpoint_pause_max.max(*checkpoint_pause_max);
        *checkpoint_pause_sum += later.checkpoint_pause_sum;
        *lag = later.lag;
    }
}

impl JobCounters {
    /// Makes the counters of a job from those of its subtasks.
    pub fn new(job: String, operators: Vec<Arc<OperatorCounters>>) -> Self {
        Self {
            job,
            operators,
            checkpoint_pause_ns_max: AtomicU64::new(0),
            published: AtomicU64::new(0),
            splits: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    /// Returns counters for the subtasks of a graph for which `is_wanted` returns true.
    pub fn of_subtasks(job: String, graph: &JobGraph, parallelism: usize, is_wanted: impl Fn(usize) -> bool) -> Self {
        let mut operators = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            let kind = match node.operator {
                Operator::Source(_) => Kind::Source,
                Operator::Sink(_) => Kind::Sink,
                _ => Kind::Operator,
            };
            let subtasks = 0..parallelism_of(graph, index, parallelism);
            for subtask in subtasks.filter(|subtask| is_wanted(*subtask)) {
                operators.push(Arc::new(OperatorCounters::new(node.id.clone(), subtask, kind)));
            }
        }
        Self::new(job, operators)
    }

    /// Returns the counters of the subtasks that are restarted, and counters for all subtasks from now on, in which
    /// those are zero. Splits keep their watermark and lag until they are read again.
    pub fn restart_subtasks(&self, is_restarted: impl Fn(usize) -> bool) -> (Self, Self) {
        let restarted = self.operators.iter().filter(|counters| is_restarted(counters.subtask));
        let before = Self::new(self.job.clone(), restarted.cloned().collect());
        let renew = |counters: &Arc<OperatorCounters>| match is_restarted(counters.subtask) {
            true => Arc::new(OperatorCounters::new(
                counters.operator.clone(),
                counters.subtask,
                counters.kind,
            )),
            false => Arc::clone(counters),
        };
        let now = Self::new(self.job.clone(), self.operators.iter().map(renew).collect());
        now.checkpoint_paused(self.checkpoint_pause_ns_max.load(Ordering::Relaxed));
        now.splits.lock().extend(self.splits());
        (before, now)
    }

    /// Makes counters for a split that was assigned to a subtask.
    pub(crate) fn split(&self, source: &OperatorId, split: &Arc<str>) -> Arc<SplitCounters> {
        let counters = Arc::new(SplitCounters {
            source: source.clone(),
            split: Arc::clone(split),
            watermark: AtomicI64::new(WATERMARK_MIN),
            lag: AtomicU64::new(LAG_UNKNOWN),
            lag_is_published: AtomicBool::new(false),
        });
        self.splits.lock().push(Arc::clone(&counters));
        counters
    }

    /// Records that one checkpoint paused one task for `pause_ns` nanoseconds in all.
    pub(crate) fn checkpoint_paused(&self, pause_ns: u64) {
        self.checkpoint_pause_ns_max.fetch_max(pause_ns, Ordering::Relaxed);
    }

    /// Returns the counters of all splits assigned so far.
    pub fn splits(&self) -> Vec<Arc<SplitCounters>> {
        self.splits.lock().clone()
    }

    /// Returns the numbers of the job as of now.
    pub fn progress(&self) -> JobProgress {
        let mut progress = JobProgress {
            is_complete: true,
            checkpoint_pause_max: Duration::from_nanos(self.checkpoint_pause_ns_max.load(Ordering::Relaxed)),
            ..JobProgress::default()
        };
        let (mut waiting, mut complete) = (Timestamp::MAX, WATERMARK_MIN);
        for counters in &self.operators {
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            match counters.kind {
                Kind::Source => {
                    progress.rows_in += read(&counters.rows_in);
                    progress.bytes_in += read(&counters.bytes_in);
                }
                Kind::Sink => {
                    progress.rows_out += read(&counters.rows_out);
                    progress.bytes_out += read(&counters.bytes_out);
                    let watermark = counters.watermark.load(Ordering::Relaxed);
                    if counters.is_complete.load(Ordering::Relaxed) {
                        complete = complete.max(watermark);
                    } else {
                        progress.is_complete = false;
                        waiting = waiting.min(watermark);
                    }
                }
                Kind::Operator => {}
            }
            progress.checkpoint_pause_sum += Duration::from_nanos(read(&counters.checkpoint_pause_ns));
            progress.late_rows += read(&counters.late_rows);
            progress.dead_letters += read(&counters.dead_letters);
            progress.bad_rows += read(&counters.bad_rows);
            progress.future_rows += read(&counters.future_rows);
        }
        let watermark = if progress.is_complete { complete } else { waiting };
        progress.watermark = Some(watermark).filter(|watermark| *watermark != WATERMARK_MIN);
        progress.lag = self
            .splits
            .lock()
            .iter()
            .filter_map(|split| split.lag())
            .reduce(|all, lag| all + lag);
        progress
    }
}

/// The counters of a job in one process, to be sent to another process.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    operators: Vec<OperatorSample>,
    splits: Vec<SplitSample>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct OperatorSample {
    operator: String,
    subtask: usize,
    /// In the order of [`OperatorCounters::numbers`].
    numbers: [u64; 11],
    watermark: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct SplitSample {
    source: String,
    split: String,
    watermark: Timestamp,
    lag: Option<u64>,
}

impl OperatorCounters {
    fn numbers(&self) -> [&AtomicU64; 11] {
        [
            &self.rows_in,
            &self.rows_out,
            &self.bytes_in,
            &self.bytes_out,
            &self.busy_ns,
            &self.blocked_us,
            &self.late_rows,
            &self.dead_letters,
            &self.bad_rows,
            &self.future_rows,
            &self.alignment_us,
        ]
    }
}

impl JobCounters {
    /// Returns the counters as of now, to be sent to another process.
    pub fn sample(&self) -> Sample {
        let operators = self.operators.iter().map(|counters| OperatorSample {
            operator: counters.operator.0.clone(),
            subtask: counters.subtask,
            numbers: counters.numbers().map(|number| number.load(Ordering::Relaxed)),
            watermark: counters.watermark.load(Ordering::Relaxed),
        });
        let splits = self.splits();
        let splits = splits.iter().map(|split| SplitSample {
            source: split.source.0.clone(),
            split: split.split.to_string(),
            watermark: split.watermark.load(Ordering::Relaxed),
            lag: split.lag(),
        });
        Sample {
            operators: operators.collect(),
            splits: splits.collect(),
        }
    }

    /// Sets the counters of the subtasks and splits in a sample from another process.
    pub fn apply(&self, sample: &Sample) {
        let key =
            |counters: &Arc<OperatorCounters>| ((counters.operator.0.clone(), counters.subtask), counters.clone());
        let operators: HashMap<_, _> = self.operators.iter().map(key).collect();
        for new in &sample.operators {
            let Some(counters) = operators.get(&(new.operator.clone(), new.subtask)) else {
                continue;
            };
            for (number, value) in counters.numbers().into_iter().zip(new.numbers) {
                number.store(value, Ordering::Relaxed);
            }
            counters.watermark.store(new.watermark, Ordering::Relaxed);
        }
        let key = |split: Arc<SplitCounters>| ((split.source.0.clone(), split.split.to_string()), split);
        let mut splits: HashMap<_, _> = self.splits().into_iter().map(key).collect();
        for new in &sample.splits {
            let split = splits
                .entry((new.source.clone(), new.split.clone()))
                .or_insert_with(|| self.split(&OperatorId(new.source.clone()), &new.split.as_str().into()));
            split.watermark.store(new.watermark, Ordering::Relaxed);
            split.set_lag(new.lag);
        }
    }
}
