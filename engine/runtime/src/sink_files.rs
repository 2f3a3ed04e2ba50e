//! Files of sinks in the job's checkpoint storage.
//!
//! Connects the `connectors` crate, which knows no checkpoint storage, with the `state` crate, which knows no sinks.

use async_trait::async_trait;
use bytes::Bytes;
use millstream_connectors::{Error, OutputFile, OutputStorage};
use millstream_state::job_files::JobFiles;

/// The checkpoint storage of one attempt of a job, for its sinks.
pub struct SinkFiles {
    files: JobFiles,
}

impl SinkFiles {
    /// Makes the storage on the files of an attempt.
    pub fn new(files: JobFiles) -> Self {
        Self { files }
    }
}

#[async_trait]
impl OutputStorage for SinkFiles {
    async fn write(&self, content: Bytes) -> Result<OutputFile, Error> {
        let written = self.files.write("output", "out", content).await.map_err(state_error)?;
        Ok(OutputFile {
            path: written.path,
            length: written.length,
            crc32: written.crc32,
        })
    }

    async fn read(&self, file: &OutputFile) -> Result<Bytes, Error> {
        self.files
            .read(&file.path, file.length, file.crc32)
            .await
            .map_err(state_error)
    }
}

fn state_error(error: millstream_state::Error) -> Error {
    if error.is_damage() {
        Error::Data(error.to_string())
    } else {
        Error::Unavailable(error.to_string())
    }
}
