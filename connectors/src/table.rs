//! The contract of connectors: the description of the tables that a connector serves and of their options, and the
//! creation of sources and sinks.
//!
//! The planner checks a pipeline against the descriptions, which are pure data, without access to external systems; the
//! engine calls [`Connector::source`] and [`Connector::sink`] when the job starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, FieldRef, SchemaRef};
use futures::future::{BoxFuture, FutureExt, ready};

use crate::Error;
use crate::changelog::ChangelogSupport;
use crate::flink_options::FlinkOption;
use crate::sink::Sink;
use crate::source::{Source, Split};

/// A table as the user declared it: `CREATE TABLE` or an entry of `sources:`/`sinks:`, resolved.
#[derive(Debug, Clone)]
pub struct TableDefinition {
    /// Name of the table.
    pub name: String,
    /// Columns stored in the external system, in declared order, then the metadata columns. Computed columns are left
    /// out, because the engine evaluates them.
    pub schema: SchemaRef,
    /// Metadata columns: the last columns of `schema`, in the same order.
    pub metadata: Vec<MetadataColumn>,
    /// All options under their Flink names, `connector` and `format` included. Environment variables are substituted.
    pub options: BTreeMap<String, String>,
    /// Names of the columns of `PARTITIONED BY`, in order.
    pub partitioned_by: Vec<String>,
    /// Names of the columns of the primary key, in order.
    pub primary_key: Vec<String>,
}

/// A column that is read from or written to a record's metadata rather than its payload, such as a Kafka timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataColumn {
    /// Name of the column in the table's schema.
    pub column: String,
    /// The connector's name for the metadata (`METADATA FROM 'key'`; the column's own name if not given).
    pub key: String,
    /// True if the column is read-only, and so is not written by a sink.
    pub is_virtual: bool,
}

/// The role of a table in a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The table is read.
    Source,
    /// The table is written to.
    Sink,
}

/// Type of an option's value, for validation and documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// Any text.
    Text,
    /// A whole number.
    Integer,
    /// A finite number.
    Float,
    /// `true` or `false`.
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
    /// Name; a trailing `*` stands for any suffix (`properties.*`).
    pub name: &'static str,
    /// Type of the value.
    pub kind: OptionKind,
    /// True if the option must be given.
    pub required: bool,
    /// Value if the option is not given.
    pub default: Option<&'static str>,
    /// True if the value is never printed.
    pub secret: bool,
    /// Effect of another value on a source that resumes.
    pub effect: OptionEffect,
    /// Explanation in one sentence.
    pub help: &'static str,
}

impl OptionDescription {
    /// Returns the option with another effect.
    pub(crate) const fn with_effect(self, effect: OptionEffect) -> Self {
        Self { effect, ..self }
    }
}

/// A metadata key a connector offers.
#[derive(Debug, Clone)]
pub struct MetadataDescription {
    /// The connector's name for the metadata.
    pub key: &'static str,
    /// Type of a column that holds the metadata without conversion.
    pub data_type: DataType,
    /// True if a sink can write it.
    pub writable: bool,
}

/// A kind of external system. Stateless; one value is registered under its name.
pub trait Connector: Send + Sync {
    /// Returns the value of the option `connector`.
    fn name(&self) -> &'static str;
    /// Returns a description in one sentence.
    fn help(&self) -> &'static str;
    /// Returns the roles that tables of this connector can have.
    fn roles(&self) -> &'static [Role];
    /// Returns the connector's own options. Those of the format are added if [`Connector::uses_format`] is true.
    fn options(&self, role: Role) -> &'static [OptionDescription];
    /// Returns the options of Flink's connector of this name that have no counterpart here.
    fn flink_options(&self) -> &'static [FlinkOption] {
        &[]
    }
    /// Returns the metadata that columns can be read from or written to.
    fn metadata(&self) -> Vec<MetadataDescription> {
        Vec::new()
    }
    /// Returns true if a table needs the option `format`.
    fn uses_format(&self, role: Role) -> bool;
    /// Checks a table beyond its option descriptions: columns that must exist, options that exclude one another. Pure.
    fn validate(&self, _table: &TableDefinition, _role: Role) -> Vec<OptionError> {
        Vec::new()
    }
    /// Returns the tables that a table consists of, each with the prefix of its options, which are checked like other
    /// tables. Pure.
    fn parts(&self, _table: &TableDefinition) -> Vec<(&'static str, TableDefinition)> {
        Vec::new()
    }
    /// Returns the changes that a sink with these options accepts, or that a source provides. Pure.
    fn changelog(&self, _table: &TableDefinition, _role: Role) -> ChangelogSupport {
        ChangelogSupport::Append
    }
    /// Returns true if a source with these options ends by itself. Pure.
    fn is_bounded(&self, table: &TableDefinition) -> bool;
    /// Checks that the external objects of checked tables exist (such as topics), when a job is submitted. Returns one
    /// result per table, in their order. Creates nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the object does not exist and will not be created automatically; [`Error::Unavailable`] if
    /// the external system does not answer.
    fn check_external_objects(
        &self,
        tables: Vec<(Role, Arc<TableDefinition>)>,
    ) -> BoxFuture<'static, Vec<Result<(), Error>>> {
        ready(tables.iter().map(|_| Ok(())).collect()).boxed()
    }
    /// Describes the position of a checkpoint's split for a person; `None` if the split is not one of this connector's.
    /// Checkpoints do not record the connector of a split, so that id and position together must identify it. Pure.
    fn describe_position(&self, _split: &Split) -> Option<String> {
        None
    }
    /// Creates the source of a checked table. Called only if [`Connector::roles`] contains [`Role::Source`].
    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
        Err(lacks_role(self.name(), table, "read from"))
    }
    /// Creates the sink of a checked table. Called only if [`Connector::roles`] contains [`Role::Sink`].
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

/// A mistake in a table definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionError {
    /// Name of the option or column; `None` for the table as a whole.
    pub subject: Option<String>,
    /// Description of the mistake and of the remedy.
    pub message: String,
}

impl OptionError {
    /// Creates the error of an option or a column.
    pub fn new(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            subject: Some(subject.into()),
            message: message.into(),
        }
    }

    /// Creates the error of a table as a whole.
    pub fn of_table(message: impl Into<String>) -> Self {
        Self {
            subject: None,
            message: message.into(),
        }
    }
}

impl TableDefinition {
    /// Returns the value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// Returns the value of the option `connector`; empty if it is missing.
    pub fn connector(&self) -> &str {
        self.option("connector").unwrap_or_default()
    }

    /// Returns the number of columns of `schema` that are not metadata columns, which is the index of the first
    /// metadata column.
    pub fn physical_columns(&self) -> usize {
        self.schema.fields().len() - self.metadata.len()
    }

    /// Returns the column with this name.
    pub fn field(&self, column: &str) -> Option<&FieldRef> {
        self.schema.fields().iter().find(|field| field.name() == column)
    }
}
