//! Rates of a run, computed from counters that are sampled at intervals.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use millstream_runtime::counters::{JobCounters, Kind};

/// Two samples of a run's counters, for rates.
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
    /// Busy nanoseconds and blocked microseconds of each subtask, by operator.
    times: BTreeMap<String, Vec<(u64, u64)>>,
}

impl Rates {
    /// Takes a sample of the counters.
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

    /// Returns rows in and rows out per second between the two latest samples.
    pub fn rows(&self) -> (f64, f64) {
        let (Some(before), Some(latest)) = (&self.before, &self.latest) else {
            return (0.0, 0.0);
        };
        let seconds = (latest.at - before.at).as_secs_f64().max(1e-3);
        // Counters restart at zero with each attempt.
        let rate = |before: u64, latest: u64| latest.saturating_sub(before) as f64 / seconds;
        (
            rate(before.rows_in, latest.rows_in),
            rate(before.rows_out, latest.rows_out),
        )
    }

    /// Returns the shares of time in which an operator's busiest and most blocked subtasks were busy and blocked.
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
