//! State and helpers that the translators of all kinds of plan nodes share.

use std::sync::Arc;
use std::time::Duration;

use arrow_schema::Schema;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::{PhysicalExprRef, create_physical_expr};
use millstream_graph::{Emission, ErrorPolicy, NodeIndex, Operator, Parallelism, Stream};

use super::builder::{GraphBuilder, InputEdge, Owner};
use super::optimize::Planning;
use super::relation::WindowInfo;
use super::side_output::LateOutputs;
use crate::Mode;
use crate::error::{Error, Location};
use crate::logical::{AggregatePhases, Pipeline, StateTtl};

/// A result of translation; the error has a position in the text of the pipeline.
pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

/// State of the translation of one pipeline.
pub(super) struct Context<'p> {
    pub pipeline: &'p Pipeline,
    pub mode: Mode,
    pub planning: Planning,
    pub builder: GraphBuilder,
    /// All windows so far, by [`WindowId`](super::relation::WindowId).
    pub windows: Vec<WindowInfo>,
    pub late: LateOutputs,
    pub scope: Scope,
    /// Time to live that a hint gives the rows of the aggregate that is being translated.
    pub hinted_ttl: Option<Option<Duration>>,
}

/// The step, insert or table for which nodes are being made.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// Name of the step or table, the first part of its nodes' names.
    pub owner: String,
    /// Position of errors.
    pub location: Location,
    /// Error policy of the nodes.
    pub on_error: ErrorPolicy,
}

impl Context<'_> {
    /// Returns the columns of a node's main output.
    pub(super) fn schema(&self, node: NodeIndex) -> Arc<Schema> {
        self.builder.nodes[node].output.schema.clone()
    }

    /// Adds a node of the current scope, named after its kind.
    pub(super) fn add(
        &mut self,
        kind: &str,
        operator: Operator,
        inputs: Vec<InputEdge>,
        output: Stream,
        parallelism: Parallelism,
    ) -> NodeIndex {
        let owner = Owner {
            name: &self.scope.owner,
            location: &self.scope.location,
        };
        self.builder.add(owner, kind, operator, inputs, output, parallelism)
    }

    /// Adds a node of the current scope that reads one node, in the same subtasks.
    pub(super) fn add_after(&mut self, input: NodeIndex, kind: &str, operator: Operator, output: Stream) -> NodeIndex {
        let parallelism = self.builder.nodes[input].parallelism;
        let edge = self.builder.unkeyed_edge(input, 0, parallelism);
        self.add(kind, operator, vec![edge], output, parallelism)
    }

    /// Returns the rows that updating operators emit in the pipeline's mode.
    pub(super) fn emission(&self) -> Emission {
        match self.mode {
            Mode::Stream => Emission::Changes,
            Mode::Batch | Mode::Serve => Emission::Final,
        }
    }

    /// Returns the phases of aggregates. A batch has two unless told otherwise, since none of its results is delayed by
    /// that. A request is one batch on one thread: a local phase would only add work.
    pub(super) fn agg_phases(&self) -> AggregatePhases {
        match (self.mode, self.pipeline.agg_phases) {
            (Mode::Serve, _) => AggregatePhases::One,
            (Mode::Batch, AggregatePhases::Auto) => AggregatePhases::Two,
            (Mode::Stream | Mode::Batch, phases) => phases,
        }
    }

    /// Returns the time after which the aggregate that is being translated deletes its state; `None`: never.
    pub(super) fn state_ttl(&self) -> Option<Duration> {
        self.hinted_ttl.unwrap_or(self.pipeline.state_ttl)
    }

    /// Returns the time after which an operator deletes the state of the rows of this input; `None`: never.
    pub(super) fn state_ttl_of(&self, input: &LogicalPlan) -> Option<Duration> {
        StateTtl::of_rows(input).unwrap_or(self.pipeline.state_ttl)
    }

    /// Returns true if an insert writes the late rows of the current step.
    pub(super) fn is_late_output_used(&self) -> bool {
        self.late.steps.contains(&self.scope.owner)
    }

    /// Returns an error at the position of the current scope.
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error {
            location: self.scope.location.clone(),
            message: message.into(),
        }
    }

    /// Gives an error of DataFusion the position of the current scope.
    pub(super) fn located<T>(&self, result: Result<T, DataFusionError>) -> Result<T> {
        result.map_err(|error| error_at(error, &self.scope.location))
    }

    /// Returns a logical expression over a plan's columns as a physical one, which refers to columns by index.
    pub(super) fn physical(&self, expr: &Expr, schema: &DFSchema) -> Result<PhysicalExprRef> {
        let has_subquery = expr.exists(|expr| {
            Ok(matches!(
                expr,
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)
            ))
        });
        if self.located(has_subquery)? {
            return Err(self.error(
                "this subquery cannot be planned as a join: write it as a join, or as a condition of its own under WHERE, \
                 combined with others by AND",
            ));
        }
        let context = Default::default();
        self.located(create_physical_expr(expr, schema, &self.planning.props, &context))
    }
}

/// Gives an error of DataFusion a position, and a message in terms of SQL.
pub(super) fn error_at(error: DataFusionError, location: &Location) -> Error {
    let errors = crate::sql::errors_of(error, location);
    errors.into_iter().next().unwrap_or_else(|| Error {
        location: location.clone(),
        message: "a relation of this query has errors".to_owned(),
    })
}
