//! Filters of the keys that were written.
//!
//! Most keys that a collection does not have in memory are new, and of the others most have rows in few generations. A
//! filter answers this from memory, where the store would have to search each of its files.

/// Bits of a filter per key. A part contains about one in 500 keys that were not added.
const KEY_BITS: usize = 16;
/// Bits that a key sets, all in one block.
const PROBES: u32 = 6;
/// Bits of a block, which is one cache line.
const BLOCK_BITS: usize = 512;
/// Keys of the first part.
const KEYS_MIN: usize = 256;
/// Each part is for this many times as many keys as all before it.
const GROWTH: usize = 3;
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Block([u64; BLOCK_BITS / u64::BITS as usize]);

impl Block {
    /// Returns the word and the bit of a probe, which 9 bits of a hash select.
    #[inline(always)]
    fn place(hash: u64, probe: u32) -> (usize, u64) {
        let bit = (hash >> (probe * 9)) as usize % BLOCK_BITS;
        (bit / 64, 1 << (bit % 64))
    }

    #[inline(always)]
    fn contains(&self, hash: u64) -> bool {
        (0..PROBES).all(|probe| {
            let (word, bit) = Self::place(hash, probe);
            self.0[word] & bit != 0
        })
    }

    fn add(&mut self, hash: u64) {
        for probe in 0..PROBES {
            let (word, bit) = Self::place(hash, probe);
            self.0[word] |= bit;
        }
    }
}

/// A Bloom filter of a fixed number of keys.
#[derive(Debug)]
struct Part {
    blocks: Vec<Block>,
    free: usize,
}

impl Part {
    fn new(keys: usize) -> Self {
        let blocks = (keys * KEY_BITS).div_ceil(BLOCK_BITS);
        Self {
            blocks: vec![Block::default(); blocks],
            free: keys,
        }
    }

    /// Returns the number of a hash's block: its upper half, scaled.
    #[inline(always)]
    fn block(&self, hash: u64) -> usize {
        (((hash >> 32) * self.blocks.len() as u64) >> 32) as usize
    }
}

/// A set of hashes that only grows, and may contain hashes that were not added: fewer than one in a hundred.
#[derive(Debug, Default)]
pub(crate) struct KeyFilter {
    parts: Vec<Part>,
    keys: usize,
}

impl KeyFilter {
    /// Returns the bytes of the filter.
    pub(crate) fn size(&self) -> usize {
        let blocks: usize = self.parts.iter().map(|part| part.blocks.capacity()).sum();
        blocks * size_of::<Block>()
    }

    /// Adds the hash of a key. Returns the bytes by which the filter has grown.
    pub(crate) fn add(&mut self, hash: u64) -> usize {
        if self.contains(hash) {
            return 0;
        }
        let mut growth = 0;
        if self.parts.last().is_none_or(|part| part.free == 0) {
            let part = Part::new((self.keys * GROWTH).max(KEYS_MIN));
            growth = part.blocks.capacity() * size_of::<Block>();
            self.parts.push(part);
        }
        let (place, bits) = spread(hash);
        if let Some(part) = self.parts.last_mut() {
            let block = part.block(place);
            part.blocks[block].add(bits);
            part.free -= 1;
            self.keys += 1;
        }
        growth
    }

    /// Returns false if the key of a hash was not added.
    #[inline]
    pub(crate) fn contains(&self, hash: u64) -> bool {
        let (place, bits) = spread(hash);
        let mut parts = self.parts.iter().rev();
        parts.any(|part| part.blocks[part.block(place)].contains(bits))
    }
}

/// Returns the bits of a hash that select a block, and those that select the bits in it. A subtask owns only some
/// values of a hash's remainder by the number of key groups, so all bits are mixed.
#[inline(always)]
fn spread(hash: u64) -> (u64, u64) {
    let place = hash.wrapping_mul(MULTIPLIER);
    (place, (place ^ (hash >> 29)).wrapping_mul(MULTIPLIER) >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::hash_of_bytes;

    #[test]
    fn a_filter_contains_what_was_added_and_little_else() {
        let mut filter = KeyFilter::default();
        let hash = |key: u64| hash_of_bytes(&key.to_le_bytes());
        // The hashes of one subtask have one remainder only.
        let hashes: Vec<u64> = (0..1_000_000).map(hash).filter(|hash| hash % 8 == 5).collect();
        let (added, others) = hashes.split_at(hashes.len() / 2);
        let growth: usize = added.iter().map(|hash| filter.add(*hash)).sum();
        assert_eq!(growth, filter.size());
        assert!(filter.size() < added.len() * 8, "{} bytes", filter.size());
        assert!(added.iter().all(|hash| filter.contains(*hash)));
        let wrong = others.iter().filter(|hash| filter.contains(**hash)).count();
        assert!(wrong * 100 < others.len(), "{wrong} of {} keys", others.len());
    }
}
