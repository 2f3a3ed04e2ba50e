//! The roll: which keys sleep, since when and until when, without what they hold.
//!
//! A session that is about to end must know of any sleeping piece of it. Looking up one key after the other would cost a
//! random read each. So what is asked for gathers in an index in memory, and the roll is read past it from one end to
//! the other ([`Asking`]): per entry that costs a hundredth of a random read.
//!
//! Namespace 1; 2 for those that only wait for another sleeper of their session, of whom only rows that come late need to
//! know. Key of a block: the stretch in which its sleepers end and the least of the times at which they begin
//! (i64 BE each, sign bit flipped), then a number (u64 BE) that is never used twice. Blocks of sleepers that begin
//! too late to matter are thus passed over. Value: a block of the key columns and the first time (`Int64`).

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use millstream_state::BlockCodec;
use millstream_state::key_group::KeyGroup;
use millstream_state::store::{FlushSource, KeyPrefix, Store, WriteChunk};

use crate::Error;
use crate::operators::stored_rows::{RowFormat, SCAN_BLOCKS, StoredRows, WrittenGroups, rows_by_key_group};
use crate::operators::table::{GroupIndex, Select, UNKNOWN, new_group_index};

/// Where the roll is.
pub const ROLL: i64 = 1;
/// Where those are entered who only wait.
pub const WAITING: i64 = 2;
const SIGN: u64 = 1 << 63;

/// How blocks of the roll are encoded.
pub fn codec(key_fields: &[FieldRef]) -> Result<Arc<BlockCodec>, Error> {
    let mut types: Vec<DataType> = key_fields.iter().map(|field| field.data_type().clone()).collect();
    types.push(DataType::Int64);
    Ok(Arc::new(BlockCodec::new(&types)?))
}

/// The key of a block.
pub fn block_key(stretch: i64, least_first: i64, number: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&(stretch as u64 ^ SIGN).to_be_bytes());
    key[8..16].copy_from_slice(&(least_first as u64 ^ SIGN).to_be_bytes());
    key[16..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The stretch and the least first time of a block.
fn read_key(key: &[u8]) -> Result<(i64, i64), Error> {
    let word = |at: usize| {
        let bytes = key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(|bytes| (u64::from_be_bytes(bytes) ^ SIGN) as i64)
    };
    match (word(0), word(8)) {
        (Some(stretch), Some(first)) => Ok((stretch, first)),
        _ => {
            Err(millstream_state::Error::Corrupt(format!("a key of {} bytes among sessions asleep", key.len())).into())
        }
    }
}

fn slot((group, namespace): (u16, i64)) -> KeyPrefix {
    KeyPrefix {
        group: KeyGroup(group),
        namespace,
    }
}

/// Who asks.
pub enum Reads<'a> {
    /// Sessions that end: of those who wait, only what is over is read, in the key groups that were woken.
    Ending { woken: &'a WrittenGroups },
    /// Rows that come late.
    Late,
}

/// A piece of a session of a key that was asked for.
#[derive(Clone, Copy)]
pub struct Sleeper {
    asked: u32,
    pub first: i64,
    /// The stretch in which it ends.
    pub stretch: i64,
}

/// Keys that are asked for, and how far the roll has been read.
pub struct Asking {
    /// What is asked: keys, and until when. Sleepers that begin later do not matter.
    keys: Vec<ArrayRef>,
    until: Vec<i64>,
    key_groups: Vec<u16>,
    /// The above by key group.
    order: Vec<u32>,
    /// By question: the number of its key, `UNKNOWN` if there can be no answer.
    numbers: Vec<u32>,
    /// Who ends in a stretch up to this one is awake: what the roll says of them is over.
    awake_until: i64,
    /// Whether those who wait matter.
    is_late: bool,
    /// Key groups and namespaces still to be read, the next one last, and how far that has been.
    places: Vec<(u16, i64)>,
    reading: Option<Reading>,
    /// Keys of the key group that is being read.
    index: Box<dyn GroupIndex>,
    found: Vec<Sleeper>,
    over: Vec<(u16, i64, Vec<u8>)>,
    numbers_given: u32,
    block_keys: StoredRows,
    blocks: StoredRows,
    asked: Vec<u32>,
}

/// A key group being read.
struct Reading {
    /// The number of the first key in the index.
    first_number: u32,
    /// By key: the latest time that is asked for, and the latest of all.
    until: Vec<i64>,
    latest: i64,
    /// The last key that was read.
    after: Option<Vec<u8>>,
}

impl Asking {
    /// Asks for these keys; of each, for who begins at that time or before. Reads the key groups among `groups` in which
    /// keys are.
    pub fn new(
        format: &RowFormat,
        key_fields: &[FieldRef],
        keys: Vec<ArrayRef>,
        until: Vec<i64>,
        awake_until: i64,
        groups: &WrittenGroups,
        reads: Reads<'_>,
    ) -> Result<Self, Error> {
        let key_groups = format.key_groups(&keys, until.len())?;
        let (mut read, is_late) = match reads {
            Reads::Ending { woken } => (woken.clone(), false),
            Reads::Late => (WrittenGroups::default(), true),
        };
        let asked = key_groups.iter().filter(|group| groups.contains(**group));
        asked.for_each(|group| read.insert(*group));
        Ok(Self {
            order: rows_by_key_group(&key_groups),
            numbers: vec![UNKNOWN; until.len()],
            keys,
            until,
            key_groups,
            awake_until,
            is_late,
            places: read
                .iter()
                .rev()
                .flat_map(|group| [(group, WAITING), (group, ROLL)])
                .collect(),
            reading: None,
            index: new_group_index(key_fields)?,
            found: Vec::new(),
            over: Vec::new(),
            numbers_given: 0,
            block_keys: StoredRows::default(),
            blocks: StoredRows::default(),
            asked: Vec::new(),
        })
    }

    /// Few keys are looked for at a time, so that their index is found in the processor's caches.
    fn begin(&mut self, group: u16) -> Result<Reading, Error> {
        let group_of = |row: &u32| self.key_groups[*row as usize];
        let start = self.order.partition_point(|row| group_of(row) < group);
        let rows = &self.order[start..];
        let rows = &rows[..rows.partition_point(|row| group_of(row) == group)];
        let keys = Select::Indices(rows).take(&self.keys)?;
        self.index.clear();
        self.index.intern(&keys, rows.len(), &mut self.asked)?;
        let mut reading = Reading {
            first_number: self.numbers_given,
            until: vec![i64::MIN; self.index.len()],
            latest: i64::MIN,
            after: None,
        };
        self.numbers_given += self.index.len() as u32;
        for (row, key) in rows.iter().zip(&self.asked) {
            let until = self.until[*row as usize];
            let of_key = &mut reading.until[*key as usize];
            *of_key = (*of_key).max(until);
            reading.latest = reading.latest.max(until);
            self.numbers[*row as usize] = reading.first_number + key;
        }
        Ok(reading)
    }

    /// Reads some more of the roll, which requires a settled store; answers whether there is more.
    pub fn step(&mut self, store: &Store, codec: &BlockCodec) -> Result<bool, Error> {
        let Some(place) = self.places.last().copied() else {
            return Ok(false);
        };
        let (group, namespace) = place;
        let mut reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.begin(group)?,
        };
        // Where this is, nothing more matters once all that is over has been read.
        let only_over = namespace == WAITING && !self.is_late;
        let mut more_matters = true;
        let mut keys = std::mem::take(&mut self.block_keys);
        let mut blocks = std::mem::take(&mut self.blocks);
        keys.clear();
        blocks.clear();
        let more = store.scan(slot(place), reading.after.as_deref(), SCAN_BLOCKS, &mut |key, block| {
            keys.push(key);
            blocks.push(block);
        })?;
        reading.after = None;
        for (key, block) in keys.iter().zip(blocks.iter()) {
            let (stretch, least_first) = read_key(key)?;
            reading.after = Some(key.to_vec());
            if stretch <= self.awake_until {
                self.over.push((group, namespace, key.to_vec()));
            } else if only_over {
                more_matters = false;
                break;
            } else if least_first <= reading.latest {
                self.read(&reading, stretch, codec, block)?;
            } else {
                // So do all that follow of the stretch.
                reading.after = Some(block_key(stretch, i64::MAX, u64::MAX).to_vec());
            }
        }
        self.block_keys = keys;
        self.blocks = blocks;
        if more && more_matters && reading.after.is_some() {
            self.reading = Some(reading);
        } else {
            self.places.pop();
            // The same keys are looked for in the key group's other namespace.
            reading.after = None;
            let is_same = self.places.last().is_some_and(|(next, _)| *next == group);
            self.reading = is_same.then_some(reading);
        }
        Ok(!self.places.is_empty())
    }

    fn read(&mut self, reading: &Reading, stretch: i64, codec: &BlockCodec, block: &[u8]) -> Result<(), Error> {
        let (mut columns, rows) = codec.decode(block)?;
        let Some(firsts) = columns.pop() else {
            return Ok(());
        };
        self.index.find(&columns, rows, &mut self.asked)?;
        for (key, first) in self.asked.iter().zip(firsts.as_primitive::<Int64Type>().values()) {
            if *key != UNKNOWN && *first <= reading.until[*key as usize] {
                self.found.push(Sleeper {
                    asked: reading.first_number + key,
                    first: *first,
                    stretch,
                });
            }
        }
        Ok(())
    }

    /// What was found, once all has been read.
    pub fn answers(mut self) -> Answers {
        self.found.sort_unstable_by_key(|sleeper| sleeper.asked);
        Answers {
            numbers: self.numbers,
            found: self.found,
            over: self.over,
        }
    }
}

/// The sleepers of the keys that were asked for.
pub struct Answers {
    numbers: Vec<u32>,
    found: Vec<Sleeper>,
    /// Blocks of the roll that are over, with their key groups and namespaces.
    pub over: Vec<(u16, i64, Vec<u8>)>,
}

impl Answers {
    /// Those of a question's key.
    pub fn of(&self, question: usize) -> &[Sleeper] {
        let number = self.numbers[question];
        let start = self.found.partition_point(|sleeper| sleeper.asked < number);
        let rest = &self.found[start..];
        &rest[..rest.partition_point(|sleeper| sleeper.asked == number)]
    }
}

/// Deletes blocks of the roll.
pub struct Deletions(pub Vec<(u16, i64, Vec<u8>)>);

impl FlushSource for Deletions {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, millstream_state::Error> {
        let mut chunk = WriteChunk::default();
        for (group, namespace, key) in std::mem::take(&mut self.0) {
            chunk.delete(slot((group, namespace)), &key);
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}
