//! `INTERSECT ALL` and `EXCEPT ALL`, by the numbers of equal rows in both inputs.
//!
//! DataFusion plans them as semi and anti joins of all rows, which disregard these numbers. Here the rows of both
//! inputs are counted by an aggregate, and repeated.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, NullEquality};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::{
    Expr, Extension, Join, JoinType, LogicalPlan, LogicalPlanBuilder, col, ident, lit, when,
};

use crate::logical::Unnest;

/// Columns of the numbers of rows. Users cannot write their names.
const LEFT: &str = "$left";
const RIGHT: &str = "$right";
const ROWS: &str = "$rows";

/// Replaces the joins of `INTERSECT ALL` and `EXCEPT ALL`. No other joins are semi or anti joins in which NULL equals
/// NULL, except those of distinct rows.
pub(super) fn replace(plan: LogicalPlan) -> Result<LogicalPlan> {
    let replaced = plan.transform_up_with_subqueries(|plan| {
        let LogicalPlan::Join(join) = plan else {
            return Ok(Transformed::no(plan));
        };
        let is_distinct = matches!(join.left.as_ref(), LogicalPlan::Distinct(_));
        if is_distinct || join.null_equality != NullEquality::NullEqualsNull {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        match join.join_type {
            JoinType::LeftSemi => {
                let fewer = when(ident(LEFT).lt(ident(RIGHT)), ident(LEFT)).otherwise(ident(RIGHT))?;
                repeated(&join, fewer).map(Transformed::yes)
            }
            JoinType::LeftAnti => repeated(&join, ident(LEFT) - ident(RIGHT)).map(Transformed::yes),
            _ => Ok(Transformed::no(LogicalPlan::Join(join))),
        }
    })?;
    Ok(replaced.data)
}

/// Returns the rows of both inputs of a join, each as often as `rows` says, which may be negative.
fn repeated(join: &Join, rows: Expr) -> Result<LogicalPlan> {
    let left = counted(&join.left, [1, 0])?;
    let right = counted(&join.right, [0, 1])?;
    let width = join.left.schema().fields().len();
    let keys = (0..width).map(|index| ident(name(index)));
    let numbers = [sum(ident(LEFT)).alias(LEFT), sum(ident(RIGHT)).alias(RIGHT)];
    let columns = join.schema.iter().enumerate();
    let columns =
        columns.map(|(index, (qualifier, field))| ident(name(index)).alias_qualified(qualifier.cloned(), field.name()));
    let rows = LogicalPlanBuilder::from(left)
        .union(right)?
        .aggregate(keys, numbers)?
        .project(columns.chain([rows.alias(ROWS)]))?
        .filter(ident(ROWS).gt(lit(0_i64)))?
        .build()?;
    let kept: Vec<Column> = join.schema.columns();
    let node = Arc::new(Unnest::repeated(rows, ident(ROWS), kept)?);
    Ok(LogicalPlan::Extension(Extension { node }))
}

/// Returns the rows of an input with the numbers that one row counts for.
fn counted(input: &LogicalPlan, [left, right]: [i64; 2]) -> Result<LogicalPlan> {
    let columns = input.schema().columns().into_iter().enumerate();
    let columns = columns.map(|(index, column)| col(column).alias(name(index)));
    let numbers = [lit(left).alias(LEFT), lit(right).alias(RIGHT)];
    LogicalPlanBuilder::from(input.clone())
        .project(columns.chain(numbers))?
        .build()
}

fn name(index: usize) -> String {
    format!("$column{index}")
}
