//! The statements of a script.

use datafusion::sql::sqlparser::ast::{Expr, Ident, Query};
use millstream_graph::ConflictStrategy;

use super::tokens::Name;
use crate::catalog::{Named, OptionDeclaration, TableDeclaration};
use crate::error::Location;

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
        name: Name,
        if_not_exists: bool,
        columns: Vec<Ident>,
        query: Box<Query>,
    },
    Insert(Insert),
    /// A query whose rows are printed.
    Query(Box<Query>),
    Set {
        key: String,
        value: String,
    },
    /// `RESET 'key'`, or `RESET` of all keys.
    Reset {
        key: Option<String>,
    },
    Explain(Insert),
    /// `CREATE FUNCTION name AS 'class'`: ignored if there is a function of that name, else an error.
    CreateFunction {
        name: Name,
    },
    AlterTable {
        name: Name,
        if_exists: bool,
        change: TableChange,
    },
    /// `DROP TABLE` or `DROP VIEW`.
    Drop {
        name: Name,
    },
    Namespace(NamespaceStatement),
    Show(Show),
    /// A statement that is accepted, and has no effect.
    NoEffect {
        reason: &'static str,
        /// The statement's first words.
        words: String,
    },
}

/// A statement that lists parts of the catalog.
#[derive(Debug)]
pub(crate) enum Show {
    List(Listed, Option<NamePattern>),
    CurrentCatalog,
    CurrentDatabase,
    Columns(Name, Option<NamePattern>),
    /// `SHOW CREATE TABLE` or `SHOW CREATE VIEW`.
    Create(Name),
    Describe(Name),
}

/// Things that `SHOW` lists by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listed {
    Tables,
    Views,
    Functions,
    Databases,
    Catalogs,
}

/// `[NOT] LIKE 'pattern'`.
#[derive(Debug)]
pub(crate) struct NamePattern {
    pub is_negated: bool,
    /// With `%` and `_`.
    pub pattern: String,
    /// True for `ILIKE`.
    pub ignores_case: bool,
}

/// A statement about catalogs and databases.
#[derive(Debug)]
pub(crate) enum NamespaceStatement {
    CreateCatalog {
        name: Ident,
        default_database: Option<String>,
    },
    CreateDatabase {
        name: Name,
    },
    UseCatalog {
        name: Ident,
    },
    UseDatabase {
        name: Name,
    },
}

/// A change by `ALTER TABLE`.
#[derive(Debug)]
pub(crate) enum TableChange {
    SetOptions(Vec<OptionDeclaration>),
    ResetOptions(Vec<Named>),
    Rename(Name),
    /// `ADD (...)`.
    Add(Box<TableDeclaration>),
    /// `MODIFY (...)`.
    Modify(Box<TableDeclaration>),
    RenameColumn {
        from: Ident,
        to: Ident,
    },
    DropColumns(Vec<Ident>),
    DropWatermark,
    DropPrimaryKey,
}

#[derive(Debug)]
pub(crate) struct CreateTable {
    pub name: Name,
    pub declaration: TableDeclaration,
    pub if_not_exists: bool,
    pub like: Option<Like>,
    /// `AS SELECT ...`.
    pub query: Option<Box<Query>>,
    /// `(a, b) AS SELECT ...`: the order of the query's columns in the table.
    pub column_order: Vec<Ident>,
}

/// `LIKE other (...)`: a table whose columns and options the declaration extends or overrides.
#[derive(Debug)]
pub(crate) struct Like {
    pub table: Name,
    pub options: Vec<(LikeMode, LikeFeature)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LikeMode {
    Including,
    Excluding,
    Overwriting,
}

/// Parts of a table that `LIKE` may leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LikeFeature {
    All,
    Constraints,
    Distribution,
    Generated,
    Metadata,
    Options,
    Partitions,
    Watermarks,
}

#[derive(Debug)]
pub(crate) struct Insert {
    /// Target table; `None` for the query of an `EXPLAIN SELECT`.
    pub table: Option<Name>,
    /// Options of the hint after the target table.
    pub hint: Vec<OptionDeclaration>,
    pub columns: Vec<Ident>,
    /// `PARTITION (day = '2024-01-01')`: columns with a constant value for all rows.
    pub partition: Vec<(Ident, Expr)>,
    pub query: Box<Query>,
    pub on_conflict: Option<ConflictStrategy>,
}
