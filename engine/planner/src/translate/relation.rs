//! A relation on its way into the graph: nodes that exist already, and what is still to be done to their rows.
//!
//! Projections and filters cost a node each only where they must: a [`Relation`] carries them as pending expressions
//! over its nodes' outputs, so that adjacent ones melt into one `Calc`. A window function is pending too, until it is
//! known whether an aggregate takes it in or whether rows must be marked with their windows. What does not exist yet
//! (the bounds of a pending window, a pending rank) is spelt as a column with an index from [`VIRTUAL`] on.

use std::sync::Arc;

use arrow_schema::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr, ScalarFunctionExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;

use millstream_graph::{NodeIndex, Stream, Window, WindowColumns};

/// First index of columns that no node has made yet: window start, end and time, then the rank.
pub(super) const VIRTUAL: usize = usize::MAX - 15;
pub(super) const VIRTUAL_RANK: usize = VIRTUAL + 3;

/// Index into the translation's list of windows.
pub(super) type WindowId = usize;

#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// More than one after `UNION ALL`. All have the same columns.
    pub branches: Vec<Branch>,
    pub columns: Vec<ColumnInfo>,
    pub pending: Pending,
}

/// One node's rows and what is to be done with them.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub node: NodeIndex,
    /// Over the node's output.
    pub filter: Option<PhysicalExprRef>,
    /// The relation's columns, over the node's output.
    pub exprs: Vec<PhysicalExprRef>,
    /// What a pending window needs besides the columns: its time (event time only), the session keys, then the whole
    /// input row where late rows are wanted. Once rows are marked with their windows: that input row alone.
    pub carried: Vec<PhysicalExprRef>,
}

#[derive(Debug, Clone)]
pub(super) struct ColumnInfo {
    pub name: String,
    pub data_type: DataType,
    pub attribute: Attribute,
    /// Table and column it is read from, for messages.
    pub origin: Option<(String, String)>,
}

/// What a column means to time.
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
    /// `window_time`: end - 1 ms.
    Time,
}

impl Bound {
    pub const ALL: [Bound; 3] = [Bound::Start, Bound::End, Bound::Time];

    pub fn virtual_index(self) -> usize {
        VIRTUAL + self as usize
    }
}

/// A window as the translation knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct WindowInfo {
    pub window: Window,
    /// It follows the clock, not the watermark: nothing downstream may wait for its end.
    pub processing_time: bool,
}

impl WindowInfo {
    /// Whether rows of equal start (and key) have equal ends.
    pub fn start_determines_end(&self) -> bool {
        !matches!(self.window, Window::Cumulate { .. })
    }
}

/// What is not in the graph yet.
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
    /// Event time is carried by the branches; processing time needs no column.
    pub event_time: bool,
    /// How many session keys the branches carry.
    pub key_count: usize,
    /// The function's input columns, carried by the branches, where late rows are wanted; else none.
    pub late: Vec<ColumnInfo>,
    /// A condition stands above the function. For sessions that is not the same as one below.
    pub filtered: bool,
}

/// A `ROW_NUMBER()` whose bounds are still to come. All indices are over the one branch's node.
#[derive(Debug, Clone)]
pub(super) struct PendingRank {
    pub window: WindowColumns,
    pub partition: Vec<usize>,
    pub order: Vec<PhysicalSortExpr>,
    pub rank_type: DataType,
    pub rank_name: String,
    pub from: u64,
    pub to: Option<u64>,
}

impl Relation {
    /// The first column with this meaning.
    pub fn column_with(&self, attribute: Attribute) -> Option<usize> {
        self.columns.iter().position(|column| column.attribute == attribute)
    }
}

impl PendingWindow {
    /// The session keys among what a branch carries.
    pub fn keys<'b>(&self, branch: &'b Branch) -> &'b [PhysicalExprRef] {
        let first = usize::from(self.event_time);
        branch.carried.get(first..first + self.key_count).unwrap_or_default()
    }

    /// The input row among what a branch carries.
    pub fn late_row<'b>(&self, branch: &'b Branch) -> &'b [PhysicalExprRef] {
        let first = usize::from(self.event_time) + self.key_count;
        branch.carried.get(first..).unwrap_or_default()
    }
}

impl Branch {
    /// An expression over the relation's columns, as one over the node's.
    pub fn compose(&self, expr: &PhysicalExprRef) -> Result<PhysicalExprRef> {
        substitute(expr, &|index| self.exprs.get(index).cloned())
    }

    /// Whether `exprs` would compute something again that this branch has yet to compute once.
    pub fn would_repeat<'e>(&self, exprs: impl IntoIterator<Item = &'e PhysicalExprRef>) -> bool {
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

    /// Whether `exprs` read what gives another value each time it is computed, beside a column that has its value too.
    pub fn reads_volatile<'e>(&self, exprs: impl IntoIterator<Item = &'e PhysicalExprRef>) -> bool {
        let mut read = exprs.into_iter().flat_map(columns_of);
        read.any(|index| self.exprs.get(index).is_some_and(is_volatile))
    }
}

/// The column of a schema as an expression.
pub(super) fn column(schema: &Schema, index: usize) -> PhysicalExprRef {
    Arc::new(Column::new(schema.field(index).name(), index))
}

pub(super) fn all_columns(schema: &Schema, count: usize) -> Vec<PhysicalExprRef> {
    (0..count).map(|index| column(schema, index)).collect()
}

/// The index of a bare column.
pub(super) fn bare_column(expr: &PhysicalExprRef) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

/// Columns an expression reads, once per occurrence.
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

/// Replaces columns; those for which `replacement` has nothing stay.
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

/// Columns, literals and fields of columns: nothing is lost by evaluating them twice.
fn is_cheap(expr: &PhysicalExprRef) -> bool {
    if expr.downcast_ref::<Column>().is_some() || expr.downcast_ref::<Literal>().is_some() {
        return true;
    }
    is_field_access(expr)
}

/// A field of a column, or of a field of a column.
pub(super) fn is_field_access(expr: &PhysicalExprRef) -> bool {
    expr.downcast_ref::<ScalarFunctionExpr>()
        .is_some_and(|function| function.name() == "get_field" && function.args().iter().all(is_cheap))
}

pub(super) fn has_field_access(expr: &PhysicalExprRef) -> bool {
    expr.exists(|expr| Ok(is_field_access(expr)))
        .expect("the closure never fails")
}

/// What a node with these output columns carries.
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
        schema,
        event_time: position(Attribute::EventTime).or_else(window_time),
        window,
    }
}
