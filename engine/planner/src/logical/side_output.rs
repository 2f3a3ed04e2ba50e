//! Side outputs as relations of queries: `FROM step.late`, `FROM table.dead_letters`.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow_schema::FieldRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, Result, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use millstream_graph::dead_letter_schema;

use super::{InsertInput, JoinSide, LateRows, Pipeline, StepReference, WindowTableFunction};

/// A side output of a table or step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SideOutputKind {
    Late(LateRows),
    DeadLetters,
}

impl SideOutputKind {
    /// Names of all side outputs.
    pub(crate) const NAMES: [&str; 4] = ["late", "late_left", "late_right", "dead_letters"];

    /// Returns the side output of this name, the last part of `step.late`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "late" => Self::Late(LateRows::Aggregate),
            "late_left" => Self::Late(LateRows::Join(JoinSide::Left)),
            "late_right" => Self::Late(LateRows::Join(JoinSide::Right)),
            "dead_letters" => Self::DeadLetters,
            _ => return None,
        })
    }
}

/// The rows of a side output. They have no event time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SideOutputScan {
    /// Name of the table or step.
    pub owner: String,
    pub output: SideOutputKind,
    pub schema: DFSchemaRef,
}

impl SideOutputScan {
    /// Returns the scan of the columns `fields`, qualified by the name of the side output.
    pub(crate) fn try_new(
        owner: &str,
        output: SideOutputKind,
        fields: &[FieldRef],
        qualifier: TableReference,
    ) -> Result<Self> {
        let fields = fields.iter().map(|field| (Some(qualifier.clone()), field.clone()));
        let schema = DFSchema::new_with_metadata(fields.collect(), Default::default())?;
        Ok(Self {
            owner: owner.to_owned(),
            output,
            schema: Arc::new(schema),
        })
    }

    /// Returns the scan if a node of a plan is one.
    pub(crate) fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }
}

impl PartialOrd for SideOutputScan {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.owner, self.output).partial_cmp(&(&other.owner, other.output))
    }
}

impl UserDefinedLogicalNodeCore for SideOutputScan {
    fn name(&self) -> &str {
        "SideOutputScan"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SideOutputScan: {} {:?}", self.owner, self.output)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, _inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(self.clone())
    }
}

/// Adds the side outputs that a plan itself reads, with the names of their tables and steps.
pub(crate) fn side_outputs_read(plan: &LogicalPlan, read: &mut BTreeSet<(String, SideOutputKind)>) {
    let walked = plan.apply_with_subqueries(|plan| {
        read.extend(SideOutputScan::of(plan).map(|scan| (scan.owner.clone(), scan.output)));
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the walk itself cannot fail");
}

impl Pipeline {
    /// Returns the side outputs that inserts and steps read, with the names of their tables and steps.
    pub(crate) fn side_outputs_read(&self) -> BTreeSet<(String, SideOutputKind)> {
        let mut read = BTreeSet::new();
        for step in &self.steps {
            side_outputs_read(&step.plan, &mut read);
        }
        for insert in &self.inserts {
            match &insert.input {
                InsertInput::Plan(plan) => side_outputs_read(plan, &mut read),
                InsertInput::Late { step, of } => {
                    read.insert((step.clone(), SideOutputKind::Late(*of)));
                }
                InsertInput::DeadLetters { name } => {
                    read.insert((name.clone(), SideOutputKind::DeadLetters));
                }
            }
        }
        read
    }
}

/// Returns the columns of a side output of a step with this plan, or of a table; of equal names, the first. The error
/// is the reason why there is no such side output.
pub(crate) fn side_output_fields(
    owner: &str,
    plan: Option<&LogicalPlan>,
    output: SideOutputKind,
) -> Result<Vec<FieldRef>, String> {
    let fields: Vec<FieldRef> = match output {
        SideOutputKind::DeadLetters => dead_letter_schema().fields().iter().cloned().collect(),
        SideOutputKind::Late(of) => match plan.and_then(|plan| late_rows_schema(plan, of)) {
            Some(schema) => schema.fields().iter().cloned().collect(),
            None => {
                return Err(match of {
                    LateRows::Aggregate => format!("`{owner}` has no late rows: only steps with a window have"),
                    LateRows::Join(_) => {
                        format!("`{owner}` has no join of windows or intervals, so no input of one has late rows")
                    }
                });
            }
        },
    };
    let mut names = BTreeSet::new();
    let is_first = |field: &FieldRef| names.insert(field.name().clone());
    Ok(fields.into_iter().filter(is_first).collect())
}

/// Returns the columns of a step's late rows: those of the input of its window function or join.
fn late_rows_schema(plan: &LogicalPlan, of: LateRows) -> Option<DFSchemaRef> {
    match of {
        LateRows::Aggregate => {
            let window = find(plan, &|node| match node {
                LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<WindowTableFunction>(),
                _ => None,
            })?;
            Some(window.input.schema().clone())
        }
        LateRows::Join(side) => {
            let join = find(plan, &|node| match node {
                LogicalPlan::Join(join) => Some(join),
                _ => None,
            })?;
            let input = match side {
                JoinSide::Left => &join.left,
                JoinSide::Right => &join.right,
            };
            // Rows that carry their window already, and those of interval joins, are written as they are.
            Some(late_rows_schema(input, LateRows::Aggregate).unwrap_or_else(|| input.schema().clone()))
        }
    }
}

/// Returns the first node of a plan, including the steps that it refers to, for which `wanted` returns a value.
fn find<'p, T>(plan: &'p LogicalPlan, wanted: &dyn Fn(&'p LogicalPlan) -> Option<T>) -> Option<T> {
    if let Some(found) = wanted(plan) {
        return Some(found);
    }
    if let LogicalPlan::Extension(extension) = plan
        && let Some(reference) = extension.node.as_any().downcast_ref::<StepReference>()
    {
        return find(&reference.plan, wanted);
    }
    plan.inputs().into_iter().find_map(|input| find(input, wanted))
}
