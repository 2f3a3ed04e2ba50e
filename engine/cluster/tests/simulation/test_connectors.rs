//! The source and the sink of the simulated jobs: numbers at a varying pace, and a sink with a two-phase commit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, SchemaRef, TimestampMicrosecondType};
use arrow_array::RecordBatch;
use async_trait::async_trait;
use futures::future::BoxFuture;
use millstream_connectors::changelog::Kinds;
use millstream_connectors::sink::{Delivery, SinkWriter, WriterContext};
use millstream_connectors::source::{ReaderContext, SourceBatch, SourceEvent, SourceReader};
use millstream_connectors::{
    Boundedness, ChangelogSupport, Committable, Connector, Error, JobIdentity, OptionDescription, OptionEffect,
    OptionKind, Role, Sink, Source, Split, TableDefinition,
};
use object_store::memory::InMemory;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::checks;
use crate::faults::Degradation;
use crate::mutants::Mutant;
use crate::published::Change;
use crate::random::Random;
use crate::shapes::{BALANCES, FAILING_PREFIX, SPLITS, VARIANT_OPTION, row, rows_of};
use crate::world::{current, world};

const BATCH_ROWS_MAX: u64 = 6;
const PAUSE_MS_MAX: u64 = 500;
const HALT_MS_MAX: u64 = 4_000;
/// Rows that each split holds back until the job may end.
const ENDLESS_ROWS: i64 = 20;

/// The connector `simulated`. Checks read the store.
pub struct SimulatedConnector(pub Arc<InMemory>);

impl Connector for SimulatedConnector {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn help(&self) -> &'static str {
        "Numbers in, rows out, for the simulation."
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Source, Role::Sink]
    }

    fn options(&self, role: Role) -> &'static [OptionDescription] {
        const VARIANT: OptionDescription = OptionDescription {
            name: VARIANT_OPTION,
            kind: OptionKind::Text,
            required: false,
            default: None,
            secret: false,
            effect: OptionEffect::Nothing,
            help: "Tells pipelines apart.",
        };
        match role {
            Role::Sink => &[VARIANT],
            _ => &[],
        }
    }

    fn uses_format(&self, _role: Role) -> bool {
        false
    }

    fn changelog(&self, _table: &TableDefinition, role: Role) -> ChangelogSupport {
        match role {
            Role::Sink => ChangelogSupport::Retract,
            _ => ChangelogSupport::Append,
        }
    }

    fn is_bounded(&self, _table: &TableDefinition) -> bool {
        true
    }

    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
        Ok(Arc::new(SimulatedSource {
            table: table.name.clone(),
            rows: rows_of(&table.name),
            schema: table.schema.clone(),
        }))
    }

    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn Sink>, Error> {
        let variant = table.options.get(VARIANT_OPTION);
        Ok(Arc::new(SimulatedSink {
            table: table.name.clone(),
            is_failing: variant.is_some_and(|variant| variant.starts_with(FAILING_PREFIX)),
            store: self.0.clone(),
        }))
    }
}

struct SimulatedSource {
    table: String,
    /// Of each split.
    rows: i64,
    schema: SchemaRef,
}

#[async_trait]
impl Source for SimulatedSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    async fn splits(&self) -> Result<Vec<Split>, Error> {
        Ok((0..SPLITS)
            .map(|number| SplitPosition { number, next: 0 }.split(self.rows))
            .collect())
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error> {
        let seed = {
            let mut world = world();
            world.readers.push((self.table.clone(), context.subtask, current()));
            world.random.next()
        };
        Ok(Box::new(SimulatedReader {
            table: self.table.clone(),
            rows: self.rows,
            schema: self.schema.clone(),
            projection: context.projection,
            open: VecDeque::new(),
            ended: Vec::new(),
            no_more: false,
            due: Instant::now(),
            wait: None,
            random: Random(seed),
        }))
    }
}

struct SplitPosition {
    number: i64,
    next: i64,
}

impl SplitPosition {
    fn split(&self, rows: i64) -> Split {
        Split {
            id: self.number.to_string(),
            position: self.next.to_le_bytes().to_vec(),
            weight: rows as u64,
            finished: self.next >= rows,
        }
    }
}

struct SimulatedReader {
    table: String,
    rows: i64,
    schema: SchemaRef,
    projection: Option<Vec<usize>>,
    open: VecDeque<SplitPosition>,
    ended: Vec<SplitPosition>,
    no_more: bool,
    due: Instant,
    wait: Option<Duration>,
    random: Random,
}

impl SourceReader for SimulatedReader {
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error> {
        for split in splits {
            let wrong = || Error::Invalid(format!("split {} is not one of these", split.id));
            let position = split.position.as_slice().try_into().map_err(|_| wrong())?;
            self.open.push_back(SplitPosition {
                number: split.id.parse().map_err(|_| wrong())?,
                next: i64::from_le_bytes(position),
            });
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more = true;
    }

    fn poll(&mut self) -> Result<SourceEvent, Error> {
        self.wait = self
            .due
            .checked_duration_since(Instant::now())
            .filter(|wait| !wait.is_zero());
        if self.wait.is_some() {
            return Ok(SourceEvent::Pending);
        }
        let Some(mut reading) = self.open.pop_front() else {
            return Ok(match self.no_more {
                true => SourceEvent::End,
                false => SourceEvent::Pending,
            });
        };
        if reading.next + ENDLESS_ROWS >= self.rows && world().is_endless {
            self.open.push_back(reading);
            self.due = Instant::now() + Duration::from_millis(PAUSE_MS_MAX);
            self.wait = Some(Duration::from_millis(PAUSE_MS_MAX));
            return Ok(SourceEvent::Pending);
        }
        let split: Arc<str> = reading.number.to_string().into();
        if reading.next >= self.rows {
            self.ended.push(reading);
            return Ok(SourceEvent::SplitFinished { split });
        }
        let end = (reading.next + self.random.between(1, BATCH_ROWS_MAX) as i64).min(self.rows);
        let (numbers, times): (Vec<i64>, Vec<i64>) = (reading.next..end)
            .map(|index| row(&self.table, reading.number, index))
            .unzip();
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(Int64Array::from(numbers)),
            Arc::new(TimestampMicrosecondArray::from(times)),
        ];
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        let rows = match &self.projection {
            Some(projection) => rows.project(projection)?,
            None => rows,
        };
        reading.next = end;
        self.open.push_back(reading);
        let pause_ms = self.random.below(PAUSE_MS_MAX);
        self.due = Instant::now() + Duration::from_millis(pause_ms);
        Ok(SourceEvent::Batch(SourceBatch {
            split,
            rows,
            rejected: Vec::new(),
            bytes: 0,
            lag: None,
        }))
    }

    fn pending_for(&self) -> Option<Duration> {
        self.wait
    }

    fn snapshot(&mut self) -> Result<Vec<Split>, Error> {
        let all = self.open.iter().chain(&self.ended);
        let mut splits: Vec<Split> = all.map(|reading| reading.split(self.rows)).collect();
        if world().mutant == Some(Mutant::SnapshotAhead)
            && let Some(reading) = self.open.front()
        {
            let ahead = SplitPosition {
                number: reading.number,
                next: (reading.next + 1).min(self.rows),
            };
            splits[0] = ahead.split(self.rows);
        }
        // Whether the last rows of a split were read is one thing, that its end was said another.
        for (split, _) in splits.iter_mut().zip(&self.open) {
            split.finished = false;
        }
        Ok(splits)
    }
}

/// Rows that are prepared are part of the checkpoint; committed, they are visible.
struct SimulatedSink {
    table: String,
    /// No writer can be opened.
    is_failing: bool,
    store: Arc<InMemory>,
}

#[async_trait]
impl Sink for SimulatedSink {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn commits_on_writer_process(&self) -> bool {
        world().published_by_workers
    }

    async fn start(&self, _job: &JobIdentity) -> Result<(), Error> {
        Ok(())
    }

    fn writer(&self, context: WriterContext) -> Result<Box<dyn SinkWriter>, Error> {
        if self.is_failing {
            return Err(Error::Invalid("this pipeline cannot write".into()));
        }
        Ok(Box::new(SimulatedWriter {
            table: self.table.clone(),
            subtask: context.subtask,
            changes: Vec::new(),
            writes: 0,
            runtime: context.runtime,
            halt: None,
        }))
    }

    async fn commit(&self, committables: Vec<Committable>) -> Result<(), Error> {
        for committable in committables {
            external_call().await?;
            let (mut id, rows) = decode(&committable.content)?;
            checks::before_publish(&id, &self.store);
            let mut world = world();
            if world.mutant == Some(Mutant::RepeatedCommitCounts) {
                id = format!("{id}-{}", world.random.next());
            }
            world.publish(&id, rows);
        }
        // The answer may be lost.
        external_call().await
    }
}

/// Simulates a call of the external system.
async fn external_call() -> Result<(), Error> {
    let (wait, fails) = {
        let mut world = world();
        let machine = world.machine_of(current());
        let most_ms = if world.is_degraded(Degradation::SlowSink, machine) {
            4_000
        } else {
            30
        };
        let fails = world.is_degraded(Degradation::FailingSink, machine) && world.random.per_mille(300);
        (Duration::from_millis(world.random.between(1, most_ms)), fails)
    };
    tokio::time::sleep(wait).await;
    match fails {
        true => Err(Error::Unavailable("the external system does not answer".into())),
        false => Ok(()),
    }
}

struct SimulatedWriter {
    table: String,
    subtask: usize,
    changes: Vec<Change>,
    /// Number of batches since the last checkpoint.
    writes: u64,
    runtime: Handle,
    /// Time until which no rows are taken, and the task that wakes the writer then.
    halt: Option<(Instant, Option<JoinHandle<()>>)>,
}

impl SinkWriter for SimulatedWriter {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some((until, told)) = &mut self.halt else {
            return Poll::Ready(Ok(()));
        };
        let wait = until.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            self.halt = None;
            return Poll::Ready(Ok(()));
        }
        told.get_or_insert_with(|| {
            let waker = context.waker().clone();
            self.runtime.spawn(async move {
                tokio::time::sleep(wait).await;
                waker.wake();
            })
        });
        Poll::Pending
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<u64, Error> {
        let numbers = |column: usize| rows.column(column).as_primitive::<Int64Type>().values();
        let starts = rows.column(1).as_primitive::<TimestampMicrosecondType>().values();
        let kinds = Kinds::of(rows)?;
        let mut world = world();
        for index in 0..rows.num_rows() {
            let row = (numbers(0)[index], starts[index], numbers(2)[index], numbers(3)[index]);
            if self.table.starts_with(BALANCES) && row.3 != 0 {
                world.violated(format!(
                    "{row:?} is written to {}: it is of no point in time",
                    self.table
                ));
            }
            let weight = if kinds.kind(index).is_removal() { -1 } else { 1 };
            self.changes.push((row, weight));
        }
        self.writes += 1;
        // One batch leaves per point, and every checkpoint is one.
        if self.table.starts_with(BALANCES) && self.writes > 1 {
            world.consistency_points += 1;
        }
        if world.halting_sink && world.random.per_mille(500) {
            let halt_ms = world.random.between(1, HALT_MS_MAX);
            self.halt = Some((Instant::now() + Duration::from_millis(halt_ms), None));
        }
        Ok(rows.num_rows() as u64)
    }

    fn prepare(&mut self, checkpoint: u64, _last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>> {
        let rows = std::mem::take(&mut self.changes);
        self.writes = 0;
        let unique = uuid::Uuid::new_v4().simple();
        let id = format!("{}/{checkpoint}-{}-{unique}", self.table, self.subtask);
        Box::pin(async move {
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            if world().mutant == Some(Mutant::PublishWhenPrepared) {
                world().publish(&id, rows.clone());
            }
            external_call().await?;
            Ok(vec![Committable::new(encode(&id, &rows))])
        })
    }
}

/// Encodes a committable: the id, a line break, and the rows as JSON.
fn encode(id: &str, rows: &[Change]) -> Vec<u8> {
    let rows = serde_json::to_string(rows).expect("numbers are JSON");
    format!("{id}\n{rows}").into_bytes()
}

fn decode(content: &[u8]) -> Result<(String, Vec<Change>), Error> {
    let wrong = || Error::Invalid("what was prepared cannot be read".into());
    let text = std::str::from_utf8(content).map_err(|_| wrong())?;
    let (id, rows) = text.split_once('\n').ok_or_else(wrong)?;
    Ok((id.to_string(), serde_json::from_str(rows).map_err(|_| wrong())?))
}
