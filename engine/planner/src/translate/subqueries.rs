//! Subqueries of expressions, before the optimiser makes joins of them.
//!
//! A scalar subquery becomes a left join, which is right only if it has one row at most. `NOT IN` becomes `NOT EXISTS`
//! with the condition that the operands are *not different*: `x NOT IN (SELECT y ...)` is not true if some `y` is NULL,
//! or if `x` is NULL and there is any row. Where neither can be NULL, the operands are compared for equality, and so
//! are keys of the join. Subqueries within other expressions are replaced by [`Embedded`].

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, binary_expr, lit};

use super::embedded_subqueries::{Embedded, check_aggregates, decided};
use super::subquery_operands::{as_outer, is_never_null};

/// Prefix of the names of the columns of `NOT IN` queries. Users cannot write it.
const NOT_IN: &str = "$not_in";

/// Checks the scalar subqueries of a plan, and rewrites `NOT IN (SELECT ...)` and subqueries within expressions.
pub(super) fn prepare(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut count = 0;
    let prepared = plan.transform_up_with_subqueries(|plan| {
        let mut schema = DFSchema::empty();
        for input in plan.inputs() {
            schema.merge(input.schema());
        }
        let known = plan.clone();
        let preserver = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = preserver.save(&expr);
            expr.apply(|expr| {
                if let Expr::ScalarSubquery(subquery) = expr {
                    check_scalar(subquery)?;
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
            let expr = match &known {
                LogicalPlan::Filter(_) => condition(expr, &known, &schema, &mut count)?,
                LogicalPlan::Projection(_) => Embedded::new(&known, &schema, &mut count).replace(expr, false)?,
                _ => Transformed::no(expr),
            };
            Ok(expr.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(prepared.data)
}

/// Rewrites the subqueries of the condition of a filter.
fn condition(expr: Expr, plan: &LogicalPlan, schema: &DFSchema, count: &mut usize) -> Result<Transformed<Expr>> {
    let mut is_changed = false;
    let mut conditions = Vec::new();
    for condition in split_conjunction_owned(expr) {
        let replaced = match condition {
            Expr::InSubquery(call) if call.negated => {
                *count += 1;
                not_exists(call, plan, schema, *count)?
            }
            Expr::Not(inner) if matches!(*inner, Expr::InSubquery(InSubquery { negated: false, .. })) => match *inner {
                Expr::InSubquery(call) => {
                    *count += 1;
                    not_exists(call, plan, schema, *count)?
                }
                other => Transformed::no(Expr::Not(Box::new(other))),
            },
            Expr::Exists(exists) => match decided(&exists)? {
                Some(value) => Transformed::yes(value),
                None => Transformed::no(Expr::Exists(exists)),
            },
            Expr::Not(inner) if matches!(*inner, Expr::Exists(_)) => match *inner {
                Expr::Exists(exists) => match decided(&exists)? {
                    Some(value) => Transformed::yes(Expr::Not(Box::new(value))),
                    None => Transformed::no(Expr::Not(Box::new(Expr::Exists(exists)))),
                },
                other => Transformed::no(Expr::Not(Box::new(other))),
            },
            Expr::InSubquery(call) => Transformed::no(Expr::InSubquery(call)),
            other => Embedded::new(plan, schema, count).replace(other, true)?,
        };
        is_changed |= replaced.transformed;
        conditions.push(replaced.data);
    }
    let all = conjunction(conditions).unwrap_or_else(|| lit(true));
    Ok(Transformed::new(all, is_changed, TreeNodeRecursion::Continue))
}

/// Refuses scalar subqueries that may have several rows. DataFusion checks correlated ones.
fn check_scalar(subquery: &Subquery) -> Result<()> {
    let is_one_row = subquery.subquery.max_rows().is_some_and(|rows| rows <= 1);
    if subquery.outer_ref_columns.is_empty() && !is_one_row {
        return plan_err!(
            "a subquery that stands for a value must have one row: select an aggregate without GROUP BY, such as \
             MAX(x), or use IN or a join"
        );
    }
    Ok(())
}

/// Returns `NOT EXISTS` for `x NOT IN (SELECT y ...)` in a plan whose inputs have these columns.
fn not_exists(call: InSubquery, plan: &LogicalPlan, schema: &DFSchema, number: usize) -> Result<Transformed<Expr>> {
    let InSubquery { expr, subquery, .. } = call;
    let mut outer_columns = subquery.outer_ref_columns.clone();
    let operand = as_outer(&expr, schema, &mut outer_columns)?;
    let query = subquery.subquery.as_ref().clone();
    check_aggregates(&query)?;
    let output = query.schema().columns().into_iter().next();
    let (Some(operand), Some(output)) = (operand, output) else {
        // The join is refused.
        let call = InSubquery {
            expr,
            subquery,
            negated: true,
        };
        return Ok(Transformed::no(Expr::InSubquery(call)));
    };
    // A projection may name another column as its input does.
    let is_filter = matches!(plan, LogicalPlan::Filter(_));
    let is_known = is_filter && is_never_null(plan, &expr) && is_never_null(&query, &Expr::Column(output.clone()));
    // The operand may be a column of the same name.
    let name = format!("{NOT_IN}{number}");
    let equal = binary_expr(
        operand,
        Operator::Eq,
        Expr::Column(Column::new_unqualified(name.clone())),
    );
    let condition = match is_known {
        true => equal,
        false => Expr::IsNotFalse(Box::new(equal)),
    };
    let output = Expr::Column(output).alias(name);
    let matching = LogicalPlanBuilder::from(query).project([output])?.build()?;
    let matching = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(matching))?);
    Ok(Transformed::yes(Expr::Exists(Exists {
        subquery: Subquery {
            subquery: Arc::new(matching),
            outer_ref_columns: outer_columns,
            spans: subquery.spans,
        },
        negated: true,
    })))
}
