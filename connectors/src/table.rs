//! How a connector describes itself: the tables it can serve, their options, and the way from a definition to a source
//! or sink.
//!
//! The planner reads the descriptions (pure data) to check a pipeline without touching the outside world; the engine
//! calls [`Connector::source`] and [`Connector::sink`] when the job starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, FieldRef, SchemaRef};
use futures::future::{BoxFuture, FutureExt, ready};

use crate::Error;
use crate::sink::Sink;
use crate::source::{Source, Split};

/// A table as the user declared it: `CREATE TABLE` or an entry of `sources:`/`sinks:`, resolved.
#[derive(Debug, Clone)]
pub struct TableDefinition {
    pub name: String,
    /// Columns stored in the outside system, in declared order, then the metadata columns. Computed columns are not
    /// here: the engine evaluates them.
    pub schema: SchemaRef,
    /// Which trailing columns of `schema` are metadata, by the connector's metadata key.
    pub metadata: Vec<MetadataColumn>,
    /// `connector`, `format` and everything else, under their Flink names. Environment variables are replaced.
    pub options: BTreeMap<String, String>,
    pub partitioned_by: Vec<String>,
    pub primary_key: Vec<String>,
}

/// A column filled from (or written to) something beside the payload, such as a Kafka timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataColumn {
    /// The column's name in the table's schema.
    pub column: String,
    /// The connector's name for it (`METADATA FROM 'key'`; the column's own name if not given).
    pub key: String,
    /// Read only: not expected in rows written to a sink.
    pub is_virtual: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Source,
    Sink,
}

/// What kind of text an option takes, for validation and documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    Text,
    Integer,
    Float,
    Boolean,
    /// `10 s`, `500ms`, `1 min`.
    Duration,
    /// `64mb`, `1 gb`.
    Bytes,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// Effect of another value of an option on a source that resumes from a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OptionEffect {
    /// Other records are read, or they are divided into splits differently: stored positions belong to other data.
    Records,
    /// The same records become other rows.
    Rows,
    /// Records that otherwise fail become rows.
    Failures,
    /// Neither: addresses, credentials, rates, where reading begins without a checkpoint or ends, how rows are written.
    Nothing,
}

/// One option of a connector or format.
#[derive(Debug, Clone, Copy)]
pub struct OptionDescription {
    /// The name; a trailing `*` stands for any suffix (`properties.*`).
    pub name: &'static str,
    pub kind: OptionKind,
    pub required: bool,
    pub default: Option<&'static str>,
    /// Values are never printed.
    pub secret: bool,
    /// Effect of another value on a source that resumes.
    pub effect: OptionEffect,
    /// One sentence for a person.
    pub help: &'static str,
}

impl OptionDescription {
    /// The same option with another effect.
    pub(crate) const fn with_effect(self, effect: OptionEffect) -> Self {
        Self { effect, ..self }
    }
}

/// A metadata key a connector offers.
#[derive(Debug, Clone)]
pub struct MetadataDescription {
    pub key: &'static str,
    pub data_type: DataType,
    /// May be written by a sink.
    pub writable: bool,
}

/// A kind of outside system. Stateless; one value of it is registered under its name.
pub trait Connector: Send + Sync {
    /// The value of the `connector` option.
    fn name(&self) -> &'static str;
    /// One sentence for a person.
    fn help(&self) -> &'static str;
    fn roles(&self) -> &'static [Role];
    /// The connector's own options; those of the format are added where [`Connector::uses_format`].
    fn options(&self, role: Role) -> &'static [OptionDescription];
    fn metadata(&self) -> Vec<MetadataDescription> {
        Vec::new()
    }
    /// Whether the connector needs a `format` option.
    fn uses_format(&self, role: Role) -> bool;
    /// Checks beyond what descriptions say (columns that must exist, options that exclude one another). Pure.
    fn validate(&self, _table: &TableDefinition, _role: Role) -> Vec<OptionError> {
        Vec::new()
    }
    /// Whether the source ends by itself, with these options. Pure.
    fn is_bounded(&self, table: &TableDefinition) -> bool;
    /// Whether what checked tables name exists outside (a topic), asked once, when a job is submitted: an answer for each
    /// table, in their order. [`Error::Invalid`]: it does not, and would not by itself; [`Error::Unavailable`]: nobody
    /// answers. Makes nothing outside.
    fn look_up(&self, tables: Vec<(Role, Arc<TableDefinition>)>) -> BoxFuture<'static, Vec<Result<(), Error>>> {
        ready(tables.iter().map(|_| Ok(())).collect()).boxed()
    }
    /// How far a split of a checkpoint was read, for a person, if the split is one of this connector's: a checkpoint does
    /// not say whose its splits are, so the form of id and position together must leave no doubt. Pure.
    fn position(&self, _split: &Split) -> Option<String> {
        None
    }
    /// The source of a checked table; called only in a role of [`Connector::roles`].
    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
        Err(lacks_role(self.name(), table, "read from"))
    }
    /// The sink of a checked table; called only in a role of [`Connector::roles`].
    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn Sink>, Error> {
        Err(lacks_role(self.name(), table, "written to"))
    }
}

fn lacks_role(connector: &str, table: &TableDefinition, what: &str) -> Error {
    Error::Invalid(format!(
        "table `{}`: the connector `{connector}` cannot be {what}",
        table.name
    ))
}

/// What is wrong with a table definition, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionError {
    /// The option or column it is about; `None`: the table as a whole.
    pub subject: Option<String>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl TableDefinition {
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    pub fn connector(&self) -> &str {
        self.option("connector").unwrap_or_default()
    }

    /// Index of the first metadata column in `schema`.
    pub fn physical_columns(&self) -> usize {
        self.schema.fields().len() - self.metadata.len()
    }

    pub fn field(&self, column: &str) -> Option<&FieldRef> {
        self.schema.fields().iter().find(|field| field.name() == column)
    }
}
