//! `GROUP BY` over windows.
//!
//! Group keys, arguments and conditions are computed by a `Calc` below, so that the aggregate itself only refers to
//! columns. A window function right below is taken in (rows are never marked with their windows; slices are shared);
//! rows that carry window bounds already are grouped by those. Where all functions can merge partial results, a
//! `Local` aggregate runs before the exchange, so that a key however hot costs its subtask one row per slice and flush.

use std::sync::Arc;

use arrow_schema::{DataType, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate as LogicalAggregate, Expr, LogicalPlan, Operator as BinaryOperator};
use datafusion::physical_expr::expressions::{BinaryExpr, Literal, cast};
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr};

use super::relation::{
    Attribute, Bound, Branch, ColumnInfo, Pending, Relation, WindowId, bare_column, column, columns_of, is_virtual,
    substitute,
};
use super::{Result, Translator};
use crate::functions::{Functions, PartialState};
use millstream_graph::{NodeIndex, Window};

mod grouping_sets;
mod input;
mod nodes;

/// An aggregate call over the relation's columns.
pub(super) struct Call {
    pub(super) function: AggregateFunction,
    pub(super) args: Vec<PhysicalExprRef>,
    pub(super) filter: Option<PhysicalExprRef>,
    order: Vec<PhysicalSortExpr>,
}

/// A group key over the relation's columns.
struct Key {
    expr: PhysicalExprRef,
    info: ColumnInfo,
}

/// Where an output column comes from.
enum Output {
    Key(usize),
    /// Made from the window's bounds after the aggregate.
    FromWindow(PhysicalExprRef),
}

impl Translator<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &LogicalAggregate) -> Result<Relation> {
        let input = self.plan(&aggregate.input)?;
        let schema = aggregate.input.schema();
        if let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() {
            return self.grouping_sets(input, aggregate, sets, schema);
        }
        let calls = self.calls(&aggregate.aggr_expr, schema)?;
        let keys = self.keys(&aggregate.group_expr, schema, &input)?;
        let names: Vec<String> = aggregate
            .schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        self.grouped(input, keys, calls, &names)
    }

    pub(super) fn distinct(&mut self, plan: &LogicalPlan) -> Result<Relation> {
        let input = self.plan(plan)?;
        let has_window = input
            .columns
            .iter()
            .any(|column| matches!(column.attribute, Attribute::Window(..)));
        if !has_window {
            return Err(self.error(
                "SELECT DISTINCT over a stream would have to remember every row for ever: make it distinct per window, \
                 with window_start and window_end among the columns of a window table function",
            ));
        }
        let exprs: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let keys = self.keys(&exprs, plan.schema(), &input)?;
        let names: Vec<String> = input.columns.iter().map(|column| column.name.clone()).collect();
        self.grouped(input, keys, Vec::new(), &names)
    }

    fn calls(&self, exprs: &[Expr], schema: &DFSchema) -> Result<Vec<Call>> {
        let context = Default::default();
        let mut calls = Vec::with_capacity(exprs.len());
        for expr in exprs {
            let Expr::AggregateFunction(function) = expr.clone().unalias() else {
                return Err(self.error(format!("`{expr}` is not an aggregate function")));
            };
            let params = &function.params;
            let args: Result<Vec<_>> = params.args.iter().map(|arg| self.physical(arg, schema)).collect();
            let filter = params
                .filter
                .as_ref()
                .map(|filter| self.physical(filter, schema))
                .transpose()?;
            let order = datafusion::physical_expr::create_physical_sort_exprs(
                &params.order_by,
                schema,
                &self.planning.props,
                &context,
            );
            calls.push(Call {
                args: args?,
                filter,
                order: self.located(order)?,
                function,
            });
        }
        Ok(calls)
    }

    fn keys(&self, exprs: &[Expr], schema: &DFSchema, input: &Relation) -> Result<Vec<Key>> {
        exprs
            .iter()
            .map(|expr| {
                let physical = self.physical(expr, schema)?;
                let source = bare_column(&physical).map(|index| &input.columns[index]);
                let data_type = self.located(physical.data_type(schema.as_arrow()))?;
                let info = ColumnInfo {
                    name: match expr {
                        Expr::Column(column) => column.name.clone(),
                        other => other.schema_name().to_string(),
                    },
                    data_type,
                    attribute: source.map_or(Attribute::None, |column| column.attribute),
                    origin: source.and_then(|column| column.origin.clone()),
                };
                Ok(Key { expr: physical, info })
            })
            .collect()
    }

    /// The grouped relation: its columns are the keys, then the calls.
    fn grouped(&mut self, input: Relation, keys: Vec<Key>, calls: Vec<Call>, names: &[String]) -> Result<Relation> {
        let mut input = input;
        if let Pending::Rank(_) = input.pending {
            input = self.resolve(input)?;
        }
        let id = self.group_window(&keys, &input)?;
        let fused = matches!(&input.pending, Pending::Window(pending) if pending.id == id);
        let window_columns: Vec<usize> = input
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| matches!(column.attribute, Attribute::Window(of, _) if of == id))
            .map(|(index, _)| index)
            .collect();

        // Keys that only depend on the window are made from its bounds afterwards.
        let mut outputs = Vec::with_capacity(keys.len());
        let mut real_keys: Vec<&Key> = Vec::new();
        for key in &keys {
            let used = columns_of(&key.expr);
            let only_window = used.iter().all(|column| window_columns.contains(column));
            if only_window && !datafusion::physical_expr_common::physical_expr::is_volatile(&key.expr) {
                outputs.push(Output::FromWindow(key.expr.clone()));
            } else {
                outputs.push(Output::Key(real_keys.len()));
                real_keys.push(key);
            }
        }
        let uses_window =
            |expr: &PhysicalExprRef| columns_of(expr).iter().any(|column| window_columns.contains(column));
        let call_exprs = calls.iter().flat_map(|call| {
            let order = call.order.iter().map(|sort| &sort.expr);
            call.args.iter().chain(&call.filter).chain(order)
        });
        let below = real_keys.iter().map(|key| &key.expr).chain(call_exprs);
        let mixed = below.clone().any(uses_window)
            || input
                .branches
                .iter()
                .any(|branch| branch.filter.as_ref().is_some_and(is_virtual));
        let fused = fused && !mixed;
        let below: Vec<PhysicalExprRef> = below.cloned().collect();
        if !fused {
            input = self.resolve(input)?;
        }
        if input.branches.iter().any(|branch| branch.would_repeat(&below)) {
            input = self.materialize(input)?;
        }
        if self.steps_with_late_output.contains(&self.scope.owner) {
            // Late rows are wanted as they were grouped.
            input = self.materialize_if_volatile(input, &below)?;
        }
        self.check_session(&input, &real_keys)?;
        if self.windows[id].processing_time && !fused {
            return Err(self.error(
                "rows that already belong to a window on the clock (PROCTIME) cannot be grouped by it: aggregate the \
                 window table function directly",
            ));
        }

        let extremes = if fused {
            self.extremes(&input, real_keys.iter().map(|key| &key.expr), &calls)?
        } else {
            None
        };
        let two_phase = self.two_phase(id, &calls, fused);
        let mut sides = Vec::with_capacity(input.branches.len());
        for index in 0..input.branches.len() {
            let branch = input.branches[index].clone();
            sides.push(self.below(&branch, &input, &real_keys, &calls, id, fused, two_phase)?);
        }
        let node = self.aggregate_nodes(sides, two_phase)?;
        if let Some(extremes) = extremes {
            self.extremes.insert(node, extremes);
        }
        self.aggregate_output(node, &keys, outputs, real_keys.len(), &input, &window_columns, names)
    }

    /// The window that rows are grouped by.
    fn group_window(&self, keys: &[Key], input: &Relation) -> Result<WindowId> {
        let mut incomplete = None;
        for key in keys {
            let Attribute::Window(id, _) = key.info.attribute else {
                continue;
            };
            let has = |bound| {
                keys.iter()
                    .any(|key| key.info.attribute == Attribute::Window(id, bound))
            };
            let complete =
                has(Bound::End) || has(Bound::Time) || (has(Bound::Start) && self.windows[id].start_determines_end());
            // The end must be among the input's columns for rows that carry their window.
            let pending = matches!(&input.pending, Pending::Window(pending) if pending.id == id);
            let end_known = pending || input.column_with(Attribute::Window(id, Bound::End)).is_some();
            if complete && end_known {
                return Ok(id);
            }
            incomplete = Some(key.info.name.clone());
        }
        Err(self.error(match incomplete {
            Some(name) => format!(
                "grouping by `{name}` alone does not tell when a window is complete: GROUP BY window_start, window_end \
                 (both bounds, passed on by every query between)"
            ),
            None => "a GROUP BY over a stream needs a window: SELECT ... FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), \
                     INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, ... (or HOP, CUMULATE, SESSION)"
                .to_owned(),
        }))
    }

    /// A session exists per key: the keys of `SESSION` and of `GROUP BY` must be the same.
    fn check_session(&self, input: &Relation, keys: &[&Key]) -> Result<()> {
        let Pending::Window(pending) = &input.pending else {
            return Ok(());
        };
        if !matches!(pending.window, Window::Session { .. }) {
            return Ok(());
        }
        if pending.filtered {
            return Err(self.error(
                "a condition on the rows of a SESSION window must stand inside it: SESSION over a view (or a query's \
                 alias) that has the WHERE, so that it is clear which rows form sessions",
            ));
        }
        for branch in &input.branches {
            let partition = pending.keys(branch);
            let composed: Result<Vec<_>, _> = keys.iter().map(|key| branch.compose(&key.expr)).collect();
            let composed = self.located(composed)?;
            let same = composed.iter().all(|key| partition.contains(key))
                && partition.iter().all(|key| composed.contains(key));
            if !same {
                return Err(self.error(
                    "the keys of SESSION(... PARTITION BY keys ...) and of GROUP BY must be the same columns (besides \
                     window_start and window_end)",
                ));
            }
        }
        Ok(())
    }

    /// Whether a local aggregate before the exchange pays.
    fn two_phase(&self, id: WindowId, calls: &[Call], fused: bool) -> bool {
        let window = self.windows[id];
        if window.processing_time || self.steps_with_late_output.contains(&self.scope.owner) {
            return false;
        }
        if fused && matches!(window.window, Window::Session { .. }) {
            return false;
        }
        calls.iter().all(|call| {
            let params = &call.function.params;
            let properties = Functions::all().aggregate_properties(call.function.func.name());
            !params.distinct && params.order_by.is_empty() && properties.partial_state == PartialState::Constant
        })
    }

    /// Puts the node's columns (keys, results, bounds) into the plan's order (keys and bounds as written, results).
    #[allow(clippy::too_many_arguments)]
    fn aggregate_output(
        &mut self,
        node: NodeIndex,
        keys: &[Key],
        outputs: Vec<Output>,
        key_count: usize,
        input: &Relation,
        window_columns: &[usize],
        names: &[String],
    ) -> Result<Relation> {
        let schema = self.schema(node);
        let width = schema.fields().len();
        let (start, end) = (column(&schema, width - 2), column(&schema, width - 1));
        let mut exprs = Vec::with_capacity(names.len());
        let mut columns = Vec::with_capacity(names.len());
        for (key, output) in keys.iter().zip(outputs) {
            let mut info = key.info.clone();
            exprs.push(match output {
                Output::Key(index) => {
                    // Rows now wait for the window's end: no other time attribute outlives that.
                    info.attribute = Attribute::None;
                    column(&schema, index)
                }
                Output::FromWindow(expr) => {
                    let bounds: Vec<(usize, PhysicalExprRef)> = window_columns
                        .iter()
                        .map(|&index| {
                            let wanted = &input.columns[index];
                            let made = match wanted.attribute {
                                Attribute::Window(_, Bound::Start) => start.clone(),
                                Attribute::Window(_, Bound::End) => end.clone(),
                                _ => window_time(&end),
                            };
                            Ok((index, self.cast_if_needed(made, &schema, &wanted.data_type)?))
                        })
                        .collect::<Result<_>>()?;
                    let made = substitute(&expr, &|index| {
                        bounds.iter().find(|(of, _)| *of == index).map(|(_, expr)| expr.clone())
                    });
                    self.located(made)?
                }
            });
            columns.push(info);
        }
        let mut index = key_count;
        while index + 2 < width {
            exprs.push(column(&schema, index));
            columns.push(ColumnInfo {
                name: String::new(),
                data_type: schema.field(index).data_type().clone(),
                attribute: Attribute::None,
                origin: None,
            });
            index += 1;
        }
        for (column, name) in columns.iter_mut().zip(names) {
            column.name = name.clone();
        }
        Ok(Relation {
            branches: vec![Branch {
                node,
                filter: None,
                exprs,
                carried: Vec::new(),
            }],
            columns,
            pending: Pending::Nothing,
        })
    }

    fn cast_if_needed(&self, expr: PhysicalExprRef, schema: &Schema, wanted: &DataType) -> Result<PhysicalExprRef> {
        if self.located(expr.data_type(schema))? == *wanted {
            return Ok(expr);
        }
        self.located(cast(expr, schema, wanted.clone()))
    }
}

/// `window_time`: the last millisecond of the window.
fn window_time(end: &PhysicalExprRef) -> PhysicalExprRef {
    let millisecond = ScalarValue::new_interval_mdn(0, 0, 1_000_000);
    Arc::new(BinaryExpr::new(
        end.clone(),
        BinaryOperator::Minus,
        Arc::new(Literal::new(millisecond)),
    ))
}
