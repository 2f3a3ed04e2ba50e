//! What connectors say of a table: whether they know its options, and whether it can be read or written at all.

use std::collections::HashSet;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use millstream_connectors::{OptionError, Role};

use super::TableDeclaration;
use crate::error::{Error, Location};
use crate::logical::{CatalogTable, Table};

/// Everything that is wrong with a table in this role, each at the option or column it is about.
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

/// Where an option or a column was written.
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
