//! The source: lists files, cuts them into splits, and creates readers.

use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use async_trait::async_trait;

use super::location::Location;
use super::reader::FileReader;
use super::source_settings::SourceSettings;
use super::split::{Position, splits_of};
use crate::{Boundedness, Error, InputFields, ReaderContext, Source, SourceReader, Split, TableDefinition};

/// A source of files.
pub(super) struct FileSource {
    settings: Arc<SourceSettings>,
}

impl FileSource {
    /// Creates the source of a table.
    pub(super) fn new(table: &TableDefinition) -> Result<Self, Error> {
        Self::at(table, Location::of(table)?)
    }

    /// Creates the source of a table whose files are at `location`.
    pub(super) fn at(table: &TableDefinition, location: Location) -> Result<Self, Error> {
        Ok(Self {
            settings: Arc::new(SourceSettings::new(table, location)?),
        })
    }
}

#[async_trait]
impl Source for FileSource {
    fn schema(&self) -> SchemaRef {
        self.settings.table.schema.clone()
    }

    fn boundedness(&self) -> Boundedness {
        match self.settings.monitor_interval {
            Some(_) => Boundedness::Unbounded,
            None => Boundedness::Bounded,
        }
    }

    async fn splits(&self) -> Result<Vec<Split>, Error> {
        let mut splits = Vec::new();
        for file in self.settings.location.list().await?.iter() {
            if let Some(pattern) = &self.settings.path_pattern
                && !pattern.is_match(&self.settings.location.absolute(&file.path))
            {
                continue;
            }
            if file.size == 0 && self.settings.is_parquet() && self.settings.monitor_interval.is_none() {
                return Err(Error::Data(format!(
                    "`{}` is empty and so not a Parquet file: replace or remove the file, then start again",
                    file.path
                )));
            }
            // A file that is still being written is read once discovery finds it with content.
            if file.size == 0 {
                continue;
            }
            splits.extend(splits_of(
                file,
                self.settings.split_bytes(&file.path),
                self.settings.is_parquet(),
            )?);
        }
        Ok(splits)
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.settings.monitor_interval
    }

    fn splits_are_ordered(&self) -> bool {
        self.settings.is_ordered
    }

    fn has_changed(&self, read: &Split, found: &Split) -> bool {
        match (Position::decode(read), Position::decode(found)) {
            (Ok(read), Ok(found)) => (read.size, read.modified_us) != (found.size, found.modified_us),
            _ => true,
        }
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error> {
        Ok(Box::new(FileReader::new(self.settings.clone(), context)?))
    }

    fn input_fields(&self) -> Option<InputFields> {
        self.settings.fields.report()
    }
}
