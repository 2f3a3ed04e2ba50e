//! Joins of two inputs without windows.
//!
//! Each input has a collection of its rows by key ([`Side`]). A row that arrives is stored, and joined with the rows of
//! the other input: within a call these do not change, so the pairs of a batch are found, and the residual condition is
//! evaluated, for the whole batch. An inner join emits the pairs as they are found. For the other types, the rows are
//! then looked at one by one, because each may be the first or the last match of rows of the other input
//! ([`unmatched`]).
//!
//! A stored row is visible while its weight is positive: a deletion may arrive before the insertion it belongs to.
//!
//! An interval join is the same on append-only inputs, with rows that expire by event time ([`expiry`]).

mod expiry;
mod pairs;
mod side;
mod unmatched;

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::datatypes::SchemaRef;
use arrow_array::RecordBatch;
use datafusion::logical_expr::JoinType;
use millstream_graph::{self as graph, Emission};
use millstream_state::keyed::{Identity, Resolved, Rows, RowsOptions};

use self::expiry::Expiry;
pub(super) use self::pairs::removed_first;
use self::pairs::{Change, Condition, Pairs};
pub(super) use self::side::{NONE, Side, nullable_fields};
use super::OperatorContext;
use super::keyed::{KeyedRows, OutputForm, RowKeys, RowsForm, RowsLogic, WeightedRows, expires};
use crate::Error;
use crate::operator::Timestamp;
use crate::operators::mutants::{self, Mutant};

/// Makes the operator of a node.
pub(super) fn join(
    name: &str,
    node: &graph::Join,
    inputs: [&SchemaRef; 2],
    output: &graph::Stream,
    context: OperatorContext,
) -> Result<KeyedRows<JoinLogic>, Error> {
    let logic = JoinLogic::new(name, node, inputs, context.max_parallelism)?;
    let form = RowsForm {
        output: OutputForm::of_changes(output),
        emission: node.emission,
        state_ttl: logic.state_ttl.to_vec(),
    };
    KeyedRows::new(logic, form, context)
}

/// The output that depends on a row of an input having a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// None.
    Pairs,
    /// The row with NULLs, while it has no match.
    Outer,
    /// The row itself, while it has a match.
    Semi,
    /// The row itself, while it has no match.
    Anti,
}

fn roles(join_type: JoinType) -> Option<[Role; 2]> {
    Some(match join_type {
        JoinType::Inner => [Role::Pairs, Role::Pairs],
        JoinType::Left => [Role::Outer, Role::Pairs],
        JoinType::Right => [Role::Pairs, Role::Outer],
        JoinType::Full => [Role::Outer, Role::Outer],
        JoinType::LeftSemi => [Role::Semi, Role::Pairs],
        JoinType::LeftAnti => [Role::Anti, Role::Pairs],
        JoinType::RightSemi | JoinType::RightAnti | JoinType::LeftMark | JoinType::RightMark => return None,
    })
}

/// The logic of the operator.
pub(super) struct JoinLogic {
    roles: [Role; 2],
    /// True if output rows have the columns of both inputs; otherwise those of the left one.
    emits_pairs: bool,
    sides: [Side; 2],
    nulls_are_equal: bool,
    condition: Option<Condition>,
    expiry: Option<Expiry>,
    state_ttl: [Option<std::time::Duration>; 2],
    max_parallelism: u16,
    /// True if the output is made at the end of input.
    is_deferred: bool,
    /// Rows of the present call that can have matches.
    batch: Option<RecordBatch>,
    /// Those of these rows that have a NULL in their key, as invalid. They have no matches.
    null_keys: Option<NullBuffer>,
    /// By input: true if it has ended and the output is final.
    has_ended: [bool; 2],
    emission: Emission,
    /// Output of the present call that is complete.
    ready: Vec<WeightedRows>,
    pairs: Option<Pairs>,
    changes: Vec<Change>,
    /// The input whose rows the changes number, and their place: rows of the batch, or entries.
    own: usize,
    own_is_batch: bool,
    /// Number of changes that have been returned.
    returned: usize,
}

impl JoinLogic {
    fn new(name: &str, node: &graph::Join, inputs: [&SchemaRef; 2], max_parallelism: u16) -> Result<Self, Error> {
        let roles = roles(node.join_type).ok_or_else(|| Error::Operator {
            operator: name.to_owned(),
            message: format!("a {} join must be planned the other way round", node.join_type),
        })?;
        let emits_pairs = !matches!(roles[0], Role::Semi | Role::Anti);
        let state_ttl = match &node.bounds {
            Some(_) => [None, None],
            None => node.state_ttl.map(|ttl| ttl.filter(|_| expires(ttl, node.emission))),
        };
        let side = |at: usize| {
            let key = node
                .on
                .iter()
                .map(|pair| if at == 0 { pair.0 } else { pair.1 })
                .collect();
            let other_expires = node.bounds.is_some() || state_ttl[1 - at].is_some();
            let is_counted = at == 1 && !emits_pairs && node.filter.is_none() && node.bounds.is_none();
            Side::new(inputs[at], key, roles[at] != Role::Pairs && other_expires, is_counted)
        };
        Ok(Self {
            roles,
            emits_pairs,
            sides: [side(0), side(1)],
            nulls_are_equal: node.nulls_are_equal,
            condition: match &node.filter {
                Some(filter) => Some(Condition::new(filter, inputs)?),
                None => None,
            },
            is_deferred: node.emission == Emission::Final && node.bounds.is_none() && roles != [Role::Pairs; 2],
            expiry: node
                .bounds
                .clone()
                .map(|bounds| Expiry::new(bounds, roles, node.emission)),
            state_ttl,
            max_parallelism,
            has_ended: [false; 2],
            emission: node.emission,
            batch: None,
            null_keys: None,
            ready: Vec::new(),
            pairs: None,
            changes: Vec::new(),
            own: 0,
            own_is_batch: true,
            returned: 0,
        })
    }

    /// Returns true if rows of an input are marked as matched, because rows of the other input expire.
    fn is_marked(&self, side: usize) -> bool {
        let other_expires = self.expiry.is_some() || self.state_ttl[1 - side].is_some();
        self.roles[side] != Role::Pairs && other_expires
    }

    /// Returns true if the output consists of pairs only, so that keys without rows of the other input need no state.
    fn has_pairs_only(&self) -> bool {
        self.roles == [Role::Pairs; 2]
    }

    /// Returns true if the rows of an input are joined but not stored, since no row of the other input will follow.
    fn is_probe(&self, input: usize) -> bool {
        self.has_pairs_only() && self.has_ended[1 - input] && !self.sides[input].is_changelog
    }

    /// Returns true if a row of the present batch has a NULL in its key, and so no matches.
    fn has_null_key(&self, row: usize) -> bool {
        self.null_keys.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Returns the columns of output rows: `own` are those of the input `side`, `other` those of the other one.
    fn output_columns(&self, side: usize, own: Vec<ArrayRef>, other: Vec<ArrayRef>) -> Vec<ArrayRef> {
        let (mut left, right) = match side {
            0 => (own, other),
            _ => (other, own),
        };
        if self.emits_pairs {
            left.extend(right);
        }
        left
    }

    /// Returns rows of an input without a match as output rows.
    fn unmatched_rows(&self, side: usize, own: Vec<ArrayRef>, weights: Vec<i64>) -> WeightedRows {
        let other = match self.emits_pairs {
            true => self.sides[1 - side].nulls(weights.len()),
            false => Vec::new(),
        };
        WeightedRows {
            columns: self.output_columns(side, own, other),
            weights,
        }
    }

    /// Returns the rows of a batch that can have matches. Of the others, those without a match are output at once.
    fn matchable(&mut self, side: usize, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        self.null_keys = None;
        let null_keys = match self.nulls_are_equal || mutants::is_active(Mutant::NullKeysJoined) {
            true => None,
            false => self.sides[side].null_keys(batch),
        };
        let is_output = matches!(self.roles[side], Role::Outer | Role::Anti);
        if self.sides[side].is_changelog && is_output {
            // They are in state like other rows, because a deletion may arrive before its insertion.
            self.null_keys = null_keys;
            return Ok(batch.clone());
        }
        let nulls = match &self.expiry {
            Some(expiry) => expiry.with_unmatchable(side, batch, null_keys),
            None => null_keys,
        };
        let Some(nulls) = nulls else {
            return Ok(batch.clone());
        };
        let (kept, rest): (Vec<u32>, Vec<u32>) =
            (0..batch.num_rows() as u32).partition(|row| nulls.is_valid(*row as usize));
        if is_output && !rest.is_empty() {
            let columns = self.sides[side].take(batch, &rest)?;
            let rows = self.unmatched_rows(side, columns, vec![1; rest.len()]);
            self.ready.push(rows);
        }
        let kept = arrow::array::UInt32Array::from(kept);
        Ok(arrow_select::take::take_record_batch(batch, &kept)?)
    }

    /// Stores the rows of a batch, as [`Side::store`] does.
    fn store(
        &mut self,
        side: usize,
        batch: &RecordBatch,
        slots: &[u32],
        rows: &mut Rows,
        generation: u32,
        visit: impl FnMut(&mut Rows, usize, u32, i64, i64),
    ) -> Result<(), Error> {
        let generations = match &mut self.expiry {
            Some(expiry) => expiry.generations(side, batch)?,
            None => Vec::new(),
        };
        let generation = |row: usize| generations.get(row).copied().unwrap_or(generation);
        let forgets = self.state_ttl[side].is_some();
        self.sides[side].store(batch, slots, rows, generation, forgets, visit)
    }

    /// Returns the next changes among those that were made.
    fn next_made_changes(&mut self, rows: &[Rows]) -> Result<Option<WeightedRows>, Error> {
        let rest = &self.changes[self.returned.min(self.changes.len())..];
        let mut count = 0;
        let mut emitted = 0;
        while count < rest.len() && emitted < super::keyed::CHANGES_MAX as i64 {
            emitted += rest[count].weight.abs();
            count += 1;
        }
        if count == 0 {
            self.changes = Vec::new();
            self.returned = 0;
            return Ok(None);
        }
        let changes = &rest[..count];
        let own_rows: Vec<u32> = changes.iter().map(|change| change.own).collect();
        let others: Vec<u32> = changes.iter().map(|change| change.other).collect();
        let weights = changes.iter().map(|change| change.weight).collect();
        self.returned += count;
        let needs = |side: usize| self.emits_pairs || side == 0;
        let own = match (&self.batch, self.own_is_batch) {
            _ if !needs(self.own) => Vec::new(),
            (Some(batch), true) => self.sides[self.own].take(batch, &own_rows)?,
            _ => self.sides[self.own].gather(&rows[self.own], &own_rows)?,
        };
        let other = match needs(1 - self.own) {
            true => self.sides[1 - self.own].gather(&rows[1 - self.own], &others)?,
            false => Vec::new(),
        };
        Ok(Some(WeightedRows {
            columns: self.output_columns(self.own, own, other),
            weights,
        }))
    }
}

impl RowsLogic for JoinLogic {
    fn collections(&self) -> Vec<RowsOptions> {
        let options = |side: usize| {
            let is_expiring = self.expiry.is_some() || self.state_ttl[side].is_some();
            self.sides[side].options(side as u8, self.max_parallelism, is_expiring)
        };
        vec![options(0), options(1)]
    }

    fn late_rows(&self, input: usize, batch: &RecordBatch, watermark: Timestamp) -> Result<Vec<u32>, Error> {
        match &self.expiry {
            Some(expiry) => expiry.late_rows(input, batch, watermark),
            None => Ok(Vec::new()),
        }
    }

    fn keys(&mut self, input: usize, batch: &RecordBatch) -> Result<Vec<RowKeys>, Error> {
        let batch = self.matchable(input, batch)?;
        let keys = |side: usize| {
            let is_own = side == input;
            let is_changed = self.sides[side].identity == Identity::Content;
            let is_counted = !self.has_pairs_only() && !self.is_deferred;
            RowKeys {
                // The keys of both inputs are the same.
                keys: match is_own && self.is_probe(input) {
                    true => self.sides[input].keys(&batch.slice(0, 0)),
                    false => self.sides[input].keys(&batch),
                },
                is_looked_up: !is_own && self.has_pairs_only(),
                is_read: if is_own {
                    is_changed || is_counted
                } else {
                    !self.is_deferred
                },
            }
        };
        let keys = vec![keys(0), keys(1)];
        self.batch = Some(batch);
        Ok(keys)
    }

    fn apply(
        &mut self,
        input: usize,
        _batch: &RecordBatch,
        resolved: &[Resolved],
        rows: &mut [Rows],
        generations: &[u32],
    ) -> Result<(), Error> {
        let Some(batch) = self.batch.clone() else { return Ok(()) };
        self.own = input;
        self.own_is_batch = true;
        let slots = &resolved[input].slots;
        let generation = generations[input];
        if self.is_deferred {
            return self.store(input, &batch, slots, &mut rows[input], generation, |_, _, _, _, _| {});
        }
        if !self.has_pairs_only() {
            return self.apply_each(&batch, resolved, rows, generation);
        }
        if self.is_probe(input) {
            let weights = vec![1; batch.num_rows()];
            self.pairs = Some(Pairs::new(resolved[1 - input].slots.clone(), weights));
            return Ok(());
        }
        let generations = match &mut self.expiry {
            Some(expiry) => expiry.generations(input, &batch)?,
            None => Vec::new(),
        };
        let generation = |row: usize| generations.get(row).copied().unwrap_or(generation);
        let forgets = self.state_ttl[input].is_some();
        let weights = self.sides[input].store_net(&batch, slots, &mut rows[input], generation, forgets)?;
        self.pairs = Some(Pairs::new(resolved[1 - input].slots.clone(), weights));
        Ok(())
    }

    fn next_changes(&mut self, rows: &[Rows]) -> Result<Option<WeightedRows>, Error> {
        if let Some(ready) = self.ready.pop() {
            return Ok(Some(ready));
        }
        if let Some(mut pairs) = self.pairs.take()
            && let Some(changes) = self.next_pairs(&mut pairs, rows)?
        {
            self.pairs = Some(pairs);
            return Ok(Some(changes));
        }
        if let Some(changes) = self.next_made_changes(rows)? {
            return Ok(Some(changes));
        }
        self.batch = None;
        self.next_expired(rows)
    }

    fn final_collections(&self) -> Vec<usize> {
        match (self.is_deferred, self.roles) {
            (false, _) => Vec::new(),
            (true, [Role::Outer, Role::Outer]) => vec![0, 1],
            (true, [_, Role::Outer]) => vec![1],
            (true, _) => vec![0],
        }
    }

    fn apply_final(&mut self, collection: usize, resolved: &[Resolved], rows: &[Rows]) -> Result<(), Error> {
        self.final_changes(collection, resolved, rows)
    }

    fn expired(&mut self, watermark: Timestamp) -> Vec<Vec<u32>> {
        self.expiry
            .as_mut()
            .map(|expiry| expiry.expired(watermark))
            .unwrap_or_default()
    }

    fn on_input_end(&mut self, input: usize) -> Vec<Vec<u32>> {
        self.has_ended[input] = self.emission == Emission::Final;
        Vec::new()
    }

    fn sees_expired(&self, collection: usize) -> bool {
        matches!(self.roles[collection], Role::Outer | Role::Anti)
    }

    fn expire_row(&mut self, collection: usize, rows: &Rows, entry: u32) {
        if let Some(expiry) = &mut self.expiry {
            expiry.expire_row(collection, rows, entry);
        }
    }

    fn expire_stored(&mut self, collection: usize, rows: &Rows, stored: &[(&[u8], &[u8])]) -> Result<(), Error> {
        let unmarked = rows.decode_unmarked(stored)?;
        if !unmarked.weights.is_empty() {
            let columns = self.sides[collection].assemble(&unmarked.keys, &unmarked.values);
            let rows = self.unmatched_rows(collection, columns, unmarked.weights);
            self.ready.push(rows);
        }
        Ok(())
    }

    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        match &self.expiry {
            Some(expiry) => expiry.output_watermark(watermark),
            None => watermark,
        }
    }

    fn inline(&self) -> Vec<(u8, u32, Timestamp)> {
        self.expiry.as_ref().map(Expiry::inline).unwrap_or_default()
    }

    fn restore(&mut self, inline: Vec<(u8, u32, Timestamp)>, _watermark: Timestamp) {
        if let Some(expiry) = &mut self.expiry {
            expiry.restore(inline);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
