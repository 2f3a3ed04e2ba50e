//! A replicated-state log (journal) in object storage, with one writer at a time.
//!
//! A log is a list of small objects, one per record. Each is created put-if-absent, so two writers never both write the
//! same position. The records add up to a [`State`]: the checkpoints of a job, the jobs of a cluster. Reading needs no
//! permission; writing needs a [`Writer`], which holds an *epoch*:
//!
//! * An epoch is claimed by creating its record 0. The highest epoch wins; claims are never deleted and have no gaps.
//! * A new writer seals every earlier epoch by writing the next record there, which the earlier writer then cannot
//!   write. So the content of the earlier epochs is final when the new writer reads it.
//! * A writer looks for the next claim after each of its records, and acts on a record only if there is none.
//! * When the response to a put is lost, the record is read back: its own id means success, another writer's id means
//!   that this writer is superseded.
//! * A claim may be made for the leader of a cluster ([`Leadership`]). A later claim for an earlier leader of that
//!   cluster is refused, so a deposed leader cannot supersede its successor.
//!
//! Layout of an object `<folder>/<epoch, 10 digits>/<seq, 10 digits>`, version 1: one line of text,
//! `MSJ1 <crc32 of the JSON, 8 hex digits> <JSON of Entry>\n`.
//!
//! A [`Record::Base`] repeats the whole state. Records before the previous base are then deleted; the previous base and
//! the records after it are retained, so that a damaged base can be replaced by them.

mod writer;

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::storage::Storage;

pub use writer::Writer;

const PREFIX: &str = "MSJ1 ";
const REQUESTS_IN_FLIGHT_MAX: usize = 16;
/// Number of attempts to read a log that changes during the read.
const READS_MAX: usize = 3;

/// The state that the records of a log add up to.
pub trait State: Default + Send {
    /// One change of the state. The changes of one append take effect together or not at all.
    type Change: Serialize + DeserializeOwned + Send + Sync;
    /// The whole state, as a record.
    type Base: Serialize + DeserializeOwned + Send + Sync;

    /// Applies a change.
    fn apply(&mut self, change: &Self::Change);
    /// Returns the whole state as a record.
    fn base(&self) -> Self::Base;
    /// Restores the state from a record.
    fn restore(base: Self::Base) -> Self;
    /// Records that a record could not be read. Its changes are missing until the next base.
    fn damaged(&mut self, reason: String);
}

/// A record as it is stored. `B` and `C` are the base and the change of a [`State`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry<B, C> {
    /// Unique id of the record, by which its writer recognises it when the response to a put was lost.
    pub id: String,
    /// Id of the claim that wrote the record.
    pub writer: String,
    /// Content of the record.
    pub record: Record<B, C>,
}

/// The content of a record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record<B, C> {
    /// The claim of an epoch: its first record.
    Claimed {
        /// Description of the process that claimed the epoch, such as its address.
        owner: String,
        /// The leader that the claim was made for, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leader: Option<Leadership>,
    },
    /// The whole state at this position.
    Base(B),
    /// The end of the epoch: later records in it are ignored.
    Sealed {
        /// The epoch whose writer sealed this one.
        by: u64,
    },
    /// Several changes that take effect together.
    Group(Vec<C>),
    /// One change, without a wrapper in the JSON.
    #[serde(untagged)]
    Change(C),
}

impl<B: Serialize + DeserializeOwned, C: Serialize + DeserializeOwned> Entry<B, C> {
    /// Encodes the record as its object's content.
    pub fn encode(&self) -> Result<Bytes, Error> {
        let json = serde_json::to_string(self).map_err(|error| Error::Invalid(format!("journal record: {error}")))?;
        let checksum = crc32fast::hash(json.as_bytes());
        Ok(Bytes::from(format!("{PREFIX}{checksum:08x} {json}\n")))
    }

    /// Decodes an object's content and verifies its checksum. `place` names the object in errors.
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

/// The leader of a cluster that claims a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leadership {
    /// The id of the cluster.
    pub cluster: String,
    /// The epoch of the cluster's journal that the leader holds.
    pub epoch: u64,
}

impl Leadership {
    /// Returns true if `other` is a later leader of the same cluster.
    pub fn is_before(&self, other: &Self) -> bool {
        self.cluster == other.cluster && self.epoch < other.epoch
    }
}

/// The newest claim of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// The claimed epoch.
    pub epoch: u64,
    /// Description of the process that claimed it.
    pub owner: String,
    /// The leader that the claim was made for; `None` if it was made for no cluster.
    pub leader: Option<Leadership>,
}

/// Epoch and sequence number of a record.
pub type Place = (u64, u64);

/// A log, given by its folder in object storage. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    storage: Storage,
    folder: String,
    /// Noun phrase for messages: `the job`.
    subject: String,
}

/// The content of a log.
#[derive(Debug)]
pub struct Contents<S> {
    /// The state that the records add up to.
    pub state: S,
    /// All epochs.
    pub epochs: BTreeMap<u64, Epoch>,
    /// Positions of all records, in order.
    pub places: Vec<Place>,
    /// Position of the last base.
    pub base: Option<Place>,
    /// Descriptions of all records that could not be read, including those before the last base.
    pub damaged: Vec<String>,
    /// Number of gaps (missing records) after the last base.
    gaps: usize,
}

/// An epoch of a log.
#[derive(Debug, Clone, Default)]
pub struct Epoch {
    /// Sequence number after its last record.
    pub next_seq: u64,
    /// True if a later writer has sealed it.
    pub sealed: bool,
    /// Description of the process that claimed it.
    pub owner: String,
    /// Id of the claim, `None` before its first record was read.
    writer: Option<String>,
}

impl Epoch {
    /// Checks that a record was written to this epoch: only its claim writes here until another seals it, and each
    /// record once. The error says which other record it is.
    fn accept<B, C>(&mut self, entry: &Entry<B, C>, ids: &mut HashSet<String>) -> Result<(), &'static str> {
        match (&entry.record, &self.writer) {
            (Record::Claimed { .. }, None) => self.writer = Some(entry.writer.clone()),
            (Record::Claimed { .. }, Some(_)) => return Err("another claim"),
            (Record::Sealed { .. }, _) => {}
            (_, Some(writer)) if *writer != entry.writer => return Err("one of another claim"),
            _ => {}
        }
        match ids.insert(entry.id.clone()) {
            true => Ok(()),
            false => Err("a copy of an earlier one"),
        }
    }
}

/// Returns the first record that is missing between `last` and `place`, which follow each other in the listing. Neither
/// epochs nor records have gaps, except that compaction deletes records between the first and the last of an epoch, and
/// none after the last base but one.
fn missing_before(place: Place, last: Option<Place>) -> Option<Place> {
    let (epoch, seq) = place;
    match last {
        None => (place != (1, 0)).then_some((1, 0)),
        Some((same, before)) if same == epoch => (seq > before + 1).then_some((epoch, before + 1)),
        Some((before, _)) if epoch > before + 1 => Some((before + 1, 0)),
        Some(_) => (seq > 0).then_some((epoch, 0)),
    }
}

impl<S: State> Contents<S> {
    fn gap(&mut self, reason: String) {
        self.gaps += 1;
        self.state.damaged(reason);
    }
}

impl<S> Contents<S> {
    /// Returns the newest epoch and its owner.
    pub fn leader(&self) -> Option<(u64, &str)> {
        let (epoch, known) = self.epochs.iter().next_back()?;
        Some((*epoch, known.owner.as_str()))
    }
}

type EntryOf<S> = Entry<<S as State>::Base, <S as State>::Change>;

impl Log {
    /// Returns the log in a folder, without accessing it. `subject` is a noun phrase for messages, such as `the job`.
    pub fn new(storage: Storage, folder: &str, subject: &str) -> Self {
        Self {
            storage,
            folder: folder.to_string(),
            subject: subject.to_string(),
        }
    }

    /// Claims the next epoch, which fences the holders of earlier ones.
    pub async fn claim<S: State>(&self, owner: &str) -> Result<Writer<S>, Error> {
        self.claim_for(owner, None).await
    }

    /// Claims the next epoch for the leader of a cluster.
    ///
    /// # Errors
    ///
    /// [`Error::Superseded`] if a later leader of the same cluster has claimed the log.
    pub async fn claim_for<S: State>(&self, owner: &str, leader: Option<Leadership>) -> Result<Writer<S>, Error> {
        Writer::take(self.clone(), owner, leader).await
    }

    /// Returns the newest claim; `None` if there is none, or its record is damaged.
    pub async fn claimant<S: State>(&self) -> Result<Option<Claimant>, Error> {
        match self.places().await?.last() {
            Some((epoch, _)) => self.claimant_of::<S>(*epoch).await,
            None => Ok(None),
        }
    }

    async fn claimant_of<S: State>(&self, epoch: u64) -> Result<Option<Claimant>, Error> {
        match self.entry::<S>(epoch, 0).await {
            Ok(entry) => Ok(match entry.record {
                Record::Claimed { owner, leader } => Some(Claimant { epoch, owner, leader }),
                _ => None,
            }),
            Err(error) if error.is_damage() || matches!(error, Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns true if this epoch was claimed.
    pub async fn is_claimed(&self, epoch: u64) -> Result<bool, Error> {
        Ok(self.storage.length(&self.path(epoch, 0)).await?.is_some())
    }

    /// Reads the whole log. Damaged and missing records are part of the result, not errors.
    pub async fn read<S: State>(&self) -> Result<Contents<S>, Error> {
        let mut places = self.places().await?;
        for _ in 0..READS_MAX {
            let contents = self.read_places::<S>(&places).await?;
            if contents.gaps == 0 {
                return Ok(contents);
            }
            // A listing is not atomic: it may miss records, and show records that were deleted since.
            let now = self.places().await?;
            if now == places {
                return Ok(contents);
            }
            places = now;
        }
        self.read_places(&places).await
    }

    /// Reads the records at these positions. A record that is missing after the last base is damage.
    async fn read_places<S: State>(&self, places: &[Place]) -> Result<Contents<S>, Error> {
        let mut contents = Contents {
            state: S::default(),
            epochs: BTreeMap::new(),
            places: places.to_vec(),
            base: None,
            damaged: Vec::new(),
            gaps: 0,
        };
        let entries: Vec<Result<EntryOf<S>, Error>> = futures::stream::iter(contents.places.clone())
            .map(|(epoch, seq)| async move { self.entry::<S>(epoch, seq).await })
            .buffered(REQUESTS_IN_FLIGHT_MAX)
            .collect()
            .await;
        let mut last: Option<Place> = None;
        let mut ids = HashSet::new();
        for ((epoch, seq), entry) in places.iter().zip(entries) {
            debug_assert!(
                last.is_none_or(|last| last < (*epoch, *seq)),
                "records of a log are read in order"
            );
            if let Some(missing) = missing_before((*epoch, *seq), last.replace((*epoch, *seq))) {
                contents.gap(format!(
                    "{}/{} is missing",
                    self.storage.url(),
                    self.path(missing.0, missing.1)
                ));
            }
            let known = contents.epochs.entry(*epoch).or_default();
            known.next_seq = seq + 1;
            if known.sealed {
                continue;
            }
            let entry = entry.and_then(|entry| {
                let place = || format!("{}/{}", self.storage.url(), self.path(*epoch, *seq));
                known.accept(&entry, &mut ids).map_err(|whose| {
                    Error::Corrupt(format!(
                        "{} is damaged: it is not the record that was written there, but {whose}",
                        place()
                    ))
                })?;
                Ok(entry)
            });
            match entry {
                Ok(entry) => match entry.record {
                    Record::Claimed { owner, .. } => known.owner = owner,
                    Record::Sealed { .. } => known.sealed = true,
                    Record::Base(base) => {
                        contents.state = S::restore(base);
                        contents.base = Some((*epoch, *seq));
                        contents.gaps = 0;
                    }
                    Record::Group(changes) => changes.iter().for_each(|change| contents.state.apply(change)),
                    Record::Change(change) => contents.state.apply(&change),
                },
                // Deleted by compaction since the listing, or lost.
                Err(Error::NotFound(reason)) => contents.gap(reason),
                Err(error) if error.is_damage() => {
                    tracing::warn!(%error, "journal record is damaged");
                    contents.damaged.push(error.to_string());
                    contents.state.damaged(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(contents)
    }

    /// Lists the positions of all records, in order.
    async fn places(&self) -> Result<Vec<Place>, Error> {
        let listed = self.storage.list(&self.folder).await?;
        let mut places: Vec<Place> = listed
            .iter()
            .filter_map(|object| {
                let below = object.path.strip_prefix(&self.folder)?.trim_start_matches('/');
                let (epoch, seq) = below.split_once('/')?;
                Some((epoch.parse().ok()?, seq.parse().ok()?))
            })
            .collect();
        places.sort_unstable();
        Ok(places)
    }

    async fn entry<S: State>(&self, epoch: u64, seq: u64) -> Result<EntryOf<S>, Error> {
        let path = self.path(epoch, seq);
        let bytes = self.storage.read(&path).await?;
        Entry::decode(&bytes, &format!("{}/{path}", self.storage.url()))
    }

    fn path(&self, epoch: u64, seq: u64) -> String {
        format!("{}/{epoch:010}/{seq:010}", self.folder)
    }

    fn url(&self) -> String {
        format!("{}/{}", self.storage.url(), self.folder)
    }
}

#[cfg(test)]
mod tests;
