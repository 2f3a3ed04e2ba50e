//! The writer of a log, which holds an epoch.

use std::collections::BTreeMap;

use super::{Contents, Entry, EntryOf, Leadership, Log, Place, Record, State};
use crate::Error;

/// Minimum number of records between two bases of an epoch.
const RECORDS_PER_BASE_MIN: u64 = 64;
/// Maximum number of records between two bases. Beyond the minimum, a base is written once the records together are as
/// large as the last base.
const RECORDS_PER_BASE_MAX: u64 = 1024;
/// Attempts to put a record when the storage returns errors.
const APPEND_TRIES_MAX: u32 = 3;
/// Epochs that other processes may claim while this one tries to claim.
const CLAIM_TRIES_MAX: u32 = 100;

/// The writer of a log, until another process claims the next epoch.
#[derive(Debug)]
pub struct Writer<S: State> {
    log: Log,
    epoch: u64,
    /// Unique id of the claim.
    id: String,
    state: S,
    next_seq: u64,
    /// Position of the last base. Records before it are deleted when the next base is written.
    base: Option<Place>,
    base_bytes: u64,
    /// Bytes of the records since the last base.
    bytes_since_base: u64,
    /// Positions of all records that were not deleted.
    places: Vec<Place>,
    superseded: Option<String>,
    /// Changes that were written and that no call of [`Writer::append`] has returned yet.
    unreturned: Vec<S::Change>,
    /// True if a put was begun whose outcome is unknown.
    is_uncertain: bool,
}

impl<S: State> Writer<S> {
    pub(super) async fn take(log: Log, owner: &str, leader: Option<Leadership>) -> Result<Self, Error> {
        let id = uuid::Uuid::new_v4().to_string();
        let last = log.places().await?.last().map_or(0, |(last, _)| *last);
        if last > 0 {
            refuse_deposed::<S>(&log, last, leader.as_ref()).await?;
        }
        let mut epoch = last + 1;
        let mut tries = 0;
        loop {
            let record = Record::Claimed {
                owner: owner.to_string(),
                leader: leader.clone(),
            };
            let entry: EntryOf<S> = entry(&id, record);
            if log.storage.put_if_absent(&log.path(epoch, 0), entry.encode()?).await? {
                break;
            }
            if log.entry::<S>(epoch, 0).await.is_ok_and(|found| found.id == entry.id) {
                break;
            }
            // Another process claimed this epoch: it may have done so for a later leader.
            refuse_deposed::<S>(&log, epoch, leader.as_ref()).await?;
            epoch += 1;
            tries += 1;
            if tries == CLAIM_TRIES_MAX {
                return Err(Error::Limit(format!(
                    "{}: {CLAIM_TRIES_MAX} epochs were claimed by others while this process tried; do many processes \
                     want to run {}?",
                    log.url(),
                    log.subject
                )));
            }
        }
        let contents = seal_earlier(&log, epoch, &id).await?;
        let mut writer = Self {
            epoch,
            id,
            state: contents.state,
            next_seq: 1,
            base: contents.base,
            base_bytes: 0,
            bytes_since_base: 0,
            places: contents.places,
            superseded: None,
            unreturned: Vec::new(),
            is_uncertain: false,
            log,
        };
        writer.compact().await?;
        tracing::debug!(journal = %writer.log.url(), epoch, "claimed");
        Ok(writer)
    }

    /// Returns the claimed epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the state that the records add up to.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Returns the state for changes that are not written and may be lost. All others go through [`Writer::append`].
    pub fn state_mut(&mut self) -> &mut S {
        &mut self.state
    }

    /// Writes changes that take effect together. Returns all changes that were written and applied since the last call
    /// returned: these, preceded by those of earlier calls that seemed to have failed. The caller may act on them.
    ///
    /// # Errors
    ///
    /// After [`Error::Superseded`] the caller must stop and change nothing more. After any other error, and after the
    /// returned future was dropped, it is unknown whether the changes were written ([`Writer::is_uncertain`]). The next
    /// call determines it, even one without changes.
    pub async fn append(&mut self, mut changes: Vec<S::Change>) -> Result<Vec<S::Change>, Error> {
        let record = match changes.pop() {
            None if self.is_uncertain => Record::Group(Vec::new()),
            None => {
                if !self.unreturned.is_empty() {
                    self.check().await?;
                }
                return Ok(std::mem::take(&mut self.unreturned));
            }
            Some(only) if changes.is_empty() => Record::Change(only),
            Some(last) => {
                changes.push(last);
                Record::Group(changes)
            }
        };
        self.put(record).await?;
        let since_base = self.next_seq - self.base.map_or(0, |(_, seq)| seq);
        let large = self.bytes_since_base >= self.base_bytes || since_base > RECORDS_PER_BASE_MAX;
        if self.base.is_none() || (since_base > RECORDS_PER_BASE_MIN && large) {
            match self.compact().await {
                Ok(()) => {}
                Err(error @ Error::Superseded(_)) => return Err(error),
                // The changes are written; the next append retries the base.
                Err(error) => tracing::warn!(%error, "cannot compact the journal"),
            }
        }
        Ok(std::mem::take(&mut self.unreturned))
    }

    /// Returns true if changes of an earlier call may have been written that no call has returned.
    pub fn is_uncertain(&self) -> bool {
        self.is_uncertain || !self.unreturned.is_empty()
    }

    /// Returns [`Error::Superseded`] if a later epoch was claimed.
    pub async fn check(&mut self) -> Result<(), Error> {
        if let Some(reason) = &self.superseded {
            return Err(Error::Superseded(reason.clone()));
        }
        // Claims are never deleted and have no gaps, so the next epoch tells.
        if self.log.is_claimed(self.epoch + 1).await? {
            return Err(self.supersede(&format!("epoch {} was claimed", self.epoch + 1)));
        }
        Ok(())
    }

    /// Puts one record at the next position of this epoch, and checks that no later epoch was claimed.
    async fn put(&mut self, record: Record<S::Base, S::Change>) -> Result<(), Error> {
        if let Some(reason) = &self.superseded {
            return Err(Error::Superseded(reason.clone()));
        }
        let entry: EntryOf<S> = entry(&self.id, record);
        let bytes = entry.encode()?;
        let mut tries = 0;
        loop {
            let path = self.log.path(self.epoch, self.next_seq);
            self.is_uncertain = true;
            match self.log.storage.put_if_absent(&path, bytes.clone()).await {
                Ok(true) => break,
                Ok(false) => {
                    let found = self.log.entry::<S>(self.epoch, self.next_seq).await?;
                    if found.writer != self.id {
                        self.is_uncertain = false;
                        return Err(self.supersede(&format!("{path} was written by another process")));
                    }
                    if found.id == entry.id {
                        break;
                    }
                    // An earlier record of this writer whose put seemed to fail: the new one follows it.
                    self.count(found.record, 0);
                }
                Err(error) => {
                    tries += 1;
                    if tries == APPEND_TRIES_MAX {
                        return Err(error);
                    }
                    tracing::warn!(journal = %self.log.url(), %error, "writing the journal again");
                }
            }
        }
        self.count(entry.record, bytes.len() as u64);
        self.check().await
    }

    /// Applies the record that was written at the next position.
    fn count(&mut self, record: Record<S::Base, S::Change>, bytes: u64) {
        self.is_uncertain = false;
        // A later epoch may have been claimed since, and be in the list.
        debug_assert!(
            !self
                .places
                .iter()
                .any(|(epoch, seq)| *epoch == self.epoch && *seq >= self.next_seq),
            "records of an epoch are written at ascending positions"
        );
        self.places.push((self.epoch, self.next_seq));
        self.next_seq += 1;
        self.bytes_since_base += bytes;
        let changes = match record {
            Record::Change(change) => vec![change],
            Record::Group(changes) => changes,
            // A base repeats the state of this writer.
            Record::Base(_) | Record::Claimed { .. } | Record::Sealed { .. } => Vec::new(),
        };
        for change in &changes {
            self.state.apply(change);
        }
        self.unreturned.extend(changes);
    }

    /// Writes a base and deletes the records before the previous one. The first and last record of each epoch (its
    /// claim and its seal) are retained, so that it remains claimed and sealed.
    async fn compact(&mut self) -> Result<(), Error> {
        let base = (self.epoch, self.next_seq);
        let before = self.bytes_since_base;
        self.put(Record::Base(self.state.base())).await?;
        self.base_bytes = self.bytes_since_base - before;
        self.bytes_since_base = 0;
        let Some(oldest) = self.base.replace(base) else {
            return Ok(());
        };
        let last: BTreeMap<u64, u64> = self.places.iter().copied().collect();
        let needed = |place: &Place| *place >= oldest || place.1 == 0 || last.get(&place.0) == Some(&place.1);
        let (kept, old): (Vec<Place>, Vec<Place>) = self.places.drain(..).partition(needed);
        self.places = kept;
        for (epoch, seq) in old {
            if let Err(error) = self.log.storage.delete(&self.log.path(epoch, seq)).await {
                tracing::warn!(%error, "cannot delete an old journal record");
            }
        }
        Ok(())
    }

    fn supersede(&mut self, what: &str) -> Error {
        let reason = format!(
            "another process has taken over {} in {} ({what}); this one holds epoch {} and stops",
            self.log.subject,
            self.log.url(),
            self.epoch
        );
        self.superseded = Some(reason.clone());
        Error::Superseded(reason)
    }
}

fn entry<B, C>(writer: &str, record: Record<B, C>) -> Entry<B, C> {
    Entry {
        id: uuid::Uuid::new_v4().to_string(),
        writer: writer.to_string(),
        record,
    }
}

/// Returns [`Error::Superseded`] if this epoch was claimed for a later leader of the same cluster.
async fn refuse_deposed<S: State>(log: &Log, epoch: u64, leader: Option<&Leadership>) -> Result<(), Error> {
    let Some(leader) = leader else { return Ok(()) };
    match log.claimant_of::<S>(epoch).await?.and_then(|claimant| claimant.leader) {
        Some(later) if leader.is_before(&later) => Err(Error::Superseded(format!(
            "{} in {} was claimed by the leader of epoch {} of this cluster; the leader of epoch {} is superseded and stops",
            log.subject,
            log.url(),
            later.epoch,
            leader.epoch
        ))),
        _ => Ok(()),
    }
}

/// Seals every earlier epoch by writing its next record, which its holder then cannot write. Returns the sealed log.
async fn seal_earlier<S: State>(log: &Log, epoch: u64, writer: &str) -> Result<Contents<S>, Error> {
    loop {
        let contents = log.read::<S>().await?;
        let mut all_sealed = true;
        for (earlier, known) in contents.epochs.range(..epoch) {
            if known.sealed {
                continue;
            }
            all_sealed = false;
            let seal: EntryOf<S> = entry(writer, Record::Sealed { by: epoch });
            // If its holder wrote the position first, the next round reads that record.
            log.storage
                .put_if_absent(&log.path(*earlier, known.next_seq), seal.encode()?)
                .await?;
        }
        if all_sealed {
            return Ok(contents);
        }
    }
}
