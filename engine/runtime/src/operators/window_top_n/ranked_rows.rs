//! The first rows of each partition of one window.
//!
//! Rows are references into the batches they came in. A row that is not among the first is dropped after one comparison
//! of its encoded order key with the last ranked one. Batches are rewritten when most of their rows have been
//! displaced. Rows of equal order are ranked in the order in which they came, or the last one first
//! ([`Ranking::prefers_last`]).

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow_array::RecordBatch;
use arrow_row::{OwnedRow, RowConverter};
use arrow_select::interleave::interleave;
use datafusion::physical_expr::PhysicalSortExpr;
use millstream_graph::{RankFunction, float_equality};

use crate::Error;
use crate::operators::mutants::{self, Mutant};
use crate::operators::table::{GroupIndex, new_group_index};
use crate::operators::window_panes::PaneState;

/// Rows in batches, beyond twice the ranked ones, at which batches are rewritten.
const SLACK_ROWS: usize = 65_536;
/// Number of batches at which they are rewritten as one.
const BATCHES_MAX: usize = 1_024;
/// Estimated bytes of a ranked row besides its batch: a reference, and an order key of some tens of bytes.
const RANKED_ROW_BYTES: usize = 96;

/// The order and the partitions of rows.
pub(crate) struct Ranking {
    /// Schema of the rows.
    pub input: SchemaRef,
    /// Columns of the partition.
    pub partition: Vec<usize>,
    /// Fields of these columns.
    pub partition_fields: Vec<FieldRef>,
    /// Expressions by which rows are ordered.
    pub order: Vec<PhysicalSortExpr>,
    /// Converts order columns to order keys; `None` without an order: the first rows to come are the first.
    pub converter: Option<RowConverter>,
    /// Function that ranks the rows.
    pub function: RankFunction,
    /// Last rank: rows of greater ranks are dropped.
    pub rank_max: usize,
    /// True if a row is ranked before those of equal order that came before it; otherwise after them.
    pub prefers_last: bool,
}

/// A ranked row.
struct RankedRow {
    order: Option<OwnedRow>,
    batch: u32,
    row: u32,
}

/// A position in ranked rows: a partition, and the number of a row (from 0) in it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    partition: usize,
    row: usize,
    /// Rank of the row before.
    rank: u64,
}

/// References to some ranked rows: partition, number in it, and batch and row of each.
#[derive(Default)]
pub(crate) struct RowRefs {
    /// Partition of each row.
    pub partitions: Vec<u32>,
    /// Number of each row in its partition, from 0.
    pub numbers: Vec<u32>,
    rows: Vec<(usize, usize)>,
}

impl RowRefs {
    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    fn push(&mut self, cursor: &Cursor, row: &RankedRow) {
        self.partitions.push(cursor.partition as u32);
        self.numbers.push(cursor.row as u32);
        self.rows.push(batch_row_of(row));
    }
}

/// The first rows of each partition so far.
pub(crate) struct RankedRows {
    /// Epoch under which the rows are written; other rows of the window in the store have earlier ones.
    pub epoch: u32,
    partitions: Box<dyn GroupIndex>,
    /// By partition, in the order of their ranks.
    ranked: Vec<Vec<RankedRow>>,
    /// By partition: number of different orders.
    different: Vec<usize>,
    /// By partition: true if it has changed since it was last written.
    dirty: Vec<bool>,
    batches: Vec<RecordBatch>,
    batch_bytes: usize,
    rows_held: usize,
    rows_ranked: usize,
}

impl RankedRows {
    /// Creates an empty set, to be written under this epoch.
    pub(crate) fn new(ranking: &Ranking, epoch: u32) -> Result<Self, Error> {
        Ok(Self {
            epoch,
            partitions: new_group_index(&ranking.partition_fields)?,
            ranked: Vec::new(),
            different: Vec::new(),
            dirty: Vec::new(),
            batches: Vec::new(),
            batch_bytes: 0,
            rows_held: 0,
            rows_ranked: 0,
        })
    }

    /// Ranks the rows of a batch. `groups` is scratch.
    pub(crate) fn insert(&mut self, ranking: &Ranking, rows: RecordBatch, groups: &mut Vec<u32>) -> Result<(), Error> {
        let columns = ranking.partition.iter();
        let partition: Vec<ArrayRef> = columns.map(|column| rows.column(*column).clone()).collect();
        self.partitions.intern(&partition, rows.num_rows(), groups)?;
        self.ranked.resize_with(self.partitions.len(), Vec::new);
        self.different.resize(self.partitions.len(), 0);
        self.dirty.resize(self.partitions.len(), true);
        let order = ranking
            .order
            .iter()
            .map(|sort| {
                let column = sort.expr.evaluate(&rows)?.into_array(rows.num_rows())?;
                Ok(float_equality::normalize(&column)?)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let order = match &ranking.converter {
            None => None,
            Some(converter) => Some(converter.convert_columns(&order)?),
        };
        let batch = self.batches.len() as u32;
        let mut any_ranked = false;
        for (row, group) in groups.iter().enumerate() {
            let ranked = &mut self.ranked[*group as usize];
            let different = &mut self.different[*group as usize];
            let is_full = match ranking.function {
                RankFunction::RowNumber | RankFunction::Rank => ranked.len() >= ranking.rank_max,
                RankFunction::DenseRank => *different >= ranking.rank_max,
            };
            let key = order.as_ref().map(|order| order.row(row));
            let is_before = |other: &RankedRow| match other.order.as_ref().map(OwnedRow::row).cmp(&key) {
                Ordering::Less => true,
                Ordering::Equal => !ranking.prefers_last,
                Ordering::Greater => false,
            };
            let is_beyond = |last: &RankedRow| match ranking.function {
                RankFunction::RowNumber => is_before(last),
                // Rows of equal order have one rank.
                RankFunction::Rank | RankFunction::DenseRank => last.order.as_ref().map(OwnedRow::row) < key,
            };
            if ranking.rank_max == 0 || (is_full && ranked.last().is_some_and(is_beyond)) {
                continue;
            }
            let place = ranked.partition_point(is_before);
            let order = key.map(|key| key.owned());
            let is_tie = |other: Option<&RankedRow>| other.is_some_and(|other| other.order == order);
            let before = place.checked_sub(1).and_then(|before| ranked.get(before));
            *different += usize::from(!is_tie(before) && !is_tie(ranked.get(place)));
            let rows = ranked.len();
            ranked.insert(
                place,
                RankedRow {
                    order,
                    batch,
                    row: row as u32,
                },
            );
            drop_last_rank(ranked, different, ranking);
            self.rows_ranked = self.rows_ranked + ranked.len() - rows;
            self.dirty[*group as usize] = true;
            any_ranked = true;
        }
        if any_ranked {
            self.rows_held += rows.num_rows();
            self.batch_bytes += rows.get_array_memory_size();
            self.batches.push(rows);
            self.compact(ranking)?;
        }
        Ok(())
    }

    /// Rewrites batches if most of their rows have been displaced, or if there are many.
    fn compact(&mut self, ranking: &Ranking) -> Result<(), Error> {
        if self.rows_held < self.rows_ranked * 2 + SLACK_ROWS && self.batches.len() < BATCHES_MAX {
            return Ok(());
        }
        let rows: Vec<(usize, usize)> = self.ranked.iter().flatten().map(batch_row_of).collect();
        let rows = RowRefs {
            rows,
            ..RowRefs::default()
        };
        let columns = self.gather(&rows)?;
        self.batches = vec![RecordBatch::try_new(ranking.input.clone(), columns)?];
        self.batch_bytes = self.batches[0].get_array_memory_size();
        self.rows_held = rows.len();
        for (place, row) in self.ranked.iter_mut().flatten().enumerate() {
            row.batch = 0;
            row.row = place as u32;
        }
        Ok(())
    }

    /// Returns the next rows of partitions that have changed, at most `rows_max`, from a cursor on; none at the end.
    pub(crate) fn next_dirty_rows(&self, cursor: &mut Cursor, rows_max: usize) -> RowRefs {
        let mut rows = RowRefs::default();
        while let Some(ranked) = self.ranked.get(cursor.partition) {
            if !self.dirty[cursor.partition] || cursor.row >= ranked.len() {
                cursor.next_partition();
                continue;
            }
            if rows.len() == rows_max {
                break;
            }
            rows.push(cursor, &ranked[cursor.row]);
            cursor.row += 1;
        }
        rows
    }

    /// Returns the next rows, at most `rows_max`, of ranks from `from` on, and their ranks, from a cursor on; none at
    /// the end.
    pub(crate) fn next_ranks(
        &self,
        cursor: &mut Cursor,
        function: RankFunction,
        from: u64,
        rows_max: usize,
    ) -> (RowRefs, Vec<i64>) {
        let (mut rows, mut ranks) = (RowRefs::default(), Vec::new());
        while let Some(ranked) = self.ranked.get(cursor.partition) {
            let Some(row) = ranked.get(cursor.row) else {
                cursor.next_partition();
                continue;
            };
            if rows.len() == rows_max {
                break;
            }
            let before = cursor.row.checked_sub(1).map(|before| &ranked[before]);
            let is_tie = || before.is_some_and(|before| before.order == row.order);
            let number = cursor.row as u64 + 1;
            cursor.rank = match function {
                RankFunction::RowNumber => number,
                RankFunction::Rank if is_tie() => cursor.rank,
                RankFunction::Rank => number,
                RankFunction::DenseRank => cursor.rank + u64::from(!is_tie()),
            };
            if cursor.rank >= from {
                rows.push(cursor, row);
                ranks.push(i64::try_from(cursor.rank).unwrap_or(i64::MAX));
            }
            cursor.row += 1;
        }
        (rows, ranks)
    }

    /// Returns the columns of some rows.
    pub(crate) fn gather(&self, rows: &RowRefs) -> Result<Vec<ArrayRef>, Error> {
        let width = self.batches.first().map_or(0, RecordBatch::num_columns);
        (0..width)
            .map(|column| {
                let arrays: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
                Ok(interleave(&arrays, &rows.rows)?)
            })
            .collect()
    }

    /// Returns the index of partitions by their key columns.
    pub(crate) fn partitions(&self) -> &dyn GroupIndex {
        self.partitions.as_ref()
    }

    /// Records that everything has been written.
    pub(crate) fn mark_clean(&mut self) {
        self.dirty.fill(false);
    }

    /// Estimates the bytes of a copy of the dirty partitions.
    pub(crate) fn dirty_bytes(&self) -> usize {
        let dirty = self.dirty.iter().filter(|dirty| **dirty).count();
        self.batch_bytes / self.ranked.len().max(1) * dirty
    }
}

impl PaneState for RankedRows {
    fn size(&self) -> usize {
        self.batch_bytes
            + self.partitions.size()
            + self.ranked.len() * size_of::<Vec<RankedRow>>()
            + self.rows_ranked * RANKED_ROW_BYTES
    }

    fn is_empty(&self) -> bool {
        self.rows_ranked == 0
    }
}

impl Cursor {
    fn next_partition(&mut self) {
        *self = Self {
            partition: self.partition + 1,
            ..Self::default()
        };
    }
}

/// Drops the rows of the last rank if it is too great, after one row was inserted.
fn drop_last_rank(ranked: &mut Vec<RankedRow>, different: &mut usize, ranking: &Ranking) {
    let Some(last) = ranked.last() else { return };
    let first = match ranking.function {
        RankFunction::RowNumber => ranked.len() - 1,
        RankFunction::Rank | RankFunction::DenseRank => ranked.partition_point(|other| other.order < last.order),
    };
    let is_too_great = match ranking.function {
        RankFunction::RowNumber | RankFunction::Rank => {
            first >= ranking.rank_max + usize::from(mutants::is_active(Mutant::RankTooManyInWindows))
        }
        RankFunction::DenseRank => *different > ranking.rank_max,
    };
    if is_too_great {
        ranked.truncate(first);
        *different -= usize::from(ranking.function != RankFunction::RowNumber);
    }
}

fn batch_row_of(ranked: &RankedRow) -> (usize, usize) {
    (ranked.batch as usize, ranked.row as usize)
}
