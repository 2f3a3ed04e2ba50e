//! Merging the slices of a window, in bounded steps.
//!
//! A hopping window shares all but one of its slices with the window before it. Where there are many, merging each of
//! them again for every window would cost as much as the window is long. So they are gathered in *runs*, about as many
//! slices in a run as there are runs in a window: a run is merged when the first window contains it whole, and the next
//! ones merge what came of it, besides the few slices at either end. A row that comes for a slice when its run has been
//! gathered already (late for some windows, but not for all) makes the run be gathered anew.
//!
//! Runs are derived from panes: they are no state, and go first when memory is short.

use std::collections::{BTreeMap, VecDeque};

use super::firing::{Allowance, Firing, Running, Source};
use super::slices::floor;
use super::{Slices, WindowAggregate};
use crate::Error;
use crate::operators::table::Table;

/// Groups merged at once.
const MERGE_STEP: usize = 8_192;
/// Windows of fewer slices are merged without runs.
const RUN_SLICES_MIN: i64 = 9;

/// Runs that have been gathered.
pub(super) struct Runs {
    /// Length of a run; 0 where there are none.
    length: i64,
    offset: i64,
    /// By the end of the last slice.
    tables: BTreeMap<i64, Table>,
}

impl Runs {
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

    /// The run of a slice, if the window from `start` to `end` contains it whole.
    fn of_slice(&self, slice_end: i64, start: i64, end: i64) -> Option<i64> {
        if self.length == 0 {
            return None;
        }
        let run_start = floor(slice_end.saturating_sub(1), self.length, self.offset);
        let run_end = run_start.saturating_add(self.length);
        (run_start >= start && run_end <= end).then_some(run_end)
    }

    /// A slice has changed.
    pub(super) fn on_change(&mut self, slice_end: i64) {
        if !self.tables.is_empty() {
            let run_start = floor(slice_end.saturating_sub(1), self.length, self.offset);
            self.tables.remove(&run_start.saturating_add(self.length));
        }
    }

    /// Forgets what no window that starts after `start` contains whole.
    pub(super) fn expire(&mut self, start: i64) {
        while let Some(first) = self.tables.first_entry() {
            if first.key().saturating_sub(self.length) > start {
                break;
            }
            first.remove();
        }
    }

    /// Gives back all memory; answers whether there was any.
    pub(super) fn clear(&mut self) -> bool {
        !std::mem::take(&mut self.tables).is_empty()
    }

    pub(super) fn size(&self) -> usize {
        self.tables.values().map(Table::size).sum()
    }
}

/// What a window is merged from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Slice(i64),
    Run(i64),
}

/// A window being merged.
pub(super) struct Merging {
    end: i64,
    merged: Table,
    /// Parts still to merge; `next` is the first group of the first that is not.
    parts: VecDeque<Part>,
    next: usize,
    /// The run that is gathered for it, its slices still to merge, and the first group of the first that is not.
    gathering: Option<(Table, VecDeque<i64>, usize)>,
}

impl Merging {
    pub(super) fn size(&self) -> usize {
        let gathering = self.gathering.as_ref();
        self.merged.size() + gathering.map_or(0, |(table, ..)| table.size())
    }
}

impl WindowAggregate {
    /// Starts to merge these slices, all of the window that ends there, into a table.
    pub(super) fn begin_merge(&self, end: i64, merged: Table, slices: impl Iterator<Item = i64>) -> Merging {
        let start = self.layout.slices.window_start(end);
        let mut parts = VecDeque::new();
        for slice in slices {
            let part = match self.runs.of_slice(slice, start, end) {
                Some(run) => Part::Run(run),
                None => Part::Slice(slice),
            };
            if parts.back() != Some(&part) {
                parts.push_back(part);
            }
        }
        Merging {
            end,
            merged,
            parts,
            next: 0,
            gathering: None,
        }
    }

    /// One step.
    pub(super) fn step_merge(&mut self, mut merging: Merging, allowance: &mut Allowance) -> Result<Firing, Error> {
        let end = merging.end;
        let Some(part) = merging.parts.front().copied() else {
            let source = if matches!(self.layout.slices, Slices::Cumulate { .. }) {
                let start = self.layout.slices.window_start(end);
                self.running = Some(Running::new(start, end, merging.merged));
                Source::Running
            } else {
                Source::Owned(merging.merged)
            };
            return Ok(Firing::Emit { end, source, next: 0 });
        };
        let merged = match part {
            Part::Run(run) if !self.runs.tables.contains_key(&run) => self.gather(&mut merging, run)?,
            part => {
                let source = match part {
                    Part::Slice(slice) => {
                        &mut self
                            .panes
                            .get_mut(&slice)
                            .expect("panes stay while they are merged")
                            .table
                    }
                    Part::Run(run) => self.runs.tables.get_mut(&run).expect("looked up above"),
                };
                let (to, is_last) = merge_some(&mut merging.merged, source, merging.next, &mut self.groups)?;
                let merged = to - merging.next;
                merging.next = to;
                if is_last {
                    merging.parts.pop_front();
                    merging.next = 0;
                }
                merged
            }
        };
        allowance.groups = allowance.groups.saturating_sub(merged);
        let size = merging.size();
        if !self.may_hold(size) {
            let start = self.layout.slices.window_start(end);
            let slices = self
                .panes
                .range(start.saturating_add(1)..=end)
                .map(|(end, _)| *end)
                .collect();
            return Ok(Firing::Stored(self.begin_stored(end, slices)?));
        }
        Ok(Firing::Merge(merging))
    }

    /// Merges some more of a run's slices; answers how many groups.
    fn gather(&mut self, merging: &mut Merging, run: i64) -> Result<usize, Error> {
        let (table, slices, next) = match &mut merging.gathering {
            Some(gathering) => gathering,
            None => {
                let first = run.saturating_sub(self.runs.length).saturating_add(1);
                let slices = self.panes.range(first..=run).map(|(end, _)| *end).collect();
                merging.gathering.insert((Table::new(&self.layout.spec)?, slices, 0))
            }
        };
        let Some(slice) = slices.front() else {
            if let Some((table, ..)) = merging.gathering.take() {
                self.runs.tables.insert(run, table);
            }
            return Ok(0);
        };
        let source = &mut self
            .panes
            .get_mut(slice)
            .expect("panes stay while they are merged")
            .table;
        let (to, is_last) = merge_some(table, source, *next, &mut self.groups)?;
        let merged = to - *next;
        *next = to;
        if is_last {
            slices.pop_front();
            *next = 0;
        }
        Ok(merged)
    }
}

/// Merges some more groups, from `next` on: where it got to, and whether that is the end.
fn merge_some(
    into: &mut Table,
    source: &mut Table,
    next: usize,
    groups: &mut Vec<u32>,
) -> Result<(usize, bool), Error> {
    let to = source.len().min(next + MERGE_STEP);
    into.merge_table(source, next..to, groups)?;
    Ok((to, to == source.len()))
}
