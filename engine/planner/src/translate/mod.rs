//! From logical plans to the job graph.
//!
//! First every insert's plan is optimised ([`optimize`]), with the steps it names put in their place; a step that keeps
//! state and is used more than once, or whose bad or late rows are wanted, is optimised and translated on its own, once.
//! Then each plan becomes nodes, bottom up ([`plan`]): [`source`], windows ([`window`]), aggregates ([`aggregate`]),
//! joins ([`join`]), first rows ([`top_n`]). What a plan asks for and a stream cannot give is refused here, with what
//! to write instead.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::expressions::cast;
use datafusion::physical_expr::{PhysicalExprRef, create_physical_expr};

use crate::PlanOptions;
use crate::error::{Error, Errors, Location};
use crate::graph::{
    ErrorPolicy, Exchange, JobGraph, NodeIndex, Operator, Parallelism, Port, Sink, Stream, dead_letter_schema,
};
use crate::logical::{CatalogTable, Insert, InsertInput, Pipeline, StepReference, Table, WindowTableFunction};

mod aggregate;
mod builder;
mod join;
mod optimize;
mod plan;
mod relation;
mod source;
mod top_n;
mod window;

#[cfg(test)]
mod tests;

use builder::{GraphBuilder, InputEdge};
use optimize::Planning;
use relation::{Attribute, ColumnInfo, Relation, WindowInfo};

type Fallible<T> = Result<T, Error>;

/// Translates all inserts of a pipeline into one graph. All mistakes are reported.
pub fn translate(pipeline: &Pipeline, options: &PlanOptions) -> Result<JobGraph, Errors> {
    let mut errors = Vec::new();
    let mut translator = Translator::new(pipeline, options);
    let plans = translator.optimize_all(&mut errors);
    for (insert, plan) in &plans {
        if let Err(error) = translator.insert_plan(insert, plan) {
            errors.push(error);
        }
    }
    if errors.is_empty() {
        translator.side_outputs(&mut errors);
    }
    if errors.is_empty() {
        translator.write_sinks(&mut errors);
    }
    if !errors.is_empty() {
        errors.sort_by(|a: &Error, b| a.location.cmp(&b.location));
        errors.dedup();
        return Err(Errors(errors));
    }
    Ok(translator.builder.finish(&pipeline.name, pipeline.max_parallelism))
}

struct Translator<'p> {
    pipeline: &'p Pipeline,
    planning: Planning,
    batch: bool,
    builder: GraphBuilder,
    windows: Vec<WindowInfo>,
    /// Steps computed on their own, by name.
    shared_steps: HashMap<String, SharedStep>,
    /// Steps whose late rows some insert wants.
    late_wanted: BTreeSet<String>,
    /// Columns each table is read for, by any insert.
    columns_read: BTreeMap<String, BTreeSet<usize>>,
    sources: HashMap<String, Relation>,
    /// Window aggregates that have a late port, by step.
    late_ports: HashMap<String, Vec<NodeIndex>>,
    /// What each sink table receives.
    sink_inputs: Vec<SinkInput<'p>>,
    scope: Scope,
}

/// On whose behalf nodes are being made.
#[derive(Debug, Clone)]
struct Scope {
    owner: String,
    location: Location,
    on_error: ErrorPolicy,
}

struct SharedStep {
    plan: LogicalPlan,
    scope: Scope,
    relation: Option<Relation>,
}

struct SinkInput<'p> {
    insert: &'p Insert,
    edges: Vec<(NodeIndex, Port)>,
}

impl<'p> Translator<'p> {
    fn new(pipeline: &'p Pipeline, options: &PlanOptions) -> Self {
        let late_wanted = pipeline
            .inserts
            .iter()
            .filter_map(|insert| match &insert.input {
                InsertInput::Late { step } => Some(step.clone()),
                _ => None,
            })
            .collect();
        Self {
            pipeline,
            planning: Planning::new(options.now_us),
            batch: options.mode == crate::Mode::Batch,
            builder: GraphBuilder::default(),
            windows: Vec::new(),
            shared_steps: HashMap::new(),
            late_wanted,
            columns_read: BTreeMap::new(),
            sources: HashMap::new(),
            late_ports: HashMap::new(),
            sink_inputs: Vec::new(),
            scope: Scope {
                owner: String::new(),
                location: Location::Unknown,
                on_error: ErrorPolicy::default(),
            },
        }
    }

    /// Decides which steps stand alone, puts the others in their places, and optimises everything.
    fn optimize_all(&mut self, errors: &mut Vec<Error>) -> Vec<(&'p Insert, LogicalPlan)> {
        let alone = self.steps_alone();
        for step in &self.pipeline.steps {
            if !alone.contains(&step.name) {
                continue;
            }
            let plan = self.prepare(&step.plan, &alone, self.late_wanted.contains(&step.name));
            match plan {
                Ok(plan) => {
                    let scope = Scope {
                        owner: step.name.clone(),
                        location: step.location.clone(),
                        on_error: step.on_error,
                    };
                    let relation = None;
                    self.shared_steps
                        .insert(step.name.clone(), SharedStep { plan, scope, relation });
                }
                Err(error) => errors.push(self.from_datafusion(error, &step.location)),
            }
        }
        let mut plans = Vec::new();
        for insert in &self.pipeline.inserts {
            let InsertInput::Plan(plan) = &insert.input else {
                continue;
            };
            match self.prepare(plan, &alone, false) {
                Ok(plan) => plans.push((insert, plan)),
                Err(error) => errors.push(self.from_datafusion(error, &insert.location)),
            }
        }
        plans
    }

    /// Puts the steps that do not stand alone in their places, optimises, and notes what is read of each table.
    fn prepare(
        &mut self,
        plan: &LogicalPlan,
        alone: &BTreeSet<String>,
        keep_all_columns: bool,
    ) -> Result<LogicalPlan, DataFusionError> {
        let plan = inline_steps(plan.clone(), alone)?;
        let plan = if keep_all_columns { keep_columns(plan)? } else { plan };
        let plan = self.planning.optimize(plan)?;
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

    /// Steps that are computed once, apart from their users.
    fn steps_alone(&self) -> BTreeSet<String> {
        let mut uses: BTreeMap<String, usize> = BTreeMap::new();
        let plans = self.pipeline.steps.iter().map(|step| &step.plan);
        let inserts = self.pipeline.inserts.iter().filter_map(|insert| match &insert.input {
            InsertInput::Plan(plan) => Some(plan),
            _ => None,
        });
        for plan in plans.chain(inserts) {
            for name in step_references(plan) {
                *uses.entry(name).or_default() += 1;
            }
        }
        let dead_letters_wanted: BTreeSet<&str> = self
            .pipeline
            .inserts
            .iter()
            .filter_map(|insert| match &insert.input {
                InsertInput::DeadLetters { name } => Some(name.as_str()),
                _ => None,
            })
            .collect();
        self.pipeline
            .steps
            .iter()
            .filter(|step| {
                let many = uses.get(&step.name).copied().unwrap_or(0) > 1;
                (many && !is_stateless(&step.plan))
                    || step.on_error != ErrorPolicy::default()
                    || self.late_wanted.contains(&step.name)
                    || dead_letters_wanted.contains(step.name.as_str())
            })
            .map(|step| step.name.clone())
            .collect()
    }

    fn insert_plan(&mut self, insert: &'p Insert, plan: &LogicalPlan) -> Fallible<()> {
        self.scope = Scope {
            owner: insert.table.name.clone(),
            location: insert.location.clone(),
            on_error: insert.on_error,
        };
        let relation = self.plan(plan)?;
        let edges = self.sink_columns(relation, &insert.table)?;
        self.sink_inputs.push(SinkInput { insert, edges });
        Ok(())
    }

    /// Brings a relation into the shape a sink table has: its columns, under its names.
    fn sink_columns(&mut self, relation: Relation, table: &Table) -> Fallible<Vec<(NodeIndex, Port)>> {
        let fields = table.definition.0.schema.fields().clone();
        if fields.len() != relation.columns.len() {
            return Err(self.error(format!(
                "the query has {} columns, but table `{}` has {}",
                relation.columns.len(),
                table.name,
                fields.len()
            )));
        }
        let mut relation = self.resolve(relation)?;
        for (column, field) in relation.columns.iter_mut().zip(&fields) {
            column.name = field.name().clone();
        }
        let mut edges = Vec::new();
        for index in 0..relation.branches.len() {
            let mut branch = relation.branches[index].clone();
            let schema = self.schema(branch.node);
            for ((expr, column), field) in branch.exprs.iter_mut().zip(&relation.columns).zip(&fields) {
                if column.data_type != *field.data_type() {
                    *expr = cast(expr.clone(), &schema, field.data_type().clone())
                        .map_err(|error| self.from_datafusion(error, &self.scope.location))?;
                }
            }
            let node = self.calc(&branch, &branch.exprs.clone(), &relation.columns, true)?;
            edges.push((node, Port::Main));
        }
        Ok(edges)
    }

    /// Late rows and dead letters: inserts that read a port instead of a plan.
    fn side_outputs(&mut self, errors: &mut Vec<Error>) {
        for insert in &self.pipeline.inserts {
            self.scope = Scope {
                owner: insert.table.name.clone(),
                location: insert.location.clone(),
                on_error: insert.on_error,
            };
            let edges = match &insert.input {
                InsertInput::Plan(_) => continue,
                InsertInput::Late { step } => self.late_rows(step, &insert.table),
                InsertInput::DeadLetters { name } => self.dead_letters(name, &insert.table),
            };
            match edges {
                Ok(edges) => self.sink_inputs.push(SinkInput { insert, edges }),
                Err(error) => errors.push(error),
            }
        }
    }

    fn late_rows(&mut self, step: &str, table: &Table) -> Fallible<Vec<(NodeIndex, Port)>> {
        self.shared_step(step)?;
        let ports = self.late_ports.get(step).cloned().unwrap_or_default();
        if ports.is_empty() {
            return Err(self.error(format!(
                "step `{step}` has no window aggregate on event time, so none of its rows can be late"
            )));
        }
        // Aggregates of aggregates have late rows too, but not of these columns.
        let wanted = &table.definition.0.schema;
        let has_columns = |schema: &arrow_schema::Schema| {
            let mut names = wanted.fields().iter().map(|field| field.name());
            names.all(|name| schema.column_with_name(name).is_some())
        };
        let inputs: Vec<(NodeIndex, Arc<arrow_schema::Schema>)> = ports
            .iter()
            .filter_map(|&node| Some((node, self.schema(self.builder.input_of(node)?))))
            .collect();
        let any = inputs.iter().any(|(_, schema)| has_columns(schema));
        let mut edges = Vec::new();
        for (node, schema) in inputs {
            if any && !has_columns(&schema) {
                continue;
            }
            edges.push(self.port_by_name(
                node,
                Port::Late,
                &schema,
                table,
                &format!("the late rows of step `{step}`"),
            )?);
        }
        Ok(edges)
    }

    fn dead_letters(&mut self, name: &str, table: &Table) -> Fallible<Vec<(NodeIndex, Port)>> {
        if self.shared_steps.contains_key(name) {
            self.shared_step(name)?;
        }
        let nodes: Vec<NodeIndex> = self
            .builder
            .owned_by(name)
            .filter(|&node| match &self.builder.nodes[node].operator {
                Operator::Source(source) => source.on_error == ErrorPolicy::DeadLetter,
                Operator::Calc(calc) => calc.on_error == ErrorPolicy::DeadLetter,
                _ => false,
            })
            .collect();
        if nodes.is_empty() {
            return Err(self.error(format!(
                "`{name}` has no dead letters: set `on_error: dead_letter` on it, and use it in a query"
            )));
        }
        let schema = dead_letter_schema();
        let what = format!("the dead letters of `{name}`");
        nodes
            .into_iter()
            .map(|node| self.port_by_name(node, Port::DeadLetters, &schema, table, &what))
            .collect()
    }

    /// The columns of a table, picked by name from what a port carries.
    fn port_by_name(
        &mut self,
        node: NodeIndex,
        port: Port,
        schema: &Arc<arrow_schema::Schema>,
        table: &Table,
        what: &str,
    ) -> Fallible<(NodeIndex, Port)> {
        let fields = table.definition.0.schema.fields().clone();
        let mut exprs = Vec::new();
        let mut columns = Vec::new();
        for field in &fields {
            let Some((index, found)) = schema.column_with_name(field.name()) else {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(self.error(format!(
                    "table `{}` wants a column `{}`, but {what} have: {}",
                    table.name,
                    field.name(),
                    names.join(", ")
                )));
            };
            let mut expr = relation::column(schema, index);
            if found.data_type() != field.data_type() {
                expr = cast(expr, schema, field.data_type().clone())
                    .map_err(|error| self.from_datafusion(error, &self.scope.location))?;
            }
            exprs.push(expr);
            columns.push(ColumnInfo {
                name: field.name().clone(),
                data_type: field.data_type().clone(),
                attribute: Attribute::None,
                origin: None,
            });
        }
        let node = self.calc_over_port(node, port, schema, &exprs, &columns)?;
        Ok(node)
    }

    /// One sink node per table, whatever number of inserts it has.
    fn write_sinks(&mut self, errors: &mut Vec<Error>) {
        let mut inputs = std::mem::take(&mut self.sink_inputs);
        while !inputs.is_empty() {
            let name = inputs[0].insert.table.name.clone();
            let (mine, others): (Vec<_>, Vec<_>) =
                inputs.into_iter().partition(|input| input.insert.table.name == name);
            inputs = others;
            let insert = mine[0].insert;
            let mut sources: Vec<(NodeIndex, Port)> = Vec::new();
            for edge in mine.iter().flat_map(|input| &input.edges) {
                sources.push(*edge);
            }
            if sources.is_empty() {
                errors.push(Error {
                    location: insert.location.clone(),
                    message: format!("nothing is written to table `{name}`"),
                });
                continue;
            }
            let one = sources
                .iter()
                .all(|(node, _)| self.builder.nodes[*node].parallelism == Parallelism::One);
            let parallelism = if one { Parallelism::One } else { Parallelism::Job };
            let edges: Vec<InputEdge> = sources
                .iter()
                .map(|&(node, port)| InputEdge {
                    port,
                    ..self.builder.plain_edge(node, 0, parallelism)
                })
                .collect();
            let output = Stream {
                schema: insert.table.definition.0.schema.clone(),
                event_time: None,
                window: None,
            };
            let sink = Operator::Sink(Sink {
                table: insert.table.definition.0.clone(),
                on_error: insert.on_error,
            });
            self.builder.add(&name, "sink", sink, edges, output, parallelism);
        }
    }

    /// The relation of a step that stands alone, translated at its first use.
    fn shared_step(&mut self, name: &str) -> Fallible<Relation> {
        let Some(step) = self.shared_steps.get(name) else {
            return Err(self.error(format!("unknown step `{name}`")));
        };
        if let Some(relation) = &step.relation {
            return Ok(relation.clone());
        }
        let plan = step.plan.clone();
        let outer = std::mem::replace(&mut self.scope, step.scope.clone());
        let relation = self.plan(&plan).and_then(|relation| {
            // Its own nodes must follow its own error policy.
            let relation = self.resolve(relation)?;
            self.settle(relation)
        });
        self.scope = outer;
        let relation = relation?;
        if let Some(step) = self.shared_steps.get_mut(name) {
            step.relation = Some(relation.clone());
        }
        Ok(relation)
    }

    fn schema(&self, node: NodeIndex) -> Arc<arrow_schema::Schema> {
        self.builder.nodes[node].output.schema.clone()
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error {
            location: self.scope.location.clone(),
            message: message.into(),
        }
    }

    fn from_datafusion(&self, error: DataFusionError, location: &Location) -> Error {
        Error {
            location: location.clone(),
            message: plain_message(&error),
        }
    }

    /// Runs a DataFusion call for the current scope.
    fn df<T>(&self, result: Result<T, DataFusionError>) -> Fallible<T> {
        result.map_err(|error| self.from_datafusion(error, &self.scope.location))
    }

    /// A logical expression over a plan's columns, as a physical one by position.
    fn physical(&self, expr: &Expr, schema: &datafusion::common::DFSchema) -> Fallible<PhysicalExprRef> {
        let has_subquery = expr.exists(|expr| {
            Ok(matches!(
                expr,
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)
            ))
        });
        if self.df(has_subquery)? {
            return Err(self.error(
                "a subquery inside an expression has no end on a stream: write it as a window join (both sides windowed \
                 alike, ON window_start and window_end equal)",
            ));
        }
        let context = Default::default();
        self.df(create_physical_expr(expr, schema, &self.planning.props, &context))
    }
}

/// DataFusion's message without its category prefixes.
fn plain_message(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let mut text = text.as_str();
    for prefix in [
        "Error during planning: ",
        "Schema error: ",
        "This feature is not implemented: ",
        "type_coercion\ncaused by\n",
        "Execution error: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    text.strip_prefix("Error during planning: ").unwrap_or(text).to_owned()
}

fn step_reference(plan: &LogicalPlan) -> Option<&StepReference> {
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

fn inline_steps(plan: LogicalPlan, alone: &BTreeSet<String>) -> Result<LogicalPlan, DataFusionError> {
    let inlined = plan.transform_up_with_subqueries(|plan| match step_reference(&plan) {
        Some(step) if !alone.contains(&step.name) => {
            let plan = inline_steps(step.plan.as_ref().clone(), alone)?;
            Ok(Transformed::yes(plan))
        }
        _ => Ok(Transformed::no(plan)),
    })?;
    Ok(inlined.data)
}

/// Projections and filters over one table or over such steps: cheaper to repeat than to share.
fn is_stateless(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            plan.inputs().into_iter().all(is_stateless)
        }
        LogicalPlan::TableScan(_) => true,
        other => step_reference(other).is_some_and(|step| is_stateless(&step.plan)),
    }
}

/// Makes the window functions of a plan keep every column of their input.
fn keep_columns(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let kept = plan.transform_up(|plan| {
        let LogicalPlan::Extension(extension) = &plan else {
            return Ok(Transformed::no(plan));
        };
        let Some(function) = extension.node.as_any().downcast_ref::<WindowTableFunction>() else {
            return Ok(Transformed::no(plan));
        };
        let node = Arc::new(WindowTableFunction {
            keep_all_columns: true,
            ..function.clone()
        });
        Ok(Transformed::yes(LogicalPlan::Extension(
            datafusion::logical_expr::Extension { node },
        )))
    })?;
    Ok(kept.data)
}

/// Edges that carry rows by key to a node; to a single subtask where there is no key.
fn keyed(keys: Vec<usize>) -> (Exchange, Parallelism) {
    if keys.is_empty() {
        (Exchange::Rebalance, Parallelism::One)
    } else {
        (Exchange::Hash(keys), Parallelism::Job)
    }
}
