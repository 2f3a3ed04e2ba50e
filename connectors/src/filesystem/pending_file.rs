//! Written files that wait to be published, and the committable that records them.
//!
//! A committable is a version byte (1) and then, in bincode's standard encoding, a list of [`PendingFile`]. One of
//! version 2 records files that a checkpoint has left open: see [`LoggedFiles`].

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use serde::{Deserialize, Serialize};

use super::logged_files::{self, LoggedFiles};
use super::part_file::FinalName;
use crate::sink::STORED_BYTES_MAX;
use crate::{Committable, Error};

const VERSION: u8 = 1;

/// A file that is complete and durable, but not yet visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PendingFile {
    /// A local file, published by renaming `hidden` to `published`.
    Local {
        /// Path of the hidden file.
        hidden: String,
        /// Path that readers will see.
        published: String,
        /// Size of the file.
        bytes: u64,
    },
    /// A multipart upload, published by completing it.
    Upload {
        /// Key of the object.
        key: String,
        /// The store's id of the upload.
        upload: String,
        /// The store's ids of the uploaded parts, in order.
        parts: Vec<String>,
        /// Size of the object.
        bytes: u64,
    },
}

/// Content of a committable.
pub(super) enum Record {
    /// Files to publish.
    Pending(Vec<PendingFile>),
    /// Files that a checkpoint has left open.
    Open(LoggedFiles),
}

impl PendingFile {
    /// Returns the name under which readers will find the file.
    pub(super) fn final_name(&self) -> FinalName {
        match self {
            Self::Local { published, .. } => FinalName::Path(published.clone()),
            Self::Upload { key, .. } => FinalName::Key(key.clone()),
        }
    }
}

/// Encodes pending files as one committable.
pub(super) fn encode(files: &[PendingFile]) -> Result<Committable, Error> {
    let mut bytes = vec![VERSION];
    bytes.extend(
        bincode::serde::encode_to_vec(files, bincode::config::standard())
            .map_err(|error| Error::Invalid(format!("written files cannot be recorded: {error}")))?,
    );
    Ok(Committable::new(bytes))
}

/// Decodes a committable.
pub(super) fn decode(committable: &Committable) -> Result<Record, Error> {
    let damaged = |problem: String| Error::Data(format!("the record of written files is not readable: {problem}"));
    match committable.content.split_first() {
        Some((&VERSION, rest)) => {
            bincode::serde::decode_from_slice(rest, bincode::config::standard().with_limit::<STORED_BYTES_MAX>())
                .map(|(files, _)| Record::Pending(files))
                .map_err(|error| damaged(error.to_string()))
        }
        Some((&logged_files::VERSION, rest)) => LoggedFiles::decode(rest, &committable.files).map(Record::Open),
        Some((version, _)) => Err(damaged(format!(
            "its version is {version}, this engine reads {VERSION} and {}",
            logged_files::VERSION
        ))),
        None => Err(damaged("it is empty".to_string())),
    }
}
