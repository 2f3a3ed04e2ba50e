//! Metrics of the requests of one service.
//!
//! To look up a series by its labels would cost as much as a short request, so handles of counters are kept, and
//! durations are recorded together at intervals.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use metrics::Counter;
use parking_lot::Mutex;

/// Counts of responses and durations of requests.
pub(super) struct RequestMetrics {
    job: String,
    by_status: Mutex<BTreeMap<u16, Counter>>,
    /// Durations in seconds since the last publication.
    durations: Mutex<Vec<f64>>,
}

impl RequestMetrics {
    pub(super) fn new(job: &str) -> Self {
        Self {
            job: job.to_owned(),
            by_status: Mutex::default(),
            durations: Mutex::default(),
        }
    }

    /// Counts a response.
    pub(super) fn count(&self, status: StatusCode, duration: Duration) {
        let mut by_status = self.by_status.lock();
        let counter = by_status.entry(status.as_u16()).or_insert_with(|| {
            let status = status.as_str().to_owned();
            metrics::counter!("millstream_requests_total", "job" => self.job.clone(), "status" => status)
        });
        counter.increment(1);
        drop(by_status);
        self.durations.lock().push(duration.as_secs_f64());
    }

    /// Publishes durations, and keeps the series of counters from expiring.
    pub(super) fn publish(&self) {
        for counter in self.by_status.lock().values() {
            counter.increment(0);
        }
        let durations = std::mem::take(&mut *self.durations.lock());
        let histogram = metrics::histogram!("millstream_request_seconds", "job" => self.job.clone());
        for duration in durations {
            histogram.record(duration);
        }
    }
}
