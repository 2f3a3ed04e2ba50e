//! The planner end of specs: turns a [`JobSpec`] into the [`Pipeline`] of the equivalent script.
//!
//! Sources and sinks become tables, steps become views. The position of an error is its path in the spec
//! (`sources.entries.columns.entered`), inside SQL also the line and column. The spec is resolved: its options contain
//! no `${NAME}`.

mod order;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::Query;
use millstream_connectors::Role;
use millstream_graph::ErrorPolicy;
use millstream_proto as proto;

use self::order::{Reads, order};
use crate::catalog::{
    self, Catalog, ColumnDeclaration, ColumnKind, OptionDeclaration, TableDeclaration, WatermarkClause,
};
use crate::error::{Error, Errors, Location};
use crate::functions::Zone;
use crate::logical::{
    AggregatePhases, Insert, InsertInput, Pipeline, SideOutputKind, Step, Table, side_output_fields, side_outputs_read,
};
use crate::sql::{self, columns_of, resolve, type_planner};
use crate::{MAX_PARALLELISM_DEFAULT, PlanOptions};

/// Plans a resolved spec.
pub(crate) fn pipeline(spec: &proto::JobSpec, options: &PlanOptions) -> Result<Pipeline, Errors> {
    let mut planner = SpecPlanner {
        catalog: sql::new_catalog(options),
        inserts: Vec::new(),
        errors: Vec::new(),
        exactly_once: spec
            .checkpoints
            .as_ref()
            .is_some_and(|checkpoints| checkpoints.delivery == Some(proto::Delivery::ExactlyOnce as i32)),
    };
    if let Some(zone) = &spec.time_zone {
        match Zone::new(zone) {
            Ok(_) => planner.catalog.set_local_time_zone(zone),
            Err(message) => planner.error("time_zone", message),
        }
    }
    for source in &spec.sources {
        planner.source(source);
    }
    planner.steps(&spec.steps);
    for sink in &spec.sinks {
        planner.sink(sink);
    }
    planner.dead_letters_arrive(spec);
    if spec.sinks.is_empty() {
        planner.error(
            "sinks",
            "the pipeline has no sink: add one under `sinks:` with `from: STEP`".into(),
        );
    }
    let max_parallelism = match spec.max_parallelism {
        None => MAX_PARALLELISM_DEFAULT,
        Some(number) => match u16::try_from(number).ok().filter(|number| (1..=32768).contains(number)) {
            Some(number) => number,
            None => {
                planner.error("max_parallelism", format!("{number} is not between 1 and 32768"));
                MAX_PARALLELISM_DEFAULT
            }
        },
    };
    let consistency = spec
        .consistency
        .as_ref()
        .and_then(|consistency| consistency.interval_ms);
    if consistency == Some(0) {
        planner.error("consistency.interval", "must be more than 0".to_owned());
    }
    if !planner.errors.is_empty() {
        planner.errors.dedup();
        return Err(Errors(planner.errors));
    }
    Ok(Pipeline {
        name: spec.name.clone(),
        max_parallelism,
        tables: planner.catalog.tables,
        steps: planner.catalog.steps,
        inserts: planner.inserts,
        state_ttl: spec.state_ttl_ms.map(Duration::from_millis),
        consistency_interval: consistency.map(Duration::from_millis),
        agg_phases: AggregatePhases::default(),
        allows_conflicts: false,
    })
}

struct SpecPlanner {
    catalog: Catalog,
    inserts: Vec<Insert>,
    errors: Vec<Error>,
    /// True if the job requires exactly-once delivery of every sink.
    exactly_once: bool,
}

impl SpecPlanner {
    fn error(&mut self, path: &str, message: String) {
        self.errors.push(Error {
            location: Location::Path(path.to_owned()),
            message,
        });
    }

    fn taken(&mut self, path: &str, name: &str) -> bool {
        let taken = self.catalog.contains(name);
        if taken {
            self.error(path, format!("a source or step named `{name}` exists already"));
        }
        taken
    }

    fn source(&mut self, source: &proto::Source) {
        let path = format!("sources.{}", source.name);
        if self.taken(&path, &source.name) {
            return;
        }
        let found = self.errors.len();
        let mut table = TableDeclaration::new(source.name.clone(), Location::Path(path.clone()));
        table.options = options(&path, &source.connector, source.format.as_deref(), &source.options);
        table.columns = self.columns(&path, &source.columns);
        table.partitioned_by = named(&path, "partitioned_by", &source.partitioned_by);
        table.primary_key = named(&path, "primary_key", &source.primary_key);
        table.on_error = policy(source.on_error);
        if let Some(event_time) = &source.event_time {
            table.idle_timeout = event_time.idle_timeout_ms.map(Duration::from_millis);
            table.max_future = event_time.max_future_ms.map(Duration::from_millis);
            table.watermark = self.watermark(&format!("{path}.event_time"), event_time);
        }
        if source.columns.is_empty() {
            self.error(
                &path,
                "the source has no columns: list them under `columns:` as `name: type`".into(),
            );
        }
        let resolved = if self.errors.len() > found {
            self.errors.extend(catalog::check_options(&table, Role::Source));
            None
        } else {
            match resolve(&self.catalog, &table, None, None) {
                Ok(resolved) => {
                    let mut errors = catalog::check(&resolved, Some(&table), Role::Source);
                    self.errors.append(&mut errors);
                    Some(resolved)
                }
                Err(errors) => {
                    self.errors.extend(within(errors, &path));
                    self.errors.extend(catalog::check_options(&table, Role::Source));
                    None
                }
            }
        };
        match resolved {
            Some(resolved) => {
                self.catalog.add_table(Arc::new(resolved));
                self.catalog.declarations.insert(source.name.clone(), table);
            }
            None => self.catalog.add_broken(&source.name),
        }
    }

    fn columns(&mut self, table: &str, columns: &[proto::Column]) -> Vec<ColumnDeclaration> {
        let mut declared = Vec::new();
        for column in columns {
            let path = format!("{table}.columns.{}", column.name);
            let data_type = column.r#type.as_deref().map(type_planner::parse).transpose();
            let data_type = match data_type {
                Ok(data_type) => data_type,
                Err(message) => {
                    self.error(&path, message);
                    continue;
                }
            };
            let kind = match (&column.computed, data_type, &column.metadata) {
                (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                    self.error(
                        &path,
                        "a computed column has the type of its expression, and no metadata".into(),
                    );
                    continue;
                }
                (Some(expression), None, None) => match sql::read_expression(expression) {
                    Ok(expression) => ColumnKind::Computed(Box::new(expression)),
                    Err(error) => {
                        self.errors.extend(within(vec![error], &path));
                        continue;
                    }
                },
                (None, None, _) => {
                    self.error(&path, "the column needs a type, such as `string` or `bigint`".into());
                    continue;
                }
                (None, Some(data_type), Some(key)) => ColumnKind::Metadata {
                    data_type,
                    key: Some(key.clone()),
                    is_virtual: column.r#virtual,
                },
                (None, Some(data_type), None) => ColumnKind::Physical(data_type),
            };
            declared.push(ColumnDeclaration {
                name: column.name.clone(),
                location: Location::Path(path),
                kind,
            });
        }
        declared
    }

    fn watermark(&mut self, path: &str, event_time: &proto::EventTime) -> Option<WatermarkClause> {
        let text = match (&event_time.expression, event_time.out_of_orderness_ms) {
            (Some(_), Some(_)) => {
                self.error(path, "give `out_of_orderness` or `expression`, not both".into());
                return None;
            }
            (Some(expression), None) => expression.clone(),
            (None, delay) => {
                let delay = delay.unwrap_or(0);
                let column = event_time.column.replace('`', "``");
                format!("`{column}` - INTERVAL '{}.{:03}' SECOND", delay / 1000, delay % 1000)
            }
        };
        match sql::read_expression(&text) {
            Ok(expression) => Some(WatermarkClause {
                location: Location::Path(path.to_owned()),
                column: event_time.column.clone(),
                expression,
            }),
            Err(error) => {
                self.errors.extend(within(vec![error], path));
                None
            }
        }
    }

    /// Plans the steps in the order of their dependencies. Errors stay in the order in which the steps are written.
    fn steps(&mut self, steps: &[proto::Step]) {
        let queries: Vec<_> = steps.iter().map(|step| sql::read_query(&step.sql)).collect();
        let reads: Vec<Reads<'_>> = steps
            .iter()
            .zip(&queries)
            .map(|(step, query)| Reads {
                name: &step.name,
                // The name means the source; a step of the same name is reported elsewhere.
                relations: query
                    .as_ref()
                    .map(|query| sql::relations_read(query))
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|name| !self.catalog.contains(name))
                    .collect(),
            })
            .collect();
        let (ordered, circles) = order(&reads);
        let mut queries: Vec<_> = queries.into_iter().map(Some).collect();
        let mut step_errors: Vec<Vec<Error>> = vec![Vec::new(); steps.len()];
        for circle in circles {
            let names: Vec<&str> = circle.iter().map(|step| steps[*step].name.as_str()).collect();
            for step in &circle {
                self.catalog.add_broken(&steps[*step].name);
                queries[*step] = None;
            }
            let first = circle.iter().copied().min().unwrap_or_default();
            step_errors[first].push(Error {
                location: Location::Path(format!("steps.{}.sql", steps[first].name)),
                message: format!(
                    "these steps form a cycle, so none can be planned first: {}",
                    names.join(" -> ")
                ),
            });
        }
        let earlier = std::mem::take(&mut self.errors);
        for index in ordered {
            if let Some(query) = queries[index].take() {
                self.step(&steps[index], query);
            }
            step_errors[index].append(&mut self.errors);
        }
        self.errors = earlier.into_iter().chain(step_errors.into_iter().flatten()).collect();
    }

    fn step(&mut self, step: &proto::Step, query: Result<Box<Query>, Error>) {
        let path = format!("steps.{}", step.name);
        if self.taken(&path, &step.name) {
            return;
        }
        let sql_path = format!("{path}.sql");
        let location = Location::Path(sql_path.clone());
        let planned = query
            .map_err(|error| vec![error])
            .and_then(|mut query| self.with_hints(&mut query).map(|()| query))
            .and_then(|query| sql::plan_query(&self.catalog, query, &location))
            .and_then(|plan| sql::check_names(&plan, &step.name, &location).map(|()| plan));
        match planned {
            Ok(plan) => self.catalog.add_step(Step {
                name: step.name.clone(),
                plan,
                on_error: policy(step.on_error),
                location: Location::Path(path),
            }),
            Err(errors) => {
                self.catalog.add_broken(&step.name);
                self.errors.extend(within(errors, &sql_path));
            }
        }
    }

    /// Adds derived tables for the hints of a query.
    fn with_hints(&mut self, query: &mut Query) -> Result<(), Vec<Error>> {
        sql::declare_hinted_tables(&mut self.catalog, query, &mut |catalog, declaration| {
            let table = resolve(catalog, &declaration, None, None)?;
            let errors = catalog::check(&table, Some(&declaration), Role::Source);
            if !errors.is_empty() {
                return Err(errors);
            }
            catalog.add_table(Arc::new(table));
            catalog.declarations.insert(declaration.name.clone(), declaration);
            Ok(())
        })
    }

    fn sink(&mut self, sink: &proto::Sink) {
        let path = format!("sinks.{}", sink.name);
        if self.catalog.contains(&sink.name) {
            let message = format!("`{}` is taken: sources, steps and sinks share their names", sink.name);
            self.error(&path, message);
            return;
        }
        let Some(input) = self.input(sink) else { return };
        let declared = self.columns(&path, &sink.columns);
        let mut table = TableDeclaration::new(sink.name.clone(), Location::Path(path.clone()));
        table.options = options(&path, &sink.connector, sink.format.as_deref(), &sink.options);
        if self.exactly_once {
            demand_exactly_once(&mut table.options, &path, &sink.connector);
        }
        table.partitioned_by = named(&path, "partitioned_by", &sink.partitioned_by);
        table.primary_key = named(&path, "primary_key", &sink.primary_key);
        table.on_error = policy(sink.on_error);
        table.columns = if sink.columns.is_empty() {
            input.columns.clone()
        } else {
            declared
        };
        if table.columns.len() < sink.columns.len() {
            return;
        }
        let resolved = match resolve(&self.catalog, &table, None, None) {
            Ok(resolved) => sql::sink_table(&resolved),
            Err(errors) => {
                self.errors.extend(within(errors, &path));
                return;
            }
        };
        self.errors.extend(catalog::check(&resolved, Some(&table), Role::Sink));
        let resolved = Arc::new(resolved);
        let location = Location::Path(path.clone());
        let input = match input.plan {
            Planned::Rows(plan) => match self.by_name(&resolved, plan, &location) {
                Ok(plan) => InsertInput::Plan(plan),
                Err(errors) => {
                    self.errors.extend(within(errors, &path));
                    return;
                }
            },
            Planned::Aside(input) => input,
        };
        self.catalog.add_table(resolved.clone());
        self.inserts.push(Insert {
            table: resolved,
            input,
            on_error: policy(sink.on_error),
            on_conflict: None,
            location,
        });
    }

    /// Returns the plan's columns that the sink names, in the sink's order and types.
    fn by_name(&self, sink: &Table, plan: LogicalPlan, location: &Location) -> Result<LogicalPlan, Vec<Error>> {
        let given: Vec<String> = plan
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let mut errors = Vec::new();
        for column in &sink.columns {
            let name = column.field.name();
            if !given.contains(name) {
                let hint = proto::spec::did_you_mean(name, given.iter().map(String::as_str));
                errors.push(Error {
                    location: location.clone(),
                    message: format!("the sink has a column `{name}` that `from` does not have{hint}"),
                });
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        // Project first, as the sink may omit columns.
        let wanted: Vec<_> = sink
            .columns
            .iter()
            .filter_map(|column| {
                let position = given.iter().position(|name| name == column.field.name())?;
                let (qualifier, field) = plan.schema().qualified_field(position);
                Some(datafusion::logical_expr::Expr::Column((qualifier, field).into()))
            })
            .collect();
        let plan = datafusion::logical_expr::LogicalPlanBuilder::from(plan)
            .project(wanted)
            .and_then(datafusion::logical_expr::LogicalPlanBuilder::build)
            .map_err(|error| sql::errors_of(error, location))?;
        sql::project_to_sink(sink, &[], plan, location, &self.catalog)
    }

    /// The target of `from:`.
    fn input(&mut self, sink: &proto::Sink) -> Option<Input> {
        let path = format!("sinks.{}.from", sink.name);
        let location = Location::Path(path.clone());
        let (name, port) = match sink.from.rsplit_once('.') {
            Some((name, port)) if !self.catalog.contains(&sink.from) => (name, Some(port)),
            _ => (sink.from.as_str(), None),
        };
        if self.catalog.is_broken(name) {
            return None;
        }
        if !self.catalog.contains(name) || self.is_sink(name) {
            let hint = proto::spec::did_you_mean(name, self.catalog.names());
            let message = if sink.from.is_empty() {
                "the sink needs `from:`, the name of a step or source".to_owned()
            } else {
                format!("unknown step or source `{name}`{hint}")
            };
            self.error(&path, message);
            return None;
        }
        match port {
            None => {
                let quoted = name.replace('`', "``");
                let planned = sql::read_query(&format!("SELECT * FROM `{quoted}`"))
                    .map_err(|error| vec![error])
                    .and_then(|query| sql::plan_query(&self.catalog, query, &location));
                match planned {
                    Ok(plan) => Some(Input {
                        columns: columns_of(plan.schema(), &location),
                        plan: Planned::Rows(plan),
                    }),
                    Err(errors) => {
                        self.errors.extend(within(errors, &path));
                        None
                    }
                }
            }
            Some(port) if let Some(output) = SideOutputKind::named(port) => {
                let step = self.catalog.steps.iter().find(|step| step.name == name);
                match side_output_fields(name, step.map(|step| &step.plan), output) {
                    Ok(fields) => {
                        let columns = fields.iter().map(|field| ColumnDeclaration {
                            name: field.name().clone(),
                            location: location.clone(),
                            kind: ColumnKind::Physical(field.data_type().clone()),
                        });
                        let name = name.to_owned();
                        Some(Input {
                            columns: columns.collect(),
                            plan: Planned::Aside(match output {
                                SideOutputKind::Late(of) => InsertInput::Late { step: name, of },
                                SideOutputKind::DeadLetters => InsertInput::DeadLetters { name },
                            }),
                        })
                    }
                    Err(message) => {
                        self.error(&path, message);
                        None
                    }
                }
            }
            Some(other) => {
                let hint = proto::spec::did_you_mean(other, SideOutputKind::NAMES);
                self.error(
                    &path,
                    format!(
                        "`{name}` has no output `{other}`{hint}; there are `late` (of joins: `late_left` and \
                         `late_right`) and `dead_letters`"
                    ),
                );
                None
            }
        }
    }

    /// Checks that a sink or step reads the dead letters of every `dead_letter` policy; `skip` drops rows explicitly.
    fn dead_letters_arrive(&mut self, spec: &proto::JobSpec) {
        let keeps = |on_error: Option<i32>| on_error == Some(proto::ErrorPolicy::DeadLetter as i32);
        let sources = spec
            .sources
            .iter()
            .map(|source| ("sources", &source.name, source.on_error));
        let steps = spec.steps.iter().map(|step| ("steps", &step.name, step.on_error));
        let mut read = BTreeSet::new();
        for step in &self.catalog.steps {
            side_outputs_read(&step.plan, &mut read);
        }
        for (kind, name, _) in sources.chain(steps).filter(|(_, _, on_error)| keeps(*on_error)) {
            let letters = format!("{name}.dead_letters");
            let is_read = read.contains(&(name.clone(), SideOutputKind::DeadLetters));
            if !is_read && !spec.sinks.iter().any(|sink| sink.from == letters) {
                self.error(
                    &format!("{kind}.{name}.on_error"),
                    format!(
                        "nothing reads the dead letters: add a sink with `from: {letters}`, or a step, or write \
                         `on_error: skip`"
                    ),
                );
            }
        }
        for sink in spec.sinks.iter().filter(|sink| keeps(sink.on_error)) {
            self.error(
                &format!("sinks.{}.on_error", sink.name),
                "a sink has no dead letters: write `fail` or `skip`, or set `dead_letter` on the step that makes the rows"
                    .into(),
            );
        }
    }

    fn is_sink(&self, name: &str) -> bool {
        self.inserts.iter().any(|insert| insert.table.name == name)
    }
}

/// The input of a sink, and the columns that it has if it declares none.
struct Input {
    columns: Vec<ColumnDeclaration>,
    plan: Planned,
}

enum Planned {
    Rows(LogicalPlan),
    /// Late rows or dead letters.
    Aside(InsertInput),
}

/// Short names of options in specs for Flink's names, by connector.
const SHORT_NAMES: &[(&str, &str, &str)] = &[
    ("kafka", "brokers", "properties.bootstrap.servers"),
    ("kafka", "group", "properties.group.id"),
    ("kafka", "start", "scan.startup.mode"),
    ("hybrid", "brokers", "properties.bootstrap.servers"),
    ("hybrid", "group", "properties.group.id"),
    ("hybrid", "start", "scan.startup.mode"),
];

fn options(
    path: &str,
    connector: &str,
    format: Option<&str>,
    properties: &[proto::Property],
) -> Vec<OptionDeclaration> {
    let mut options = Vec::new();
    let mut push = |name: &str, value: &str, path: String| {
        options.push(OptionDeclaration {
            name: name.to_owned(),
            value: value.to_owned(),
            location: Location::Path(path),
        });
    };
    if !connector.is_empty() {
        push("connector", connector, format!("{path}.connector"));
    }
    if let Some(format) = format {
        push("format", format, format!("{path}.format"));
    }
    for property in properties {
        let long = SHORT_NAMES
            .iter()
            .find(|(of, short, _)| *of == connector && *short == property.key)
            .map_or(property.key.as_str(), |(_, _, long)| long);
        push(long, &property.value, format!("{path}.options.{}", property.key));
    }
    options
}

const DELIVERY_GUARANTEE: &str = "sink.delivery-guarantee";

/// Applies the job's delivery guarantee to a sink that sets none, if its connector has the choice.
fn demand_exactly_once(options: &mut Vec<OptionDeclaration>, path: &str, connector: &str) {
    let offers_choice = millstream_connectors::registry::find(connector).is_some_and(|connector| {
        let described = connector.options(Role::Sink);
        described.iter().any(|option| option.name == DELIVERY_GUARANTEE)
    });
    if offers_choice && options.iter().all(|option| option.name != DELIVERY_GUARANTEE) {
        options.push(OptionDeclaration {
            name: DELIVERY_GUARANTEE.to_owned(),
            value: "exactly-once".to_owned(),
            location: Location::Path(format!("{path}.options")),
        });
    }
}

fn named(path: &str, list: &str, names: &[String]) -> Vec<(String, Location)> {
    names
        .iter()
        .map(|name| (name.clone(), Location::Path(format!("{path}.{list}"))))
        .collect()
}

fn policy(policy: Option<i32>) -> ErrorPolicy {
    match policy.and_then(|policy| proto::ErrorPolicy::try_from(policy).ok()) {
        None | Some(proto::ErrorPolicy::Fail) => ErrorPolicy::Fail,
        Some(proto::ErrorPolicy::DeadLetter) => ErrorPolicy::DeadLetter,
        Some(proto::ErrorPolicy::Skip) => ErrorPolicy::Skip,
        Some(proto::ErrorPolicy::Null) => ErrorPolicy::Null,
    }
}

/// Prefixes errors inside an embedded SQL text with the path of the text.
fn within(errors: Vec<Error>, path: &str) -> Vec<Error> {
    errors
        .into_iter()
        .map(|error| Error {
            location: match error.location {
                Location::LineColumn { line, column } => Location::Within {
                    path: path.to_owned(),
                    line,
                    column,
                },
                Location::Unknown => Location::Path(path.to_owned()),
                location => location,
            },
            message: error.message,
        })
        .collect()
}

#[cfg(test)]
mod tests;
