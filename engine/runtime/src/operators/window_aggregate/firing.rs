//! Firing windows in bounded steps.
//!
//! [`WindowAggregate::advance`] fires complete windows one after the other, in ascending order of their end, and stops
//! when it has emitted or merged enough for one call. A window of one pane is emitted from it; one of several (hopping)
//! is merged into a table of its own first; cumulating windows keep the merged slices of their period from one window
//! to the next. A window with rows in the store is fired from there.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use millstream_graph::Port;

use super::merging::Merging;
use super::stored::StoredFiring;
use super::{Slices, WindowAggregate};
use crate::Error;
use crate::operator::{Collector, EMIT_ROWS_MAX, Progress};
use crate::operators::table::{Select, Table};

/// Groups that one call merges before it answers `More`.
const MERGE_GROUPS_MAX: usize = 65_536;

/// The window being fired.
pub(super) enum Firing {
    /// Its panes are being merged.
    Merge(Merging),
    /// Emitting groups from `next` on.
    Emit {
        end: i64,
        source: Source,
        next: usize,
    },
    Stored(StoredFiring),
}

impl Firing {
    /// Bytes held besides panes and what is running.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Merge(merging) => merging.size(),
            Self::Emit {
                source: Source::Owned(table),
                ..
            } => table.size(),
            Self::Emit { .. } => 0,
            Self::Stored(stored) => stored.size(),
        }
    }
}

/// Where the groups of a window are.
pub(super) enum Source {
    /// The pane of that slice, which later windows need too.
    Pane(i64),
    Owned(Table),
    Running,
}

/// Merged slices of a cumulating window's period.
pub(super) struct Running {
    start: i64,
    /// Slices up to here are merged.
    end: i64,
    pub(super) table: Table,
}

impl Running {
    pub(super) fn new(start: i64, end: i64, table: Table) -> Self {
        Self { start, end, table }
    }
}

/// What is left of one call's allowance.
pub(super) struct Allowance {
    pub rows: usize,
    pub groups: usize,
    batches: Vec<RecordBatch>,
}

impl Allowance {
    pub(super) fn emit(&mut self, batch: RecordBatch) {
        self.rows = self.rows.saturating_sub(batch.num_rows());
        self.batches.push(batch);
    }

    fn is_spent(&self) -> bool {
        self.rows == 0 || self.groups == 0
    }
}

impl WindowAggregate {
    /// End of the next window to fire, complete or not.
    pub(super) fn next_window(&self) -> Option<i64> {
        // Panes are ordered, and so are their next windows.
        self.panes
            .keys()
            .find_map(|slice_end| self.layout.slices.next_window(*slice_end, self.fired))
    }

    /// Fires what is complete, as much as one call may.
    pub(super) fn advance(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        let mut allowance = Allowance {
            rows: EMIT_ROWS_MAX,
            groups: MERGE_GROUPS_MAX,
            batches: Vec::new(),
        };
        let progress = self.fire(&mut allowance);
        // Many small windows leave as one batch.
        match allowance.batches.as_slice() {
            [] => {}
            [batch] => out.emit(Port::Main, batch.clone()),
            batches => out.emit(Port::Main, concat_batches(self.layout.output.schema(), batches)?),
        }
        progress
    }

    fn fire(&mut self, allowance: &mut Allowance) -> Result<Progress, Error> {
        if !self.store.spill.is_ready()? {
            return Ok(Progress::Pending);
        }
        loop {
            let Some(firing) = self.firing.take() else {
                match self.next_window() {
                    Some(end) if end <= self.complete => {
                        self.firing = Some(self.begin(end)?);
                        continue;
                    }
                    _ => {
                        self.fired = self.fired.max(self.complete);
                        self.give_back_memory();
                        return Ok(Progress::Done);
                    }
                }
            };
            let (firing, ready) = self.step(firing, allowance)?;
            self.firing = firing;
            if !ready {
                return Ok(Progress::Pending);
            }
            if allowance.is_spent() {
                return Ok(Progress::More);
            }
        }
    }

    /// Starts on a window.
    fn begin(&mut self, end: i64) -> Result<Firing, Error> {
        let start = self.layout.slices.window_start(end);
        let slices: VecDeque<i64> = self
            .panes
            .range(start.saturating_add(1)..=end)
            .map(|(end, _)| *end)
            .collect();
        if slices.iter().any(|slice| self.panes[slice].stored) {
            return Ok(Firing::Stored(self.begin_stored(end, slices.into())?));
        }
        match self.layout.slices {
            Slices::Tumble { .. } | Slices::Attached => {
                let pane = self.panes.get_mut(&end).expect("the window's one slice is open");
                self.groups_expected = pane.table.len() - pane.table.len() / 8;
                let table = std::mem::replace(&mut pane.table, Table::new(&self.layout.spec)?);
                Ok(Firing::Emit {
                    end,
                    source: Source::Owned(table),
                    next: 0,
                })
            }
            Slices::Hop { .. } if slices.len() == 1 => Ok(Firing::Emit {
                end,
                source: Source::Pane(slices[0]),
                next: 0,
            }),
            Slices::Hop { .. } => {
                let merged = Table::new(&self.layout.spec)?;
                Ok(Firing::Merge(self.begin_merge(end, merged, slices.into_iter())))
            }
            Slices::Cumulate { .. } => {
                let running = match self.running.take().filter(|running| running.start == start) {
                    Some(running) => running,
                    None => Running {
                        start,
                        end: start,
                        table: Table::new(&self.layout.spec)?,
                    },
                };
                let missing = slices.into_iter().filter(|slice| *slice > running.end);
                Ok(Firing::Merge(self.begin_merge(end, running.table, missing)))
            }
        }
    }

    /// One step of a window; `None` when it is through. The flag is false while the store is not ready.
    fn step(&mut self, firing: Firing, allowance: &mut Allowance) -> Result<(Option<Firing>, bool), Error> {
        match firing {
            Firing::Merge(merging) => Ok((Some(self.step_merge(merging, allowance)?), true)),
            Firing::Emit { end, mut source, next } => {
                let table = match &mut source {
                    Source::Owned(table) => table,
                    Source::Pane(slice) => &mut self.panes.get_mut(slice).expect("panes stay while they fire").table,
                    Source::Running => &mut self.running.as_mut().expect("kept while it fires").table,
                };
                let to = table.len().min(next + allowance.rows);
                if to > next {
                    let select = Select::Range(next..to);
                    let keys = table.keys(&select)?;
                    let results = table.results(&select)?;
                    let start = self.layout.slices.window_start(end);
                    allowance.emit(self.layout.output.batch(keys, results, start, end, to - next)?);
                }
                if to < table.len() {
                    return Ok((Some(Firing::Emit { end, source, next: to }), true));
                }
                self.end_window(end)?;
                Ok((None, true))
            }
            Firing::Stored(stored) => self.step_stored(stored, allowance),
        }
    }

    /// A window has been emitted.
    pub(super) fn end_window(&mut self, end: i64) -> Result<(), Error> {
        self.fired = end;
        if self
            .running
            .as_ref()
            .is_some_and(|running| self.layout.slices.last_window(running.end) <= end)
        {
            self.running = None;
        }
        self.runs.expire(self.layout.slices.window_start(end));
        self.drop_expired()
    }

    /// Removes panes that no window needs any more.
    pub(super) fn drop_expired(&mut self) -> Result<(), Error> {
        while let Some(first) = self.panes.first_entry() {
            if self.layout.slices.last_window(*first.key()) > self.fired {
                break;
            }
            let (slice_end, pane) = first.remove_entry();
            if !pane.stored && !pane.table.is_empty() {
                self.groups_expected = pane.table.len() - pane.table.len() / 8;
            }
            self.store.spill.mark_expired(slice_end, &pane.written);
        }
        Ok(())
    }
}
