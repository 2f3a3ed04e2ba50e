//! Merging the slices of a window, in bounded steps.
//!
//! A hopping window shares all but one of its slices with the window before it. Where a window has many slices, merging
//! all of them for every window would cost time in proportion to the window's length. Therefore slices are merged into
//! *runs*, with about as many slices in a run as there are runs in a window: a run is merged when the first window
//! contains it completely; the following windows merge the run, and the few slices at either end. When a row comes for
//! a slice whose run has been merged (late for some windows, but not for all), the run is merged again.
//!
//! Runs are derived from panes. They are no state, and are dropped first when memory is short.

use std::collections::{BTreeMap, VecDeque};

use super::pane_table::PaneTable;
use super::slices::floor;
use super::{Layout, Slices};
use crate::Error;
use crate::operators::table::Table;
use crate::operators::window_panes::{FireBudget, WindowPanes};

/// Groups merged at once.
const MERGE_GROUPS: usize = 8_192;
/// Windows of fewer slices are merged without runs.
const RUN_SLICES_MIN: i64 = 9;

/// The runs that have been merged.
pub(super) struct Runs {
    /// Length of a run; 0 where there are none.
    length: i64,
    offset: i64,
    /// By the end of the last slice.
    tables: BTreeMap<i64, Table>,
}

impl Runs {
    /// Creates the runs of these windows.
    pub(super) fn new(slices: &Slices) -> Self {
        let (length, offset) = match *slices {
            Slices::Hop { size, slide, offset } if size / slide >= RUN_SLICES_MIN => {
                let slices_per_run = ((size / slide) as u64).isqrt() as i64;
                (slices_per_run.saturating_mul(slide), offset)
            }
            _ => (0, 0),
        };
        Self {
            length,
            offset,
            tables: BTreeMap::new(),
        }
    }

    /// Returns the end of a slice's run, if the window from `start` to `end` contains the run completely.
    fn of_slice(&self, slice_end: i64, start: i64, end: i64) -> Option<i64> {
        if self.length == 0 {
            return None;
        }
        let run_start = floor(slice_end.saturating_sub(1), self.length, self.offset);
        let run_end = run_start.saturating_add(self.length);
        (run_start >= start && run_end <= end).then_some(run_end)
    }

    /// Drops the run of a slice that has changed.
    pub(super) fn invalidate(&mut self, slice_end: i64) {
        if !self.tables.is_empty() {
            let run_start = floor(slice_end.saturating_sub(1), self.length, self.offset);
            self.tables.remove(&run_start.saturating_add(self.length));
        }
    }

    /// Drops the runs that no window after the one that starts at `start` contains completely.
    pub(super) fn expire(&mut self, start: i64) {
        while let Some(first) = self.tables.first_entry() {
            if first.key().saturating_sub(self.length) > start {
                break;
            }
            first.remove();
        }
    }

    /// Drops all runs.
    pub(super) fn clear(&mut self) {
        self.tables.clear();
    }

    /// Returns the bytes held.
    pub(super) fn size(&self) -> usize {
        self.tables.values().map(Table::size).sum()
    }
}

/// The merged slices of a cumulating window's period, from its start on.
pub(super) struct CumulativePrefix {
    /// Start of the period.
    pub start: i64,
    /// End of the last merged slice.
    pub end: i64,
    /// The merged groups.
    pub table: Table,
}

/// A part of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Slice(i64),
    Run(i64),
}

/// A merge of the parts of a window.
pub(crate) struct Merging {
    /// End of the window.
    pub end: i64,
    /// The groups merged so far.
    pub merged: Table,
    /// Parts that are not merged completely, and the next group of the first one.
    parts: VecDeque<Part>,
    next: usize,
    /// The first part's run while it is being merged.
    run: Option<RunMerging>,
}

/// A merge of the slices of a run.
struct RunMerging {
    table: Table,
    /// Slices that are not merged completely, and the next group of the first one.
    slices: VecDeque<i64>,
    next: usize,
}

impl Merging {
    /// Starts to merge these slices of the window that ends at `end` into a table.
    pub(super) fn new(
        end: i64,
        merged: Table,
        slices: impl Iterator<Item = i64>,
        runs: &Runs,
        layout: &Layout,
    ) -> Self {
        let start = layout.slices.window_start(end);
        let mut parts = VecDeque::new();
        for slice in slices {
            let part = match runs.of_slice(slice, start, end) {
                Some(run) => Part::Run(run),
                None => Part::Slice(slice),
            };
            if parts.back() != Some(&part) {
                parts.push_back(part);
            }
        }
        Self {
            end,
            merged,
            parts,
            next: 0,
            run: None,
        }
    }

    /// Returns the bytes held.
    pub(crate) fn size(&self) -> usize {
        self.merged.size() + self.run.as_ref().map_or(0, |run| run.table.size())
    }

    /// Returns true if all parts are merged.
    pub(crate) fn is_done(&self) -> bool {
        self.parts.is_empty()
    }

    /// Merges some more groups. `groups` is scratch.
    pub(super) fn step(
        &mut self,
        runs: &mut Runs,
        panes: &mut WindowPanes<PaneTable>,
        layout: &Layout,
        groups: &mut Vec<u32>,
        budget: &mut FireBudget,
    ) -> Result<(), Error> {
        let Some(part) = self.parts.front().copied() else {
            return Ok(());
        };
        let merged = match part {
            Part::Run(run) if !runs.tables.contains_key(&run) => self.merge_run(run, runs, panes, layout, groups)?,
            part => {
                let mut pane;
                let source = match part {
                    Part::Slice(slice) => {
                        pane = panes.get_mut(slice).expect("panes stay while they are merged");
                        &mut pane.state.table
                    }
                    Part::Run(run) => runs.tables.get_mut(&run).expect("looked up above"),
                };
                let (merged, is_last) = merge_some(&mut self.merged, source, &mut self.next, groups)?;
                if is_last {
                    self.parts.pop_front();
                }
                merged
            }
        };
        budget.spend_work(merged);
        Ok(())
    }

    /// Merges some more groups of a run's slices, and returns their number.
    fn merge_run(
        &mut self,
        run: i64,
        runs: &mut Runs,
        panes: &mut WindowPanes<PaneTable>,
        layout: &Layout,
        groups: &mut Vec<u32>,
    ) -> Result<usize, Error> {
        let merging = match &mut self.run {
            Some(merging) => merging,
            None => {
                let first = run.saturating_sub(runs.length).saturating_add(1);
                self.run.insert(RunMerging {
                    table: Table::new(&layout.spec)?,
                    slices: panes.ends_in(first..=run).collect(),
                    next: 0,
                })
            }
        };
        let Some(slice) = merging.slices.front() else {
            if let Some(merging) = self.run.take() {
                runs.tables.insert(run, merging.table);
            }
            return Ok(0);
        };
        let mut pane = panes.get_mut(*slice).expect("panes stay while they are merged");
        let (merged, is_last) = merge_some(&mut merging.table, &mut pane.state.table, &mut merging.next, groups)?;
        if is_last {
            merging.slices.pop_front();
        }
        Ok(merged)
    }
}

/// Merges some more groups of a table, from `next` on. Returns their number, and true at the end; `next` is 0 then.
fn merge_some(
    into: &mut Table,
    source: &mut Table,
    next: &mut usize,
    groups: &mut Vec<u32>,
) -> Result<(usize, bool), Error> {
    let to = source.len().min(*next + MERGE_GROUPS);
    into.merge_table(source, *next..to, groups)?;
    let merged = to - *next;
    let is_last = to == source.len();
    *next = if is_last { 0 } else { to };
    Ok((merged, is_last))
}
