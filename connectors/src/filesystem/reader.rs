//! The reader of one subtask. It reads one split after the other and decodes on the slot thread.
//!
//! Bytes come from a [`ReadAhead`] task; the reader finds the records in them and decodes one batch per poll. A
//! snapshot stores the offset just after the last record that was delivered.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::ArrayRef;
use crossbeam::channel::{Receiver, TryRecvError};

use super::column_layout::ColumnLayout;
use super::read_ahead::{Chunk, Content, ReadAhead};
use super::source_settings::SourceSettings;
use super::split::Position;
use crate::changelog::with_kinds;
use crate::format::{BYTE_ORDER_MARK, Decoder, Lines, Records};
use crate::{Error, ReaderContext, RejectedRecord, SourceBatch, SourceEvent, SourceReader, Split};

/// The reader of one subtask.
pub(super) struct FileReader {
    scan: Scan,
    waiting: VecDeque<(Split, Position)>,
    active: Option<ActiveSplit>,
    finished: Vec<Split>,
    no_more_splits: bool,
}

/// The parts of a reader that all splits share.
struct Scan {
    settings: Arc<SourceSettings>,
    layout: ColumnLayout,
    context: ReaderContext,
    /// `None` for Parquet.
    decoder: Option<Box<dyn Decoder>>,
}

/// The split that is being read.
struct ActiveSplit {
    split: Split,
    id: Arc<str>,
    position: Position,
    chunks: Receiver<Chunk>,
    /// True once the last chunk was received.
    ended: bool,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were delivered or skipped.
    consumed: usize,
    /// File offset of `buffer[consumed]`.
    offset: u64,
    constants: Vec<Option<ArrayRef>>,
    /// File offset after the header; 0 if there is none.
    header_end: u64,
    /// Number of lines before `buffer[consumed]`; `None` if reading did not begin at the file's start.
    lines_read: Option<u64>,
}

/// Result of one step of a split.
enum Step {
    Event(SourceEvent),
    Finished,
    Pending,
}

impl FileReader {
    /// Creates a reader without splits.
    pub(super) fn new(settings: Arc<SourceSettings>, context: ReaderContext) -> Result<Self, Error> {
        let layout = ColumnLayout::new(&settings, context.projection.as_deref())?;
        let decoder = match settings.is_parquet() {
            true => None,
            false => Some(settings.format.tracked_decoder(
                &settings.file_schema,
                &layout.file_columns,
                &[],
                &settings.fields,
            )?),
        };
        Ok(Self {
            scan: Scan {
                settings,
                layout,
                context,
                decoder,
            },
            waiting: VecDeque::new(),
            active: None,
            finished: Vec::new(),
            no_more_splits: false,
        })
    }
}

impl Scan {
    /// Starts reading a split.
    fn start(&self, split: Split, position: Position) -> Result<ActiveSplit, Error> {
        let settings = &self.settings;
        let content = match settings.is_parquet() {
            true => Content::Parquet {
                columns: Arc::new(settings.file_schema.project(&self.layout.file_columns)?),
                batch_rows: self.context.batch_rows_max.max(1),
                fields: settings.fields.clone(),
            },
            false => Content::Lines {
                compression: settings.compression_of(&position.path),
                header: settings.header.clone(),
                header_bytes_max: settings.record_bytes_max,
            },
        };
        let constants = self.layout.constants(settings, &position)?;
        let read_ahead = ReadAhead {
            location: settings.location.clone(),
            position: position.clone(),
            content,
            runtime: self.context.runtime.clone(),
        };
        Ok(ActiveSplit {
            id: split.id.as_str().into(),
            split,
            chunks: read_ahead.start(self.context.waker.clone()),
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
            lines_read: (position.start == 0 && (settings.lines.can_split() || position.next == 0))
                .then_some(position.records),
            position,
        })
    }
}

impl ActiveSplit {
    /// Delivers the next batch, or takes chunks until there is one.
    fn step(&mut self, scan: &mut Scan) -> Result<Step, Error> {
        loop {
            if let Some(event) = self.next_records(scan)? {
                return Ok(Step::Event(event));
            }
            if self.is_done(scan.decoder.is_some()) {
                return Ok(Step::Finished);
            }
            let limit = scan.settings.record_bytes_max;
            if (self.buffer.len() - self.consumed) as u64 > limit {
                return Err(Error::Data(format!(
                    "`{}`: the record at byte {} is longer than 'source.max-record-size' ({limit} bytes); raise the \
                     option, or check that records end with line breaks and that quotes are closed",
                    self.position.path, self.offset
                )));
            }
            match self.chunks.try_recv() {
                Ok(Chunk::Bytes(piece)) => {
                    self.buffer.drain(..self.consumed);
                    self.consumed = 0;
                    self.buffer.extend_from_slice(&piece);
                }
                Ok(Chunk::Header { line, end, records }) => self.take_header(scan, &line, end, records)?,
                Ok(Chunk::Rows(rows)) => {
                    self.position.next += rows.num_rows() as u64;
                    let bytes = rows.get_array_memory_size() as u64;
                    let rows = scan.layout.assemble(&rows, &self.constants)?;
                    let batch = SourceBatch {
                        split: self.id.clone(),
                        rows,
                        rejected: Vec::new(),
                        bytes,
                        lag: None,
                    };
                    return Ok(Step::Event(SourceEvent::Batch(batch)));
                }
                Ok(Chunk::End) => self.ended = true,
                Ok(Chunk::Failed(error)) => return Err(error),
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

    /// Returns true if every record of the split was delivered. `lines` is true for files of lines.
    fn is_done(&self, lines: bool) -> bool {
        let all_read = self.ended && self.consumed == self.buffer.len();
        all_read || (lines && self.position.aligned && self.offset >= self.position.end)
    }

    /// Decodes the complete records in the buffer, at most one batch; `None` if there are none.
    fn next_records(&mut self, scan: &mut Scan) -> Result<Option<SourceEvent>, Error> {
        let Some(decoder) = &mut scan.decoder else {
            return Ok(None);
        };
        if !self.skip_header() || !self.position.aligned && !self.skip_partial_record() {
            return Ok(None);
        }
        let lines = &scan.settings.lines;
        let ranges = self.record_ranges(lines, scan.context.batch_rows_max, scan.context.batch_bytes_max);
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
                let position = match self.lines_read {
                    Some(lines) => format!("{}:{}", self.position.path, lines + line_breaks(&data[..start]) + 1),
                    None => format!("{}@{}", self.position.path, self.offset + start as u64),
                };
                RejectedRecord {
                    payload: data[start..end].to_vec(),
                    position,
                    error: rejection.error,
                }
            })
            .collect();
        let rows = scan.layout.assemble(&decoded.rows, &self.constants)?;
        let rows = match decoded.kinds {
            Some(kinds) => with_kinds(&rows, kinds)?,
            None => rows,
        };
        // The line break after the last record, unless the file ends without one.
        let used = (last + 1).min(data.len());
        if let Some(lines) = &mut self.lines_read {
            *lines += match scan.settings.lines.can_split() {
                true => ranges.len() as u64,
                false => line_breaks(&data[..used]),
            };
        }
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

    /// Skips the rest of a record that belongs to the split before. Returns true once its end was found.
    fn skip_partial_record(&mut self) -> bool {
        let rest = &self.buffer[self.consumed..];
        let found = memchr::memchr(b'\n', rest);
        let skipped = found.map_or(rest.len(), |at| at + 1);
        self.consumed += skipped;
        self.offset += skipped as u64;
        if found.is_some() {
            self.position.aligned = true;
            self.position.next = self.offset;
        }
        found.is_some()
    }

    /// Matches columns by the file's header, which ends at the offset `end` and spans `records` records.
    fn take_header(&mut self, scan: &mut Scan, line: &[u8], end: u64, records: u64) -> Result<(), Error> {
        if let Some(decoder) = &mut scan.decoder {
            decoder.set_header(line).map_err(|problem| {
                Error::Data(format!(
                    "table `{}`: `{}`: {problem}",
                    scan.settings.table.name, self.position.path
                ))
            })?;
        }
        self.header_end = end;
        if self.position.start == 0 && self.position.next == 0 {
            self.position.records = records;
            self.lines_read = Some(records);
        }
        Ok(())
    }

    /// Skips the header. Returns true once it is skipped.
    fn skip_header(&mut self) -> bool {
        let Some(left) = self.header_end.checked_sub(self.offset).filter(|left| *left > 0) else {
            return true;
        };
        let here = self.buffer.len() - self.consumed;
        let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(here);
        self.consumed += skipped;
        self.offset += skipped as u64;
        if self.offset < self.header_end {
            return false;
        }
        self.position.aligned = true;
        self.position.next = self.offset;
        true
    }

    /// Returns the ranges of the next complete records in `buffer[consumed..]`.
    fn record_ranges(&self, lines: &Lines, rows_max: usize, bytes_max: usize) -> Vec<(usize, usize)> {
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

fn line_breaks(data: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', data).count() as u64
}

impl SourceReader for FileReader {
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error> {
        for split in splits {
            let position = Position::decode(&split)?;
            self.waiting.push_back((split, position));
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more_splits = true;
    }

    fn poll(&mut self) -> Result<SourceEvent, Error> {
        if self.active.is_none() {
            match self.waiting.pop_front() {
                Some((split, position)) => self.active = Some(self.scan.start(split, position)?),
                None if self.no_more_splits => return Ok(SourceEvent::End),
                None => return Ok(SourceEvent::Pending),
            }
        }
        let Some(active) = &mut self.active else {
            return Ok(SourceEvent::Pending);
        };
        match active.step(&mut self.scan)? {
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
