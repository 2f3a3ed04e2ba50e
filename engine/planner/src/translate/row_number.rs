//! `ROW_NUMBER() OVER (PARTITION BY ... ORDER BY ...) AS rn`, `RANK()` and `DENSE_RANK()`, and conditions on `rn`. Rows
//! are ranked per window if the partition has the bounds of a window.
//!
//! The rank stays pending until its bounds are known: conditions on it become the bounds of a Top-N operator.

use std::sync::Arc;

use arrow_schema::{DataType, Schema, SortOptions};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, Operator as BinaryOperator, SortExpr, Window, WindowFunctionDefinition,
};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr, create_physical_sort_exprs};
use millstream_graph::{NodeIndex, Operator, Port, RankFunction, Sort, WindowColumns};

use super::builder::{InputEdge, keyed_exchange};
use super::calc::calc;
use super::context::{Context, Result};
use super::pending::{materialize_if_volatile, resolve};
use super::relation::{
    Arrival, Attribute, Bound, Branch, ColumnInfo, Pending, PendingRank, Relation, VIRTUAL_RANK, bare_column, column,
    stream,
};
use crate::functions::is_proctime;

const OVER_UNSUPPORTED: &str = "the only OVER supported is that of ROW_NUMBER(), RANK() and DENSE_RANK() with a bound: SELECT ... FROM \
    (SELECT ..., ROW_NUMBER() OVER (PARTITION BY ... ORDER BY ...) AS rn FROM ...) WHERE rn <= N; aggregate with GROUP \
    BY and join for the rest";

/// Returns the call of the window function, if it is the only one and ranks rows.
pub(super) fn function(cx: &Context<'_>, window: &Window) -> Result<(WindowFunction, RankFunction)> {
    let [expr] = window.window_expr.as_slice() else {
        return Err(cx.error(OVER_UNSUPPORTED));
    };
    let Expr::WindowFunction(function) = expr.clone().unalias() else {
        return Err(cx.error(OVER_UNSUPPORTED));
    };
    let WindowFunctionDefinition::WindowUDF(udf) = &function.fun else {
        return Err(cx.error(OVER_UNSUPPORTED));
    };
    let rank = match udf.name() {
        "row_number" => RankFunction::RowNumber,
        "rank" => RankFunction::Rank,
        "dense_rank" => RankFunction::DenseRank,
        _ => return Err(cx.error(OVER_UNSUPPORTED)),
    };
    Ok((*function, rank))
}

/// Returns the relation with a pending rank, the value of `call`.
pub(super) fn row_number(
    cx: &mut Context<'_>,
    window: &Window,
    (call, function): &(WindowFunction, RankFunction),
    input: Relation,
) -> Result<Relation> {
    let params = &call.params;
    if params.order_by.is_empty() {
        return Err(cx.error(format!(
            "{}() needs an ORDER BY in its OVER, to say which rows are first",
            function.name()
        )));
    }
    let schema = window.input.schema();
    let input = resolve(cx, input)?;
    let visible = input.columns.len();
    let ordered = ordered(cx, input, schema, &params.partition_by, &params.order_by)?;
    let bounds = partition_window(cx, &ordered.partition, &ordered.columns)?;
    let Ordered {
        nodes,
        columns,
        mut partition,
        order,
        arrival,
    } = ordered;
    if let Some((_, id)) = bounds {
        partition.retain(|&index| !matches!(columns[index].attribute, Attribute::Window(of, _) if of == id));
    }
    if arrival.is_some() && *function != RankFunction::RowNumber {
        return Err(cx.error(format!(
            "{}() by processing time (PROCTIME) is not supported, since no two rows have the same: use ROW_NUMBER()",
            function.name()
        )));
    }
    let node_schema = cx.schema(nodes[0]);
    let rank = window.schema.field(window.schema.fields().len() - 1);
    let rank_expr: PhysicalExprRef = Arc::new(Column::new(rank.name(), VIRTUAL_RANK));
    let mut columns: Vec<ColumnInfo> = columns.into_iter().take(visible).collect();
    columns.push(ColumnInfo {
        name: rank.name().clone(),
        data_type: rank.data_type().clone(),
        attribute: Attribute::None,
        origin: None,
    });
    let mut exprs: Vec<PhysicalExprRef> = (0..visible).map(|index| column(&node_schema, index)).collect();
    exprs.push(rank_expr);
    Ok(Relation {
        branches: branches(&nodes, &exprs),
        columns,
        pending: Pending::Rank(PendingRank {
            function: *function,
            window: bounds.map(|(window, _)| window),
            partition,
            order: sorts(&order, &node_schema),
            arrival,
            rank_type: rank.data_type().clone(),
            rank_name: "rank".to_owned(),
            from: 1,
            to: None,
        }),
    })
}

/// Returns the first rows of a relation, by order: those of the ranks `from` to `to`.
pub(super) fn first_rows(
    cx: &mut Context<'_>,
    input: Relation,
    schema: &DFSchema,
    order: &[SortExpr],
    (from, to): (u64, u64),
) -> Result<Relation> {
    let input = resolve(cx, input)?;
    let visible = input.columns.len();
    let Ordered {
        nodes,
        mut columns,
        partition,
        order,
        arrival,
    } = ordered(cx, input, schema, &[], order)?;
    columns.truncate(visible);
    let node_schema = cx.schema(nodes[0]);
    let exprs: Vec<PhysicalExprRef> = (0..visible).map(|index| column(&node_schema, index)).collect();
    let relation = Relation {
        branches: branches(&nodes, &exprs),
        columns,
        pending: Pending::Rank(PendingRank {
            function: RankFunction::RowNumber,
            window: None,
            partition,
            order: sorts(&order, &node_schema),
            arrival,
            rank_type: DataType::Int64,
            rank_name: "rank".to_owned(),
            from,
            to: Some(to),
        }),
    };
    resolve(cx, relation)
}

/// Returns all rows of a relation, in their order.
pub(super) fn sorted_rows(
    cx: &mut Context<'_>,
    input: Relation,
    schema: &DFSchema,
    order: &[SortExpr],
) -> Result<Relation> {
    let input = resolve(cx, input)?;
    let visible = input.columns.len();
    let Ordered {
        nodes,
        mut columns,
        order,
        arrival,
        ..
    } = ordered(cx, input, schema, &[], order)?;
    if arrival == Some(Arrival::LastToCome) {
        return Err(cx.error("ORDER BY processing time (PROCTIME) DESC needs a LIMIT"));
    }
    columns.truncate(visible);
    columns.iter_mut().for_each(|column| column.attribute = Attribute::None);
    let node_schema = cx.schema(nodes[0]);
    let (exchange, parallelism) = keyed_exchange(Vec::new());
    let edges = nodes.iter().map(|&from| InputEdge {
        from,
        port: Port::Main,
        input: 0,
        exchange: exchange.clone(),
    });
    let operator = Operator::Sort(Sort {
        order: sorts(&order, &node_schema),
    });
    let output = stream(node_schema.clone(), &[]);
    let node = cx.add("sort", operator, edges.collect(), output, parallelism);
    let exprs: Vec<PhysicalExprRef> = (0..visible).map(|index| column(&node_schema, index)).collect();
    Ok(Relation {
        branches: branches(&[node], &exprs),
        columns,
        pending: Pending::Nothing,
    })
}

fn branches(nodes: &[NodeIndex], exprs: &[PhysicalExprRef]) -> Vec<Branch> {
    let branch = |&node: &NodeIndex| Branch {
        node,
        filter: None,
        exprs: exprs.to_vec(),
        carried: Vec::new(),
    };
    nodes.iter().map(branch).collect()
}

fn sorts(order: &[(usize, SortOptions)], schema: &Schema) -> Vec<PhysicalSortExpr> {
    order
        .iter()
        .map(|(index, options)| PhysicalSortExpr::new(column(schema, *index), *options))
        .collect()
}

/// Nodes with the rows of a relation, whose partition and order are columns.
struct Ordered {
    /// One node per branch of the relation. All have the same columns.
    nodes: Vec<NodeIndex>,
    /// Columns of the nodes: those of the relation, then expressions of the partition and the order.
    columns: Vec<ColumnInfo>,
    partition: Vec<usize>,
    order: Vec<(usize, SortOptions)>,
    /// Order by processing time, which ends the order: rows are processed one after the other.
    arrival: Option<Arrival>,
}

fn ordered(
    cx: &mut Context<'_>,
    input: Relation,
    schema: &DFSchema,
    partition_by: &[Expr],
    order_by: &[SortExpr],
) -> Result<Ordered> {
    let mut columns = input.columns.clone();
    let mut extra: Vec<PhysicalExprRef> = Vec::new();
    let mut place = |cx: &Context<'_>, expr: PhysicalExprRef| -> Result<usize> {
        if let Some(index) = bare_column(&expr) {
            return Ok(index);
        }
        let data_type = cx.located(expr.data_type(schema.as_arrow()))?;
        columns.push(ColumnInfo {
            name: format!("$order{}", columns.len()),
            data_type,
            attribute: Attribute::None,
            origin: None,
        });
        extra.push(expr);
        Ok(columns.len() - 1)
    };
    let mut partition = Vec::new();
    for expr in partition_by {
        let physical = cx.physical(expr, schema)?;
        partition.push(place(cx, physical)?);
    }
    let attribute = |index: usize| input.columns.get(index).map(|column| column.attribute);
    // In a window, processing time is a value like others.
    let is_windowed = partition
        .iter()
        .any(|&index| matches!(attribute(index), Some(Attribute::Window(..))));
    let context = Default::default();
    let sorts = create_physical_sort_exprs(order_by, schema, &cx.planning.props, &context);
    let (mut order, mut arrival) = (Vec::new(), None);
    for (sort, logical) in cx.located(sorts)?.into_iter().zip(order_by) {
        let of_column = bare_column(&sort.expr).and_then(attribute);
        if !is_windowed && (is_proctime(&logical.expr) || of_column == Some(Attribute::ProcessingTime)) {
            arrival = Some(match sort.options.descending {
                false => Arrival::FirstToCome,
                true => Arrival::LastToCome,
            });
            break;
        }
        order.push((place(cx, sort.expr)?, sort.options));
    }
    let input = materialize_if_volatile(cx, input, &extra)?;
    let mut nodes = Vec::with_capacity(input.branches.len());
    for branch in &input.branches {
        let mut exprs = branch.exprs.clone();
        for expr in &extra {
            exprs.push(cx.located(branch.compose(expr))?);
        }
        nodes.push((branch.clone(), exprs));
    }
    let nodes: Result<Vec<usize>> = nodes
        .iter()
        .map(|(branch, exprs)| calc(cx, branch, exprs, &columns, false))
        .collect();
    Ok(Ordered {
        nodes: nodes?,
        columns,
        partition,
        order,
        arrival,
    })
}

/// Returns the bounds of the window that a partition has, and its number.
fn partition_window(
    cx: &Context<'_>,
    partition: &[usize],
    columns: &[ColumnInfo],
) -> Result<Option<(WindowColumns, usize)>> {
    for &index in partition {
        let Attribute::Window(id, _) = columns[index].attribute else {
            continue;
        };
        let find = |bound| {
            let mut found = partition.iter().copied();
            found.find(|&index| columns[index].attribute == Attribute::Window(id, bound))
        };
        let anywhere = |bound| {
            columns
                .iter()
                .position(|column| column.attribute == Attribute::Window(id, bound))
        };
        let start_enough = find(Bound::Start).is_some() && cx.windows[id].start_determines_end();
        let end = find(Bound::End).or_else(|| anywhere(Bound::End).filter(|_| start_enough));
        let Some(end) = end else { continue };
        let start = find(Bound::Start).unwrap_or(end);
        if cx.windows[id].processing_time {
            return Err(cx.error(
                "the first rows of windows on the clock (PROCTIME) are not supported: use event time, with \
                 WATERMARK FOR",
            ));
        }
        return Ok(Some((WindowColumns { start, end }, id)));
    }
    Ok(None)
}

/// Makes a condition on the pending rank one of its bounds. Returns false if it is a condition on something else.
pub(super) fn rank_bound(input: &mut Relation, condition: &Expr, schema: &DFSchema) -> bool {
    let Pending::Rank(rank) = &mut input.pending else {
        return false;
    };
    let is_rank = |expr: &Expr| {
        let Expr::Column(column) = strip_casts(expr) else {
            return false;
        };
        let index = schema.maybe_index_of_column(column);
        let first = index.and_then(|index| input.branches[0].exprs.get(index));
        first.is_some_and(|expr| bare_column(expr) == Some(VIRTUAL_RANK))
    };
    let (mut from, mut to) = (rank.from, rank.to);
    let mut narrow = |operator: BinaryOperator, value: i64| {
        let (low, high) = match operator {
            BinaryOperator::Eq => (value, Some(value)),
            BinaryOperator::Lt => (1, Some(value.saturating_sub(1))),
            BinaryOperator::LtEq => (1, Some(value)),
            BinaryOperator::Gt => (value.saturating_add(1), None),
            BinaryOperator::GtEq => (value, None),
            _ => return false,
        };
        from = from.max(u64::try_from(low).unwrap_or(1)).max(1);
        if let Some(high) = high {
            let high = u64::try_from(high).unwrap_or(0);
            to = Some(to.map_or(high, |to| to.min(high)));
        }
        true
    };
    let taken = match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if is_rank(left) {
                integer(right).is_some_and(|value| narrow(*op, value))
            } else if is_rank(right) {
                match (integer(left), op.swap()) {
                    (Some(value), Some(op)) => narrow(op, value),
                    _ => false,
                }
            } else {
                false
            }
        }
        Expr::Between(between) if !between.negated && is_rank(&between.expr) => {
            match (integer(&between.low), integer(&between.high)) {
                (Some(low), Some(high)) => narrow(BinaryOperator::GtEq, low) && narrow(BinaryOperator::LtEq, high),
                _ => false,
            }
        }
        _ => false,
    };
    (rank.from, rank.to) = (from, to);
    taken
}

fn strip_casts(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => strip_casts(&cast.expr),
        Expr::Alias(alias) => strip_casts(&alias.expr),
        other => other,
    }
}

fn integer(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = strip_casts(expr) else {
        return None;
    };
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(value)) if value_is_integer(expr) => value,
        _ => None,
    }
}

fn value_is_integer(expr: &Expr) -> bool {
    matches!(strip_casts(expr), Expr::Literal(value, _) if value.data_type().is_integer())
}
