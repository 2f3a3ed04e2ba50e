//! Tables of groups: the in-memory state of every aggregate.
//!
//! A [`Table`] is a group index (keys to dense numbers) and one columnar accumulator per aggregate, indexed by group.
//! Reading does not consume anything, so a table can be fired, snapshotted and merged into another, and be updated
//! afterwards. A table knows nothing of windows, time, changes since a checkpoint, or disks.

mod accumulator;
mod accumulator_factory;
mod count_distinct;
mod datafusion_accumulator;
mod distinct_set;
mod group_index;
mod integers;
mod numeric_accumulators;
mod state_snapshot;
mod weighted;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow_array::RecordBatch;
use arrow_select::take::take_arrays;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::lit;
use millstream_connectors::changelog;
use millstream_graph::Aggregate;

pub(super) use self::accumulator::Accumulator;
pub(super) use self::accumulator_factory::new_accumulator;
pub(super) use self::group_index::{GroupIndex, UNKNOWN, new_group_index};
pub(super) use self::numeric_accumulators::{FoldOperation, Max, Min};
pub(super) use self::state_snapshot::StateSnapshots;
use super::sort_key::SortKey;
use crate::Error;

/// Some groups of a table.
pub(super) enum Select<'a> {
    Range(Range<usize>),
    Indices(&'a [u32]),
}

impl Select<'_> {
    /// Returns the number of groups.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::Indices(indices) => indices.len(),
        }
    }

    /// Returns the numbers of the groups.
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            Self::Range(range) => Box::new(range.start as u32..range.end as u32),
            Self::Indices(indices) => Box::new(indices.iter().copied()),
        }
    }

    /// Returns the selected rows of columns.
    pub(super) fn take(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>, Error> {
        Ok(match self {
            Self::Range(range) => columns
                .iter()
                .map(|column| column.slice(range.start, range.len()))
                .collect(),
            Self::Indices(indices) => take_arrays(columns, &UInt32Array::from(indices.to_vec()), None)?,
        })
    }

    /// Returns the selected elements of a slice that is indexed by group.
    pub(super) fn gather<T: Copy>(&self, values: &[T]) -> Vec<T> {
        match self {
            Self::Range(range) => values[range.clone()].to_vec(),
            Self::Indices(indices) => indices.iter().map(|index| values[*index as usize]).collect(),
        }
    }
}

/// The keys and aggregates of a table, shared by all tables of an operator.
pub(super) struct TableSpec {
    pub key_fields: Vec<FieldRef>,
    pub aggregates: Vec<AggregateSpec>,
    /// True if rows can be taken back. The last aggregate counts the rows of a group then: the group has a result while
    /// there are some.
    pub is_weighted: bool,
}

/// One aggregate, and properties derived from it.
pub(super) struct AggregateSpec {
    pub aggregate: Aggregate,
    /// Expressions of the values of an update: the arguments, then the ordering.
    arguments: Vec<PhysicalExprRef>,
    pub state_fields: Vec<FieldRef>,
    pub result_type: DataType,
    /// Set if rows can be taken back.
    weighted: Option<WeightedSpec>,
}

/// Properties of an aggregate of rows that can be taken back.
struct WeightedSpec {
    input: SchemaRef,
    /// The order of the rows.
    order: Option<SortKey>,
}

impl TableSpec {
    /// Makes the specification of tables with these keys and aggregates.
    pub(super) fn new(key_fields: Vec<FieldRef>, aggregates: &[Aggregate]) -> Result<Arc<Self>, Error> {
        let aggregates = aggregates
            .iter()
            .map(|aggregate| {
                let function = &aggregate.function;
                let mut arguments = function.expressions();
                if accumulator_factory::counts_rows(function) {
                    arguments.clear();
                }
                arguments.extend(function.order_bys().iter().map(|sort| Arc::clone(&sort.expr)));
                Ok(AggregateSpec {
                    aggregate: aggregate.clone(),
                    arguments,
                    state_fields: function.state_fields()?,
                    result_type: function.field().data_type().clone(),
                    weighted: None,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Arc::new(Self {
            key_fields,
            aggregates,
            is_weighted: false,
        }))
    }

    /// Makes the specification of tables of rows that can be taken back, or whose partial states are merged with such.
    /// The rows have the columns of `input`; if that is no changelog, all are added. Fails if a function cannot take
    /// rows back.
    pub(super) fn weighted(
        key_fields: Vec<FieldRef>,
        aggregates: &[Aggregate],
        input: &SchemaRef,
    ) -> Result<Arc<Self>, Error> {
        let rows = AggregateExprBuilder::new(count_udaf(), vec![lit(1i64)])
            .schema(Arc::clone(input))
            .alias("rows")
            .build()?;
        let rows = Aggregate {
            function: Arc::new(rows),
            filter: None,
        };
        let aggregates: Vec<Aggregate> = aggregates.iter().cloned().chain([rows]).collect();
        let spec = Self::new(key_fields, &aggregates)?;
        let mut spec = Arc::into_inner(spec).expect("it was made here");
        for aggregate in &mut spec.aggregates {
            aggregate.weighted = Some(WeightedSpec {
                input: Arc::clone(input),
                order: SortKey::of(&aggregate.aggregate.function, input)?,
            });
            aggregate.state_fields = weighted::new_weighted(aggregate)?.1;
        }
        spec.is_weighted = true;
        Ok(Arc::new(spec))
    }

    /// Returns the number of partial state columns of all aggregates.
    pub(super) fn state_width(&self) -> usize {
        self.aggregates.iter().map(|spec| spec.state_fields.len()).sum()
    }

    /// Returns the schema of a stored row: keys, then partial states.
    pub(super) fn stored_schema(&self) -> SchemaRef {
        let states = self
            .aggregates
            .iter()
            .flat_map(|spec| spec.state_fields.iter().cloned());
        let fields: Vec<FieldRef> = self.key_fields.iter().cloned().chain(states).collect();
        Arc::new(arrow::datatypes::Schema::new(fields))
    }

    /// Evaluates the arguments of all aggregates for a batch of input rows.
    pub(super) fn arguments(&self, batch: &RecordBatch) -> Result<Vec<Argument>, Error> {
        let kinds = changelog::kinds(batch).filter(|_| self.is_weighted);
        let weights: Option<ArrayRef> = self.is_weighted.then(|| match kinds {
            Some(kinds) => {
                let weights = kinds.values().iter().map(|kind| i64::from(kind.signum()));
                Arc::new(Int64Array::from_iter_values(weights)) as ArrayRef
            }
            None => Arc::new(Int64Array::from_value(1, batch.num_rows())),
        });
        self.aggregates
            .iter()
            .map(|spec| {
                let rows = batch.num_rows();
                let mut values = spec
                    .arguments
                    .iter()
                    .map(|expression| Ok(expression.evaluate(batch)?.into_array(rows)?))
                    .collect::<Result<Vec<_>, Error>>()?;
                if let Some(order) = spec.weighted.as_ref().and_then(|weighted| weighted.order.as_ref()) {
                    order.replace_columns(&mut values)?;
                }
                values.extend(weights.clone());
                let filter = match &spec.aggregate.filter {
                    None => None,
                    Some(filter) => Some(
                        datafusion::common::cast::as_boolean_array(&filter.evaluate(batch)?.into_array(rows)?)?.clone(),
                    ),
                };
                Ok(Argument { values, filter })
            })
            .collect()
    }

    /// Splits the state columns of all aggregates, in order, by aggregate.
    pub(super) fn split_states(&self, mut columns: &[ArrayRef]) -> Vec<Vec<ArrayRef>> {
        self.aggregates
            .iter()
            .map(|spec| {
                let (mine, rest) = columns.split_at(spec.state_fields.len());
                columns = rest;
                mine.to_vec()
            })
            .collect()
    }
}

/// The evaluated input of one aggregate for one batch.
#[derive(Clone)]
pub(super) struct Argument {
    pub values: Vec<ArrayRef>,
    pub filter: Option<BooleanArray>,
}

impl Argument {
    /// Returns the argument with every column replaced, such as by some of its rows.
    pub(super) fn map(&self, mut replace: impl FnMut(&ArrayRef) -> Result<ArrayRef, Error>) -> Result<Self, Error> {
        let values = self.values.iter().map(&mut replace).collect::<Result<_, _>>()?;
        let filter = match &self.filter {
            None => None,
            Some(filter) => {
                let filter: ArrayRef = Arc::new(filter.clone());
                Some(datafusion::common::cast::as_boolean_array(&replace(&filter)?)?.clone())
            }
        };
        Ok(Self { values, filter })
    }
}

/// Converts each row to a partial state of its own. Used instead of pre-aggregation when keys hardly repeat.
pub(super) struct RowStates {
    accumulators: Vec<Box<dyn Accumulator>>,
    groups: Vec<u32>,
}

impl RowStates {
    pub(super) fn new(spec: &TableSpec) -> Result<Self, Error> {
        Ok(Self {
            accumulators: spec.aggregates.iter().map(new_accumulator).collect::<Result<_, _>>()?,
            groups: Vec::new(),
        })
    }

    /// Returns the state columns of all aggregates, in order.
    pub(super) fn convert(&mut self, arguments: &[Argument], rows: usize) -> Result<Vec<ArrayRef>, Error> {
        self.groups.clear();
        self.groups.extend(0..rows as u32);
        let mut columns = Vec::new();
        for (accumulator, argument) in self.accumulators.iter_mut().zip(arguments) {
            accumulator.clear()?;
            accumulator.update(&argument.values, argument.filter.as_ref(), &self.groups, rows)?;
            columns.extend(accumulator.state(&Select::Range(0..rows))?);
        }
        Ok(columns)
    }
}

/// Groups and their accumulators.
pub(super) struct Table {
    groups: Box<dyn GroupIndex>,
    accumulators: Vec<Box<dyn Accumulator>>,
}

impl Table {
    pub(super) fn new(spec: &Arc<TableSpec>) -> Result<Self, Error> {
        Ok(Self {
            groups: new_group_index(&spec.key_fields)?,
            accumulators: spec.aggregates.iter().map(new_accumulator).collect::<Result<_, _>>()?,
        })
    }

    /// Reserves memory for about `groups` more groups.
    pub(super) fn reserve(&mut self, groups: usize) {
        self.groups.reserve(groups);
    }

    /// Returns the number of groups.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Updates the aggregates by input rows. Replaces `groups` by the group of each row.
    pub(super) fn update(
        &mut self,
        keys: &[ArrayRef],
        arguments: &[Argument],
        rows: usize,
        groups: &mut Vec<u32>,
    ) -> Result<(), Error> {
        self.groups.intern(keys, rows, groups)?;
        let count = self.groups.len();
        for (accumulator, argument) in self.accumulators.iter_mut().zip(arguments) {
            accumulator.update(&argument.values, argument.filter.as_ref(), groups, count)?;
        }
        Ok(())
    }

    /// Merges partial states: `states` are the state columns by aggregate. Replaces `groups` by the group of each row.
    pub(super) fn merge(
        &mut self,
        keys: &[ArrayRef],
        states: &[Vec<ArrayRef>],
        rows: usize,
        groups: &mut Vec<u32>,
    ) -> Result<(), Error> {
        self.groups.intern(keys, rows, groups)?;
        let count = self.groups.len();
        for (accumulator, states) in self.accumulators.iter_mut().zip(states) {
            accumulator.merge(states, groups, count)?;
        }
        Ok(())
    }

    /// Merges some groups of another table with the same specification.
    pub(super) fn merge_table(
        &mut self,
        other: &mut Self,
        range: Range<usize>,
        groups: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let select = Select::Range(range);
        let keys = other.keys(&select)?;
        let states = other.states(&select)?;
        self.merge(&keys, &states, select.len(), groups)
    }

    /// Returns the key columns of some groups.
    pub(super) fn keys(&self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        self.groups.keys(select)
    }

    /// Returns the partial states of some groups, by aggregate.
    pub(super) fn states(&mut self, select: &Select<'_>) -> Result<Vec<Vec<ArrayRef>>, Error> {
        self.accumulators
            .iter_mut()
            .map(|accumulator| accumulator.state(select))
            .collect()
    }

    /// Takes a snapshot of the partial states of some groups, for another thread to read.
    pub(super) fn snapshot_states(&mut self, select: &Select<'_>) -> Result<StateSnapshots, Error> {
        let states = self
            .accumulators
            .iter_mut()
            .map(|accumulator| accumulator.snapshot(select));
        Ok(StateSnapshots(states.collect::<Result<_, _>>()?))
    }

    /// Returns the results of some groups, one column per aggregate.
    pub(super) fn results(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        self.accumulators
            .iter_mut()
            .map(|accumulator| accumulator.evaluate(select))
            .collect()
    }

    /// Returns the bytes of the table.
    pub(super) fn size(&self) -> usize {
        self.groups.size()
            + self
                .accumulators
                .iter()
                .map(|accumulator| accumulator.size())
                .sum::<usize>()
    }

    /// Returns the bytes needed in addition for `groups` more groups, including those of the group index while it is
    /// being resized.
    pub(super) fn growth(&self, groups: usize) -> usize {
        let accumulators = self.accumulators.iter().map(|accumulator| accumulator.growth(groups));
        match self.groups.growth(groups) + accumulators.sum::<usize>() {
            0 => 0,
            grown => grown + self.groups.size(),
        }
    }

    /// Releases the memory that only updates need. The table must only be read from now on.
    pub(super) fn freeze(&mut self) {
        self.groups.freeze();
    }

    /// Removes all groups and keeps the allocations.
    pub(super) fn clear(&mut self) -> Result<(), Error> {
        self.groups.clear();
        for accumulator in &mut self.accumulators {
            accumulator.clear()?;
        }
        Ok(())
    }
}
