//! What stands between the two halves of the planner: the front end (SQL, YAML) makes a [`Pipeline`] of DataFusion
//! logical plans, the translation turns it into a job graph.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::{Column, DFSchemaRef};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use millstream_connectors::TableDefinition;

use crate::error::Location;
use crate::graph::ErrorPolicy;

/// A pipeline as the front end understood it: tables, named steps and what is inserted where.
#[derive(Debug, Clone)]
pub struct Pipeline {
    pub name: String,
    pub max_parallelism: u16,
    /// Source and sink tables, in declared order.
    pub tables: Vec<Arc<Table>>,
    /// Views and steps, in declared order. A reference to one inside a plan is a [`StepReference`] node.
    pub steps: Vec<Step>,
    pub inserts: Vec<Insert>,
}

/// A declared table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub name: String,
    pub definition: DefinitionRef,
    /// The columns as a query sees them, in declared order: physical, metadata or computed.
    pub columns: Vec<TableColumn>,
    pub watermark: Option<WatermarkDeclaration>,
    /// What becomes of records that do not decode.
    pub on_error: ErrorPolicy,
    pub location: Location,
}

/// A shared definition that compares by name (two tables of one pipeline never share one).
#[derive(Debug, Clone)]
pub struct DefinitionRef(pub Arc<TableDefinition>);

impl PartialEq for DefinitionRef {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

/// A column as queries see it.
#[derive(Debug, Clone, PartialEq)]
pub struct TableColumn {
    pub field: arrow_schema::FieldRef,
    /// `None`: read from the column of the same name of the definition's schema. `Some`: computed from those.
    pub computed: Option<Expr>,
    /// `PROCTIME()`: the processing-time attribute.
    pub is_proctime: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WatermarkDeclaration {
    pub column: String,
    /// Over the table's columns, of timestamp type.
    pub expression: Expr,
    pub idle_timeout: Duration,
    pub max_future: Option<Duration>,
}

/// A view or YAML step.
#[derive(Debug, Clone)]
pub struct Step {
    pub name: String,
    pub plan: LogicalPlan,
    pub on_error: ErrorPolicy,
    pub location: Location,
}

/// `INSERT INTO table plan`. The plan's columns are matched to the table's and cast already.
#[derive(Debug, Clone)]
pub struct Insert {
    pub table: Arc<Table>,
    pub input: InsertInput,
    pub on_error: ErrorPolicy,
    pub location: Location,
}

#[derive(Debug, Clone)]
pub enum InsertInput {
    Plan(LogicalPlan),
    /// The late rows of a step's window aggregates.
    Late {
        step: String,
    },
    /// The dead letters of a step or source.
    DeadLetters {
        name: String,
    },
}

/// A table of the catalog inside a plan: the source of DataFusion `TableScan`s is a `TableSource` that downcasts to
/// this.
#[derive(Debug, Clone)]
pub struct CatalogTable {
    pub table: Arc<Table>,
    pub schema: arrow_schema::SchemaRef,
}

/// A named step used as a relation. The translation computes it once however often it is used.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct StepReference {
    pub name: String,
    pub plan: Arc<LogicalPlan>,
}

/// A window table function: its input's columns, then `window_start`, `window_end`, `window_time`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WindowTableFunction {
    pub input: LogicalPlan,
    pub window: WindowFunction,
    /// `DESCRIPTOR(column)`.
    pub time_column: Column,
    /// `SESSION(TABLE t PARTITION BY keys, ...)`: rows of different keys never share a session. Empty for others.
    pub partition_by: Vec<Column>,
    pub schema: DFSchemaRef,
}

/// The function and its intervals, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub enum WindowFunction {
    Tumble {
        size: i64,
        offset: i64,
    },
    Hop {
        size: i64,
        slide: i64,
        offset: i64,
    },
    Cumulate {
        size: i64,
        step: i64,
        offset: i64,
    },
    /// `SESSION(TABLE t [PARTITION BY keys], DESCRIPTOR(ts), gap)`.
    Session {
        gap: i64,
    },
}

impl PartialOrd for WindowTableFunction {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.window.partial_cmp(&other.window)
    }
}

impl UserDefinedLogicalNodeCore for WindowTableFunction {
    fn name(&self) -> &str {
        "WindowTableFunction"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.time_column)
            .chain(&self.partition_by)
            .cloned()
            .map(Expr::Column)
            .collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WindowTableFunction: {:?} on {}", self.window, self.time_column)
    }

    fn with_exprs_and_inputs(
        &self,
        _exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> datafusion::error::Result<Self> {
        Ok(Self {
            input: inputs.remove(0),
            ..self.clone()
        })
    }
}
