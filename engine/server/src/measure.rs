//! The metrics recorder: installed only where somebody can read it (`--http`); without it the facade costs nothing. What
//! each metric means stands here, in one place, and goes out as its `# HELP`.
//!
//! A process outlives the jobs it works for. What is said of one of them is forgotten once nobody has said it again for
//! [`IDLE_MAX`]; whoever speaks of something that is still there repeats itself more often than that, changed or not. What
//! is said of the process as a whole lasts as long as the process.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::MetricKindMask;

/// Labels that name what a process outlives.
const PASSING: [&str; 2] = ["job", "store"];
/// What has not been said for so long is over.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// How often histograms are drained, which would grow if nobody scrapes them.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// What is over goes when somebody looks; if nobody else does, this looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Every metric of the engine, in the order of their names. Counters end in `_total`.
#[rustfmt::skip]
const HELP: [(&str, &str); 48] = [
    ("millstream_absent_column_records_total", "Records without a declared column that no record before them had either."),
    ("millstream_alignment_microseconds_total", "Time between the first and the last barrier of checkpoints."),
    ("millstream_api_call_seconds", "How long calls of the client API took."),
    ("millstream_api_calls_total", "Calls of the client API, by surface, call and code."),
    ("millstream_bad_rows_total", "Records that did not decode, rows that an expression failed for or that did not encode."),
    ("millstream_blocked_microseconds_total", "Time that operators waited for room behind them."),
    ("millstream_build_info", "1, with the version as a label."),
    ("millstream_busy_microseconds_total", "Time spent inside operators."),
    ("millstream_bytes_in_total", "Bytes that sources have read."),
    ("millstream_bytes_out_total", "Bytes that sinks have encoded."),
    ("millstream_checkpoint_age_seconds", "How long ago the last checkpoint was known to say all there was to say."),
    ("millstream_checkpoint_duration_seconds", "How long the last checkpoint took, publishing included."),
    ("millstream_checkpoint_in_flight_bytes", "Rows in the last checkpoint that its barriers have overtaken."),
    ("millstream_checkpoint_pause_microseconds_total", "Time of slots that cutting checkpoints took."),
    ("millstream_checkpoint_pause_seconds_max", "The longest time for which one checkpoint has held up one task."),
    ("millstream_checkpoint_state_bytes", "Keyed state that the last checkpoint refers to."),
    ("millstream_checkpoints_failed", "Checkpoints of the job that have failed."),
    ("millstream_checkpoints_total", "Checkpoints that are complete and published."),
    ("millstream_checkpoints_unaligned", "Checkpoints whose barriers have overtaken rows."),
    ("millstream_checkpoints_unchanged_total", "Checkpoints that would have said the same as the one before."),
    ("millstream_dead_letters_total", "Rows that went to the dead letters."),
    ("millstream_future_rows_total", "Rows too far ahead of the clock to advance the watermark."),
    ("millstream_ignored_fields_total", "Fields that did not decode and became NULL."),
    ("millstream_ignored_records_total", "Records that did not decode and were left out."),
    ("millstream_job_slots", "Slots that the job has."),
    ("millstream_job_state", "1 for the state that the job is in."),
    ("millstream_kafka_tombstones_total", "Kafka records without a value."),
    ("millstream_late_rows_total", "Rows that came after their window had fired."),
    ("millstream_leading", "1 while this coordinator leads."),
    ("millstream_restarts", "Restarts of the job."),
    ("millstream_rocksdb_block_cache_bytes", "Blocks of state that are held in memory."),
    ("millstream_rocksdb_memtable_bytes", "Written state that is not in a file yet."),
    ("millstream_rocksdb_pending_compaction_bytes", "Files of state that wait to be compacted."),
    ("millstream_rocksdb_sst_bytes", "Files of state on the local disk."),
    ("millstream_rows_in_total", "Rows that operators have taken; of sources, delivered."),
    ("millstream_rows_out_total", "Rows that operators have put out; of sinks, written."),
    ("millstream_slots", "Slots that ready workers offer."),
    ("millstream_slots_used", "Slots that jobs have."),
    ("millstream_spans_lost_total", "Spans that could not be sent to the collector."),
    ("millstream_split_lag_records", "Records of a split that wait to be read, where the source knows."),
    ("millstream_split_watermark_seconds", "The watermark of a split, seconds since 1970."),
    ("millstream_state_bytes", "Keyed state in databases of this process."),
    ("millstream_state_evictions_total", "Parts of state that were written out to make room in memory."),
    ("millstream_state_memory_limit_bytes", "Memory that state in memory may take."),
    ("millstream_state_memory_used_bytes", "Memory that state in memory takes."),
    ("millstream_state_restored_bytes_total", "State that was fetched for a restore."),
    ("millstream_state_uploaded_bytes_total", "State that was uploaded for checkpoints."),
    ("millstream_workers", "Workers that are ready."),
];

/// Installs the process's recorder.
pub fn install() -> Result<Recorded, String> {
    let recorder = Recording::new(IDLE_MAX);
    let recorded = recorder.recorded();
    metrics::set_global_recorder(recorder).map_err(|error| format!("metrics cannot be recorded: {error}"))?;
    describe();
    metrics::gauge!("millstream_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    tokio::spawn(recorded.clone().keep_up());
    Ok(recorded)
}

fn describe() {
    for (name, help) in HELP {
        match name {
            "millstream_api_call_seconds" => metrics::describe_histogram!(name, help),
            counter if counter.ends_with("_total") => metrics::describe_counter!(counter, help),
            gauge => metrics::describe_gauge!(gauge, help),
        }
    }
}

/// Reads what was recorded. Cheap to clone.
#[derive(Clone)]
pub struct Recorded {
    lasting: PrometheusHandle,
    passing: PrometheusHandle,
}

impl Recorded {
    /// In Prometheus's text format.
    pub fn render(&self) -> String {
        let mut text = self.lasting.render();
        text.push_str(&self.passing.render());
        text
    }

    async fn keep_up(self) {
        let mut since_look = Duration::ZERO;
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            self.lasting.run_upkeep();
            self.passing.run_upkeep();
            since_look += UPKEEP_INTERVAL;
            if since_look >= LOOK_INTERVAL {
                since_look = Duration::ZERO;
                self.passing.render();
            }
        }
    }
}

/// Records what lasts and what passes apart. No metric is both: its labels decide.
struct Recording {
    lasting: PrometheusRecorder,
    passing: PrometheusRecorder,
}

impl Recording {
    fn new(idle_max: Duration) -> Self {
        let passing = PrometheusBuilder::new().idle_timeout(MetricKindMask::ALL, Some(idle_max));
        Self {
            lasting: PrometheusBuilder::new().build_recorder(),
            passing: passing.build_recorder(),
        }
    }

    fn recorded(&self) -> Recorded {
        Recorded {
            lasting: self.lasting.handle(),
            passing: self.passing.handle(),
        }
    }

    fn of(&self, key: &Key) -> &PrometheusRecorder {
        match key.labels().any(|label| PASSING.contains(&label.key())) {
            true => &self.passing,
            false => &self.lasting,
        }
    }
}

impl Recorder for Recording {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.lasting.describe_counter(name.clone(), unit, text.clone());
        self.passing.describe_counter(name, unit, text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.lasting.describe_gauge(name.clone(), unit, text.clone());
        self.passing.describe_gauge(name, unit, text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.lasting.describe_histogram(name.clone(), unit, text.clone());
        self.passing.describe_histogram(name, unit, text);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.of(key).register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.of(key).register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.of(key).register_histogram(key, metadata)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    /// The names of metrics in Rust files below a folder.
    fn names_below(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                names_below(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let quoted = text
                    .split('"')
                    .filter(|part| part.starts_with("millstream_") && !part.ends_with('_'));
                let names_of = quoted.filter(|part| part.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()));
                names.extend(names_of.map(String::from));
            }
        }
    }

    #[test]
    fn every_metric_says_what_it_means() {
        let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut used = BTreeSet::new();
        for folder in [
            "cluster/src",
            "planner/src",
            "runtime/src",
            "server/src",
            "../connectors/src",
            "../state/src",
        ] {
            names_below(&engine.join(folder), &mut used);
        }
        let described: BTreeSet<String> = HELP.iter().map(|(name, _)| (*name).to_string()).collect();
        assert_eq!(used, described);
    }

    #[test]
    fn help_goes_out_with_the_numbers() {
        let recorder = Recording::new(IDLE_MAX);
        metrics::with_local_recorder(&recorder, || {
            describe();
            metrics::gauge!("millstream_workers").set(2.0);
            metrics::gauge!("millstream_restarts", "job" => "toll").set(1.0);
        });
        let text = recorder.recorded().render();
        for line in [
            "# HELP millstream_workers Workers that are ready.",
            "millstream_workers 2",
            "# HELP millstream_restarts Restarts of the job.",
            "millstream_restarts{job=\"toll\"} 1",
        ] {
            assert_eq!(text.lines().filter(|there| *there == line).count(), 1, "{line}: {text}");
        }
    }

    #[test]
    fn what_nobody_says_of_a_job_any_more_is_forgotten() {
        let recorder = Recording::new(Duration::from_millis(20));
        let recorded = recorder.recorded();
        let deadline = Instant::now() + Duration::from_secs(30);
        metrics::with_local_recorder(&recorder, || {
            metrics::gauge!("millstream_workers").set(2.0);
            metrics::counter!("millstream_rows_in_total", "job" => "deleted").increment(1);
            loop {
                metrics::counter!("millstream_rows_in_total", "job" => "there").increment(0);
                let text = recorded.render();
                assert!(
                    text.contains("job=\"there\"") && text.contains("millstream_workers 2"),
                    "{text}"
                );
                if !text.contains("deleted") {
                    break;
                }
                assert!(Instant::now() < deadline, "{text}");
            }
        });
    }
}
