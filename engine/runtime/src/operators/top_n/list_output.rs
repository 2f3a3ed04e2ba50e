//! The output of partitions: the difference between their lists before and after a call.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow_array::RecordBatch;
use arrow_select::take::take_arrays;
use millstream_connectors::RowKind;
use millstream_graph::{self as graph, ChangelogMode, Stream};
use millstream_state::Codec;

use super::ranked_list::{Ranked, Ranks};
use super::row_encoding::RowEncoding;
use crate::Error;
use crate::operators::keyed::{CALL_ROWS_MAX, Output, OutputForm};

/// The form of the output rows.
pub(super) struct ListOutput {
    ranks: Ranks,
    partition: Vec<usize>,
    partition_types: Vec<DataType>,
    /// Columns of the input that lists have.
    columns: Vec<usize>,
    /// Number of columns of the input.
    width: usize,
    /// Type of the rank, if it is a column of the output.
    rank_type: Option<DataType>,
    updates: Updates,
}

/// Changes that are updates of a row, rather than a deletion and an insertion.
enum Updates {
    /// Those of the row of a rank.
    OfRank {
        /// True if the former row is emitted, too.
        has_former: bool,
    },
    /// Those of the row with the same values in these columns of the output. Its former version is not emitted.
    OfKey(Vec<usize>, Codec),
    /// None.
    None,
}

/// Changes as they are collected.
#[derive(Default)]
struct Changes<'a> {
    kinds: Vec<i8>,
    /// Number of each row's partition among the keys of the call.
    partitions: Vec<u32>,
    rows: Vec<&'a [u8]>,
    ranks: Vec<i64>,
}

impl<'a> Changes<'a> {
    fn push(&mut self, kind: RowKind, partition: usize, ranked: &Ranked<'a>) {
        self.kinds.push(kind as i8);
        self.partitions.push(partition as u32);
        self.rows.push(ranked.row);
        self.ranks.push(i64::try_from(ranked.rank).unwrap_or(i64::MAX));
    }
}

impl ListOutput {
    pub(super) fn new(node: &graph::TopN, encoding: &RowEncoding, output: &Stream) -> Result<Self, Error> {
        let width = encoding.width;
        let type_of = |column: usize| output.schema.field(column).data_type().clone();
        let is_of_rank = |key: &Vec<usize>| {
            let mut others = key.iter().filter(|column| **column != width);
            node.is_identified_by_rank() && others.all(|column| node.partition.contains(column))
        };
        let updates = match &output.changelog {
            ChangelogMode::Append => Updates::None,
            ChangelogMode::Upsert(key) if is_of_rank(key) => Updates::OfRank { has_former: false },
            ChangelogMode::Upsert(key) => {
                let types: Vec<DataType> = key.iter().map(|column| type_of(*column)).collect();
                Updates::OfKey(key.clone(), Codec::keys(&types)?)
            }
            // If another key identifies the rows, too, all deletions precede the insertions: otherwise, a row that
            // changes its rank would be inserted before it is deleted.
            ChangelogMode::Retract
                if node.is_identified_by_rank()
                    && (node.from == node.to || output.upsert_keys.iter().all(is_of_rank)) =>
            {
                Updates::OfRank { has_former: true }
            }
            ChangelogMode::Retract => Updates::None,
        };
        Ok(Self {
            width,
            ranks: Ranks {
                function: node.function,
                from: node.from.max(1),
                to: node.to,
            },
            partition: node.partition.clone(),
            partition_types: node.partition.iter().map(|column| type_of(*column)).collect(),
            columns: encoding.columns.clone(),
            rank_type: node.emit_rank.then(|| type_of(width)),
            updates,
        })
    }

    /// Returns the types of the partition columns.
    pub(super) fn partition_types(&self) -> &[DataType] {
        &self.partition_types
    }

    /// Returns the type of the rank, if it is a column of the output.
    pub(super) fn rank_type(&self) -> Option<&DataType> {
        self.rank_type.as_ref()
    }

    /// Returns the position of each output column among the partition columns, the columns of lists and the rank.
    pub(super) fn order(&self) -> Vec<usize> {
        let columns: Vec<usize> = self.partition.iter().chain(&self.columns).copied().collect();
        let place = |column: usize| columns.iter().position(|other| *other == column);
        let inputs = (0..self.width).filter_map(place);
        inputs
            .chain(self.rank_type.is_some().then_some(columns.len()))
            .collect()
    }

    /// Returns the changes between the lists of partitions, from number `from` on, and the number of the next one; see
    /// [`KeyedLogic::changes`](crate::operators::keyed::KeyedLogic::changes).
    pub(super) fn changes(
        &self,
        encoding: &RowEncoding,
        form: &OutputForm,
        keys: &[ArrayRef],
        before: Option<&Output>,
        after: &Output,
        from: usize,
    ) -> Result<(RecordBatch, usize), Error> {
        let mut changes = Changes::default();
        let mut next = from;
        while next < after.present.len() && changes.kinds.len() < CALL_ROWS_MAX {
            let old = before.map_or(&[][..], |before| list(before, next));
            let new = list(after, next);
            if old != new {
                let (old, new) = (self.ranks.selected(old), self.ranks.selected(new));
                self.difference(next, &old, &new, &mut changes);
            }
            next += 1;
        }
        let mut columns = take_arrays(keys, &UInt32Array::from(changes.partitions.clone()), None)?;
        columns.extend(encoding.decode(changes.rows.iter().copied())?);
        if let Some(rank_type) = &self.rank_type {
            let ranks: ArrayRef = Arc::new(Int64Array::from(changes.ranks));
            columns.push(cast(&ranks, rank_type)?);
        }
        if let Updates::OfKey(key, codec) = &self.updates {
            let order = self.order();
            let key: Vec<ArrayRef> = key.iter().map(|column| Arc::clone(&columns[order[*column]])).collect();
            let (kept, kinds) = updates_by_key(&key, codec, &changes.partitions, &changes.kinds)?;
            columns = take_arrays(&columns, &kept, None)?;
            changes.kinds = kinds;
        }
        let rows = changes.kinds.len();
        Ok((form.batch(columns, rows, Some(changes.kinds))?, next))
    }

    /// Adds the changes of one partition.
    fn difference<'a>(&self, partition: usize, old: &[Ranked<'a>], new: &[Ranked<'a>], changes: &mut Changes<'a>) {
        let Updates::OfRank { has_former } = self.updates else {
            return self.replaced_rows(partition, old, new, changes);
        };
        // Ranks are consecutive.
        for at in 0..old.len().max(new.len()) {
            match (old.get(at), new.get(at)) {
                (Some(old), Some(new)) if old.row != new.row => {
                    if has_former {
                        changes.push(RowKind::UpdateBefore, partition, old);
                    }
                    changes.push(RowKind::UpdateAfter, partition, new);
                }
                (Some(_), Some(_)) | (None, None) => {}
                (Some(old), None) => changes.push(RowKind::Delete, partition, old),
                (None, Some(new)) => changes.push(RowKind::Insert, partition, new),
            }
        }
    }

    /// Adds the rows that are gone as deletions, then the new ones as insertions.
    fn replaced_rows<'a>(&self, partition: usize, old: &[Ranked<'a>], new: &[Ranked<'a>], changes: &mut Changes<'a>) {
        let is_equal =
            |a: &Ranked<'_>, b: &Ranked<'_>| a.row == b.row && (self.rank_type.is_none() || a.rank == b.rank);
        let equal = |pair: &(&Ranked<'_>, &Ranked<'_>)| is_equal(pair.0, pair.1);
        let start = old.iter().zip(new).take_while(equal).count();
        let (old, new) = (&old[start..], &new[start..]);
        let end = old.iter().rev().zip(new.iter().rev()).take_while(equal).count();
        let (old, new) = (&old[..old.len() - end], &new[..new.len() - end]);
        let identity = |ranked: &Ranked<'a>| (ranked.row, self.rank_type.as_ref().map(|_| ranked.rank));
        let counts = |rows: &[Ranked<'a>]| {
            let mut counts: HashMap<_, usize> = HashMap::with_capacity(rows.len());
            rows.iter()
                .for_each(|row| *counts.entry(identity(row)).or_default() += 1);
            counts
        };
        for (kind, rows, others) in [(RowKind::Delete, old, new), (RowKind::Insert, new, old)] {
            let mut counts = counts(others);
            for ranked in rows {
                match counts.get_mut(&identity(ranked)) {
                    Some(count) if *count > 0 => *count -= 1,
                    _ => changes.push(kind, partition, ranked),
                }
            }
        }
    }
}

/// Returns the list of a partition.
fn list(output: &Output, partition: usize) -> &[u8] {
    match output.present.value(partition) {
        true => output.columns[0].as_binary::<i32>().value(partition),
        false => &[],
    }
}

/// Returns the rows that are kept, and their kinds, if a deletion and an insertion of one key are an update.
fn updates_by_key(
    key: &[ArrayRef],
    codec: &Codec,
    partitions: &[u32],
    kinds: &[i8],
) -> Result<(UInt32Array, Vec<i8>), Error> {
    let keys = codec.encode(key)?;
    let is_kind = |row: &usize, kind: RowKind| kinds[*row] == kind as i8;
    let of_kind = |kind: RowKind| -> HashSet<(u32, &[u8])> {
        let rows = (0..kinds.len()).filter(|row| is_kind(row, kind));
        rows.map(|row| (partitions[row], keys.row(row))).collect()
    };
    let (deleted, inserted) = (of_kind(RowKind::Delete), of_kind(RowKind::Insert));
    let (mut kept, mut kept_kinds) = (Vec::new(), Vec::new());
    for (row, partition) in partitions.iter().enumerate() {
        let of = (*partition, keys.row(row));
        let kind = match is_kind(&row, RowKind::Delete) {
            true if inserted.contains(&of) => continue,
            true => RowKind::Delete,
            false if deleted.contains(&of) => RowKind::UpdateAfter,
            false => RowKind::Insert,
        };
        kept.push(row as u32);
        kept_kinds.push(kind as i8);
    }
    Ok((UInt32Array::from(kept), kept_kinds))
}
