//! Reloading spilled sessions before they expire.
//!
//! See [`spilled`](super::spilled) for the invariants.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use millstream_state::key_group::KeyGroup;
use millstream_state::store::KeyPrefix;

use super::SessionAggregate;
use super::fragments::namespace_of;
use super::spill_index::{IndexDeletion, IndexLookup, LookupScope};
use crate::Error;
use crate::operators::keyed_state::{KeyGroupSet, PrefixScan, SCAN_BLOCKS, StoredRows};

/// Fragments reloaded ahead of time take at most the memory for sessions divided by this.
const READ_AHEAD_DIVISOR: usize = 2;
/// Steps of a reload in one call.
const STEPS_MAX: usize = 16;

/// A reload of some buckets.
pub(super) struct Reload {
    /// Last bucket of the reload.
    until: i64,
    scan: PrefixScan,
    /// The sessions that end in loaded buckets, and their lookup.
    lookup: Option<(Vec<u32>, IndexLookup)>,
}

/// The result of a call to [`SessionAggregate::reload_expiring`].
pub(super) enum ReloadProgress {
    /// Nothing has to be reloaded for the present watermark.
    UpToDate,
    /// A reload is finished.
    Finished,
    /// There is more to do.
    More,
    /// The store cannot be read now.
    Pending,
}

impl SessionAggregate {
    /// Reloads some more of the fragments in buckets that the watermark has entered.
    pub(super) fn reload_expiring(&mut self) -> Result<ReloadProgress, Error> {
        if self.spilled.reload.is_none() {
            if self.spilled.buckets.is_empty() {
                self.advance_loaded_until();
            }
            if self.spilled.loaded_until >= self.sessions.expiry_queue.bucket_of(self.watermark) {
                return Ok(ReloadProgress::UpToDate);
            }
            self.begin_reload()?;
        }
        for _ in 0..STEPS_MAX {
            if !self.spill.is_ready()? {
                return Ok(ReloadProgress::Pending);
            }
            let Some(mut reload) = self.spilled.reload.take() else {
                return Ok(ReloadProgress::Finished);
            };
            if self.step_reload(&mut reload)? {
                self.spilled.reload = Some(reload);
            } else {
                self.finish_reload(reload)?;
                return Ok(ReloadProgress::Finished);
            }
        }
        Ok(ReloadProgress::More)
    }

    /// Begins a reload: chooses the buckets, and reserves memory for their fragments.
    fn begin_reload(&mut self) -> Result<(), Error> {
        let expired = self.sessions.expiry_queue.bucket_of(self.watermark);
        // Not so far ahead that rows in time would have to be looked up.
        let ahead = expired.saturating_add(self.sessions.expiry_queue.buckets_per_half_gap(self.gap));
        let bytes_max = self.spilled.memory_bytes / READ_AHEAD_DIVISOR;
        let mut until = expired;
        let mut bytes = 0;
        let mut prefixes = Vec::new();
        for (bucket, spilled) in self.spilled.buckets.range(..=ahead) {
            let bucket_bytes = spilled.bytes.unwrap_or(bytes_max);
            let is_required = prefixes.is_empty() && *bucket <= expired;
            if !is_required && bytes + bucket_bytes > bytes_max {
                until = until.min(*bucket - 1);
                break;
            }
            bytes += bucket_bytes;
            until = until.max(*bucket);
            prefixes.extend(spilled.groups.iter().map(|group| KeyPrefix {
                group: KeyGroup(group),
                namespace: namespace_of(*bucket),
            }));
        }
        let held = self.sessions.size() + bytes;
        if !self.spill.reservation.try_resize(held) {
            self.spill_coldest(until)?;
            let held = self.sessions.size() + bytes;
            self.spill.reservation.force_resize(held);
        }
        self.spill.wait_for_store();
        self.spilled.reload = Some(Reload {
            until,
            scan: PrefixScan::new(prefixes.into_iter()),
            lookup: None,
        });
        Ok(())
    }

    /// Reads some more fragments or index blocks. Returns true while there is more to read.
    fn step_reload(&mut self, reload: &mut Reload) -> Result<bool, Error> {
        if reload.scan.prefix().is_some() {
            let mut blocks = StoredRows::default();
            reload
                .scan
                .step(&self.spill.store, SCAN_BLOCKS, &mut |_, block| blocks.push(block))?;
            for block in blocks.iter() {
                self.load_fragments(block)?;
            }
            return Ok(true);
        }
        let (_, lookup) = match &mut reload.lookup {
            Some(lookup) => lookup,
            None => {
                let lookup = self.look_up_closing(reload.until)?;
                reload.lookup.insert(lookup)
            }
        };
        lookup.step(&self.spill.store, &self.index_codec)
    }

    /// Merges the fragments of a block into the sessions in memory.
    fn load_fragments(&mut self, block: &[u8]) -> Result<(), Error> {
        let (keys, values, rows) = self.fragment_format.decode_block(block)?;
        let mut groups = std::mem::take(&mut self.groups);
        self.sessions.intern(&keys, rows, &mut groups)?;
        let firsts = values[0].as_primitive::<Int64Type>().values();
        let lasts = values[1].as_primitive::<Int64Type>().values();
        let slots: Vec<u32> = groups
            .iter()
            .zip(firsts.iter().zip(lasts))
            .map(
                |(key, (first, last))| match self.sessions.extend_or_merge(*key, *first, *last) {
                    Some(slot) => slot,
                    None => self.sessions.open(*key, *first, *last),
                },
            )
            .collect();
        self.groups = groups;
        self.sessions.merge_states(&values[2..], &slots)?;
        self.merge_absorbed()
    }

    /// Returns the sessions in memory that end in a bucket up to this one.
    fn closing_until(&self, bucket: i64) -> Vec<u32> {
        let queued = self.sessions.expiry_queue.slots_until(bucket);
        queued
            .filter(|slot| self.sessions.get(*slot).is_open && self.sessions.bucket_of(*slot) <= bucket)
            .collect()
    }

    /// Begins the lookup of all sessions that end in a bucket up to `until`.
    fn look_up_closing(&self, until: i64) -> Result<(Vec<u32>, IndexLookup), Error> {
        let closing = self.closing_until(until);
        let ends = closing.iter().map(|slot| self.sessions.end_of(*slot));
        let mut later = KeyGroupSet::default();
        let mut reloaded = KeyGroupSet::default();
        for (bucket, spilled) in &self.spilled.buckets {
            let groups = if *bucket > until { &mut later } else { &mut reloaded };
            groups.extend(spilled.groups.iter());
        }
        let lookup = IndexLookup::new(
            &self.fragment_format,
            &self.spec.key_fields,
            self.sessions.keys(&closing)?,
            ends.collect(),
            until,
            &later,
            LookupScope::Closing { reloaded: &reloaded },
        )?;
        Ok((closing, lookup))
    }

    /// Finishes a reload: defers the sessions for which the lookup found spilled fragments, and deletes the reloaded
    /// fragments from the store.
    fn finish_reload(&mut self, reload: Reload) -> Result<(), Error> {
        self.spilled.loaded_until = reload.until;
        if let Some((closing, lookup)) = reload.lookup {
            let result = lookup.finish();
            for (row, slot) in closing.iter().enumerate() {
                self.defer(*slot, result.fragments(row));
            }
            if !result.expired.is_empty() {
                self.spill.store.write(Box::new(IndexDeletion(result.expired)), None)?;
            }
        }
        while let Some(first) = self
            .spilled
            .buckets
            .first_entry()
            .filter(|first| *first.key() <= reload.until)
        {
            let (bucket, spilled) = first.remove_entry();
            let namespace = namespace_of(bucket);
            self.spill.store.delete_namespace(namespace, &spilled.groups.to_vec())?;
        }
        Ok(())
    }
}
