//! When sessions are due: by stretches of time, unordered within one until it comes near.
//!
//! A session is noted once, when it opens. One that has grown since is noted again when its former end comes, so a row
//! that makes a session longer costs nothing here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Stretches of a gap. Part of the layout in the store, as is the order of stretches.
const STRETCHES: i64 = 64;
/// Before and after so many stretches time is one stretch: the store's namespaces are for other things, too.
const STRETCH_MAX: i64 = 1 << 60;

pub struct Calendar {
    stretch_us: i64,
    /// Slots of stretches that are still far.
    far: BTreeMap<i64, Vec<u32>>,
    /// Stretches up to this one are near.
    reached: i64,
    /// Ends and slots of what is near.
    near: BinaryHeap<Reverse<(i64, u32)>>,
}

impl Calendar {
    pub fn new(gap: i64) -> Self {
        Self {
            stretch_us: (gap / STRETCHES).max(1),
            far: BTreeMap::new(),
            reached: i64::MIN,
            near: BinaryHeap::new(),
        }
    }

    /// How many stretches there are in half a gap.
    pub fn half_gap(gap: i64) -> i64 {
        let calendar = Self::new(gap);
        gap / 2 / calendar.stretch_us
    }

    /// The stretch of a time.
    pub fn stretch_of(&self, time: i64) -> i64 {
        time.div_euclid(self.stretch_us).clamp(-STRETCH_MAX, STRETCH_MAX)
    }

    /// The first time of a stretch.
    pub fn start_of(&self, stretch: i64) -> i64 {
        match stretch {
            stretch if stretch <= -STRETCH_MAX => i64::MIN,
            stretch if stretch > STRETCH_MAX => i64::MAX,
            stretch => stretch.saturating_mul(self.stretch_us),
        }
    }

    /// The last time of a stretch.
    pub fn end_of(&self, stretch: i64) -> i64 {
        match stretch >= STRETCH_MAX {
            true => i64::MAX,
            false => self.start_of(stretch + 1).saturating_sub(1),
        }
    }

    pub fn note(&mut self, slot: u32, end: i64) {
        let stretch = self.stretch_of(end);
        if stretch <= self.reached {
            self.near.push(Reverse((end, slot)));
        } else {
            self.far.entry(stretch).or_default().push(slot);
        }
    }

    /// Takes a slot that was noted to be due at `time` or before. `end_of` tells when slots are due by now, `None` if they
    /// are over.
    pub fn take_due(&mut self, time: i64, end_of: impl Fn(u32) -> Option<i64>) -> Option<u32> {
        loop {
            if let Some(Reverse((end, slot))) = self.near.peek().copied()
                && end <= time
            {
                self.near.pop();
                match end_of(slot) {
                    Some(end) if end <= time => return Some(slot),
                    Some(end) => self.note(slot, end),
                    None => {}
                }
                continue;
            }
            let due = self.stretch_of(time);
            let first = self.far.first_entry().filter(|first| *first.key() <= due)?;
            let (stretch, slots) = first.remove_entry();
            self.reached = self.reached.max(stretch);
            for slot in slots {
                if let Some(end) = end_of(slot) {
                    self.note(slot, end);
                }
            }
        }
    }

    /// Slots noted in stretches up to this one.
    pub fn noted_until(&self, stretch: i64) -> impl Iterator<Item = u32> {
        let near = self.near.iter().map(|Reverse((_, slot))| *slot);
        near.chain(self.far.range(..=stretch).flat_map(|(_, slots)| slots.iter().copied()))
    }

    /// The stretch in which something is due next.
    pub fn next_stretch(&self) -> Option<i64> {
        match self.near.peek() {
            Some(Reverse((end, _))) => Some(self.stretch_of(*end)),
            None => self.far.keys().next().copied(),
        }
    }

    /// Forgets all slots.
    pub fn clear(&mut self) {
        self.far.clear();
        self.near.clear();
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        let far: usize = self.far.values().map(|slots| slots.capacity() * size_of::<u32>()).sum();
        far + self.near.capacity() * size_of::<Reverse<(i64, u32)>>()
    }
}
