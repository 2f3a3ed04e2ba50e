//! `USING` and `NATURAL` in a `RIGHT` or `FULL JOIN`.
//!
//! DataFusion takes the common columns from the left side, where such a join has NULLs. Here they are the values of the
//! left side or else of the right one. They come first and have no table; those of the sides are left out.

use datafusion::common::{Column, DFSchema, TableReference, plan_datafusion_err};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{JoinType, LogicalPlan, LogicalPlanBuilder, col};
use datafusion::sql::sqlparser::ast::{Ident, Join, JoinConstraint, JoinOperator};

/// Returns the type and the condition of a `RIGHT` or `FULL JOIN` with common columns.
pub(super) fn outer_join(join: &Join) -> Option<(JoinType, &JoinConstraint)> {
    let (join_type, constraint) = match &join.join_operator {
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => (JoinType::Right, constraint),
        JoinOperator::FullOuter(constraint) => (JoinType::Full, constraint),
        _ => return None,
    };
    let has_common_columns = matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural);
    has_common_columns.then_some((join_type, constraint))
}

/// Returns the rows of a join with common columns.
pub(super) fn plan(
    left: LogicalPlan,
    right: LogicalPlan,
    join_type: JoinType,
    constraint: &JoinConstraint,
    context: &dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let names = common_names(constraint, left.schema(), right.schema(), context)?;
    let column = |schema: &DFSchema, name: &String| -> Result<Column> {
        let (qualifier, field) = schema.qualified_field_with_unqualified_name(name)?;
        Ok(Column::new(qualifier.cloned(), field.name()))
    };
    let left_keys = names.iter().map(|name| column(left.schema(), name));
    let left_keys: Vec<Column> = left_keys.collect::<Result<_>>()?;
    let right_keys = names.iter().map(|name| column(right.schema(), name));
    let right_keys: Vec<Column> = right_keys.collect::<Result<_>>()?;

    let sides = left.schema().columns().into_iter().chain(right.schema().columns());
    let is_output = |column: &Column| !left_keys.contains(column) && !right_keys.contains(column);
    let others: Vec<Column> = sides.filter(is_output).collect();
    let pairs = names.iter().zip(left_keys.iter().zip(&right_keys));
    let common: Vec<_> = pairs
        .map(|(name, (left, right))| {
            // The qualifier tells them from the columns of other joins.
            let table = right.relation.as_ref().map(TableReference::table).unwrap_or_default();
            let joined = TableReference::bare(format!("$common_{table}"));
            coalesce(vec![col(left.clone()), col(right.clone())]).alias_qualified(Some(joined), name)
        })
        .collect();
    LogicalPlanBuilder::from(left)
        .join(right, join_type, (left_keys, right_keys), None)?
        .project(common.into_iter().chain(others.into_iter().map(col)))?
        .build()
}

/// Returns the names of the common columns.
fn common_names(
    constraint: &JoinConstraint,
    left: &DFSchema,
    right: &DFSchema,
    context: &dyn RelationPlannerContext,
) -> Result<Vec<String>> {
    let JoinConstraint::Using(names) = constraint else {
        let in_both = left
            .fields()
            .iter()
            .filter(|field| right.has_column_with_unqualified_name(field.name()));
        return Ok(in_both.map(|field| field.name().clone()).collect());
    };
    let plain = names.iter().map(|name| match name.0.as_slice() {
        [part] => part.as_ident().cloned(),
        _ => None,
    });
    let names: Option<Vec<Ident>> = plain.collect();
    let names = names.ok_or_else(|| plan_datafusion_err!("USING takes the names of columns, without a table"))?;
    Ok(names.into_iter().map(|name| context.normalize_ident(name)).collect())
}
