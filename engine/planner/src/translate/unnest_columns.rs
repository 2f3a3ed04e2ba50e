//! The columns that an `UNNEST` passes on, which are repeated for its elements.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, Extension, Filter, LogicalPlan};

use crate::logical::Unnest;

/// Drops columns that only the collection of an `UNNEST` reads, which would be repeated for its elements.
pub(super) fn drop_unread(plan: LogicalPlan) -> Result<LogicalPlan> {
    let dropped = plan.transform_down_with_subqueries(|plan| {
        let is_reader = match &plan {
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) => true,
            LogicalPlan::Extension(extension) => extension.node.as_any().is::<Unnest>(),
            _ => false,
        };
        let inputs = plan.inputs();
        let [input] = inputs.as_slice() else {
            return Ok(Transformed::no(plan));
        };
        if !is_reader || unnest_below(input).is_none() {
            return Ok(Transformed::no(plan));
        }
        let mut read: HashSet<Column> = plan.expressions().iter().flat_map(columns_of).collect();
        if let LogicalPlan::Extension(extension) = &plan
            && let Some(node) = extension.node.as_any().downcast_ref::<Unnest>()
        {
            read.extend(node.kept.iter().cloned());
        }
        let Some(narrowed) = narrowed(input, read)? else {
            return Ok(Transformed::no(plan));
        };
        let expressions = plan.expressions();
        Ok(Transformed::yes(plan.with_new_exprs(expressions, vec![narrowed])?))
    })?;
    Ok(dropped.data)
}

/// Returns the `UNNEST` whose rows a plan filters.
fn unnest_below(plan: &LogicalPlan) -> Option<&Unnest> {
    match plan {
        LogicalPlan::Filter(filter) => unnest_below(&filter.input),
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// Returns a filtered `UNNEST` that keeps the columns that are read; `None` if it keeps no others.
fn narrowed(plan: &LogicalPlan, mut read: HashSet<Column>) -> Result<Option<LogicalPlan>> {
    if let LogicalPlan::Filter(filter) = plan {
        read.extend(columns_of(&filter.predicate));
        let input = narrowed(&filter.input, read)?;
        let filter = |input| Filter::try_new(filter.predicate.clone(), Arc::new(input)).map(LogicalPlan::Filter);
        return input.map(filter).transpose();
    }
    let Some(node) = unnest_below(plan) else {
        return Ok(None);
    };
    let kept: Vec<Column> = node
        .kept
        .iter()
        .filter(|column| read.contains(column))
        .cloned()
        .collect();
    if kept.len() == node.kept.len() {
        return Ok(None);
    }
    let narrowed = node.over(node.input.clone(), node.collection.clone(), kept, node.is_outer)?;
    let node = Arc::new(narrowed);
    Ok(Some(LogicalPlan::Extension(Extension { node })))
}

fn columns_of(expr: &Expr) -> Vec<Column> {
    expr.column_refs().into_iter().cloned().collect()
}
