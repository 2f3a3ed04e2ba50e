//! `UNION ALL`: the branches of several relations as one.

use datafusion::logical_expr::{LogicalPlan, Union};

use super::context::{Context, Result};
use super::relation::{ColumnInfo, Pending, Relation, common_columns};

pub(super) fn union(cx: &Context<'_>, union: &Union, inputs: Vec<Relation>) -> Result<Relation> {
    let mut branches = Vec::new();
    let mut columns: Option<Vec<ColumnInfo>> = None;
    for relation in inputs {
        columns = Some(match columns {
            None => relation.columns.clone(),
            Some(columns) => common_columns(&cx.windows, columns, &relation.columns),
        });
        branches.extend(relation.branches);
    }
    let mut columns = columns.ok_or_else(|| cx.error("UNION ALL of nothing"))?;
    for (column, field) in columns.iter_mut().zip(union.schema.fields()) {
        column.name = field.name().clone();
        if column.data_type != *field.data_type() {
            return Err(cx.error(format!(
                "column `{}` has type {} in one part of UNION ALL and {} in the whole; add a CAST",
                column.name,
                column.data_type,
                field.data_type()
            )));
        }
    }
    Ok(Relation {
        branches,
        columns,
        pending: Pending::Nothing,
    })
}

/// Returns the inputs of a union and of the unions nested in it, in order.
pub(super) fn inputs(union: &Union) -> Vec<&LogicalPlan> {
    let mut parts = Vec::new();
    let mut waiting: Vec<&LogicalPlan> = union.inputs.iter().rev().map(AsRef::as_ref).collect();
    while let Some(plan) = waiting.pop() {
        match plan {
            LogicalPlan::Union(union) => waiting.extend(union.inputs.iter().rev().map(AsRef::as_ref)),
            other => parts.push(other),
        }
    }
    parts
}
