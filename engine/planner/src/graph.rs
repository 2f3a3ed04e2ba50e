//! The job graph: what the planner makes and every runtime executes.
//!
//! A graph is a list of nodes in topological order and the edges between them. Node and edge say *what* happens, not
//! where: parallelism is the job's, chosen when it starts, so that rescaling never changes the plan. Expressions are
//! DataFusion physical expressions over the node's input schema; columns are referred to by index.
//!
//! Stream conventions: the event-time column is an ordinary column ([`Stream::event_time`]). A row that belongs to a
//! window carries the window's bounds as ordinary columns too ([`Stream::window`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use datafusion::logical_expr::JoinType;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr};
use millstream_connectors::TableDefinition;

/// A planned job.
#[derive(Debug, Clone)]
pub struct JobGraph {
    pub name: String,
    /// Topologically sorted: every edge goes from a lower to a higher index.
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
    /// Number of key groups; fixed for the life of the job's state.
    pub max_parallelism: u16,
    /// The text a worker compares before it takes part: a hash over everything above.
    pub fingerprint: u64,
}

/// Index into [`JobGraph::nodes`].
pub type NodeIndex = usize;

/// Stable name of an operator: the name the user wrote and the position inside its step (`per_booth/aggregate`).
/// Checkpoints find an operator's state under it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperatorId(pub String);

impl fmt::Display for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone)]
pub struct Node {
    pub id: OperatorId,
    pub operator: Operator,
    /// What the node's main output carries.
    pub output: Stream,
    pub parallelism: Parallelism,
}

/// How many subtasks a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parallelism {
    /// The job's.
    Job,
    /// One: there is no key to divide by.
    One,
}

/// What flows on an edge.
#[derive(Debug, Clone)]
pub struct Stream {
    pub schema: SchemaRef,
    /// Index of the event-time column, if the stream still has one that its watermarks speak of.
    pub event_time: Option<usize>,
    /// Indices of the columns that bound each row's window, if rows belong to windows.
    pub window: Option<WindowColumns>,
}

/// Columns that bound a row's window: `[start, end)`, timestamps in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowColumns {
    pub start: usize,
    pub end: usize,
}

#[derive(Debug, Clone)]
pub struct Edge {
    pub from: NodeIndex,
    pub port: Port,
    pub to: NodeIndex,
    /// Which input of `to`: 0, or 1 for the right side of a join. Several edges may feed one input (a union).
    pub input: usize,
    pub exchange: Exchange,
}

/// Which output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Port {
    Main,
    /// Rows of an input, by its number, that came after their window had fired; with that input's columns.
    Late(usize),
    /// Rows that failed, as dead letters ([`dead_letter_schema`]).
    DeadLetters,
}

/// How rows find the subtask of the next node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// Stay in the same subtask (both nodes have the same parallelism); the nodes form one chain.
    Forward,
    /// By key group of these columns of the edge's schema.
    Hash(Vec<usize>),
    /// Evenly.
    Rebalance,
    /// Every row to every subtask.
    Broadcast,
}

/// What a node does.
#[derive(Debug, Clone)]
pub enum Operator {
    Source(Source),
    Calc(Calc),
    WindowAssign(WindowAssign),
    WindowAggregate(WindowAggregate),
    WindowJoin(WindowJoin),
    WindowTopN(WindowTopN),
    DynamicFilter(DynamicFilter),
    Sink(Sink),
}

/// What becomes of a row that a step cannot handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorPolicy {
    /// The job fails, naming the row.
    #[default]
    Fail,
    /// The row goes to the step's dead-letter output and is counted.
    DeadLetter,
    /// The row is dropped and counted.
    Skip,
    /// The value that failed becomes NULL and is counted.
    Null,
}

/// Reads a table: decode, then `calc` (computed columns, pushed-down filter), then watermarks per split.
#[derive(Debug, Clone)]
pub struct Source {
    pub table: Arc<TableDefinition>,
    /// Columns of the table's schema that are read, in this order; `calc` and nothing else sees them.
    pub projection: Vec<usize>,
    pub calc: Option<Calc>,
    pub watermark: Option<Watermark>,
    /// What becomes of records that do not decode.
    pub on_error: ErrorPolicy,
}

/// How event time advances, per split.
#[derive(Debug, Clone)]
pub struct Watermark {
    /// Event-time column in the node's output.
    pub column: usize,
    /// The watermark that a row justifies: an expression of timestamp type over the node's output.
    pub expression: PhysicalExprRef,
    /// A caught-up split without rows for this long no longer holds the watermark back.
    pub idle_timeout: Duration,
    /// Rows further ahead of the clock than this do not advance the watermark; `None` where event time is history
    /// (batch, seeded generators).
    pub max_future: Option<Duration>,
}

/// Filters, then projects.
#[derive(Debug, Clone)]
pub struct Calc {
    /// Rows where this is not true are dropped.
    pub filter: Option<PhysicalExprRef>,
    /// Output columns, over the input schema (not the filtered one: they are the same).
    pub projection: Vec<ProjectionExpr>,
    pub on_error: ErrorPolicy,
}

/// Which windows a row belongs to. Durations and offsets in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    Tumble {
        size: i64,
        offset: i64,
    },
    /// `size` is a multiple of `slide`: windows share slices of length `slide`.
    Hop {
        size: i64,
        slide: i64,
        offset: i64,
    },
    /// Windows that start alike and grow by `step` up to `size` (a multiple of `step`).
    Cumulate {
        size: i64,
        step: i64,
        offset: i64,
    },
    /// Rows of one key that are no further apart than `gap` belong together.
    Session {
        gap: i64,
    },
    /// Rows carry their window's bounds already.
    Attached(WindowColumns),
}

/// What clock a window follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeAttribute {
    /// This column, against the watermark. Rows with NULL there are counted and dropped as late rows are.
    Event(usize),
    /// The engine's clock at the moment a row arrives.
    Processing,
}

/// Appends `window_start`, `window_end`, `window_time` (= end - 1 ms) to each row, once per window it belongs to.
#[derive(Debug, Clone)]
pub struct WindowAssign {
    pub window: Window,
    pub time: TimeAttribute,
}

/// Aggregates per key and window.
///
/// Main output: the key columns, then (`Single` and `Final`) one column per aggregate or (`Local`) the aggregates'
/// partial states, then `window_start`, `window_end`. `Local` emits slices: for `Hop` and `Cumulate` the bounds are
/// those of the slice, which `Final` merges into windows. In `Final`, `time` is the input's `window_end`, and the
/// bounds of `Window::Attached` are the input's last two columns.
#[derive(Debug, Clone)]
pub struct WindowAggregate {
    pub window: Window,
    pub time: TimeAttribute,
    /// Indices of key columns in the input. Empty: one group per window.
    pub keys: Vec<usize>,
    pub aggregates: Vec<Aggregate>,
    pub phase: Phase,
    /// How long after the watermark a window still takes rows, in microseconds. Late firings would be updates,
    /// so it is 0 wherever results are append-only.
    pub allowed_lateness: i64,
}

/// One aggregate call.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// Function, arguments (over the node's input; in phase `Final` over the original input, for types only),
    /// DISTINCT and ordering.
    pub function: Arc<AggregateFunctionExpr>,
    /// Only rows where this is true count.
    pub filter: Option<PhysicalExprRef>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rows in, results out.
    Single,
    /// Rows in, partial states per key and slice out; keeps nothing over a barrier or a watermark.
    Local,
    /// Partial states in, results out. Input: the output of the matching `Local` (keys first).
    Final,
}

/// Joins rows of equal windows. Output: the joined columns of the left input, then those of the right (for semi and
/// anti joins: left only).
#[derive(Debug, Clone)]
pub struct WindowJoin {
    pub join_type: JoinType,
    /// Columns of each input that are joined and kept. Those behind them are for late rows only.
    pub joined_columns: [usize; 2],
    pub left: WindowColumns,
    pub right: WindowColumns,
    /// Pairs of columns (left index, right index) that must be equal, besides the window's bounds. NULL equals nothing.
    pub on: Vec<(usize, usize)>,
    /// A further condition over left columns then right columns.
    pub filter: Option<PhysicalExprRef>,
}

/// The first rows of each window and partition, by order. Output: the input's columns, then, if asked for, the rank
/// (`Int64` or as the schema says).
#[derive(Debug, Clone)]
pub struct WindowTopN {
    pub window: WindowColumns,
    pub partition: Vec<usize>,
    pub order: Vec<PhysicalSortExpr>,
    /// Ranks `from..=to` are kept, 1-based.
    pub from: u64,
    pub to: u64,
    pub emit_rank: bool,
}

/// Drops rows that are beaten by another row of their window and keys which went by before: a join above wants the
/// extreme ones only. What has gone by is not state: a row that is let through again does no harm. Output: the input's
/// columns.
#[derive(Debug, Clone)]
pub struct DynamicFilter {
    /// Rows where this column is not true are dropped, and beat nothing.
    pub condition: Option<usize>,
    /// Tumbling, hopping or cumulating.
    pub window: Window,
    /// The event-time column. Rows with NULL there, and late ones, pass.
    pub time: usize,
    pub keys: Vec<usize>,
    /// What is compared: integers, decimals, times. Rows with NULL there are dropped.
    pub value: usize,
    pub extreme: Extreme,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extreme {
    Greatest,
    Least,
}

/// Writes a table. Input columns are the table's, in declared order.
#[derive(Debug, Clone)]
pub struct Sink {
    pub table: Arc<TableDefinition>,
    /// What becomes of rows that cannot be encoded.
    pub on_error: ErrorPolicy,
}

/// The columns of a dead letter: `step`, `position`, `error` (strings), `time` (timestamp, UTC), `payload` (binary).
pub fn dead_letter_schema() -> SchemaRef {
    use arrow_schema::{DataType, Field, Schema, TimeUnit};
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
    /// Edges into a node, by input.
    pub fn inputs(&self, node: NodeIndex) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.to == node)
    }

    /// The columns that an edge carries.
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

    /// The columns of an input of a node. `None`: no edge leads there.
    pub fn input_schema(&self, node: NodeIndex, input: usize) -> Option<SchemaRef> {
        let mut edges = self.inputs(node).filter(|edge| edge.input == input);
        edges.next().map(|edge| self.edge_schema(edge))
    }

    /// Edges out of a node.
    pub fn outputs(&self, node: NodeIndex) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.from == node)
    }

    /// Nodes by their stable names.
    pub fn by_id(&self) -> BTreeMap<&OperatorId, NodeIndex> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (&node.id, index))
            .collect()
    }
}
