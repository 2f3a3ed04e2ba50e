//! The generator as a source: rows in blocks, and blocks in splits.
//!
//! Split `s` of [`SPLITS`] consists of the blocks `s, s + SPLITS, ...`. All splits have their turn several times a
//! second, if rows come slowly: a watermark is as far as the slowest of them. A position, version 2, is a version byte,
//! the split's number, how many of its rows have been delivered and the rows of a block (u64 BE each): whatever the
//! rate is later, a split goes on with the blocks it began with.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use async_trait::async_trait;

use super::column::Column;
use crate::{Boundedness, Error, ReaderContext, Source, SourceBatch, SourceEvent, SourceReader, Split};

const SPLITS: u64 = 16;
const BLOCK_ROWS_MAX: u64 = 8192;
/// Fewest blocks per second of each split, unless there are fewer rows.
const ROUNDS_PER_SECOND: u64 = 4;
const VERSION: u8 = 2;

pub(super) struct DatagenSource {
    schema: SchemaRef,
    columns: Arc<Vec<Column>>,
    rows: Option<u64>,
    seed: u64,
    block_rows: u64,
}

impl DatagenSource {
    pub(super) fn new(
        schema: SchemaRef,
        columns: Vec<Column>,
        rows: Option<u64>,
        rows_per_second: u64,
        seed: u64,
    ) -> Self {
        Self {
            schema,
            columns: Arc::new(columns),
            rows,
            seed,
            block_rows: (rows_per_second / (SPLITS * ROUNDS_PER_SECOND)).clamp(1, BLOCK_ROWS_MAX),
        }
    }
}

#[async_trait]
impl Source for DatagenSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn boundedness(&self) -> Boundedness {
        if self.rows.is_some() {
            Boundedness::Bounded
        } else {
            Boundedness::Unbounded
        }
    }

    async fn splits(&self) -> Result<Vec<Split>, Error> {
        let begin = |number| Progress {
            number,
            taken: 0,
            block_rows: self.block_rows,
        };
        // All splits are listed at once, because a split listed later could have blocks of another size.
        Ok((0..SPLITS).map(|number| begin(number).split(false)).collect())
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error> {
        let projection = context.projection.unwrap_or_else(|| (0..self.columns.len()).collect());
        let schema: Schema = self.schema.project(&projection)?;
        Ok(Box::new(DatagenReader {
            schema: Arc::new(schema),
            projection,
            columns: self.columns.clone(),
            rows: self.rows.unwrap_or(u64::MAX),
            seed: self.seed,
            batch_rows_max: context.batch_rows_max as u64,
            active: VecDeque::new(),
            finished: Vec::new(),
            no_more_splits: false,
        }))
    }
}

/// Describes the position of a checkpoint's split; `None` if the split is not one of this connector.
pub(super) fn describe_position(split: &Split) -> Option<String> {
    let progress = Progress::of(split).ok()?;
    (progress.id() == split.id).then(|| format!("{} rows", progress.taken))
}

/// The position in a split.
struct Progress {
    number: u64,
    taken: u64,
    block_rows: u64,
}

impl Progress {
    fn id(&self) -> String {
        format!("rows-{}", self.number)
    }

    fn split(&self, finished: bool) -> Split {
        let mut position = vec![VERSION];
        for word in [self.number, self.taken, self.block_rows] {
            position.extend_from_slice(&word.to_be_bytes());
        }
        Split {
            id: self.id(),
            position,
            weight: 1,
            finished,
        }
    }

    fn of(split: &Split) -> Result<Self, Error> {
        let word = |from: usize| {
            split
                .position
                .get(from..from + 8)
                .and_then(|bytes| bytes.try_into().ok())
                .map(u64::from_be_bytes)
        };
        match (split.position.first(), word(1), word(9), word(17)) {
            (Some(&VERSION), Some(number), Some(taken), Some(block_rows)) if block_rows > 0 => Ok(Self {
                number,
                taken,
                block_rows,
            }),
            _ => Err(Error::Invalid(format!(
                "the checkpoint's position of {} is not one of datagen's",
                split.id
            ))),
        }
    }

    /// Returns the number of the next row, and the number of rows left in its block.
    fn next(&self) -> (u64, u64) {
        let (block, offset) = (self.taken / self.block_rows, self.taken % self.block_rows);
        let first = block.saturating_mul(SPLITS).saturating_add(self.number);
        let first = first.saturating_mul(self.block_rows);
        (first.saturating_add(offset), self.block_rows - offset)
    }
}

struct DatagenReader {
    schema: SchemaRef,
    projection: Vec<usize>,
    columns: Arc<Vec<Column>>,
    rows: u64,
    seed: u64,
    batch_rows_max: u64,
    /// Splits, read round-robin.
    active: VecDeque<(Arc<str>, Progress)>,
    finished: Vec<Progress>,
    no_more_splits: bool,
}

impl SourceReader for DatagenReader {
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error> {
        for split in splits {
            self.active.push_back((split.id.as_str().into(), Progress::of(&split)?));
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more_splits = true;
    }

    fn poll(&mut self) -> Result<SourceEvent, Error> {
        let Some((split, mut progress)) = self.active.pop_front() else {
            return Ok(if self.no_more_splits {
                SourceEvent::End
            } else {
                SourceEvent::Pending
            });
        };
        let (first, left) = progress.next();
        let count = left.min(self.batch_rows_max).min(self.rows.saturating_sub(first));
        if count == 0 {
            self.finished.push(progress);
            return Ok(SourceEvent::SplitFinished { split });
        }
        let arrays = self
            .projection
            .iter()
            .map(|column| self.columns[*column].values(self.seed, first, count as usize));
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(count as usize));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), arrays.collect(), &options)?;
        progress.taken += count;
        // A block is read to its end before the next split, so that rows are as close to their order as possible.
        if count < left {
            self.active.push_front((split.clone(), progress));
        } else {
            self.active.push_back((split.clone(), progress));
        }
        let bytes = rows.get_array_memory_size() as u64;
        Ok(SourceEvent::Batch(SourceBatch {
            split,
            rows,
            rejected: Vec::new(),
            bytes,
            lag: None,
        }))
    }

    fn snapshot(&mut self) -> Result<Vec<Split>, Error> {
        let active = self.active.iter().map(|(_, progress)| progress.split(false));
        Ok(active
            .chain(self.finished.iter().map(|progress| progress.split(true)))
            .collect())
    }
}
