//! A log in object storage that has one writer at a time: what survives a crash of whoever decides.
//!
//! A log is a list of small objects, one per record, each created put-if-absent, so that two writers can never both
//! have written the same place. What the records add up to is the owner's [`State`]: the checkpoints of a job, the jobs
//! of a cluster. Reading needs no permission; writing needs a [`Writer`], which holds an *epoch*:
//!
//! * An epoch is claimed by creating its record 0. The highest one wins; claims are never deleted and have no gaps.
//! * Whoever claims seals every earlier epoch, by writing the next record there, which its holder then cannot write.
//!   What the log said before that is known for good, and nothing is added to it behind the new writer's back.
//! * A writer looks for the next claim after each of its records and acts on a record only after that.
//! * When the reply to a put is lost, the record is read back: its own id is success, another's means superseded.
//! * A claim may be made for the leader of a cluster ([`Leadership`]). A claim for an earlier leader of that cluster is
//!   then refused, so a deposed leader cannot supersede its successor.
//!
//! Layout of an object `<folder>/<epoch, 10 digits>/<seq, 10 digits>`, version 1: one line of text,
//! `MSJ1 <crc32 of the JSON, 8 hex digits> <JSON of Entry>\n`.
//!
//! A [`Record::Base`] repeats the whole state, so that what is older than the base before it can be deleted; a damaged
//! base is thus bridged by its predecessor and the records between.

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
/// Tries to read a log that changes meanwhile.
const READS_MAX: usize = 3;

/// What the records of a log add up to.
pub trait State: Default + Send {
    /// One step. Steps of one append count together or not at all.
    type Change: Serialize + DeserializeOwned + Send + Sync;
    /// The whole state.
    type Base: Serialize + DeserializeOwned + Send + Sync;

    fn apply(&mut self, change: &Self::Change);
    fn base(&self) -> Self::Base;
    fn restore(base: Self::Base) -> Self;
    /// A record could not be read: what it said is not known, until a base repeats it.
    fn damaged(&mut self, reason: String);
}

/// A record as it is stored. `B` and `C` are the base and the change of a [`State`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry<B, C> {
    /// Tells the writer's own record from another's when the reply to a put was lost.
    pub id: String,
    /// The claim that wrote it.
    pub writer: String,
    pub record: Record<B, C>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record<B, C> {
    /// `owner` is for people, and for whoever looks for the holder.
    Claimed {
        owner: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leader: Option<Leadership>,
    },
    /// The state as of here; what came before is void.
    Base(B),
    /// Nothing after this counts in this epoch.
    Sealed { by: u64 },
    /// Several changes at once.
    Group(Vec<C>),
    /// One change, without a wrapping of its own.
    #[serde(untagged)]
    Change(C),
}

impl<B: Serialize + DeserializeOwned, C: Serialize + DeserializeOwned> Entry<B, C> {
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

/// The leader of a cluster that claims a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leadership {
    /// The id of the cluster.
    pub cluster: String,
    /// The epoch of the cluster's journal that the leader holds.
    pub epoch: u64,
}

impl Leadership {
    /// Returns whether this leader was followed by the other one. Leaders of different clusters do not follow each
    /// other.
    pub fn is_before(&self, other: &Self) -> bool {
        self.cluster == other.cluster && self.epoch < other.epoch
    }
}

/// The newest claim of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    pub epoch: u64,
    pub owner: String,
    /// `None`: the claim was not made for a leader of a cluster.
    pub leader: Option<Leadership>,
}

/// Epoch and sequence number of a record.
pub type Place = (u64, u64);

/// Where a log is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    storage: Storage,
    folder: String,
    /// What the log is about, for messages: `the job`.
    subject: String,
}

/// A log as read.
#[derive(Debug)]
pub struct Contents<S> {
    pub state: S,
    /// Of every epoch, what is known of its records.
    pub epochs: BTreeMap<u64, Epoch>,
    /// All records.
    pub places: Vec<Place>,
    /// The last base.
    pub base: Option<Place>,
    /// Every record that could not be read, those that a later base makes up for included.
    pub damaged: Vec<String>,
    /// Stretches of records that are missing after the last base.
    gaps: usize,
}

#[derive(Debug, Clone, Default)]
pub struct Epoch {
    pub next_seq: u64,
    pub sealed: bool,
    /// Who claimed it.
    pub owner: String,
    /// The claim that writes its records, once that is known.
    writer: Option<String>,
}

impl Epoch {
    /// Returns true if a record is of this epoch and not a copy of another: only the claim writes here, until another
    /// one seals it, and each record once. `Err`: what it is instead.
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

/// The first record that should be between two that are there, or before the first one: epochs are claimed one after
/// the other, and records are written one after the other. (Compaction leaves the first and the last record of each
/// epoch, and everything from the last base but one on.)
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
    /// The newest epoch and its owner.
    pub fn leader(&self) -> Option<(u64, &str)> {
        let (epoch, known) = self.epochs.iter().next_back()?;
        Some((*epoch, known.owner.as_str()))
    }
}

type EntryOf<S> = Entry<<S as State>::Base, <S as State>::Change>;

impl Log {
    /// The log in this folder of a storage.
    pub fn new(storage: Storage, folder: &str, subject: &str) -> Self {
        Self {
            storage,
            folder: folder.to_string(),
            subject: subject.to_string(),
        }
    }

    /// Claims the next epoch: from now on whoever held an earlier one is refused.
    pub async fn claim<S: State>(&self, owner: &str) -> Result<Writer<S>, Error> {
        self.claim_for(owner, None).await
    }

    /// Claims the next epoch for the leader of a cluster. [`Error::Superseded`]: a later leader of the same cluster has
    /// claimed the log.
    pub async fn claim_for<S: State>(&self, owner: &str, leader: Option<Leadership>) -> Result<Writer<S>, Error> {
        Writer::take(self.clone(), owner, leader).await
    }

    /// Returns the newest claim; `None` if there is none, or it cannot be read because it is damaged.
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

    /// Whether this epoch was claimed.
    pub async fn is_claimed(&self, epoch: u64) -> Result<bool, Error> {
        Ok(self.storage.length(&self.path(epoch, 0)).await?.is_some())
    }

    pub async fn read<S: State>(&self) -> Result<Contents<S>, Error> {
        let mut places = self.places().await?;
        for _ in 0..READS_MAX {
            let contents = self.read_places::<S>(&places).await?;
            if contents.gaps == 0 {
                return Ok(contents);
            }
            // A listing is no snapshot: a record that it did not show may be there, and one that it showed may have
            // been compacted away since.
            let now = self.places().await?;
            if now == places {
                return Ok(contents);
            }
            places = now;
        }
        self.read_places(&places).await
    }

    /// Adds up these records. A record that is missing after the last base is damage.
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
                // Compacted away between the listing and the read, or lost.
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
