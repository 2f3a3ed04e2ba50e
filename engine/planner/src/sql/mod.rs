//! The SQL planner end: a script in Flink's dialect becomes a [`Pipeline`].
//!
//! [`script`] splits the text into statements and parses each; DDL is parsed by [`ddl`] and [`types`], queries by the
//! stock parser with our [`dialect`]. A query is then [rewritten](rewrite) where Flink and DataFusion differ, planned
//! by DataFusion against the [`Catalog`], and adapted to [Flink's semantics](semantics). Statements are processed in
//! order; an error in one does not hide the errors of the next.

use millstream_graph::sql_type;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::{Column, ScalarValue};
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use millstream_connectors::Role;
use millstream_proto::spec::{did_you_mean, parse_flink_duration};

use crate::catalog::{self, Catalog, TableDeclaration};
use crate::error::{Error, Errors, Location};
use crate::logical::{DefinitionRef, Insert, InsertInput, Pipeline, Step, Table};
use crate::{MAX_PARALLELISM_DEFAULT, PlanOptions, Settings};
use millstream_graph::ErrorPolicy;

mod ddl;
mod decimals;
mod diagnose;
mod dialect;
mod error_spans;
mod group_windows;
mod interval;
mod query;
mod redact;
mod relations;
mod rewrite;
mod script;
pub(crate) mod semantics;
mod settings;
mod statement;
mod table;
mod tokens;
pub(crate) mod types;
mod windows;

pub(crate) use diagnose::sql_types;
pub(crate) use query::plan as plan_query;
#[cfg(test)]
pub(crate) use query::typed_expressions;
pub use redact::redacted;
pub(crate) use relations::relations_read;
pub use script::EXPRESSION_DEPTH_MAX;
pub(crate) use script::{identifier, read_expression, read_query};
pub(crate) use settings::notes;
pub(crate) use table::{columns_of, resolve};

use statement::{CreateTable, Statement, StatementKind};
use tokens::place;

/// Returns a catalog for queries in Flink's dialect.
pub(crate) fn new_catalog(options: &PlanOptions) -> Catalog {
    let mut expr_planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(decimals::DecimalArithmetic)];
    expr_planners.extend(SessionStateDefaults::default_expr_planners());
    let dialect = catalog::Dialect {
        expr_planners,
        relation_planners: vec![Arc::new(windows::WindowFunctions)],
        type_planner: Arc::new(types::FlinkTypes),
    };
    Catalog::new(options, dialect)
}

/// Plans a script. Also returns its settings.
pub(crate) fn pipeline(name: &str, text: &str, options: &PlanOptions) -> Result<(Pipeline, Settings), Errors> {
    let (statements, errors) = script::read(text);
    let mut planner = ScriptPlanner {
        catalog: new_catalog(options),
        options,
        inserts: Vec::new(),
        settings: Settings::default(),
        idle_timeout: None,
        errors,
    };
    let only_explains = statements
        .iter()
        .any(|statement| matches!(statement.kind, StatementKind::Explain(_)));
    planner.settings.explain = only_explains;
    for statement in statements {
        planner.statement(statement);
    }
    if planner.errors.is_empty() && planner.inserts.is_empty() && !only_explains {
        planner.errors.push(Error {
            location: Location::Unknown,
            message: "the script inserts nothing: add `INSERT INTO table SELECT ...`".into(),
        });
    }
    planner.check_sources();
    if !planner.errors.is_empty() {
        let mut errors = planner.errors;
        errors.sort_by(|left, right| left.location.cmp(&right.location));
        errors.dedup();
        return Err(Errors(errors));
    }
    let pipeline = Pipeline {
        name: planner.settings.name.clone().unwrap_or_else(|| name.to_owned()),
        max_parallelism: planner.settings.max_parallelism.unwrap_or(MAX_PARALLELISM_DEFAULT),
        tables: planner.catalog.tables,
        steps: planner.catalog.steps,
        inserts: planner.inserts,
    };
    Ok((pipeline, planner.settings))
}

/// Returns the settings of a script, from its `SET` statements. Other errors of the script are not reported.
pub(crate) fn settings(text: &str) -> Result<Settings, Errors> {
    let (statements, _) = script::read(text);
    let mut settings = Settings::default();
    let mut errors = Vec::new();
    for statement in statements {
        match statement.kind {
            StatementKind::Set { key, value } => {
                if let Err(message) = set(&mut settings, &key, &value) {
                    errors.push(Error {
                        location: statement.location,
                        message,
                    });
                }
            }
            StatementKind::Explain(_) => settings.explain = true,
            _ => {}
        }
    }
    if errors.is_empty() {
        Ok(settings)
    } else {
        Err(Errors(errors))
    }
}

/// State of the planning of a script, statement by statement.
struct ScriptPlanner<'a> {
    catalog: Catalog,
    options: &'a PlanOptions,
    inserts: Vec<Insert>,
    settings: Settings,
    /// `table.exec.source.idle-timeout`.
    idle_timeout: Option<Duration>,
    errors: Vec<Error>,
}

impl ScriptPlanner<'_> {
    fn statement(&mut self, statement: Statement) {
        let Statement { location, kind } = statement;
        let outcome = match kind {
            StatementKind::CreateTable(create) => self.create_table(*create),
            StatementKind::CreateView {
                name,
                if_not_exists: true,
                ..
            } if self.catalog.contains(&name.value) => Ok(()),
            StatementKind::CreateView {
                name, columns, query, ..
            } => {
                let outcome = self.create_view(&name, columns, query, &location);
                if outcome.is_err() {
                    self.catalog.add_broken(&name.value);
                }
                outcome
            }
            StatementKind::Insert(insert) => self.insert(insert, &location),
            StatementKind::Explain(insert) => match &insert.table {
                Some(_) => self.insert(insert, &location),
                None => plan_query(&self.catalog, insert.query, &location).map(|plan| {
                    self.explain(plan, &location);
                }),
            },
            StatementKind::Set { key, value } => self.set(&key, &value, &location),
            StatementKind::CreateFunction { name } => {
                if self.catalog.functions().contains(&name.value.to_ascii_lowercase()) {
                    Ok(())
                } else {
                    Err(vec![Error {
                        location: place(&name),
                        message: format!(
                            "`{}` cannot be loaded: functions of one's own are not supported; write it with those of the \
                             SQL reference",
                            name.value
                        ),
                    }])
                }
            }
            StatementKind::Ignored => Ok(()),
        };
        if let Err(errors) = outcome {
            self.errors.extend(errors);
        }
    }

    fn create_table(&mut self, create: CreateTable) -> Result<(), Vec<Error>> {
        let CreateTable {
            mut declaration,
            if_not_exists,
            like,
            query,
        } = create;
        let location = declaration.location.clone();
        if self.catalog.contains(&declaration.name) {
            if if_not_exists {
                return Ok(());
            }
            return Err(vec![name_exists(&declaration.name, &location)]);
        }
        if let Some(like) = like {
            match self.catalog.declarations.get(&like.value) {
                Some(other) => declaration = apply_like(other, declaration),
                None => {
                    self.catalog.add_broken(&declaration.name);
                    if self.catalog.is_broken(&like.value) {
                        return Ok(());
                    }
                    let hint = did_you_mean(&like.value, self.catalog.declarations.keys().map(String::as_str));
                    return Err(vec![Error {
                        location: place(&like),
                        message: format!("unknown table `{}`{hint}", like.value),
                    }]);
                }
            }
        }
        let planned = match query {
            None => None,
            Some(mut query) => {
                rewrite::name_all_outputs(&mut query.body);
                match plan_query(&self.catalog, query, &location) {
                    Ok(plan) => {
                        declaration.columns.extend(columns_of(plan.schema(), &location));
                        Some(plan)
                    }
                    Err(errors) => {
                        self.catalog.add_broken(&declaration.name);
                        return Err(errors);
                    }
                }
            }
        };
        let table = self.declare(declaration)?;
        if let Some(plan) = planned {
            self.insert_plan(&table, &[], plan, &location)?;
        }
        Ok(())
    }

    /// Adds a table to the catalog, or its name as broken.
    fn declare(&mut self, declaration: TableDeclaration) -> Result<Arc<Table>, Vec<Error>> {
        match resolve(
            &self.catalog,
            &declaration,
            Some(&self.options.environment),
            self.idle_timeout,
        ) {
            Ok(table) => {
                let table = Arc::new(table);
                self.catalog.add_table(table.clone());
                self.catalog.declarations.insert(declaration.name.clone(), declaration);
                Ok(table)
            }
            Err(errors) => {
                self.catalog.add_broken(&declaration.name);
                Err(errors)
            }
        }
    }

    fn create_view(
        &mut self,
        name: &datafusion::sql::sqlparser::ast::Ident,
        columns: Vec<datafusion::sql::sqlparser::ast::Ident>,
        query: Box<datafusion::sql::sqlparser::ast::Query>,
        location: &Location,
    ) -> Result<(), Vec<Error>> {
        let name_place = place(name);
        if self.catalog.contains(&name.value) {
            return Err(vec![name_exists(&name.value, &name_place)]);
        }
        let mut plan = plan_query(&self.catalog, query, location)?;
        if !columns.is_empty() {
            let names: Vec<String> = columns.into_iter().map(|column| column.value).collect();
            plan = rename_columns(plan, &names, &name_place)?;
        }
        check_names(&plan, &name.value, &name_place)?;
        self.catalog.add_step(Step {
            name: name.value.clone(),
            plan,
            on_error: ErrorPolicy::default(),
            location: name_place,
        });
        Ok(())
    }

    fn insert(&mut self, insert: statement::Insert, location: &Location) -> Result<(), Vec<Error>> {
        let statement::Insert {
            table,
            columns,
            mut query,
        } = insert;
        rewrite::name_all_outputs(&mut query.body);
        let planned = plan_query(&self.catalog, query, location);
        let Some(name) = table else { return planned.map(drop) };
        let Some(table) = self.catalog.table(&name.value) else {
            let mut errors = planned.err().unwrap_or_default();
            if !self.catalog.is_broken(&name.value) {
                let message = if self.catalog.is_step(&name.value) {
                    format!("`{}` is a view: INSERT needs a table", name.value)
                } else {
                    let names: Vec<&str> = self.catalog.tables.iter().map(|table| table.name.as_str()).collect();
                    let hint = did_you_mean(&name.value, names);
                    format!("unknown table `{}`{hint}; declare it with CREATE TABLE", name.value)
                };
                errors.push(Error {
                    location: place(&name),
                    message,
                });
            }
            return Err(errors);
        };
        let columns: Vec<(String, Location)> = columns
            .into_iter()
            .map(|column| (column.value.clone(), place(&column)))
            .collect();
        self.insert_plan(&table, &columns, planned?, location)
    }

    fn insert_plan(
        &mut self,
        table: &Arc<Table>,
        columns: &[(String, Location)],
        plan: LogicalPlan,
        location: &Location,
    ) -> Result<(), Vec<Error>> {
        let sink = Arc::new(sink_table(table));
        let mut errors = catalog::check(&sink, self.catalog.declarations.get(&table.name), Role::Sink);
        match project_to_sink(&sink, columns, plan, location, &self.catalog) {
            Ok(plan) if errors.is_empty() => {
                self.inserts.push(Insert {
                    table: sink,
                    input: InsertInput::Plan(plan),
                    on_error: ErrorPolicy::default(),
                    location: location.clone(),
                });
                return Ok(());
            }
            Ok(_) => {}
            Err(found) => errors.extend(found),
        }
        Err(errors)
    }

    /// Plans an `EXPLAIN SELECT` as an insert into a table that discards its rows.
    fn explain(&mut self, plan: LogicalPlan, location: &Location) {
        let mut declaration = TableDeclaration::new("explained".into(), location.clone());
        declaration.columns = columns_of(plan.schema(), location);
        declaration.options = vec![catalog::OptionDeclaration {
            name: "connector".into(),
            value: "blackhole".into(),
            location: location.clone(),
        }];
        let outcome = resolve(&self.catalog, &declaration, None, None)
            .and_then(|table| self.insert_plan(&Arc::new(table), &[], plan, location));
        if let Err(errors) = outcome {
            self.errors.extend(errors);
        }
    }

    fn set(&mut self, key: &str, value: &str, location: &Location) -> Result<(), Vec<Error>> {
        let located = |message| {
            vec![Error {
                location: location.clone(),
                message,
            }]
        };
        if key == "table.exec.source.idle-timeout" {
            self.idle_timeout = Some(parse_flink_duration(value).map_err(located)?);
            return Ok(());
        }
        set(&mut self.settings, key, value).map_err(located)
    }

    /// Checks the tables that queries read.
    fn check_sources(&mut self) {
        let mut read = HashSet::new();
        let steps = self.catalog.steps.iter().map(|step| &step.plan);
        let inserts = self.inserts.iter().filter_map(|insert| match &insert.input {
            InsertInput::Plan(plan) => Some(plan),
            _ => None,
        });
        for plan in steps.chain(inserts) {
            crate::catalog::tables_read(plan, &mut read);
        }
        for table in &self.catalog.tables {
            if read.contains(&table.name) {
                let declaration = self.catalog.declarations.get(&table.name);
                self.errors.extend(catalog::check(table, declaration, Role::Source));
            }
        }
    }
}

fn name_exists(name: &str, location: &Location) -> Error {
    Error {
        location: location.clone(),
        message: format!("a table or view named `{name}` exists already"),
    }
}

/// Applies `LIKE`: everything that the new declaration does not define comes from the other.
fn apply_like(other: &TableDeclaration, mut new: TableDeclaration) -> TableDeclaration {
    let mut columns = other.columns.clone();
    columns.append(&mut new.columns);
    new.columns = columns;
    for option in &other.options {
        if new.option(&option.name).is_none() {
            new.options.push(option.clone());
        }
    }
    new.watermark = new.watermark.or_else(|| other.watermark.clone());
    if new.primary_key.is_empty() {
        new.primary_key = other.primary_key.clone();
    }
    if new.partitioned_by.is_empty() {
        new.partitioned_by = other.partitioned_by.clone();
    }
    new
}

/// Returns the table without the columns that are never written: computed columns and read-only metadata.
pub(crate) fn sink_table(table: &Table) -> Table {
    let mut definition = table.definition.0.as_ref().clone();
    let read_only: HashSet<String> = definition
        .metadata
        .iter()
        .filter(|column| column.is_virtual)
        .map(|column| column.column.clone())
        .collect();
    definition.metadata.retain(|column| !column.is_virtual);
    let fields: Vec<_> = definition
        .schema
        .fields()
        .iter()
        .filter(|field| !read_only.contains(field.name()))
        .cloned()
        .collect();
    definition.schema = Arc::new(Schema::new(fields));
    let mut sink = table.clone();
    sink.columns
        .retain(|column| column.computed.is_none() && !read_only.contains(column.field.name()));
    sink.definition = DefinitionRef(Arc::new(definition));
    sink
}

/// Projects a plan to the columns of a sink's schema, in its order and types.
pub(crate) fn project_to_sink(
    sink: &Table,
    columns: &[(String, Location)],
    plan: LogicalPlan,
    location: &Location,
    catalog: &Catalog,
) -> Result<LogicalPlan, Vec<Error>> {
    let mut errors = Vec::new();
    let error_at = |location: &Location, message: String| Error {
        location: location.clone(),
        message,
    };
    // Names in the order of the query's columns.
    let declared: Vec<&str> = sink.columns.iter().map(|column| column.field.name().as_str()).collect();
    for (index, (name, place)) in columns.iter().enumerate() {
        if !declared.contains(&name.as_str()) {
            let hint = did_you_mean(name, declared.iter().copied());
            errors.push(error_at(
                place,
                format!("table `{}` has no column `{name}` to write{hint}", sink.name),
            ));
        } else if columns[..index].iter().any(|(other, _)| other == name) {
            errors.push(error_at(place, format!("column `{name}` is given twice")));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let targets: Vec<&str> = if columns.is_empty() {
        declared.clone()
    } else {
        columns.iter().map(|(name, _)| name.as_str()).collect()
    };
    let fields: Vec<_> = plan.schema().iter().map(|(q, f)| (q.cloned(), f.clone())).collect();
    if fields.len() != targets.len() {
        let list = |names: Vec<&str>| names.join(", ");
        let given = list(fields.iter().map(|(_, field)| field.name().as_str()).collect());
        return Err(vec![error_at(
            location,
            format!(
                "the query has {} columns ({given}), but table `{}` takes {} ({})",
                fields.len(),
                sink.name,
                targets.len(),
                list(targets)
            ),
        )]);
    }
    let mut outputs = Vec::new();
    for field in sink.definition.0.schema.fields() {
        let expected = field.data_type();
        let Some(position) = targets.iter().position(|target| target == field.name()) else {
            let null = ScalarValue::try_from(expected).unwrap_or(ScalarValue::Null);
            outputs.push(Expr::Literal(null, None).alias(field.name()));
            continue;
        };
        let (qualifier, given) = &fields[position];
        let column = Expr::Column(Column::new(qualifier.clone(), given.name()));
        let found = &types::as_flink_types(&plan, position, given.data_type());
        if given.data_type() == expected {
            outputs.push(column.alias(field.name()));
        } else if types::casts_implicitly(found, expected) {
            outputs.push(Expr::Cast(Cast::new(Box::new(column), expected.clone())).alias(field.name()));
        } else {
            let (given_type, expected_type) = (sql_type::name(found), sql_type::name(expected));
            let written = written_column(&plan, position).unwrap_or_else(|| "...".into());
            errors.push(error_at(
                location,
                format!(
                    "column `{}` of table `{}` is {expected_type}, but the query's column {} (`{}`) is {given_type}: {}",
                    field.name(),
                    sink.name,
                    position + 1,
                    given.name(),
                    types::conversion(given.data_type(), expected, &written)
                ),
            ));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    LogicalPlanBuilder::from(plan)
        .project(outputs)
        .and_then(LogicalPlanBuilder::build)
        .and_then(|plan| query::analyze(catalog, plan))
        .map_err(|error| diagnose::errors(error, location))
}

/// Returns a column of the query as it is written, if it is a column of the query's input.
fn written_column(plan: &LogicalPlan, position: usize) -> Option<String> {
    let LogicalPlan::Projection(projection) = plan else {
        return None;
    };
    match projection.expr.get(position)? {
        Expr::Column(column) => Some(identifier(&column.name)),
        _ => None,
    }
}

/// Renames the columns of a plan, as in `CREATE VIEW v (a, b)`.
fn rename_columns(plan: LogicalPlan, names: &[String], location: &Location) -> Result<LogicalPlan, Vec<Error>> {
    let width = plan.schema().fields().len();
    if width != names.len() {
        return Err(vec![Error {
            location: location.clone(),
            message: format!("the view names {} columns, but its query has {width}", names.len()),
        }]);
    }
    let outputs: Vec<Expr> = plan
        .schema()
        .iter()
        .zip(names)
        .map(|((qualifier, field), name)| Expr::Column(Column::new(qualifier.cloned(), field.name())).alias(name))
        .collect();
    LogicalPlanBuilder::from(plan)
        .project(outputs)
        .and_then(LogicalPlanBuilder::build)
        .map_err(|error| diagnose::errors(error, location))
}

/// Checks that the columns of a relation have different names.
pub(crate) fn check_names(plan: &LogicalPlan, name: &str, location: &Location) -> Result<(), Vec<Error>> {
    let mut seen = HashSet::new();
    let mut errors = Vec::new();
    for field in plan.schema().fields() {
        if !seen.insert(field.name()) {
            errors.push(Error {
                location: location.clone(),
                message: format!(
                    "`{name}` has two columns named `{}`: give one another name with AS",
                    field.name()
                ),
            });
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Applies one `SET 'key' = 'value'`.
fn set(settings: &mut Settings, key: &str, value: &str) -> Result<(), String> {
    let number = || value.trim().parse::<u16>().ok().filter(|number| *number > 0);
    let wrong = |expected: &str| format!("'{key}' must be {expected}, not '{value}'");
    match key {
        "pipeline.name" => settings.name = Some(value.to_owned()),
        "parallelism.default" | "table.exec.resource.default-parallelism" => {
            settings.parallelism = Some(number().ok_or_else(|| wrong("a number from 1 to 65535"))?);
        }
        "pipeline.max-parallelism" => {
            settings.max_parallelism = Some(
                number()
                    .filter(|number| *number <= 32768)
                    .ok_or_else(|| wrong("a number from 1 to 32768"))?,
            );
        }
        "execution.runtime-mode" => {
            settings.mode = Some(match value.to_ascii_lowercase().as_str() {
                "streaming" | "stream" => crate::Mode::Stream,
                "batch" => crate::Mode::Batch,
                _ => return Err(wrong("'streaming' or 'batch'")),
            });
        }
        "execution.checkpointing.interval" => settings.checkpoint_interval = Some(parse_flink_duration(value)?),
        "execution.checkpointing.aligned-checkpoint-timeout" => {
            settings.checkpoint_aligned_timeout = Some(parse_flink_duration(value)?);
        }
        "execution.checkpointing.num-retained" | "state.checkpoints.num-retained" => {
            settings.checkpoint_retention = Some(u32::from(number().ok_or_else(|| wrong("a number from 1"))?));
        }
        "table.local-time-zone" if !matches!(value, "UTC" | "Etc/UTC" | "GMT" | "Z" | "+00:00") => {
            return Err(format!("'{key}' is always UTC here: leave it out"));
        }
        _ => {
            settings.other.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
