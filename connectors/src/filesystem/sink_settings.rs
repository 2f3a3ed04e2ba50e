//! The settings of a sink table of files, read once from its options.

use std::path::Path;
use std::time::Duration;

use arrow_schema::SchemaRef;
use tokio::runtime::Handle;

use super::compression::Compression;
use super::in_progress_file::InProgressFile;
use super::local_fs::create_folder;
use super::location::Location;
use super::{part_file, partition, success_file};
use crate::format::{FormatSpec, Framing};
use crate::options::Options;
use crate::{Error, JobIdentity, TableDefinition};

const FILE_BYTES_MAX_DEFAULT: u64 = 128 << 20;
const FILE_AGE_MAX_DEFAULT: Duration = Duration::from_secs(30 * 60);
const OPEN_FILES_MAX_DEFAULT: u64 = 128;

/// The settings that the sink and all its writers share.
pub(super) struct SinkSettings {
    /// The table.
    pub table: TableDefinition,
    /// Folder or prefix to write below.
    pub location: Location,
    /// Format of the files.
    pub format: FormatSpec,
    /// Columns stored in the files.
    pub file_schema: SchemaRef,
    /// Compression of files of lines.
    pub compression: Compression,
    /// Partition folder value that stands for NULL.
    pub default_partition: String,
    /// Size, before compression, at which a file is closed.
    pub file_bytes_max: u64,
    /// Age at which a file is closed.
    pub file_age_max: Duration,
    /// Most files that one writer has open.
    pub open_files_max: usize,
    /// True if files stay open across checkpoints until they are large or old enough (`auto-compaction`).
    pub keeps_files_open: bool,
    /// Name of the success file of a partition; `None` if none is written.
    pub success_file: Option<String>,
}

impl SinkSettings {
    /// Reads the settings of a table whose files are written at `location`.
    pub(super) fn new(table: &TableDefinition, location: Location) -> Result<Self, Error> {
        let options = Options::of(table);
        let open_files_max = options
            .count("sink.max-open-files")?
            .unwrap_or(OPEN_FILES_MAX_DEFAULT)
            .max(1);
        let keeps_files_open = options.boolean(super::AUTO_COMPACTION)?.unwrap_or(false);
        let rolling_bytes = options.bytes("sink.rolling-policy.file-size")?;
        let file_bytes_max = match keeps_files_open {
            true => options.bytes(super::COMPACTION_FILE_SIZE)?.or(rolling_bytes),
            false => rolling_bytes,
        };
        Ok(Self {
            location,
            format: FormatSpec::of_value(table)?,
            file_schema: partition::file_schema(table)?,
            compression: Compression::of("", options.text("sink.compression").unwrap_or("none")),
            default_partition: partition::default_name(&options).to_string(),
            file_bytes_max: file_bytes_max.unwrap_or(FILE_BYTES_MAX_DEFAULT).max(1),
            keeps_files_open,
            success_file: success_file::name_of(table)?,
            file_age_max: options
                .duration("sink.rolling-policy.rollover-interval")?
                .unwrap_or(FILE_AGE_MAX_DEFAULT),
            open_files_max: usize::try_from(open_files_max).unwrap_or(usize::MAX),
            table: table.clone(),
        })
    }

    /// Returns the header of a file of a text format, if it has one.
    pub(super) fn header(&self) -> Result<Option<Vec<u8>>, Error> {
        match self.format.is_file_format() {
            true => Ok(None),
            false => Ok(self.format.encoder(&self.file_schema, Framing::Lines)?.header()),
        }
    }

    /// Creates a file in a partition's folder: `day=2024-01-01/`, or empty without partition columns.
    pub(super) fn create_file(
        &self,
        job: &JobIdentity,
        subtask: usize,
        folder: &str,
        runtime: &Handle,
    ) -> Result<InProgressFile, Error> {
        let compression = match self.format.is_file_format() {
            true => "",
            false => self.compression.extension(),
        };
        let name = part_file::name(job, subtask, &format!("{}{compression}", self.format.format.name));
        match &self.location {
            Location::Local(root) => {
                let folder = Path::new(root).join(folder);
                create_folder(&folder)?;
                InProgressFile::local(folder.join(name), &part_file::in_progress_suffix(job))
            }
            Location::Store(store) => {
                let key = store.key_of(&format!("{}/{folder}{name}", store.key))?;
                InProgressFile::upload(store, key, runtime)
            }
        }
    }
}
