//! The watermark of a task with several inputs: the least watermark of its active inputs.
//!
//! Idle and ended inputs do not hold the watermark back; an ended input does not advance it either. Once every
//! remaining input is idle, the merged watermark is the greatest of theirs, as in Flink: otherwise it would depend on
//! the order in which they became idle, and windows that one of them had passed might never fire. The merged watermark
//! never goes back, even if an idle input becomes active again with an older one; rows of that input may be late then.

use crate::operator::{Timestamp, WATERMARK_MAX, WATERMARK_MIN};

/// Merges the watermarks of several inputs.
#[derive(Debug)]
pub(crate) struct Merge {
    inputs: Vec<Input>,
    merged: Timestamp,
    idle: bool,
}

#[derive(Debug, Clone, Copy)]
struct Input {
    watermark: Timestamp,
    status: Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Active,
    Idle,
    Ended,
}

/// The change of the merged watermark to forward downstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Nothing,
    /// The merged watermark has advanced, or the task is no longer idle: then the watermark may be unchanged.
    Watermark(Timestamp),
    /// All inputs are idle. Contains the merged watermark, if it has advanced.
    Idle(Option<Timestamp>),
}

impl Merge {
    pub(crate) fn new(inputs: usize) -> Self {
        Self {
            inputs: vec![
                Input {
                    watermark: WATERMARK_MIN,
                    status: Status::Active,
                };
                inputs
            ],
            merged: WATERMARK_MIN,
            idle: false,
        }
    }

    pub(crate) fn on_watermark(&mut self, input: usize, watermark: Timestamp) -> Change {
        let input = &mut self.inputs[input];
        input.watermark = input.watermark.max(watermark);
        input.status = Status::Active;
        self.merge()
    }

    /// Makes an idle input active again: it has delivered rows.
    pub(crate) fn on_rows(&mut self, input: usize) -> Change {
        if self.inputs[input].status != Status::Idle {
            return Change::Nothing;
        }
        self.inputs[input].status = Status::Active;
        self.merge()
    }

    pub(crate) fn on_idle(&mut self, input: usize) -> Change {
        self.inputs[input].status = Status::Idle;
        self.merge()
    }

    /// Marks an input as ended. Once all have ended, the merged watermark advances only to the final one, if all have
    /// delivered that.
    pub(crate) fn on_end(&mut self, input: usize) -> Change {
        self.inputs[input].status = Status::Ended;
        self.merge()
    }

    /// Advances to the greatest watermark of the idle inputs. Final watermarks do not count: they hold for their own
    /// input only.
    fn advance_to_idle(&mut self) -> Option<Timestamp> {
        let idle = self.inputs.iter().filter(|input| input.status == Status::Idle);
        let greatest = idle
            .map(|input| input.watermark)
            .filter(|watermark| *watermark != WATERMARK_MAX)
            .max();
        let greatest = greatest.filter(|greatest| *greatest > self.merged)?;
        self.merged = greatest;
        Some(greatest)
    }

    fn merge(&mut self) -> Change {
        let least = |status: Status| {
            let inputs = self.inputs.iter().filter(|input| input.status == status);
            inputs.map(|input| input.watermark).min()
        };
        let has_idle = self.inputs.iter().any(|input| input.status == Status::Idle);
        let least = match least(Status::Active) {
            Some(watermark) => watermark,
            None if has_idle => {
                let was_idle = std::mem::replace(&mut self.idle, true);
                return if was_idle {
                    Change::Nothing
                } else {
                    Change::Idle(self.advance_to_idle())
                };
            }
            // All have ended: the watermark is final only if all inputs delivered the final one.
            None => least(Status::Ended).unwrap_or(WATERMARK_MAX),
        };
        // The final watermark of one input does not hold for others that are idle now.
        let least = if has_idle && least == WATERMARK_MAX {
            self.merged
        } else {
            least
        };
        let was_idle = std::mem::replace(&mut self.idle, false);
        if least > self.merged {
            self.merged = least;
            return Change::Watermark(least);
        }
        if was_idle {
            Change::Watermark(self.merged)
        } else {
            Change::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_slowest_active_input_decides() {
        let mut merge = Merge::new(2);
        assert_eq!(merge.on_watermark(0, 10), Change::Nothing);
        assert_eq!(merge.on_watermark(1, 5), Change::Watermark(5));
        assert_eq!(merge.on_idle(1), Change::Watermark(10));
        assert_eq!(merge.on_rows(1), Change::Nothing);
        assert_eq!(merge.on_watermark(0, 20), Change::Nothing, "input 1 holds back again");
        assert_eq!(merge.on_watermark(1, 15), Change::Watermark(15));
    }

    #[test]
    fn all_idle_is_idle_and_comes_back_with_the_watermark() {
        let mut merge = Merge::new(2);
        assert_eq!(merge.on_watermark(0, 10), Change::Nothing);
        assert_eq!(merge.on_idle(0), Change::Nothing);
        assert_eq!(merge.on_idle(1), Change::Idle(Some(10)));
        assert_eq!(merge.on_rows(0), Change::Watermark(10));
    }

    #[test]
    fn the_watermark_of_idle_inputs_does_not_depend_on_which_became_idle_first() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut merge = Merge::new(3);
            let mut told = WATERMARK_MIN;
            let mut hear = |change| match change {
                Change::Watermark(watermark) | Change::Idle(Some(watermark)) => told = watermark,
                Change::Idle(None) | Change::Nothing => {}
            };
            for (input, watermark) in [10, 30, 20].into_iter().enumerate() {
                hear(merge.on_watermark(input, watermark));
            }
            for input in order {
                hear(merge.on_idle(input));
            }
            assert_eq!(told, 30, "{order:?}");
        }
    }

    #[test]
    fn a_final_watermark_does_not_fire_what_an_idle_input_may_still_fill() {
        let mut merge = Merge::new(2);
        assert_eq!(merge.on_watermark(1, 5), Change::Nothing);
        assert_eq!(merge.on_idle(1), Change::Nothing);
        assert_eq!(merge.on_watermark(0, WATERMARK_MAX), Change::Nothing);
        assert_eq!(merge.on_end(0), Change::Idle(Some(5)));
        assert_eq!(merge.on_watermark(1, 7), Change::Watermark(7));
        assert_eq!(merge.on_watermark(1, WATERMARK_MAX), Change::Watermark(WATERMARK_MAX));
        assert_eq!(merge.on_end(1), Change::Nothing);
    }

    #[derive(Debug, Clone)]
    enum Event {
        Watermark(i64),
        Rows,
        Idle,
        End,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0i64..100).prop_map(Event::Watermark),
            3 => Just(Event::Rows),
            2 => Just(Event::Idle),
            1 => Just(Event::End),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn merged_watermark_is_monotone_and_never_ahead_of_an_active_input(
            count in 1usize..4,
            events in prop::collection::vec((0usize..4, event()), 0..60),
        ) {
            let mut merge = Merge::new(count);
            let mut model = vec![(WATERMARK_MIN, 'a'); count];
            let mut last = WATERMARK_MIN;
            for (input, event) in events {
                let input = input % count;
                if model[input].1 == 'e' {
                    continue;
                }
                let change = match event {
                    Event::Watermark(time) => {
                        model[input] = (model[input].0.max(time), 'a');
                        merge.on_watermark(input, time)
                    }
                    Event::Rows => {
                        model[input].1 = 'a';
                        merge.on_rows(input)
                    }
                    Event::Idle => {
                        model[input].1 = 'i';
                        merge.on_idle(input)
                    }
                    Event::End => {
                        model[input].1 = 'e';
                        merge.on_end(input)
                    }
                };
                if let Change::Idle(Some(time)) = change {
                    let idle = model.iter().filter(|(_, status)| *status == 'i');
                    prop_assert!(time > last);
                    prop_assert_eq!(Some(time), idle.map(|(time, _)| *time).max());
                    last = time;
                }
                let active = model.iter().filter(|(_, status)| *status == 'a').map(|(time, _)| *time).min();
                if let Change::Watermark(time) = change {
                    prop_assert!(time >= last);
                    if time > last && let Some(active) = active {
                        prop_assert_eq!(time, active);
                    }
                    last = time;
                }
                // What is known is said: nothing is held back without a reason.
                if let Some(active) = active {
                    prop_assert!(last >= active);
                }
            }
        }
    }
}
