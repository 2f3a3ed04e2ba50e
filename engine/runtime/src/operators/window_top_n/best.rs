//! The best rows of each partition of one window.
//!
//! Rows are kept as references into the batches they came in; a row that is not among the best is dismissed by one
//! comparison of its encoded order key with the worst one kept. Batches are rewritten when most of what they hold has
//! been displaced. Rows of equal order keep the order they came in.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow_array::RecordBatch;
use arrow_row::{OwnedRow, RowConverter};
use arrow_select::interleave::interleave;
use datafusion::physical_expr::PhysicalSortExpr;
use millstream_graph::float_equality;

use crate::Error;
use crate::operators::table::{GroupIndex, new_group_index};

/// Rows held beyond those kept before batches are rewritten.
const SLACK_ROWS: usize = 65_536;
/// Batches held before they are rewritten as one.
const BATCHES_MAX: usize = 1_024;
/// What a kept row takes besides its batch: a reference and an order key of some tens of bytes.
const KEPT_BYTES: usize = 96;

/// What is best, and of what.
pub struct Ranking {
    pub input: SchemaRef,
    /// Columns of the partition.
    pub partition: Vec<usize>,
    pub partition_fields: Vec<FieldRef>,
    pub order: Vec<PhysicalSortExpr>,
    /// `None` where there is no order: first come, first kept.
    pub converter: Option<RowConverter>,
    /// Rows kept per partition.
    pub keep: usize,
}

/// A row that is kept.
struct Kept {
    order: Option<OwnedRow>,
    batch: u32,
    row: u32,
}

/// Where to go on reading: a partition, and a rank (from 0) in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    partition: usize,
    rank: usize,
}

/// Some of the best rows: for each its partition, its rank from 0, and its place.
#[derive(Default)]
pub struct Places {
    pub partitions: Vec<u32>,
    pub ranks: Vec<u32>,
    rows: Vec<(usize, usize)>,
}

impl Places {
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

/// The best rows so far.
pub struct Best {
    partitions: Box<dyn GroupIndex>,
    /// Best rows of each partition, best first.
    kept: Vec<Vec<Kept>>,
    /// Partitions that have changed since they were last written.
    dirty: Vec<bool>,
    batches: Vec<RecordBatch>,
    batch_bytes: usize,
    rows_held: usize,
    rows_kept: usize,
}

impl Best {
    pub fn new(ranking: &Ranking) -> Result<Self, Error> {
        Ok(Self {
            partitions: new_group_index(&ranking.partition_fields)?,
            kept: Vec::new(),
            dirty: Vec::new(),
            batches: Vec::new(),
            batch_bytes: 0,
            rows_held: 0,
            rows_kept: 0,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.rows_kept == 0
    }

    /// `groups` is scratch.
    pub fn insert(&mut self, ranking: &Ranking, rows: RecordBatch, groups: &mut Vec<u32>) -> Result<(), Error> {
        let columns = ranking.partition.iter();
        let partition: Vec<ArrayRef> = columns.map(|column| rows.column(*column).clone()).collect();
        self.partitions.intern(&partition, rows.num_rows(), groups)?;
        self.kept.resize_with(self.partitions.len(), Vec::new);
        self.dirty.resize(self.partitions.len(), true);
        let order = ranking
            .order
            .iter()
            .map(|sort| {
                Ok(float_equality::normalize(
                    &sort.expr.evaluate(&rows)?.into_array(rows.num_rows())?,
                )?)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let order = match &ranking.converter {
            None => None,
            Some(converter) => Some(converter.convert_columns(&order)?),
        };
        let batch = self.batches.len() as u32;
        let mut took = false;
        for (row, group) in groups.iter().enumerate() {
            let kept = &mut self.kept[*group as usize];
            let full = kept.len() == ranking.keep;
            let key = order.as_ref().map(|order| order.row(row));
            let before = |kept: &Kept| kept.order.as_ref().map(OwnedRow::row) <= key;
            if ranking.keep == 0 || (full && kept.last().is_some_and(before)) {
                continue;
            }
            let place = kept.partition_point(before);
            if full {
                kept.pop();
            } else {
                self.rows_kept += 1;
            }
            kept.insert(
                place,
                Kept {
                    order: key.map(|key| key.owned()),
                    batch,
                    row: row as u32,
                },
            );
            self.dirty[*group as usize] = true;
            took = true;
        }
        if took {
            self.rows_held += rows.num_rows();
            self.batch_bytes += rows.get_array_memory_size();
            self.batches.push(rows);
            self.compact(ranking)?;
        }
        Ok(())
    }

    /// Rewrites batches of which most rows have been displaced.
    fn compact(&mut self, ranking: &Ranking) -> Result<(), Error> {
        if self.rows_held < self.rows_kept * 2 + SLACK_ROWS && self.batches.len() < BATCHES_MAX {
            return Ok(());
        }
        let rows: Vec<(usize, usize)> = self.kept.iter().flatten().map(place_of).collect();
        let places = Places {
            rows,
            ..Places::default()
        };
        let columns = self.gather(&places)?;
        self.batches = vec![RecordBatch::try_new(ranking.input.clone(), columns)?];
        self.batch_bytes = self.batches[0].get_array_memory_size();
        self.rows_held = places.len();
        for (row, kept) in self.kept.iter_mut().flatten().enumerate() {
            kept.batch = 0;
            kept.row = row as u32;
        }
        Ok(())
    }

    /// The next rows from a cursor on, at most `rows_max`, of ranks from `from` (0-based) on; none at the end.
    pub fn next_places(&self, cursor: &mut Cursor, from: usize, rows_max: usize, only_dirty: bool) -> Places {
        let mut places = Places::default();
        while let Some(kept) = self.kept.get(cursor.partition) {
            let rank = cursor.rank.max(from);
            let is_wanted = !only_dirty || self.dirty[cursor.partition];
            if !is_wanted || rank >= kept.len() {
                cursor.partition += 1;
                cursor.rank = 0;
                continue;
            }
            if places.len() == rows_max {
                break;
            }
            places.partitions.push(cursor.partition as u32);
            places.ranks.push(rank as u32);
            places.rows.push(place_of(&kept[rank]));
            cursor.rank = rank + 1;
        }
        places
    }

    /// Columns of some rows.
    pub fn gather(&self, places: &Places) -> Result<Vec<ArrayRef>, Error> {
        let width = self.batches.first().map_or(0, RecordBatch::num_columns);
        (0..width)
            .map(|column| {
                let arrays: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
                Ok(interleave(&arrays, &places.rows)?)
            })
            .collect()
    }

    pub fn partitions(&self) -> &dyn GroupIndex {
        self.partitions.as_ref()
    }

    /// What is here has been written.
    pub fn set_clean(&mut self) {
        self.dirty.fill(false);
    }

    /// Bytes of a copy of what is dirty, about.
    pub fn dirty_bytes(&self) -> usize {
        let dirty = self.dirty.iter().filter(|dirty| **dirty).count();
        self.batch_bytes / self.kept.len().max(1) * dirty
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.batch_bytes
            + self.partitions.size()
            + self.kept.len() * size_of::<Vec<Kept>>()
            + self.rows_kept * KEPT_BYTES
    }
}

fn place_of(kept: &Kept) -> (usize, usize) {
    (kept.batch as usize, kept.row as usize)
}
