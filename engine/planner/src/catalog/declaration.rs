//! Tables as they are declared, in SQL or in a spec.

use std::time::Duration;

use datafusion::arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast;
use millstream_graph::ErrorPolicy;

use crate::error::Location;

/// A name and its position in the text.
pub(crate) type Named = (String, Location);

/// `CREATE TABLE`, or an entry under `sources:` or `sinks:`.
#[derive(Debug, Clone)]
pub(crate) struct TableDeclaration {
    pub name: String,
    pub location: Location,
    pub columns: Vec<ColumnDeclaration>,
    pub watermark: Option<WatermarkClause>,
    pub idle_timeout: Option<Duration>,
    pub max_future: Option<Duration>,
    pub primary_key: Vec<Named>,
    pub partitioned_by: Vec<Named>,
    pub options: Vec<OptionDeclaration>,
    pub on_error: ErrorPolicy,
}

#[derive(Debug, Clone)]
pub(crate) struct ColumnDeclaration {
    pub name: String,
    pub location: Location,
    pub kind: ColumnKind,
}

#[derive(Debug, Clone)]
pub(crate) enum ColumnKind {
    Physical(DataType),
    Metadata {
        data_type: DataType,
        key: Option<String>,
        is_virtual: bool,
    },
    Computed(Box<ast::Expr>),
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug, Clone)]
pub(crate) struct WatermarkClause {
    pub location: Location,
    pub column: String,
    pub expression: ast::Expr,
}

#[derive(Debug, Clone)]
pub(crate) struct OptionDeclaration {
    pub name: String,
    pub value: String,
    pub location: Location,
}

impl TableDeclaration {
    pub(crate) fn new(name: String, location: Location) -> Self {
        Self {
            name,
            location,
            columns: Vec::new(),
            watermark: None,
            idle_timeout: None,
            max_future: None,
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
            options: Vec::new(),
            on_error: ErrorPolicy::default(),
        }
    }

    pub(crate) fn option(&self, name: &str) -> Option<&OptionDeclaration> {
        self.options.iter().find(|option| option.name == name)
    }
}
