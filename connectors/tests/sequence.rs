//! The connector `sequence`: counts upwards as a source, appends lines to a file as a sink.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, SchemaRef};
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_connectors::format::{EncodedRecords, Encoder, FormatSpec, Framing};
use millstream_connectors::options::Options;
use millstream_connectors::*;

/// The connector. It has no state: everything is in the table's definition.
pub struct Sequence;

const SOURCE_OPTIONS: &[OptionDescription] = &[
    OptionDescription {
        name: "rows",
        kind: OptionKind::Integer,
        required: true,
        default: None,
        secret: false,
        effect: OptionEffect::Records,
        help: "How far to count.",
    },
    OptionDescription {
        name: "parts",
        kind: OptionKind::Integer,
        required: false,
        default: Some("4"),
        secret: false,
        effect: OptionEffect::Records,
        help: "How many tasks may count at once.",
    },
];

const SINK_OPTIONS: &[OptionDescription] = &[OptionDescription {
    name: "file",
    kind: OptionKind::Text,
    required: true,
    default: None,
    secret: false,
    effect: OptionEffect::Records,
    help: "The file to append to.",
}];

impl Connector for Sequence {
    fn name(&self) -> &'static str {
        "sequence"
    }

    fn help(&self) -> &'static str {
        "Counts upwards; appends lines to a file."
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Source, Role::Sink]
    }

    fn options(&self, role: Role) -> &'static [OptionDescription] {
        match role {
            Role::Source => SOURCE_OPTIONS,
            Role::Sink => SINK_OPTIONS,
        }
    }

    fn uses_format(&self, role: Role) -> bool {
        role == Role::Sink
    }

    fn validate(&self, table: &TableDefinition, role: Role) -> Vec<OptionError> {
        let fields = table.schema.fields();
        if role == Role::Source && (fields.len() != 1 || fields[0].data_type() != &DataType::Int64) {
            let message =
                "the connector `sequence` delivers one column; declare exactly one, of type BIGINT".to_string();
            return vec![OptionError { subject: None, message }];
        }
        Vec::new()
    }

    fn is_bounded(&self, _table: &TableDefinition) -> bool {
        true
    }

    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
        let options = Options::of(table);
        Ok(Arc::new(SequenceSource {
            schema: table.schema.clone(),
            rows: options.count("rows")?.unwrap_or(0),
            parts: options.count("parts")?.unwrap_or(4).max(1),
        }))
    }

    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn Sink>, Error> {
        let path = Options::of(table).required("file")?.to_string();
        Ok(Arc::new(AppendSink {
            path,
            format: FormatSpec::of_value(table)?,
            schema: table.schema.clone(),
        }))
    }
}

// The source ---------------------------------------------------------------------------------------------------------

struct SequenceSource {
    schema: SchemaRef,
    rows: u64,
    parts: u64,
}

/// Numbers still to come in one split. This is all that a checkpoint needs to know.
struct Range {
    split: Split,
    next: u64,
    end: u64,
}

impl Range {
    fn decode(split: Split) -> Result<Self, Error> {
        let numbers = split.position.as_slice().try_into().ok().map(u128::from_be_bytes);
        let Some(numbers) = numbers else {
            return Err(Error::Invalid(format!(
                "the position of the split `{}` is not readable",
                split.id
            )));
        };
        Ok(Self {
            split,
            next: (numbers >> 64) as u64,
            end: numbers as u64,
        })
    }

    fn encode(next: u64, end: u64) -> Vec<u8> {
        (u128::from(next) << 64 | u128::from(end)).to_be_bytes().to_vec()
    }
}

#[async_trait]
impl Source for SequenceSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    async fn splits(&self) -> Result<Vec<Split>, Error> {
        let step = self.rows.div_ceil(self.parts).max(1);
        let starts = (0..self.rows).step_by(step as usize);
        Ok(starts
            .map(|start| {
                let end = self.rows.min(start + step);
                let position = Range::encode(start, end);
                Split {
                    id: format!("{start}..{end}"),
                    position,
                    weight: end - start,
                    finished: false,
                }
            })
            .collect())
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error> {
        let columns: Vec<usize> = context.projection.clone().unwrap_or_else(|| vec![0]);
        Ok(Box::new(SequenceReader {
            schema: Arc::new(self.schema.project(&columns)?),
            rows_max: context.batch_rows_max as u64,
            ranges: VecDeque::new(),
            finished: Vec::new(),
            no_more: false,
        }))
    }
}

struct SequenceReader {
    schema: SchemaRef,
    rows_max: u64,
    ranges: VecDeque<Range>,
    finished: Vec<Split>,
    no_more: bool,
}

impl SourceReader for SequenceReader {
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error> {
        for split in splits {
            self.ranges.push_back(Range::decode(split)?);
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more = true;
    }

    fn poll(&mut self) -> Result<SourceEvent, Error> {
        let Some(range) = self.ranges.front_mut() else {
            // The engine polls again after `add_splits`, so nobody has to be woken for that.
            return Ok(if self.no_more {
                SourceEvent::End
            } else {
                SourceEvent::Pending
            });
        };
        let id: Arc<str> = range.split.id.as_str().into();
        if range.next == range.end {
            let mut split = range.split.clone();
            split.position = Range::encode(range.next, range.end);
            split.finished = true;
            self.finished.push(split);
            self.ranges.pop_front();
            return Ok(SourceEvent::SplitFinished { split: id });
        }
        let end = range.end.min(range.next + self.rows_max);
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(
            (range.next..end).map(|number| number as i64),
        ));
        let count = (end - range.next) as usize;
        range.next = end;
        // A query may need no column at all (`SELECT count(*)`): the number of rows still counts.
        let columns = self.schema.fields().iter().map(|_| numbers.clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let batch = SourceBatch {
            split: id,
            rows,
            rejected: Vec::new(),
            bytes: 8 * count as u64,
            lag: None,
        };
        Ok(SourceEvent::Batch(batch))
    }

    fn snapshot(&mut self) -> Result<Vec<Split>, Error> {
        let unfinished = self.ranges.iter().map(|range| {
            let position = Range::encode(range.next, range.end);
            Split {
                position,
                ..range.split.clone()
            }
        });
        Ok(self.finished.iter().cloned().chain(unfinished).collect())
    }
}

// The sink -----------------------------------------------------------------------------------------------------------

struct AppendSink {
    path: String,
    format: FormatSpec,
    schema: SchemaRef,
}

#[async_trait]
impl Sink for AppendSink {
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    async fn start(&self, _job: &JobIdentity) -> Result<(), Error> {
        append(&self.path, b"")
    }

    fn writer(&self, context: WriterContext) -> Result<Box<dyn SinkWriter>, Error> {
        let encoder = self.format.encoder(&self.schema, Framing::Lines)?;
        Ok(Box::new(AppendWriter {
            path: self.path.clone(),
            encoder,
            lines: EncodedRecords::default(),
            context,
        }))
    }

    async fn commit(&self, _committables: Vec<Committable>) -> Result<(), Error> {
        Ok(())
    }
}

struct AppendWriter {
    path: String,
    encoder: Box<dyn Encoder>,
    lines: EncodedRecords,
    context: WriterContext,
}

/// Bytes gathered before they are written.
const LINES_BYTES_MAX: usize = 1 << 20;

impl AppendWriter {
    fn take(&mut self) -> Vec<u8> {
        self.lines.ends.clear();
        std::mem::take(&mut self.lines.data)
    }
}

impl SinkWriter for AppendWriter {
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // A disk that keeps up needs no pause. A writer with a queue behind it answers `Pending` while that is full,
        // and keeps the waker to call it later.
        if self.lines.data.len() >= LINES_BYTES_MAX {
            let lines = self.take();
            return Poll::Ready(append(&self.path, &lines));
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<u64, Error> {
        let before = self.lines.data.len();
        self.encoder.encode(rows, &mut self.lines)?;
        Ok((self.lines.data.len() - before) as u64)
    }

    fn prepare(&mut self, _checkpoint: u64, _last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>> {
        let (path, lines) = (self.path.clone(), self.take());
        let written = self.context.runtime.spawn_blocking(move || append(&path, &lines));
        async move {
            written
                .await
                .map_err(|error| Error::Unavailable(format!("writing was interrupted: {error}")))??;
            // Nothing is left to publish: the rows are visible already. That is what at-least-once means.
            Ok(Vec::new())
        }
        .boxed()
    }
}

fn append(path: &str, lines: &[u8]) -> Result<(), Error> {
    let written = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| {
            file.write_all(lines)?;
            file.sync_data()
        });
    written.map_err(|source| Error::Io {
        context: format!("cannot append to `{path}`"),
        source,
    })
}
