//! Aggregation by key without windows, whose results are updated as rows arrive.
//!
//! Collections: one row per group, with the cells of all aggregates ([`function`]); and for aggregates with `DISTINCT`
//! one row per group and value, with its weights ([`distinct`]). If the input is a changelog, a group also
//! counts its rows: it has a result while there are some, and state as long as anything is not zero, because a deletion
//! may arrive before the insertion it belongs to.

mod best_values;
mod collected;
mod distinct;
mod extremum;
mod function;
mod function_factory;
mod local;
mod number;
mod partial_state;
mod sum;
mod truth;
mod variance;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};
use arrow_array::RecordBatch;
use millstream_connectors::changelog;
use millstream_graph::{self as graph, ChangelogMode, Phase};
use millstream_state::keyed::{Layout, Resolved, Table, TableOptions};
use millstream_state::store::{RowFilter, StoredValues};

use self::distinct::{DistinctPlace, DistinctSet};
use self::function::{Direction, Function, Rows};
use self::function_factory::new_function;
use super::OperatorContext;
use super::keyed::{Keyed, KeyedLogic, Keys, Output, Refill, expires};
use super::sort_key::SortKey;
use super::table::{Argument, TableSpec};
use crate::Error;
use crate::operators::mutants::{self, Mutant};

pub(super) use self::local::LocalGroupAggregate;

/// The operator.
pub(super) type GroupAggregate = Keyed<GroupLogic>;

/// Makes the operator of a node.
pub(super) fn group_aggregate(
    name: &str,
    node: &graph::GroupAggregate,
    input: &SchemaRef,
    output: &SchemaRef,
    mode: &ChangelogMode,
    context: OperatorContext,
) -> Result<GroupAggregate, Error> {
    let logic = GroupLogic::new(name, node, input, context.max_parallelism)?;
    Keyed::new(
        logic,
        mode.clone(),
        node.emission,
        node.state_ttl,
        Arc::clone(output),
        context,
    )
}

/// The logic of the operator.
pub(super) struct GroupLogic {
    keys: Vec<usize>,
    spec: Arc<TableSpec>,
    calls: Vec<Call>,
    /// The distinct values of calls, one collection each.
    sets: Vec<DistinctSet>,
    /// Layouts of the collections.
    collections: Vec<TableOptions>,
    /// True if the aggregated rows are a changelog.
    retracts: bool,
    /// True if the input consists of partial states.
    is_partial: bool,
    /// The evaluated arguments of the batch whose keys were asked for last.
    arguments: Vec<Argument>,
    /// By slot of the first collection: its index among the distinct slots of the present call.
    ordinals: Vec<u32>,
}

/// One aggregate call.
struct Call {
    function: Box<dyn Function>,
    /// The first of the call's value columns in the first collection.
    first: usize,
    distinct: Option<DistinctPlace>,
    /// The order of the rows, if they can be taken back.
    order: Option<SortKey>,
}

/// Value column with the number of a group's rows, in the first collection, if the input is a changelog.
const ROWS: usize = 0;

impl GroupLogic {
    fn new(name: &str, node: &graph::GroupAggregate, input: &SchemaRef, max_parallelism: u16) -> Result<Self, Error> {
        let is_partial = node.phase == Phase::Final;
        let retracts = match is_partial {
            true => node.retracts,
            false => changelog::is_changelog(input),
        };
        let key_fields: Vec<_> = node
            .keys
            .iter()
            .map(|key| Arc::new(input.field(*key).clone()))
            .collect();
        let key_types: Vec<DataType> = key_fields
            .iter()
            .map(|field: &Arc<Field>| field.data_type().clone())
            .collect();
        let spec = TableSpec::new(key_fields, &node.aggregates)?;
        let mut values = Vec::new();
        if retracts {
            values.push(DataType::Int64);
        }
        let mut calls = Vec::with_capacity(spec.aggregates.len());
        let mut sets = Vec::new();
        for aggregate in &spec.aggregates {
            let distinct = DistinctSet::place(&mut sets, calls.len(), aggregate, input, retracts)?;
            let function =
                new_function(aggregate, input, distinct.is_some(), retracts).ok_or_else(|| Error::Operator {
                    operator: name.to_owned(),
                    message: format!(
                        "{} cannot take back rows, which its input updates or deletes",
                        aggregate.aggregate.function.name()
                    ),
                })??;
            let order = match retracts {
                true => SortKey::of(&aggregate.aggregate.function, input)?,
                false => None,
            };
            let first = values.len();
            values.extend(function.value_types());
            calls.push(Call {
                function,
                first,
                distinct,
                order,
            });
        }
        let distinct_layouts = sets
            .iter()
            .map(|set| set.layout(&key_types))
            .collect::<Result<Vec<_>, _>>()?;
        let groups = Layout::new(&key_types, &values)?;
        let collections = std::iter::once(groups)
            .chain(distinct_layouts)
            .enumerate()
            .map(|(collection, layout)| TableOptions {
                layout,
                collection: collection as u8,
                hashed: key_types.len(),
                max_parallelism,
                is_ordered: retracts && collection > 0,
                is_expiring: expires(node.state_ttl, node.emission),
            });
        Ok(Self {
            keys: node.keys.clone(),
            calls,
            sets,
            collections: collections.collect(),
            spec,
            retracts,
            is_partial,
            arguments: Vec::new(),
            ordinals: Vec::new(),
        })
    }

    /// Returns the signs of rows with 0 for those that take back a row of a group whose rows have expired.
    fn matched(&mut self, mut signs: Vec<i8>, resolved: &Resolved, groups: &Table) -> Vec<i8> {
        let mut counts: Vec<i64> = resolved
            .distinct
            .iter()
            .map(|slot| i64::from_le_bytes(groups.fixed(*slot, ROWS)))
            .collect();
        let mut unmatched = 0;
        for (sign, slot) in signs.iter_mut().zip(&resolved.slots) {
            let count = &mut counts[self.ordinals[*slot as usize] as usize];
            if *count + i64::from(*sign) < 0 {
                *sign = 0;
                unmatched += 1;
            }
            *count += i64::from(*sign);
        }
        if unmatched > 0 {
            metrics::counter!("millstream_unmatched_retractions_total").increment(unmatched);
        }
        signs
    }

    /// Returns the requests of all calls for values.
    fn requests(&mut self, groups: &Table) -> Vec<Refill> {
        let mut requests = Vec::new();
        for (purpose, call) in self.calls.iter_mut().enumerate() {
            let (Some((direction, slots)), Some(distinct)) = (call.function.take_requests(), &call.distinct) else {
                continue;
            };
            let present = slots
                .into_iter()
                .filter(|slot| groups.is_present(*slot) && !mutants::is_active(Mutant::ExtremesNotReloaded));
            requests.extend(present.map(|slot| Refill {
                collection: 1 + distinct.set,
                is_reversed: direction == Direction::GreatestFirst,
                purpose,
                slot,
            }));
        }
        requests
    }

    /// Merges partial states.
    fn merge(&mut self, batch: &RecordBatch, groups: &Resolved, table: &mut Table) -> Result<(), Error> {
        let rows = Rows {
            slots: &groups.slots,
            distinct: &groups.distinct,
            weights: None,
        };
        let mut columns = &batch.columns()[self.keys.len()..];
        for (call, aggregate) in self.calls.iter_mut().zip(&self.spec.aggregates) {
            let width = graph::partial_state(&aggregate.aggregate, self.retracts).map_or(0, |types| types.len());
            let (states, rest) = columns.split_at(width.min(columns.len()));
            columns = rest;
            call.function.merge(states, &rows, table, call.first)?;
        }
        if let (true, Some(counts)) = (self.retracts, columns.first()) {
            let counts = counts.as_primitive::<Int64Type>().values();
            for (slot, count) in groups.slots.iter().zip(counts) {
                add_rows(table, *slot, *count);
            }
        }
        self.end_update(groups, table);
        Ok(())
    }

    /// Updates the row counts of groups, and marks the groups as changed.
    fn count_rows(&mut self, rows: &Rows<'_>, groups: &Resolved, table: &mut Table) {
        if self.retracts {
            rows.for_each(None, |_, slot, weight| add_rows(table, slot, i64::from(weight)));
        }
        self.end_update(groups, table);
    }

    /// Marks groups as changed, and removes those of which nothing is left.
    fn end_update(&mut self, groups: &Resolved, table: &mut Table) {
        if mutants::is_active(Mutant::ChangesNotMarked) {
            return;
        }
        if !self.retracts {
            groups.distinct.iter().for_each(|slot| table.set_changed(*slot));
            return;
        }
        for slot in &groups.distinct {
            table.set_changed(*slot);
            let is_zero = i64::from_le_bytes(table.fixed(*slot, ROWS)) == 0
                && self
                    .calls
                    .iter()
                    .all(|call| call.function.is_zero(table, call.first, *slot));
            if is_zero && !self.has_one_row() {
                table.remove(*slot);
            }
        }
    }
}

fn add_rows(table: &mut Table, slot: u32, rows: i64) {
    let count = i64::from_le_bytes(table.fixed(slot, ROWS));
    table.set_fixed(slot, ROWS, (count + rows).to_le_bytes());
}

impl KeyedLogic for GroupLogic {
    fn collections(&self) -> Vec<TableOptions> {
        self.collections.clone()
    }

    fn keys(&mut self, batch: &RecordBatch) -> Result<Vec<Keys>, Error> {
        self.arguments = match self.is_partial {
            true => Vec::new(),
            false => self.spec.arguments(batch)?,
        };
        for (call, argument) in self.calls.iter().zip(&mut self.arguments) {
            if let Some(order) = &call.order {
                order.replace_columns(&mut argument.values)?;
            }
        }
        let columns: Vec<ArrayRef> = self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        let mut keys = Vec::with_capacity(self.collections.len());
        for set in &mut self.sets {
            keys.push(set.keys(&columns, &self.arguments, batch.num_rows())?);
        }
        let groups = Keys {
            columns,
            rows: batch.num_rows(),
        };
        keys.insert(0, groups);
        Ok(keys)
    }

    fn apply(
        &mut self,
        batch: &RecordBatch,
        resolved: &[Resolved],
        tables: &mut [Table],
    ) -> Result<Vec<Refill>, Error> {
        if self.is_partial {
            self.merge(batch, &resolved[0], &mut tables[0])?;
            return Ok(Vec::new());
        }
        for (ordinal, slot) in resolved[0].distinct.iter().enumerate() {
            let slot = *slot as usize;
            if self.ordinals.len() <= slot {
                self.ordinals.resize(slot + 1, 0);
            }
            self.ordinals[slot] = ordinal as u32;
        }
        let signs: Option<Vec<i8>> = match self.retracts {
            true => changelog::kinds(batch).map(|kinds| kinds.values().iter().map(|kind| kind.signum()).collect()),
            false => None,
        };
        let [groups, distinct_tables @ ..] = tables else {
            return Ok(Vec::new());
        };
        let signs = signs.map(|signs| match groups.is_expiring() {
            true => self.matched(signs, &resolved[0], groups),
            false => signs,
        });
        let rows = Rows {
            slots: &resolved[0].slots,
            distinct: &resolved[0].distinct,
            weights: signs.as_deref(),
        };
        let sets = self.sets.iter().zip(&resolved[1..]).zip(distinct_tables);
        let distinct_weights: Vec<Vec<Vec<i8>>> = sets
            .map(|((set, values), table)| set.update(&rows, &self.arguments, values, table, self.retracts))
            .collect();
        for (call, argument) in self.calls.iter_mut().zip(&self.arguments) {
            let filtered;
            let weights = match call.distinct {
                None => {
                    filtered = rows.filtered(argument.filter.as_ref());
                    filtered.as_deref()
                }
                Some(place) => Some(distinct_weights[place.set][place.filter].as_slice()),
            };
            let rows = Rows {
                weights: weights.or(rows.weights),
                ..rows
            };
            call.function
                .update(&argument.values, &rows, &self.ordinals, groups, call.first)?;
        }
        self.count_rows(&rows, &resolved[0], groups);
        Ok(self.requests(groups))
    }

    fn refill(&mut self, refill: &Refill, rows: &StoredValues, table: &mut Table) -> Result<(), Error> {
        let call = &mut self.calls[refill.purpose];
        call.function.refill(rows, table, call.first, refill.slot);
        Ok(())
    }

    fn refill_accepts(&self) -> RowFilter {
        Box::new(distinct::is_visible)
    }

    fn output(&mut self, table: &Table, slots: &[u32]) -> Result<Output, Error> {
        let columns = self
            .calls
            .iter_mut()
            .map(|call| call.function.evaluate(table, call.first, slots))
            .collect::<Result<_, _>>()?;
        let present = slots.iter().map(|slot| {
            let has_rows = !self.retracts || self.keys.is_empty() || i64::from_le_bytes(table.fixed(*slot, ROWS)) > 0;
            table.is_present(*slot) && (has_rows || mutants::is_active(Mutant::EmptyGroupsEmitted))
        });
        Ok(Output {
            columns,
            present: BooleanArray::from(present.collect::<Vec<bool>>()),
        })
    }

    fn has_one_row(&self) -> bool {
        self.keys.is_empty() && !self.calls.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests;
