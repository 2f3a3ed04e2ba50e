//! The reader of one subtask: its splits of the history, then its partitions of the topic.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::split_id::{HISTORY_SPLIT, TOPIC_SPLIT, prefixed};
use crate::{Error, SourceBatch, SourceEvent, SourceReader, Split};

/// The reader of one subtask.
pub(super) struct HybridReader {
    history: Box<dyn SourceReader>,
    topic: Box<dyn SourceReader>,
    /// Ids of the splits of the history that are not read to their end.
    open: HashSet<Arc<str>>,
    /// Partitions that are read once the history is.
    waiting: Vec<Split>,
    /// Ids of splits by their part and their ids there.
    ids: HashMap<(&'static str, Arc<str>), Arc<str>>,
}

impl HybridReader {
    /// Returns a reader without splits.
    pub(super) fn new(history: Box<dyn SourceReader>, topic: Box<dyn SourceReader>) -> Self {
        Self {
            history,
            topic,
            open: HashSet::new(),
            waiting: Vec::new(),
            ids: HashMap::new(),
        }
    }

    /// Returns the id of a split of a part.
    fn id(&mut self, prefix: &'static str, id: Arc<str>) -> Arc<str> {
        let known = self.ids.entry((prefix, id));
        Arc::clone(known.or_insert_with_key(|(prefix, id)| format!("{prefix}{id}").into()))
    }

    /// Returns an event of a part with the id of its split.
    fn event(&mut self, prefix: &'static str, event: SourceEvent) -> SourceEvent {
        match event {
            SourceEvent::Batch(batch) => SourceEvent::Batch(SourceBatch {
                split: self.id(prefix, batch.split),
                ..batch
            }),
            SourceEvent::SplitFinished { split } => SourceEvent::SplitFinished {
                split: self.id(prefix, split),
            },
            SourceEvent::CaughtUp { split } => SourceEvent::CaughtUp {
                split: self.id(prefix, split),
            },
            SourceEvent::Pending => SourceEvent::Pending,
            SourceEvent::End => SourceEvent::End,
        }
    }
}

impl SourceReader for HybridReader {
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error> {
        let mut of_history = Vec::new();
        for split in splits {
            if let Some(id) = split.id.strip_prefix(HISTORY_SPLIT) {
                let id = id.to_owned();
                self.open.insert(split.id.as_str().into());
                of_history.push(Split { id, ..split });
            } else {
                let id = split.id.strip_prefix(TOPIC_SPLIT).unwrap_or(&split.id).to_owned();
                self.waiting.push(Split { id, ..split });
            }
        }
        self.history.add_splits(of_history)
    }

    fn no_more_splits(&mut self) {
        self.history.no_more_splits();
        self.topic.no_more_splits();
    }

    fn poll(&mut self) -> Result<SourceEvent, Error> {
        if !self.open.is_empty() {
            let event = self.history.poll()?;
            let event = self.event(HISTORY_SPLIT, event);
            if let SourceEvent::SplitFinished { split } = &event {
                self.open.remove(split);
            }
            return Ok(event);
        }
        if !self.waiting.is_empty() {
            self.topic.add_splits(std::mem::take(&mut self.waiting))?;
        }
        let event = self.topic.poll()?;
        Ok(self.event(TOPIC_SPLIT, event))
    }

    fn pending_for(&self) -> Option<Duration> {
        match self.open.is_empty() {
            false => self.history.pending_for(),
            true => self.topic.pending_for(),
        }
    }

    fn is_deferred(&self, split: &str) -> bool {
        split.starts_with(TOPIC_SPLIT)
    }

    fn snapshot(&mut self) -> Result<Vec<Split>, Error> {
        let history = prefixed(HISTORY_SPLIT, self.history.snapshot()?);
        let mut topic = self.topic.snapshot()?;
        topic.extend(self.waiting.iter().cloned());
        Ok(history.chain(prefixed(TOPIC_SPLIT, topic)).collect())
    }
}
