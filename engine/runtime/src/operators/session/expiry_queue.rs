//! A queue of sessions by the time at which they expire.
//!
//! Time is divided into *buckets*. Slots of a distant bucket are unordered; they are moved into a heap when time
//! reaches the bucket. A session is queued once, when it opens. One that has been extended since is queued again when
//! its former end is reached, so a row that extends a session costs nothing here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Buckets per gap. Bucket numbers are part of the layout in the store, so this is too.
const BUCKETS_PER_GAP: i64 = 64;
/// Largest absolute bucket number. Earlier and later times share the outermost buckets, because namespaces of the store
/// beyond them have other uses.
const BUCKET_MAX: i64 = 1 << 60;

/// Session slots by the time at which they expire.
pub(super) struct ExpiryQueue {
    bucket_us: i64,
    /// Slots of buckets after `heap_until`.
    buckets: BTreeMap<i64, Vec<u32>>,
    /// Last bucket whose slots are in the heap.
    heap_until: i64,
    /// Ends and slots, the earliest first.
    heap: BinaryHeap<Reverse<(i64, u32)>>,
}

impl ExpiryQueue {
    /// Creates an empty queue for sessions of this gap, in microseconds.
    pub(super) fn new(gap: i64) -> Self {
        Self {
            bucket_us: (gap / BUCKETS_PER_GAP).max(1),
            buckets: BTreeMap::new(),
            heap_until: i64::MIN,
            heap: BinaryHeap::new(),
        }
    }

    /// Returns the number of buckets in half a gap.
    pub(super) fn buckets_per_half_gap(&self, gap: i64) -> i64 {
        gap / 2 / self.bucket_us
    }

    /// Returns the bucket of a time.
    pub(super) fn bucket_of(&self, time: i64) -> i64 {
        time.div_euclid(self.bucket_us).clamp(-BUCKET_MAX, BUCKET_MAX)
    }

    /// Returns the first time of a bucket.
    pub(super) fn bucket_start(&self, bucket: i64) -> i64 {
        match bucket {
            bucket if bucket <= -BUCKET_MAX => i64::MIN,
            bucket if bucket > BUCKET_MAX => i64::MAX,
            bucket => bucket.saturating_mul(self.bucket_us),
        }
    }

    /// Returns the last time of a bucket.
    pub(super) fn bucket_end(&self, bucket: i64) -> i64 {
        if bucket >= BUCKET_MAX {
            return i64::MAX;
        }
        match (bucket + 1).checked_mul(self.bucket_us) {
            Some(next) => next.saturating_sub(1),
            None if bucket < 0 => i64::MIN,
            None => i64::MAX,
        }
    }

    /// Adds a slot whose session ends at `end`.
    pub(super) fn push(&mut self, slot: u32, end: i64) {
        let bucket = self.bucket_of(end);
        if bucket <= self.heap_until {
            self.heap.push(Reverse((end, slot)));
        } else {
            self.buckets.entry(bucket).or_default().push(slot);
        }
    }

    /// Removes and returns a slot whose session ends at `time` or before. `end_of` returns the present end of a slot's
    /// session, or `None` if the session is closed.
    pub(super) fn pop_expired(&mut self, time: i64, end_of: impl Fn(u32) -> Option<i64>) -> Option<u32> {
        loop {
            if let Some(Reverse((end, slot))) = self.heap.peek().copied()
                && end <= time
            {
                self.heap.pop();
                match end_of(slot) {
                    Some(end) if end <= time => return Some(slot),
                    Some(end) => self.push(slot, end),
                    None => {}
                }
                continue;
            }
            let expired = self.bucket_of(time);
            let first = self.buckets.first_entry().filter(|first| *first.key() <= expired)?;
            let (bucket, slots) = first.remove_entry();
            self.heap_until = self.heap_until.max(bucket);
            for slot in slots {
                if let Some(end) = end_of(slot) {
                    self.push(slot, end);
                }
            }
        }
    }

    /// Returns the slots queued in buckets up to this one.
    pub(super) fn slots_until(&self, bucket: i64) -> impl Iterator<Item = u32> {
        let near = self.heap.iter().map(|Reverse((_, slot))| *slot);
        near.chain(
            self.buckets
                .range(..=bucket)
                .flat_map(|(_, slots)| slots.iter().copied()),
        )
    }

    /// Returns the first bucket with a queued slot.
    pub(super) fn next_bucket(&self) -> Option<i64> {
        match self.heap.peek() {
            Some(Reverse((end, _))) => Some(self.bucket_of(*end)),
            None => self.buckets.keys().next().copied(),
        }
    }

    /// Removes all slots.
    pub(super) fn clear(&mut self) {
        self.buckets.clear();
        self.heap.clear();
    }

    /// Returns the bytes held.
    pub(super) fn size(&self) -> usize {
        let buckets: usize = self
            .buckets
            .values()
            .map(|slots| slots.capacity() * size_of::<u32>())
            .sum();
        buckets + self.heap.capacity() * size_of::<Reverse<(i64, u32)>>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_time_is_between_start_and_end_of_its_bucket() {
        for gap in [1, 63, 64, 1_000, i64::MAX] {
            let queue = ExpiryQueue::new(gap);
            for time in [i64::MIN, -1_000_000, -65, -1, 0, 1, 64, 999, 1 << 61, i64::MAX] {
                let bucket = queue.bucket_of(time);
                assert!(
                    queue.bucket_start(bucket) <= time && time <= queue.bucket_end(bucket),
                    "time {time} in bucket {bucket} for gap {gap}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Slots are returned once, when their present end is reached, and closed ones never.
        #[test]
        fn slots_expire_at_their_present_end(
            gap in 1i64..1_000,
            sessions in proptest::collection::vec((0i64..2_000, 0i64..500, any::<bool>()), 1..50),
            steps in proptest::collection::vec(1i64..700, 1..8),
        ) {
            let mut queue = ExpiryQueue::new(gap);
            for (slot, (end, ..)) in sessions.iter().enumerate() {
                queue.push(slot as u32, *end);
            }
            // Sessions are extended, and some closed, after they were queued.
            let end_of = |slot: u32| {
                let (end, extension, is_closed) = sessions[slot as usize];
                (!is_closed).then_some(end + extension)
            };
            let mut time = 0;
            let mut expired = Vec::new();
            for step in steps {
                time += step;
                while let Some(slot) = queue.pop_expired(time, end_of) {
                    expired.push(slot);
                }
                let mut sorted = expired.clone();
                sorted.sort_unstable();
                let expected: Vec<u32> = (0..sessions.len() as u32)
                    .filter(|slot| end_of(*slot).is_some_and(|end| end <= time))
                    .collect();
                prop_assert_eq!(sorted, expected);
            }
        }
    }
}
