//! `ROW_NUMBER() OVER (PARTITION BY window_start, window_end, ... ORDER BY ...) AS rn`, and conditions on `rn`.
//!
//! The rank stays pending until its bounds are known: conditions on it become the bounds of a Top-N operator.

use std::sync::Arc;

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator as BinaryOperator, Window, WindowFunctionDefinition};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr, create_physical_sort_exprs};
use millstream_graph::WindowColumns;

use super::calc::calc;
use super::context::{Context, Result};
use super::pending::{materialize_if_volatile, resolve};
use super::relation::{
    Attribute, Bound, Branch, ColumnInfo, Pending, PendingRank, Relation, VIRTUAL_RANK, bare_column, column,
};

const OVER_UNSUPPORTED: &str = "the only OVER supported is ROW_NUMBER() OVER (PARTITION BY window_start, window_end[, keys] ORDER BY \
    ...) AS rn with WHERE rn <= N; aggregate with GROUP BY window_start, window_end and join windows for the rest";

/// Returns the call of the window function, if it is the only one and `ROW_NUMBER()`.
pub(super) fn function(cx: &Context<'_>, window: &Window) -> Result<WindowFunction> {
    let [expr] = window.window_expr.as_slice() else {
        return Err(cx.error(OVER_UNSUPPORTED));
    };
    let Expr::WindowFunction(function) = expr.clone().unalias() else {
        return Err(cx.error(OVER_UNSUPPORTED));
    };
    match &function.fun {
        WindowFunctionDefinition::WindowUDF(udf) if udf.name() == "row_number" => Ok(*function),
        WindowFunctionDefinition::WindowUDF(udf) if matches!(udf.name(), "rank" | "dense_rank") => {
            Err(cx.error(format!(
                "{}() is not supported: use ROW_NUMBER(), which gives ties different numbers",
                udf.name()
            )))
        }
        _ => Err(cx.error(OVER_UNSUPPORTED)),
    }
}

/// Returns the relation with a pending rank, the value of `function`.
pub(super) fn row_number(
    cx: &mut Context<'_>,
    window: &Window,
    function: &WindowFunction,
    input: Relation,
) -> Result<Relation> {
    let params = &function.params;
    let schema = window.input.schema();
    let input = resolve(cx, input)?;

    // The operator reads columns of one node: the plan's, then the partition and order expressions.
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
    for expr in &params.partition_by {
        let physical = cx.physical(expr, schema)?;
        partition.push(place(cx, physical)?);
    }
    let context = Default::default();
    let sorts = create_physical_sort_exprs(&params.order_by, schema, &cx.planning.props, &context);
    let mut order = Vec::new();
    for sort in cx.located(sorts)? {
        order.push((place(cx, sort.expr)?, sort.options));
    }
    if order.is_empty() {
        return Err(cx.error("ROW_NUMBER() needs an ORDER BY in its OVER, to say which rows are first"));
    }
    let bounds = partition_window(cx, &partition, &columns)?;
    let (window_columns, id) = bounds;
    partition.retain(|&index| !matches!(columns[index].attribute, Attribute::Window(of, _) if of == id));

    let input = materialize_if_volatile(cx, input, &extra)?;
    let mut nodes = Vec::with_capacity(input.branches.len());
    for branch in &input.branches {
        let mut exprs = branch.exprs.clone();
        for expr in &extra {
            exprs.push(cx.located(branch.compose(expr))?);
        }
        nodes.push((branch.clone(), exprs));
    }
    let made: Result<Vec<usize>> = nodes
        .iter()
        .map(|(branch, exprs)| calc(cx, branch, exprs, &columns, false))
        .collect();
    let made = made?;
    let node_schema = cx.schema(made[0]);
    let rank = window.schema.field(window.schema.fields().len() - 1);
    let rank_expr: PhysicalExprRef = Arc::new(Column::new(rank.name(), VIRTUAL_RANK));
    let visible = input.columns.len();
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
        branches: made
            .iter()
            .map(|&node| Branch {
                node,
                filter: None,
                exprs: exprs.clone(),
                carried: Vec::new(),
            })
            .collect(),
        columns,
        pending: Pending::Rank(PendingRank {
            window: window_columns,
            partition,
            order: order
                .into_iter()
                .map(|(index, options)| PhysicalSortExpr::new(column(&node_schema, index), options))
                .collect(),
            rank_type: rank.data_type().clone(),
            rank_name: "rank".to_owned(),
            from: 1,
            to: None,
        }),
    })
}

fn partition_window(cx: &Context<'_>, partition: &[usize], columns: &[ColumnInfo]) -> Result<(WindowColumns, usize)> {
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
        return Ok((WindowColumns { start, end }, id));
    }
    Err(cx.error(
        "ROW_NUMBER() over a stream must be numbered per window: PARTITION BY window_start, window_end[, keys], over \
         rows of a window table function or a window aggregate",
    ))
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
    match value.cast_to(&arrow_schema::DataType::Int64) {
        Ok(ScalarValue::Int64(value)) if value_is_integer(expr) => value,
        _ => None,
    }
}

fn value_is_integer(expr: &Expr) -> bool {
    matches!(strip_casts(expr), Expr::Literal(value, _) if value.data_type().is_integer())
}
