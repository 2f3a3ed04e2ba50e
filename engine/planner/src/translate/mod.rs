//! From logical plans to the job graph.
//!
//! First every insert's plan is optimised ([`optimize`]), with the steps it names put in their place; a step that keeps
//! state and is used more than once, or whose bad or late rows are wanted, is optimised and translated on its own,
//! once. Then each plan becomes nodes, bottom up ([`plan`]): [`source`], windows ([`window`]), aggregates
//! ([`aggregate`]), joins ([`join`], [`dynamic_filter`]), first rows ([`top_n`]). What a plan asks for and a stream
//! cannot give is refused here, with what to write instead.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use datafusion::common::tree_node::TreeNode;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::{PhysicalExprRef, create_physical_expr};

use crate::PlanOptions;
use crate::error::{Error, Errors, Location};
use crate::logical::{Insert, InsertInput, Pipeline};
use millstream_graph::{ErrorPolicy, Exchange, JobGraph, NodeIndex, Parallelism, Port};

mod aggregate;
mod builder;
mod common_subplans;
mod decimal_multiply;
mod dynamic_filter;
mod field_hoisting;
mod join;
mod masked_eval;
mod optimize;
mod plan;
mod relation;
mod short_circuit;
mod sinks;
mod source;
mod specialized_expr;
mod string_case;
mod top_n;
mod window;

#[cfg(test)]
mod tests;

use builder::{GraphBuilder, InputEdge};
use dynamic_filter::Extremes;
use optimize::Planning;
use relation::{Relation, WindowId, WindowInfo};
use sinks::SideOutput;

/// A result of translation; the error has a place in the text of the pipeline.
type Result<T, E = Error> = std::result::Result<T, E>;

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
    steps_with_late_output: BTreeSet<String>,
    /// Columns each table is read for, by any insert.
    columns_read: BTreeMap<String, BTreeSet<usize>>,
    sources: HashMap<String, Relation>,
    /// Window aggregates that have a late port, by step.
    late_ports: HashMap<String, Vec<NodeIndex>>,
    /// The late rows of window joins, by step: of the left and the right input of each join.
    late_of_joins: HashMap<String, Vec<[Vec<SideOutput>; 2]>>,
    /// The input rows without a time that nodes find which mark rows with their windows, by window.
    late_of_windows: HashMap<WindowId, Vec<SideOutput>>,
    /// Window aggregates that find a maximum or minimum.
    extremes: HashMap<NodeIndex, Extremes>,
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
    /// The schema its users were planned against: that of the plan before types were coerced.
    schema: datafusion::common::DFSchemaRef,
    scope: Scope,
    relation: Option<Relation>,
}

struct SinkInput<'p> {
    insert: &'p Insert,
    edges: Vec<(NodeIndex, Port)>,
}

impl<'p> Translator<'p> {
    fn new(pipeline: &'p Pipeline, options: &PlanOptions) -> Self {
        let steps_with_late_output = pipeline
            .inserts
            .iter()
            .filter_map(|insert| match &insert.input {
                InsertInput::Late { step, .. } => Some(step.clone()),
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
            steps_with_late_output,
            columns_read: BTreeMap::new(),
            sources: HashMap::new(),
            late_ports: HashMap::new(),
            late_of_joins: HashMap::new(),
            late_of_windows: HashMap::new(),
            extremes: HashMap::new(),
            sink_inputs: Vec::new(),
            scope: Scope {
                owner: String::new(),
                location: Location::Unknown,
                on_error: ErrorPolicy::default(),
            },
        }
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

    /// Runs a DataFusion call for the current scope.
    fn located<T>(&self, result: Result<T, DataFusionError>) -> Result<T> {
        result.map_err(|error| error_at(error, &self.scope.location))
    }

    /// A logical expression over a plan's columns, as a physical one by position.
    fn physical(&self, expr: &Expr, schema: &datafusion::common::DFSchema) -> Result<PhysicalExprRef> {
        let has_subquery = expr.exists(|expr| {
            Ok(matches!(
                expr,
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)
            ))
        });
        if self.located(has_subquery)? {
            return Err(self.error(
                "a subquery inside an expression has no end on a stream: write it as a window join (both sides windowed \
                 alike, ON window_start and window_end equal)",
            ));
        }
        let context = Default::default();
        self.located(create_physical_expr(expr, schema, &self.planning.props, &context))
    }
}

/// What DataFusion says, in our place.
fn error_at(error: DataFusionError, location: &Location) -> Error {
    Error {
        location: location.clone(),
        message: plain_message(&error),
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

/// Edges that carry rows by key to a node; to a single subtask where there is no key.
fn keyed_exchange(keys: Vec<usize>) -> (Exchange, Parallelism) {
    if keys.is_empty() {
        (Exchange::Rebalance, Parallelism::One)
    } else {
        (Exchange::Hash(keys), Parallelism::Job)
    }
}
