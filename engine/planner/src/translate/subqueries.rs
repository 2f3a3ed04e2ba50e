//! Subqueries of expressions, before the optimiser makes joins of them.
//!
//! A scalar subquery becomes a left join, which is right only if it has one row at most. `NOT IN` becomes `NOT EXISTS`
//! with the condition that the operands are *not different*: `x NOT IN (SELECT y ...)` is not true if some `y` is NULL,
//! or if `x` is NULL and there is any row. Where neither can be NULL, the operands are compared for equality, and so
//! are keys of the join.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, binary_expr};

/// Prefix of the names of the columns of `NOT IN` queries. Users cannot write it.
const NOT_IN: &str = "$not_in";

/// Checks the scalar subqueries of a plan, and rewrites `NOT IN (SELECT ...)`.
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
            let expr = expr.transform_down(|expr| {
                let subquery = match expr {
                    Expr::ScalarSubquery(subquery) => {
                        check_scalar(&subquery)?;
                        return Ok(Transformed::no(Expr::ScalarSubquery(subquery)));
                    }
                    Expr::InSubquery(InSubquery { negated: true, .. }) => expr,
                    Expr::Not(inner) if matches!(*inner, Expr::InSubquery(InSubquery { negated: false, .. })) => *inner,
                    other => return Ok(Transformed::no(other)),
                };
                let Expr::InSubquery(subquery) = subquery else {
                    return Ok(Transformed::no(subquery));
                };
                count += 1;
                not_exists(subquery, &known, &schema, count)
            })?;
            Ok(expr.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(prepared.data)
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
    let mut is_plain = true;
    let operand = expr.as_ref().clone().transform_up(|expr| match expr {
        Expr::Column(column) => {
            let field = schema.field_from_column(&column)?.clone();
            let outer = Expr::OuterReferenceColumn(field, column);
            outer_columns.push(outer.clone());
            Ok(Transformed::yes(outer))
        }
        Expr::OuterReferenceColumn(..) | Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => {
            is_plain = false;
            Ok(Transformed::new(expr, false, TreeNodeRecursion::Stop))
        }
        other => Ok(Transformed::no(other)),
    })?;
    let query = subquery.subquery.as_ref().clone();
    let Some(output) = query.schema().columns().into_iter().next().filter(|_| is_plain) else {
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
        operand.data,
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

/// Returns true if an expression over the columns of a plan, or of its inputs, is NULL in none of its rows.
fn is_never_null(plan: &LogicalPlan, expr: &Expr) -> bool {
    let column = match expr {
        Expr::Literal(value, _) => return !ScalarValue::is_null(value),
        Expr::Column(column) => column,
        _ => return false,
    };
    match plan {
        LogicalPlan::Filter(filter) => {
            let mut conditions = split_conjunction(&filter.predicate).into_iter();
            let is_checked = |condition: &Expr| matches!(condition, Expr::IsNotNull(inner) if **inner == *expr);
            conditions.any(is_checked) || is_never_null(&filter.input, expr)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let position = alias.schema.maybe_index_of_column(column);
            let inner = position.and_then(|position| alias.input.schema().columns().into_iter().nth(position));
            inner.is_some_and(|inner| is_never_null(&alias.input, &Expr::Column(inner)))
        }
        LogicalPlan::Projection(projection) => {
            let position = projection.schema.maybe_index_of_column(column);
            let inner = position.and_then(|position| projection.expr.get(position));
            inner.is_some_and(|inner| is_never_null(&projection.input, &inner.clone().unalias()))
        }
        _ => false,
    }
}
