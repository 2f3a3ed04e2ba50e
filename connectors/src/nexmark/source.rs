//! The generator as a source: epochs are assigned to splits, and splits are read round-robin.
//!
//! Split `s` of `S` consists of the epochs `s, s + S, s + 2S, ...`. A reader takes one batch from each of its splits in
//! turn, so that they advance together and the watermark with them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_schema::{Schema, SchemaRef};
use async_trait::async_trait;

use super::batch::{Generator, Segment};
use super::config::{Config, StartTime};
use super::schema::{Column, Columns};
use crate::clock::now_us;
use crate::{Boundedness, Error, ReaderContext, Source, SourceBatch, SourceEvent, SourceReader, Split};

pub(super) struct NexmarkSource {
    generator: Arc<Generator>,
    schema: SchemaRef,
    /// Event time of event 0, for a job without a checkpoint.
    start_us: i64,
}

impl NexmarkSource {
    pub(super) fn new(config: Config, schema: SchemaRef) -> Self {
        let start_us = match config.start {
            StartTime::AtUs(us) => us,
            StartTime::Now => now_us(),
        };
        Self {
            generator: Arc::new(Generator::new(config)),
            schema,
            start_us,
        }
    }
}

#[async_trait]
impl Source for NexmarkSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn boundedness(&self) -> Boundedness {
        match self.generator.config().events_max {
            Some(_) => Boundedness::Bounded,
            None => Boundedness::Unbounded,
        }
    }

    async fn splits(&self) -> Result<Vec<Split>, Error> {
        let config = self.generator.config();
        Ok((0..config.splits)
            .map(|number| {
                let state = Position {
                    stride: config.splits,
                    epoch: number,
                    offset: 0,
                    start_us: self.start_us,
                };
                Split {
                    id: format!("nexmark-{number}-of-{}", config.splits),
                    position: state.encode(),
                    weight: config.events_max.map_or(0, |events| events / config.splits),
                    finished: state.is_at_end(config),
                }
            })
            .collect())
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error> {
        let invalid = || Error::Invalid("nexmark: the table's columns do not fit".into());
        let all = Columns::resolve(&self.schema).map_err(|_| invalid())?;
        let (schema, delivered) = match &context.projection {
            None => (self.schema.clone(), all.clone()),
            Some(indices) => {
                let schema = Arc::new(Schema::new(self.schema.project(indices)?.fields().clone()));
                let columns = indices.iter().map(|&index| all.columns[index].clone()).collect();
                (schema, Columns { columns })
            }
        };
        let config = self.generator.config();
        let generate = if config.is_pruned {
            delivered.columns.clone()
        } else {
            all.columns
        };
        let pace = config.is_paced.then(Pace::default);
        Ok(Box::new(Reader {
            generator: self.generator.clone(),
            context,
            schema,
            delivered,
            generate,
            pace,
            splits: Vec::new(),
            next: 0,
            no_more_splits: false,
            segments: Vec::new(),
        }))
    }
}

/// Describes the position of a checkpoint's split; `None` if the split is not one of this connector.
pub(super) fn describe_position(split: &Split) -> Option<String> {
    let position = Position::decode(split).ok()?;
    split.id.starts_with("nexmark-").then(|| {
        format!(
            "event {} of epoch {}, every {}th epoch",
            position.offset, position.epoch, position.stride
        )
    })
}

/// The position in a split.
///
/// Encoded as: version 1 (u8) | stride (u64 LE) | epoch (u64 LE) | offset in the epoch (u64 LE) | event time of event 0
/// in microseconds (i64 LE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    stride: u64,
    epoch: u64,
    offset: u64,
    start_us: i64,
}

const POSITION_VERSION: u8 = 1;

impl Position {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![POSITION_VERSION];
        bytes.extend(self.stride.to_le_bytes());
        bytes.extend(self.epoch.to_le_bytes());
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.start_us.to_le_bytes());
        bytes
    }

    fn decode(split: &Split) -> Result<Self, Error> {
        let wrong = || {
            Error::Invalid(format!(
                "the position of the split `{}` is not one of nexmark's",
                split.id
            ))
        };
        let (&[version], words) = split.position.split_first_chunk::<1>().ok_or_else(wrong)?;
        if version != POSITION_VERSION || words.len() != 32 {
            return Err(wrong());
        }
        let word = |index: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&words[index * 8..index * 8 + 8]);
            u64::from_le_bytes(bytes)
        };
        Ok(Self {
            stride: word(0),
            epoch: word(1),
            offset: word(2),
            start_us: word(3).cast_signed(),
        })
    }

    fn event(&self, config: &Config) -> u64 {
        self.epoch * config.epoch_events() + self.offset
    }

    fn is_at_end(&self, config: &Config) -> bool {
        config.events_max.is_some_and(|events| self.event(config) >= events)
    }

    /// Advances over the next events, at most `rows` and none at or after `limit`, and adds them as segments.
    fn advance(&mut self, config: &Config, rows: usize, limit: u64, segments: &mut Vec<Segment>) {
        let epoch_events = config.epoch_events();
        let mut room = rows as u64;
        while room > 0 {
            let first = self.epoch * epoch_events;
            let to = epoch_events.min(limit.saturating_sub(first)).min(self.offset + room);
            if to <= self.offset {
                return;
            }
            segments.push(Segment {
                epoch: self.epoch,
                from: self.offset,
                to,
            });
            room -= to - self.offset;
            self.offset = to;
            if to == epoch_events {
                self.epoch += self.stride;
                self.offset = 0;
            }
        }
    }
}

struct Reader {
    generator: Arc<Generator>,
    context: ReaderContext,
    schema: SchemaRef,
    delivered: Columns,
    generate: Vec<Column>,
    pace: Option<Pace>,
    splits: Vec<ReaderSplit>,
    /// Index of the split to read next.
    next: usize,
    no_more_splits: bool,
    segments: Vec<Segment>,
}

struct ReaderSplit {
    id: Arc<str>,
    position: Position,
    weight: u64,
    /// True once the end of the split was reported.
    finished: bool,
}

/// Shortest interval between two batches of due events, which bounds the overhead of small batches.
const PACE_INTERVAL_US: i64 = 1_000;
/// Delay of a poll after an event is due, so that the poll is not too early.
const PACE_SLACK_US: i64 = 50;

/// Longest time that a reader paced by the wall clock catches up with when it starts.
const CATCH_UP_US_MAX: i64 = 3_600_000_000;

/// Delays events until they are due. The wall clock is read only when the reader starts, so that setting the clock
/// neither delays events nor makes many due at once.
#[derive(Default)]
struct Pace {
    /// Start of the reader, and its distance from event 0 in microseconds.
    began: Option<(Instant, i64)>,
    /// Time from the last poll without a due event to the next event.
    wait: Option<Duration>,
}

impl SourceReader for Reader {
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error> {
        let config = self.generator.config();
        for split in splits {
            let position = Position::decode(&split)?;
            if position.stride != config.splits {
                return Err(Error::Invalid(format!(
                    "the checkpoint was taken with 'nexmark.splits' = '{}', now it is '{}': set it back, or start afresh",
                    position.stride, config.splits
                )));
            }
            self.splits.push(ReaderSplit {
                id: split.id.into(),
                position,
                weight: split.weight,
                finished: split.finished,
            });
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more_splits = true;
    }

    fn poll(&mut self) -> Result<SourceEvent, Error> {
        let generator = self.generator.clone();
        let config = generator.config();
        let end = config.events_max.unwrap_or(u64::MAX);
        let limit = match self.due_before() {
            Some(due) => due.min(end),
            None => end,
        };
        for _ in 0..self.splits.len() {
            let index = self.next;
            self.next = (self.next + 1) % self.splits.len();
            let split = &mut self.splits[index];
            if split.finished {
                continue;
            }
            if split.position.is_at_end(config) {
                split.finished = true;
                return Ok(SourceEvent::SplitFinished {
                    split: split.id.clone(),
                });
            }
            self.segments.clear();
            split
                .position
                .advance(config, self.context.batch_rows_max.max(1), limit, &mut self.segments);
            if self.segments.is_empty() {
                continue;
            }
            let (rows, bytes) = generator.batch(
                &self.segments,
                split.position.start_us,
                &self.delivered,
                &self.generate,
                &self.schema,
            )?;
            return Ok(SourceEvent::Batch(SourceBatch {
                split: split.id.clone(),
                rows,
                rejected: Vec::new(),
                bytes,
                lag: None,
            }));
        }
        if self.splits.iter().all(|split| split.finished) {
            return Ok(if self.no_more_splits {
                SourceEvent::End
            } else {
                SourceEvent::Pending
            });
        }
        self.wait_until_due();
        Ok(SourceEvent::Pending)
    }

    fn pending_for(&self) -> Option<Duration> {
        self.pace.as_ref()?.wait
    }

    fn snapshot(&mut self) -> Result<Vec<Split>, Error> {
        Ok(self
            .splits
            .iter()
            .map(|split| Split {
                id: split.id.to_string(),
                position: split.position.encode(),
                weight: split.weight,
                finished: split.finished,
            })
            .collect())
    }
}

impl Reader {
    /// If paced: the first event that is not due yet.
    fn due_before(&mut self) -> Option<u64> {
        let pace = self.pace.as_mut()?;
        pace.wait = None;
        let config = self.generator.config();
        if pace.began.is_none() {
            let first = self.splits.iter().min_by_key(|split| split.position.event(config))?;
            let after_us = begins_after(config, &first.position, now_us());
            pace.began = Some((Instant::now(), after_us));
        }
        let elapsed_us = u128::try_from(pace.elapsed_us()?).unwrap_or(0);
        Some((elapsed_us * u128::from(config.rate) / 1_000_000) as u64 + 1)
    }

    /// Returns the time until the next event, after all due events were delivered.
    fn wait_until_due(&mut self) {
        let config = self.generator.config();
        let open = self.splits.iter().filter(|split| !split.finished);
        let next = open.map(|split| split.position.event(config)).min();
        if let Some(pace) = &mut self.pace {
            pace.wait = next.zip(pace.elapsed_us()).map(|(next, elapsed_us)| {
                let wait_us = config.elapsed(next).0 + PACE_SLACK_US - elapsed_us;
                Duration::from_micros(wait_us.max(PACE_INTERVAL_US) as u64)
            });
        }
    }
}

impl Pace {
    /// Returns the microseconds since event 0 was due.
    fn elapsed_us(&self) -> Option<i64> {
        let (began, after_us) = self.began?;
        let elapsed_us = i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX);
        Some(after_us.saturating_add(elapsed_us))
    }
}

/// Returns the microseconds after event 0 at which a reader at this position starts.
fn begins_after(config: &Config, next: &Position, now_us: i64) -> i64 {
    let due_us = config.elapsed(next.event(config)).0;
    match config.start {
        // Events that became due since the last run are caught up with. The next event is due now at the latest, even
        // if this machine's clock is behind that of the last run.
        StartTime::Now => now_us
            .saturating_sub(next.start_us)
            .clamp(due_us, due_us.saturating_add(CATCH_UP_US_MAX)),
        // The next event is due now, whatever its event time.
        StartTime::AtUs(_) => due_us,
    }
}

#[cfg(test)]
mod tests;
