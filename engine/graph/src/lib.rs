//! The job graph: the result of planning, executed by every runtime.
//!
//! A graph is a list of nodes in topological order and the edges between them. Nodes and edges define *what* is
//! computed, not where: parallelism belongs to the job and is chosen when it starts, so rescaling never changes the
//! plan. Expressions are DataFusion physical expressions over the node's input schema and refer to columns by index.
//!
//! The event-time column of a stream is an ordinary column ([`Stream::event_time`]). A row that belongs to a window
//! carries the window's bounds as ordinary columns too ([`Stream::window`]).
//!
//! Beside the graph, this crate holds what both planning and execution need of expressions: the [clock] they read, the
//! [context](evaluation) of their operator, their [equality of floats](float_equality), the
//! [SQL names of types](sql_type), the [text of intervals](interval) and the [form of multisets](multiset).

#![warn(missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

pub mod clock;
pub mod evaluation;
pub mod float_equality;
mod operator;
mod partial_state;

pub use millstream_connectors::{interval, multiset, sql_type};
pub use operator::{
    Aggregate, Calc, ChangelogNormalize, ConflictStrategy, DynamicFilter, Emission, ErrorPolicy, Extreme,
    GroupAggregate, Join, MultiJoin, Operator, Phase, RankFunction, Sink, SinkMaterialize, Sort, Source, TemporalJoin,
    TimeAttribute, TimeBounds, TopN, Unnest, VersionTime, Watermark, Window, WindowAggregate, WindowAssign, WindowJoin,
    WindowTopN,
};
pub use partial_state::partial_state;

/// A planned job.
#[derive(Debug, Clone)]
pub struct JobGraph {
    /// Name of the job.
    pub name: String,
    /// Operators in topological order: every edge goes from a lower to a higher index.
    pub nodes: Vec<Node>,
    /// Connections between the nodes.
    pub edges: Vec<Edge>,
    /// Number of key groups; fixed for the life of the job's state.
    pub max_parallelism: u16,
    /// Interval of consistency points; `None` if operators emit changes at once. Only of graphs with an operator that
    /// holds changes back ([`JobGraph::can_hold_back`]).
    pub consistency_interval: Option<Duration>,
    /// Hash of all other fields. A worker compares it before it takes part in the job.
    pub fingerprint: u64,
}

/// Name of the function that makes a watermark of local times from one of instants. It is monotonic, as every watermark
/// of a split must be.
pub const LOCAL_WATERMARK: &str = "$local_watermark";

/// Index into [`JobGraph::nodes`].
pub type NodeIndex = usize;

/// Stable name of an operator: the name the user wrote and the position inside its step (`per_booth/aggregate`).
/// Checkpoints store an operator's state under this name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperatorId(pub String);

impl fmt::Display for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An operator of a job graph.
#[derive(Debug, Clone)]
pub struct Node {
    /// Stable name.
    pub id: OperatorId,
    /// Computation of the node.
    pub operator: Operator,
    /// Rows of the main output.
    pub output: Stream,
    /// Number of subtasks.
    pub parallelism: Parallelism,
}

/// Number of subtasks of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parallelism {
    /// The parallelism of the job.
    Job,
    /// One subtask: there is no key to divide the rows by.
    One,
}

/// Description of the rows of an edge.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Columns of the rows.
    pub schema: SchemaRef,
    /// Index of the event-time column, if watermarks still refer to one.
    pub event_time: Option<usize>,
    /// Indices of the columns that bound each row's window, if rows belong to windows.
    pub window: Option<WindowColumns>,
    /// Changes that the rows describe.
    pub changelog: ChangelogMode,
    /// Sets of columns, by index and ascending, each of which identifies a row of the table that the stream describes:
    /// at any time, at most one row has these values. All changes of such a row are delivered in order by one subtask.
    pub upsert_keys: Vec<Vec<usize>>,
}

/// Changes that the rows of a stream describe. If it is not append-only, the last column of the stream is
/// [`KIND_COLUMN`](millstream_connectors::KIND_COLUMN).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum ChangelogMode {
    /// Rows are inserted, and never updated or deleted.
    #[default]
    Append,
    /// Rows are inserted, updated and deleted by these key columns. There are no rows of kind `UpdateBefore`, and only
    /// the key columns of deletions are valid.
    Upsert(Vec<usize>),
    /// Rows of all kinds. The former version of a row precedes the new one.
    Retract,
}

impl ChangelogMode {
    /// Returns true if all rows are insertions.
    pub fn is_append(&self) -> bool {
        matches!(self, Self::Append)
    }
}

/// Columns that bound a row's window: `[start, end)`, timestamps in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowColumns {
    /// Index of the column with the start, inclusive.
    pub start: usize,
    /// Index of the column with the end, exclusive.
    pub end: usize,
}

/// A connection from an output of one node to an input of another.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Upstream node.
    pub from: NodeIndex,
    /// Output of `from`.
    pub port: Port,
    /// Downstream node.
    pub to: NodeIndex,
    /// Input of `to`: 0, or 1 for the right side of a join. Several edges may feed one input (a union).
    pub input: usize,
    /// Distribution of the rows over the subtasks of `to`.
    pub exchange: Exchange,
}

/// An output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Port {
    /// The results.
    Main,
    /// Late rows of the input of this number, with that input's columns: their window had fired already.
    Late(usize),
    /// Rows that failed, as dead letters ([`dead_letter_schema`]).
    DeadLetters,
}

/// Distribution of an edge's rows over the subtasks of the downstream node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// Rows stay in the same subtask (both nodes have the same parallelism); the nodes form one chain.
    Forward,
    /// Rows are distributed by the key group of these columns of the edge's schema.
    Hash(Vec<usize>),
    /// Rows are distributed evenly.
    Rebalance,
    /// Every row goes to every subtask.
    Broadcast,
}

/// Returns the columns of a dead letter: `step`, `position`, `error` (strings), `time` (timestamp, UTC), `payload`
/// (binary).
pub fn dead_letter_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("step", DataType::Utf8, false),
        Field::new("position", DataType::Utf8, true),
        Field::new("error", DataType::Utf8, false),
        Field::new(
            "time",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            false,
        ),
        Field::new("payload", DataType::Binary, true),
    ]))
}

impl JobGraph {
    /// Returns the edges into a node.
    pub fn inputs(&self, node: NodeIndex) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.to == node)
    }

    /// Returns the columns of an edge's rows.
    pub fn edge_schema(&self, edge: &Edge) -> SchemaRef {
        match edge.port {
            Port::Main => self.nodes[edge.from].output.schema.clone(),
            Port::DeadLetters => dead_letter_schema(),
            Port::Late(input) => {
                let schema = self.input_schema(edge.from, input);
                schema.unwrap_or_else(|| self.nodes[edge.from].output.schema.clone())
            }
        }
    }

    /// Returns the columns of an input of a node, or `None` if no edge leads to that input.
    pub fn input_schema(&self, node: NodeIndex, input: usize) -> Option<SchemaRef> {
        let mut edges = self.inputs(node).filter(|edge| edge.input == input);
        edges.next().map(|edge| self.edge_schema(edge))
    }

    /// Returns true if a node can hold changes back until consistency points: it keeps state without windows, and
    /// changes a table or processes changes of one.
    pub fn can_hold_back(&self, node: NodeIndex) -> bool {
        let is_changelog = |node: NodeIndex| !self.nodes[node].output.changelog.is_append();
        self.nodes[node].operator.updates_state_by_row()
            && (is_changelog(node) || self.inputs(node).any(|edge| is_changelog(edge.from)))
    }

    /// Returns true if a node holds changes back until consistency points.
    pub fn holds_back(&self, node: NodeIndex) -> bool {
        self.consistency_interval.is_some() && self.can_hold_back(node)
    }

    /// Returns true if an operator must see all changes before a checkpoint's barrier: it fails on rows that have one
    /// primary key, which changes under way may have for a moment.
    pub fn needs_aligned_checkpoints(&self) -> bool {
        self.nodes.iter().any(|node| match &node.operator {
            Operator::SinkMaterialize(materialize) => materialize.strategy == ConflictStrategy::Error,
            _ => false,
        })
    }

    /// Returns the edges out of a node.
    pub fn outputs(&self, node: NodeIndex) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.from == node)
    }

    /// Returns the index of every node by its stable name.
    pub fn by_id(&self) -> BTreeMap<&OperatorId, NodeIndex> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (&node.id, index))
            .collect()
    }
}
