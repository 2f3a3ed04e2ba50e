//! Firing windows in bounded steps.
//!
//! A window of one pane is emitted from that pane. The panes of a hopping window are first merged into a table of their
//! own. Cumulating windows keep the merged slices of their period from one window to the next. For a window with rows
//! in the store, the part in memory is written to the store as well; then the rows of each key group, of all slices,
//! are merged into one table and emitted.

use arrow_array::RecordBatch;

use super::merging::{CumulativePrefix, Merging};
use super::pane_format::StoredPanes;
use super::{Slices, WindowAggregate};
use crate::Error;
use crate::operators::mutants::{self, Mutant};
use crate::operators::table::Table;
use crate::operators::window_panes::{FireBudget, ReadProgress, StoredWindow};

/// Rows read from the store at once.
const SCAN_ROWS: usize = 8_192;

/// A window that is being fired.
pub(crate) enum Firing {
    /// Its panes are being merged.
    Merge(Merging),
    /// Groups are being emitted, the next one is `next`.
    Emit { end: i64, source: GroupSource, next: usize },
    /// It has rows in the store.
    Stored(StoredFiring),
}

impl Firing {
    /// Returns the bytes held besides panes and the cumulative prefix.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Merge(merging) => merging.size(),
            Self::Emit {
                source: GroupSource::Owned(table),
                ..
            } => table.size(),
            Self::Emit { .. } => 0,
            Self::Stored(stored) => stored.table.size(),
        }
    }
}

/// The table with the groups of a window.
pub(crate) enum GroupSource {
    /// The pane of a slice, which later windows need too.
    Pane(i64),
    Owned(Table),
    CumulativePrefix,
}

/// A window that is fired from the store.
pub(crate) struct StoredFiring {
    end: i64,
    stored: StoredWindow,
    /// The groups of the current key group.
    table: Table,
    /// The next group to emit; `None` while the key group is being read.
    next: Option<usize>,
}

impl WindowAggregate {
    /// Starts to fire a window.
    pub(super) fn begin_window(&mut self, end: i64) -> Result<Firing, Error> {
        let start = self.layout.slices.window_start(end);
        let slices = self.slices_of(end);
        if self.panes.any_stored(slices.iter().copied()) && !mutants::is_active(Mutant::EvictedPanesForgotten) {
            return self.begin_stored(end);
        }
        match self.layout.slices {
            Slices::Tumble { .. } | Slices::Attached => {
                let mut pane = self.panes.get_mut(end).expect("the window's one slice is open");
                let table = std::mem::replace(&mut pane.state.table, Table::new(&self.layout.spec)?);
                self.groups_expected = expected_groups(&table);
                Ok(Firing::Emit {
                    end,
                    source: GroupSource::Owned(table),
                    next: 0,
                })
            }
            Slices::Hop { .. } if slices.len() == 1 => Ok(Firing::Emit {
                end,
                source: GroupSource::Pane(slices[0]),
                next: 0,
            }),
            Slices::Hop { .. } => {
                let merged = Table::new(&self.layout.spec)?;
                let merging = Merging::new(end, merged, slices.into_iter(), &self.runs, &self.layout);
                Ok(Firing::Merge(merging))
            }
            Slices::Cumulate { .. } => {
                let prefix = match self.prefix.take().filter(|prefix| prefix.start == start) {
                    Some(prefix) => prefix,
                    None => CumulativePrefix {
                        start,
                        end: start,
                        table: Table::new(&self.layout.spec)?,
                    },
                };
                let missing = slices.into_iter().filter(|slice| *slice > prefix.end);
                let merging = Merging::new(end, prefix.table, missing, &self.runs, &self.layout);
                Ok(Firing::Merge(merging))
            }
        }
    }

    /// Returns the ends of the open slices of a window.
    fn slices_of(&self, end: i64) -> Vec<i64> {
        let start = self.layout.slices.window_start(end);
        self.panes.ends_in(start.saturating_add(1)..=end).collect()
    }

    /// Does a step of a window. Returns `None` once it has fired.
    pub(super) fn step_window(&mut self, firing: Firing, budget: &mut FireBudget) -> Result<Option<Firing>, Error> {
        match firing {
            Firing::Merge(merging) => self.step_merge(merging, budget).map(Some),
            Firing::Emit { end, mut source, next } => match self.emit_groups(end, &mut source, next, budget)? {
                Some(next) => Ok(Some(Firing::Emit { end, source, next })),
                None => {
                    self.end_window(end);
                    Ok(None)
                }
            },
            Firing::Stored(stored) => self.step_stored(stored, budget),
        }
    }

    /// Emits some more groups of a window, from `next` on. Returns the next group to emit, or `None` at the end.
    fn emit_groups(
        &mut self,
        end: i64,
        source: &mut GroupSource,
        next: usize,
        budget: &mut FireBudget,
    ) -> Result<Option<usize>, Error> {
        let mut pane;
        let table = match source {
            GroupSource::Owned(table) => table,
            GroupSource::Pane(slice) => {
                pane = self.panes.get_mut(*slice).expect("panes stay while they fire");
                &mut pane.state.table
            }
            GroupSource::CumulativePrefix => &mut self.prefix.as_mut().expect("kept while it fires").table,
        };
        let to = table.len().min(next + budget.rows());
        if to > next {
            let batch = self.layout.results(table, next..to, end)?;
            emit(&mut self.emitted, budget, batch);
        }
        Ok((to < table.len()).then_some(to))
    }

    fn step_merge(&mut self, mut merging: Merging, budget: &mut FireBudget) -> Result<Firing, Error> {
        let end = merging.end;
        if merging.is_done() {
            let source = if matches!(self.layout.slices, Slices::Cumulate { .. }) {
                self.prefix = Some(CumulativePrefix {
                    start: self.layout.slices.window_start(end),
                    end,
                    table: merging.merged,
                });
                GroupSource::CumulativePrefix
            } else {
                GroupSource::Owned(merging.merged)
            };
            return Ok(Firing::Emit { end, source, next: 0 });
        }
        merging.step(&mut self.runs, &mut self.panes, &self.layout, &mut self.groups, budget)?;
        // Without memory for the merged table, the window is fired from the store.
        if !self.may_hold(merging.size()) {
            return self.begin_stored(end);
        }
        Ok(Firing::Merge(merging))
    }

    /// Starts to fire a window from the store.
    fn begin_stored(&mut self, end: i64) -> Result<Firing, Error> {
        self.prefix = None;
        self.runs.clear();
        let slices = self.slices_of(end);
        self.evict_panes(&slices)?;
        Ok(Firing::Stored(StoredFiring {
            end,
            stored: self.panes.read_stored(&slices),
            table: Table::new(&self.layout.spec)?,
            next: None,
        }))
    }

    /// Reads or emits some more of a key group. Requires a settled store.
    fn step_stored(&mut self, mut firing: StoredFiring, budget: &mut FireBudget) -> Result<Option<Firing>, Error> {
        let Some(next) = firing.next else {
            let mut stored = StoredPanes::default();
            let store = &self.panes.spill.store;
            let progress = firing
                .stored
                .read(store, SCAN_ROWS, &mut |key, value| stored.push(key, value))?;
            self.format.merge_stored(&stored, &mut firing.table, &mut self.groups)?;
            budget.spend_work(SCAN_ROWS);
            match progress {
                ReadProgress::More => {}
                ReadProgress::KeyGroupComplete => firing.next = Some(0),
                ReadProgress::End => {
                    self.end_window(firing.end);
                    return Ok(None);
                }
            }
            return Ok(Some(Firing::Stored(firing)));
        };
        let to = firing.table.len().min(next + budget.rows());
        if to > next {
            let batch = self.layout.results(&mut firing.table, next..to, firing.end)?;
            emit(&mut self.emitted, budget, batch);
        }
        firing.next = Some(to);
        if to == firing.table.len() {
            firing.table.clear()?;
            firing.next = None;
        }
        Ok(Some(Firing::Stored(firing)))
    }

    /// Records that a window has been emitted, and drops what no later window needs.
    fn end_window(&mut self, end: i64) {
        self.panes.set_fired(end);
        if self
            .prefix
            .as_ref()
            .is_some_and(|prefix| self.layout.slices.last_window(prefix.end) <= end)
        {
            self.prefix = None;
        }
        self.runs.expire(self.layout.slices.window_start(end));
        self.drop_expired();
    }

    /// Removes panes that no window needs any more.
    pub(super) fn drop_expired(&mut self) {
        while let Some(end) = self.panes.first_end() {
            if self.layout.slices.last_window(end) > self.panes.fired() {
                break;
            }
            if let Some(pane) = self.panes.remove(end)
                && !pane.is_stored
                && !pane.state.table.is_empty()
            {
                self.groups_expected = expected_groups(&pane.state.table);
            }
        }
    }
}

/// Adds a batch to the output of the call.
fn emit(emitted: &mut Vec<RecordBatch>, budget: &mut FireBudget, batch: RecordBatch) {
    budget.spend_rows(batch.num_rows());
    if batch.num_rows() > 0 {
        emitted.push(batch);
    }
}

/// Returns the groups to expect in the next pane: windows are alike. A little less than in this one, because a table
/// that is too large is never made smaller.
fn expected_groups(table: &Table) -> usize {
    table.len() - table.len() / 8
}
