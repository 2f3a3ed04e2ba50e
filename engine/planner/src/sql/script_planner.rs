//! Planning of a script, statement by statement.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Ident, Query};
use millstream_connectors::Role;
use millstream_graph::ErrorPolicy;
use millstream_proto::spec::{did_you_mean, parse_flink_duration};

use super::query::plan as plan_query;
use super::reserved::{is_reserved, reserved};
use super::settings::set;
use super::sink::{check_names, project_to_sink, rename_columns, sink_table};
use super::statement::{self, CreateTable, Statement, StatementKind};
use super::table::{columns_of, resolve};
use super::tokens::place;
use super::{new_catalog, output_names, script};
use crate::catalog::{self, Catalog, TableDeclaration};
use crate::error::{Error, Errors, Location};
use crate::logical::{ConflictStrategy, Insert, InsertInput, Pipeline, Step, Table};
use crate::{MAX_PARALLELISM_DEFAULT, PlanOptions, Settings};

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
        state_ttl: planner.settings.state_ttl,
    };
    Ok((pipeline, planner.settings))
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
                            "`{}` cannot be loaded: user-defined functions are not supported; use the functions of the \
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
                output_names::name_all_outputs(&mut query.body);
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
            self.insert_plan(&table, &[], plan, None, &location)?;
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
        name: &Ident,
        columns: Vec<Ident>,
        query: Box<Query>,
        location: &Location,
    ) -> Result<(), Vec<Error>> {
        let name_place = place(name);
        if self.catalog.contains(&name.value) {
            return Err(vec![name_exists(&name.value, &name_place)]);
        }
        let mut plan = plan_query(&self.catalog, query, location)?;
        if let Some(column) = columns.iter().find(|column| is_reserved(&column.value)) {
            return Err(vec![Error {
                location: place(column),
                message: reserved(&column.value),
            }]);
        }
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
            on_conflict,
        } = insert;
        output_names::name_all_outputs(&mut query.body);
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
        self.insert_plan(&table, &columns, planned?, on_conflict, location)
    }

    fn insert_plan(
        &mut self,
        table: &Arc<Table>,
        columns: &[(String, Location)],
        plan: LogicalPlan,
        on_conflict: Option<ConflictStrategy>,
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
                    on_conflict,
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
            .and_then(|table| self.insert_plan(&Arc::new(table), &[], plan, None, location));
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
