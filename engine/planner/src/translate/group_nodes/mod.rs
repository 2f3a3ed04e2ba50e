//! The nodes of a `GROUP BY` over rows that are ready for it: a `Calc` per input ([`input`]), the aggregate, and the
//! exchange between them ([`nodes`]).

use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr};

use super::relation::{ColumnInfo, WindowId};

mod input;
mod nodes;

pub(super) use input::{AggregateInput, aggregate_inputs};
pub(super) use nodes::{aggregate_nodes, key_fields, main_edge, output_fields};

/// An aggregate call over the relation's columns.
pub(super) struct Call {
    pub function: AggregateFunction,
    pub args: Vec<PhysicalExprRef>,
    pub filter: Option<PhysicalExprRef>,
    pub order: Vec<PhysicalSortExpr>,
}

/// A group key over the relation's columns.
pub(super) struct Key {
    pub expr: PhysicalExprRef,
    pub info: ColumnInfo,
}

/// The rows that an aggregate combines, besides those of equal keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grouping {
    /// Rows of one window.
    Window {
        id: WindowId,
        /// True if the aggregate takes a pending window in.
        is_fused: bool,
        two_phase: bool,
    },
    /// All rows: the result is updated with each.
    All,
}

impl Grouping {
    pub(super) fn window(self) -> Option<WindowId> {
        match self {
            Self::Window { id, .. } => Some(id),
            Self::All => None,
        }
    }

    fn is_two_phase(self) -> bool {
        matches!(self, Self::Window { two_phase: true, .. })
    }
}
