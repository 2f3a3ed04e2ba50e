//! Common subplans: steps that are translated once and shared by their users, and steps that are inlined into them.
//!
//! A step is shared if it is used more than once and keeps state, or if its error policy, late rows or dead letters
//! need nodes of its own. Every other step is inlined, so that the optimiser sees through it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow_schema::{Field, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, plan_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::utils::find_aggregate_exprs;
use datafusion::physical_expr::expressions::cast;
use millstream_graph::ErrorPolicy;

use super::context::{Context, Result, Scope, error_at};
use super::late_columns;
use super::optimize::Planning;
use super::projection::project_physical;
use super::relation::{Attribute, ColumnInfo, Relation, column};
use crate::error::Error;
use crate::logical::{CatalogTable, Insert, InsertInput, Pipeline, SideOutputKind, StepReference};

/// A step that is translated once.
pub(super) struct SharedStep {
    pub plan: LogicalPlan,
    /// Schema that the step's users were planned against: that of the plan before types were coerced.
    pub schema: DFSchemaRef,
    pub scope: Scope,
    /// Result of the translation, once it is done.
    pub relation: Option<Relation>,
}

/// The optimised plans of a pipeline.
pub(super) struct Subplans<'p> {
    /// Shared steps by name.
    pub shared_steps: HashMap<String, SharedStep>,
    /// Inserts of queries, with their plans.
    pub inserts: Vec<(&'p Insert, LogicalPlan)>,
    /// Indices of the columns that the plans read, by table.
    pub columns_read: BTreeMap<String, BTreeSet<usize>>,
}

impl<'p> Subplans<'p> {
    /// Optimises the plans of the shared steps and of the inserts, with all other steps inlined.
    pub(super) fn optimize(
        pipeline: &'p Pipeline,
        planning: &Planning,
        late_output_steps: &BTreeSet<String>,
        errors: &mut Vec<Error>,
    ) -> Self {
        let shared = shared_step_names(pipeline, late_output_steps);
        let mut subplans = Self {
            shared_steps: HashMap::new(),
            inserts: Vec::new(),
            columns_read: BTreeMap::new(),
        };
        for step in pipeline.steps.iter().filter(|step| shared.contains(&step.name)) {
            let keep_all_columns = late_output_steps.contains(&step.name);
            match subplans.prepare(planning, &step.plan, &shared, keep_all_columns) {
                Ok(plan) => {
                    let shared_step = SharedStep {
                        plan,
                        schema: step.plan.schema().clone(),
                        scope: Scope {
                            owner: step.name.clone(),
                            location: step.location.clone(),
                            on_error: step.on_error,
                        },
                        relation: None,
                    };
                    subplans.shared_steps.insert(step.name.clone(), shared_step);
                }
                Err(error) => errors.push(error_at(error, &step.location)),
            }
        }
        for insert in &pipeline.inserts {
            let InsertInput::Plan(plan) = &insert.input else {
                continue;
            };
            match subplans.prepare(planning, plan, &shared, false) {
                Ok(plan) => subplans.inserts.push((insert, plan)),
                Err(error) => errors.push(error_at(error, &insert.location)),
            }
        }
        subplans
    }

    /// Inlines the steps that are not shared, optimises the plan, and records the columns that it reads of each table.
    fn prepare(
        &mut self,
        planning: &Planning,
        plan: &LogicalPlan,
        shared: &BTreeSet<String>,
        keep_all_columns: bool,
    ) -> Result<LogicalPlan, DataFusionError> {
        let plan = inline_steps(plan.clone(), shared)?;
        let plan = if keep_all_columns {
            late_columns::keep(plan)?
        } else {
            plan
        };
        check_keys(&plan)?;
        let plan = planning.optimize(plan)?;
        plan.apply_with_subqueries(|plan| {
            if let LogicalPlan::TableScan(scan) = plan
                && let Some(table) = scan.source.downcast_ref::<CatalogTable>()
            {
                let all = || (0..table.schema.fields().len()).collect();
                let read = scan.projection.clone().unwrap_or_else(all);
                self.columns_read
                    .entry(table.table.name.clone())
                    .or_default()
                    .extend(read);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }
}

/// Returns the names of the steps that are translated once, apart from their users.
fn shared_step_names(pipeline: &Pipeline, late_output_steps: &BTreeSet<String>) -> BTreeSet<String> {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    let plans = pipeline.steps.iter().map(|step| &step.plan);
    let inserts = pipeline.inserts.iter().filter_map(|insert| match &insert.input {
        InsertInput::Plan(plan) => Some(plan),
        _ => None,
    });
    for plan in plans.chain(inserts) {
        for name in step_references(plan) {
            *uses.entry(name).or_default() += 1;
        }
    }
    let read = pipeline.side_outputs_read();
    let has_dead_letters = |step: &str| read.contains(&(step.to_owned(), SideOutputKind::DeadLetters));
    pipeline
        .steps
        .iter()
        .filter(|step| {
            let many = uses.get(&step.name).copied().unwrap_or(0) > 1;
            (many && !is_stateless(&step.plan))
                || step.on_error != ErrorPolicy::default()
                || late_output_steps.contains(&step.name)
                || has_dead_letters(&step.name)
        })
        .map(|step| step.name.clone())
        .collect()
}

/// Casts columns whose types were coerced to the types that the step's users were planned against.
pub(super) fn cast_to_schema(cx: &mut Context<'_>, relation: Relation, schema: &DFSchema) -> Result<Relation> {
    let same = |(column, field): (&ColumnInfo, &FieldRef)| column.data_type == *field.data_type();
    if relation.columns.iter().zip(schema.fields()).all(same) {
        return Ok(relation);
    }
    let fields = relation.columns.iter();
    let fields: Vec<Field> = fields
        .map(|column| Field::new(&column.name, column.data_type.clone(), true))
        .collect();
    let found = Schema::new(fields);
    let mut exprs = Vec::with_capacity(relation.columns.len());
    let mut columns = relation.columns.clone();
    for (index, (info, field)) in columns.iter_mut().zip(schema.fields()).enumerate() {
        let mut expr = column(&found, index);
        if info.data_type != *field.data_type() {
            expr = cx.located(cast(expr, &found, field.data_type().clone()))?;
            info.data_type = field.data_type().clone();
            info.attribute = Attribute::None;
        }
        exprs.push(expr);
    }
    project_physical(cx, relation, &exprs, columns)
}

/// Returns the reference to a step, if the plan node is one.
pub(super) fn step_reference(plan: &LogicalPlan) -> Option<&StepReference> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<StepReference>(),
        _ => None,
    }
}

fn step_references(plan: &LogicalPlan) -> Vec<String> {
    let mut names = Vec::new();
    plan.apply_with_subqueries(|plan| {
        names.extend(step_reference(plan).map(|step| step.name.clone()));
        Ok(TreeNodeRecursion::Continue)
    })
    .expect("the closure never fails");
    names
}

#[recursive::recursive]
fn inline_steps(plan: LogicalPlan, shared: &BTreeSet<String>) -> Result<LogicalPlan, DataFusionError> {
    let inlined = plan.transform_up_with_subqueries(|plan| match step_reference(&plan) {
        Some(step) if !shared.contains(&step.name) => {
            let plan = inline_steps(step.plan.as_ref().clone(), shared)?;
            Ok(Transformed::yes(plan))
        }
        _ => Ok(Transformed::no(plan)),
    })?;
    Ok(inlined.data)
}

/// Refuses aggregates among group keys, as in `SELECT COUNT(*) ... GROUP BY 1`.
fn check_keys(plan: &LogicalPlan) -> Result<(), DataFusionError> {
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::Aggregate(aggregate) = plan
            && let Some(inner) = find_aggregate_exprs(&aggregate.group_expr).first()
        {
            return plan_err!("GROUP BY cannot contain the aggregate `{inner}`: group by columns of the input");
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// Returns true for projections and filters over one table or over such steps: they are cheaper to repeat than to
/// share.
#[recursive::recursive]
fn is_stateless(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            plan.inputs().into_iter().all(is_stateless)
        }
        LogicalPlan::TableScan(_) => true,
        other => step_reference(other).is_some_and(|step| is_stateless(&step.plan)),
    }
}
