//! The sides of a join: their rows, with the columns that the join computes.

use std::sync::Arc;

use arrow_schema::{Field, Schema};
use datafusion::physical_expr::PhysicalExprRef;
use millstream_graph::NodeIndex;

use crate::translate::calc::{Columns, calc};
use crate::translate::context::{Context, Result};
use crate::translate::dynamic_filter::JoinInput;
use crate::translate::pending::{materialize_if_volatile, resolve};
use crate::translate::relation::{Attribute, ColumnInfo, Pending, Relation, WindowId, bare_column};

/// One side of a join.
pub(super) struct Side {
    pub relation: Relation,
    /// Expressions that must equal those of the other side, each with its time attribute.
    pub keys: Vec<(PhysicalExprRef, Attribute)>,
    /// Window that the rows were assigned to for this join.
    window: Option<WindowId>,
    /// Columns of late rows of a window that the branches carry.
    late: Vec<ColumnInfo>,
    /// Columns of late rows of an interval join that the branches carry.
    complete: Vec<ColumnInfo>,
}

/// One side of a join as nodes, whose first columns are the plan's, followed by those that the join computes.
pub(super) struct PreparedSide {
    pub nodes: Vec<NodeIndex>,
    pub columns: Vec<ColumnInfo>,
    pub schema: Arc<Schema>,
    /// Number of the plan's columns.
    pub plan_width: usize,
    /// Position of each key.
    pub keys: Vec<usize>,
    /// Time attribute of each key.
    pub attributes: Vec<Attribute>,
    /// Position of the time at which rows expire, for an interval join.
    pub expiry: Option<usize>,
    /// Number of leading columns that are joined; the columns after them are for late rows only.
    pub joined_width: usize,
    /// Columns of late rows with their positions, if late rows are written.
    pub late: Vec<(ColumnInfo, usize)>,
    /// Window that the rows were assigned to for this join.
    pub window: Option<WindowId>,
}

impl Side {
    pub(super) fn new(input: JoinInput, complete: Option<Vec<ColumnInfo>>) -> Self {
        let (window, late) = match &input.relation.pending {
            Pending::Window(pending) => (Some(pending.id), pending.late.clone()),
            Pending::Rank(_) | Pending::Nothing => (None, Vec::new()),
        };
        let mut side = Self {
            relation: input.relation,
            keys: Vec::new(),
            window,
            late,
            complete: complete.unwrap_or_default(),
        };
        input.on.into_iter().for_each(|key| side.push_key(key));
        side
    }

    /// Adds an expression that must equal one of the other side.
    pub(super) fn push_key(&mut self, key: PhysicalExprRef) {
        let attribute = bare_column(&key).map_or(Attribute::None, |index| self.relation.columns[index].attribute);
        self.keys.push((key, attribute));
    }

    /// Returns the nodes of a side of a window join, which have the columns of late rows.
    pub(super) fn prepare_windowed(self, cx: &mut Context<'_>) -> Result<PreparedSide> {
        self.nodes(cx, None)
    }

    /// Returns the nodes of a side of an interval join, which have the time of expiry and the columns of late rows.
    pub(super) fn prepare_timed(mut self, cx: &mut Context<'_>, expiry: PhysicalExprRef) -> Result<PreparedSide> {
        self.window = None;
        self.late = std::mem::take(&mut self.complete);
        let mut side = self.nodes(cx, Some(expiry))?;
        side.joined_width = side.columns.len();
        Ok(side)
    }

    /// Returns the nodes of a side of a regular join.
    pub(super) fn prepare(mut self, cx: &mut Context<'_>) -> Result<PreparedSide> {
        self.window = None;
        self.late.clear();
        self.nodes(cx, None)
    }

    fn nodes(self, cx: &mut Context<'_>, expiry: Option<PhysicalExprRef>) -> Result<PreparedSide> {
        let Self {
            relation,
            keys,
            window,
            late,
            complete: _,
        } = self;
        let relation = resolve(cx, relation)?;
        let (keys, attributes): (Vec<PhysicalExprRef>, Vec<Attribute>) = keys.into_iter().unzip();
        let computed = keys.iter().chain(&expiry).filter(|expr| bare_column(expr).is_none());
        let computed: Vec<PhysicalExprRef> = computed.cloned().collect();
        let relation = materialize_if_volatile(cx, relation, &computed)?;
        let plan_width = relation.columns.len();
        let mut nodes = Vec::new();
        let mut made: Option<(Columns, Vec<usize>, Option<usize>)> = None;
        for branch in &relation.branches {
            let mut columns = Columns::default();
            // Equal expressions are not merged: the columns of all branches must have the same positions.
            for (expr, info) in branch.exprs.iter().zip(&relation.columns) {
                columns.exprs.push(expr.clone());
                columns.infos.push(info.clone());
            }
            let position = |expr: &PhysicalExprRef, name: &str, columns: &mut Columns| -> Result<usize> {
                if let Some(index) = bare_column(expr) {
                    return Ok(index);
                }
                let expr = cx.located(branch.compose(expr))?;
                let data_type = cx.located(expr.data_type(&cx.schema(branch.node)))?;
                columns.exprs.push(expr);
                columns.infos.push(ColumnInfo {
                    name: format!("${name}{}", columns.infos.len()),
                    data_type,
                    attribute: Attribute::None,
                    origin: None,
                });
                Ok(columns.exprs.len() - 1)
            };
            let mut key_positions = Vec::with_capacity(keys.len());
            for key in &keys {
                key_positions.push(position(key, "key", &mut columns)?);
            }
            let expiry = expiry.as_ref().map(|expiry| position(expiry, "expiry", &mut columns));
            let expiry = expiry.transpose()?;
            for (place, (expr, info)) in branch.carried.iter().zip(&late).enumerate() {
                columns.exprs.push(expr.clone());
                columns.infos.push(ColumnInfo {
                    name: format!("$late{place}"),
                    attribute: Attribute::None,
                    ..info.clone()
                });
            }
            nodes.push(calc(cx, branch, &columns.exprs, &columns.infos, false)?);
            made = Some((columns, key_positions, expiry));
        }
        let (columns, keys, expiry) = made.ok_or_else(|| cx.error("a join with nothing"))?;
        let joined_width = columns.infos.len() - late.len();
        let late = match late.is_empty() {
            false => late.into_iter().zip(joined_width..).collect(),
            // Rows that carry their window already are written as they are.
            true if cx.is_late_output_used() => relation.columns.iter().cloned().zip(0..).collect(),
            true => Vec::new(),
        };
        Ok(PreparedSide {
            joined_width,
            late,
            window,
            schema: cx.schema(nodes[0]),
            nodes,
            columns: columns.infos,
            plan_width,
            keys,
            attributes,
            expiry,
        })
    }
}

impl PreparedSide {
    /// Returns the joined columns. All are nullable, as an outer join fills them with NULL.
    pub(super) fn nullable(&self) -> Vec<Field> {
        let fields = self.schema.fields().iter().take(self.joined_width);
        fields.map(|field| field.as_ref().clone().with_nullable(true)).collect()
    }
}
