//! The source: the splits of the files and the partitions of the topic, with ids of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow_schema::SchemaRef;
use async_trait::async_trait;

use super::reader::HybridReader;
use super::split_id::{HISTORY_SPLIT, TOPIC_SPLIT, prefixed};
use crate::{Boundedness, Error, InputFields, Outage, ReaderContext, Source, SourceReader, Split};

/// A source of files and then a topic.
pub(super) struct HybridSource {
    history: Arc<dyn Source>,
    topic: Arc<dyn Source>,
    /// True once the files were listed, by this attempt or by the one that it was restored from. Files that are added
    /// later are no part of the history.
    was_listed: AtomicBool,
}

impl HybridSource {
    pub(super) fn new(history: Arc<dyn Source>, topic: Arc<dyn Source>) -> Self {
        Self {
            history,
            topic,
            was_listed: AtomicBool::new(false),
        }
    }

    /// Returns the part that a split is of, and the split under its id there.
    fn part(&self, split: &Split) -> (&Arc<dyn Source>, Split) {
        let of_history = split.id.strip_prefix(HISTORY_SPLIT);
        let part = if of_history.is_some() {
            &self.history
        } else {
            &self.topic
        };
        let id = of_history.or_else(|| split.id.strip_prefix(TOPIC_SPLIT));
        let id = id.unwrap_or(&split.id).to_owned();
        (part, Split { id, ..split.clone() })
    }
}

#[async_trait]
impl Source for HybridSource {
    fn schema(&self) -> SchemaRef {
        self.topic.schema()
    }

    fn boundedness(&self) -> Boundedness {
        self.topic.boundedness()
    }

    fn resume(&self) {
        self.was_listed.store(true, Ordering::Release);
        self.history.resume();
        self.topic.resume();
    }

    async fn splits(&self) -> Result<Vec<Split>, Error> {
        let topic = self.topic.splits().await?;
        let history = match self.was_listed.load(Ordering::Acquire) {
            true => Vec::new(),
            false => self.history.splits().await?,
        };
        self.was_listed.store(true, Ordering::Release);
        Ok(prefixed(HISTORY_SPLIT, history)
            .chain(prefixed(TOPIC_SPLIT, topic))
            .collect())
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.topic.discovery_interval()
    }

    fn has_changed(&self, read: &Split, found: &Split) -> bool {
        let (part, read) = self.part(read);
        part.has_changed(&read, &self.part(found).1)
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error> {
        Ok(Box::new(HybridReader::new(
            self.history.reader(context.clone())?,
            self.topic.reader(context)?,
        )))
    }

    fn outage(&self) -> Option<Outage> {
        self.history.outage().or_else(|| self.topic.outage())
    }

    fn input_fields(&self) -> Option<InputFields> {
        self.topic.input_fields()
    }

    async fn checkpoint_completed(&self, splits: &[Split]) -> Result<(), Error> {
        let of_topic = splits.iter().filter(|split| split.id.starts_with(TOPIC_SPLIT));
        let of_topic: Vec<Split> = of_topic.map(|split| self.part(split).1).collect();
        self.topic.checkpoint_completed(&of_topic).await
    }
}
