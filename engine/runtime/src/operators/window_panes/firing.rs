//! Firing windows in bounded steps.

use super::{PaneMemory, PaneState, WindowPanes};
use crate::Error;
use crate::operator::{Collector, EMIT_ROWS_MAX, Progress};
use crate::operators::mutants::{self, Mutant};

/// Units of work that one call may do before it answers `More`. Merging a group is one unit.
const WORK_MAX: usize = 65_536;
/// Units of work of a step whose cost is not counted otherwise.
const STEP_WORK: usize = WORK_MAX / 16;

/// The rows that a call may still emit, and the work it may still do.
pub(crate) struct FireBudget {
    rows: usize,
    work: usize,
}

impl FireBudget {
    fn new() -> Self {
        Self {
            rows: EMIT_ROWS_MAX,
            work: WORK_MAX,
        }
    }

    /// Returns the number of rows that may still be emitted.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Counts emitted rows.
    pub(crate) fn spend_rows(&mut self, rows: usize) {
        self.rows = self.rows.saturating_sub(rows);
    }

    /// Counts merged groups, or entries read from the store.
    pub(crate) fn spend_work(&mut self, units: usize) {
        self.work = self.work.saturating_sub(units);
    }

    /// Counts a step of unknown cost.
    pub(crate) fn spend_step(&mut self) {
        self.spend_work(STEP_WORK);
    }

    fn is_spent(&self) -> bool {
        self.rows == 0 || self.work == 0
    }
}

/// An operator that fires windows of panes.
pub(crate) trait WindowOperator {
    /// The part of a pane that is in memory.
    type State: PaneState;
    /// A window that is being fired, and the point that has been reached.
    type Firing;

    /// Returns the operator's panes.
    fn panes(&mut self) -> &mut WindowPanes<Self::State>;

    /// Returns the window that is being fired.
    fn firing(&mut self) -> &mut Option<Self::Firing>;

    /// Returns the end of the next window to fire, complete or not.
    fn next_window(&self) -> Option<i64>;

    /// Returns the bytes held besides panes.
    fn other_bytes(&self) -> usize;

    /// Returns the bytes that the next batch may need besides what is held.
    fn headroom_bytes(&self) -> usize {
        0
    }

    /// Evicts the panes of these ends.
    fn evict(&mut self, ends: &[i64]) -> Result<(), Error>;

    /// Starts to fire a complete window.
    fn begin(&mut self, end: i64) -> Result<Self::Firing, Error>;

    /// Does a bounded step, and counts it in the budget. Returns `None` once the window has fired; panes that no other
    /// window needs are removed by then.
    fn step(
        &mut self,
        firing: Self::Firing,
        budget: &mut FireBudget,
        out: &mut dyn Collector,
    ) -> Result<Option<Self::Firing>, Error>;

    /// Fires complete windows in ascending order of their end, as far as one call may.
    fn fire(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        let mut budget = FireBudget::new();
        loop {
            if !self.panes().spill.is_ready()? {
                return Ok(Progress::Pending);
            }
            let Some(firing) = self.firing().take() else {
                let early_us = i64::from(mutants::is_active(Mutant::WindowsFireEarly));
                let complete = self.panes().complete().saturating_add(early_us);
                match self.next_window().filter(|end| *end <= complete) {
                    Some(end) => {
                        let firing = self.begin(end)?;
                        *self.firing() = Some(firing);
                        continue;
                    }
                    None => {
                        let other_bytes = self.other_bytes();
                        let panes = self.panes();
                        panes.set_fired(complete.max(panes.fired()));
                        panes.release_memory(other_bytes);
                        return Ok(Progress::Done);
                    }
                }
            };
            let firing = self.step(firing, &mut budget, out)?;
            *self.firing() = firing;
            if budget.is_spent() {
                return Ok(Progress::More);
            }
        }
    }

    /// Keeps the operator within its memory budget, by evicting the largest panes.
    fn relieve_memory(&mut self) -> Result<Progress, Error> {
        let (other_bytes, headroom) = (self.other_bytes(), self.headroom_bytes());
        match self.panes().request_memory(other_bytes, headroom)? {
            PaneMemory::Granted => Ok(Progress::Done),
            PaneMemory::Wait => Ok(Progress::Pending),
            PaneMemory::Evict(ends) => {
                self.evict(&ends)?;
                let other_bytes = self.other_bytes();
                self.panes().release_memory(other_bytes);
                Ok(Progress::Done)
            }
        }
    }
}
