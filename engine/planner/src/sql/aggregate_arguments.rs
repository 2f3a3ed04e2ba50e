//! Checks of aggregates' arguments that would otherwise fail for every row.

use arrow_schema::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, Cast};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use millstream_graph::sql_type;

use crate::functions;

/// Checks the aggregates of a coerced plan.
pub(super) fn check(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if let LogicalPlan::Aggregate(aggregate) = &plan {
        let schema = aggregate.input.schema();
        for expr in &aggregate.aggr_expr {
            expr.apply(|expr| {
                if let Expr::AggregateFunction(call) = expr {
                    check_call(call, schema)?;
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
    }
    Ok(Transformed::no(plan))
}

fn check_call(call: &AggregateFunction, schema: &DFSchema) -> Result<()> {
    let name = call.func.name();
    match (name, call.params.args.as_slice()) {
        ("max" | "min", [argument]) => {
            let data_type = argument.get_type(schema)?;
            if data_type.is_nested() {
                let (name, found) = (name.to_ascii_uppercase(), sql_type::name(&data_type));
                return plan_err!("{name} takes values that have an order, not {found}");
            }
        }
        ("sum" | "avg" | "stddev" | "stddev_pop" | "var_pop" | "var_samp" | "var", [argument, ..]) => {
            let data_type = argument.get_type(schema)?;
            if sql_type::is_interval(&data_type) {
                let (name, found) = (functions::shown_name(name), sql_type::name(&data_type));
                return plan_err!(
                    "{name} takes numbers, not {found}: aggregate EXTRACT(EPOCH FROM i), or TIMESTAMPDIFF"
                );
            }
        }
        ("percentile_cont" | "approx_percentile_cont", [_, fraction, ..]) => {
            if let Some(fraction) = constant(fraction)
                && !(0.0..=1.0).contains(&fraction)
            {
                let name = functions::shown_name(name).replace("PERCENTILE_CONT", "PERCENTILE");
                return plan_err!("{name} takes a fraction from 0 to 1, not {fraction}");
            }
        }
        _ => {}
    }
    Ok(())
}

/// Returns the value of a constant number.
fn constant(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Cast(Cast { expr, .. }) => constant(expr),
        Expr::Negative(inner) => constant(inner).map(|number| -number),
        Expr::Literal(value, _) => match value.cast_to(&DataType::Float64) {
            Ok(ScalarValue::Float64(number)) => number,
            _ => None,
        },
        _ => None,
    }
}
