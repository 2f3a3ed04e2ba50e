//! Resolution of a declared table: options, types and expressions become a [`Table`] of the catalog.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::ast;
use millstream_connectors::{MetadataColumn, TableDefinition};
use millstream_graph::sql_type;
use millstream_proto::spec::parse_flink_duration;

use super::conversion;
use super::query::{inline, typed_expressions};
use super::reserved::{is_reserved, reserved};
use super::script::identifier;
use super::settings::{ERROR_POLICIES, error_policy};
use crate::catalog::{self, Catalog, ColumnDeclaration, ColumnKind, Named, TableDeclaration, WatermarkClause};
use crate::error::{Error, Location};
use crate::functions;
use crate::logical::{DefinitionRef, Table, TableColumn, WatermarkDeclaration};

/// Default idle timeout: a caught-up split without rows for this long no longer holds the watermark back.
const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Default limit of future event times: rows further ahead of the clock do not advance the watermark.
const MAX_FUTURE_DEFAULT: Duration = Duration::from_secs(3600);

/// Returns physical columns for the fields of a query's result, for tables declared without columns.
pub(crate) fn columns_of(schema: &DFSchema, location: &Location) -> Vec<ColumnDeclaration> {
    schema
        .fields()
        .iter()
        .map(|field| ColumnDeclaration {
            name: field.name().clone(),
            location: location.clone(),
            kind: ColumnKind::Physical(conversion::storable(field.data_type())),
        })
        .collect()
}

/// Option of a table with the handling of records that do not decode, and of rows that cannot be encoded.
const ON_ERROR_OPTION: &str = "on-error";

/// Resolves a declaration: replaces references to the environment in options (unless `environment` is `None`), types
/// expressions, and checks everything that does not depend on the role of the table.
pub(crate) fn resolve(
    catalog: &Catalog,
    declaration: &TableDeclaration,
    environment: Option<&BTreeMap<String, String>>,
    idle_timeout: Option<Duration>,
) -> Result<Table, Vec<Error>> {
    let mut errors = Vec::new();
    let mut values = option_values(declaration, environment, &mut errors);
    let mut on_error = declaration.on_error;
    if let Some(value) = values.remove(ON_ERROR_OPTION) {
        match error_policy(&value) {
            Some(policy) => on_error = policy,
            None => errors.push(Error {
                location: declaration
                    .option(ON_ERROR_OPTION)
                    .map_or_else(|| declaration.location.clone(), |option| option.location.clone()),
                message: format!("option '{ON_ERROR_OPTION}' must be {ERROR_POLICIES}, not '{value}'"),
            }),
        }
    }
    let mut seen = HashSet::new();
    for column in &declaration.columns {
        if !seen.insert(column.name.as_str()) {
            errors.push(Error {
                location: column.location.clone(),
                message: format!("table `{}` has two columns named `{}`", declaration.name, column.name),
            });
        }
    }
    for column in declaration.columns.iter().filter(|column| is_reserved(&column.name)) {
        errors.push(Error {
            location: column.location.clone(),
            message: reserved(&column.name),
        });
    }
    for (name, location) in declaration.primary_key.iter().chain(&declaration.partitioned_by) {
        if !seen.contains(name.as_str()) {
            let hint = millstream_proto::spec::did_you_mean(name, seen.iter().copied());
            errors.push(Error {
                location: location.clone(),
                message: format!("table `{}` has no column `{name}`{hint}", declaration.name),
            });
        }
    }
    let definition = definition(declaration, values);
    let columns = columns(catalog, declaration, &definition, &mut errors);
    let watermark = match &declaration.watermark {
        Some(clause) if errors.is_empty() => match watermark(catalog, declaration, clause, &columns, idle_timeout) {
            Ok(watermark) => Some(watermark),
            Err(found) => {
                errors.extend(found);
                None
            }
        },
        _ => None,
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Table {
        name: declaration.name.clone(),
        definition: DefinitionRef(Arc::new(definition)),
        columns,
        watermark,
        on_error,
        location: declaration.location.clone(),
    })
}

fn option_values(
    declaration: &TableDeclaration,
    environment: Option<&BTreeMap<String, String>>,
    errors: &mut Vec<Error>,
) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for option in &declaration.options {
        let substituted = environment.map(|environment| catalog::substitute(&option.value, environment));
        let value = match substituted {
            None => option.value.clone(),
            Some(Ok(value)) => value,
            Some(Err(message)) => {
                errors.push(Error {
                    location: option.location.clone(),
                    message: format!("option '{}': {message}", option.name),
                });
                option.value.clone()
            }
        };
        if values.insert(option.name.clone(), value).is_some() {
            errors.push(Error {
                location: option.location.clone(),
                message: format!("option '{}' is given twice", option.name),
            });
        }
    }
    values
}

/// Returns the table as the connector sees it: physical columns, then metadata.
fn definition(declaration: &TableDeclaration, options: BTreeMap<String, String>) -> TableDefinition {
    let mut fields = Vec::new();
    let mut metadata_fields = Vec::new();
    let mut metadata = Vec::new();
    for column in &declaration.columns {
        match &column.kind {
            ColumnKind::Physical(data_type) => fields.push(Field::new(&column.name, data_type.clone(), true)),
            ColumnKind::Metadata {
                data_type,
                key,
                is_virtual,
            } => {
                metadata_fields.push(Field::new(&column.name, data_type.clone(), true));
                metadata.push(MetadataColumn {
                    column: column.name.clone(),
                    key: key.clone().unwrap_or_else(|| column.name.clone()),
                    is_virtual: *is_virtual,
                });
            }
            ColumnKind::Computed(_) => {}
        }
    }
    fields.extend(metadata_fields);
    let names = |named: &[Named]| named.iter().map(|(name, _)| name.clone()).collect();
    TableDefinition {
        name: declaration.name.clone(),
        schema: Arc::new(Schema::new(fields)),
        metadata,
        options,
        partitioned_by: names(&declaration.partitioned_by),
        primary_key: names(&declaration.primary_key),
    }
}

/// Returns the columns of the table in queries. A computed column may use those computed before it.
fn columns(
    catalog: &Catalog,
    declaration: &TableDeclaration,
    definition: &TableDefinition,
    errors: &mut Vec<Error>,
) -> Vec<TableColumn> {
    let stored = DFSchema::try_from(definition.schema.as_ref().clone());
    let stored = match stored {
        Ok(schema) => schema,
        // Two columns of one name are reported by the caller.
        Err(_) => return Vec::new(),
    };
    let mut computed: Vec<(String, ast::Expr)> = Vec::new();
    let mut columns = Vec::new();
    for column in &declaration.columns {
        let (data_type, expression) = match &column.kind {
            ColumnKind::Physical(data_type) | ColumnKind::Metadata { data_type, .. } => (data_type.clone(), None),
            ColumnKind::Computed(expression) => {
                let inlined = inline(expression.as_ref().clone(), &computed);
                computed.push((column.name.clone(), inlined.clone()));
                match typed_expressions(catalog, vec![inlined], &stored, &column.location) {
                    Ok(mut typed) => {
                        let (expression, data_type) = typed.remove(0);
                        (data_type, Some(expression))
                    }
                    Err(found) => {
                        errors.extend(found);
                        continue;
                    }
                }
            }
        };
        let is_proctime = expression.as_ref().is_some_and(crate::functions::is_proctime);
        columns.push(TableColumn {
            field: Arc::new(Field::new(&column.name, data_type, true)),
            computed: expression,
            is_proctime,
        });
    }
    columns
}

/// Returns true for generators, whose event time advances faster than the clock, so that no row is too far in the
/// future.
fn is_generator(declaration: &TableDeclaration) -> bool {
    let connector = declaration.option("connector").map(|option| option.value.as_str());
    matches!(connector, Some("nexmark" | "datagen"))
}

/// Returns a hint how to compute an event time from a column of another type; empty if that is impossible.
fn computed_event_time(declaration: &TableDeclaration, data_type: &DataType, column: &str) -> String {
    let given = identifier(column);
    let computed = match data_type {
        data_type if data_type.is_integer() => format!("TO_TIMESTAMP_LTZ({given}, 3)"),
        data_type if data_type.is_numeric() => format!("TO_TIMESTAMP_LTZ(CAST({given} AS BIGINT), 3)"),
        DataType::Utf8 => format!("TO_TIMESTAMP({given})"),
        DataType::Date32 => format!("CAST({given} AS TIMESTAMP)"),
        _ => return String::new(),
    };
    let unit = match data_type.is_numeric() {
        true => " (for milliseconds since 1970; 0 stands for seconds, 6 for microseconds)",
        false => "",
    };
    let is_free = |name: &&str| declaration.columns.iter().all(|column| column.name != **name);
    let free = ["ts", "event_time", "row_time"].into_iter().find(is_free);
    let new = free.map_or_else(|| identifier(&format!("{column}_ts")), str::to_owned);
    match declaration.location {
        // The table is part of a spec.
        Location::Path(_) => format!(
            ": add a computed column `{new}: {{ as: \"{computed}\" }}`{unit} under `columns`, and name it in `event_time: \
             {{ column: {new} }}`"
        ),
        _ => format!(
            ": declare a computed column `{new} AS {computed}`{unit} and put the watermark on it: `WATERMARK FOR {new} AS \
             {new} - INTERVAL '5' SECOND`"
        ),
    }
}

fn watermark(
    catalog: &Catalog,
    declaration: &TableDeclaration,
    clause: &WatermarkClause,
    columns: &[TableColumn],
    idle_timeout: Option<Duration>,
) -> Result<WatermarkDeclaration, Vec<Error>> {
    let error = |message: String| {
        vec![Error {
            location: clause.location.clone(),
            message,
        }]
    };
    let Some(column) = columns.iter().find(|column| column.field.name() == &clause.column) else {
        let hint = millstream_proto::spec::did_you_mean(
            &clause.column,
            columns.iter().map(|column| column.field.name().as_str()),
        );
        return Err(error(format!(
            "the watermark is for `{}`, which table `{}` does not have{hint}",
            clause.column, declaration.name
        )));
    };
    if !matches!(column.field.data_type(), DataType::Timestamp(..)) {
        return Err(error(format!(
            "the watermark's column `{}` is of type {}; event time must be TIMESTAMP or TIMESTAMP_LTZ{}",
            clause.column,
            sql_type::name(column.field.data_type()),
            computed_event_time(declaration, column.field.data_type(), &clause.column)
        )));
    }
    if column.is_proctime {
        return Err(error(
            "a PROCTIME() column is the engine's clock: it takes no watermark".into(),
        ));
    }
    let fields: Vec<_> = columns.iter().map(|column| column.field.as_ref().clone()).collect();
    let schema = DFSchema::try_from(Schema::new(fields)).map_err(|found| error(found.to_string()))?;
    let mut typed = typed_expressions(catalog, vec![clause.expression.clone()], &schema, &clause.location)?;
    let (expression, data_type) = typed.remove(0);
    if !matches!(data_type, DataType::Timestamp(..)) {
        return Err(error(format!(
            "a watermark is a timestamp such as `{} - INTERVAL '5' SECOND`; this expression is of type {}",
            clause.column,
            sql_type::name(&data_type)
        )));
    }
    // Windows over instants are those of local times, and so is the watermark.
    let expression = match (catalog.local_time_zone(), &data_type) {
        (Some(zone), DataType::Timestamp(_, Some(_))) => {
            functions::to_local_watermark().call(vec![expression, Expr::Literal(ScalarValue::from(zone), None)])
        }
        _ => expression,
    };
    // An invalid value is reported with the other options.
    let own_idle_timeout = declaration
        .option(millstream_connectors::registry::IDLE_TIMEOUT)
        .and_then(|option| parse_flink_duration(&option.value).ok());
    Ok(WatermarkDeclaration {
        column: clause.column.clone(),
        expression,
        idle_timeout: declaration
            .idle_timeout
            .or(own_idle_timeout)
            .or(idle_timeout)
            .unwrap_or(IDLE_TIMEOUT_DEFAULT),
        max_future: declaration
            .max_future
            .or_else(|| (!is_generator(declaration)).then_some(MAX_FUTURE_DEFAULT)),
    })
}
