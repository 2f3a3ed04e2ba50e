//! The statements of a script.

use datafusion::sql::sqlparser::ast::{Ident, Query};

use crate::catalog::TableDeclaration;
use crate::error::Location;
use crate::logical::ConflictStrategy;

/// A statement and its position.
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
    /// `CREATE FUNCTION name AS 'class'`: ignored if there is a function of that name, else an error.
    CreateFunction {
        name: Ident,
    },
    /// A statement without effect here: `USE`, `SHOW`, `DROP ... IF EXISTS` before a `CREATE`.
    Ignored,
}

#[derive(Debug)]
pub(crate) struct CreateTable {
    pub declaration: TableDeclaration,
    pub if_not_exists: bool,
    /// `LIKE other`: a table whose columns and options the declaration extends or overrides.
    pub like: Option<Ident>,
    /// `AS SELECT ...`.
    pub query: Option<Box<Query>>,
}

#[derive(Debug)]
pub(crate) struct Insert {
    /// Target table; `None` for the query of an `EXPLAIN SELECT`.
    pub table: Option<Ident>,
    pub columns: Vec<Ident>,
    pub query: Box<Query>,
    pub on_conflict: Option<ConflictStrategy>,
}
