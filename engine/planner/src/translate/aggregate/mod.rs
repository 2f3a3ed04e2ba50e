//! `GROUP BY`, over windows and without ([`updating`]).
//!
//! A `Calc` below the aggregate computes group keys, arguments and conditions, so the aggregate refers to columns only.
//! A pending window is fused into the aggregate: no `WindowAssign` node is made, and windows share slices. Rows that
//! carry window bounds already are grouped by these. If all functions can merge partial results, a `Local` aggregate
//! runs before the exchange, so that a hot key costs its subtask one row per slice and flush.

use datafusion::common::DFSchema;
use datafusion::logical_expr::{Aggregate as LogicalAggregate, Expr};
use datafusion::physical_expr::{PhysicalExprRef, create_physical_sort_exprs};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use millstream_graph::{Extreme, NodeIndex, Window};

use super::calc::cast_if_needed;
use super::context::{Context, Result};
use super::dynamic_filter::{DynamicFilters, Extremes};
use super::group_nodes::{Call, Grouping, Key, aggregate_inputs, aggregate_nodes};
use super::pending::{materialize, materialize_if_volatile, resolve};
use super::relation::{
    Attribute, Bound, Branch, ColumnInfo, Pending, Relation, WindowId, bare_column, column, columns_of, is_virtual,
    substitute, window_time,
};
use super::window::in_zone;
use crate::functions::{Functions, PartialState};
use crate::logical::AggregatePhases;

use grouping_sets::grouping_sets;

mod grouping_sets;
mod updating;

/// Origin of an output column of a group key.
enum Output {
    /// The column of the node for the key of this index.
    Key(usize),
    /// An expression of the window's bounds, evaluated after the aggregate.
    FromWindow(PhysicalExprRef),
}

/// Returns the grouped relation of an aggregate.
pub(super) fn aggregate(
    cx: &mut Context<'_>,
    filters: &mut DynamicFilters,
    aggregate: &LogicalAggregate,
    input: Relation,
) -> Result<Relation> {
    let schema = aggregate.input.schema();
    if let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() {
        return grouping_sets(cx, filters, input, aggregate, sets);
    }
    let calls = calls(cx, &aggregate.aggr_expr, schema)?;
    let keys = keys(cx, &aggregate.group_expr, schema, &input)?;
    let names: Vec<String> = aggregate
        .schema
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    grouped(cx, filters, input, keys, calls, &names)
}

/// Returns the different rows of a relation, per window if the rows have one.
pub(super) fn distinct(
    cx: &mut Context<'_>,
    filters: &mut DynamicFilters,
    schema: &DFSchema,
    input: Relation,
) -> Result<Relation> {
    let exprs: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    let keys = keys(cx, &exprs, schema, &input)?;
    let names: Vec<String> = input.columns.iter().map(|column| column.name.clone()).collect();
    grouped(cx, filters, input, keys, Vec::new(), &names)
}

fn calls(cx: &Context<'_>, exprs: &[Expr], schema: &DFSchema) -> Result<Vec<Call>> {
    let context = Default::default();
    let mut calls = Vec::with_capacity(exprs.len());
    for expr in exprs {
        let Expr::AggregateFunction(function) = expr.clone().unalias() else {
            return Err(cx.error(format!("`{expr}` is not an aggregate function")));
        };
        let params = &function.params;
        let args: Result<Vec<_>> = params.args.iter().map(|arg| cx.physical(arg, schema)).collect();
        let filter = params
            .filter
            .as_ref()
            .map(|filter| cx.physical(filter, schema))
            .transpose()?;
        let order = create_physical_sort_exprs(&params.order_by, schema, &cx.planning.props, &context);
        calls.push(Call {
            args: args?,
            filter,
            order: cx.located(order)?,
            function,
        });
    }
    Ok(calls)
}

fn keys(cx: &Context<'_>, exprs: &[Expr], schema: &DFSchema, input: &Relation) -> Result<Vec<Key>> {
    exprs
        .iter()
        .map(|expr| {
            let physical = cx.physical(expr, schema)?;
            let source = bare_column(&physical).map(|index| &input.columns[index]);
            let data_type = cx.located(physical.data_type(schema.as_arrow()))?;
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

/// Returns the grouped relation; its columns are the keys, then the calls.
fn grouped(
    cx: &mut Context<'_>,
    filters: &mut DynamicFilters,
    mut input: Relation,
    keys: Vec<Key>,
    calls: Vec<Call>,
    names: &[String],
) -> Result<Relation> {
    if let Pending::Rank(_) = input.pending {
        input = resolve(cx, input)?;
    }
    let Some(id) = group_window(cx, &keys, &input)? else {
        return updating::grouped(cx, input, &keys, &calls, names);
    };
    let is_fused = matches!(&input.pending, Pending::Window(pending) if pending.id == id);
    let window_columns: Vec<usize> = input
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| matches!(column.attribute, Attribute::Window(of, _) if of == id))
        .map(|(index, _)| index)
        .collect();

    // Keys that depend on the window alone are computed from its bounds after the aggregate.
    let mut outputs = Vec::with_capacity(keys.len());
    let mut real_keys: Vec<&Key> = Vec::new();
    for key in &keys {
        let used = columns_of(&key.expr);
        let only_window = used.iter().all(|column| window_columns.contains(column));
        if only_window && !is_volatile(&key.expr) {
            outputs.push(Output::FromWindow(key.expr.clone()));
        } else {
            outputs.push(Output::Key(real_keys.len()));
            real_keys.push(key);
        }
    }
    let uses_window = |expr: &PhysicalExprRef| columns_of(expr).iter().any(|column| window_columns.contains(column));
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
    let is_fused = is_fused && !mixed && has_session_keys(cx, &input, &real_keys)?;
    let below: Vec<PhysicalExprRef> = below.cloned().collect();
    if !is_fused {
        input = resolve(cx, input)?;
    }
    if input.branches.iter().any(|branch| branch.would_repeat(&below)) {
        input = materialize(cx, input)?;
    }
    if cx.is_late_output_used() {
        // Late rows are written with the values that they were grouped by.
        input = materialize_if_volatile(cx, input, &below)?;
    }
    if cx.windows[id].processing_time && !is_fused {
        return Err(cx.error(
            "rows that already belong to a window on the clock (PROCTIME) cannot be grouped by it: aggregate the \
             window table function directly",
        ));
    }

    let extremes = if is_fused {
        Extremes::new(
            cx,
            &input,
            real_keys.iter().map(|key| &key.expr),
            calls.iter().map(extreme),
        )?
    } else {
        None
    };
    // There are no partial states of rows that are taken back.
    let has_updates = input.branches.iter().any(|branch| cx.builder.has_updates(branch.node));
    let two_phase = !has_updates && two_phase(cx, id, &calls, is_fused);
    let grouping = Grouping::Window {
        id,
        is_fused,
        two_phase,
    };
    let sides = aggregate_inputs(cx, &input, &real_keys, &calls, grouping)?;
    let node = aggregate_nodes(cx, sides, two_phase)?;
    if let Some(extremes) = extremes {
        filters.add(node, extremes);
    }
    aggregate_output(
        cx,
        node,
        &keys,
        outputs,
        real_keys.len(),
        &input,
        &window_columns,
        names,
    )
}

/// Returns the window that rows are grouped by; `None` if no key is a bound of a window.
fn group_window(cx: &Context<'_>, keys: &[Key], input: &Relation) -> Result<Option<WindowId>> {
    let mut incomplete = None;
    for key in keys {
        let Attribute::Window(id, _) = key.info.attribute else {
            continue;
        };
        let has = |bound| {
            keys.iter()
                .any(|key| key.info.attribute == Attribute::Window(id, bound))
        };
        let complete = has(Bound::End)
            || has(Bound::Time)
            || has(Bound::Instant)
            || (has(Bound::Start) && cx.windows[id].start_determines_end());
        // If rows carry their window already, its end must be one of the input's columns.
        let pending = matches!(&input.pending, Pending::Window(pending) if pending.id == id);
        let end_known = pending || input.column_with(Attribute::Window(id, Bound::End)).is_some();
        if complete && end_known {
            return Ok(Some(id));
        }
        incomplete = Some(key.info.name.clone());
    }
    match incomplete {
        Some(name) => Err(cx.error(format!(
            "grouping by `{name}` alone does not tell when a window is complete: GROUP BY window_start, window_end \
             (both bounds, passed on by every query between)"
        ))),
        None => Ok(None),
    }
}

/// Returns true if the pending window is no session, or one whose keys are those of the aggregate: sessions exist per
/// key.
fn has_session_keys(cx: &Context<'_>, input: &Relation, keys: &[&Key]) -> Result<bool> {
    let Pending::Window(pending) = &input.pending else {
        return Ok(true);
    };
    if !matches!(pending.window, Window::Session { .. }) {
        return Ok(true);
    }
    for branch in &input.branches {
        let partition = pending.keys(branch);
        let composed: Result<Vec<_>, _> = keys.iter().map(|key| branch.compose(&key.expr)).collect();
        let composed = cx.located(composed)?;
        let same =
            composed.iter().all(|key| partition.contains(key)) && partition.iter().all(|key| composed.contains(key));
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns true if a local aggregate can run before the exchange and its results are small.
fn two_phase(cx: &Context<'_>, id: WindowId, calls: &[Call], is_fused: bool) -> bool {
    let window = &cx.windows[id];
    let is_one = cx.agg_phases() == AggregatePhases::One;
    if is_one || window.processing_time || cx.is_late_output_used() {
        return false;
    }
    if is_fused && matches!(window.window, Window::Session { .. }) {
        return false;
    }
    calls.iter().all(|call| {
        let params = &call.function.params;
        let properties = Functions::all().aggregate_properties(call.function.func.name());
        !params.distinct && params.order_by.is_empty() && properties.partial_state == PartialState::Constant
    })
}

/// Reorders the node's columns (keys, results, bounds) as in the plan: keys and bounds as written, then results.
#[allow(clippy::too_many_arguments)]
fn aggregate_output(
    cx: &mut Context<'_>,
    node: NodeIndex,
    keys: &[Key],
    outputs: Vec<Output>,
    key_count: usize,
    input: &Relation,
    window_columns: &[usize],
    names: &[String],
) -> Result<Relation> {
    let schema = cx.schema(node);
    let width = schema.fields().len();
    let (start, end) = (column(&schema, width - 2), column(&schema, width - 1));
    let mut exprs = Vec::with_capacity(names.len());
    let mut columns = Vec::with_capacity(names.len());
    for (key, output) in keys.iter().zip(outputs) {
        let mut info = key.info.clone();
        exprs.push(match output {
            Output::Key(index) => {
                // Results are emitted at the end of the window, so all other time attributes are lost.
                info.attribute = Attribute::None;
                column(&schema, index)
            }
            Output::FromWindow(expr) => {
                let bounds: Vec<(usize, PhysicalExprRef)> = window_columns
                    .iter()
                    .map(|&index| {
                        let wanted = &input.columns[index];
                        let made = match wanted.attribute {
                            Attribute::Window(id, bound @ Bound::Start) => in_zone(cx, id, bound, start.clone()),
                            Attribute::Window(id, bound @ Bound::End) => in_zone(cx, id, bound, end.clone()),
                            Attribute::Window(id, bound @ (Bound::Time | Bound::Instant)) => {
                                in_zone(cx, id, bound, window_time(&end))
                            }
                            Attribute::EventTime | Attribute::ProcessingTime | Attribute::None => {
                                return Err(cx.error("a column of a window was lost before the GROUP BY"));
                            }
                        };
                        Ok((index, cast_if_needed(cx, made, &schema, &wanted.data_type)?))
                    })
                    .collect::<Result<_>>()?;
                let made = substitute(&expr, &|index| {
                    bounds.iter().find(|(of, _)| *of == index).map(|(_, expr)| expr.clone())
                });
                cx.located(made)?
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

/// Returns the value that a call is an extreme of, if it is `MAX` or `MIN` of all rows.
fn extreme(call: &Call) -> Option<(&PhysicalExprRef, Extreme)> {
    let extreme = match call.function.func.name() {
        "max" => Extreme::Greatest,
        "min" => Extreme::Least,
        _ => return None,
    };
    match call.args.as_slice() {
        [value] if call.filter.is_none() && call.function.params.order_by.is_empty() => Some((value, extreme)),
        _ => None,
    }
}
