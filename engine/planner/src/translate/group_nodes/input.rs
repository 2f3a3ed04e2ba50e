//! The input of an aggregate: a `Calc` that computes keys, arguments and conditions, and the aggregate calls over its
//! columns.

use std::sync::Arc;

use arrow_schema::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::NullTreatment;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr};
use millstream_graph::{Aggregate, NodeIndex, TimeAttribute, Window, WindowColumns};

use super::{Call, Grouping, Key};
use crate::translate::calc::{Columns, calc};
use crate::translate::context::{Context, Result};
use crate::translate::relation::{Attribute, Bound, Branch, ColumnInfo, Pending, Relation, bare_column, column};

/// The node that an aggregate reads for one branch, with the aggregate's keys and calls over its columns.
pub(in crate::translate) struct AggregateInput {
    pub node: NodeIndex,
    pub keys: Vec<usize>,
    pub aggregates: Vec<Aggregate>,
    /// The window and its time; `None` without a window.
    pub window: Option<(Window, TimeAttribute)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Operand {
    Literal(PhysicalExprRef),
    Column(usize),
}

/// The columns that an aggregate reads of a branch, and their uses.
struct Operands {
    columns: Columns,
    uses: Uses,
}

/// Positions of the columns that an aggregate reads.
#[derive(Debug, PartialEq, Eq)]
struct Uses {
    keys: Vec<usize>,
    /// Arguments, condition and order of each call.
    calls: Vec<(Vec<Operand>, Option<Operand>, Vec<Operand>)>,
    window: Option<(Window, TimeAttribute)>,
}

/// Makes the nodes that an aggregate reads, one per branch, with the same columns.
pub(in crate::translate) fn aggregate_inputs(
    cx: &mut Context<'_>,
    input: &Relation,
    keys: &[&Key],
    calls: &[Call],
    grouping: Grouping,
) -> Result<Vec<AggregateInput>> {
    let all = |merge: bool| -> Result<Vec<Operands>> {
        let branches = input.branches.iter();
        branches
            .map(|branch| operands(cx, branch, input, keys, calls, grouping, merge))
            .collect()
    };
    let mut sides = all(true)?;
    // Columns that are equal in one branch, or constant, may not be so in another.
    if sides.iter().any(|side| side.uses != sides[0].uses) {
        sides = all(false)?;
    }
    let sides = input.branches.iter().zip(sides);
    sides
        .map(|(branch, operands)| aggregate_input(cx, branch, input, calls, grouping, operands))
        .collect()
}

/// Returns the columns that an aggregate reads of a branch. With `merge`, equal ones are one, and constants are none.
fn operands(
    cx: &Context<'_>,
    branch: &Branch,
    input: &Relation,
    keys: &[&Key],
    calls: &[Call],
    grouping: Grouping,
    merge: bool,
) -> Result<Operands> {
    let schema = cx.schema(branch.node);
    let mut columns = Columns {
        keep_equal: !merge,
        ..Columns::default()
    };
    let plain = |name: &str, data_type: DataType| ColumnInfo {
        name: name.to_owned(),
        data_type,
        attribute: Attribute::None,
        origin: None,
    };
    // Late rows are written with all columns: those of the window function's input, or those of the relation.
    if cx.is_late_output_used() && grouping.window().is_some() {
        match &input.pending {
            Pending::Window(pending) => {
                for (expr, info) in pending.late_row(branch).iter().zip(&pending.late) {
                    columns.exprs.push(expr.clone());
                    columns.infos.push(info.clone());
                }
            }
            _ => {
                for (expr, info) in branch.exprs.iter().zip(&input.columns) {
                    columns.exprs.push(expr.clone());
                    columns.infos.push(info.clone());
                }
            }
        }
    }
    let mut key_columns = Vec::with_capacity(keys.len());
    for key in keys {
        let expr = cx.located(branch.compose(&key.expr))?;
        key_columns.push(columns.index_of(&expr, key.info.clone()));
    }
    let mut places = Vec::with_capacity(calls.len());
    let place = |expr: &PhysicalExprRef, columns: &mut Columns| -> Result<Operand, DataFusionError> {
        let is_constant = expr.downcast_ref::<Literal>().is_some();
        let expr = branch.compose(expr)?;
        if is_constant || (merge && expr.downcast_ref::<Literal>().is_some()) {
            return Ok(Operand::Literal(expr));
        }
        let name = match bare_column(&expr) {
            Some(index) => schema.field(index).name().clone(),
            None => format!("$arg{}", columns.exprs.len()),
        };
        let data_type = expr.data_type(&schema)?;
        Ok(Operand::Column(columns.index_of(&expr, plain(&name, data_type))))
    };
    for call in calls {
        let args: Result<Vec<_>, _> = call.args.iter().map(|arg| place(arg, &mut columns)).collect();
        let filter = call
            .filter
            .as_ref()
            .map(|filter| place(filter, &mut columns))
            .transpose();
        let order: Result<Vec<_>, _> = call.order.iter().map(|sort| place(&sort.expr, &mut columns)).collect();
        places.push((cx.located(args)?, cx.located(filter)?, cx.located(order)?));
    }
    let mut window = None;
    if let Grouping::Window { id, is_fused: true, .. } = grouping {
        let mut time = TimeAttribute::Processing;
        if let Some(expr) = branch.carried.first().filter(|_| !cx.windows[id].processing_time) {
            let name = bare_column(expr).map_or("$time", |index| schema.field(index).name());
            let mut info = plain(name, cx.located(expr.data_type(&schema))?);
            info.attribute = Attribute::EventTime;
            time = TimeAttribute::Event(columns.index_of(expr, info));
        }
        window = Some((cx.windows[id].window, time));
    } else if let Some(id) = grouping.window() {
        let mut bound = |bound: Bound| {
            let index = input.column_with(Attribute::Window(id, bound))?;
            Some(columns.index_of(&branch.exprs[index], input.columns[index].clone()))
        };
        let end = bound(Bound::End);
        let end = end.ok_or_else(|| cx.error("a window's end was lost before the GROUP BY"))?;
        let mut bound = |bound: Bound| {
            let index = input.column_with(Attribute::Window(id, bound))?;
            Some(columns.index_of(&branch.exprs[index], input.columns[index].clone()))
        };
        // If a query between dropped the start, the end alone identifies the window.
        let start = bound(Bound::Start).unwrap_or(end);
        let bounds = WindowColumns { start, end };
        window = Some((Window::Attached(bounds), TimeAttribute::Event(end)));
    }

    // `COUNT(*)` of all rows reads no column, but a batch needs one.
    if columns.exprs.is_empty() {
        let one: PhysicalExprRef = Arc::new(Literal::new(ScalarValue::Boolean(Some(true))));
        columns.index_of(&one, plain("$row", DataType::Boolean));
    }
    Ok(Operands {
        columns,
        uses: Uses {
            keys: key_columns,
            calls: places,
            window,
        },
    })
}

/// Makes the node that an aggregate reads for a branch.
fn aggregate_input(
    cx: &mut Context<'_>,
    branch: &Branch,
    input: &Relation,
    calls: &[Call],
    grouping: Grouping,
    operands: Operands,
) -> Result<AggregateInput> {
    let schema = cx.schema(branch.node);
    let Operands { columns, uses } = operands;
    // If all expressions are existing columns, no `Calc` is needed, unless it makes the rows narrower before an
    // exchange.
    let direct: Option<Vec<usize>> = columns.exprs.iter().map(bare_column).collect();
    let direct = direct
        .filter(|_| branch.filter.is_none() && input.branches.len() == 1)
        .filter(|direct| grouping.is_two_phase() || direct.len() == schema.fields().len());
    let (node, at): (NodeIndex, Vec<usize>) = match direct {
        Some(direct) => (branch.node, direct),
        None => {
            let node = calc(cx, branch, &columns.exprs, &columns.infos, false)?;
            (node, (0..columns.exprs.len()).collect())
        }
    };
    let schema = cx.schema(node);
    let mut aggregates = Vec::with_capacity(calls.len());
    for (call, (args, filter, order)) in calls.iter().zip(uses.calls) {
        let real = |place: &Operand| match place {
            Operand::Literal(expr) => expr.clone(),
            Operand::Column(index) => column(&schema, at[*index]),
        };
        let args = args.iter().map(real).collect();
        let order: Vec<PhysicalSortExpr> = order
            .iter()
            .zip(&call.order)
            .map(|(place, sort)| PhysicalSortExpr::new(real(place), sort.options))
            .collect();
        let filter = filter.as_ref().map(real);
        let function = cx.located(function(call, args, order, &schema))?;
        aggregates.push(Aggregate {
            function: Arc::new(function),
            filter,
        });
    }
    let renumbered = |index: usize| at[index];
    Ok(AggregateInput {
        node,
        keys: uses.keys.into_iter().map(renumbered).collect(),
        aggregates,
        window: uses.window.map(|(window, time)| {
            let window = match window {
                Window::Attached(columns) => Window::Attached(WindowColumns {
                    start: at[columns.start],
                    end: at[columns.end],
                }),
                other => other,
            };
            let time = match time {
                TimeAttribute::Event(index) => TimeAttribute::Event(at[index]),
                TimeAttribute::Processing => TimeAttribute::Processing,
            };
            (window, time)
        }),
    })
}

fn function(
    call: &Call,
    args: Vec<PhysicalExprRef>,
    order: Vec<PhysicalSortExpr>,
    schema: &Arc<Schema>,
) -> Result<AggregateFunctionExpr, DataFusionError> {
    let func = &call.function.func;
    let params = &call.function.params;
    let rendered: Vec<String> = args.iter().map(ToString::to_string).collect();
    let mut name = format!(
        "{}({}{})",
        func.name(),
        if params.distinct { "DISTINCT " } else { "" },
        rendered.join(", ")
    );
    if !order.is_empty() {
        let order: Vec<String> = order.iter().map(ToString::to_string).collect();
        name.push_str(&format!(" ORDER BY {}", order.join(", ")));
    }
    AggregateExprBuilder::new(func.clone(), args)
        .schema(schema.clone())
        .order_by(order)
        .alias(name)
        .with_distinct(params.distinct)
        .with_ignore_nulls(params.null_treatment == Some(NullTreatment::IgnoreNulls))
        .build()
}
