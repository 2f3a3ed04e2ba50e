//! The connector `rows` of the test: rows that are computed from their number, and a sink that keeps its changes in
//! memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::util::display::array_value_to_string;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, SchemaRef};
use async_trait::async_trait;
use futures::future::BoxFuture;
use millstream_connectors::changelog::Kinds;
use millstream_connectors::sink::{Delivery, SinkWriter, WriterContext};
use millstream_connectors::source::{ReaderContext, SourceBatch, SourceEvent, SourceReader};
use millstream_connectors::{
    Boundedness, ChangelogSupport, Committable, Connector, Error, JobIdentity, KIND_COLUMN, OptionDescription,
    OptionEffect, OptionKind, Role, Sink, Source, Split, TableDefinition,
};
use parking_lot::Mutex;

/// Number of rows of a table.
pub(super) const ROWS: usize = 50;
const BATCH_ROWS: usize = 10;
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const SPLIT: &str = "all";

/// The changes of each table: rows with their net weights.
pub(super) type Changes = BTreeMap<String, BTreeMap<String, i64>>;

/// One run of a job, which the option `run` of its tables names.
#[derive(Debug, Default, Clone)]
pub(super) struct Run {
    /// The first row that sources without a position deliver.
    pub first: usize,
    /// Number of rows before which sources wait; at [`ROWS`] they end.
    pub limit: usize,
    /// Sources that wait at the limit.
    pub waiting: BTreeSet<String>,
    pub changes: Changes,
}

static RUNS: Mutex<BTreeMap<String, Run>> = Mutex::new(BTreeMap::new());

/// Adds a run.
pub(super) fn begin(name: &str, first: usize, limit: usize) {
    let run = Run {
        first,
        limit,
        ..Run::default()
    };
    RUNS.lock().insert(name.to_owned(), run);
}

/// Returns a run as it is now.
pub(super) fn of(name: &str) -> Run {
    RUNS.lock().get(name).cloned().unwrap_or_default()
}

pub(super) struct RowsConnector;

const fn option(name: &'static str, effect: OptionEffect) -> OptionDescription {
    OptionDescription {
        name,
        kind: OptionKind::Text,
        required: false,
        default: None,
        secret: false,
        effect,
        help: "An option of the test.",
    }
}

const OPTIONS: &[OptionDescription] = &[
    option("run", OptionEffect::Nothing),
    option("origin", OptionEffect::Records),
    option("shape", OptionEffect::Rows),
];

impl Connector for RowsConnector {
    fn name(&self) -> &'static str {
        "rows"
    }

    fn help(&self) -> &'static str {
        "Rows of the test."
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Source, Role::Sink]
    }

    fn options(&self, _role: Role) -> &'static [OptionDescription] {
        OPTIONS
    }

    fn uses_format(&self, _role: Role) -> bool {
        false
    }

    fn changelog(&self, _table: &TableDefinition, role: Role) -> ChangelogSupport {
        match role {
            Role::Sink => ChangelogSupport::Retract,
            Role::Source => ChangelogSupport::Append,
        }
    }

    fn is_bounded(&self, _table: &TableDefinition) -> bool {
        true
    }

    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
        Ok(Arc::new(Table::of(table)))
    }

    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn Sink>, Error> {
        Ok(Arc::new(Table::of(table)))
    }
}

/// A table of the connector, as a source or a sink.
#[derive(Clone)]
struct Table {
    name: String,
    run: String,
    schema: SchemaRef,
}

impl Table {
    fn of(table: &TableDefinition) -> Self {
        Self {
            name: table.name.clone(),
            run: table.options.get("run").cloned().unwrap_or_default(),
            schema: Arc::clone(&table.schema),
        }
    }

    /// Returns the rows of these numbers. The values of a column depend on its name only.
    fn rows(&self, numbers: std::ops::Range<usize>) -> Result<RecordBatch, Error> {
        let offset = self.name.len() as i64;
        let column = |name: &str, data_type: &DataType| -> ArrayRef {
            let numbers = numbers.clone().map(|number| number as i64);
            match (name, data_type) {
                (_, DataType::Timestamp(..)) => Arc::new(TimestampMicrosecondArray::from_iter_values(
                    numbers.map(|number| number * 1_000_000),
                )),
                (_, DataType::Utf8) => Arc::new(StringArray::from_iter_values(
                    numbers.map(|number| format!("s{}", number % 5)),
                )),
                ("k", _) => Arc::new(Int64Array::from_iter_values(numbers.map(|number| number % 4))),
                ("n", _) => Arc::new(Int64Array::from_iter_values(numbers.map(|number| number % 3))),
                _ => Arc::new(Int64Array::from_iter_values(
                    numbers.map(|number| (number + offset) * 7 % 11),
                )),
            }
        };
        let fields = self.schema.fields().iter();
        let columns = fields.map(|field| column(field.name(), field.data_type())).collect();
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn split_at(next: usize) -> Split {
    Split {
        id: SPLIT.to_owned(),
        position: (next as u64).to_le_bytes().to_vec(),
        weight: ROWS as u64,
        finished: next >= ROWS,
    }
}

#[async_trait]
impl Source for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    async fn splits(&self) -> Result<Vec<Split>, Error> {
        Ok(vec![split_at(of(&self.run).first)])
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error> {
        Ok(Box::new(Reader {
            table: self.clone(),
            projection: context.projection,
            next: None,
            is_finished: false,
            no_more: false,
        }))
    }
}

struct Reader {
    table: Table,
    projection: Option<Vec<usize>>,
    /// The next row, if this reader has the split.
    next: Option<usize>,
    is_finished: bool,
    no_more: bool,
}

impl SourceReader for Reader {
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error> {
        for split in splits {
            let position = split.position.as_slice().try_into();
            let position = position.map_err(|_| Error::Invalid("a position has eight bytes".to_owned()))?;
            self.next = Some(u64::from_le_bytes(position) as usize);
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more = true;
    }

    fn poll(&mut self) -> Result<SourceEvent, Error> {
        let next = match self.next {
            Some(next) if !self.is_finished => next,
            _ if self.no_more => return Ok(SourceEvent::End),
            _ => return Ok(SourceEvent::Pending),
        };
        let limit = of(&self.table.run).limit;
        if next >= ROWS {
            self.is_finished = true;
            return Ok(SourceEvent::SplitFinished { split: SPLIT.into() });
        }
        if next >= limit {
            if let Some(run) = RUNS.lock().get_mut(&self.table.run) {
                run.waiting.insert(self.table.name.clone());
            }
            return Ok(SourceEvent::Pending);
        }
        let end = limit.min(next + BATCH_ROWS);
        let rows = self.table.rows(next..end)?;
        let rows = match &self.projection {
            Some(projection) => rows.project(projection)?,
            None => rows,
        };
        self.next = Some(end);
        Ok(SourceEvent::Batch(SourceBatch {
            split: SPLIT.into(),
            rows,
            rejected: Vec::new(),
            bytes: 0,
            lag: None,
        }))
    }

    fn pending_for(&self) -> Option<Duration> {
        Some(POLL_INTERVAL)
    }

    fn snapshot(&mut self) -> Result<Vec<Split>, Error> {
        let split = self.next.map(|next| Split {
            finished: self.is_finished,
            ..split_at(next)
        });
        Ok(split.into_iter().collect())
    }
}

#[async_trait]
impl Sink for Table {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    async fn start(&self, _job: &JobIdentity) -> Result<(), Error> {
        Ok(())
    }

    fn writer(&self, _context: WriterContext) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(Writer { lines: String::new() }))
    }

    async fn commit(&self, committables: Vec<Committable>) -> Result<(), Error> {
        let mut runs = RUNS.lock();
        let Some(run) = runs.get_mut(&self.run) else {
            return Ok(());
        };
        let changes = run.changes.entry(self.name.clone()).or_default();
        for committable in &committables {
            let lines = std::str::from_utf8(&committable.content).map_err(|error| Error::Invalid(error.to_string()))?;
            for line in lines.lines() {
                let (weight, row) = line.split_at(1);
                let net = changes.entry(row.to_owned()).or_default();
                *net += if weight == "-" { -1 } else { 1 };
                if *net == 0 {
                    changes.remove(row);
                }
            }
        }
        Ok(())
    }
}

struct Writer {
    /// The changes since the last checkpoint: the sign and the row of each.
    lines: String,
}

impl SinkWriter for Writer {
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<u64, Error> {
        let kinds = Kinds::of(rows)?;
        let schema = rows.schema();
        let columns = schema.fields().iter().zip(rows.columns());
        let columns: Vec<&ArrayRef> = columns
            .filter(|(field, _)| field.name() != KIND_COLUMN)
            .map(|(_, column)| column)
            .collect();
        for row in 0..rows.num_rows() {
            self.lines.push(if kinds.kind(row).is_removal() { '-' } else { '+' });
            for (at, column) in columns.iter().enumerate() {
                if at > 0 {
                    self.lines.push(',');
                }
                self.lines.push_str(&array_value_to_string(column, row)?);
            }
            self.lines.push('\n');
        }
        Ok(rows.num_rows() as u64)
    }

    fn prepare(&mut self, _checkpoint: u64, _last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>> {
        let lines = std::mem::take(&mut self.lines);
        let prepared = match lines.is_empty() {
            true => Vec::new(),
            false => vec![Committable::new(lines.into_bytes())],
        };
        Box::pin(async move { Ok(prepared) })
    }
}
