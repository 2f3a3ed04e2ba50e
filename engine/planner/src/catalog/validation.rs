//! Validation of tables by their connectors: options, and whether a table can be read or written.

use std::collections::HashSet;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use millstream_connectors::{OptionError, Role};

use super::TableDeclaration;
use crate::error::{Error, Location};
use crate::logical::{CatalogTable, SideOutputScan, StepReference, Table};

/// Returns the errors of a table in a role, each at its option or column.
pub(crate) fn check(table: &Table, declaration: Option<&TableDeclaration>, role: Role) -> Vec<Error> {
    validate(&table.definition.0, role)
        .into_iter()
        .map(|OptionError { subject, message }| {
            let location = subject.and_then(|subject| place(declaration?, &subject));
            Error {
                location: location.unwrap_or_else(|| table.location.clone()),
                message: format!("table `{}`: {message}", table.name),
            }
        })
        .collect()
}

fn validate(table: &millstream_connectors::TableDefinition, role: Role) -> Vec<OptionError> {
    millstream_connectors::registry::validate(table, role)
}

/// Returns the errors in the options of a table that could not be resolved.
pub(crate) fn check_options(declaration: &TableDeclaration, role: Role) -> Vec<Error> {
    validate(&options_only(declaration), role)
        .into_iter()
        .filter_map(|OptionError { subject, message }| {
            let location = declaration.option(&subject?)?.location.clone();
            let message = format!("table `{}`: {message}", declaration.name);
            Some(Error { location, message })
        })
        .collect()
}

/// Returns the options of a table that have no effect, each with a note.
pub(crate) fn option_notes(declaration: &TableDeclaration) -> Vec<(String, String)> {
    let notes = millstream_connectors::registry::notes(&options_only(declaration));
    notes
        .into_iter()
        .filter_map(|OptionError { subject, message }| Some((subject?, message)))
        .collect()
}

/// Returns a table with the options of a declaration, without columns.
fn options_only(declaration: &TableDeclaration) -> millstream_connectors::TableDefinition {
    millstream_connectors::TableDefinition {
        name: declaration.name.clone(),
        schema: std::sync::Arc::new(arrow_schema::Schema::empty()),
        metadata: Vec::new(),
        options: declaration
            .options
            .iter()
            .map(|option| (option.name.clone(), option.value.clone()))
            .collect(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    }
}

/// Returns the position of an option or a column.
fn place(declaration: &TableDeclaration, subject: &str) -> Option<Location> {
    let option = declaration.option(subject).map(|option| &option.location);
    let column = || {
        let column = declaration.columns.iter().find(|column| column.name == subject);
        column.map(|column| &column.location)
    };
    option.or_else(column).cloned()
}

/// Adds the names of the tables that a plan scans itself, not through steps.
pub(crate) fn tables_read(plan: &LogicalPlan, names: &mut HashSet<String>) {
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(table) = scan.source.downcast_ref::<CatalogTable>()
        {
            names.insert(table.table.name.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the walk itself cannot fail");
}

/// Returns true if a plan reads a table or a view itself, not through other views.
pub(crate) fn reads(plan: &LogicalPlan, name: &str) -> bool {
    let mut found = false;
    let walked = plan.apply_with_subqueries(|node| {
        found |= match node {
            LogicalPlan::TableScan(scan) => scan.table_name.table() == name,
            LogicalPlan::Extension(extension) => {
                let step = extension.node.as_any().downcast_ref::<StepReference>();
                step.is_some_and(|step| step.name == name)
                    || SideOutputScan::of(node).is_some_and(|scan| scan.owner == name)
            }
            _ => false,
        };
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the walk itself cannot fail");
    found
}
