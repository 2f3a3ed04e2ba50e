//! Publishes the counters of a job as metrics.
//!
//! A process outlives attempts of a job: the next attempt counts from zero again, and its splits may be read in another
//! process. So a metric is incremented by the difference to the last publication, and when the tasks have ended, the
//! gauges of their splits are reset.
//!
//! The exporter forgets metrics that were not touched for minutes, because a process outlives its jobs, too. So
//! unchanged metrics are published again at intervals, for as long as the tasks run.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{JobCounters, OperatorCounters};
use crate::operator::WATERMARK_MIN;

/// One of this many publications, beginning with the first, includes the metrics that have not changed.
const FULL_PUBLICATION_EVERY: u64 = 30;
/// Number of metrics of a subtask.
pub(super) const METRICS: usize = 13;

/// Returns the metrics of a subtask: name, counter, and the number of counted units per unit of the metric.
pub(super) fn metrics(of: &OperatorCounters) -> [(&'static str, &AtomicU64, u64); METRICS] {
    [
        ("millstream_rows_in_total", &of.rows_in, 1),
        ("millstream_rows_out_total", &of.rows_out, 1),
        ("millstream_bytes_in_total", &of.bytes_in, 1),
        ("millstream_bytes_out_total", &of.bytes_out, 1),
        ("millstream_busy_microseconds_total", &of.busy_ns, 1_000),
        ("millstream_blocked_microseconds_total", &of.blocked_us, 1),
        ("millstream_late_rows_total", &of.late_rows, 1),
        ("millstream_dead_letters_total", &of.dead_letters, 1),
        ("millstream_bad_rows_total", &of.bad_rows, 1),
        ("millstream_future_rows_total", &of.future_rows, 1),
        ("millstream_alignment_microseconds_total", &of.alignment_us, 1),
        (
            "millstream_checkpoint_pause_microseconds_total",
            &of.checkpoint_pause_ns,
            1_000,
        ),
        ("millstream_held_back_rows_total", &of.held_back_rows, 1),
    ]
}

impl JobCounters {
    /// Publishes all counters through the `metrics` facade; to be called about once a second.
    pub fn publish(&self) {
        // A process may have thousands of operators without input: their metrics are not looked up each second.
        let is_full = self
            .published
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(FULL_PUBLICATION_EVERY);
        for counters in &self.operators {
            for ((name, number, unit), published) in metrics(counters).into_iter().zip(&counters.published) {
                let value = number.load(Ordering::Relaxed) / unit;
                // Several threads may publish at once: each adds only its own increment.
                let before = published.fetch_max(value, Ordering::Relaxed);
                if value > before || is_full {
                    let labels = [
                        ("job", self.job.clone()),
                        ("operator", counters.operator.0.clone()),
                        ("subtask", counters.subtask.to_string()),
                    ];
                    metrics::counter!(name, &labels).increment(value.saturating_sub(before));
                }
            }
        }
        let pause_ns = self.checkpoint_pause_ns_max.load(Ordering::Relaxed);
        metrics::gauge!("millstream_checkpoint_pause_seconds_max", "job" => self.job.clone())
            .set(pause_ns as f64 / 1e9);
        self.publish_splits(|| self.ended.load(Ordering::Relaxed));
    }

    /// Publishes all counters for the last time, after the tasks have ended, and resets the gauges of splits.
    pub fn publish_end(&self) {
        self.publish_splits(|| {
            self.ended.store(true, Ordering::Relaxed);
            true
        });
        self.publish();
    }

    fn publish_splits(&self, ended: impl FnOnce() -> bool) {
        let splits = self.splits.lock();
        let ended = ended();
        for split in splits.iter() {
            let labels = [
                ("job", self.job.clone()),
                ("source", split.source.0.clone()),
                ("split", split.split.to_string()),
            ];
            let watermark = split.watermark.load(Ordering::Relaxed);
            if watermark != WATERMARK_MIN {
                let seconds = if ended { f64::NAN } else { watermark as f64 / 1e6 };
                metrics::gauge!("millstream_split_watermark_seconds", &labels).set(seconds);
            }
            let lag = split.lag();
            // An unknown lag is published as NaN, not as the last known one: the brokers may be unreachable.
            if lag.is_some() || split.lag_is_published.load(Ordering::Relaxed) {
                split.lag_is_published.store(true, Ordering::Relaxed);
                let records = if ended {
                    0.0
                } else {
                    lag.map_or(f64::NAN, |lag| lag as f64)
                };
                metrics::gauge!("millstream_split_lag_records", &labels).set(records);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
    use millstream_graph::OperatorId;
    use parking_lot::Mutex;

    use super::*;
    use crate::counters::{Kind, add};

    /// Records every metric by name; gauges as the bits of their value.
    #[derive(Default)]
    struct TestRecorder(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

    impl TestRecorder {
        fn of(&self, name: &str) -> Arc<AtomicU64> {
            Arc::clone(self.0.lock().entry(name.to_string()).or_default())
        }

        fn counter(&self, name: &str) -> u64 {
            self.of(name).load(Ordering::Relaxed)
        }

        fn gauge(&self, name: &str) -> f64 {
            f64::from_bits(self.counter(name))
        }
    }

    impl Recorder for TestRecorder {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.of(key.name()))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.of(key.name()))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    fn attempt() -> JobCounters {
        let source = OperatorCounters::new(OperatorId("cars".into()), 0, Kind::Source);
        JobCounters::new("toll".into(), vec![Arc::new(source)])
    }

    #[test]
    fn a_counter_goes_on_where_an_earlier_attempt_left_it() {
        let kept = TestRecorder::default();
        metrics::with_local_recorder(&kept, || {
            let first = attempt();
            add(&first.operators[0].rows_in, 100);
            add(&first.operators[0].busy_ns, 2_500);
            first.publish();
            first.publish_end();
            let second = attempt();
            add(&second.operators[0].rows_in, 7);
            second.publish();
            assert_eq!(kept.counter("millstream_rows_in_total"), 107);
            add(&second.operators[0].rows_in, 1);
            second.publish();
            assert_eq!(kept.counter("millstream_rows_in_total"), 108);
            assert_eq!(kept.counter("millstream_busy_microseconds_total"), 2);
        });
    }

    #[test]
    fn a_lag_that_is_not_known_any_more_is_taken_back() {
        let kept = TestRecorder::default();
        metrics::with_local_recorder(&kept, || {
            let attempt = attempt();
            let split = attempt.split(&OperatorId("cars".into()), &"cars-0".into());
            attempt.publish();
            assert!(!kept.0.lock().contains_key("millstream_split_lag_records"));
            split.set_lag(Some(40));
            attempt.publish();
            assert_eq!(kept.gauge("millstream_split_lag_records"), 40.0);
            split.set_lag(None);
            attempt.publish();
            assert!(kept.gauge("millstream_split_lag_records").is_nan());
        });
    }

    #[test]
    fn what_does_not_change_is_full() {
        let kept = TestRecorder::default();
        metrics::with_local_recorder(&kept, || {
            let attempt = attempt();
            attempt.publish();
            kept.0.lock().clear();
            (1..FULL_PUBLICATION_EVERY).for_each(|_| attempt.publish());
            assert!(!kept.0.lock().contains_key("millstream_rows_in_total"));
            attempt.publish();
            assert!(kept.0.lock().contains_key("millstream_rows_in_total"));
        });
    }

    #[test]
    fn splits_of_tasks_that_have_ended_neither_lag_nor_hold_a_watermark() {
        let kept = TestRecorder::default();
        metrics::with_local_recorder(&kept, || {
            let attempt = attempt();
            let split = attempt.split(&OperatorId("cars".into()), &"cars-0".into());
            split.set_lag(Some(40));
            split.watermark.store(2_000_000, Ordering::Relaxed);
            attempt.publish();
            assert_eq!(kept.gauge("millstream_split_lag_records"), 40.0);
            assert_eq!(kept.gauge("millstream_split_watermark_seconds"), 2.0);
            attempt.publish_end();
            // One that was under way.
            attempt.publish();
            assert_eq!(kept.gauge("millstream_split_lag_records"), 0.0);
            assert!(kept.gauge("millstream_split_watermark_seconds").is_nan());
        });
    }
}
