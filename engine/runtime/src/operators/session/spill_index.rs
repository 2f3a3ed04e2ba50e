//! The index of spilled fragments: the keys of fragments and the times they cover, without their partial states.
//!
//! Before a session is emitted, all spilled fragments of it must be known. A point lookup per key would cost a random
//! read each. Instead, the keys to look up are gathered in a hash index in memory, and the spill index is scanned once
//! from one end to the other ([`IndexLookup`]), which costs about a hundredth of a random read per entry.
//!
//! Layout: namespace 1; namespace 2 for the fragments of deferred sessions, which are relevant for late rows only (see
//! [`spilled`](super::spilled)). Key of a block: the bucket in which its fragments end and the least of their first
//! times (i64 BE each, sign bit flipped), then a number (u64 BE) that is never used twice. A scan skips the blocks
//! whose fragments all begin too late. Value: a block of the key columns and the first time (`Int64`).

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use millstream_state::BlockCodec;
use millstream_state::key_group::KeyGroup;
use millstream_state::store::{FlushSource, KeyPrefix, Store, WriteChunk};

use crate::Error;
use crate::operators::keyed_state::{KeyGroupSet, PrefixScan, RowFormat, SCAN_BLOCKS, StoredRows, rows_by_key_group};
use crate::operators::table::{GroupIndex, Select, UNKNOWN, new_group_index};

/// Namespace of the index.
pub(super) const INDEX: i64 = 1;
/// Namespace of the index of deferred sessions.
pub(super) const DEFERRED_INDEX: i64 = 2;
const SIGN: u64 = 1 << 63;

/// Creates the encoding of index blocks.
pub(super) fn codec(key_fields: &[FieldRef]) -> Result<Arc<BlockCodec>, Error> {
    let mut types: Vec<DataType> = key_fields.iter().map(|field| field.data_type().clone()).collect();
    types.push(DataType::Int64);
    Ok(Arc::new(BlockCodec::new(&types)?))
}

/// Returns the key of a block of fragments that end in `bucket`, the earliest of which begins at `least_first`.
pub(super) fn block_key(bucket: i64, least_first: i64, number: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&(bucket as u64 ^ SIGN).to_be_bytes());
    key[8..16].copy_from_slice(&(least_first as u64 ^ SIGN).to_be_bytes());
    key[16..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Returns the bucket and the least first time of a block's key.
fn read_key(key: &[u8]) -> Result<(i64, i64), Error> {
    let word = |at: usize| {
        let bytes = key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(|bytes| (u64::from_be_bytes(bytes) ^ SIGN) as i64)
    };
    match (word(0), word(8)) {
        (Some(bucket), Some(first)) => Ok((bucket, first)),
        _ => Err(millstream_state::Error::Corrupt(format!(
            "a key of {} bytes in the index of spilled sessions",
            key.len()
        ))
        .into()),
    }
}

/// The purpose of a lookup, which decides the namespaces that are read.
pub(super) enum LookupScope<'a> {
    /// For sessions about to be emitted. Of the index of deferred sessions only expired blocks are read, in the key
    /// groups that were reloaded.
    Closing { reloaded: &'a KeyGroupSet },
    /// For late rows.
    LateRows,
}

/// A spilled fragment of a key that was looked up.
#[derive(Clone, Copy)]
pub(super) struct SpilledFragment {
    key_number: u32,
    /// First time of the fragment.
    pub first: i64,
    /// Bucket in which the fragment ends.
    pub bucket: i64,
}

/// A lookup of many keys, by one bounded scan step after the other.
pub(super) struct IndexLookup {
    /// The keys, and for each the time until which fragments must begin to be relevant.
    keys: Vec<ArrayRef>,
    until: Vec<i64>,
    key_groups: Vec<u16>,
    /// Rows of `keys`, ordered by key group.
    order: Vec<u32>,
    /// By row of `keys`: the number of the distinct key, or `UNKNOWN` if its key group has no fragments.
    key_numbers: Vec<u32>,
    /// Fragments that end in a bucket up to this one are in memory, so their index entries have expired.
    loaded_until: i64,
    /// True if fragments of deferred sessions are relevant.
    with_deferred: bool,
    scan: PrefixScan,
    probe: Option<Probe>,
    /// Distinct keys of the key group that is scanned.
    index: Box<dyn GroupIndex>,
    found: Vec<SpilledFragment>,
    expired: Vec<(KeyPrefix, Vec<u8>)>,
    key_count: u32,
    /// Scratch: the blocks of one scan step with their keys, and the groups of a block's rows.
    block_keys: StoredRows,
    blocks: StoredRows,
    groups: Vec<u32>,
}

/// The keys of the key group that is scanned.
struct Probe {
    group: KeyGroup,
    /// Number of the first key in the index.
    first_number: u32,
    /// By key: the latest time until which fragments are relevant.
    until: Vec<i64>,
    /// Maximum of `until`.
    until_max: i64,
}

impl IndexLookup {
    /// Creates a lookup of `keys`; for each key, of the fragments that begin at the corresponding time of `until` or
    /// before. Of the key groups of `keys`, those in `groups` are scanned.
    pub(super) fn new(
        format: &RowFormat,
        key_fields: &[FieldRef],
        keys: Vec<ArrayRef>,
        until: Vec<i64>,
        loaded_until: i64,
        groups: &KeyGroupSet,
        scope: LookupScope<'_>,
    ) -> Result<Self, Error> {
        let key_groups = format.key_groups(&keys, until.len())?;
        let (mut scanned, with_deferred) = match scope {
            LookupScope::Closing { reloaded } => (reloaded.clone(), false),
            LookupScope::LateRows => (KeyGroupSet::default(), true),
        };
        scanned.extend(key_groups.iter().copied().filter(|group| groups.contains(*group)));
        let prefixes: Vec<KeyPrefix> = scanned
            .iter()
            .flat_map(|group| [(group, INDEX), (group, DEFERRED_INDEX)])
            .map(|(group, namespace)| KeyPrefix {
                group: KeyGroup(group),
                namespace,
            })
            .collect();
        Ok(Self {
            order: rows_by_key_group(&key_groups),
            key_numbers: vec![UNKNOWN; until.len()],
            keys,
            until,
            key_groups,
            loaded_until,
            with_deferred,
            scan: PrefixScan::new(prefixes.into_iter()),
            probe: None,
            index: new_group_index(key_fields)?,
            found: Vec::new(),
            expired: Vec::new(),
            key_count: 0,
            block_keys: StoredRows::default(),
            blocks: StoredRows::default(),
            groups: Vec::new(),
        })
    }

    /// Indexes the keys of one key group. Few keys at a time, so that their index fits the processor's caches.
    fn begin_key_group(&mut self, group: KeyGroup) -> Result<Probe, Error> {
        let group_of = |row: &u32| self.key_groups[*row as usize];
        let start = self.order.partition_point(|row| group_of(row) < group.0);
        let rows = &self.order[start..];
        let rows = &rows[..rows.partition_point(|row| group_of(row) == group.0)];
        let keys = Select::Indices(rows).take(&self.keys)?;
        self.index.clear();
        self.index.intern(&keys, rows.len(), &mut self.groups)?;
        let mut probe = Probe {
            group,
            first_number: self.key_count,
            until: vec![i64::MIN; self.index.len()],
            until_max: i64::MIN,
        };
        self.key_count += self.index.len() as u32;
        for (row, key) in rows.iter().zip(&self.groups) {
            let until = self.until[*row as usize];
            let of_key = &mut probe.until[*key as usize];
            *of_key = (*of_key).max(until);
            probe.until_max = probe.until_max.max(until);
            self.key_numbers[*row as usize] = probe.first_number + key;
        }
        Ok(probe)
    }

    /// Scans some more of the index. Requires a settled store. Returns true while there is more to scan.
    pub(super) fn step(&mut self, store: &Store, codec: &BlockCodec) -> Result<bool, Error> {
        let Some(prefix) = self.scan.prefix() else {
            return Ok(false);
        };
        let probe = match self.probe.take().filter(|probe| probe.group == prefix.group) {
            Some(probe) => probe,
            None => self.begin_key_group(prefix.group)?,
        };
        // Expired blocks come first; for closing sessions the rest of the deferred index is irrelevant.
        let only_expired = prefix.namespace == DEFERRED_INDEX && !self.with_deferred;
        let mut keys = std::mem::take(&mut self.block_keys);
        let mut blocks = std::mem::take(&mut self.blocks);
        keys.clear();
        blocks.clear();
        let is_end = self.scan.step(store, SCAN_BLOCKS, &mut |key, block| {
            keys.push(key);
            blocks.push(block);
        })?;
        let mut skip_to = None;
        for (key, block) in keys.iter().zip(blocks.iter()) {
            let (bucket, least_first) = read_key(key)?;
            skip_to = None;
            if bucket <= self.loaded_until {
                self.expired.push((prefix, key.to_vec()));
            } else if only_expired {
                if !is_end {
                    self.scan.skip_prefix();
                }
                break;
            } else if least_first <= probe.until_max {
                self.probe_block(&probe, bucket, codec, block)?;
            } else {
                // All later blocks of the bucket begin too late, too.
                skip_to = Some(block_key(bucket, i64::MAX, u64::MAX).to_vec());
            }
        }
        self.block_keys = keys;
        self.blocks = blocks;
        if let Some(key) = skip_to
            && !is_end
        {
            self.scan.skip_to(key);
        }
        self.probe = Some(probe);
        Ok(self.scan.prefix().is_some())
    }

    /// Finds the relevant fragments of a block.
    fn probe_block(&mut self, probe: &Probe, bucket: i64, codec: &BlockCodec, block: &[u8]) -> Result<(), Error> {
        let (mut columns, rows) = codec.decode(block)?;
        let Some(firsts) = columns.pop() else {
            return Ok(());
        };
        self.index.find(&columns, rows, &mut self.groups)?;
        for (key, first) in self.groups.iter().zip(firsts.as_primitive::<Int64Type>().values()) {
            if *key != UNKNOWN && *first <= probe.until[*key as usize] {
                self.found.push(SpilledFragment {
                    key_number: probe.first_number + key,
                    first: *first,
                    bucket,
                });
            }
        }
        Ok(())
    }

    /// Returns the result, once everything has been scanned.
    pub(super) fn finish(mut self) -> LookupResult {
        debug_assert!(self.scan.prefix().is_none(), "a lookup ends after the whole scan");
        self.found.sort_unstable_by_key(|fragment| fragment.key_number);
        LookupResult {
            key_numbers: self.key_numbers,
            found: self.found,
            expired: self.expired,
        }
    }
}

/// The spilled fragments of the keys that were looked up.
pub(super) struct LookupResult {
    key_numbers: Vec<u32>,
    /// Ordered by key number.
    found: Vec<SpilledFragment>,
    /// Prefixes and keys of expired index blocks that the scan passed.
    pub expired: Vec<(KeyPrefix, Vec<u8>)>,
}

impl LookupResult {
    /// Returns the fragments of the key in this row of the looked-up keys.
    pub(super) fn fragments(&self, row: usize) -> &[SpilledFragment] {
        let number = self.key_numbers[row];
        let start = self.found.partition_point(|fragment| fragment.key_number < number);
        let rest = &self.found[start..];
        &rest[..rest.partition_point(|fragment| fragment.key_number == number)]
    }
}

/// A deletion of index blocks.
pub(super) struct IndexDeletion(pub Vec<(KeyPrefix, Vec<u8>)>);

impl FlushSource for IndexDeletion {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, millstream_state::Error> {
        let mut chunk = WriteChunk::default();
        for (prefix, key) in std::mem::take(&mut self.0) {
            chunk.delete(prefix, &key);
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}
