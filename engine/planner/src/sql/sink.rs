//! Columns of queries: matching to those of a sink table, renaming, uniqueness.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use millstream_graph::sql_type;
use millstream_proto::spec::did_you_mean;

use super::script::identifier;
use super::{conversion, diagnose, query};
use crate::catalog::Catalog;
use crate::error::{Error, Location};
use crate::logical::{DefinitionRef, Table};

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
        let found = &conversion::as_flink_types(&plan, position, given.data_type());
        if given.data_type() == expected {
            outputs.push(column.alias(field.name()));
        } else if conversion::casts_implicitly(found, expected) {
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
                    conversion::conversion(given.data_type(), expected, &written)
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
pub(super) fn rename_columns(
    plan: LogicalPlan,
    names: &[String],
    location: &Location,
) -> Result<LogicalPlan, Vec<Error>> {
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
