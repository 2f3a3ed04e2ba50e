//! Operands of subqueries, such as `x` of `x IN (SELECT ...)`.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ExprSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// Returns an expression over the columns of a plan as one of a subquery, and adds the columns that it reads; `None` if
/// it contains subqueries or columns of other queries.
pub(super) fn as_outer(expr: &Expr, schema: &DFSchema, outer_columns: &mut Vec<Expr>) -> Result<Option<Expr>> {
    let mut is_plain = true;
    let outer = expr.clone().transform_up(|expr| match expr {
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
    Ok(is_plain.then_some(outer.data))
}

/// Returns true if an expression over the columns of a plan, or of its inputs, is NULL in none of its rows.
pub(super) fn is_never_null(plan: &LogicalPlan, expr: &Expr) -> bool {
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
