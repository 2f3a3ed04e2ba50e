//! The settings of a source table of files, read once from its options.

use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use regex::Regex;

use super::compression::Compression;
use super::location::Location;
use super::partition;
use crate::format::{FormatSpec, Header, Lines};
use crate::options::Options;
use crate::{Error, SourceFields, TableDefinition};

const SPLIT_BYTES_DEFAULT: u64 = 64 << 20;
const RECORD_BYTES_MAX_DEFAULT: u64 = 64 << 20;

/// The settings that the source and all its readers share.
pub(super) struct SourceSettings {
    /// The table.
    pub table: TableDefinition,
    /// Location of the files.
    pub location: Location,
    /// Format of the files.
    pub format: FormatSpec,
    /// Rules for finding the ends of records; unused for Parquet.
    pub lines: Lines,
    /// Counts the fields of the records read.
    pub fields: Arc<SourceFields>,
    /// Rules for finding a file's header; `None` if files have none.
    pub header: Option<Header>,
    /// Columns stored in the files.
    pub file_schema: SchemaRef,
    /// Partition folder value that stands for NULL.
    pub default_partition: String,
    /// Largest size of a record in bytes.
    pub record_bytes_max: u64,
    /// Interval of the search for new files; `None` to read the files that exist at the start.
    pub monitor_interval: Option<Duration>,
    /// Pattern of the paths of the files to read, if one is given.
    pub path_pattern: Option<Regex>,
    /// True if files follow one another in event time.
    pub is_ordered: bool,
    /// Option `source.compression`.
    compression: String,
    split_bytes: u64,
}

impl SourceSettings {
    /// Reads the settings of a table whose files are at `location`.
    pub(super) fn new(table: &TableDefinition, location: Location) -> Result<Self, Error> {
        let options = Options::of(table);
        let format = FormatSpec::of_value(table)?;
        let file_schema = partition::file_schema(table)?;
        Ok(Self {
            location,
            fields: Arc::new(SourceFields::new(&table.name, &file_schema)),
            lines: format.lines()?,
            header: format.header()?,
            format,
            file_schema,
            default_partition: partition::default_name(&options).to_string(),
            record_bytes_max: options
                .bytes("source.max-record-size")?
                .unwrap_or(RECORD_BYTES_MAX_DEFAULT)
                .max(1),
            monitor_interval: options.duration("source.monitor-interval")?,
            path_pattern: path_pattern(table)?,
            is_ordered: options.boolean("source.ordered")?.unwrap_or(false),
            compression: options.text("source.compression").unwrap_or("auto").to_string(),
            split_bytes: options.bytes("source.split-size")?.unwrap_or(SPLIT_BYTES_DEFAULT),
            table: table.clone(),
        })
    }

    /// Returns true if files are Parquet files rather than files of lines.
    pub(super) fn is_parquet(&self) -> bool {
        self.format.is_file_format()
    }

    /// Returns the compression of a file.
    pub(super) fn compression_of(&self, path: &str) -> Compression {
        Compression::of(path, &self.compression)
    }

    /// Returns the size of a file's splits; `None` if the file is one split. A file of lines that may grow while it is
    /// monitored is one split, because its end is not known.
    pub(super) fn split_bytes(&self, path: &str) -> Option<u64> {
        let can_split = self.is_parquet()
            || (self.lines.can_split()
                && self.compression_of(path) == Compression::None
                && self.monitor_interval.is_none());
        can_split.then_some(self.split_bytes)
    }
}

/// Returns the pattern that the whole path of a file must match.
pub(super) fn path_pattern(table: &TableDefinition) -> Result<Option<Regex>, Error> {
    let Some(pattern) = Options::of(table).text(PATH_PATTERN) else {
        return Ok(None);
    };
    Regex::new(&format!("^(?:{pattern})$")).map(Some).map_err(|_| {
        Error::Invalid(format!(
            "table `{}`: option '{PATH_PATTERN}': `{pattern}` is not a regular expression (without look-around and \
             back-references)",
            table.name
        ))
    })
}

/// Option of the pattern.
pub(super) const PATH_PATTERN: &str = "source.path.regex-pattern";
