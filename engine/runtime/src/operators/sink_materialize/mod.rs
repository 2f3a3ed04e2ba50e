//! The choice between rows of a query that have the same primary key of a sink: `ON CONFLICT`. In Flink, this is the
//! `SinkUpsertMaterializer`.
//!
//! All rows of a primary key are kept, in the order of their arrival ([`live_rows`]), because another one is the row of
//! the sink once it is deleted. A row may be deleted before it arrives, and two rows may have one key until the
//! deletion of one arrives: such conflicts are judged when no change is under way ([`KeyedLogic::check`]).

mod live_rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::array_value_to_string;
use arrow_array::RecordBatch;
use arrow_select::take::take;
use millstream_connectors::{RowKind, changelog};
use millstream_graph::{self as graph, ChangelogMode, ConflictStrategy};
use millstream_state::keyed::{Layout, Resolved, Table, TableOptions};
use millstream_state::{Codec, EncodedRows};

use self::live_rows::LiveRows;
use super::OperatorContext;
use super::keyed::{Keyed, KeyedLogic, Keys, Output, Refill, expires};
use crate::Error;

/// Most bytes of the rows of one primary key.
const ROWS_BYTES_MAX: usize = 64 << 20;
/// Most conflicts of which the rows are known, for the message.
const KNOWN_CONFLICTS_MAX: usize = 256;
/// The value column with the rows of a key.
const ROWS: usize = 0;

/// Makes the operator of a node.
pub(super) fn sink_materialize(
    name: &str,
    node: &graph::SinkMaterialize,
    input: &SchemaRef,
    output: &SchemaRef,
    mode: &ChangelogMode,
    context: OperatorContext,
) -> Result<Keyed<MaterializeLogic>, Error> {
    let is_append = !changelog::is_changelog(input);
    let columns = input.fields().len() - usize::from(!is_append);
    let mut values: Vec<usize> = (0..columns).filter(|column| !node.keys.contains(column)).collect();
    if values.is_empty() {
        // An encoded row has a column.
        values.extend(node.keys.first());
    }
    let types = |columns: &[usize]| -> Vec<DataType> {
        let types = columns.iter().map(|column| input.field(*column).data_type().clone());
        types.collect()
    };
    let names = |columns: &[usize]| -> Vec<String> {
        let names = columns.iter().map(|column| input.field(*column).name().clone());
        names.collect()
    };
    let expires = expires(node.state_ttl, node.emission);
    let logic = MaterializeLogic {
        name: name.to_owned(),
        options: TableOptions {
            layout: Layout::new(&types(&node.keys), &[DataType::Binary])?,
            collection: 0,
            hashed: node.keys.len(),
            max_parallelism: context.max_parallelism,
            is_ordered: false,
            is_expiring: expires,
        },
        codec: Codec::keys(&types(&values))?,
        key_codec: Codec::keys(&types(&node.keys))?,
        key_names: names(&node.keys),
        value_names: names(&values),
        keys: node.keys.clone(),
        values,
        strategy: node.strategy,
        is_append,
        expires,
        conflicts: 0,
        known: BTreeMap::new(),
    };
    Keyed::new(
        logic,
        mode.clone(),
        node.emission,
        node.state_ttl,
        Arc::clone(output),
        context,
    )
}

/// The logic of the operator. Collection: the rows of each primary key, without its columns.
pub(super) struct MaterializeLogic {
    name: String,
    options: TableOptions,
    /// The form of the rows.
    codec: Codec,
    key_codec: Codec,
    keys: Vec<usize>,
    /// The columns of the rows.
    values: Vec<usize>,
    key_names: Vec<String>,
    value_names: Vec<String>,
    strategy: ConflictStrategy,
    /// True if no row is ever deleted.
    is_append: bool,
    expires: bool,
    /// Number of keys that have several rows, if that is an error. Every checkpoint checks that there are none, so
    /// there are none after a restore.
    conflicts: u64,
    /// Two rows of each of some such keys, by encoded key.
    known: BTreeMap<Vec<u8>, [Vec<u8>; 2]>,
}

impl MaterializeLogic {
    /// Updates the rows of one key by rows of a batch. Returns the number of deletions without a row, which are
    /// ignored.
    fn update(
        &mut self,
        rows: &[u32],
        kinds: Option<&arrow::array::Int8Array>,
        encoded: &EncodedRows,
        slot: u32,
        table: &mut Table,
    ) -> Result<u64, Error> {
        let cell = table.bytes(slot, ROWS).to_vec();
        let mut live = LiveRows::new(&cell, rows.len());
        let several = |live: &LiveRows<'_>| self.strategy == ConflictStrategy::Error && live.count() > 1;
        let was_conflict = several(&live);
        let kept_max = match (self.is_append, self.strategy) {
            (true, ConflictStrategy::Nothing) => 1,
            (true, ConflictStrategy::Error) => 2,
            _ => i64::MAX,
        };
        let kind = |row: u32| kinds.map_or(RowKind::Insert as i8, |kinds| kinds.value(row as usize));
        let mut unmatched = 0;
        let mut at = 0;
        while let Some(&row) = rows.get(at) {
            let bytes = encoded.row(row as usize);
            at += 1;
            if kind(row) > 0 {
                if live.count() < kept_max {
                    live.add(bytes);
                }
                continue;
            }
            let next = rows.get(at).copied().filter(|next| *next == row + 1);
            let update = next
                .filter(|next| kind(row) == RowKind::UpdateBefore as i8 && kind(*next) == RowKind::UpdateAfter as i8);
            if let Some(next) = update
                && live.replace(bytes, encoded.row(next as usize))
            {
                at += 1;
            } else if !live.remove(bytes, self.expires) {
                unmatched += 1;
            }
        }
        let is_conflict = several(&live);
        if was_conflict || is_conflict {
            self.note_conflict(was_conflict, is_conflict, &live, slot, table)?;
        }
        let cell = live.encode();
        if cell.len() > ROWS_BYTES_MAX {
            return Err(self.error(format!(
                "the rows of one primary key have more than {ROWS_BYTES_MAX} bytes (ROWS_BYTES_MAX); declare a primary \
                 key with more columns"
            )));
        }
        if cell.is_empty() {
            if table.is_present(slot) {
                table.remove(slot);
            }
        } else {
            table.set_changed(slot);
            table.set_bytes(slot, ROWS, &cell);
        }
        Ok(unmatched)
    }

    fn note_conflict(
        &mut self,
        was_conflict: bool,
        is_conflict: bool,
        live: &LiveRows<'_>,
        slot: u32,
        table: &Table,
    ) -> Result<(), Error> {
        self.conflicts = (self.conflicts + u64::from(is_conflict)).saturating_sub(u64::from(was_conflict));
        let key = self.key_codec.encode(&table.keys(&[slot])?)?.row(0).to_vec();
        match is_conflict.then(|| live.first_and_last()).flatten() {
            Some([first, last]) if self.known.len() < KNOWN_CONFLICTS_MAX => {
                self.known.insert(key, [first.to_vec(), last.to_vec()]);
            }
            _ => {
                self.known.remove(&key);
            }
        }
        Ok(())
    }

    fn error(&self, message: String) -> Error {
        Error::Operator {
            operator: self.name.clone(),
            message,
        }
    }
}

impl KeyedLogic for MaterializeLogic {
    fn collections(&self) -> Vec<TableOptions> {
        vec![self.options.clone()]
    }

    fn keys(&mut self, batch: &RecordBatch) -> Result<Vec<Keys>, Error> {
        Ok(vec![Keys::of(batch, &self.keys)])
    }

    fn apply(
        &mut self,
        batch: &RecordBatch,
        resolved: &[Resolved],
        tables: &mut [Table],
    ) -> Result<Vec<Refill>, Error> {
        let (Some(resolved), Some(table)) = (resolved.first(), tables.first_mut()) else {
            return Ok(Vec::new());
        };
        let columns: Vec<ArrayRef> = self.values.iter().map(|at| Arc::clone(batch.column(*at))).collect();
        let encoded = self.codec.encode(&columns)?;
        let kinds = changelog::kinds(batch).filter(|_| !self.is_append);
        let mut rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
        let slot_of = |row: &u32| resolved.slots[*row as usize];
        rows.sort_by_key(slot_of);
        let mut unmatched = 0;
        for rows in rows.chunk_by(|row, next| slot_of(row) == slot_of(next)) {
            unmatched += self.update(rows, kinds, &encoded, slot_of(&rows[0]), table)?;
        }
        if unmatched > 0 {
            metrics::counter!("millstream_unmatched_retractions_total").increment(unmatched);
        }
        Ok(Vec::new())
    }

    fn output(&mut self, table: &Table, slots: &[u32]) -> Result<Output, Error> {
        let chosen: Vec<Option<&[u8]>> = slots
            .iter()
            .map(|slot| live_rows::chosen(table.bytes(*slot, ROWS), self.strategy))
            .collect();
        let rows = self.codec.decode(chosen.iter().flatten().copied())?;
        let mut count = 0;
        let places: UInt32Array = chosen
            .iter()
            .map(|row| {
                count += u32::from(row.is_some());
                row.map(|_| count - 1)
            })
            .collect();
        let columns = rows.iter().map(|column| take(column, &places, None));
        Ok(Output {
            columns: columns.collect::<Result<_, _>>()?,
            present: BooleanArray::from(chosen.iter().map(Option::is_some).collect::<Vec<bool>>()),
        })
    }

    fn output_order(&self) -> Option<Vec<usize>> {
        let columns: Vec<usize> = self.keys.iter().chain(&self.values).copied().collect();
        let width = columns.iter().max().map_or(0, |last| last + 1);
        let place = |column: usize| columns.iter().position(|other| *other == column);
        (0..width).map(place).collect()
    }

    fn check(&self) -> Result<(), Error> {
        if self.conflicts == 0 {
            return Ok(());
        }
        let mut example = String::new();
        if let Some((key, rows)) = self.known.first_key_value() {
            let key = texts(&self.key_codec, &self.key_names, std::iter::once(key.as_slice()))?;
            let rows = texts(&self.codec, &self.value_names, rows.iter().map(Vec::as_slice))?;
            example = format!(
                ": ({}) is the primary key of ({})",
                key.join(", "),
                rows.join(") and (")
            );
        }
        Err(self.error(format!(
            "several rows of the query have one primary key of the table (number of such keys: {}){example}. \
             Correct the data, make the columns that identify a row of the query the primary key, or choose between the \
             rows: ON CONFLICT DO DEDUPLICATE keeps the last one, DO NOTHING the first",
            self.conflicts
        )))
    }
}

/// Returns the texts of encoded rows, for messages.
fn texts<'a>(codec: &Codec, names: &[String], rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<String>, Error> {
    let columns = codec.decode(rows)?;
    let count = columns.first().map_or(0, |column| column.len());
    let of_row = |row: usize| -> Result<String, Error> {
        let mut text = String::new();
        for (name, column) in names.iter().zip(&columns) {
            let value = match column.is_null(row) {
                true => "NULL".to_owned(),
                false => array_value_to_string(column, row)?,
            };
            let separator = if text.is_empty() { "" } else { ", " };
            text.push_str(&format!("{separator}{name} = {value}"));
        }
        Ok(text)
    };
    (0..count).map(of_row).collect()
}

#[cfg(test)]
mod tests;
