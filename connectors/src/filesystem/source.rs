//! The source: which files there are, how they are cut, and how their columns become the table's.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow_schema::SchemaRef;
use async_trait::async_trait;

use super::compression::Compression;
use super::location::Location;
use super::partition;
use super::reader::Reader;
use super::split::{Position, splits_of};
use crate::format::{FormatSpec, Header, Lines};
use crate::options::Options;
use crate::{Boundedness, Error, FieldWatch, InputFields, ReaderContext, Source, SourceReader, Split, TableDefinition};

const SPLIT_BYTES: u64 = 64 << 20;
const RECORD_BYTES_MAX: u64 = 64 << 20;

#[derive(Clone)]
pub struct FileSource {
    pub table: Arc<TableDefinition>,
    pub location: Location,
    pub format: FormatSpec,
    pub lines: Lines,
    pub fields: Arc<FieldWatch>,
    pub header: Option<Header>,
    /// Columns stored in the files.
    pub file_schema: SchemaRef,
    pub compression: String,
    pub default_partition: String,
    pub record_bytes_max: u64,
    split_bytes: u64,
    monitor_interval: Option<Duration>,
    ordered: bool,
}

impl FileSource {
    pub fn new(table: &TableDefinition) -> Result<Self, Error> {
        Self::at(table, Location::of(table)?)
    }

    pub fn at(table: &TableDefinition, location: Location) -> Result<Self, Error> {
        let options = Options::of(table);
        let format = FormatSpec::of_value(table)?;
        let file_schema = partition::file_schema(table)?;
        Ok(Self {
            location,
            fields: Arc::new(FieldWatch::new(&table.name, &file_schema)),
            lines: format.lines()?,
            header: format.header()?,
            format,
            file_schema,
            compression: options.text("source.compression").unwrap_or("auto").to_string(),
            default_partition: options
                .text("partition.default-name")
                .unwrap_or(partition::DEFAULT_NAME)
                .to_string(),
            record_bytes_max: options
                .bytes("source.max-record-size")?
                .unwrap_or(RECORD_BYTES_MAX)
                .max(1),
            split_bytes: options.bytes("source.split-size")?.unwrap_or(SPLIT_BYTES),
            monitor_interval: options.duration("source.monitor-interval")?,
            ordered: options.boolean("source.ordered")?.unwrap_or(false),
            table: Arc::new(table.clone()),
        })
    }

    pub fn is_parquet(&self) -> bool {
        self.format.is_file_format()
    }

    pub fn compression_of(&self, path: &str) -> Compression {
        Compression::of(path, &self.compression)
    }

    /// A file that may grow while it is watched is read whole, by one task: its end is not known.
    fn split_bytes(&self, path: &str) -> Option<u64> {
        let can_split = self.is_parquet()
            || (self.lines.can_split()
                && self.compression_of(path) == Compression::None
                && self.monitor_interval.is_none());
        can_split.then_some(self.split_bytes)
    }
}

#[async_trait]
impl Source for FileSource {
    fn schema(&self) -> SchemaRef {
        self.table.schema.clone()
    }

    fn boundedness(&self) -> Boundedness {
        match self.monitor_interval {
            Some(_) => Boundedness::Unbounded,
            None => Boundedness::Bounded,
        }
    }

    async fn splits(&self) -> Result<Vec<Split>, Error> {
        let mut splits = Vec::new();
        for file in self.location.list().await?.iter() {
            if file.size == 0 && self.is_parquet() && self.monitor_interval.is_none() {
                return Err(Error::Data(format!(
                    "`{}` is empty, which no Parquet file is: replace the file or take it away, then start again",
                    file.path
                )));
            }
            // One that is being written has its turn when it is found again.
            if file.size == 0 {
                continue;
            }
            splits.extend(splits_of(file, self.split_bytes(&file.path), self.is_parquet())?);
        }
        Ok(splits)
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.monitor_interval
    }

    fn splits_are_ordered(&self) -> bool {
        self.ordered
    }

    fn has_changed(&self, read: &Split, found: &Split) -> bool {
        match (Position::decode(read), Position::decode(found)) {
            (Ok(read), Ok(found)) => (read.size, read.modified_us) != (found.size, found.modified_us),
            _ => true,
        }
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error> {
        Ok(Box::new(Reader::new(self, context)?))
    }

    fn input_fields(&self) -> Option<InputFields> {
        self.fields.report()
    }
}

/// Where each delivered column comes from.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The delivered columns.
    pub schema: SchemaRef,
    /// Columns to decode, as indices into the file's schema.
    pub file_columns: Vec<usize>,
    origins: Vec<Origin>,
}

#[derive(Debug, Clone)]
enum Origin {
    /// Index into `file_columns`.
    File(usize),
    /// Index of the column in the table's schema.
    Partition(usize),
    /// The metadata key, and the column's index in the table's schema.
    Metadata(String, usize),
}

impl Layout {
    pub fn new(source: &FileSource, projection: Option<&[usize]>) -> Result<Self, Error> {
        let table = &source.table;
        let all: Vec<usize> = (0..table.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        let mut file_columns: Vec<usize> = Vec::new();
        let mut origins = Vec::new();
        for column in wanted {
            let name = table.schema.field(*column).name();
            origins.push(if *column >= table.physical_columns() {
                Origin::Metadata(table.metadata[*column - table.physical_columns()].key.clone(), *column)
            } else if let Ok(index) = source.file_schema.index_of(name) {
                let at = file_columns
                    .iter()
                    .position(|known| *known == index)
                    .unwrap_or_else(|| {
                        file_columns.push(index);
                        file_columns.len() - 1
                    });
                Origin::File(at)
            } else {
                Origin::Partition(*column)
            });
        }
        let schema = Arc::new(table.schema.project(wanted)?);
        Ok(Self {
            schema,
            file_columns,
            origins,
        })
    }

    /// The values that are the same for every row of a file, by delivered column; `None` for columns that are read.
    pub fn constants(&self, source: &FileSource, position: &Position) -> Result<Vec<Option<ArrayRef>>, Error> {
        self.origins
            .iter()
            .map(|origin| constant(source, position, origin))
            .collect()
    }

    /// Puts decoded columns and constants together.
    pub fn assemble(&self, decoded: &RecordBatch, constants: &[Option<ArrayRef>]) -> Result<RecordBatch, Error> {
        let rows = decoded.num_rows();
        let columns = self
            .origins
            .iter()
            .zip(constants)
            .map(|(origin, constant)| match (origin, constant) {
                (Origin::File(index), _) => Ok(decoded.column(*index).clone()),
                (_, Some(value)) => partition::repeat(value, rows),
                (_, None) => Err(Error::Invalid("a column of a file has no value".to_string())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            columns,
            &options,
        )?)
    }
}

fn constant(source: &FileSource, position: &Position, origin: &Origin) -> Result<Option<ArrayRef>, Error> {
    let path = position.path.as_str();
    let (key, column) = match origin {
        Origin::File(_) => return Ok(None),
        Origin::Partition(column) => {
            return partition::value(&source.table, *column, path, &source.default_partition).map(Some);
        }
        Origin::Metadata(key, column) => (key.as_str(), *column),
    };
    let value: ArrayRef = match key {
        "file.path" => partition::text(path),
        "file.name" => partition::text(path.rsplit('/').next().unwrap_or(path)),
        "file.size" => Arc::new(Int64Array::from(vec![position.size as i64])),
        "file.modification-time" => {
            Arc::new(TimestampMicrosecondArray::from(vec![position.modified_us]).with_timezone("UTC"))
        }
        other => {
            return Err(Error::Invalid(format!(
                "table `{}`: unknown metadata key '{other}'",
                source.table.name
            )));
        }
    };
    let wanted = source.table.schema.field(column).data_type();
    Ok(Some(arrow_cast::cast(&value, wanted)?))
}
