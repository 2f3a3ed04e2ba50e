//! Reads of an epoch's parts from the checkpoint storage, ahead of their production.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::epoch::Part;
use super::recent_parts::RecentParts;
use crate::{Error, OutputStorage};

/// The sources of the bytes of parts.
pub(super) struct PartSources {
    pub storage: Option<Arc<dyn OutputStorage>>,
    pub recent: Arc<RecentParts>,
    pub runtime: tokio::runtime::Handle,
}

impl PartSources {
    fn start_read(&self, part: &Part<'_>) -> PartRead {
        let file = match part {
            Part::Inline(bytes) => return PartRead::Done(Ok(Bytes::copy_from_slice(bytes))),
            Part::File(file) => *file,
        };
        match (self.recent.get(file), &self.storage) {
            (Some(bytes), _) => PartRead::Done(Ok(bytes)),
            (None, Some(storage)) => {
                let (storage, file) = (storage.clone(), file.clone());
                PartRead::Started(self.runtime.spawn(async move { storage.read(&file).await }))
            }
            (None, None) => PartRead::Done(Err(Error::Invalid(format!(
                "there is no checkpoint storage here to read {} from",
                file.path
            )))),
        }
    }
}

/// The read of a part.
enum PartRead {
    Done(Result<Bytes, Error>),
    Started(JoinHandle<Result<Bytes, Error>>),
}

/// Number of parts of a session that are read ahead, while earlier ones are produced and committed.
const PARTS_AHEAD_MAX: usize = 2;

/// Reads parts in order, and the next ones ahead.
pub(super) struct PartReads<'a> {
    sources: &'a PartSources,
    rest: std::slice::Iter<'a, Part<'a>>,
    ahead: VecDeque<PartRead>,
}

impl<'a> PartReads<'a> {
    pub(super) fn new(parts: &'a [Part<'a>], sources: &'a PartSources) -> Self {
        Self {
            sources,
            rest: parts.iter(),
            ahead: VecDeque::new(),
        }
    }

    /// Returns the next `count` parts. Blocks until each is read.
    pub(super) fn take(&mut self, count: usize) -> impl Iterator<Item = Result<Bytes, Error>> {
        std::iter::from_fn(|| self.next()).take(count)
    }

    fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let missing = PARTS_AHEAD_MAX + 1 - self.ahead.len();
        let started = self
            .rest
            .by_ref()
            .take(missing)
            .map(|part| self.sources.start_read(part));
        self.ahead.extend(started);
        Some(match self.ahead.pop_front()? {
            PartRead::Done(read) => read,
            PartRead::Started(read) => match self.sources.runtime.block_on(read) {
                Ok(read) => read,
                Err(error) => Err(Error::Unavailable(format!("a part was not read: {error}"))),
            },
        })
    }
}
