//! Watermarks per split, and the watermark of all splits of a subtask.
//!
//! A split that is assigned but not started holds the watermark back, unless splits are ordered; otherwise reading the
//! whole of file A before file B would make the rows of B late. A deferred split holds it back only from the end of the
//! splits that are read before it. A finished split does not count. A split is idle once it has been caught up for the
//! idle timeout; time during which the task was blocked does not count.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millstream_connectors::Boundedness;

use crate::counters::SplitCounters;
use crate::operator::{Timestamp, WATERMARK_MIN};

/// The splits of one subtask.
pub(super) struct Splits {
    splits: Vec<Split>,
    by_id: HashMap<Arc<str>, usize>,
    idle_timeout_us: i64,
    boundedness: Boundedness,
    ordered: bool,
    no_more: bool,
}

struct Split {
    watermark: Timestamp,
    /// True if the split is begun after all splits that are not deferred.
    is_deferred: bool,
    state: State,
    counters: Arc<SplitCounters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unstarted,
    Reading,
    /// There was nothing to read at this time, or at the end of the last back-pressure since.
    CaughtUp(Timestamp),
    Finished,
}

/// The watermark of all splits of a subtask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SplitsWatermark {
    /// The least watermark of the active splits.
    Watermark(Timestamp),
    /// All splits are idle. Contains their greatest watermark, if one of them has any.
    Idle(Option<Timestamp>),
    /// The watermark is the same as before.
    Unknown,
}

impl Splits {
    pub(super) fn new(idle_timeout_us: i64, boundedness: Boundedness) -> Self {
        Self {
            splits: Vec::new(),
            by_id: HashMap::new(),
            idle_timeout_us,
            boundedness,
            ordered: false,
            no_more: false,
        }
    }

    /// Declares that splits are in the order of event time.
    pub(super) fn set_ordered(&mut self) {
        self.ordered = true;
    }

    /// Declares that no further splits will be added.
    pub(super) fn no_more(&mut self) {
        self.no_more = true;
    }

    /// Adds a split with its restored watermark.
    pub(super) fn add(
        &mut self,
        id: Arc<str>,
        watermark: Option<Timestamp>,
        is_deferred: bool,
        counters: Arc<SplitCounters>,
    ) {
        if self.by_id.contains_key(&id) {
            return;
        }
        let watermark = watermark.unwrap_or(WATERMARK_MIN);
        counters.watermark.store(watermark, Ordering::Relaxed);
        self.by_id.insert(id, self.splits.len());
        self.splits.push(Split {
            watermark,
            is_deferred,
            state: if watermark == WATERMARK_MIN {
                State::Unstarted
            } else {
                State::Reading
            },
            counters,
        });
    }

    fn get(&mut self, id: &str) -> Option<&mut Split> {
        self.by_id.get(id).map(|index| &mut self.splits[*index])
    }

    /// Marks a split as being read: it has delivered rows, or records that did not decode.
    pub(super) fn started(&mut self, id: &str, lag: Option<u64>) {
        if let Some(split) = self.get(id) {
            split.state = State::Reading;
            split.counters.set_lag(lag);
        }
    }

    /// Advances the watermark of a split.
    pub(super) fn advance(&mut self, id: &str, watermark: Timestamp) {
        if let Some(split) = self.get(id)
            && watermark > split.watermark
        {
            split.watermark = watermark;
            split.counters.watermark.store(watermark, Ordering::Relaxed);
        }
    }

    /// Marks a split as caught up.
    pub(super) fn caught_up(&mut self, id: &str, now: Timestamp) {
        if let Some(split) = self.get(id)
            && split.state != State::Finished
        {
            split.state = State::CaughtUp(now);
            split.counters.set_lag(Some(0));
        }
    }

    /// Marks a split as finished.
    pub(super) fn finish(&mut self, id: &str) {
        if let Some(split) = self.get(id) {
            split.state = State::Finished;
            split.counters.set_lag(Some(0));
        }
    }

    /// Restarts the idle timeout of the splits that are not idle yet.
    pub(super) fn restart_idle_timeout(&mut self, now: Timestamp) {
        for split in &mut self.splits {
            if let State::CaughtUp(since) = &mut split.state
                && now.saturating_sub(*since) < self.idle_timeout_us
            {
                *since = now;
            }
        }
    }

    /// Returns the watermark of a split, if it has any.
    pub(super) fn watermark(&self, id: &str) -> Option<Timestamp> {
        let split = &self.splits[*self.by_id.get(id)?];
        Some(split.watermark).filter(|watermark| *watermark != WATERMARK_MIN)
    }

    /// Returns the time when the next split becomes idle if it delivers nothing.
    pub(super) fn next_idle(&self, now: Timestamp) -> Option<Timestamp> {
        self.splits
            .iter()
            .filter_map(|split| match split.state {
                State::CaughtUp(since) => Some(since.saturating_add(self.idle_timeout_us)),
                _ => None,
            })
            .filter(|due| *due > now && *due != Timestamp::MAX)
            .min()
    }

    /// Returns the watermark of all splits at this time.
    pub(super) fn watermark_at(&self, now: Timestamp) -> SplitsWatermark {
        let mut least: Option<Timestamp> = None;
        // The greatest watermark of the idle splits.
        let mut idle: Option<Timestamp> = None;
        let mut has_open = false;
        let mut others = self.splits.iter().filter(|split| !split.is_deferred);
        let are_others_open = others.any(|split| split.state != State::Finished);
        for split in &self.splits {
            match split.state {
                State::Finished => continue,
                State::CaughtUp(since) if now >= since.saturating_add(self.idle_timeout_us) => {
                    idle = idle.max(Some(split.watermark));
                }
                State::Unstarted if self.ordered || (split.is_deferred && are_others_open) => {}
                _ => least = Some(least.map_or(split.watermark, |least| least.min(split.watermark))),
            }
            has_open = true;
        }
        match least {
            Some(WATERMARK_MIN) => SplitsWatermark::Unknown,
            Some(watermark) => SplitsWatermark::Watermark(watermark),
            // Only ordered splits that are not started remain: the next one is about to be.
            None if has_open && idle.is_none() => SplitsWatermark::Unknown,
            None if idle.is_some() => SplitsWatermark::Idle(idle.filter(|watermark| *watermark != WATERMARK_MIN)),
            // All assigned splits are read. Either the end follows, or more splits may be assigned at any time, which
            // nobody should wait for; but the first assignment to a bounded source is certain to come.
            None if self.no_more => SplitsWatermark::Unknown,
            None if self.splits.is_empty() && self.boundedness == Boundedness::Bounded => SplitsWatermark::Unknown,
            None => SplitsWatermark::Idle(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_graph::OperatorId;

    use super::*;
    use crate::counters::JobCounters;

    fn splits(boundedness: Boundedness, ids: &[&str]) -> Splits {
        let counters = JobCounters::default();
        let mut splits = Splits::new(100, boundedness);
        for id in ids {
            let id: Arc<str> = Arc::from(*id);
            let gauge = counters.split(&OperatorId("source".into()), &id);
            let is_deferred = id.starts_with("deferred");
            splits.add(id, None, is_deferred, gauge);
        }
        splits
    }

    fn read(splits: &mut Splits, id: &str, watermark: Timestamp) {
        splits.started(id, None);
        splits.advance(id, watermark);
    }

    #[test]
    fn an_unstarted_split_holds_the_watermark_back() {
        let mut splits = splits(Boundedness::Bounded, &["a", "b"]);
        read(&mut splits, "a", 50);
        assert_eq!(splits.watermark_at(0), SplitsWatermark::Unknown);
        read(&mut splits, "b", 7);
        assert_eq!(splits.watermark_at(0), SplitsWatermark::Watermark(7));
        splits.finish("b");
        assert_eq!(splits.watermark_at(0), SplitsWatermark::Watermark(50));
    }

    #[test]
    fn an_unstarted_split_of_an_ordered_source_does_not() {
        let mut splits = splits(Boundedness::Bounded, &["a", "b"]);
        splits.set_ordered();
        read(&mut splits, "a", 50);
        assert_eq!(splits.watermark_at(0), SplitsWatermark::Watermark(50));
        splits.finish("a");
        assert_eq!(splits.watermark_at(0), SplitsWatermark::Unknown);
    }

    #[test]
    fn a_deferred_split_holds_the_watermark_back_once_the_others_are_read() {
        let mut splits = splits(Boundedness::Unbounded, &["a", "b", "deferred"]);
        read(&mut splits, "a", 50);
        assert_eq!(splits.watermark_at(0), SplitsWatermark::Unknown);
        read(&mut splits, "b", 40);
        assert_eq!(splits.watermark_at(0), SplitsWatermark::Watermark(40));
        splits.finish("b");
        assert_eq!(splits.watermark_at(0), SplitsWatermark::Watermark(50));
        splits.finish("a");
        assert_eq!(splits.watermark_at(0), SplitsWatermark::Unknown);
        read(&mut splits, "deferred", 60);
        assert_eq!(splits.watermark_at(0), SplitsWatermark::Watermark(60));
    }

    #[test]
    fn only_a_caught_up_split_becomes_idle_and_blocked_time_does_not_count() {
        let mut splits = splits(Boundedness::Unbounded, &["a", "b"]);
        read(&mut splits, "a", 50);
        read(&mut splits, "b", 7);
        assert_eq!(splits.watermark_at(10_000), SplitsWatermark::Watermark(7));
        splits.caught_up("b", 10_000);
        assert_eq!(splits.next_idle(10_000), Some(10_100));
        assert_eq!(splits.next_idle(10_100), None);
        splits.restart_idle_timeout(10_050);
        assert_eq!(splits.watermark_at(10_100), SplitsWatermark::Watermark(7));
        assert_eq!(splits.watermark_at(10_150), SplitsWatermark::Watermark(50));
        splits.caught_up("a", 10_150);
        assert_eq!(splits.watermark_at(10_250), SplitsWatermark::Idle(Some(50)));
        splits.started("b", None);
        assert_eq!(splits.watermark_at(10_250), SplitsWatermark::Watermark(7));
    }

    #[test]
    fn a_subtask_without_splits_holds_nobody_back() {
        assert_eq!(
            splits(Boundedness::Unbounded, &[]).watermark_at(0),
            SplitsWatermark::Idle(None)
        );
    }
}
