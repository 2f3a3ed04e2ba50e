//! Columns of late rows, which are written as they are before a window or a join.
//!
//! The optimiser removes columns that a query does not read. Where the late rows of a step are written, its window
//! functions, and the inputs of its joins without windows ([`CompleteRows`]), keep every column.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, Extension, Join, LogicalPlan, UserDefinedLogicalNodeCore};

use super::relation::{Attribute, ColumnInfo, Pending, Relation};
use crate::logical::{StepReference, WindowTableFunction};

/// Returns the columns of late rows of a join's input, if they are kept.
pub(super) fn of_input(plan: &LogicalPlan) -> Option<Vec<ColumnInfo>> {
    match plan {
        LogicalPlan::Projection(projection) => of_input(&projection.input),
        LogicalPlan::Filter(filter) => of_input(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => of_input(&alias.input),
        LogicalPlan::Extension(extension) => {
            let rows = extension.node.as_any().downcast_ref::<CompleteRows>()?;
            let fields = rows.input.schema().fields().iter();
            let columns = fields.map(|field| ColumnInfo {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                attribute: Attribute::None,
                origin: None,
            });
            Some(columns.collect())
        }
        _ => None,
    }
}

/// Returns the relation of complete rows, whose branches carry all columns to the join.
pub(super) fn carry(mut relation: Relation) -> Relation {
    if let Pending::Nothing = relation.pending {
        for branch in &mut relation.branches {
            branch.carried = branch.exprs.clone();
        }
    }
    relation
}

/// Makes the windows and joins of a plan keep every column of their inputs.
pub(super) fn keep(plan: LogicalPlan) -> Result<LogicalPlan> {
    let kept = plan.transform_up(|plan| match plan {
        LogicalPlan::Join(join) => Ok(Transformed::yes(LogicalPlan::Join(Join {
            left: complete(join.left)?,
            right: complete(join.right)?,
            ..join
        }))),
        plan => match window_function(&plan) {
            Some(function) => {
                let node = Arc::new(WindowTableFunction {
                    keep_all_columns: true,
                    ..function.clone()
                });
                Ok(Transformed::yes(LogicalPlan::Extension(Extension { node })))
            }
            None => Ok(Transformed::no(plan)),
        },
    })?;
    Ok(kept.data)
}

fn window_function(plan: &LogicalPlan) -> Option<&WindowTableFunction> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// Makes an input of a join keep every column, unless it has a window function, which does so.
fn complete(input: Arc<LogicalPlan>) -> Result<Arc<LogicalPlan>> {
    if has_window(&input)? {
        return Ok(input);
    }
    let input = input.as_ref().clone();
    let node = Arc::new(CompleteRows { input });
    Ok(Arc::new(LogicalPlan::Extension(Extension { node })))
}

fn has_window(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply(|plan| {
        found |= window_function(plan).is_some();
        if let LogicalPlan::Extension(extension) = plan
            && let Some(step) = extension.node.as_any().downcast_ref::<StepReference>()
        {
            found |= has_window(&step.plan)?;
        }
        Ok(match found {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    Ok(found)
}

/// The rows of a plan with all of its columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(super) struct CompleteRows {
    pub input: LogicalPlan,
}

impl UserDefinedLogicalNodeCore for CompleteRows {
    fn name(&self) -> &str {
        "CompleteRows"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::new()
    }

    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![(0..self.input.schema().fields().len()).collect()])
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("CompleteRows")
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(Self { input }),
            _ => plan_err!("complete rows have one input"),
        }
    }
}
