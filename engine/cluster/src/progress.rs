//! The progress of a running job, for the status line, the log, the summary and the metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_proto::v1::{InputFields, Outage};
use millstream_runtime::counters::JobCounters;
pub use millstream_runtime::counters::JobProgress;
use parking_lot::Mutex;

use crate::{input_fields, outage};

/// A checkpoint that is complete and published.
#[derive(Debug, Clone)]
pub struct CheckpointReport {
    /// Its number.
    pub id: u64,
    /// From the trigger to the last acknowledgement.
    pub acknowledged_in: Duration,
    /// From the trigger to the end of publishing.
    pub took: Duration,
    /// Bytes of keyed state that it refers to.
    pub state_bytes: u64,
    /// Bytes of rows that barriers have overtaken.
    pub in_flight_bytes: u64,
    /// Time of its completion.
    pub at: Instant,
    /// Time at which its content was last known to be current: when it was completed, or later if nothing has changed
    /// since.
    pub current_at: Instant,
}

/// The present state of a job.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The phase.
    pub phase: Phase,
    /// The reason of a restart.
    pub reason: String,
    /// True once the start of the run is known: without `restored_from` it starts without state.
    pub start_is_known: bool,
    /// Number of the checkpoint that this attempt has restored.
    pub restored_from: Option<u64>,
    /// The newest published checkpoint.
    pub last_checkpoint: Option<CheckpointReport>,
    /// Published checkpoints.
    pub checkpoints: u64,
    /// Failed checkpoints.
    pub checkpoints_failed: u64,
    /// Checkpoints that were not stored because nothing had changed.
    pub checkpoints_unchanged: u64,
    /// Checkpoints with rows that barriers have overtaken.
    pub checkpoints_unaligned: u64,
    /// Number of consistency points between checkpoints that have passed.
    pub consistency_points: u64,
    /// The longest time between trigger and last acknowledgement.
    pub acknowledged_in_max: Duration,
    /// Largest keyed state of a checkpoint.
    pub state_bytes_max: u64,
    /// Restarts of the job, or of a region.
    pub restarts: u32,
    /// The present outages of its sources and sinks.
    pub outages: Vec<Outage>,
    /// The fields of the records that the sources of the last attempt have read.
    pub input_fields: Vec<InputFields>,
    /// Rows, bytes, watermarks of each attempt; the last is the current one.
    pub counters: Vec<Arc<JobCounters>>,
    /// Notes for the user, in order, until an observer takes them.
    pub notes: Vec<Note>,
}

/// The phase of a run.
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

/// A message for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    Info(String),
    Warning(String),
}

/// An event for an observer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// The phase has changed; with the reason, for [`Phase::Restarting`].
    Phase(Phase, String),
    /// A message for the user.
    Note(Note),
    /// A checkpoint is complete and published.
    Checkpoint(u64),
    /// The outages have changed.
    Outages,
}

type Observer = Box<dyn Fn(ProgressEvent) + Send + Sync>;

/// The progress of a run, written by the driver and read by observers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Progress(Arc<Inner>);

#[derive(Default)]
struct Inner {
    report: Mutex<Report>,
    observer: Option<Observer>,
}

impl Progress {
    /// Creates a progress that calls an observer at each event. Notes go to the observer and are not stored.
    pub fn with_observer(observer: impl Fn(ProgressEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            report: Mutex::default(),
            observer: Some(Box::new(observer)),
        }))
    }

    /// Returns a copy of the report, without notes.
    pub fn report(&self) -> Report {
        let mut report = self.0.report.lock();
        let notes = std::mem::take(&mut report.notes);
        let copy = report.clone();
        report.notes = notes;
        copy
    }

    /// Reads the report without copying it.
    pub fn with<T>(&self, look: impl FnOnce(&Report) -> T) -> T {
        look(&self.0.report.lock())
    }

    /// Takes the notes that no observer has taken.
    pub fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.0.report.lock().notes)
    }

    /// Changes the report, and passes new events to the observer.
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
        // The observer may read the report.
        drop(report);
        observed.into_iter().for_each(observer);
    }

    /// Adds a note.
    pub(crate) fn info(&self, text: impl Into<String>) {
        self.update(|report| report.note(Note::Info(text.into())));
    }

    /// Adds a warning.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.update(|report| report.note(Note::Warning(text.into())));
    }
}

impl Report {
    /// Returns a warning for each column that no record of its source has.
    pub fn absent_columns(&self) -> Vec<String> {
        self.input_fields.iter().flat_map(input_fields::warnings).collect()
    }

    /// Publishes the metrics of the job as a whole through the `metrics` facade; tasks publish their own.
    pub fn publish(&self, job: &str) {
        let labels = [("job", job.to_string())];
        if let Some(last) = &self.last_checkpoint {
            metrics::gauge!("millstream_checkpoint_age_seconds", &labels).set(last.current_at.elapsed().as_secs_f64());
            metrics::gauge!("millstream_checkpoint_duration_seconds", &labels).set(last.took.as_secs_f64());
            metrics::gauge!("millstream_checkpoint_state_bytes", &labels).set(last.state_bytes as f64);
            metrics::gauge!("millstream_checkpoint_in_flight_bytes", &labels).set(last.in_flight_bytes as f64);
        }
        // Counters exist from the start and as long as the job runs.
        for counter in ["millstream_checkpoints_total", "millstream_checkpoints_unchanged_total"] {
            metrics::counter!(counter, &labels).increment(0);
        }
        metrics::gauge!("millstream_restarts", &labels).set(f64::from(self.restarts));
        metrics::gauge!("millstream_checkpoints_failed", &labels).set(self.checkpoints_failed as f64);
        metrics::gauge!("millstream_checkpoints_unaligned", &labels).set(self.checkpoints_unaligned as f64);
    }

    /// Returns the sum over all attempts: rows that were read again after a restart count again.
    pub fn totals(&self) -> JobProgress {
        let mut all = JobProgress::default();
        for counters in &self.counters {
            all.add_attempt(&counters.progress());
        }
        // A lag reported before an outage is stale.
        if self.outages.iter().any(|outage| outage.kind == outage::SOURCE) {
            all.lag = None;
        }
        all
    }
}

/// Largest number of stored notes.
const NOTES_MAX: usize = 1000;

impl Report {
    fn note(&mut self, note: Note) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }
}
