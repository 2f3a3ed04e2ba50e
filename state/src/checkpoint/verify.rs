//! Verification of a job's checkpoints: reads all their objects and reports those that are damaged.
//!
//! The journal is read record by record. For each checkpoint, the manifest is decoded and every file it names is read
//! and compared with its checksum; files that several checkpoints share are read once. Nothing is changed. Memory holds
//! one manifest, and the paths of the files that were read.

use std::collections::HashMap;

use futures::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::journal::State;
use super::journal_check::{self, Folders};
use super::{CheckpointInfo, CheckpointStore, REQUESTS_IN_FLIGHT_MAX};
use crate::Error;
use crate::job_files::FileReference;
use crate::manifest::{Header, Manifest};

/// The kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// A record of the journal, or the journal as a whole.
    Journal,
    /// The manifest of a checkpoint.
    Manifest,
    /// A file of a database.
    KeyedState,
    /// Channel state: rows that the barriers of an unaligned checkpoint have overtaken.
    ChannelState,
    /// Output that a sink has written and not yet published.
    SinkOutput,
}

impl ObjectKind {
    fn of(file: &FileReference) -> Self {
        match file.path.rsplit_once('.') {
            _ if !file.name.is_empty() => Self::KeyedState,
            Some((_, "rows")) => Self::ChannelState,
            _ => Self::SinkOutput,
        }
    }

    /// Returns the kind in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Manifest => "manifest",
            Self::KeyedState => "keyed state",
            Self::ChannelState => "channel state",
            Self::SinkOutput => "sink output",
        }
    }
}

/// A damaged object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// URL of the object.
    pub path: String,
    /// Description of the damage, with the path.
    pub problem: String,
}

/// Result of verifying the journal.
#[derive(Debug)]
pub struct JournalReport {
    /// All complete checkpoints, oldest first.
    pub checkpoints: Vec<CheckpointInfo>,
    /// Damage of the journal.
    pub damages: Vec<Damage>,
    /// Reason that the journal cannot be claimed, so that no checkpoint can be restored; `None` if it can.
    pub refused: Option<String>,
}

/// Result of verifying one checkpoint.
#[derive(Debug, Default)]
pub struct VerificationReport {
    /// Number of files that were read, the manifest included.
    pub files: u64,
    /// Number of bytes that were read, the manifest included.
    pub bytes: u64,
    /// Damaged objects.
    pub damages: Vec<Damage>,
}

/// Progress of reading one checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of files that were read.
    pub files: u64,
    /// Number of files that the checkpoint names.
    pub files_total: u64,
    /// Number of bytes that were read.
    pub bytes: u64,
    /// Total length of the files that the checkpoint names.
    pub bytes_total: u64,
}

/// Verifies checkpoints of one job, and reads each file once.
#[derive(Debug)]
pub struct Verifier {
    store: CheckpointStore,
    /// Files that were read, by path below the job's folder, length and checksum, with the damage found.
    read: HashMap<(String, u64, u32), Option<String>>,
}

impl Verifier {
    /// Creates a verifier that has read nothing.
    pub fn new(store: CheckpointStore) -> Self {
        Self {
            store,
            read: HashMap::new(),
        }
    }

    /// Reads and verifies the journal.
    pub async fn journal(&self) -> Result<JournalReport, Error> {
        let store = &self.store;
        let folders = Folders::list(store).await?;
        let contents = store.log().read::<State>().await?;
        let url = format!("{}/journal", store.url());
        let damage = |problem: String| Damage {
            kind: ObjectKind::Journal,
            path: problem
                .split(' ')
                .next()
                .filter(|path| path.starts_with(&url))
                .unwrap_or(&url)
                .to_string(),
            problem,
        };
        let mut problems = contents.damaged.clone();
        let unread = contents.state.damaged.iter().map(|damaged| damaged.reason.clone());
        problems.extend(unread.filter(|problem| !contents.damaged.contains(problem)));
        let refused = journal_check::diagnose(store, &folders, &contents);
        problems.extend(folders.unrecorded(&contents.state).map(|folder| {
            format!(
                "{url} has no record of the checkpoint in {}/checkpoints/{}, which was complete",
                store.url(),
                folder.name()
            )
        }));
        Ok(JournalReport {
            checkpoints: contents.state.checkpoints.into_values().collect(),
            damages: problems.into_iter().chain(refused.clone()).map(damage).collect(),
            refused,
        })
    }

    /// Reads and verifies a checkpoint, and calls `on_progress` at the beginning and after each file. `body_version` is
    /// the version of `T`.
    ///
    /// # Errors
    ///
    /// Errors that are not damage, such as missing permissions.
    pub async fn checkpoint<T: Serialize + DeserializeOwned>(
        &mut self,
        info: &CheckpointInfo,
        body_version: u16,
        on_progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<VerificationReport, Error> {
        let mut verified = VerificationReport {
            files: 1,
            bytes: info.length,
            damages: Vec::new(),
        };
        let header = match self.manifest::<T>(info, body_version).await? {
            Ok(header) => header,
            Err(problem) => {
                verified.damages.push(Damage {
                    kind: ObjectKind::Manifest,
                    path: format!("{}/{}", self.store.storage.url(), self.store.manifest_path(info)),
                    problem,
                });
                return Ok(verified);
            }
        };
        let mut progress = Progress {
            files_total: header.files.len() as u64,
            bytes_total: header.files.iter().map(|file| file.length).sum(),
            ..Progress::default()
        };
        let (known, unread): (Vec<FileReference>, Vec<FileReference>) = header
            .files
            .into_iter()
            .partition(|file| self.read.contains_key(&key(file)));
        let known = known.into_iter().map(|file| {
            let problem = self.read.get(&key(&file)).cloned().flatten();
            (file, problem)
        });
        let mut files: Vec<(FileReference, Option<String>)> = known.collect();
        for (file, _) in &files {
            progress.files += 1;
            progress.bytes += file.length;
        }
        on_progress(progress);
        let store = self.store.clone();
        let mut reading = futures::stream::iter(unread)
            .map(|file| {
                let store = store.clone();
                async move {
                    let path = format!("{}/{}", store.job, file.path);
                    let checked = store.storage.check(&path, file.length, file.crc32).await;
                    (file, checked)
                }
            })
            .buffer_unordered(REQUESTS_IN_FLIGHT_MAX);
        while let Some((file, checked)) = reading.next().await {
            let problem = match checked {
                Ok(()) => None,
                Err(error) if error.is_damage() => Some(error.to_string()),
                Err(error) => return Err(error),
            };
            progress.files += 1;
            progress.bytes += file.length;
            self.read.insert(key(&file), problem.clone());
            files.push((file, problem));
            on_progress(progress);
        }
        verified.files += progress.files;
        verified.bytes += progress.bytes;
        files.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        verified.damages = files
            .into_iter()
            .filter_map(|(file, problem)| {
                Some(Damage {
                    kind: ObjectKind::of(&file),
                    path: format!("{}/{}", self.store.url(), file.path),
                    problem: problem?,
                })
            })
            .collect();
        Ok(verified)
    }

    /// Reads and verifies a manifest. The inner error describes its damage.
    async fn manifest<T: Serialize + DeserializeOwned>(
        &self,
        info: &CheckpointInfo,
        body_version: u16,
    ) -> Result<Result<Header, String>, Error> {
        let store = &self.store;
        let decoded = match store.read_manifest(info).await {
            Ok((bytes, place)) => Manifest::<T>::decode(&bytes, &place, body_version)
                .and_then(|manifest| store.check_owner(&manifest.header, &place).map(|()| manifest.header)),
            Err(error) => Err(error),
        };
        match decoded {
            Ok(header) => Ok(Ok(header)),
            Err(error) if error.is_damage() => {
                let owner = self.foreign_owner(info).await.unwrap_or_default();
                Ok(Err(format!("{error}{owner}")))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns a note about the manifest that has replaced this one, `None` if it is not one of another checkpoint.
    async fn foreign_owner(&self, info: &CheckpointInfo) -> Option<String> {
        let bytes = self.store.storage.read(&self.store.manifest_path(info)).await.ok()?;
        let found = Header::decode(&bytes, "").ok()?;
        let is_own = found.job == self.store.job && found.checkpoint == info.checkpoint && found.epoch == info.epoch;
        (!is_own).then(|| {
            format!(
                "; it is that of checkpoint {} (epoch {}) of the job `{}`",
                found.checkpoint, found.epoch, found.job
            )
        })
    }
}

fn key(file: &FileReference) -> (String, u64, u32) {
    (file.path.clone(), file.length, file.crc32)
}
