//! The journal: which checkpoints exist. One small object per record, created put-if-absent, so that two writers can
//! never both have written the same place.
//!
//! Layout of an object `journal/<epoch, 10 digits>/<seq, 10 digits>`, version 1: one line of text,
//! `MSJ1 <crc32 of the JSON, 8 hex digits> <JSON of Entry>\n`.
//!
//! Record 0 of an epoch is its claim and is never deleted. A successor seals every earlier epoch by writing the next
//! record there, which its holder then cannot write. A [`Record::Base`] repeats the whole state, so that what is older
//! than the base before it can be deleted; a damaged base is thus bridged by its predecessor and the records between.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::{CheckpointInfo, CheckpointStore, Damaged, REQUESTS_IN_FLIGHT_MAX};
use crate::Error;

const PREFIX: &str = "MSJ1 ";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Tells the writer's own record from another's when the reply to a put was lost.
    pub id: String,
    /// The claim that wrote it.
    pub writer: String,
    pub record: Record,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    Claimed {
        owner: String,
    },
    /// The state as of here; what came before is void.
    Base(Base),
    /// A checkpoint is complete.
    Completed(CheckpointInfo),
    /// These checkpoints exist no more, and these objects (paths below the job's folder) are to be deleted.
    Deleting {
        checkpoints: Vec<u64>,
        objects: Vec<String>,
    },
    /// Nothing after this counts in this epoch.
    Sealed {
        by: u64,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    pub checkpoints: Vec<CheckpointInfo>,
    pub deleting: Vec<String>,
    pub checkpoint_max: u64,
}

/// What the records add up to.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub checkpoints: BTreeMap<u64, CheckpointInfo>,
    /// Objects whose deletion was decided and may not have happened yet.
    pub deleting: Vec<String>,
    /// The highest number any checkpoint ever had.
    pub checkpoint_max: u64,
}

impl State {
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Claimed { .. } | Record::Sealed { .. } => {}
            Record::Base(base) => {
                self.checkpoints = base
                    .checkpoints
                    .iter()
                    .map(|info| (info.checkpoint, info.clone()))
                    .collect();
                self.deleting = base.deleting.clone();
                self.checkpoint_max = base.checkpoint_max;
            }
            Record::Completed(info) => {
                self.checkpoint_max = self.checkpoint_max.max(info.checkpoint);
                self.checkpoints.insert(info.checkpoint, info.clone());
            }
            Record::Deleting { checkpoints, objects } => {
                for checkpoint in checkpoints {
                    self.checkpoints.remove(checkpoint);
                }
                self.deleting.extend(objects.iter().cloned());
            }
        }
    }

    pub fn base(&self) -> Record {
        Record::Base(Base {
            checkpoints: self.checkpoints.values().cloned().collect(),
            deleting: self.deleting.clone(),
            checkpoint_max: self.checkpoint_max,
        })
    }
}

impl Entry {
    pub fn encode(&self) -> Result<Bytes, Error> {
        let json = serde_json::to_string(self).map_err(|error| Error::Invalid(format!("journal record: {error}")))?;
        let checksum = crc32fast::hash(json.as_bytes());
        Ok(Bytes::from(format!("{PREFIX}{checksum:08x} {json}\n")))
    }

    pub fn decode(bytes: &[u8], place: &str) -> Result<Self, Error> {
        let damaged = |what: &str| Error::Corrupt(format!("{place} is damaged: {what}"));
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("not text"))?;
        let rest = text
            .strip_prefix(PREFIX)
            .ok_or_else(|| damaged("not a journal record of version 1"))?;
        let json = rest.strip_suffix('\n').ok_or_else(|| damaged("cut off"))?;
        let (checksum, json) = json.split_once(' ').ok_or_else(|| damaged("cut off"))?;
        if u32::from_str_radix(checksum, 16).ok() != Some(crc32fast::hash(json.as_bytes())) {
            return Err(damaged("its checksum does not match"));
        }
        serde_json::from_str(json).map_err(|error| damaged(&error.to_string()))
    }
}

/// The journal as read.
#[derive(Debug, Default)]
pub struct Journal {
    pub state: State,
    /// Records that could not be read: the checkpoints they speak of are not known.
    pub damaged: Vec<Damaged>,
    /// Of every epoch, the next free sequence number and whether it is sealed.
    pub epochs: BTreeMap<u64, Epoch>,
    /// All records.
    pub places: Vec<Place>,
    /// The last base.
    pub base: Option<Place>,
}

/// Epoch and sequence number of a record.
pub type Place = (u64, u64);

#[derive(Debug, Clone, Copy, Default)]
pub struct Epoch {
    pub next_seq: u64,
    pub sealed: bool,
}

impl CheckpointStore {
    pub(super) fn entry_path(&self, epoch: u64, seq: u64) -> String {
        format!("{}/journal/{epoch:010}/{seq:010}", self.job)
    }

    pub(super) async fn read_entry(&self, epoch: u64, seq: u64) -> Result<Entry, Error> {
        let path = self.entry_path(epoch, seq);
        let bytes = self.storage.read(&path).await?;
        Entry::decode(&bytes, &format!("{}/{path}", self.storage.url()))
    }

    pub(super) async fn read_journal(&self) -> Result<Journal, Error> {
        let folder = format!("{}/journal", self.job);
        let mut journal = Journal::default();
        for listed in self.storage.list(&folder).await? {
            let below = listed
                .path
                .strip_prefix(&folder)
                .unwrap_or_default()
                .trim_start_matches('/');
            let place = below
                .split_once('/')
                .and_then(|(epoch, seq)| Some((epoch.parse().ok()?, seq.parse().ok()?)));
            if let Some(place) = place {
                journal.places.push(place);
            }
        }
        journal.places.sort_unstable();
        let entries: Vec<_> = futures::stream::iter(journal.places.clone())
            .map(|(epoch, seq)| async move { self.read_entry(epoch, seq).await })
            .buffered(REQUESTS_IN_FLIGHT_MAX)
            .map(Ok::<_, Error>)
            .try_collect()
            .await?;
        let mut damaged = Vec::new();
        for ((epoch, seq), entry) in journal.places.iter().zip(entries) {
            let known = journal.epochs.entry(*epoch).or_default();
            known.next_seq = seq + 1;
            if known.sealed {
                continue;
            }
            match entry {
                Ok(entry) => {
                    known.sealed = matches!(entry.record, Record::Sealed { .. });
                    journal.state.apply(&entry.record);
                    if matches!(entry.record, Record::Base(_)) {
                        damaged.clear();
                        journal.base = Some((*epoch, *seq));
                    }
                }
                // Compacted away between the listing and the read: a base that follows repeats it.
                Err(Error::NotFound(_)) => {}
                Err(error) if error.is_damage() => {
                    tracing::warn!(job = %self.job, %error, "journal record is damaged");
                    damaged.push(Damaged {
                        checkpoint: journal.state.checkpoint_max + 1,
                        reason: error.to_string(),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        journal.damaged = damaged;
        Ok(journal)
    }
}
