//! The statements of a script.

use datafusion::sql::sqlparser::ast::{Ident, Query};

use crate::catalog::TableDeclaration;
use crate::error::Location;

/// One statement and where it starts.
#[derive(Debug)]
pub(crate) struct Statement {
    pub location: Location,
    pub kind: StatementKind,
}

#[derive(Debug)]
pub(crate) enum StatementKind {
    CreateTable(Box<CreateTable>),
    CreateView {
        name: Ident,
        if_not_exists: bool,
        columns: Vec<Ident>,
        query: Box<Query>,
    },
    Insert(Insert),
    Set {
        key: String,
        value: String,
    },
    Explain(Insert),
    /// `CREATE FUNCTION name AS 'class'`: fine if we have a function of that name.
    CreateFunction {
        name: Ident,
    },
    /// Nothing to do here: `USE`, `SHOW`, `DROP ... IF EXISTS` before a `CREATE`.
    Ignored,
}

#[derive(Debug)]
pub(crate) struct CreateTable {
    pub declaration: TableDeclaration,
    pub if_not_exists: bool,
    /// `LIKE other`: columns and options that the declaration adds to or overrides.
    pub like: Option<Ident>,
    /// `AS SELECT ...`.
    pub query: Option<Box<Query>>,
}

#[derive(Debug)]
pub(crate) struct Insert {
    /// `None`: the query of an `EXPLAIN SELECT`.
    pub table: Option<Ident>,
    pub columns: Vec<Ident>,
    pub query: Box<Query>,
}
