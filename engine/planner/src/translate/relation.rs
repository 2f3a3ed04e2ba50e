//! Intermediate results of the translation: existing nodes, and the pending operations on their rows.
//!
//! A [`Relation`] holds projections and filters as pending expressions over the outputs of its nodes, so that adjacent
//! ones become one `Calc`. A window function stays pending until it is known whether an aggregate fuses it or the rows
//! must be assigned to windows by a node. Columns that do not exist yet (the bounds of a pending window, a pending
//! rank) are virtual: their indices start at [`VIRTUAL`].

use std::sync::Arc;

use arrow_schema::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr, ScalarFunctionExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use millstream_graph::{ChangelogMode, NodeIndex, RankFunction, Stream, TopN, Window, WindowColumns};

/// First index of virtual columns: window start, end and time, then the rank.
pub(super) const VIRTUAL: usize = usize::MAX - 15;
pub(super) const VIRTUAL_RANK: usize = VIRTUAL + 3;

/// Index into the list of windows in the context of the translation.
pub(super) type WindowId = usize;

#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// Inputs of the relation, several after `UNION ALL`. All have the same columns.
    pub branches: Vec<Branch>,
    pub columns: Vec<ColumnInfo>,
    pub pending: Pending,
}

/// The rows of one node, with pending operations.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub node: NodeIndex,
    /// Pending filter, over the node's output.
    pub filter: Option<PhysicalExprRef>,
    /// Columns of the relation, over the node's output.
    pub exprs: Vec<PhysicalExprRef>,
    /// Expressions that a pending window needs besides the columns: its time (event time only), the session keys, then
    /// the whole input row if late rows are written. After the window is assigned: that input row alone.
    pub carried: Vec<PhysicalExprRef>,
}

#[derive(Debug, Clone)]
pub(super) struct ColumnInfo {
    pub name: String,
    pub data_type: DataType,
    pub attribute: Attribute,
    /// Table and column that the column is read from, for messages.
    pub origin: Option<(String, String)>,
}

/// The time attribute of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    None,
    EventTime,
    ProcessingTime,
    Window(WindowId, Bound),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Start,
    End,
    /// `window_time`, which is the end less 1 ms.
    Time,
    /// `window_time` of a window whose bounds are local times: the instant of the end less 1 ms.
    Instant,
}

impl Bound {
    /// The columns of a `WindowAssign` node.
    pub(super) const ALL: [Bound; 3] = [Bound::Start, Bound::End, Bound::Time];

    pub(super) fn virtual_index(self) -> usize {
        VIRTUAL + self as usize
    }
}

/// A window that rows belong to.
#[derive(Debug, Clone)]
pub(super) struct WindowInfo {
    pub window: Window,
    /// Time zone of the bounds if they are local times; see [`local_time`](super::local_time).
    pub zone: Option<Arc<str>>,
    /// True for windows of processing time: no operator downstream may wait for their end.
    pub processing_time: bool,
}

impl WindowInfo {
    /// Returns true if rows of equal start (and key) have equal ends.
    pub(super) fn start_determines_end(&self) -> bool {
        !matches!(self.window, Window::Cumulate { .. })
    }
}

/// The part of a relation that is not in the graph yet.
#[derive(Debug, Clone)]
pub(super) enum Pending {
    Nothing,
    Window(PendingWindow),
    Rank(PendingRank),
}

#[derive(Debug, Clone)]
pub(super) struct PendingWindow {
    pub id: WindowId,
    pub window: Window,
    /// True if the branches carry an event time. Processing time needs no column.
    pub event_time: bool,
    /// Number of session keys that the branches carry.
    pub key_count: usize,
    /// Input columns of the function, which the branches carry, if late rows are written; else empty.
    pub late: Vec<ColumnInfo>,
}

/// A `ROW_NUMBER()` or the like whose bounds are not all known yet. All indices refer to the node of the branch.
#[derive(Debug, Clone)]
pub(super) struct PendingRank {
    pub function: RankFunction,
    /// Columns that bound the window of a row; `None` if rows are ranked without windows.
    pub window: Option<WindowColumns>,
    /// Order by the time of arrival, after `order`, if there is one.
    pub arrival: Option<Arrival>,
    pub partition: Vec<usize>,
    pub order: Vec<PhysicalSortExpr>,
    pub rank_type: DataType,
    pub rank_name: String,
    pub from: u64,
    pub to: Option<u64>,
}

/// An order of rows by the time of their arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    FirstToCome,
    LastToCome,
}

/// Returns the error of a rank that is too great.
pub(super) fn too_many_ranks(to: u64) -> String {
    format!(
        "the first {to} rows are asked for, but at most {} rows of a partition are ranked: write all rows to a table, and \
         sort them there",
        TopN::RANK_MAX
    )
}

impl Relation {
    /// Returns the index of the first column with this attribute.
    pub(super) fn column_with(&self, attribute: Attribute) -> Option<usize> {
        self.columns.iter().position(|column| column.attribute == attribute)
    }
}

impl PendingWindow {
    /// Returns the session keys that a branch carries.
    pub(super) fn keys<'b>(&self, branch: &'b Branch) -> &'b [PhysicalExprRef] {
        let first = usize::from(self.event_time);
        branch.carried.get(first..first + self.key_count).unwrap_or_default()
    }

    /// Returns the input row that a branch carries.
    pub(super) fn late_row<'b>(&self, branch: &'b Branch) -> &'b [PhysicalExprRef] {
        let first = usize::from(self.event_time) + self.key_count;
        branch.carried.get(first..).unwrap_or_default()
    }
}

impl Branch {
    /// Rewrites an expression over the relation's columns into one over the node's output.
    pub(super) fn compose(&self, expr: &PhysicalExprRef) -> Result<PhysicalExprRef> {
        substitute(expr, &|index| self.exprs.get(index).cloned())
    }

    /// Returns true if `exprs` would evaluate an expensive pending column more than once.
    pub(super) fn would_repeat<'e>(&self, exprs: impl IntoIterator<Item = &'e PhysicalExprRef>) -> bool {
        let mut uses = vec![0usize; self.exprs.len()];
        for expr in exprs {
            for index in columns_of(expr) {
                if let Some(count) = uses.get_mut(index) {
                    *count += 1;
                }
            }
        }
        uses.iter()
            .zip(&self.exprs)
            .any(|(&count, expr)| count > 1 && !is_cheap(expr))
    }

    /// Returns true if `exprs` read a volatile pending column, which would have another value in the column itself.
    pub(super) fn reads_volatile<'e>(&self, exprs: impl IntoIterator<Item = &'e PhysicalExprRef>) -> bool {
        let mut read = exprs.into_iter().flat_map(columns_of);
        read.any(|index| self.exprs.get(index).is_some_and(is_volatile))
    }
}

/// Returns a column of a schema as an expression.
pub(super) fn column(schema: &Schema, index: usize) -> PhysicalExprRef {
    Arc::new(Column::new(schema.field(index).name(), index))
}

pub(super) fn all_columns(schema: &Schema, count: usize) -> Vec<PhysicalExprRef> {
    (0..count).map(|index| column(schema, index)).collect()
}

/// Returns the index of an expression that is a column.
pub(super) fn bare_column(expr: &PhysicalExprRef) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

/// Returns the columns that an expression reads, once per occurrence.
pub(super) fn columns_of(expr: &PhysicalExprRef) -> Vec<usize> {
    let mut found = Vec::new();
    expr.apply(|expr| {
        if let Some(index) = bare_column(expr) {
            found.push(index);
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .expect("the closure never fails");
    found
}

pub(super) fn is_virtual(expr: &PhysicalExprRef) -> bool {
    columns_of(expr).iter().any(|&index| index >= VIRTUAL)
}

/// Replaces the columns of an expression, except those for which `replacement` returns `None`.
pub(super) fn substitute(
    expr: &PhysicalExprRef,
    replacement: &dyn Fn(usize) -> Option<PhysicalExprRef>,
) -> Result<PhysicalExprRef> {
    let transformed = Arc::clone(expr).transform_up(|expr| {
        Ok(match bare_column(&expr).and_then(replacement) {
            Some(new) => Transformed::yes(new),
            None => Transformed::no(expr),
        })
    })?;
    Ok(transformed.data)
}

/// Returns true for columns, literals and fields of columns, which may be evaluated twice.
fn is_cheap(expr: &PhysicalExprRef) -> bool {
    if expr.downcast_ref::<Column>().is_some() || expr.downcast_ref::<Literal>().is_some() {
        return true;
    }
    is_field_access(expr)
}

/// Returns true for a field of a column, or of a field of a column.
pub(super) fn is_field_access(expr: &PhysicalExprRef) -> bool {
    expr.downcast_ref::<ScalarFunctionExpr>()
        .is_some_and(|function| function.name() == "get_field" && function.args().iter().all(is_cheap))
}

pub(super) fn has_field_access(expr: &PhysicalExprRef) -> bool {
    expr.exists(|expr| Ok(is_field_access(expr)))
        .expect("the closure never fails")
}

/// Returns the `window_time` of a window with this end: its last millisecond.
pub(super) fn window_time(end: &PhysicalExprRef) -> PhysicalExprRef {
    let millisecond = ScalarValue::new_interval_mdn(0, 0, 1_000_000);
    Arc::new(BinaryExpr::new(
        end.clone(),
        Operator::Minus,
        Arc::new(Literal::new(millisecond)),
    ))
}

/// Returns the stream of a node with these output columns.
pub(super) fn stream(schema: Arc<Schema>, columns: &[ColumnInfo]) -> Stream {
    let position = |attribute: Attribute| columns.iter().position(|column| column.attribute == attribute);
    let window = columns.iter().find_map(|column| match column.attribute {
        Attribute::Window(id, _) => {
            let start = position(Attribute::Window(id, Bound::Start))?;
            let end = position(Attribute::Window(id, Bound::End))?;
            Some(WindowColumns { start, end })
        }
        _ => None,
    });
    let window_time = || {
        columns
            .iter()
            .position(|column| matches!(column.attribute, Attribute::Window(_, Bound::Time)))
    };
    Stream {
        event_time: position(Attribute::EventTime).or_else(window_time),
        window,
        ..plain_stream(schema)
    }
}

/// Returns the stream of a node without event time and windows. Whether it is a changelog is determined once the graph
/// is complete ([`super::changelog`]).
pub(super) fn plain_stream(schema: Arc<Schema>) -> Stream {
    Stream {
        schema,
        event_time: None,
        window: None,
        changelog: ChangelogMode::Append,
        upsert_keys: Vec::new(),
    }
}

/// Returns the columns of a union of two relations, with the attributes that both have.
pub(super) fn common_columns(
    windows: &[WindowInfo],
    mut left: Vec<ColumnInfo>,
    right: &[ColumnInfo],
) -> Vec<ColumnInfo> {
    for (column, other) in left.iter_mut().zip(right) {
        let same = match (column.attribute, other.attribute) {
            (Attribute::Window(a, bound), Attribute::Window(b, other)) => {
                bound == other
                    && windows[a].window == windows[b].window
                    && windows[a].zone == windows[b].zone
                    && windows[a].processing_time == windows[b].processing_time
            }
            (a, b) => a == b,
        };
        if !same {
            column.attribute = Attribute::None;
        }
        if column.origin != other.origin {
            column.origin = None;
        }
    }
    left
}
