//! What a running job tells an onlooker: the status line, the log, the summary and the metrics read it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_proto::v1::{InputFields, Outage};
use millstream_runtime::counters::JobCounters;
pub use millstream_runtime::counters::JobProgress as Numbers;
use parking_lot::Mutex;

use crate::{input_fields, outage};

/// A checkpoint that is complete and published.
#[derive(Debug, Clone)]
pub struct CheckpointReport {
    pub id: u64,
    /// From the trigger to the last acknowledgement.
    pub acknowledged_in: Duration,
    /// From the trigger to the end of publishing.
    pub took: Duration,
    /// Keyed state it refers to.
    pub state_bytes: u64,
    /// Rows that barriers have overtaken, which are part of it.
    pub in_flight_bytes: u64,
    pub at: Instant,
    /// When it was last known to say all there is to say: then or later, if nothing has changed since.
    pub current_at: Instant,
}

/// The job as of now.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub phase: Phase,
    /// Why the job is restarting.
    pub reason: String,
    /// The job's checkpoints were looked at: without `restored_from` the run starts from the beginning.
    pub start_is_known: bool,
    /// The checkpoint this attempt started from.
    pub restored_from: Option<u64>,
    pub last_checkpoint: Option<CheckpointReport>,
    pub checkpoints: u64,
    pub checkpoints_failed: u64,
    /// Those that would have said the same as the one before, and were not stored.
    pub checkpoints_unchanged: u64,
    /// Those with rows that barriers have overtaken.
    pub checkpoints_unaligned: u64,
    /// The longest time between trigger and last acknowledgement.
    pub acknowledged_in_max: Duration,
    pub state_bytes_max: u64,
    pub restarts: u32,
    /// What its sources and sinks cannot reach at present.
    pub outages: Vec<Outage>,
    /// The fields of what the sources of the last attempt have read.
    pub input_fields: Vec<InputFields>,
    /// Rows, bytes, watermarks of each attempt; the last is the current one.
    pub counters: Vec<Arc<JobCounters>>,
    /// What the user should be told, in order; taken by the onlooker.
    pub notes: Vec<Note>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    #[default]
    Starting,
    Running,
    Stopping,
    /// Waiting before the next attempt.
    Restarting,
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    Info(String),
    Warning(String),
}

/// What an observer is told when it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// With the reason, for [`Phase::Restarting`].
    Phase(Phase, String),
    Note(Note),
    /// A checkpoint is complete and published.
    Checkpoint(u64),
    /// Something outside can no longer be reached, or can be again.
    Outages,
}

type Observer = Box<dyn Fn(ProgressEvent) + Send + Sync>;

/// Shared between the driver, which writes, and onlookers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Progress(Arc<Inner>);

#[derive(Default)]
struct Inner {
    report: Mutex<Report>,
    observer: Option<Observer>,
}

impl Progress {
    /// With someone who is told what happens instead of having to look; notes go there and are not kept.
    pub fn with_observer(observer: impl Fn(ProgressEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            report: Mutex::default(),
            observer: Some(Box::new(observer)),
        }))
    }

    pub fn report(&self) -> Report {
        let mut report = self.0.report.lock();
        let notes = std::mem::take(&mut report.notes);
        let copy = report.clone();
        report.notes = notes;
        copy
    }

    /// Looks without copying.
    pub fn with<T>(&self, look: impl FnOnce(&Report) -> T) -> T {
        look(&self.0.report.lock())
    }

    pub fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.0.report.lock().notes)
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Report)) {
        let mut report = self.0.report.lock();
        let before = (report.phase, report.checkpoints);
        let reason_before = (report.phase == Phase::Restarting).then(|| report.reason.clone());
        let outages_before = report.outages.clone();
        change(&mut report);
        let Some(observer) = &self.0.observer else { return };
        let mut observed: Vec<ProgressEvent> = std::mem::take(&mut report.notes)
            .into_iter()
            .map(ProgressEvent::Note)
            .collect();
        if report.checkpoints != before.1
            && let Some(checkpoint) = &report.last_checkpoint
        {
            observed.push(ProgressEvent::Checkpoint(checkpoint.id));
        }
        if report.outages != outages_before {
            observed.push(ProgressEvent::Outages);
        }
        let is_new_reason = report.phase == Phase::Restarting && reason_before.as_ref() != Some(&report.reason);
        if report.phase != before.0 || is_new_reason {
            observed.push(ProgressEvent::Phase(report.phase, report.reason.clone()));
        }
        // An observer may look at the report.
        drop(report);
        observed.into_iter().for_each(observer);
    }

    pub(crate) fn info(&self, text: impl Into<String>) {
        self.update(|report| report.note(Note::Info(text.into())));
    }

    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.update(|report| report.note(Note::Warning(text.into())));
    }
}

impl Report {
    /// A sentence for each column that no record of its source had.
    pub fn absent_columns(&self) -> Vec<String> {
        self.input_fields.iter().flat_map(input_fields::warnings).collect()
    }

    /// Publishes what concerns the job as a whole through the `metrics` facade; its tasks publish their own numbers.
    pub fn publish(&self, job: &str) {
        let labels = [("job", job.to_string())];
        if let Some(last) = &self.last_checkpoint {
            metrics::gauge!("millstream_checkpoint_age_seconds", &labels).set(last.current_at.elapsed().as_secs_f64());
            metrics::gauge!("millstream_checkpoint_duration_seconds", &labels).set(last.took.as_secs_f64());
            metrics::gauge!("millstream_checkpoint_state_bytes", &labels).set(last.state_bytes as f64);
            metrics::gauge!("millstream_checkpoint_in_flight_bytes", &labels).set(last.in_flight_bytes as f64);
        }
        // There from the first moment, and for as long as the job runs, whether or not there is a new one.
        for counter in ["millstream_checkpoints_total", "millstream_checkpoints_unchanged_total"] {
            metrics::counter!(counter, &labels).increment(0);
        }
        metrics::gauge!("millstream_restarts", &labels).set(f64::from(self.restarts));
        metrics::gauge!("millstream_checkpoints_failed", &labels).set(self.checkpoints_failed as f64);
        metrics::gauge!("millstream_checkpoints_unaligned", &labels).set(self.checkpoints_unaligned as f64);
    }

    /// All attempts together: rows that were read again after a restart count again.
    pub fn numbers(&self) -> Numbers {
        let mut all = Numbers::default();
        for counters in &self.counters {
            let attempt = counters.progress();
            all.rows_in += attempt.rows_in;
            all.bytes_in += attempt.bytes_in;
            all.rows_out += attempt.rows_out;
            all.bytes_out += attempt.bytes_out;
            all.late_rows += attempt.late_rows;
            all.dead_letters += attempt.dead_letters;
            all.bad_rows += attempt.bad_rows;
            all.future_rows += attempt.future_rows;
            all.watermark = attempt.watermark;
            all.is_complete = attempt.is_complete;
            all.checkpoint_pause_max = all.checkpoint_pause_max.max(attempt.checkpoint_pause_max);
            all.checkpoint_pause_sum += attempt.checkpoint_pause_sum;
            all.lag = attempt.lag;
        }
        // The last that was heard is not how far behind it is.
        if self.outages.iter().any(|outage| outage.kind == outage::SOURCE) {
            all.lag = None;
        }
        all
    }
}

/// Notes nobody has taken yet, at most.
const NOTES_MAX: usize = 1000;

impl Report {
    fn note(&mut self, note: Note) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }
}
