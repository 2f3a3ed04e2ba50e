//! Joins whose output depends on a row having a match: outer, semi and anti joins.
//!
//! A row has a match while the sum of the weights of visible matching rows is positive. Without a condition, all rows
//! of the other input with the same key match, and the collection knows their number. With one, each row in memory has
//! the number of its matches; it is not stored, but computed again when the rows of a key are read. If rows of the
//! other input expire, a row is marked in state while it is output as one that has a match: a match that expires does
//! not change the output.

use std::collections::HashMap;

use arrow_array::RecordBatch;
use millstream_state::keyed::{Resolved, Rows};

use super::pairs::Change;
use super::{JoinLogic, NONE, Role};
use crate::Error;
use crate::operators::mutants::{self, Mutant};

impl JoinLogic {
    /// Stores the rows of a batch, and makes the changes of the output.
    pub(super) fn apply_each(
        &mut self,
        batch: &RecordBatch,
        resolved: &[Resolved],
        rows: &mut [Rows],
        generation: u32,
    ) -> Result<(), Error> {
        let own = self.own;
        let other = 1 - own;
        self.count_matches(resolved, rows)?;
        let mut pairs = Vec::new();
        let slots = resolved[other].slots.iter().enumerate();
        for (row, slot) in slots.filter(|(row, _)| !self.has_null_key(*row)) {
            pairs.extend(visible_pairs(row as u32, *slot, &rows[other]));
        }
        let pairs = self.meeting(batch, pairs, rows)?;
        let mut next = 0;
        let matches: Vec<&[Change]> = (0..batch.num_rows() as u32)
            .map(|row| {
                let start = next;
                next += pairs[next..].iter().take_while(|pair| pair.own == row).count();
                &pairs[start..next]
            })
            .collect();
        let [left, right] = rows else { return Ok(()) };
        let (own_rows, other_rows) = match own {
            0 => (left, right),
            _ => (right, left),
        };
        let mut step = Step {
            roles: [self.roles[own], self.roles[other]],
            emits_pairs: self.emits_pairs,
            is_marked: [self.is_marked(own), self.is_marked(other)],
            is_bounded: self.expiry.is_some(),
            has_condition: self.condition.is_some(),
            changes: Vec::new(),
            entries: Vec::with_capacity(batch.num_rows()),
        };
        let slots = &resolved[own].slots;
        self.store(
            own,
            batch,
            slots,
            own_rows,
            generation,
            |own_rows, row, entry, before, after| {
                step.row(row as u32, (entry, before, after), matches[row], own_rows, other_rows);
            },
        )?;
        self.changes = step.net();
        Ok(())
    }

    /// Counts the matches of the other input's rows where they were read from the store.
    fn count_matches(&self, resolved: &[Resolved], rows: &mut [Rows]) -> Result<(), Error> {
        let (own, other) = (self.own, 1 - self.own);
        if self.condition.is_none()
            || self.roles[other] == Role::Pairs
            || mutants::is_active(Mutant::MatchesNotRecounted)
        {
            return Ok(());
        }
        let mut pairs = Vec::new();
        let slots = resolved[own].slots.iter().zip(&resolved[other].slots).enumerate();
        for (row, (own_slot, slot)) in slots {
            if rows[other].has_counts(*slot) || self.has_null_key(row) {
                continue;
            }
            rows[other].set_has_counts(*slot);
            let entries: Vec<u32> = rows[other].entries(*slot).collect();
            for entry in entries {
                rows[other].set_count(entry, 0);
                pairs.extend(visible_pairs(entry, *own_slot, &rows[own]));
            }
        }
        for pair in self.meeting_entries(other, pairs, rows)? {
            let count = rows[other].count(pair.own);
            rows[other].set_count(pair.own, count.saturating_add(clamped(pair.weight)));
        }
        Ok(())
    }

    /// Makes the output of keys at the end of input: that of the rows of the input `side`.
    pub(super) fn final_changes(&mut self, side: usize, resolved: &[Resolved], rows: &[Rows]) -> Result<(), Error> {
        let mut pairs = Vec::new();
        let mut entries = Vec::new();
        for (slot, other_slot) in resolved[side].slots.iter().zip(&resolved[1 - side].slots) {
            for entry in rows[side].entries(*slot).filter(|entry| rows[side].weight(*entry) > 0) {
                entries.push(entry);
                pairs.extend(visible_pairs(entry, *other_slot, &rows[1 - side]));
            }
        }
        let pairs = self.meeting_entries(side, pairs, rows)?;
        let mut matches = pairs.as_slice();
        // Pairs are the output of the first collection that is visited.
        let emits_pairs = self.emits_pairs && (side == 0 || self.roles[0] == Role::Pairs);
        for entry in entries {
            let count = matches.iter().take_while(|pair| pair.own == entry).count();
            let (own, rest) = matches.split_at(count);
            matches = rest;
            let weight = rows[side].weight(entry);
            if emits_pairs {
                self.changes.extend(own.iter().map(|pair| Change {
                    weight: weight * pair.weight,
                    ..*pair
                }));
            }
            let is_output = match self.roles[side] {
                Role::Pairs => false,
                Role::Outer | Role::Anti => own.is_empty(),
                Role::Semi => !own.is_empty(),
            };
            if is_output {
                self.changes.push(Change {
                    own: entry,
                    other: NONE,
                    weight,
                });
            }
        }
        self.own = side;
        self.own_is_batch = false;
        self.returned = 0;
        Ok(())
    }
}

/// Returns the pairs of a row with the visible rows of a key.
fn visible_pairs(own: u32, slot: u32, others: &Rows) -> impl Iterator<Item = Change> + '_ {
    let visible = others.entries(slot).filter(|entry| others.weight(*entry) > 0);
    visible.map(move |other| Change {
        own,
        other,
        weight: others.weight(other),
    })
}

fn clamped(weight: i64) -> u32 {
    u32::try_from(weight).unwrap_or(if weight < 0 { 0 } else { u32::MAX })
}

/// The rows of a batch, one after the other. Of pairs of settings, the first is for the input whose rows arrive.
struct Step {
    roles: [Role; 2],
    emits_pairs: bool,
    is_marked: [bool; 2],
    /// True if rows without a match are output when they expire.
    is_bounded: bool,
    has_condition: bool,
    changes: Vec<Change>,
    /// The entry of each row.
    entries: Vec<u32>,
}

impl Step {
    /// Makes the changes by a row that was stored: its entry, and its weight before and after. `matches` are its pairs.
    fn row(
        &mut self,
        row: u32,
        (entry, before, after): (u32, i64, i64),
        matches: &[Change],
        own_rows: &mut Rows,
        other_rows: &mut Rows,
    ) {
        self.entries.push(entry);
        let change = after.max(0) - before.max(0);
        if change == 0 {
            return;
        }
        if self.emits_pairs {
            self.changes.extend(matches.iter().map(|pair| Change {
                weight: change * pair.weight,
                ..*pair
            }));
        }
        self.own_row(row, entry, before, change, matches, own_rows);
        self.other_rows(entry, change, matches, own_rows, other_rows);
    }

    /// Makes the change by the row itself having a match or not.
    fn own_row(&mut self, row: u32, entry: u32, before: i64, change: i64, matches: &[Change], own_rows: &mut Rows) {
        if self.roles[0] == Role::Pairs {
            return;
        }
        let count: i64 = matches.iter().map(|pair| pair.weight).sum();
        let is_matched = match self.is_marked[0] && before > 0 {
            // Further copies of a row are output like the first one.
            true => own_rows.is_marked(entry),
            false => count > 0,
        };
        if self.is_marked[0] && !mutants::is_active(Mutant::MatchesNotMarked) {
            own_rows.set_mark(entry, is_matched);
        }
        if self.has_condition {
            own_rows.set_count(entry, clamped(count));
        }
        let is_output = match self.roles[0] {
            Role::Pairs => false,
            Role::Outer | Role::Anti => !is_matched && !self.is_bounded,
            Role::Semi => is_matched,
        };
        if is_output {
            self.changes.push(Change {
                own: row,
                other: NONE,
                weight: change,
            });
        }
    }

    /// Makes the changes by the row being the first or the last match of rows of the other input.
    fn other_rows(&mut self, entry: u32, change: i64, matches: &[Change], own_rows: &Rows, other_rows: &mut Rows) {
        if self.roles[1] == Role::Pairs {
            return;
        }
        let visible = own_rows.visible(own_rows.key_of(entry));
        let crosses_zero = (visible > 0) != (visible - change > 0);
        if !self.has_condition && !self.is_marked[1] && !crosses_zero {
            return;
        }
        for pair in matches {
            let (before, after) = match self.has_condition {
                true => {
                    let before = i64::from(other_rows.count(pair.other));
                    other_rows.set_count(pair.other, clamped(before + change));
                    (before, before + change)
                }
                false => (visible - change, visible),
            };
            let was_matched = match self.is_marked[1] {
                true => other_rows.is_marked(pair.other),
                false => before > 0,
            };
            // A match that has expired counts until another one is taken back.
            let is_matched = after > 0;
            if was_matched == is_matched {
                continue;
            }
            if self.is_marked[1] {
                other_rows.set_mark(pair.other, is_matched);
            }
            let weight = match self.roles[1] {
                Role::Outer | Role::Anti if self.is_bounded || mutants::is_active(Mutant::FirstMatchIgnored) => {
                    continue;
                }
                Role::Outer | Role::Anti if is_matched => -pair.weight,
                Role::Outer | Role::Anti => pair.weight,
                Role::Semi if is_matched => pair.weight,
                Role::Semi | Role::Pairs => -pair.weight,
            };
            self.changes.push(Change {
                own: NONE,
                other: pair.other,
                weight,
            });
        }
    }

    /// Returns the net changes, removed rows first.
    fn net(self) -> Vec<Change> {
        if self.changes.iter().all(|change| change.weight > 0) {
            return self.changes;
        }
        let mut places: HashMap<(u32, u32), usize> = HashMap::with_capacity(self.changes.len());
        let mut net: Vec<Change> = Vec::with_capacity(self.changes.len());
        for change in self.changes {
            let own = match change.own {
                NONE => NONE,
                row => self.entries[row as usize],
            };
            let place = *places.entry((own, change.other)).or_insert_with(|| {
                net.push(Change { weight: 0, ..change });
                net.len() - 1
            });
            net[place].weight += change.weight;
        }
        net.retain(|change| change.weight != 0);
        net.sort_by_key(|change| change.weight > 0);
        net
    }
}
