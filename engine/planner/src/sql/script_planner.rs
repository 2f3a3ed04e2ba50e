//! Planning of a script, statement by statement.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{self, Ident, Query};
use millstream_connectors::Role;
use millstream_graph::{ConflictStrategy, ErrorPolicy};
use millstream_proto::spec::{did_you_mean, parse_flink_duration};

use super::hints::{declare_hinted_tables, hinted_table};
use super::query::{plan as plan_query, typed_expressions};
use super::reserved::{is_reserved, reserved};
use super::settings::{LOCAL_TIME_ZONE, MINI_BATCH, consistency_interval, set};
use super::sink::{check_names, project_to_sink, rename_columns, sink_table};
use super::statement::{self, Statement, StatementKind};
use super::table::{columns_of, resolve};
use super::tokens::{Name, place};
use super::{diagnose, new_catalog, output_names, script, side_output};
use crate::catalog::{self, Catalog, Named, OptionDeclaration, TableDeclaration};
use crate::error::{Error, Errors, Location};
use crate::functions::Zone;
use crate::logical::{Insert, InsertInput, Pipeline, SideOutputKind, Step, Table, side_outputs_read};
use crate::{MAX_PARALLELISM_DEFAULT, PlanOptions, Settings};

mod show;
mod tables;

/// Plans a script. Also returns its settings.
pub(crate) fn pipeline(name: &str, text: &str, options: &PlanOptions) -> Result<(Pipeline, Settings), Errors> {
    let (statements, errors) = script::read(text);
    let mut planner = ScriptPlanner {
        catalog: new_catalog(options),
        options,
        inserts: Vec::new(),
        settings: Settings::default(),
        idle_timeout: None,
        query_count: 0,
        printed: 0,
        mini_batch_location: Location::Unknown,
        views: BTreeMap::new(),
        errors,
    };
    let is_query = |statement: &&Statement| matches!(statement.kind, StatementKind::Query(_));
    planner.query_count = statements.iter().filter(is_query).count();
    let only_explains = statements
        .iter()
        .any(|statement| matches!(statement.kind, StatementKind::Explain(_)));
    planner.settings.explain = only_explains;
    planner.settings.lists = statements
        .iter()
        .any(|statement| matches!(statement.kind, StatementKind::Show(_)));
    planner.set_local_time_zone(&statements);
    for statement in statements {
        planner.statement(statement);
    }
    if planner.errors.is_empty() && planner.inserts.is_empty() && !only_explains && !planner.settings.lists {
        planner.errors.push(Error {
            location: Location::Unknown,
            message: "the script inserts nothing: add `INSERT INTO table SELECT ...`, or a query to print".into(),
        });
    }
    planner.check_sources();
    let consistency_interval = planner.consistency_interval();
    planner.send_dead_letters();
    if !planner.errors.is_empty() {
        let mut errors = planner.errors;
        hide_derived_tables(&mut errors, &planner.catalog);
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
        agg_phases: planner.settings.agg_phases,
        allows_conflicts: planner.settings.allows_conflicts,
        consistency_interval,
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
    /// Number of queries without a target in the script.
    query_count: usize,
    /// Number of those that are planned.
    printed: usize,
    /// Position of the last `SET` of `table.exec.mini-batch.enabled`.
    mini_batch_location: Location,
    /// Queries of the views, by name.
    views: BTreeMap<String, String>,
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
            } if self.catalog.contains(name.value()) => Ok(()),
            StatementKind::CreateView {
                name, columns, query, ..
            } => {
                let outcome = self.create_view(&name, columns, query, &location);
                if outcome.is_err() {
                    self.catalog.add_broken(name.value());
                }
                outcome
            }
            StatementKind::Insert(insert) => self.insert(insert, &location),
            StatementKind::Explain(insert) => match &insert.table {
                Some(_) => self.insert(insert, &location),
                None => self.discard(insert.query, &location),
            },
            StatementKind::Query(query) => self.print(query, &location),
            StatementKind::Set { key, value } => self.set(&key, &value, &location),
            StatementKind::Reset { key } => {
                self.reset(key.as_deref());
                Ok(())
            }
            StatementKind::CreateFunction { name } => self.create_function(&name),
            StatementKind::AlterTable {
                name,
                if_exists,
                change,
            } => self.alter_table(&name, if_exists, change),
            StatementKind::Drop { name } => self.drop_relation(&name),
            StatementKind::Namespace(statement) => self.namespace(statement),
            StatementKind::Show(shown) => self.show(&shown),
            StatementKind::NoEffect { .. } => Ok(()),
        };
        if let Err(errors) = outcome {
            self.errors.extend(errors);
        }
    }

    /// Sets the time zone of the whole script: queries are planned in the order of the text, but Flink evaluates views
    /// and computed columns with the zone of the statement that reads them.
    fn set_local_time_zone(&mut self, statements: &[Statement]) {
        let mut chosen: Option<&str> = None;
        for statement in statements {
            let StatementKind::Set { key, value } = &statement.kind else {
                continue;
            };
            // An invalid name is reported where the statement is processed.
            if key != LOCAL_TIME_ZONE || Zone::new(value).is_err() {
                continue;
            }
            match chosen {
                None => self.catalog.set_local_time_zone(value),
                Some(first) if first != value => self.errors.push(Error {
                    location: statement.location.clone(),
                    message: format!("'{key}' is '{first}' already: a script has one time zone"),
                }),
                Some(_) => {}
            }
            chosen.get_or_insert(value);
        }
    }

    /// Checks the names of the catalog and the database before a table's name.
    fn check_qualifier(&self, name: &Name) -> Result<(), Vec<Error>> {
        let (catalog, database) = match name.qualifier.as_slice() {
            [] => return Ok(()),
            [database] => (None, database),
            [catalog, database, ..] => (Some(catalog.value.as_str()), database),
        };
        let checked = self.catalog.namespaces.check(catalog, Some(&database.value));
        checked.map_err(|message| {
            vec![Error {
                location: place(&name.qualifier[0]),
                message,
            }]
        })
    }

    fn unknown_table(&self, name: &Name) -> Error {
        let message = if self.catalog.is_step(name.value()) {
            format!("`{}` is a view: a table is needed here", name.value())
        } else {
            let hint = did_you_mean(name.value(), self.catalog.declarations.keys().map(String::as_str));
            format!("unknown table `{}`{hint}", name.value())
        };
        Error {
            location: name.place(),
            message,
        }
    }

    /// Plans a query, with derived tables for its hints.
    fn plan(&mut self, mut query: Box<Query>, location: &Location) -> Result<LogicalPlan, Vec<Error>> {
        let (environment, idle_timeout) = (&self.options.environment, self.idle_timeout);
        declare_hinted_tables(&mut self.catalog, &mut query, &mut |catalog, declaration| {
            declare(catalog, declaration, environment, idle_timeout).map(drop)
        })?;
        plan_query(&self.catalog, query, location)
    }

    fn create_view(
        &mut self,
        name: &Name,
        columns: Vec<Ident>,
        query: Box<Query>,
        location: &Location,
    ) -> Result<(), Vec<Error>> {
        let name_place = name.place();
        self.check_qualifier(name)?;
        if self.catalog.contains(name.value()) {
            return Err(vec![name_exists(name.value(), &name_place)]);
        }
        let written = query.to_string();
        let mut plan = self.plan(query, location)?;
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
        check_names(&plan, name.value(), &name_place)?;
        self.views.insert(name.value().to_owned(), written);
        self.catalog.add_step(Step {
            name: name.value().to_owned(),
            plan,
            on_error: self.settings.on_error,
            location: name_place,
        });
        Ok(())
    }

    fn insert(&mut self, insert: statement::Insert, location: &Location) -> Result<(), Vec<Error>> {
        let statement::Insert {
            table,
            hint,
            columns,
            partition,
            mut query,
            on_conflict,
        } = insert;
        if let Some(name) = &table
            && let Some(input) = side_output::of_query(&query, &self.catalog)
        {
            if let Some(column) = columns.first() {
                return Err(vec![Error {
                    location: place(column),
                    message: "the columns of a side output are matched by name: leave out the list of columns".into(),
                }]);
            }
            return self.insert_side_output(name, &hint, input, location);
        }
        output_names::name_all_outputs(&mut query.body);
        let planned = self.plan(query, location);
        let Some(name) = table else { return planned.map(drop) };
        self.check_qualifier(&name)?;
        let target = match self.hinted(&name, &hint)? {
            Some(table) => table,
            None => {
                let mut errors = planned.err().unwrap_or_default();
                if !self.catalog.is_broken(name.value()) {
                    let message = if self.catalog.is_step(name.value()) {
                        format!("`{}` is a view: INSERT needs a table", name.value())
                    } else {
                        let names: Vec<&str> = self.catalog.tables.iter().map(|table| table.name.as_str()).collect();
                        let hint = did_you_mean(name.value(), names);
                        format!("unknown table `{}`{hint}; declare it with CREATE TABLE", name.value())
                    };
                    let location = match name.place() {
                        // A name in quotes of strings has no place.
                        Location::Unknown => location.clone(),
                        place => place,
                    };
                    errors.push(Error { location, message });
                }
                return Err(errors);
            }
        };
        let mut columns = named(columns);
        let mut plan = planned?;
        if !partition.is_empty() {
            let (fixed, constants): (Vec<Ident>, Vec<ast::Expr>) = partition.into_iter().unzip();
            let fixed = named(fixed);
            if columns.is_empty() {
                let declared = sink_table(&target);
                let names = declared.columns.iter().map(|column| column.field.name().clone());
                let free = names.filter(|name| fixed.iter().all(|(fixed, _)| fixed != name));
                columns = free.map(|name| (name, location.clone())).collect();
            }
            let width = plan.schema().fields().len();
            if width != columns.len() {
                return Err(vec![Error {
                    location: location.clone(),
                    message: format!(
                        "the query has {width} columns, but table `{}` takes {} besides those of PARTITION",
                        target.name,
                        columns.len()
                    ),
                }]);
            }
            plan = with_constants(&self.catalog, plan, &fixed, constants, location)?;
            columns.extend(fixed);
        }
        self.insert_plan(&target, &columns, plan, on_conflict, location)
    }

    /// Plans an insert of late rows or dead letters.
    fn insert_side_output(
        &mut self,
        name: &Name,
        hint: &[OptionDeclaration],
        input: InsertInput,
        location: &Location,
    ) -> Result<(), Vec<Error>> {
        self.check_qualifier(name)?;
        let Some(target) = self.hinted(name, hint)? else {
            return Err(vec![self.unknown_table(name)]);
        };
        let sink = Arc::new(sink_table(&target));
        let errors = catalog::check(&sink, self.catalog.declarations.get(&target.name), Role::Sink);
        if !errors.is_empty() {
            return Err(errors);
        }
        self.inserts.push(Insert {
            table: sink,
            input,
            on_error: ErrorPolicy::default(),
            on_conflict: None,
            location: location.clone(),
        });
        Ok(())
    }

    /// Checks that the dead letters of all tables and views are written. Rows that an `INSERT` fails on are dead
    /// letters only if those of its table are written.
    fn send_dead_letters(&mut self) {
        let mut side_outputs = BTreeSet::new();
        let mut written: HashSet<String> = HashSet::new();
        for insert in &self.inserts {
            match &insert.input {
                InsertInput::DeadLetters { name } => drop(written.insert(name.clone())),
                InsertInput::Plan(plan) => side_outputs_read(plan, &mut side_outputs),
                InsertInput::Late { .. } => {}
            }
        }
        for step in &self.catalog.steps {
            side_outputs_read(&step.plan, &mut side_outputs);
        }
        let dead_letters = side_outputs
            .into_iter()
            .filter(|(_, output)| *output == SideOutputKind::DeadLetters);
        written.extend(dead_letters.map(|(name, _)| name));
        let mut read = HashSet::new();
        let steps = self.catalog.steps.iter().map(|step| &step.plan);
        let plans = self.inserts.iter().filter_map(|insert| match &insert.input {
            InsertInput::Plan(plan) => Some(plan),
            _ => None,
        });
        for plan in steps.chain(plans) {
            crate::catalog::tables_read(plan, &mut read);
        }
        let tables = self.catalog.tables.iter().filter(|table| read.contains(&table.name));
        let tables = tables.map(|table| (&table.name, table.on_error, &table.location));
        let views = self
            .catalog
            .steps
            .iter()
            .map(|step| (&step.name, step.on_error, &step.location));
        for (name, _, location) in tables
            .chain(views)
            .filter(|(name, policy, _)| *policy == ErrorPolicy::DeadLetter && !written.contains(*name))
        {
            self.errors.push(Error {
                location: location.clone(),
                message: format!(
                    "nothing writes the dead letters of `{name}`: add `INSERT INTO t SELECT * FROM {name}.dead_letters`, \
                     with a table `t` of columns of a dead letter (step, position, error, time, payload), or choose 'skip'"
                ),
            });
        }
        for insert in &mut self.inserts {
            if insert.on_error == ErrorPolicy::DeadLetter && !written.contains(&insert.table.name) {
                insert.on_error = ErrorPolicy::Fail;
            }
            if insert.table.on_error == ErrorPolicy::DeadLetter {
                self.errors.push(Error {
                    location: insert.location.clone(),
                    message: format!(
                        "`{}` is written, and rows that cannot be encoded have no dead letters: set its option \
                         'on-error' to 'fail' or 'skip'",
                        insert.table.name
                    ),
                });
            }
        }
    }

    /// Returns the table of a name, with the options of a hint.
    fn hinted(&mut self, name: &Name, hint: &[OptionDeclaration]) -> Result<Option<Arc<Table>>, Vec<Error>> {
        if hint.is_empty() {
            return Ok(self.catalog.table(name.value()));
        }
        let (environment, idle_timeout) = (&self.options.environment, self.idle_timeout);
        let derived = hinted_table(&mut self.catalog, &name.ident, hint, &mut |catalog, declaration| {
            declare(catalog, declaration, environment, idle_timeout).map(drop)
        })?;
        Ok(derived.and_then(|derived| self.catalog.table(&derived)))
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
                    on_error: self.settings.on_error,
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
    fn discard(&mut self, query: Box<Query>, location: &Location) -> Result<(), Vec<Error>> {
        let options = [("connector", "blackhole".to_owned())];
        self.result("explained", query, &options, location)
    }

    /// Plans a query without a target as an insert into a table that prints its rows. If there are several, their rows
    /// are told apart by an identifier.
    fn print(&mut self, query: Box<Query>, location: &Location) -> Result<(), Vec<Error>> {
        self.printed += 1;
        let name = format!("query {}", self.printed);
        let mut options = vec![("connector", "print".to_owned())];
        if self.query_count > 1 {
            options.push(("print-identifier", name.clone()));
        }
        self.settings.prints = true;
        self.result(&name, query, &options, location)
    }

    /// Plans a query as an insert into a table with the query's columns.
    fn result(
        &mut self,
        name: &str,
        mut query: Box<Query>,
        options: &[(&str, String)],
        location: &Location,
    ) -> Result<(), Vec<Error>> {
        output_names::name_all_outputs(&mut query.body);
        let plan = self.plan(query, location)?;
        let mut declaration = TableDeclaration::new(name.to_owned(), location.clone());
        declaration.columns = columns_of(plan.schema(), location);
        // The columns of a result may have equal names, those of a table may not.
        for index in 0..declaration.columns.len() {
            let (before, rest) = declaration.columns.split_at_mut(index);
            let column = &mut rest[0].name;
            let original = column.clone();
            let mut number = 0;
            while before.iter().any(|other| other.name == *column) {
                *column = format!("{original}{number}");
                number += 1;
            }
        }
        declaration.options = options
            .iter()
            .map(|(name, value)| OptionDeclaration {
                name: (*name).to_owned(),
                value: value.clone(),
                location: location.clone(),
            })
            .collect();
        let table = resolve(&self.catalog, &declaration, None, None)?;
        self.insert_plan(&Arc::new(table), &[], plan, None, location)
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
        if key == MINI_BATCH {
            self.mini_batch_location = location.clone();
        }
        set(&mut self.settings, key, value).map_err(located)
    }

    fn reset(&mut self, key: Option<&str>) {
        if key.is_none_or(|key| key == "table.exec.source.idle-timeout") {
            self.idle_timeout = None;
        }
        super::settings::reset(&mut self.settings, key);
    }

    /// Returns the interval of consistency points.
    fn consistency_interval(&mut self) -> Option<Duration> {
        consistency_interval(&self.settings).unwrap_or_else(|message| {
            self.errors.push(Error {
                location: self.mini_batch_location.clone(),
                message,
            });
            None
        })
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

/// Replaces the names of tables that were derived for hints, such as `bid#1`, by those of the tables as declared.
fn hide_derived_tables(errors: &mut [Error], catalog: &Catalog) {
    let derived: Vec<(String, &str)> = catalog
        .names()
        .filter_map(|name| {
            let (declared, number) = name.rsplit_once('#')?;
            let is_derived = number.bytes().all(|digit| digit.is_ascii_digit()) && catalog.contains(declared);
            is_derived.then(|| (format!("`{name}`"), declared))
        })
        .collect();
    for error in errors {
        for (name, declared) in &derived {
            error.message = error.message.replace(name, &format!("`{declared}`"));
        }
    }
}

fn name_exists(name: &str, location: &Location) -> Error {
    Error {
        location: location.clone(),
        message: format!("a table or view named `{name}` exists already"),
    }
}

/// Adds a table to the catalog, or its name as broken.
fn declare(
    catalog: &mut Catalog,
    declaration: TableDeclaration,
    environment: &BTreeMap<String, String>,
    idle_timeout: Option<Duration>,
) -> Result<Arc<Table>, Vec<Error>> {
    match resolve(catalog, &declaration, Some(environment), idle_timeout) {
        Ok(table) => {
            let table = Arc::new(table);
            catalog.add_table(table.clone());
            catalog.declarations.insert(declaration.name.clone(), declaration);
            Ok(table)
        }
        Err(errors) => {
            catalog.add_broken(&declaration.name);
            Err(errors)
        }
    }
}

fn named(columns: Vec<Ident>) -> Vec<(String, Location)> {
    columns
        .into_iter()
        .map(|column| (column.value.clone(), place(&column)))
        .collect()
}

/// Adds columns of constant values to a plan, for `INSERT INTO t PARTITION (column = value)`.
fn with_constants(
    catalog: &Catalog,
    plan: LogicalPlan,
    columns: &[Named],
    constants: Vec<ast::Expr>,
    location: &Location,
) -> Result<LogicalPlan, Vec<Error>> {
    let mut outputs: Vec<Expr> = plan.schema().iter().map(Expr::from).collect();
    let constants = typed_expressions(catalog, constants, &DFSchema::empty(), location)?;
    outputs.extend(
        constants
            .into_iter()
            .zip(columns)
            .map(|((value, _), (name, _))| value.alias(name)),
    );
    LogicalPlanBuilder::from(plan)
        .project(outputs)
        .and_then(LogicalPlanBuilder::build)
        .map_err(|error| diagnose::errors(error, location))
}
