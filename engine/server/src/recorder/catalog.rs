//! The metrics of the engine: names, kinds, labels and meanings. `# HELP` on `/metrics` and `docs/metrics.md` are made
//! from this table; a debug build refuses a metric that is recorded with another name or other labels.

use metrics::Key;

/// Kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The processes that serve a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// Every process.
    Each,
    /// A coordinator, leader or standby.
    Coordinator,
    /// The leading coordinator.
    Leader,
    /// The process that drives the job: the leader, or `engine run`.
    Driver,
    /// The process that runs the tasks: a worker, or `engine run`. Operators of a service count, too (`engine serve`).
    Tasks,
    /// The process that answers requests: `engine serve`.
    Service,
}

/// Description of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "read by the test that generates docs/metrics.md")
    )]
    pub process: Process,
    pub help: &'static str,
}

const JOB: &[&str] = &["job"];
const SUBTASK: &[&str] = &["job", "operator", "subtask"];
const SPLIT: &[&str] = &["job", "source", "split"];

/// Every metric, in the order of their names.
#[rustfmt::skip]
pub const METRICS: [Metric; 56] = [
    metric("millstream_absent_column_records_total", Kind::Counter, &["table", "column"], Process::Tasks, "Records without a declared column that no record before them had either."),
    metric("millstream_access_denied_total", Kind::Counter, &["surface", "reason"], Process::Each, "Requests that were refused for their token, by surface (`grpc`, `rest`, `worker` for registrations, `service`) and reason (`no_token`, `unknown_token`, `expired_token`, `role`, `pipeline`)."),
    metric("millstream_alignment_microseconds_total", Kind::Counter, SUBTASK, Process::Tasks, "Time between the first and the last barrier of checkpoints and consistency points."),
    metric("millstream_api_call_seconds", Kind::Histogram, &["surface", "call"], Process::Coordinator, "Durations of calls of the client API."),
    metric("millstream_api_calls_total", Kind::Counter, &["surface", "call", "code"], Process::Coordinator, "Calls of the client API, by surface, call and code."),
    metric("millstream_bad_rows_total", Kind::Counter, SUBTASK, Process::Tasks, "Records that did not decode, rows for which an expression failed, and rows that did not encode."),
    metric("millstream_blocked_microseconds_total", Kind::Counter, SUBTASK, Process::Tasks, "Time that operators waited for capacity in the channels to the next operator (back pressure)."),
    metric("millstream_build_info", Kind::Gauge, &["version"], Process::Each, "1, with the version of the engine as a label."),
    metric("millstream_busy_microseconds_total", Kind::Counter, SUBTASK, Process::Tasks, "Time that slot threads spent in operators."),
    metric("millstream_bytes_in_total", Kind::Counter, SUBTASK, Process::Tasks, "Bytes that sources read."),
    metric("millstream_bytes_out_total", Kind::Counter, SUBTASK, Process::Tasks, "Bytes that sinks encoded."),
    metric("millstream_checkpoint_age_seconds", Kind::Gauge, JOB, Process::Driver, "Time since the last completed checkpoint, or since a later one that had nothing new to store."),
    metric("millstream_checkpoint_duration_seconds", Kind::Gauge, JOB, Process::Driver, "Duration of the last checkpoint, including publication by the sinks."),
    metric("millstream_checkpoint_in_flight_bytes", Kind::Gauge, JOB, Process::Driver, "Bytes of rows that barriers overtook in the last checkpoint (channel state)."),
    metric("millstream_checkpoint_pause_microseconds_total", Kind::Counter, SUBTASK, Process::Tasks, "Time of slot threads spent on taking snapshots."),
    metric("millstream_checkpoint_pause_seconds_max", Kind::Gauge, JOB, Process::Tasks, "Longest time for which one checkpoint stopped one task."),
    metric("millstream_checkpoint_state_bytes", Kind::Gauge, JOB, Process::Driver, "Keyed state that the last checkpoint refers to."),
    metric("millstream_checkpoints_failed", Kind::Gauge, JOB, Process::Driver, "Checkpoints of the job that failed."),
    metric("millstream_checkpoints_total", Kind::Counter, JOB, Process::Driver, "Checkpoints that are complete and published."),
    metric("millstream_checkpoints_unaligned", Kind::Gauge, JOB, Process::Driver, "Checkpoints in which barriers overtook rows."),
    metric("millstream_checkpoints_unchanged_total", Kind::Counter, JOB, Process::Driver, "Checkpoints that were not stored because nothing had changed."),
    metric("millstream_consistency_point_duration_seconds", Kind::Gauge, JOB, Process::Driver, "Time that the barriers of the last consistency point between checkpoints took to pass all tasks."),
    metric("millstream_consistency_points_total", Kind::Counter, JOB, Process::Driver, "Consistency points between checkpoints that all tasks have passed."),
    metric("millstream_dead_letters_total", Kind::Counter, SUBTASK, Process::Tasks, "Rows sent to a dead letter output."),
    metric("millstream_future_rows_total", Kind::Counter, SUBTASK, Process::Tasks, "Rows too far ahead of the clock to advance the watermark."),
    metric("millstream_held_back_rows_total", Kind::Counter, SUBTASK, Process::Tasks, "Rows whose changes were held back until a consistency point."),
    metric("millstream_ignored_fields_total", Kind::Counter, &["table"], Process::Tasks, "Fields that did not decode and became NULL."),
    metric("millstream_ignored_records_total", Kind::Counter, &["table"], Process::Tasks, "Records that did not decode and were skipped."),
    metric("millstream_job_slots", Kind::Gauge, JOB, Process::Leader, "Slots assigned to the job."),
    metric("millstream_job_state", Kind::Gauge, &["job", "state"], Process::Leader, "1 for the state that the job is in, 0 for the one it left."),
    metric("millstream_kafka_tombstones_total", Kind::Counter, &[], Process::Tasks, "Kafka records without a value."),
    metric("millstream_late_rows_total", Kind::Counter, SUBTASK, Process::Tasks, "Rows that arrived after their window had fired."),
    metric("millstream_leading", Kind::Gauge, &[], Process::Leader, "1 while this coordinator is the leader, else 0."),
    metric("millstream_request_seconds", Kind::Histogram, JOB, Process::Service, "Durations of requests to pipelines."),
    metric("millstream_requests_in_progress", Kind::Gauge, JOB, Process::Service, "Requests to a pipeline that run or wait."),
    metric("millstream_requests_total", Kind::Counter, &["job", "status"], Process::Service, "Requests to pipelines, by status of the response. `job` is empty for unknown pipelines."),
    metric("millstream_restarts", Kind::Gauge, JOB, Process::Driver, "Restarts of the job."),
    metric("millstream_rocksdb_block_cache_bytes", Kind::Gauge, &[], Process::Tasks, "Memory of RocksDB's block cache, write buffers included."),
    metric("millstream_rocksdb_memtable_bytes", Kind::Gauge, &[], Process::Tasks, "RocksDB: bytes in write buffers that are not in a file yet."),
    metric("millstream_rocksdb_pending_compaction_bytes", Kind::Gauge, &[], Process::Tasks, "RocksDB: bytes of files that compaction has yet to rewrite."),
    metric("millstream_rocksdb_sst_bytes", Kind::Gauge, &[], Process::Tasks, "RocksDB: bytes of files on the local disk."),
    metric("millstream_rows_in_total", Kind::Counter, SUBTASK, Process::Tasks, "Rows that operators received; for sources, rows delivered."),
    metric("millstream_rows_out_total", Kind::Counter, SUBTASK, Process::Tasks, "Rows that operators emitted; for sinks, rows written."),
    metric("millstream_slots", Kind::Gauge, &[], Process::Leader, "Slots that ready workers offer."),
    metric("millstream_slots_used", Kind::Gauge, &[], Process::Leader, "Slots assigned to jobs."),
    metric("millstream_spans_lost_total", Kind::Counter, &[], Process::Each, "Spans that could not be sent to the OpenTelemetry collector."),
    metric("millstream_split_lag_records", Kind::Gauge, SPLIT, Process::Tasks, "Records of a split that have not been read, if the source knows their number."),
    metric("millstream_split_watermark_seconds", Kind::Gauge, SPLIT, Process::Tasks, "The watermark of a split, seconds since 1970."),
    metric("millstream_state_bytes", Kind::Gauge, &["store"], Process::Tasks, "Keyed state in databases of this process."),
    metric("millstream_state_evictions_total", Kind::Counter, &[], Process::Tasks, "Parts of state written to disk to free memory."),
    metric("millstream_state_memory_limit_bytes", Kind::Gauge, &[], Process::Tasks, "Memory budget of state."),
    metric("millstream_state_memory_used_bytes", Kind::Gauge, &[], Process::Tasks, "Memory that state uses of its budget."),
    metric("millstream_state_restored_bytes_total", Kind::Counter, &["from"], Process::Tasks, "State files used by restores: `local` for local recovery, `storage` for downloads."),
    metric("millstream_state_uploaded_bytes_total", Kind::Counter, &[], Process::Tasks, "State files uploaded for checkpoints."),
    metric("millstream_unmatched_retractions_total", Kind::Counter, &[], Process::Tasks, "Deleted rows that were ignored because the state of their group had expired (`table.exec.state.ttl`)."),
    metric("millstream_workers", Kind::Gauge, &[], Process::Leader, "Workers that are ready."),
];

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    process: Process,
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        labels,
        process,
        help,
    }
}

/// Panics in debug builds if a metric of the engine is recorded that is not in the table, or with other labels.
pub fn check(key: &Key) {
    if cfg!(debug_assertions) && key.name().starts_with("millstream_") {
        let labels: Vec<&str> = key.labels().map(metrics::Label::key).collect();
        let metric = METRICS.iter().find(|metric| metric.name == key.name());
        assert!(
            metric.is_some_and(|metric| metric.labels == labels),
            "{key} is recorded; the table of metrics has {metric:?}"
        );
    }
}
