//! Translation of logical plans, bottom up.
//!
//! [`Translator`] walks the plan: it translates the inputs of a plan node first and passes their relations to the
//! translator of the node's kind, which has a module of its own.

use std::collections::HashMap;

use datafusion::logical_expr::{Distinct, Limit, LogicalPlan};

use millstream_graph::TopN;

use super::common_subplans::{SharedStep, cast_to_schema, step_reference};
use super::context::{Context, Result, Scope};
use super::dynamic_filter::DynamicFilters;
use super::late_columns::{self, CompleteRows};
use super::pending::{materialize, resolve};
use super::relation::{Pending, Relation};
use super::source::Sources;
use super::{aggregate, join, limit, projection, row_number, sinks, union, unnest, window};
use crate::Mode;
use crate::logical::{SideOutputKind, SideOutputScan, StateTtl, Unnest, WindowTableFunction};

/// Translates logical plans into relations over nodes of the graph.
pub(super) struct Translator<'p> {
    pub cx: Context<'p>,
    pub sources: Sources,
    /// Steps that are translated once, by name.
    pub shared_steps: HashMap<String, SharedStep>,
    pub filters: DynamicFilters,
}

impl Translator<'_> {
    /// Returns the relation of a plan. Deep plans (long chains of views) grow the stack instead of overflowing it.
    #[recursive::recursive]
    pub fn plan(&mut self, plan: &LogicalPlan) -> Result<Relation> {
        match plan {
            LogicalPlan::TableScan(scan) => self.sources.scan(&mut self.cx, scan),
            LogicalPlan::Projection(node) => {
                let input = self.plan(&node.input)?;
                projection::project(&mut self.cx, input, &node.expr, node.input.schema(), &node.schema)
            }
            LogicalPlan::Filter(filter) => {
                let input = self.plan(&filter.input)?;
                projection::filter(&mut self.cx, input, &filter.predicate, filter.input.schema())
            }
            LogicalPlan::SubqueryAlias(alias) => self.subquery_alias(alias.alias.table(), &alias.input),
            LogicalPlan::Union(node) => {
                let mut inputs = Vec::new();
                for input in union::inputs(node) {
                    let relation = self.plan(input)?;
                    inputs.push(resolve(&mut self.cx, relation)?);
                }
                union::union(&self.cx, node, inputs)
            }
            LogicalPlan::Aggregate(node) => {
                let input = self.plan(&node.input)?;
                self.cx.hinted_ttl = StateTtl::of_rows(&node.input);
                aggregate::aggregate(&mut self.cx, &mut self.filters, node, input)
            }
            LogicalPlan::Distinct(Distinct::All(plan)) => {
                let input = self.plan(plan)?;
                self.cx.hinted_ttl = StateTtl::of_rows(plan);
                aggregate::distinct(&mut self.cx, &mut self.filters, plan.schema(), input)
            }
            LogicalPlan::Distinct(Distinct::On(_)) => {
                let message = "DISTINCT ON is not supported; use ROW_NUMBER() with WHERE rn = 1";
                Err(self.cx.error(message))
            }
            LogicalPlan::Join(node) => {
                join::check(&self.cx, node)?;
                let mut left = self.plan(&node.left)?;
                // A window stays pending for the other side, which may provide a dynamic filter. Other nodes with state
                // are made, and named, in the order of the query.
                if !matches!(left.pending, Pending::Window(_)) {
                    left = resolve(&mut self.cx, left)?;
                }
                let right = self.plan(&node.right)?;
                join::join(&mut self.cx, &self.filters, node, left, right)
            }
            LogicalPlan::Window(node) => {
                let function = row_number::function(&self.cx, node)?;
                let input = self.plan(&node.input)?;
                row_number::row_number(&mut self.cx, node, &function, input)
            }
            LogicalPlan::Extension(extension) => {
                if let Some(function) = extension.node.as_any().downcast_ref::<WindowTableFunction>() {
                    let checked = window::checked_window(&self.cx, function.window)?;
                    let input = self.plan(&function.input)?;
                    return window::window_function(&mut self.cx, function, checked, input);
                }
                if let Some(node) = extension.node.as_any().downcast_ref::<Unnest>() {
                    let input = self.plan(&node.input)?;
                    return unnest::unnest(&mut self.cx, node, input);
                }
                if let Some(rows) = extension.node.as_any().downcast_ref::<StateTtl>() {
                    return self.plan(&rows.input);
                }
                if let Some(rows) = extension.node.as_any().downcast_ref::<CompleteRows>() {
                    let relation = self.plan(&rows.input)?;
                    return Ok(late_columns::carry(resolve(&mut self.cx, relation)?));
                }
                if let Some(scan) = SideOutputScan::of(plan) {
                    return self.side_output(scan);
                }
                if let Some(step) = step_reference(plan) {
                    return self.shared_step(&step.name);
                }
                Err(self
                    .cx
                    .error(format!("{} is not supported in a pipeline", extension.node.name())))
            }
            LogicalPlan::Limit(node) => self.limit(node),
            LogicalPlan::Sort(node) if self.cx.mode == Mode::Batch && node.fetch.is_none() => {
                let input = self.plan(&node.input)?;
                row_number::sorted_rows(&mut self.cx, input, node.input.schema(), &node.expr)
            }
            other => Err(self.cx.error(unsupported_node(other))),
        }
    }

    /// Returns the relation of `ORDER BY ... LIMIT`.
    fn limit(&mut self, limit: &Limit) -> Result<Relation> {
        let ranks = limit::ranks(&self.cx, limit)?;
        // The order is below the projection to the columns of the query.
        let mut projections = Vec::new();
        let mut input = limit.input.as_ref();
        while let LogicalPlan::Projection(projection) = input {
            projections.push(projection);
            input = &projection.input;
        }
        let (order, input) = match input {
            LogicalPlan::Sort(sort) => (sort.expr.as_slice(), sort.input.as_ref()),
            other => (&[][..], other),
        };
        let mut relation = self.plan(input)?;
        let mut order = order;
        if self.cx.mode == Mode::Batch && !order.is_empty() && ranks.1 > TopN::RANK_MAX {
            relation = row_number::sorted_rows(&mut self.cx, relation, input.schema(), order)?;
            order = &[];
        }
        let mut relation = row_number::first_rows(&mut self.cx, relation, input.schema(), order, ranks)?;
        for node in projections.into_iter().rev() {
            relation = projection::project(&mut self.cx, relation, &node.expr, node.input.schema(), &node.schema)?;
        }
        Ok(relation)
    }

    /// Returns the relation of an aliased plan. If the alias is the name of a step, the nodes belong to that step.
    fn subquery_alias(&mut self, name: &str, input: &LogicalPlan) -> Result<Relation> {
        let Some(step) = self.cx.pipeline.steps.iter().find(|step| step.name == name) else {
            return self.plan(input);
        };
        let scope = Scope {
            owner: step.name.clone(),
            location: step.location.clone(),
            on_error: self.cx.scope.on_error,
        };
        let outer = std::mem::replace(&mut self.cx.scope, scope);
        let relation = self.plan(input);
        self.cx.scope = outer;
        relation
    }

    /// Returns the relation of a side output, after its step or table.
    fn side_output(&mut self, scan: &SideOutputScan) -> Result<Relation> {
        let owner = &scan.owner;
        if self.shared_steps.contains_key(owner) {
            self.shared_step(owner)?;
        } else if let Some(table) = self.cx.pipeline.tables.iter().find(|table| table.name == *owner) {
            self.sources.add(&mut self.cx, table)?;
        }
        let fields = scan.schema.fields();
        let outputs = match scan.output {
            SideOutputKind::Late(of) => sinks::late_outputs(&self.cx, owner, of, fields)?,
            SideOutputKind::DeadLetters => sinks::dead_letter_outputs(&self.cx, owner)?,
        };
        sinks::side_output_relation(&mut self.cx, &outputs, fields, owner)
    }

    /// Returns the relation of a shared step, which is translated at its first use.
    pub(super) fn shared_step(&mut self, name: &str) -> Result<Relation> {
        let Some(step) = self.shared_steps.get(name) else {
            return Err(self.cx.error(format!("unknown step `{name}`")));
        };
        if let Some(relation) = &step.relation {
            return Ok(relation.clone());
        }
        let (plan, schema) = (step.plan.clone(), step.schema.clone());
        let outer = std::mem::replace(&mut self.cx.scope, step.scope.clone());
        let relation = self.plan(&plan).and_then(|relation| {
            // Pending windows and projections become nodes here, under the step's own error policy.
            let relation = resolve(&mut self.cx, relation)?;
            let relation = cast_to_schema(&mut self.cx, relation, &schema)?;
            materialize(&mut self.cx, relation)
        });
        self.cx.scope = outer;
        let relation = relation?;
        if let Some(step) = self.shared_steps.get_mut(name) {
            step.relation = Some(relation.clone());
        }
        Ok(relation)
    }
}

/// Returns why a stream cannot run a plan node, and what to write instead.
fn unsupported_node(plan: &LogicalPlan) -> String {
    match plan {
        LogicalPlan::Sort(_) => {
            "ORDER BY without LIMIT is not supported on a stream, which has no end: remove it, or add a LIMIT"
                .to_owned()
        }
        LogicalPlan::Values(_) => "VALUES is not supported as an input: read it from a table".to_owned(),
        LogicalPlan::EmptyRelation(_) => "a query needs a FROM clause: a pipeline reads a table".to_owned(),
        LogicalPlan::RecursiveQuery(_) => "WITH RECURSIVE is not supported over streams".to_owned(),
        LogicalPlan::Unnest(_) => "UNNEST must be in FROM: write CROSS JOIN UNNEST(array) AS t(x)".to_owned(),
        LogicalPlan::Subquery(_) => "this subquery cannot be planned as a join: refer to columns of the query around it by equalities under WHERE \
             (and not below a LIMIT of a LIMIT, or inside a set operation), or write it as a join".to_owned(),
        other => format!("{} is not supported in a pipeline", other.display()),
    }
}
