//! Connectors: sources and sinks of rows in external systems.
//!
//! [`Source`] and [`Sink`] are the contracts with the engine; a [`Connector`] creates them from a table definition;
//! [`registry`] lists all compiled-in connectors. Formats (JSON, CSV, Parquet, raw) decode bytes to Arrow batches and
//! encode batches to bytes, for every connector of byte-oriented systems.
//!
//! This crate knows nothing of the engine.

#![warn(missing_docs, unreachable_pub)]

#[cfg(feature = "blackhole")]
pub mod blackhole;
pub mod changelog;
mod clock;
mod conversion;
#[cfg(feature = "datagen")]
pub mod datagen;
pub mod error;
pub mod fields;
#[cfg(feature = "filesystem")]
pub mod filesystem;
pub mod flink_options;
pub mod format;
#[cfg(all(feature = "filesystem", feature = "kafka"))]
pub mod hybrid;
pub mod interval;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod multiset;
#[cfg(feature = "nexmark")]
pub mod nexmark;
pub mod options;
pub mod outage;
#[cfg(feature = "print")]
pub mod print;
pub mod rate_limit;
pub mod redaction;
pub mod registry;
pub mod request;
pub mod secrets;
pub mod sink;
pub mod source;
pub mod sql_type;
pub mod table;

pub use changelog::{ChangelogSupport, KIND_COLUMN, RowKind};
pub use error::Error;
pub use fields::{InputFields, SourceFields};
pub use flink_options::{FlinkOption, Treatment};
pub use outage::Outage;
pub use sink::{
    BlockedPartition, Committable, Delivery, JobIdentity, OutputFile, OutputStorage, Sink, SinkWriter,
    TransactionReport, TransactionalId, WriterContext,
};
pub use source::{Boundedness, ReaderContext, RejectedRecord, Source, SourceBatch, SourceEvent, SourceReader, Split};
pub use table::{
    Connector, MetadataColumn, MetadataDescription, OptionDescription, OptionEffect, OptionError, OptionKind, Role,
    TableDefinition,
};
