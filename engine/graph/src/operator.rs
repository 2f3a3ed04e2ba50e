//! The operators of a job graph.

use std::sync::Arc;
use std::time::Duration;

use datafusion::logical_expr::JoinType;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr};
use millstream_connectors::TableDefinition;

use crate::WindowColumns;

/// The computation of a node.
#[derive(Debug, Clone)]
pub enum Operator {
    /// Reads a table.
    Source(Source),
    /// Filters and projects.
    Calc(Calc),
    /// Appends the bounds of a window to each row.
    WindowAssign(WindowAssign),
    /// Repeats each row for the elements of a collection.
    Unnest(Unnest),
    /// Aggregates per key and window.
    WindowAggregate(WindowAggregate),
    /// Aggregates per key, without windows.
    GroupAggregate(GroupAggregate),
    /// Keeps the newest row per primary key of a changelog that was read.
    ChangelogNormalize(ChangelogNormalize),
    /// Keeps one of the rows that have the same primary key of a sink.
    SinkMaterialize(SinkMaterialize),
    /// Joins two inputs by key, without windows.
    Join(Join),
    /// Joins several inputs by one key, without windows.
    MultiJoin(MultiJoin),
    /// Joins rows with the version of a table that is valid at their time.
    TemporalJoin(TemporalJoin),
    /// Joins rows of equal windows.
    WindowJoin(WindowJoin),
    /// Keeps the first rows of each window.
    WindowTopN(WindowTopN),
    /// Keeps the first rows of each partition, without windows.
    TopN(TopN),
    /// Emits all rows in their order.
    Sort(Sort),
    /// Drops rows that a downstream join cannot match.
    DynamicFilter(DynamicFilter),
    /// Writes a table.
    Sink(Sink),
}

impl Operator {
    /// Returns true if the operator keeps state without windows that rows update one by one.
    pub fn updates_state_by_row(&self) -> bool {
        match self {
            Self::GroupAggregate(_)
            | Self::ChangelogNormalize(_)
            | Self::SinkMaterialize(_)
            | Self::TopN(_)
            | Self::MultiJoin(_) => true,
            Self::Join(join) => join.bounds.is_none(),
            Self::Source(_)
            | Self::Calc(_)
            | Self::WindowAssign(_)
            | Self::Unnest(_)
            | Self::Sort(_)
            | Self::WindowAggregate(_)
            | Self::WindowJoin(_)
            | Self::TemporalJoin(_)
            | Self::WindowTopN(_)
            | Self::DynamicFilter(_)
            | Self::Sink(_) => false,
        }
    }

    /// Returns true if the operator emits its result at the end of input, and has no use for its state afterwards.
    pub fn emits_at_end(&self) -> bool {
        let emission = match self {
            Self::GroupAggregate(aggregate) => aggregate.emission,
            Self::ChangelogNormalize(normalize) => normalize.emission,
            Self::SinkMaterialize(materialize) => materialize.emission,
            Self::Join(join) => join.emission,
            Self::MultiJoin(join) => join.emission,
            Self::TopN(top_n) => top_n.emission,
            Self::Sort(_) => Emission::Final,
            Self::Source(_)
            | Self::Calc(_)
            | Self::WindowAssign(_)
            | Self::Unnest(_)
            | Self::WindowAggregate(_)
            | Self::WindowJoin(_)
            | Self::TemporalJoin(_)
            | Self::WindowTopN(_)
            | Self::DynamicFilter(_)
            | Self::Sink(_) => Emission::Changes,
        };
        emission == Emission::Final
    }
}

/// Handling of rows that an operator fails to process.
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

/// A source: decodes records, then evaluates `calc` (computed columns, pushed-down filter), then generates watermarks
/// per split.
///
/// If the output is a changelog, the rows that are read have the kind as one more column after those of `projection`,
/// and so does the output of `calc`.
#[derive(Debug, Clone)]
pub struct Source {
    /// Table that is read.
    pub table: Arc<TableDefinition>,
    /// Indices of the columns of the table's schema that are read, in this order; the input of `calc`.
    pub projection: Vec<usize>,
    /// Computed columns and filter, if there are any.
    pub calc: Option<Calc>,
    /// Watermark strategy; `None` if the table declares no event time.
    pub watermark: Option<Watermark>,
    /// Handling of records that do not decode.
    pub on_error: ErrorPolicy,
}

/// A watermark strategy, applied per split.
#[derive(Debug, Clone)]
pub struct Watermark {
    /// Index of the event-time column in the node's output.
    pub column: usize,
    /// Watermark that a row allows: an expression of timestamp type over the node's output.
    pub expression: PhysicalExprRef,
    /// Idle timeout: a caught-up split without rows for this long no longer holds the watermark back.
    pub idle_timeout: Duration,
    /// Rows further ahead of the clock than this do not advance the watermark; `None` where event time is history
    /// (batch, seeded generators).
    pub max_future: Option<Duration>,
}

/// A filter followed by a projection.
#[derive(Debug, Clone)]
pub struct Calc {
    /// Condition; rows for which it is not true are dropped.
    pub filter: Option<PhysicalExprRef>,
    /// Output columns, over the input schema.
    pub projection: Vec<ProjectionExpr>,
    /// Handling of rows for which an expression fails.
    pub on_error: ErrorPolicy,
}

/// Assignment of rows to windows. Durations and offsets are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// Windows of length `size` that do not overlap.
    Tumble {
        /// Length of a window.
        size: i64,
        /// Shift of all windows against the epoch.
        offset: i64,
    },
    /// Windows of length `size` that begin every `slide`. `size` is a multiple of `slide`: windows share slices of
    /// length `slide`.
    Hop {
        /// Length of a window.
        size: i64,
        /// Distance between the starts of windows.
        slide: i64,
        /// Shift of all windows against the epoch.
        offset: i64,
    },
    /// Windows with a common start that grow by `step` up to `size` (a multiple of `step`).
    Cumulate {
        /// Length of the longest window.
        size: i64,
        /// Difference in length between a window and the next.
        step: i64,
        /// Shift of all windows against the epoch.
        offset: i64,
    },
    /// Windows of rows of one key that are no further apart than `gap`.
    Session {
        /// Greatest distance between neighbouring rows of a session.
        gap: i64,
    },
    /// Windows whose bounds are columns of the rows.
    Attached(WindowColumns),
}

/// Time domain of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeAttribute {
    /// Event time in the column of this index, against the watermark. Rows with NULL there are counted and dropped as
    /// late rows are.
    Event(usize),
    /// Processing time: the engine's clock when a row arrives.
    Processing,
}

/// Appends `window_start`, `window_end`, `window_time` (= end - 1 ms) to each row, once per window it belongs to.
#[derive(Debug, Clone)]
pub struct WindowAssign {
    /// Windows that rows are assigned to.
    pub window: Window,
    /// Time domain of the windows.
    pub time: TimeAttribute,
}

/// Emits each row once per element of an array or map, or as often as a number says. Output: the columns of `kept`,
/// then those of the element (the fields of a `ROW`, the key and value of a map, or the element itself; none of a
/// number), then, if `with_ordinality` is set, the position of the element (`Int32`, from 1). The input may be a
/// changelog in retract mode; an update leaves as deletions and insertions, without the elements that both of its
/// rows begin with if their columns of `kept` are equal.
#[derive(Debug, Clone)]
pub struct Unnest {
    /// Index of the column with the array, map or number (`Int64`; none if it is negative).
    pub collection: usize,
    /// Indices of the input's columns that are emitted, without the kind of rows.
    pub kept: Vec<usize>,
    /// True if a row whose collection is empty or NULL is emitted, with NULLs.
    pub is_outer: bool,
    /// True if the position is a column of the output.
    pub with_ordinality: bool,
}

/// Aggregates per key and window.
///
/// Main output: the key columns, then (`Single` and `Final`) one column per aggregate or (`Local`) the aggregates'
/// partial states, then `window_start`, `window_end`. `Local` emits slices: for `Hop` and `Cumulate` the bounds are
/// those of the slice, which `Final` merges into windows. In `Final`, `time` is the input's `window_end`, and the
/// bounds of `Window::Attached` are the input's last two columns.
#[derive(Debug, Clone)]
pub struct WindowAggregate {
    /// Windows that rows are grouped by.
    pub window: Window,
    /// Time domain of the windows.
    pub time: TimeAttribute,
    /// Indices of key columns in the input. Empty: one group per window.
    pub keys: Vec<usize>,
    /// Aggregate calls.
    pub aggregates: Vec<Aggregate>,
    /// Phase of a two-phase aggregation.
    pub phase: Phase,
    /// Allowed lateness in microseconds: rows are accepted until the watermark is this far past the end of their
    /// window. Late firings would be updates, so it is 0 wherever results are append-only.
    pub allowed_lateness: i64,
}

/// Aggregates per key, without windows. The input may be a changelog.
///
/// Output: the key columns, then one column per aggregate. A group exists while it has rows; a global aggregate
/// (`keys` is empty) has its one row from the first input row, or the end of input, on.
#[derive(Debug, Clone)]
pub struct GroupAggregate {
    /// Indices of key columns in the input. Empty: one group.
    pub keys: Vec<usize>,
    /// Aggregate calls.
    pub aggregates: Vec<Aggregate>,
    /// Rows that are emitted.
    pub emission: Emission,
    /// Time after which the state of a group that does not change is deleted; `None`: never.
    pub state_ttl: Option<Duration>,
    /// Phase. `Local` emits the key columns, the partial states of the calls
    /// ([`partial_state`](crate::partial_state)), and the number of rows; it has no state.
    pub phase: Phase,
    /// True if the aggregated rows are a changelog; of the phase `Final`, those of the matching `Local`.
    pub retracts: bool,
}

/// Makes a consistent changelog of one that was read from an external system, where changes may be repeated or lack the
/// former version of a row: keeps the newest row per primary key.
///
/// Input: a changelog in upsert or retract mode, distributed by `keys`, in the order of the changes of each key. A row
/// of positive weight (`Insert`, `UpdateAfter`) becomes the newest row of its key: it is emitted as `Insert` if the key
/// has none, else as an update of the present row, or not at all if both are equal. A `Delete` removes the present row,
/// which is emitted as `Delete` with all of its columns; without a present row it is ignored. `UpdateBefore` rows are
/// ignored. Output: the input's columns.
#[derive(Debug, Clone)]
pub struct ChangelogNormalize {
    /// Indices of the columns of the primary key.
    pub keys: Vec<usize>,
    /// Rows that are emitted.
    pub emission: Emission,
    /// Time after which the row of a key that does not change is forgotten; `None`: never. A later change of the key is
    /// then an `Insert`, and a later `Delete` is ignored.
    pub state_ttl: Option<Duration>,
}

/// Chooses between rows of a query that have the same primary key of a sink (`ON CONFLICT`). Keeps all rows of each key
/// in the order of their arrival, and emits one of them; the next one when that is deleted. An update does not change
/// the place of a row.
///
/// Input: append-only, or a changelog in retract mode, distributed by `keys`. Output: the input's columns, of which
/// `keys` is an upsert key.
#[derive(Debug, Clone)]
pub struct SinkMaterialize {
    /// Indices of the columns of the primary key.
    pub keys: Vec<usize>,
    /// The row that is emitted.
    pub strategy: ConflictStrategy,
    /// Rows that are emitted.
    pub emission: Emission,
    /// Time after which the rows of a key that do not change are forgotten; `None`: never.
    pub state_ttl: Option<Duration>,
}

/// `ON CONFLICT DO ...`: the row that a table keeps where several rows of a query have one primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConflictStrategy {
    /// Several such rows are an error, if there are still several at a consistency point, a checkpoint or the end of
    /// input. Until then, the newest row.
    Error,
    /// The first row.
    Nothing,
    /// The newest row.
    Deduplicate,
}

/// Rows that an updating operator emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Emission {
    /// The changes of the result, as the output's [`ChangelogMode`](crate::ChangelogMode) says.
    Changes,
    /// The result at the end of input. The output is append-only.
    Final,
}

/// One aggregate call.
#[derive(Debug, Clone)]
pub struct Aggregate {
    /// Function, arguments (over the node's input; in phase `Final` over the original input, for types only),
    /// DISTINCT and ordering.
    pub function: Arc<AggregateFunctionExpr>,
    /// Condition; rows for which it is not true are ignored.
    pub filter: Option<PhysicalExprRef>,
}

/// Phase of a two-phase aggregation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rows in, results out: the aggregation has one phase.
    Single,
    /// Rows in, partial states per key and slice out. Emits everything at a barrier and at a watermark, so it has no
    /// state in checkpoints.
    Local,
    /// Partial states in, results out. Input: the output of the matching `Local` (keys first).
    Final,
}

/// Joins two inputs by key, without windows. Output: the columns of the left input, then those of the right (for semi
/// and anti joins: left only), without the kinds of rows. The inputs are distributed by the columns of `on`.
///
/// Without `bounds`, this is a regular join: both inputs may be changelogs in retract mode, and the output is the
/// result over all rows so far. With `bounds`, it is an interval join: both inputs and the output are append-only, and
/// an outer join emits a row without a match when the watermark has passed its expiry.
#[derive(Debug, Clone)]
pub struct Join {
    /// Inner, left, right, full, left semi or left anti.
    pub join_type: JoinType,
    /// Pairs of columns (left index, right index) that must be equal. Empty: all rows have the same key.
    pub on: Vec<(usize, usize)>,
    /// True if NULL equals NULL in the columns of `on`; otherwise NULL equals nothing.
    pub nulls_are_equal: bool,
    /// Residual condition over left columns then right columns.
    pub filter: Option<PhysicalExprRef>,
    /// Bounds of the event times of joined rows.
    pub bounds: Option<TimeBounds>,
    /// Rows that are emitted.
    pub emission: Emission,
    /// Time after which a row of each input is forgotten; `None`: never.
    pub state_ttl: [Option<Duration>; 2],
}

/// Bounds of the event times of the rows that an interval join joins. The conditions of the join imply them.
#[derive(Debug, Clone)]
pub struct TimeBounds {
    /// Index of each input's event-time column. Rows with NULL there, and rows behind the watermark, are late.
    pub time: [usize; 2],
    /// Index of a timestamp column of each input: the latest event time of the other input's rows that a row can be
    /// joined with. NULL if there are none.
    pub expiry: [usize; 2],
    /// Greatest difference, in microseconds, between the expiry and the event time of a row of each input, if it is
    /// known.
    pub retention: [Option<i64>; 2],
    /// Microseconds by which the output's watermark is behind that of the inputs, because a row is emitted only when
    /// its match arrives or when it expires.
    pub watermark_delay: i64,
}

/// Joins two or more inputs by one key, without windows and without intermediate results: an inner join, as a chain of
/// [`Join`]s would compute it. Each input may be a changelog in retract mode. The inputs are distributed by their keys.
#[derive(Debug, Clone)]
pub struct MultiJoin {
    /// By input: indices of the columns that must equal those of the other inputs. NULL equals nothing.
    pub keys: Vec<Vec<usize>>,
    /// Residual condition over the columns of all inputs, without the kinds of rows.
    pub filter: Option<PhysicalExprRef>,
    /// Output columns: input, and index there.
    pub output: Vec<(usize, usize)>,
    /// Rows that are emitted.
    pub emission: Emission,
    /// Time after which a row is forgotten; `None`: never.
    pub state_ttl: Option<Duration>,
}

/// Joins each row of the left input with the rows of the right one that are valid at a time. Output: the columns of the
/// left input, then those of the right, without the kinds of rows. The inputs are distributed by the columns of `on`.
/// The left input and the output are append-only.
#[derive(Debug, Clone)]
pub struct TemporalJoin {
    /// True if left rows that are joined with no row are emitted, with NULLs (a left outer join).
    pub is_outer: bool,
    /// Pairs of columns (left index, right index) that must be equal. NULL equals nothing.
    pub on: Vec<(usize, usize)>,
    /// Residual condition over left columns then right columns.
    pub filter: Option<PhysicalExprRef>,
    /// The rows that are valid.
    pub time: VersionTime,
    /// `Final` in a batch, where the watermark reaches all times at once.
    pub emission: Emission,
}

/// The rows that a [`TemporalJoin`] joins a row with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionTime {
    /// The version of the right row at the event time of the left row: the one with the greatest event time that is not
    /// later. The right columns of `on` are a key of the right input. It has every change of each key, as a changelog
    /// in upsert or retract mode, or as append-only rows: each begins a version, which ends when the next one begins;
    /// a deletion is a version, too. Left rows wait until the watermark has reached their time. Left rows behind the
    /// watermark, and rows of both inputs without a time, are late. Right rows behind the watermark are versions for
    /// the left rows that are still to come.
    Event {
        /// Index of the left input's event-time column.
        left: usize,
        /// Index of the right input's event-time column.
        right: usize,
    },
    /// The rows that the right input has when a left row arrives. It may be a changelog in retract mode.
    Processing {
        /// True if left rows wait for the end of the right input.
        waits_for_end: bool,
    },
}

/// Joins rows of equal windows. Output: the joined columns of the left input, then those of the right (for semi and
/// anti joins: left only).
#[derive(Debug, Clone)]
pub struct WindowJoin {
    /// Type of the join.
    pub join_type: JoinType,
    /// Number of leading columns of each input that are joined and stored. The columns after them are for late rows
    /// only.
    pub joined_columns: [usize; 2],
    /// Columns that bound the window of a left row.
    pub left: WindowColumns,
    /// Columns that bound the window of a right row.
    pub right: WindowColumns,
    /// Pairs of columns (left index, right index) that must be equal, besides the window's bounds. NULL equals nothing.
    pub on: Vec<(usize, usize)>,
    /// Residual condition over left columns then right columns.
    pub filter: Option<PhysicalExprRef>,
}

/// Emits the first rows of each window and partition, by order. Output: the input's columns, then, if `emit_rank` is
/// set, the rank (`Int64` or as the schema says).
#[derive(Debug, Clone)]
pub struct WindowTopN {
    /// Columns that bound the window of a row.
    pub window: WindowColumns,
    /// Indices of the partition columns.
    pub partition: Vec<usize>,
    /// Order of the rows of a partition.
    pub order: Vec<PhysicalSortExpr>,
    /// Function that ranks the rows.
    pub function: RankFunction,
    /// First rank that is emitted, 1-based.
    pub from: u64,
    /// Last rank that is emitted.
    pub to: u64,
    /// True if the last of rows of equal order to come is the first of them; otherwise the first to come is. Only for
    /// a single rank (`to` is 1).
    pub prefers_last: bool,
    /// True if the rank is a column of the output.
    pub emit_rank: bool,
}

/// Emits the first rows of each partition, by order, and updates them as rows arrive. The input may be a changelog,
/// unless `is_by_arrival` is set. Output: the input's columns, then, if `emit_rank` is set, the rank (`Int64` or as the
/// schema says).
///
/// Rows of equal order are ranked in the order of their arrival if the input is append-only, and in the order of their
/// columns if it is a changelog.
#[derive(Debug, Clone)]
pub struct TopN {
    /// Indices of the partition columns. Empty: all rows are in one partition.
    pub partition: Vec<usize>,
    /// Order of the rows of a partition. Empty: all rows are of equal order.
    pub order: Vec<PhysicalSortExpr>,
    /// Function that ranks the rows.
    pub function: RankFunction,
    /// First rank that is emitted, 1-based.
    pub from: u64,
    /// Last rank that is emitted.
    pub to: u64,
    /// True if the last of rows of equal order to come is the first of them; otherwise the first to come is. Only for
    /// append-only input.
    pub prefers_last: bool,
    /// True if the query orders by the time of arrival, after `order`. The input is append-only then.
    pub is_by_arrival: bool,
    /// True if the rank is a column of the output.
    pub emit_rank: bool,
    /// Rows that are emitted.
    pub emission: Emission,
    /// Time after which the state of a partition that does not change is deleted; `None`: never.
    pub state_ttl: Option<Duration>,
}

impl TopN {
    /// Greatest last rank, unless the first rows to come are kept: the rows of a partition are rewritten as a whole.
    pub const RANK_MAX: u64 = 100_000;

    /// Returns true if the first rows to come are the first rows, so that the output is append-only if the input is.
    pub fn keeps_first_to_come(&self) -> bool {
        self.order.is_empty() && !self.prefers_last && self.function == RankFunction::RowNumber
    }

    /// Returns true if each rank is that of one row at most, and the output tells the ranks apart.
    pub fn is_identified_by_rank(&self) -> bool {
        self.function == RankFunction::RowNumber && (self.emit_rank || self.from == self.to)
    }
}

/// Emits all rows in their order at the end of the input, in one subtask. The input is append-only, and ends: only in a
/// batch. Output: the input's columns. Rows of equal order leave in the order of their arrival.
#[derive(Debug, Clone)]
pub struct Sort {
    /// Order of the rows.
    pub order: Vec<PhysicalSortExpr>,
}

/// Function that ranks the rows of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RankFunction {
    /// Rows have the numbers 1, 2, 3 and so on.
    RowNumber,
    /// The rank of a row is one more than the number of rows before it. Rows of equal order have one rank.
    Rank,
    /// The rank of a row is one more than the number of different orders before it.
    DenseRank,
}

impl RankFunction {
    /// Returns the name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::RowNumber => "ROW_NUMBER",
            Self::Rank => "RANK",
            Self::DenseRank => "DENSE_RANK",
        }
    }
}

/// Drops rows that compare worse than an earlier row of the same window and keys, where a downstream join keeps only
/// the extreme rows. The best values so far are not state: a row that passes twice does no harm. Output: the input's
/// columns.
#[derive(Debug, Clone)]
pub struct DynamicFilter {
    /// Index of a boolean column. Rows for which it is not true are dropped and are not compared with.
    pub condition: Option<usize>,
    /// Tumbling, hopping or cumulating windows.
    pub window: Window,
    /// Index of the event-time column. Rows with NULL there, and late ones, pass.
    pub time: usize,
    /// Indices of the key columns.
    pub keys: Vec<usize>,
    /// Index of the compared column: an integer, decimal or time. Rows with NULL there are dropped.
    pub value: usize,
    /// Direction of the comparison.
    pub extreme: Extreme,
}

/// Direction in which a [`DynamicFilter`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extreme {
    /// Greater values are kept.
    Greatest,
    /// Lesser values are kept.
    Least,
}

/// Writes a table. Input columns are the table's, in declared order.
#[derive(Debug, Clone)]
pub struct Sink {
    /// Table that is written.
    pub table: Arc<TableDefinition>,
    /// Handling of rows that cannot be encoded.
    pub on_error: ErrorPolicy,
}
