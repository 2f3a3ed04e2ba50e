//! The parts that this process has written last, which need not be read to publish them.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::OutputFile;

/// A cache of parts written by this process, which need not be read to publish them.
#[derive(Default)]
pub struct RecentParts {
    cache: Mutex<PartCache>,
}

/// Size of the cache at which the oldest parts are evicted.
const RECENT_BYTES_MAX: usize = 64 << 20;

#[derive(Default)]
struct PartCache {
    parts: VecDeque<(String, Bytes)>,
    bytes: usize,
}

impl RecentParts {
    /// Adds a part.
    pub fn insert(&self, file: &OutputFile, part: Bytes) {
        let mut cache = self.cache.lock();
        cache.bytes += part.len();
        cache.parts.push_back((file.path.clone(), part));
        while cache.bytes > RECENT_BYTES_MAX
            && let Some((_, oldest)) = cache.parts.pop_front()
        {
            cache.bytes -= oldest.len();
        }
    }

    /// Returns a part, if it has not been evicted.
    pub(super) fn get(&self, file: &OutputFile) -> Option<Bytes> {
        let cache = self.cache.lock();
        let (_, part) = cache.parts.iter().find(|(path, _)| *path == file.path)?;
        Some(part.clone())
    }

    /// Removes parts that have been published.
    pub(super) fn remove(&self, files: &[OutputFile]) {
        let mut cache = self.cache.lock();
        cache
            .parts
            .retain(|(path, _)| !files.iter().any(|file| file.path == *path));
        cache.bytes = cache.parts.iter().map(|(_, part)| part.len()).sum();
    }
}
