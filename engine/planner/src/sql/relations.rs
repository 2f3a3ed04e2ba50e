//! Names of the relations that a parsed query reads, before it is planned.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, ObjectName, Query, Visit, Visitor};

use super::dialect::TABLE_ARGUMENT;
use crate::ast::call_parts;
use crate::logical::SideOutputKind;

/// Returns the names of the tables, views and steps that a query reads, itself or a side output, without those that it
/// defines itself (`WITH name AS ...`).
pub(crate) fn relations_read(query: &Query) -> BTreeSet<String> {
    let mut found = Found::default();
    // The visitor never stops early.
    let walked = query.visit(&mut found);
    debug_assert!(walked.is_continue());
    &found.read - &found.defined
}

#[derive(Default)]
struct Found {
    read: BTreeSet<String>,
    defined: BTreeSet<String>,
}

impl Found {
    /// Adds the relation of a name, and of a side output (`step.late`) its table or step.
    fn add(&mut self, parts: &[&str]) {
        if let [.., owner, output] = parts
            && SideOutputKind::named(output).is_some()
        {
            self.read.insert((*owner).to_owned());
        }
        self.read.extend(parts.last().map(|part| (*part).to_owned()));
    }
}

impl Visitor for Found {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let definitions = query.with.iter().flat_map(|with| &with.cte_tables);
        self.defined
            .extend(definitions.map(|definition| definition.alias.name.value.clone()));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        let parts = name.0.iter().filter_map(|part| part.as_ident());
        self.add(&parts.map(|part| part.value.as_str()).collect::<Vec<_>>());
        ControlFlow::Continue(())
    }

    /// `TABLE name` as the argument of a window function is parsed as a function.
    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && let Some((name, arguments)) = call_parts(function)
            && name == TABLE_ARGUMENT
            && let Some(Expr::CompoundIdentifier(parts)) = arguments.first()
        {
            self.add(&parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>());
        }
        ControlFlow::Continue(())
    }
}
