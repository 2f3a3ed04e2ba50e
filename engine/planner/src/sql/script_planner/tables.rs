//! Declarations of tables, catalogs and databases, and their changes.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{Ident, Query};
use millstream_proto::spec::did_you_mean;

use super::super::statement::{CreateTable, NamespaceStatement, TableChange};
use super::super::table::columns_of;
use super::super::tokens::{Name, place};
use super::super::{alter, like, output_names};
use super::{ScriptPlanner, declare, name_exists};
use crate::catalog::{self, TableDeclaration};
use crate::error::{Error, Location};
use crate::logical::{InsertInput, Table};

impl ScriptPlanner<'_> {
    pub(super) fn create_table(&mut self, create: CreateTable) -> Result<(), Vec<Error>> {
        let CreateTable {
            name,
            mut declaration,
            if_not_exists,
            like,
            query,
            column_order,
        } = create;
        let location = declaration.location.clone();
        self.check_qualifier(&name)?;
        if self.catalog.contains(&declaration.name) {
            if if_not_exists {
                return Ok(());
            }
            return Err(vec![name_exists(&declaration.name, &location)]);
        }
        if let Some(like) = like {
            self.check_qualifier(&like.table)?;
            let other = like.table.value();
            match self.catalog.declarations.get(other) {
                Some(declared) => match like::apply(declared, declaration, &like.options) {
                    Ok(combined) => declaration = combined,
                    Err(message) => {
                        self.catalog.add_broken(name.value());
                        return Err(vec![Error { location, message }]);
                    }
                },
                None => {
                    self.catalog.add_broken(&declaration.name);
                    if self.catalog.is_broken(other) {
                        return Ok(());
                    }
                    return Err(vec![self.unknown_table(&like.table)]);
                }
            }
        }
        let Some(query) = query else {
            return self.declare(declaration).map(drop);
        };
        let outcome = self.create_table_as(declaration, query, &column_order);
        if outcome.is_err() {
            self.catalog.add_broken(name.value());
        }
        outcome
    }

    /// Declares a table with the columns of a query, and inserts the query's rows into it. A column that is declared
    /// already keeps its declaration.
    fn create_table_as(
        &mut self,
        mut declaration: TableDeclaration,
        mut query: Box<Query>,
        column_order: &[Ident],
    ) -> Result<(), Vec<Error>> {
        let location = declaration.location.clone();
        output_names::name_all_outputs(&mut query.body);
        let plan = self.plan(query, &location)?;
        let mut columns = columns_of(plan.schema(), &location);
        let written: Vec<(String, Location)> = columns
            .iter()
            .map(|column| (column.name.clone(), location.clone()))
            .collect();
        if !column_order.is_empty() {
            columns = column_order
                .iter()
                .map(|wanted| {
                    let found = columns.iter().find(|column| column.name == wanted.value);
                    found.cloned().ok_or_else(|| Error {
                        location: place(wanted),
                        message: format!(
                            "the query has no column `{}`{}",
                            wanted.value,
                            did_you_mean(&wanted.value, columns.iter().map(|column| column.name.as_str()))
                        ),
                    })
                })
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| vec![error])?;
            if columns.len() != written.len() {
                return Err(vec![Error {
                    location,
                    message: format!(
                        "the query has {} columns, of which {} are listed: list all of them",
                        written.len(),
                        columns.len()
                    ),
                }]);
            }
        }
        columns.retain(|column| declaration.columns.iter().all(|declared| declared.name != column.name));
        declaration.columns.extend(columns);
        let table = self.declare(declaration)?;
        self.insert_plan(&table, &written, plan, None, &location)
    }

    pub(super) fn create_function(&self, name: &Name) -> Result<(), Vec<Error>> {
        if self.catalog.functions().contains(&name.value().to_ascii_lowercase()) {
            return Ok(());
        }
        Err(vec![Error {
            location: name.place(),
            message: format!(
                "`{}` cannot be loaded: user-defined functions are not supported; use the functions of the SQL reference",
                name.value()
            ),
        }])
    }

    /// Applies `ALTER TABLE` to the declaration of a table that no query uses yet.
    pub(super) fn alter_table(&mut self, name: &Name, if_exists: bool, change: TableChange) -> Result<(), Vec<Error>> {
        self.check_qualifier(name)?;
        let Some(declaration) = self.catalog.declarations.get(name.value()) else {
            if if_exists || self.catalog.is_broken(name.value()) {
                return Ok(());
            }
            return Err(vec![self.unknown_table(name)]);
        };
        let mut changed = declaration.clone();
        alter::apply(&mut changed, change)?;
        self.check_unused(name, "ALTER TABLE")?;
        if changed.name != name.value() && self.catalog.contains(&changed.name) {
            return Err(vec![name_exists(&changed.name, &name.place())]);
        }
        self.catalog.remove(name.value());
        self.declare(changed).map(drop)
    }

    /// Removes a table or view that no query uses yet. Unknown names are ignored: a script starts with an empty
    /// catalog.
    pub(super) fn drop_relation(&mut self, name: &Name) -> Result<(), Vec<Error>> {
        self.check_qualifier(name)?;
        let is_read = self.is_used(name.value());
        // A relation that queries use stays part of the job; its name is taken.
        if !is_read {
            self.catalog.remove(name.value());
        }
        Ok(())
    }

    fn check_unused(&self, name: &Name, statement: &str) -> Result<(), Vec<Error>> {
        if !self.is_used(name.value()) {
            return Ok(());
        }
        Err(vec![Error {
            location: name.place(),
            message: format!(
                "{statement}: `{}` is used by a statement before this one, which is part of the same job: move the change \
                 before it, or declare another table LIKE `{}`",
                name.value(),
                name.value()
            ),
        }])
    }

    /// Returns true if a view or an insert reads or writes a relation.
    fn is_used(&self, name: &str) -> bool {
        let inserts = self.inserts.iter().filter_map(|insert| match &insert.input {
            InsertInput::Plan(plan) => Some(plan),
            _ => None,
        });
        let steps = self.catalog.steps.iter().map(|step| &step.plan);
        self.inserts.iter().any(|insert| insert.table.name == name)
            || steps.chain(inserts).any(|plan| catalog::reads(plan, name))
    }

    pub(super) fn namespace(&mut self, statement: NamespaceStatement) -> Result<(), Vec<Error>> {
        let namespaces = &mut self.catalog.namespaces;
        let catalog_of = |name: &Name| name.qualifier.last().map(|catalog| catalog.value.clone());
        let (outcome, location) = match statement {
            NamespaceStatement::CreateCatalog { name, default_database } => {
                namespaces.add_catalog(&name.value, default_database.as_deref());
                return Ok(());
            }
            NamespaceStatement::CreateDatabase { name } => (
                namespaces.add_database(catalog_of(&name).as_deref(), name.value()),
                name.place(),
            ),
            NamespaceStatement::UseCatalog { name } => (namespaces.use_catalog(&name.value), place(&name)),
            NamespaceStatement::UseDatabase { name } => (
                namespaces.use_database(catalog_of(&name).as_deref(), name.value()),
                name.place(),
            ),
        };
        outcome.map_err(|message| vec![Error { location, message }])
    }

    fn declare(&mut self, declaration: TableDeclaration) -> Result<Arc<Table>, Vec<Error>> {
        let environment = &self.options.environment;
        declare(&mut self.catalog, declaration, environment, self.idle_timeout)
    }
}
