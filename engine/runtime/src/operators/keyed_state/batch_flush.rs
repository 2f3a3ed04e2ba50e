//! Writing whole batches to the store, as blocks of rows.
//!
//! For rows that are written once, read completely and never replaced, as those of a window join. They are ordered by
//! key group and encoded column by column, off the slot thread. Large flushes in the order of the store bypass its
//! write buffer.
//!
//! Key of a block: its number (u64 BE), which its writer never uses twice.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_select::interleave::interleave;
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::{FlushSource, KeyPrefix, WriteChunk};
use millstream_state::{BlockCodec, Error};

use super::blocks::{CHUNK_BYTES, rows_by_key_group, rows_per_block};
use crate::element::batch_bytes;

/// A batch, and the key group of each row.
pub(crate) struct GroupedBatch {
    /// The rows.
    pub rows: RecordBatch,
    /// Key group of each row.
    pub key_groups: Vec<u16>,
}

/// A flush of batches, one key group after the other.
pub(crate) struct BatchFlush {
    namespace: i64,
    batches: Vec<GroupedBatch>,
    /// Batch and row of every row, by key group; `None` until the first chunk.
    order: Option<Vec<Place>>,
    /// Number of rows of the order that are written.
    written: usize,
    block_rows: usize,
    /// Number of the next block.
    number: u64,
    codec: Arc<BlockCodec>,
    /// Released when everything is written.
    _reservation: Reservation,
}

#[derive(Clone, Copy, Default)]
struct Place {
    batch: u32,
    row: u32,
}

impl BatchFlush {
    /// Creates a flush whose blocks are numbered from `number` on. There are at most as many blocks as rows.
    pub(crate) fn new(
        namespace: i64,
        batches: Vec<GroupedBatch>,
        number: u64,
        codec: &Arc<BlockCodec>,
        memory: &MemoryBudget,
    ) -> Self {
        let rows: usize = batches.iter().map(|batch| batch.key_groups.len()).sum();
        let bytes: usize = batches.iter().map(|batch| batch.rows.get_array_memory_size()).sum();
        let mut reservation = memory.reservation();
        reservation.force_resize(bytes + rows * (size_of::<u16>() + size_of::<Place>()));
        Self {
            namespace,
            order: None,
            written: 0,
            block_rows: rows_per_block(batches.iter().map(|batch| batch_bytes(&batch.rows)).sum(), rows),
            batches,
            number,
            codec: Arc::clone(codec),
            _reservation: reservation,
        }
    }
}

/// Returns the rows of all batches by key group, and otherwise in their present order.
fn places_by_key_group(batches: &[GroupedBatch]) -> Vec<Place> {
    let key_groups: Vec<u16> = batches.iter().flat_map(|batch| &batch.key_groups).copied().collect();
    let places = batches.iter().enumerate().flat_map(|(batch, grouped)| {
        (0..grouped.key_groups.len() as u32).map(move |row| Place {
            batch: batch as u32,
            row,
        })
    });
    let places: Vec<Place> = places.collect();
    rows_by_key_group(&key_groups)
        .into_iter()
        .map(|at| places[at as usize])
        .collect()
}

/// Returns the columns of these rows.
fn gather(batches: &[GroupedBatch], places: &[Place]) -> Result<Vec<ArrayRef>, Error> {
    let places: Vec<(usize, usize)> = places
        .iter()
        .map(|place| (place.batch as usize, place.row as usize))
        .collect();
    let columns = batches.first().map_or(0, |batch| batch.rows.num_columns());
    (0..columns)
        .map(|column| {
            let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.rows.column(column).as_ref()).collect();
            interleave(&arrays, &places).map_err(|error| Error::Invalid(format!("rows of state: {error}")))
        })
        .collect()
}

impl FlushSource for BatchFlush {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, Error> {
        let batches = &self.batches;
        let order = self.order.get_or_insert_with(|| places_by_key_group(batches));
        if self.written == order.len() {
            return Ok(None);
        }
        let group_of = |place: &Place| batches[place.batch as usize].key_groups[place.row as usize];
        let mut chunk = WriteChunk::default();
        let mut block = Vec::new();
        while self.written < order.len() && chunk.bytes() < CHUNK_BYTES {
            let rest = &order[self.written..];
            let rest = &rest[..rest.len().min(self.block_rows)];
            let group = group_of(&rest[0]);
            let same = &rest[..rest.partition_point(|place| group_of(place) == group)];
            block.clear();
            self.codec.encode(&gather(batches, same)?, same.len(), &mut block)?;
            let prefix = KeyPrefix {
                group: KeyGroup(group),
                namespace: self.namespace,
            };
            chunk.put(prefix, &self.number.to_be_bytes(), &block);
            self.number += 1;
            self.written += same.len();
        }
        Ok(Some(chunk))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::{Duration, Instant};

    use arrow::datatypes::DataType;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, StringArray};

    use super::*;
    use crate::operators::testing::{context, on_own_thread};

    /// Rows numbered from `first` on, whose key group is their number modulo 3.
    fn batch(first: i64, rows: usize) -> GroupedBatch {
        let numbers: Vec<i64> = (first..first + rows as i64).collect();
        let words = numbers.iter().map(|number| format!("word {number}"));
        let key_groups = numbers.iter().map(|number| (number % 3) as u16).collect();
        let words: ArrayRef = Arc::new(StringArray::from_iter_values(words));
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        GroupedBatch {
            rows: RecordBatch::try_from_iter([("number", numbers), ("word", words)]).unwrap(),
            key_groups,
        }
    }

    #[test]
    fn every_row_is_stored_once_with_its_key_group() {
        on_own_thread(|| {
            let codec = Arc::new(BlockCodec::new(&[DataType::Int64, DataType::Utf8]).unwrap());
            let mut end = 0;
            let batches = [1, 5_000, 40_000, 7, 200_000].map(|rows| {
                end += rows as i64;
                batch(end - rows as i64, rows)
            });
            let mut context = context(1 << 30);
            let frozen = BatchFlush::new(-5, batches.into(), 100, &codec, &context.memory);
            context.store.write(Box::new(frozen), None).unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            while !context.store.poll_idle(Waker::noop()).unwrap() {
                assert!(Instant::now() < deadline, "the store does not settle");
                std::thread::yield_now();
            }
            assert_eq!(context.memory.used_bytes(), 0);
            let mut blocks = 0;
            for group in 0..3 {
                let prefix = KeyPrefix {
                    group: KeyGroup(group),
                    namespace: -5,
                };
                let mut found = Vec::new();
                let mut after: Option<Vec<u8>> = None;
                while {
                    let from = after.take();
                    context
                        .store
                        .scan(prefix, from.as_deref(), 3, &mut |key, block| {
                            after = Some(key.to_vec());
                            blocks += 1;
                            let (columns, _) = codec.decode(block).unwrap();
                            let words = columns[1].as_string::<i32>();
                            for (number, word) in columns[0].as_primitive::<Int64Type>().values().iter().zip(words) {
                                assert_eq!(word, Some(format!("word {number}").as_str()));
                                found.push(*number);
                            }
                        })
                        .unwrap()
                } {}
                let expected: Vec<i64> = (0..end).filter(|number| number % 3 == i64::from(group)).collect();
                assert_eq!(found, expected);
            }
            assert!(
                blocks > 3 * 3,
                "several blocks of each key group, read in several steps"
            );
        });
    }
}
