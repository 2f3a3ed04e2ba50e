//! The names that queries may use: tables, steps and functions, as a context of DataFusion's planner.
//!
//! Tables and steps are added in the order of the text; a query sees those before it. A table or step that failed stays
//! known as broken, so that its error is not reported again at each use.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::common::config::ConfigOptions;
use datafusion::common::plan_datafusion_err;
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::{
    AggregateUDF, Extension, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};

use crate::functions::{Functions, Zone};
use crate::logical::{CatalogTable, SideOutputKind, SideOutputScan, Step, StepReference, Table, side_output_fields};
use crate::{Mode, PlanOptions};

mod declaration;
mod environment;
mod namespaces;
mod validation;

pub(crate) use declaration::{
    ColumnDeclaration, ColumnKind, Named, OptionDeclaration, TableDeclaration, WatermarkClause,
};
pub(crate) use environment::substitute;
pub(crate) use namespaces::Namespaces;
pub(crate) use validation::{check, check_options, option_notes, reads, tables_read};

/// The parts of the SQL dialect that DataFusion's planner asks the catalog for.
pub(crate) struct Dialect {
    pub expr_planners: Vec<Arc<dyn ExprPlanner>>,
    pub relation_planners: Vec<Arc<dyn RelationPlanner>>,
    pub type_planner: Arc<dyn TypePlanner>,
}

/// Tables, steps and functions that queries refer to.
pub(crate) struct Catalog {
    /// Tables in declared order.
    pub tables: Vec<Arc<Table>>,
    pub steps: Vec<Step>,
    /// Declarations of `tables`, for `LIKE`, `ALTER TABLE` and hints.
    pub declarations: HashMap<String, TableDeclaration>,
    pub namespaces: Namespaces,
    relations: HashMap<String, Relation>,
    broken: HashSet<String>,
    functions: &'static Functions,
    /// Value of `NOW()` for all rows, in a batch job; microseconds since the epoch.
    pub batch_now_us: Option<i64>,
    /// Time zone of the session, unless it is UTC.
    local_time_zone: Option<String>,
    dialect: Dialect,
    config: ConfigOptions,
}

enum Relation {
    Table(Arc<CatalogTable>),
    Step(Arc<StepSource>),
}

/// A reference to a table or step that failed; its own error is reported already.
#[derive(Debug)]
pub(crate) struct Broken(String);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` has errors", self.0)
    }
}

impl std::error::Error for Broken {}

/// A step while DataFusion plans a query; replaced by a [`StepReference`] afterwards.
struct StepSource {
    name: String,
    plan: Arc<LogicalPlan>,
    schema: SchemaRef,
}

impl TableSource for StepSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// A side output while DataFusion plans a query; replaced by a [`SideOutputScan`] afterwards.
struct SideOutputSource {
    owner: String,
    output: SideOutputKind,
    schema: SchemaRef,
}

impl TableSource for SideOutputSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl Catalog {
    /// Returns a catalog without tables and steps.
    pub(crate) fn new(options: &PlanOptions, dialect: Dialect) -> Self {
        let mut config = ConfigOptions::new();
        fix_settings(&mut config);
        Self {
            tables: Vec::new(),
            steps: Vec::new(),
            declarations: HashMap::new(),
            namespaces: Namespaces::default(),
            relations: HashMap::new(),
            broken: HashSet::new(),
            functions: Functions::all(),
            batch_now_us: (options.mode == Mode::Batch).then_some(options.now_us),
            local_time_zone: None,
            dialect,
            config,
        }
    }

    /// Sets the time zone of the session, a valid name.
    pub(crate) fn set_local_time_zone(&mut self, name: &str) {
        let is_utc = Zone::new(name) == Ok(Zone::UTC);
        self.local_time_zone = (!is_utc).then(|| name.to_owned());
        self.config.execution.time_zone = Some(self.local_time_zone.clone().unwrap_or_else(|| "UTC".into()));
    }

    /// Returns the time zone of the session, unless it is UTC.
    pub(crate) fn local_time_zone(&self) -> Option<&str> {
        self.local_time_zone.as_deref()
    }

    pub(crate) fn config(&self) -> &ConfigOptions {
        &self.config
    }

    pub(crate) fn functions(&self) -> &'static Functions {
        self.functions
    }

    /// Returns true if a table or step of this name was declared, even if its declaration failed.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.relations.contains_key(name) || self.broken.contains(name)
    }

    pub(crate) fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
    }

    pub(crate) fn is_step(&self, name: &str) -> bool {
        matches!(self.relations.get(name), Some(Relation::Step(_)))
    }

    pub(crate) fn table(&self, name: &str) -> Option<Arc<Table>> {
        match self.relations.get(name)? {
            Relation::Table(table) => Some(table.table.clone()),
            Relation::Step(_) => None,
        }
    }

    pub(crate) fn add_table(&mut self, table: Arc<Table>) {
        self.tables.push(table.clone());
        self.relations
            .insert(table.name.clone(), Relation::Table(Arc::new(CatalogTable::new(table))));
    }

    pub(crate) fn add_step(&mut self, step: Step) {
        let source = StepSource {
            name: step.name.clone(),
            plan: Arc::new(step.plan.clone()),
            schema: Arc::new(step.plan.schema().as_arrow().clone()),
        };
        self.relations
            .insert(step.name.clone(), Relation::Step(Arc::new(source)));
        self.steps.push(step);
    }

    /// Removes a table or view that no query uses.
    pub(crate) fn remove(&mut self, name: &str) {
        self.tables.retain(|table| table.name != name);
        self.steps.retain(|step| step.name != name);
        self.declarations.remove(name);
        self.relations.remove(name);
        self.broken.remove(name);
    }

    /// Adds the name of a table or step that failed.
    pub(crate) fn add_broken(&mut self, name: &str) {
        self.broken.insert(name.to_owned());
    }

    /// Returns the names of tables and steps, for suggestions.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.relations.keys().chain(&self.broken).map(String::as_str)
    }

    /// Returns the side output that a name stands for: `owner.late`, where `owner` is a table or step. `None` for the
    /// names of tables and steps.
    fn side_output(&self, name: &TableReference) -> Option<Result<SideOutputSource>> {
        let (None, Some(owner)) = (name.catalog(), name.schema()) else {
            return None;
        };
        let Some(output) = SideOutputKind::named(name.table()) else {
            let is_database = self.namespaces.check(None, Some(owner)).is_ok();
            return (!is_database && self.contains(owner)).then(|| {
                let hint = millstream_proto::spec::did_you_mean(name.table(), SideOutputKind::NAMES);
                Err(plan_datafusion_err!("`{owner}` has no output `{}`{hint}", name.table()))
            });
        };
        if self.broken.contains(owner) {
            return Some(Err(DataFusionError::External(Box::new(Broken(owner.to_owned())))));
        }
        let plan = match self.relations.get(owner)? {
            Relation::Table(_) => None,
            Relation::Step(step) => Some(step.plan.as_ref()),
        };
        let fields = side_output_fields(owner, plan, output).map_err(|message| plan_datafusion_err!("{message}"));
        Some(fields.map(|fields| SideOutputSource {
            owner: owner.to_owned(),
            output,
            schema: Arc::new(Schema::new(fields)),
        }))
    }

    /// Replaces scans of steps by [`StepReference`]s, and those of side outputs by [`SideOutputScan`]s.
    pub(crate) fn link_steps(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            if let LogicalPlan::TableScan(scan) = &plan
                && let Some(step) = scan.source.downcast_ref::<StepSource>()
            {
                let relation = StepReference::relation(&step.name, step.plan.clone())?;
                return Ok(Transformed::yes(relation));
            }
            if let LogicalPlan::TableScan(scan) = &plan
                && let Some(source) = scan.source.downcast_ref::<SideOutputSource>()
            {
                let fields = source.schema.fields();
                let qualifier = scan.table_name.clone();
                let node = Arc::new(SideOutputScan::try_new(
                    &source.owner,
                    source.output,
                    fields,
                    qualifier,
                )?);
                return Ok(Transformed::yes(LogicalPlan::Extension(Extension { node })));
            }
            Ok(Transformed::no(plan))
        })
        .map(|transformed| transformed.data)
    }
}

/// Fixes all settings of DataFusion that could differ between machines or change a plan.
fn fix_settings(config: &mut ConfigOptions) {
    config.sql_parser.enable_ident_normalization = false;
    config.sql_parser.map_string_types_to_utf8view = false;
    config.sql_parser.collect_spans = true;
    config.sql_parser.parse_float_as_decimal = true;
    // NULL is the lowest value, as in Flink.
    config.sql_parser.default_null_ordering = "nulls_min".to_owned();
    config.execution.target_partitions = 1;
    config.execution.time_zone = Some("UTC".into());
}

impl ContextProvider for Catalog {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if let Some(side_output) = self.side_output(&name) {
            return Ok(Arc::new(side_output?));
        }
        self.namespaces
            .check(name.catalog(), name.schema())
            .map_err(|message| plan_datafusion_err!("{message}"))?;
        match self.relations.get(name.table()) {
            Some(Relation::Table(table)) => Ok(table.clone()),
            Some(Relation::Step(step)) => Ok(step.clone()),
            None if self.broken.contains(name.table()) => {
                Err(DataFusionError::External(Box::new(Broken(name.table().to_owned()))))
            }
            None => {
                let hint = millstream_proto::spec::did_you_mean(name.table(), self.names());
                Err(plan_datafusion_err!("unknown table or view `{}`{hint}", name.table()))
            }
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.dialect.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.dialect.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(self.dialect.type_planner.clone())
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.scalar(name)
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate(name)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.functions.window(name)
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.config
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.scalar_names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.functions.aggregate_names()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.functions.window_names()
    }
}
