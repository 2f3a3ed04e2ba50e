//! Joins that DataFusion cannot plan: with `UNNEST` ([`unnest`]), and `RIGHT` and `FULL` ones with common columns
//! ([`common_columns`]).
//!
//! [`nest`] makes each of them, with the joins before it, a relation of its own, and [`plan`] plans that relation.

use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::sql::sqlparser::ast::{Join, JoinConstraint, JoinOperator, Select, TableFactor, TableWithJoins};

use super::{common_columns, unnest};

/// Nests the joins of a query up to each that DataFusion cannot plan.
pub(super) fn nest(select: &mut Select) {
    for from in &mut select.from {
        read_unnests(from);
    }
    cross_join_unnests(&mut select.from);
    select.from.iter_mut().for_each(nest_in);
}

fn factors(from: &mut TableWithJoins) -> impl Iterator<Item = &mut TableFactor> {
    let joined = from.joins.iter_mut().map(|join| &mut join.relation);
    std::iter::once(&mut from.relation).chain(joined)
}

fn read_unnests(from: &mut TableWithJoins) {
    for factor in factors(from) {
        unnest::read(factor);
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
            read_unnests(table_with_joins);
        }
    }
}

/// Makes cross joins of the relations in a list up to the last `UNNEST`, which may read columns of all before it.
fn cross_join_unnests(list: &mut Vec<TableWithJoins>) {
    let is_unnest = |from: &TableWithJoins| matches!(from.relation, TableFactor::UNNEST { .. });
    let Some(last) = list.iter().rposition(is_unnest).filter(|last| *last > 0) else {
        return;
    };
    let mut rest = list.split_off(1);
    let others = rest.split_off(last);
    let Some(first) = list.first_mut() else { return };
    for from in rest {
        let (relation, joins) = match is_unnest(&from) || from.joins.is_empty() {
            true => (from.relation, from.joins),
            false => (nested(from.relation, from.joins), Vec::new()),
        };
        first.joins.push(Join {
            relation,
            global: false,
            join_operator: JoinOperator::CrossJoin(JoinConstraint::None),
        });
        first.joins.extend(joins);
    }
    list.extend(others);
}

fn nest_in(from: &mut TableWithJoins) {
    for factor in factors(from) {
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor {
            nest_in(table_with_joins);
        }
    }
    while let Some(last) = from.joins.iter().position(is_planned_here) {
        let rest = from.joins.split_off(last + 1);
        let joins = std::mem::replace(&mut from.joins, rest);
        let relation = from.relation.clone();
        from.relation = nested(relation, joins);
    }
}

fn nested(relation: TableFactor, joins: Vec<Join>) -> TableFactor {
    TableFactor::NestedJoin {
        table_with_joins: Box::new(TableWithJoins { relation, joins }),
        alias: None,
    }
}

fn is_planned_here(join: &Join) -> bool {
    matches!(join.relation, TableFactor::UNNEST { .. }) || common_columns::outer_join(join).is_some()
}

/// Returns the rows of a nested join whose last join DataFusion cannot plan; the relation itself if it is another one.
pub(super) fn plan(
    factor: TableFactor,
    context: &mut dyn RelationPlannerContext,
) -> Result<std::result::Result<LogicalPlan, TableFactor>> {
    let TableFactor::NestedJoin {
        table_with_joins,
        alias,
    } = factor
    else {
        return Ok(Err(factor));
    };
    let TableWithJoins { relation, mut joins } = *table_with_joins;
    let Some(join) = joins.pop_if(|join| is_planned_here(join)) else {
        return Ok(Err(TableFactor::NestedJoin {
            table_with_joins: Box::new(TableWithJoins { relation, joins }),
            alias,
        }));
    };
    let left = match joins.is_empty() {
        true => relation,
        false => nested(relation, joins),
    };
    let left = context.plan(left)?;
    match common_columns::outer_join(&join) {
        Some((join_type, constraint)) => {
            let right = context.plan(join.relation.clone())?;
            common_columns::plan(left, right, join_type, constraint, context).map(Ok)
        }
        None => unnest::join(left, join, context).map(Ok),
    }
}
