//! The reader of one subtask: one split after the other, decoded on the slot thread.
//!
//! Bytes come from a [`Fetch`]; the reader finds the records in them, decodes a batch per poll, and always knows the
//! offset just after the last record it delivered: that is the position a snapshot stores.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::ArrayRef;
use crossbeam::channel::{Receiver, TryRecvError};

use super::fetch::{Content, Fetch, Fetched};
use super::source::{FileSource, Layout};
use super::split::Position;
use crate::format::{Decoder, Lines, Records};
use crate::{Error, ReaderContext, RejectedRecord, SourceBatch, SourceEvent, SourceReader, Split};

/// What editors of one platform put at the beginning of UTF-8 files.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub struct Reader {
    plan: Plan,
    waiting: VecDeque<(Split, Position)>,
    active: Option<Active>,
    finished: Vec<Split>,
    no_more: bool,
}

/// What is the same for all splits.
struct Plan {
    source: Arc<FileSource>,
    layout: Layout,
    context: ReaderContext,
    /// `None` for Parquet.
    decoder: Option<Box<dyn Decoder>>,
}

/// The split being read.
struct Active {
    split: Split,
    id: Arc<str>,
    position: Position,
    fetched: Receiver<Fetched>,
    /// No more bytes will come.
    ended: bool,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are done with.
    consumed: usize,
    /// The file's offset of `buffer[consumed]`.
    offset: u64,
    constants: Vec<Option<ArrayRef>>,
    /// The file's offset after its header; no record before it is a row.
    header_end: u64,
}

/// What one look at the active split found.
enum Step {
    Event(SourceEvent),
    Finished,
    Pending,
}

impl Reader {
    pub fn new(source: &FileSource, context: ReaderContext) -> Result<Self, Error> {
        let source = Arc::new(source.clone());
        let layout = Layout::new(&source, context.projection.as_deref())?;
        let decoder = match source.is_parquet() {
            true => None,
            false => Some(
                source
                    .format
                    .watched_decoder(&source.file_schema, &layout.file_columns, &source.fields)?,
            ),
        };
        Ok(Self {
            plan: Plan {
                source,
                layout,
                context,
                decoder,
            },
            waiting: VecDeque::new(),
            active: None,
            finished: Vec::new(),
            no_more: false,
        })
    }
}

impl Plan {
    fn start(&self, split: Split, position: Position) -> Result<Active, Error> {
        let source = &self.source;
        let content = match source.is_parquet() {
            true => Content::Parquet {
                columns: Arc::new(source.file_schema.project(&self.layout.file_columns)?),
                batch_rows: self.context.batch_rows_max.max(1),
                fields: source.fields.clone(),
            },
            false => Content::Lines {
                compression: source.compression_of(&position.path),
                header: source.header.clone(),
                header_bytes_max: source.record_bytes_max,
            },
        };
        let constants = self.layout.constants(source, &position)?;
        let fetch = Fetch {
            location: source.location.clone(),
            position: position.clone(),
            content,
            runtime: self.context.runtime.clone(),
        };
        Ok(Active {
            id: split.id.as_str().into(),
            split,
            fetched: fetch.start(self.context.waker.clone()),
            ended: false,
            buffer: Vec::new(),
            consumed: 0,
            offset: if position.aligned {
                position.next
            } else {
                position.next.saturating_sub(1)
            },
            constants,
            header_end: 0,
            position,
        })
    }
}

impl Active {
    fn step(&mut self, plan: &mut Plan) -> Result<Step, Error> {
        loop {
            if let Some(event) = self.next_records(plan)? {
                return Ok(Step::Event(event));
            }
            if self.is_done(plan.decoder.is_some()) {
                return Ok(Step::Finished);
            }
            let limit = plan.source.record_bytes_max;
            if (self.buffer.len() - self.consumed) as u64 > limit {
                return Err(Error::Data(format!(
                    "`{}`: the record at byte {} is longer than 'source.max-record-size' ({limit} bytes); raise the \
                     option, or check that records end with line breaks and that quotes are closed",
                    self.position.path, self.offset
                )));
            }
            match self.fetched.try_recv() {
                Ok(Fetched::Bytes(piece)) => {
                    self.buffer.drain(..self.consumed);
                    self.consumed = 0;
                    self.buffer.extend_from_slice(&piece);
                }
                Ok(Fetched::Header { line, end, records }) => self.take_header(plan, &line, end, records)?,
                Ok(Fetched::Rows(rows)) => {
                    self.position.next += rows.num_rows() as u64;
                    let bytes = rows.get_array_memory_size() as u64;
                    let rows = plan.layout.assemble(&rows, &self.constants)?;
                    let batch = SourceBatch {
                        split: self.id.clone(),
                        rows,
                        rejected: Vec::new(),
                        bytes,
                        lag: None,
                    };
                    return Ok(Step::Event(SourceEvent::Batch(batch)));
                }
                Ok(Fetched::End) => self.ended = true,
                Ok(Fetched::Failed(error)) => return Err(error),
                Err(TryRecvError::Empty) => return Ok(Step::Pending),
                Err(TryRecvError::Disconnected) => {
                    return Err(Error::Unavailable(format!(
                        "reading of `{}` stopped unexpectedly; start the job again to resume",
                        self.position.path
                    )));
                }
            }
        }
    }

    fn is_done(&self, lines: bool) -> bool {
        let all_read = self.ended && self.consumed == self.buffer.len();
        all_read || (lines && self.position.aligned && self.offset >= self.position.end)
    }

    /// The rows of the complete records at hand, as many as one batch takes.
    fn next_records(&mut self, plan: &mut Plan) -> Result<Option<SourceEvent>, Error> {
        let Some(decoder) = &mut plan.decoder else {
            return Ok(None);
        };
        if !self.skip_header() || !self.position.aligned && !self.align() {
            return Ok(None);
        }
        let lines = &plan.source.lines;
        let ranges = self.records(lines, plan.context.batch_rows_max, plan.context.batch_bytes_max);
        let Some((_, last)) = ranges.last().copied() else {
            return Ok(None);
        };
        let data = &self.buffer[self.consumed..];
        let decoded = decoder.decode(Records {
            data: &data[..last],
            ranges: &ranges,
        })?;
        let rejected = decoded
            .rejected
            .into_iter()
            .map(|rejection| {
                let (start, end) = ranges[rejection.record];
                let position = match self.position.start {
                    0 => format!(
                        "{}:{}",
                        self.position.path,
                        self.position.records + rejection.record as u64 + 1
                    ),
                    _ => format!("{}@{}", self.position.path, self.offset + start as u64),
                };
                RejectedRecord {
                    payload: data[start..end].to_vec(),
                    position,
                    error: rejection.error,
                }
            })
            .collect();
        let rows = plan.layout.assemble(&decoded.rows, &self.constants)?;
        // The line break after the last record, unless the file ends without one.
        let used = (last + 1).min(data.len());
        self.consumed += used;
        self.offset += used as u64;
        self.position.next = self.offset;
        self.position.records += ranges.len() as u64;
        let bytes = used as u64;
        Ok(Some(SourceEvent::Batch(SourceBatch {
            split: self.id.clone(),
            rows,
            rejected,
            bytes,
            lag: None,
        })))
    }

    /// Passes over the rest of a record that belongs to the split before. Whether its end was found.
    fn align(&mut self) -> bool {
        let rest = &self.buffer[self.consumed..];
        let found = memchr::memchr(b'\n', rest);
        let passed = found.map_or(rest.len(), |at| at + 1);
        self.consumed += passed;
        self.offset += passed as u64;
        if found.is_some() {
            self.position.aligned = true;
            self.position.next = self.offset;
        }
        found.is_some()
    }

    /// Matches columns by the file's header, which reaches to the offset `end`.
    fn take_header(&mut self, plan: &mut Plan, line: &[u8], end: u64, records: u64) -> Result<(), Error> {
        if let Some(decoder) = &mut plan.decoder {
            decoder.set_header(line).map_err(|problem| {
                Error::Data(format!(
                    "table `{}`: `{}`: {problem}",
                    plan.source.table.name, self.position.path
                ))
            })?;
        }
        self.header_end = end;
        if self.position.start == 0 && self.position.next == 0 {
            self.position.records = records;
        }
        Ok(())
    }

    /// Passes over the header. Returns true once it is passed.
    fn skip_header(&mut self) -> bool {
        let Some(left) = self.header_end.checked_sub(self.offset).filter(|left| *left > 0) else {
            return true;
        };
        let here = self.buffer.len() - self.consumed;
        let passed = usize::try_from(left).unwrap_or(usize::MAX).min(here);
        self.consumed += passed;
        self.offset += passed as u64;
        if self.offset < self.header_end {
            return false;
        }
        self.position.aligned = true;
        self.position.next = self.offset;
        true
    }

    /// Ranges of the next records in `buffer[consumed..]`.
    fn records(&self, lines: &Lines, rows_max: usize, bytes_max: usize) -> Vec<(usize, usize)> {
        let data = &self.buffer[self.consumed..];
        let mut ranges = Vec::new();
        let mut at = 0;
        while at < data.len().min(bytes_max.max(1))
            && ranges.len() < rows_max.max(1)
            && self.offset + (at as u64) < self.position.end
        {
            let end = match lines.end(data, at) {
                Some(end) => end,
                None if self.ended => data.len(),
                None => break,
            };
            let is_first = self.offset == 0 && at == 0 && data.starts_with(BYTE_ORDER_MARK);
            let start = if is_first { BYTE_ORDER_MARK.len().min(end) } else { at };
            ranges.push((start, end));
            at = end + 1;
        }
        ranges
    }
}

impl SourceReader for Reader {
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error> {
        for split in splits {
            let position = Position::decode(&split)?;
            self.waiting.push_back((split, position));
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more = true;
    }

    fn poll(&mut self) -> Result<SourceEvent, Error> {
        if self.active.is_none() {
            match self.waiting.pop_front() {
                Some((split, position)) => self.active = Some(self.plan.start(split, position)?),
                None if self.no_more => return Ok(SourceEvent::End),
                None => return Ok(SourceEvent::Pending),
            }
        }
        let Some(active) = &mut self.active else {
            return Ok(SourceEvent::Pending);
        };
        match active.step(&mut self.plan)? {
            Step::Event(event) => Ok(event),
            Step::Pending => Ok(SourceEvent::Pending),
            Step::Finished => {
                let id = active.id.clone();
                let mut split = active.split.clone();
                split.position = active.position.encode()?;
                split.finished = true;
                self.finished.push(split);
                self.active = None;
                Ok(SourceEvent::SplitFinished { split: id })
            }
        }
    }

    fn snapshot(&mut self) -> Result<Vec<Split>, Error> {
        let mut splits = self.finished.clone();
        if let Some(active) = &self.active {
            let mut split = active.split.clone();
            split.position = active.position.encode()?;
            splits.push(split);
        }
        splits.extend(self.waiting.iter().map(|(split, _)| split.clone()));
        Ok(splits)
    }
}
