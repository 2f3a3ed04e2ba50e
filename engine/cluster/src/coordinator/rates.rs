//! Rates of a run, computed from counters that are sampled at intervals.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use millstream_runtime::counters::{JobCounters, Kind};

/// Rows and times as of two moments, for rates.
#[derive(Debug, Default)]
pub struct Rates {
    before: Option<Sample>,
    latest: Option<Sample>,
}

#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    rows_in: u64,
    rows_out: u64,
    /// Per operator, of each subtask: nanoseconds busy, microseconds blocked.
    times: BTreeMap<String, Vec<(u64, u64)>>,
}

impl Rates {
    /// Looks at the counters as of now.
    pub fn sample(&mut self, counters: &JobCounters) {
        let mut sample = Sample {
            at: Instant::now(),
            rows_in: 0,
            rows_out: 0,
            times: BTreeMap::new(),
        };
        for operator in &counters.operators {
            match operator.kind {
                Kind::Source => sample.rows_in += read(&operator.rows_in),
                Kind::Sink => sample.rows_out += read(&operator.rows_out),
                Kind::Operator => {}
            }
            let times = sample.times.entry(operator.operator.0.clone()).or_default();
            times.push((read(&operator.busy_ns), read(&operator.blocked_us)));
        }
        self.before = self.latest.replace(sample);
    }

    /// Rows in and out per second between the two latest samples.
    pub fn rows(&self) -> (f64, f64) {
        let (Some(before), Some(latest)) = (&self.before, &self.latest) else {
            return (0.0, 0.0);
        };
        let seconds = (latest.at - before.at).as_secs_f64().max(1e-3);
        // Counters begin anew with each attempt.
        let rate = |before: u64, latest: u64| latest.saturating_sub(before) as f64 / seconds;
        (
            rate(before.rows_in, latest.rows_in),
            rate(before.rows_out, latest.rows_out),
        )
    }

    /// Shares of time that an operator's busiest and most blocked subtask were so.
    pub fn shares(&self, operator: &str) -> (f64, f64) {
        let (Some(before), Some(latest)) = (&self.before, &self.latest) else {
            return (0.0, 0.0);
        };
        let (Some(then), Some(now)) = (before.times.get(operator), latest.times.get(operator)) else {
            return (0.0, 0.0);
        };
        let seconds = (latest.at - before.at).as_secs_f64().max(1e-3);
        let pairs = || then.iter().zip(now);
        let busy = pairs()
            .map(|(then, now)| now.0.saturating_sub(then.0))
            .max()
            .unwrap_or(0);
        let blocked = pairs()
            .map(|(then, now)| now.1.saturating_sub(then.1))
            .max()
            .unwrap_or(0);
        (
            (busy as f64 / 1e9 / seconds).min(1.0),
            (blocked as f64 / 1e6 / seconds).min(1.0),
        )
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
