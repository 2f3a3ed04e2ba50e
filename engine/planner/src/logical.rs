//! The interface between the two halves of the planner: the front end (SQL, YAML) makes a [`Pipeline`] of DataFusion
//! logical plans, which the translation turns into a job graph.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{DataType, Field, SchemaRef, TimeUnit};
use datafusion::common::{Column, DFSchema, DFSchemaRef, ExprSchema, Result, TableReference, plan_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, TableSource, UserDefinedLogicalNodeCore};
use millstream_connectors::TableDefinition;
use millstream_graph::{ConflictStrategy, ErrorPolicy};

use crate::error::Location;

mod side_output;
mod unnest;

pub(crate) use side_output::{SideOutputKind, SideOutputScan, side_output_fields, side_outputs_read};
pub(crate) use unnest::{Unnest, element_fields};

/// A checked pipeline: tables, named steps and inserts.
#[derive(Debug, Clone)]
pub struct Pipeline {
    pub name: String,
    pub max_parallelism: u16,
    /// Source and sink tables, in declared order.
    pub tables: Vec<Arc<Table>>,
    /// Views and steps, in declared order. A reference to one inside a plan is a [`StepReference`] node.
    pub steps: Vec<Step>,
    pub inserts: Vec<Insert>,
    /// Time after which state that does not change is deleted, of operators without windows; `None`: never.
    pub state_ttl: Option<Duration>,
    /// Interval of consistency points; `None`: operators emit changes at once.
    pub consistency_interval: Option<Duration>,
    /// Phases of aggregates.
    pub agg_phases: AggregatePhases,
    /// True if an `INSERT` needs no `ON CONFLICT` where several rows of its query can have one primary key of its
    /// table: the newest row is kept.
    pub allows_conflicts: bool,
}

/// `table.optimizer.agg-phase-strategy`: the phases of aggregates. A local one runs before the exchange by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AggregatePhases {
    /// Two for windows and in a batch, otherwise one.
    #[default]
    Auto,
    /// One.
    One,
    /// Two, where the functions have partial states of constant size.
    Two,
}

/// A declared table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub name: String,
    pub definition: DefinitionRef,
    /// Columns of the table in queries, in declared order: physical, metadata or computed.
    pub columns: Vec<TableColumn>,
    pub watermark: Option<WatermarkDeclaration>,
    /// Handling of records that do not decode.
    pub on_error: ErrorPolicy,
    pub location: Location,
}

/// A shared table definition that is compared by name: tables of one pipeline have different names.
#[derive(Debug, Clone)]
pub struct DefinitionRef(pub Arc<TableDefinition>);

impl PartialEq for DefinitionRef {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

/// A column of a table in queries.
#[derive(Debug, Clone, PartialEq)]
pub struct TableColumn {
    pub field: arrow_schema::FieldRef,
    /// Expression of a computed column, over the stored columns; `None` for a column of the definition's schema.
    pub computed: Option<Expr>,
    /// True for the processing-time attribute, `PROCTIME()`.
    pub is_proctime: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WatermarkDeclaration {
    pub column: String,
    /// Watermark that a row allows: an expression of timestamp type over the table's columns.
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

/// Rows of a query. The plan's columns are matched to the table's and cast.
#[derive(Debug, Clone)]
pub struct Insert {
    pub table: Arc<Table>,
    pub input: InsertInput,
    pub on_error: ErrorPolicy,
    pub on_conflict: Option<ConflictStrategy>,
    pub location: Location,
}

#[derive(Debug, Clone)]
pub enum InsertInput {
    Plan(LogicalPlan),
    /// Late rows of a step.
    Late {
        step: String,
        of: LateRows,
    },
    /// Dead letters of a step or source.
    DeadLetters {
        name: String,
    },
}

/// The operator of a step whose late rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LateRows {
    Aggregate,
    /// The join; late rows of its left or right input.
    Join(JoinSide),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JoinSide {
    Left,
    Right,
}

/// A table of the catalog inside a plan: the source of a DataFusion `TableScan` downcasts to this type.
#[derive(Debug, Clone)]
pub struct CatalogTable {
    pub table: Arc<Table>,
    pub schema: SchemaRef,
}

impl CatalogTable {
    pub fn new(table: Arc<Table>) -> Self {
        let fields: Vec<_> = table.columns.iter().map(|column| column.field.clone()).collect();
        Self {
            table,
            schema: Arc::new(arrow_schema::Schema::new(fields)),
        }
    }
}

impl TableSource for CatalogTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// A reference to a step. A shared step is translated once, however often it is referred to.
///
/// Returns a leaf node for the optimiser. Its schema is that of the plan, with qualifiers, so that the translation can
/// replace it by the plan. [`StepReference::relation`] adds the step's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct StepReference {
    pub name: String,
    pub plan: Arc<LogicalPlan>,
}

impl StepReference {
    /// Returns the relation of a reference: the step, under its name.
    pub fn relation(name: &str, plan: Arc<LogicalPlan>) -> Result<LogicalPlan> {
        let reference = LogicalPlan::Extension(Extension {
            node: Arc::new(Self {
                name: name.to_owned(),
                plan,
            }),
        });
        let alias = datafusion::logical_expr::SubqueryAlias::try_new(Arc::new(reference), TableReference::bare(name))?;
        Ok(LogicalPlan::SubqueryAlias(alias))
    }
}

impl UserDefinedLogicalNodeCore for StepReference {
    fn name(&self) -> &str {
        "StepReference"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        self.plan.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StepReference: {}", self.name)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, _inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(self.clone())
    }
}

/// Rows that the operator above keeps for this time. It replaces the pipeline's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct StateTtl {
    pub input: LogicalPlan,
    /// Time to live in milliseconds; 0: for ever.
    pub ttl_ms: u64,
}

impl StateTtl {
    /// Returns the time to live that a hint gives the rows of a plan: `Some(None)` is for ever, `None` stands for no
    /// hint.
    pub fn of_rows(plan: &LogicalPlan) -> Option<Option<Duration>> {
        match plan {
            LogicalPlan::Projection(projection) => Self::of_rows(&projection.input),
            LogicalPlan::Filter(filter) => Self::of_rows(&filter.input),
            LogicalPlan::SubqueryAlias(alias) => Self::of_rows(&alias.input),
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_any().downcast_ref::<Self>()?;
                Some(Some(Duration::from_millis(node.ttl_ms)).filter(|ttl| !ttl.is_zero()))
            }
            _ => None,
        }
    }
}

impl UserDefinedLogicalNodeCore for StateTtl {
    fn name(&self) -> &str {
        "StateTtl"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::new()
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "StateTtl: {} ms", self.ttl_ms)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Ok(Self { input, ..self.clone() }),
            _ => plan_err!("rows with a time to live have one input"),
        }
    }
}

/// A window table function. Its columns are those of the input, then `window_start`, `window_end`, `window_time`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WindowTableFunction {
    pub input: LogicalPlan,
    pub window: WindowFunction,
    /// Time column: `DESCRIPTOR(column)`.
    pub time_column: Column,
    /// Keys of sessions, as in `SESSION(TABLE t PARTITION BY keys, ...)`. Empty for other functions.
    pub partition_by: Vec<Column>,
    /// Time zone of the windows if the time column is a `TIMESTAMP_LTZ` and the zone is not UTC: the bounds of windows
    /// are local times.
    pub zone: Option<Arc<str>>,
    /// Fields of the input, with their qualifiers, then the three window columns.
    pub schema: DFSchemaRef,
    /// True if the optimiser must keep every input column, because the step's late rows are written.
    pub keep_all_columns: bool,
}

/// Names of the columns a window table function appends.
pub const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// A window function with its intervals, in microseconds.
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

impl WindowTableFunction {
    /// Returns the function over `input`. The window columns are unqualified: `window_start` and `window_end` are
    /// `TIMESTAMP`, `window_time` has the type of the time column, as in Flink.
    pub fn try_new(
        input: LogicalPlan,
        window: WindowFunction,
        time_column: Column,
        partition_by: Vec<Column>,
    ) -> Result<Self> {
        let plain = DataType::Timestamp(TimeUnit::Microsecond, None);
        let time_type = input.schema().field_from_column(&time_column)?.data_type().clone();
        if !matches!(time_type, DataType::Timestamp(TimeUnit::Microsecond, _)) {
            return plan_err!(
                "window time column `{}` has type {time_type}; it must be a TIMESTAMP or TIMESTAMP_LTZ",
                time_column.name
            );
        }
        let types = [plain.clone(), plain, time_type];
        let window_fields = WINDOW_COLUMNS
            .iter()
            .zip(types)
            .map(|(name, data_type)| (None, Arc::new(Field::new(*name, data_type, true))))
            .collect();
        let schema = Self::schema_over(&input, window_fields)?;
        Ok(Self {
            input,
            window,
            time_column,
            partition_by,
            zone: None,
            schema,
            keep_all_columns: false,
        })
    }

    fn schema_over(
        input: &LogicalPlan,
        window_fields: Vec<(Option<TableReference>, Arc<Field>)>,
    ) -> Result<DFSchemaRef> {
        let fields = input
            .schema()
            .iter()
            .map(|(qualifier, field)| (qualifier.cloned(), field.clone()))
            .chain(window_fields)
            .collect();
        let metadata = input.schema().as_arrow().metadata().clone();
        Ok(Arc::new(DFSchema::new_with_metadata(fields, metadata)?))
    }
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

    /// Conditions on the rows may be pushed below the function, conditions on their window may not. Below a session
    /// only conditions on its keys may be pushed: others would change which rows form a session.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let names = self.schema.fields().iter().map(|field| field.name().clone());
        match self.window {
            WindowFunction::Session { .. } => {
                let keys: HashSet<&str> = self.partition_by.iter().map(|key| key.name.as_str()).collect();
                names.filter(|name| !keys.contains(name.as_str())).collect()
            }
            // By position, as the names of nested windows may be numbered.
            _ => names.skip(self.schema.fields().len() - WINDOW_COLUMNS.len()).collect(),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        if self.keep_all_columns {
            return Some(vec![(0..width).collect()]);
        }
        let mut needed: Vec<usize> = output_columns
            .iter()
            .copied()
            .filter(|&column| column < width)
            .collect();
        for column in std::iter::once(&self.time_column).chain(&self.partition_by) {
            needed.push(self.input.schema().maybe_index_of_column(column)?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WindowTableFunction: {:?} on {}", self.window, self.time_column)?;
        match &self.zone {
            Some(zone) => write!(f, " in {zone}"),
            None => Ok(()),
        }
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut columns = Vec::with_capacity(exprs.len());
        for expr in exprs {
            match expr {
                Expr::Column(column) => columns.push(column),
                other => return plan_err!("a window table function takes columns, not `{other}`"),
            }
        }
        if columns.is_empty() || inputs.len() != 1 {
            return plan_err!("a window table function has one input and a time column");
        }
        let input = inputs.remove(0);
        let time_column = columns.remove(0);
        let first = self.schema.fields().len() - WINDOW_COLUMNS.len();
        let window_fields = self
            .schema
            .iter()
            .skip(first)
            .map(|(qualifier, field)| (qualifier.cloned(), field.clone()))
            .collect();
        let schema = Self::schema_over(&input, window_fields)?;
        Ok(Self {
            input,
            window: self.window,
            time_column,
            partition_by: columns,
            zone: self.zone.clone(),
            schema,
            keep_all_columns: self.keep_all_columns,
        })
    }
}
