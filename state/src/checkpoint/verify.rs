//! Reads all that a job's checkpoints consist of, and names each object that is not as it was written.
//!
//! The journal is read record by record. Of each checkpoint the manifest is decoded and every file that it names is
//! read through; files that several checkpoints share are read once. Nothing is changed, and nothing is held in
//! memory but one manifest and the paths of files that were read.

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
pub enum Kind {
    /// A record of the journal, or the journal as a whole.
    Journal,
    Manifest,
    /// A file of a database.
    KeyedState,
    /// Rows that barriers have overtaken.
    ChannelState,
    /// Output that a sink has prepared and not yet published.
    SinkOutput,
}

impl Kind {
    fn of(file: &FileReference) -> Self {
        match file.path.rsplit_once('.') {
            _ if !file.name.is_empty() => Self::KeyedState,
            Some((_, "rows")) => Self::ChannelState,
            _ => Self::SinkOutput,
        }
    }

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

/// An object that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub kind: Kind,
    /// In full.
    pub path: String,
    /// With the path.
    pub problem: String,
}

/// The journal's content and its damage.
#[derive(Debug)]
pub struct Journal {
    /// All complete checkpoints, oldest first.
    pub checkpoints: Vec<CheckpointInfo>,
    pub damages: Vec<Damage>,
    /// Why the journal cannot be claimed, so that no checkpoint can be restored.
    pub refused: Option<String>,
}

/// One checkpoint that was read.
#[derive(Debug, Default)]
pub struct VerificationReport {
    /// The manifest counts as one.
    pub files: u64,
    pub bytes: u64,
    pub damages: Vec<Damage>,
}

/// Progress of reading one checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub files: u64,
    pub files_total: u64,
    pub bytes: u64,
    pub bytes_total: u64,
}

/// Verifies checkpoints of one job, each file once.
#[derive(Debug)]
pub struct Verifier {
    store: CheckpointStore,
    /// Files that were read, by path below the job's folder, and what is wrong with them.
    read: HashMap<(String, u64, u32), Option<String>>,
}

impl Verifier {
    pub fn new(store: CheckpointStore) -> Self {
        Self {
            store,
            read: HashMap::new(),
        }
    }

    /// Reads the journal.
    pub async fn journal(&self) -> Result<Journal, Error> {
        let store = &self.store;
        let folders = Folders::list(store).await?;
        let contents = store.log().read::<State>().await?;
        let url = format!("{}/journal", store.url());
        let damage = |problem: String| Damage {
            kind: Kind::Journal,
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
        let refused = journal_check::problem(store, &folders, &contents);
        problems.extend(folders.hidden(&contents.state).map(|folder| {
            format!(
                "{url} has no record of the checkpoint in {}/checkpoints/{}, which was complete",
                store.url(),
                folder.name()
            )
        }));
        Ok(Journal {
            checkpoints: contents.state.checkpoints.into_values().collect(),
            damages: problems.into_iter().chain(refused.clone()).map(damage).collect(),
            refused,
        })
    }

    /// Reads a checkpoint. `body_version` is the version of `T`. An error says that something could not be read, not
    /// that it is damaged.
    pub async fn checkpoint<T: Serialize + DeserializeOwned>(
        &mut self,
        info: &CheckpointInfo,
        body_version: u16,
        told: &mut (dyn FnMut(Progress) + Send),
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
                    kind: Kind::Manifest,
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
        told(progress);
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
            told(progress);
        }
        verified.files += progress.files;
        verified.bytes += progress.bytes;
        files.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        verified.damages = files
            .into_iter()
            .filter_map(|(file, problem)| {
                Some(Damage {
                    kind: Kind::of(&file),
                    path: format!("{}/{}", self.store.url(), file.path),
                    problem: problem?,
                })
            })
            .collect();
        Ok(verified)
    }

    /// The header of a manifest that is sound, or what is wrong with it.
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
                let whose = self.foreign(info).await.unwrap_or_default();
                Ok(Err(format!("{error}{whose}")))
            }
            Err(error) => Err(error),
        }
    }

    /// Whose manifest it is that stands in place of another.
    async fn foreign(&self, info: &CheckpointInfo) -> Option<String> {
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
