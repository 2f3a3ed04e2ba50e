//! Spilling sessions and reloading them.
//!
//! A spilled session is written without looking at the store. Later rows of its key open another session in memory, so
//! one session may consist of several *fragments*, in the store and in memory. Fragments are merged when they are
//! reloaded; no row ever looks up its key in the store.
//!
//! Fragments are stored by the expiry bucket in which they end. Before the watermark enters a bucket, its fragments are
//! *reloaded*: read back and merged with the sessions in memory within a gap of them. Buckets up to `loaded_until` have
//! been reloaded. The [`spill_index`](super::spill_index) has the key, first time and bucket of every fragment.
//!
//! A session that ends in a loaded bucket is complete, and may be emitted, if no spilled fragment begins within a gap
//! of its end. So the index is looked up for every session that ends in a loaded bucket. If it has such a fragment, the
//! session is *deferred*: its end is moved into the fragment's bucket, which is right because both are one session, and
//! it meets the fragment when that bucket is reloaded. The invariant "every session that ends in a loaded bucket has
//! been looked up" is kept as follows:
//!
//! * a reload looks up all sessions that end in the buckets it loads, after their fragments were read;
//! * a row so late that its session would end in a loaded bucket is looked up before it is processed, as is a row that
//!   is late unless it finds a session, since it may find a spilled one. Nearly all rows are neither;
//! * only sessions that end after the loaded buckets are spilled;
//! * a lookup need not find all fragments of a session: fragments are merged with what is near them when they are
//!   reloaded, in any case.
//!
//! A deferred session may be spilled again. Its index entry goes to a namespace of its own, which is not scanned for
//! closing sessions. Suppose that a closing session is near such an entry. Either it is also near the fragment that the
//! deferred session waits for, which the lookup finds; or it has a late row, for which both namespaces were scanned.
//!
//! A scan of the index costs the same for many keys as for few, so several buckets are reloaded at once, ahead of time,
//! as far as memory allows.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use millstream_state::store::KeyPrefix;

use super::SessionAggregate;
use super::fragments::{FragmentFlush, Fragments, bucket_of};
use super::reload::Reload;
use super::spill_index::{IndexLookup, LookupScope, SpilledFragment};
use crate::Error;
use crate::operators::keyed_state::KeyGroupSet;
use crate::operators::table::Select;

/// Until memory was short once, the memory for these sessions is estimated as the budget divided by this.
const MEMORY_DIVISOR_INITIAL: usize = 16;
/// The open sessions divided by this stay in memory when the others are spilled.
const RETAINED_DIVISOR: usize = 4;
/// Steps of a lookup in one call.
const STEPS_MAX: usize = 16;

/// The spilled sessions, and the reload in progress.
pub(super) struct SpilledSessions {
    /// By the bucket in which their fragments end.
    pub(super) buckets: BTreeMap<i64, SpilledBucket>,
    /// Last bucket that has been reloaded.
    pub(super) loaded_until: i64,
    pub(super) reload: Option<Reload>,
    /// Bytes of the sessions in memory when memory was short last.
    pub(super) memory_bytes: usize,
}

/// The spilled fragments that end in one bucket.
pub(super) struct SpilledBucket {
    /// Key groups that have some.
    pub(super) groups: KeyGroupSet,
    /// Estimate of the bytes they take in memory; `None` after a restore.
    pub(super) bytes: Option<usize>,
}

impl SpilledSessions {
    /// Creates an empty set of spilled sessions.
    pub(super) fn new(loaded_until: i64, limit_bytes: usize) -> Self {
        Self {
            buckets: BTreeMap::new(),
            loaded_until,
            reload: None,
            memory_bytes: limit_bytes / MEMORY_DIVISOR_INITIAL,
        }
    }

    /// Adds the fragments of a key prefix that a restore found in the store.
    pub(super) fn add_restored(&mut self, prefix: KeyPrefix) {
        let bucket = self
            .buckets
            .entry(bucket_of(prefix.namespace))
            .or_insert(SpilledBucket {
                groups: KeyGroupSet::default(),
                bytes: None,
            });
        bucket.groups.insert(prefix.group.0);
    }

    /// Returns the first bucket with spilled fragments.
    pub(super) fn next_bucket(&self) -> Option<i64> {
        self.buckets.keys().next().copied()
    }

    /// Checks that all spilled fragments end after the loaded buckets, unless a reload is in progress.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self) {
        let first = self.next_bucket();
        assert!(
            self.reload.is_some() || first.is_none_or(|first| first > self.loaded_until),
            "fragments of bucket {first:?} are not reloaded, buckets until {} are",
            self.loaded_until
        );
    }

    fn groups(&self) -> KeyGroupSet {
        let mut groups = KeyGroupSet::default();
        groups.extend(self.buckets.values().flat_map(|bucket| bucket.groups.iter()));
        groups
    }
}

impl SessionAggregate {
    /// Spills sessions because memory is short.
    pub(super) fn spill_sessions(&mut self) -> Result<(), Error> {
        if self.spilled.buckets.is_empty() {
            self.advance_loaded_until();
        }
        self.spill_coldest(self.spilled.loaded_until)
    }

    /// Spills most of the sessions that end after the bucket `loaded_until`: deferred ones first, then those with the
    /// oldest last row.
    pub(super) fn spill_coldest(&mut self, loaded_until: i64) -> Result<(), Error> {
        let sessions = &self.sessions;
        let mut coldest: Vec<u32> = sessions
            .open_slots()
            .filter(|slot| sessions.bucket_of(*slot) > loaded_until)
            .collect();
        let open = sessions.open_count();
        let count = (open - open / RETAINED_DIVISOR).min(coldest.len());
        if count == 0 {
            return Ok(());
        }
        if count < coldest.len() {
            coldest.select_nth_unstable_by_key(count, |slot| {
                let session = sessions.get(*slot);
                (!session.is_deferred, session.last)
            });
            coldest.truncate(count);
        }
        coldest.sort_unstable();
        let session_bytes = sessions.size() / open.max(1);
        self.write_fragments(&coldest, session_bytes)?;
        self.note_closed(&coldest)?;
        let mut is_coldest = coldest.iter().copied().peekable();
        let open = self.sessions.open_slots();
        let retained: Vec<u32> = open.filter(|slot| is_coldest.next_if_eq(slot).is_none()).collect();
        metrics::counter!("millstream_state_evictions_total").increment(1);
        self.sessions.retain(&retained)
    }

    fn write_fragments(&mut self, slots: &[u32], session_bytes: usize) -> Result<(), Error> {
        let keys = self.sessions.keys(slots)?;
        let key_groups = self.fragment_format.key_groups(&keys, slots.len())?;
        let buckets: Vec<i64> = slots.iter().map(|slot| self.sessions.bucket_of(*slot)).collect();
        for (bucket, group) in buckets.iter().zip(&key_groups) {
            let bucket = self.spilled.buckets.entry(*bucket).or_insert(SpilledBucket {
                groups: KeyGroupSet::default(),
                bytes: Some(0),
            });
            bucket.groups.insert(*group);
            if let Some(bytes) = &mut bucket.bytes {
                *bytes += session_bytes;
            }
        }
        let fragments = Fragments {
            keys,
            values: self.sessions.states(slots)?,
            is_deferred: slots.iter().map(|slot| self.sessions.get(*slot).is_deferred).collect(),
            key_groups,
            buckets,
        };
        let number = self.sessions.take_numbers(slots.len());
        let flush = FragmentFlush::new(
            fragments,
            number,
            &self.fragment_format,
            &self.index_codec,
            &self.spill.memory,
        );
        self.spill.store.write(Box::new(flush), None)?;
        self.spill.wait_for_store();
        Ok(())
    }

    /// Counts all buckets up to the watermark as loaded. Nothing is spilled.
    pub(super) fn advance_loaded_until(&mut self) {
        debug_assert!(self.spilled.buckets.is_empty(), "spilled buckets must be reloaded");
        let now = self.sessions.expiry_queue.bucket_of(self.watermark);
        self.spilled.loaded_until = self.spilled.loaded_until.max(now);
    }

    /// Returns the time until which expired sessions are known to be complete.
    pub(super) fn complete_until(&self) -> i64 {
        let spilled = &self.spilled;
        if spilled.buckets.is_empty() || spilled.loaded_until >= self.sessions.expiry_queue.bucket_of(self.watermark) {
            return self.watermark;
        }
        self.watermark
            .min(self.sessions.expiry_queue.bucket_end(spilled.loaded_until))
    }

    /// Moves the end of a session into the first bucket of a spilled fragment that begins within a gap of it, if there
    /// is one and the session ends in a loaded bucket.
    pub(super) fn defer(&mut self, slot: u32, fragments: &[SpilledFragment]) {
        let end = self.sessions.end_of(slot);
        if self.sessions.expiry_queue.bucket_of(end) > self.spilled.loaded_until {
            return;
        }
        let near = fragments.iter().filter(|fragment| fragment.first <= end);
        if let Some(bucket) = near.map(|fragment| fragment.bucket).min() {
            debug_assert!(
                bucket > self.spilled.loaded_until,
                "a session is deferred to a spilled fragment"
            );
            let last = self.sessions.expiry_queue.bucket_start(bucket).saturating_sub(self.gap);
            let session = self.sessions.get_mut(slot);
            session.last = session.last.max(last);
            session.is_deferred = true;
            self.sessions.mark_dirty(slot);
        }
    }

    /// Returns the lookup that these rows require before they are processed, if any of them does.
    pub(super) fn late_lookup(
        &self,
        batch: &RecordBatch,
        times: &[i64],
        has_time: impl Fn(usize) -> bool,
    ) -> Result<Option<LateLookup>, Error> {
        let spilled = &self.spilled;
        if spilled.buckets.is_empty() {
            return Ok(None);
        }
        let next = self
            .sessions
            .expiry_queue
            .bucket_start(spilled.loaded_until.saturating_add(1));
        let below = next.max(self.watermark.saturating_add(2)).saturating_sub(self.gap);
        let rows: Vec<u32> = (0..times.len())
            .filter(|row| times[*row] < below && has_time(*row))
            .map(|row| row as u32)
            .collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let ends = rows.iter().map(|row| times[*row as usize].saturating_add(self.gap));
        let lookup = IndexLookup::new(
            &self.fragment_format,
            &self.spec.key_fields,
            Select::Indices(&rows).take(&self.key_columns(batch))?,
            ends.collect(),
            spilled.loaded_until,
            &spilled.groups(),
            LookupScope::LateRows,
        )?;
        Ok(Some(LateLookup { rows, lookup }))
    }

    /// Goes on with a lookup. Returns true if it is finished, false if there is more to scan, and `None` if the store
    /// cannot be read now.
    pub(super) fn advance_lookup(&mut self, lookup: &mut LateLookup) -> Result<Option<bool>, Error> {
        for _ in 0..STEPS_MAX {
            if !self.spill.is_ready()? {
                return Ok(None);
            }
            if !lookup.lookup.step(&self.spill.store, &self.index_codec)? {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }
}

/// A lookup of the late rows of a batch.
pub(super) struct LateLookup {
    /// The late rows, ascending.
    pub rows: Vec<u32>,
    /// The lookup of the sessions that these rows would have.
    pub lookup: IndexLookup,
}
