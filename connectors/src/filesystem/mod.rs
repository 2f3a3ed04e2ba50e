//! Files, on this machine or in an object store: JSON lines, CSV, raw lines and Parquet, plain or compressed.
//!
//! The source reads a file, a folder or a glob in splits. It ends with the last file, or with `source.monitor-interval`
//! looks for new files and never ends. The sink writes files that become visible only when a checkpoint completes.

mod background_writer;
mod column_layout;
mod commit;
mod compression;
mod content_log;
mod earlier_output;
mod error;
mod in_progress_file;
mod local_fs;
mod location;
mod logged_files;
mod open_file;
mod open_files;
mod part_file;
mod partition;
mod pending_file;
mod read_ahead;
mod reader;
mod recovery;
mod sink;
mod sink_settings;
mod source;
mod source_settings;
mod split;
mod success_file;
mod writer;

use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};

use crate::flink_options::{FlinkOption, no_effect};
use crate::format::{FormatSpec, parquet};
use crate::options::{Options, option};
use crate::{
    ChangelogSupport, Connector, Error, MetadataDescription, OptionDescription, OptionEffect, OptionError, OptionKind,
    Role, Sink, Source, Split, TableDefinition, conversion,
};

/// The connector `filesystem`.
pub struct Filesystem;

const PATH: OptionDescription = OptionDescription {
    required: true,
    ..option(
        "path",
        OptionKind::Text,
        None,
        "A file, a folder, a glob (`data/*.json`) or a URL (`file://`, `s3://`, `gs://`, `az://`).",
    )
};

const STORE: OptionDescription = OptionDescription {
    secret: true,
    effect: OptionEffect::Nothing,
    ..option(
        "store.*",
        OptionKind::Text,
        None,
        "Settings of the object store, such as `store.aws_endpoint`; the environment (`AWS_...`) counts too.",
    )
};

const PARTITION_NAME: OptionDescription = option(
    "partition.default-name",
    OptionKind::Text,
    Some("__HIVE_DEFAULT_PARTITION__"),
    "The folder's value for a partition column that is NULL or empty.",
)
.with_effect(OptionEffect::Rows);

const AUTO_COMPACTION: &str = "auto-compaction";
const COMPACTION_FILE_SIZE: &str = "compaction.file-size";

const SOURCE_OPTIONS: &[OptionDescription] = &[
    PATH,
    STORE,
    PARTITION_NAME,
    option(
        source_settings::PATH_PATTERN,
        OptionKind::Text,
        None,
        "Read the files only whose whole path, from the root, matches this regular expression.",
    ),
    option(
        "source.monitor-interval",
        OptionKind::Duration,
        None,
        "Look for new files this often, for ever; without it the files that exist are read once.",
    )
    .with_effect(OptionEffect::Nothing),
    option(
        "source.ordered",
        OptionKind::Boolean,
        Some("false"),
        "Files follow one another in event time, in the order of their names: a later file does not hold the watermark back.",
    )
    .with_effect(OptionEffect::Nothing),
    option(
        "source.split-size",
        OptionKind::Bytes,
        Some("64mb"),
        "Larger uncompressed files are read by several tasks, in parts of this size.",
    ),
    option(
        "source.compression",
        OptionKind::OneOf(&["auto", "none", "gzip", "zstd"]),
        Some("auto"),
        "How files are compressed; `auto` goes by the extension (.gz, .zst).",
    ),
    option(
        "source.max-record-size",
        OptionKind::Bytes,
        Some("64mb"),
        "A longer record ends the job with an error.",
    )
    .with_effect(OptionEffect::Nothing),
];

const SUCCESS_FILE: &str = "`success-file`: an empty file in the folder of a partition, written when files are published \
                            there. With the trigger `partition-time` or a delay, none is written.";

const SINK_OPTIONS: &[OptionDescription] = &[
    PATH,
    STORE,
    PARTITION_NAME,
    option(
        "sink.rolling-policy.file-size",
        OptionKind::Bytes,
        Some("128mb"),
        "A file of this size (before compression) is closed and a new one begun.",
    ),
    option(
        "sink.rolling-policy.rollover-interval",
        OptionKind::Duration,
        Some("30 min"),
        "A file this old is closed and a new one begun. Without `auto-compaction` every checkpoint closes all files too.",
    ),
    option(
        "sink.rolling-policy.check-interval",
        OptionKind::Duration,
        Some("1 min"),
        "Accepted as in Flink, without effect: the age of a file is looked at whenever it is written to, and at every \
         checkpoint.",
    )
    .with_effect(OptionEffect::Nothing),
    option(
        AUTO_COMPACTION,
        OptionKind::Boolean,
        Some("false"),
        "Files stay open across checkpoints until they reach their size or age, so that frequent checkpoints do not make \
         small files; rows become visible when their file is closed.",
    ),
    option(
        COMPACTION_FILE_SIZE,
        OptionKind::Bytes,
        None,
        "The size of a file with `auto-compaction`; `sink.rolling-policy.file-size` if it is not given.",
    ),
    option(
        "sink.compression",
        OptionKind::OneOf(&["none", "gzip", "zstd"]),
        Some("none"),
        "How files of lines are compressed; Parquet has its own option.",
    ),
    option(
        "sink.partition-commit.policy.kind",
        OptionKind::Text,
        None,
        SUCCESS_FILE,
    )
    .with_effect(OptionEffect::Nothing),
    option(
        "sink.partition-commit.success-file.name",
        OptionKind::Text,
        Some("_SUCCESS"),
        "The name of the success file; it begins with `_` or `.`.",
    )
    .with_effect(OptionEffect::Nothing),
    option(
        "sink.max-open-files",
        OptionKind::Integer,
        Some("128"),
        "Most files one task writes at once (one per partition); beyond it the one least recently written is closed.",
    ),
];

const OPTIONS_OF_FLINK: &[FlinkOption] = &[
    no_effect("source.report-statistics", "plans do not depend on statistics"),
    no_effect(
        "sink.shuffle-by-partition.enable",
        "rows are written where they are computed",
    ),
    no_effect(
        "compaction.parallelism",
        "with 'auto-compaction', files are written in their final size at once",
    ),
    no_effect("partition.time-extractor.*", NO_PARTITION_COMMIT),
    no_effect("sink.partition-commit.*", NO_PARTITION_COMMIT),
];

const NO_PARTITION_COMMIT: &str = "files become visible when a checkpoint completes, and then a success file is written, if \
                                   the trigger is 'process-time' and there is no delay; otherwise none is, and no \
                                   metastore is told";

impl Connector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn help(&self) -> &'static str {
        "Files on this machine or in an object store."
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Source, Role::Sink]
    }

    fn options(&self, role: Role) -> &'static [OptionDescription] {
        match role {
            Role::Source => SOURCE_OPTIONS,
            Role::Sink => SINK_OPTIONS,
        }
    }

    fn flink_options(&self) -> &'static [FlinkOption] {
        OPTIONS_OF_FLINK
    }

    fn metadata(&self) -> Vec<MetadataDescription> {
        let read_only = |key, data_type| MetadataDescription {
            key,
            data_type,
            writable: false,
        };
        vec![
            read_only("file.path", DataType::Utf8),
            read_only("file.name", DataType::Utf8),
            read_only("file.size", DataType::Int64),
            read_only(
                "file.modification-time",
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ),
        ]
    }

    fn uses_format(&self, _role: Role) -> bool {
        true
    }

    fn validate(&self, table: &TableDefinition, role: Role) -> Vec<OptionError> {
        let mut errors = Vec::new();
        let offered = self.metadata();
        for (index, column) in table.metadata.iter().enumerate() {
            let declared = table.schema.field(table.physical_columns() + index).data_type();
            let found = offered.iter().find(|description| description.key == column.key);
            if let Some(found) = found.filter(|found| !is_readable_as(&found.data_type, declared)) {
                errors.push(OptionError {
                    subject: Some(column.column.clone()),
                    message: format!(
                        "the metadata '{}' is {}, which cannot become {declared}",
                        column.key,
                        match found.data_type {
                            DataType::Utf8 => "a text (STRING)",
                            DataType::Int64 => "a number (BIGINT)",
                            _ => "a time (TIMESTAMP_LTZ(6))",
                        }
                    ),
                });
            }
        }
        for column in &table.partitioned_by {
            if table.field(column).is_none() {
                let near = millstream_proto::spec::did_you_mean(
                    column,
                    table.schema.fields().iter().map(|field| field.name().as_str()),
                );
                errors.push(OptionError {
                    subject: Some(column.clone()),
                    message: format!("PARTITIONED BY names the column `{column}`, which the table does not have{near}"),
                });
            }
        }
        if errors.is_empty()
            && let Err(error) = check(table, role)
        {
            errors.push(OptionError {
                subject: None,
                message: without_table(&error.to_string(), table),
            });
        }
        errors
    }

    fn changelog(&self, table: &TableDefinition, _role: Role) -> ChangelogSupport {
        FormatSpec::of_value(table).map_or(ChangelogSupport::Append, |format| format.changelog())
    }

    fn is_bounded(&self, table: &TableDefinition) -> bool {
        table.option("source.monitor-interval").is_none()
    }

    fn describe_position(&self, split: &Split) -> Option<String> {
        let position = split::Position::decode(split).ok()?;
        position.describe(&split.id)
    }

    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
        Ok(Arc::new(source::FileSource::new(table)?))
    }

    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn Sink>, Error> {
        Ok(Arc::new(sink::FileSink::new(table)?))
    }
}

/// Returns true if every value of a metadata type can be stored in a column of another.
fn is_readable_as(found: &DataType, declared: &DataType) -> bool {
    declared == &DataType::Utf8 || conversion::preserves_every_value(found, declared)
}

/// Removes the table's name from the beginning of a message, because the caller reports it too.
fn without_table(message: &str, table: &TableDefinition) -> String {
    let name = format!("table `{}`: ", table.name);
    message.strip_prefix(&name).unwrap_or(message).to_string()
}

/// Checks, without looking at any file, that the format supports the columns and that a sink's path is a folder.
fn check(table: &TableDefinition, role: Role) -> Result<(), Error> {
    let format = FormatSpec::of_value(table)?;
    let schema = partition::file_schema(table)?;
    if role == Role::Sink {
        let path = Options::of(table).required("path")?;
        if location::has_wildcard(path) {
            return Err(Error::Invalid(format!(
                "table `{}`: option 'path': `{path}` is a pattern; a table that is written needs a folder",
                table.name
            )));
        }
        success_file::name_of(table)?;
        match format.is_file_format() {
            true => parquet::check_schema(&schema)?,
            false => drop(format.encoder(&schema, crate::format::Framing::Lines)?),
        }
        return Ok(());
    }
    source_settings::path_pattern(table)?;
    match format.is_file_format() {
        true => parquet::check_schema(&schema),
        false => {
            let columns: Vec<usize> = (0..schema.fields().len()).collect();
            format.decoder(&schema, &columns).map(drop)
        }
    }
}

#[cfg(test)]
mod compaction_tests;
#[cfg(test)]
mod header_tests;
#[cfg(test)]
mod sink_tests;
#[cfg(test)]
mod source_tests;
