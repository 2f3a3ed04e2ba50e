//! Barrier alignment for tasks with several inputs.
//!
//! A barrier divides each input into the rows before and after the checkpoint or consistency point. The task passes the
//! barrier, and takes its snapshot, only when all inputs have reached it, so inputs that reach it first are blocked.
//! [`Alignment`] decides which inputs are readable; it holds no elements and knows no channel. An input that has ended
//! counts as aligned. A task that has waited for the `aligned_timeout` takes its snapshot without the missing barriers
//! ([`Alignment::overtake`]).

use crate::element::{Barrier, BarrierNumber};

/// The state of the inputs of one task while a barrier is being aligned.
#[derive(Debug)]
pub(crate) struct Alignment {
    /// The barrier being aligned, if any. Barriers never overlap on one task.
    current: Option<Barrier>,
    /// The least number of a barrier that was neither aligned nor aborted.
    least: BarrierNumber,
    inputs: Vec<Input>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    /// The input has delivered the current barrier, and is blocked until all others have.
    Blocked,
    Ended,
}

impl Alignment {
    pub(crate) fn new(inputs: usize) -> Self {
        Self {
            current: None,
            least: BarrierNumber::default(),
            inputs: vec![Input::Open; inputs],
        }
    }

    /// Returns true if the input is neither blocked nor ended.
    pub(crate) fn is_readable(&self, input: usize) -> bool {
        self.inputs[input] == Input::Open
    }

    /// Returns true while some inputs have delivered a barrier and others have not.
    pub(crate) fn is_aligning(&self) -> bool {
        self.current.is_some()
    }

    pub(crate) fn all_ended(&self) -> bool {
        self.inputs.iter().all(|input| *input == Input::Ended)
    }

    /// Processes a barrier of an input. Returns the barrier once all inputs have delivered it; they are readable again
    /// then. A newer barrier aborts the alignment of an older one.
    pub(crate) fn on_barrier(&mut self, input: usize, barrier: Barrier) -> Option<Barrier> {
        debug_assert!(self.is_readable(input), "a blocked input was read");
        self.abort_before(barrier.number);
        if barrier.number < self.least {
            return None;
        }
        self.current = Some(barrier);
        self.inputs[input] = Input::Blocked;
        self.complete()
    }

    /// Processes the end of an input. Returns the barrier that only this input had not delivered, if any.
    pub(crate) fn on_end(&mut self, input: usize) -> Option<Barrier> {
        self.inputs[input] = Input::Ended;
        self.complete()
    }

    /// Aborts all checkpoints and consistency points before this number and unblocks the inputs that had delivered a
    /// barrier of them.
    ///
    /// Without it, alignment could deadlock: sources skip aborted barriers, so the other inputs may never deliver
    /// the barrier, and may themselves depend on the task that sends to a blocked input.
    pub(crate) fn abort_before(&mut self, number: BarrierNumber) {
        if self.current.is_some_and(|current| current.number < number) {
            self.current = None;
            self.release();
        }
        self.least = self.least.max(number);
    }

    /// Ends the alignment of a checkpoint whose barrier some inputs have not delivered, and returns those inputs. All
    /// inputs are readable again; barriers of the checkpoint that are delivered later are ignored.
    ///
    /// Returns `None` if a later barrier was delivered, because this one is aborted then.
    pub(crate) fn overtake(&mut self, barrier: Barrier) -> Option<Vec<usize>> {
        self.abort_before(barrier.number);
        let newest = self.current.map_or(self.least, |current| current.number);
        if newest > barrier.number {
            return None;
        }
        let missing = (0..self.inputs.len()).filter(|input| self.inputs[*input] == Input::Open);
        let missing = missing.collect();
        self.current = None;
        self.least = barrier.number.next();
        self.release();
        Some(missing)
    }

    fn complete(&mut self) -> Option<Barrier> {
        let barrier = self.current?;
        if self.inputs.contains(&Input::Open) {
            return None;
        }
        self.current = None;
        self.least = barrier.number.next();
        self.release();
        Some(barrier)
    }

    fn release(&mut self) {
        for input in &mut self.inputs {
            if *input == Input::Blocked {
                *input = Input::Open;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn barrier(checkpoint: u64) -> Barrier {
        Barrier::of_checkpoint(checkpoint, false)
    }

    fn point(checkpoint: u64, point: u64) -> Barrier {
        Barrier::of_point(BarrierNumber { checkpoint, point })
    }

    #[test]
    fn inputs_are_blocked_until_all_have_delivered_the_barrier() {
        let mut alignment = Alignment::new(3);
        assert_eq!(alignment.on_barrier(1, barrier(1)), None);
        assert!(!alignment.is_readable(1));
        assert_eq!(alignment.on_barrier(0, barrier(1)), None);
        assert_eq!(alignment.on_barrier(2, barrier(1)), Some(barrier(1)));
        assert!((0..3).all(|input| alignment.is_readable(input)));
    }

    #[test]
    fn an_ended_input_counts_as_aligned() {
        let mut alignment = Alignment::new(2);
        assert_eq!(alignment.on_barrier(0, barrier(1)), None);
        assert_eq!(alignment.on_end(1), Some(barrier(1)));
        assert_eq!(alignment.on_barrier(0, barrier(2)), Some(barrier(2)));
    }

    #[test]
    fn a_newer_barrier_replaces_one_that_was_given_up() {
        let mut alignment = Alignment::new(2);
        assert_eq!(alignment.on_barrier(0, barrier(1)), None);
        assert_eq!(alignment.on_barrier(1, barrier(2)), None);
        assert!(alignment.is_readable(0));
        assert!(!alignment.is_readable(1));
        assert_eq!(alignment.on_barrier(0, barrier(2)), Some(barrier(2)));
        assert_eq!(
            alignment.on_barrier(0, barrier(2)),
            None,
            "a stale barrier holds nothing back"
        );
        assert!(alignment.is_readable(0));
    }

    #[test]
    fn nothing_is_held_back_for_a_checkpoint_that_was_given_up() {
        let mut alignment = Alignment::new(2);
        assert_eq!(alignment.on_barrier(0, barrier(1)), None);
        alignment.abort_before(BarrierNumber::of_checkpoint(2));
        assert!(alignment.is_readable(0), "its sender may be what input 1 waits for");
        assert_eq!(alignment.on_barrier(1, barrier(1)), None, "stale");
        assert!(alignment.is_readable(1));
        assert_eq!(alignment.on_barrier(0, barrier(2)), None);
        assert_eq!(alignment.on_barrier(1, barrier(2)), Some(barrier(2)));
    }

    #[test]
    fn a_checkpoint_supersedes_a_consistency_point_and_is_not_superseded_by_an_earlier_one() {
        let mut alignment = Alignment::new(2);
        assert_eq!(alignment.on_barrier(0, point(1, 1)), None);
        assert_eq!(alignment.on_barrier(1, point(1, 1)), Some(point(1, 1)));
        assert_eq!(alignment.on_barrier(0, point(1, 2)), None);
        assert_eq!(alignment.on_barrier(1, barrier(2)), None);
        assert!(alignment.is_readable(0), "point 2 is given up");
        assert_eq!(alignment.on_barrier(0, barrier(2)), Some(barrier(2)));
        assert_eq!(alignment.on_barrier(0, point(1, 3)), None, "stale");
        assert!(alignment.is_readable(0));
        assert_eq!(alignment.on_barrier(1, point(2, 1)), None);
        assert_eq!(alignment.on_barrier(0, point(2, 1)), Some(point(2, 1)));
    }

    #[test]
    fn a_checkpoint_overtakes_unless_a_later_one_is_on_its_way() {
        let mut alignment = Alignment::new(3);
        assert_eq!(alignment.on_barrier(0, barrier(1)), None);
        assert_eq!(alignment.on_end(2), None);
        assert_eq!(alignment.overtake(barrier(1)), Some(vec![1]));
        assert!(alignment.is_readable(0));
        assert_eq!(alignment.on_barrier(1, barrier(1)), None, "stale");
        assert_eq!(alignment.on_barrier(1, barrier(3)), None);
        assert_eq!(alignment.overtake(barrier(2)), None);
        assert!(!alignment.is_readable(1), "the later one goes on");
        assert_eq!(alignment.on_barrier(0, barrier(3)), Some(barrier(3)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Inputs are sequences of rows (0) and barriers (1..), each barrier on each input unless it ends; read in any
        /// order, every checkpoint is passed once, in order, and splits every input exactly at its barrier.
        #[test]
        fn every_checkpoint_splits_every_input_at_its_barrier(
            inputs in prop::collection::vec(prop::collection::vec(0usize..4, 5), 1..5),
            ends in prop::collection::vec(0usize..7, 5),
            choices in prop::collection::vec(0usize..64, 0..400),
        ) {
            // input i: rows[k] rows before barrier k + 1; it ends after `ends[i]` of the sections.
            let mut scripts: Vec<std::collections::VecDeque<u64>> = inputs.iter().zip(&ends).map(|(rows, end)| {
                let mut script = std::collections::VecDeque::new();
                for (section, count) in rows.iter().enumerate().take(*end) {
                    script.extend(std::iter::repeat_n(0, *count));
                    script.push_back(section as u64 + 1);
                }
                script
            }).collect();
            let count = scripts.len();
            let mut alignment = Alignment::new(count);
            let mut read = vec![0u64; count];
            let mut ended = vec![false; count];
            let mut passed = 0;
            let mut choices = choices.into_iter().cycle();
            let mut on_pass = |barrier: Option<Barrier>, read: &[u64], ended: &[bool]| -> Result<(), TestCaseError> {
                if let Some(barrier) = barrier {
                    prop_assert_eq!(barrier.number, BarrierNumber::of_checkpoint(passed + 1));
                    passed = barrier.number.checkpoint;
                    for input in 0..count {
                        prop_assert!(ended[input] || read[input] == passed);
                    }
                }
                Ok(())
            };
            loop {
                let readable: Vec<usize> =
                    (0..count).filter(|input| !ended[*input] && alignment.is_readable(*input)).collect();
                if readable.is_empty() {
                    break;
                }
                let input = readable[choices.next().unwrap_or(0) % readable.len()];
                match scripts[input].pop_front() {
                    Some(0) => {}
                    Some(checkpoint) => {
                        read[input] = checkpoint;
                        let aligned = alignment.on_barrier(input, barrier(checkpoint));
                        on_pass(aligned, &read, &ended)?;
                    }
                    None => {
                        ended[input] = true;
                        let aligned = alignment.on_end(input);
                        on_pass(aligned, &read, &ended)?;
                    }
                }
            }
            prop_assert!(ended.iter().all(|ended| *ended), "an input was held back for ever");
            let longest = inputs.iter().zip(&ends).map(|(rows, end)| rows.len().min(*end)).max().unwrap_or(0);
            prop_assert_eq!(passed, longest as u64);
        }
    }
}
