//! Sessions awake, as the store has them.
//!
//! What changed is appended at a barrier and never looked up again before a restore: a *version* of each dirty session, many
//! to a block. A session is as its newest version says. A version is dead once its session has ended, so it lies in the
//! *term* in which its session ends as far as was known, and terms that all open sessions have left behind are deleted
//! whole. Sessions that are over, became part of another or fell asleep while their term is not over are told apart by
//! *obituaries*: lists of their numbers. Sessions that are busy for longer than a gap leave version after version in terms
//! to come; when those outnumber the sessions, everything is written anew.
//!
//! Namespace: [`TERMS`] plus the term. Key of a block of versions: a number (u64 BE) that grows with each block and is
//! never used twice; value: a block of the key columns, the session's number, its first and last time (`Int64`), and the
//! partial states. Key of a block of obituaries: such a number and a zero byte; value: a block of numbers (`Int64`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use millstream_state::BlockCodec;
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::Reservation;
use millstream_state::store::{FlushSource, KeyPrefix, Store, WriteChunk};

use crate::Error;
use crate::operators::stored_rows::{
    CHUNK_BYTES, RowFormat, SCAN_BLOCKS, WrittenGroups, rows_by_key_group, rows_per_block, take_rows,
};

/// How many stretches of the calendar make a term. Part of the layout.
const TERM_STRETCHES: i64 = 4;
/// Where terms are: far above what is asleep.
const TERMS: i64 = 1 << 62;
/// Versions that may lie in the store for each open session, before everything is written anew, and how many in any case.
const VERSIONS_PER_SESSION_MAX: usize = 2;
const VERSIONS_MIN: usize = 65_536;
/// What ordering versions takes, per version.
const ORDER_BYTES: usize = size_of::<i64>() + size_of::<u32>() + size_of::<u16>();
/// Ends the key of a block of obituaries.
const OBITUARY: u8 = 0;

/// The term of a stretch.
pub fn term_of(stretch: i64) -> i64 {
    stretch.div_euclid(TERM_STRETCHES)
}

/// Whether this is the namespace of a term.
pub fn is_term(namespace: i64) -> bool {
    namespace >= TERMS / 2
}

/// What the store has of sessions awake, without what is in it.
pub struct Written {
    terms: BTreeMap<i64, Term>,
    /// Sessions that are over and have a version, since the last write.
    over: Vec<Over>,
    over_count: usize,
    obituaries: Arc<BlockCodec>,
}

#[derive(Default)]
struct Term {
    /// Of its versions and obituaries together.
    versions: usize,
    groups: WrittenGroups,
}

struct Over {
    keys: Vec<ArrayRef>,
    numbers: Vec<u64>,
    terms: Vec<i64>,
}

/// Versions of sessions, with the terms in which those end.
pub struct Versions {
    pub keys: Vec<ArrayRef>,
    /// Number, first and last time, then partial states.
    pub values: Vec<ArrayRef>,
    pub key_groups: Vec<u16>,
    pub terms: Vec<i64>,
}

impl Written {
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            terms: BTreeMap::new(),
            over: Vec::new(),
            over_count: 0,
            obituaries: Arc::new(BlockCodec::new(&[DataType::Int64])?),
        })
    }

    /// Whether there will be too many versions once `dirty` more are written for `open` sessions.
    pub fn is_crowded(&self, dirty: usize, open: usize) -> bool {
        let versions: usize = self.terms.values().map(|term| term.versions).sum();
        versions + dirty > (open * VERSIONS_PER_SESSION_MAX).max(VERSIONS_MIN)
    }

    /// Sessions are over that have versions in these terms or earlier ones.
    pub fn note_over(&mut self, keys: Vec<ArrayRef>, numbers: Vec<u64>, terms: Vec<i64>) {
        self.over_count += numbers.len();
        self.over.push(Over { keys, numbers, terms });
    }

    /// How many are over since the last write.
    pub fn over(&self) -> usize {
        self.over_count
    }

    /// Deletes the terms before this one.
    pub fn delete_before(&mut self, term: i64, store: &mut Store) -> Result<(), Error> {
        let stay = self.terms.split_off(&term);
        let gone = std::mem::replace(&mut self.terms, stay);
        let (Some((first, _)), Some((last, _))) = (gone.first_key_value(), gone.last_key_value()) else {
            return Ok(());
        };
        let mut groups = WrittenGroups::default();
        groups.extend(gone.values().flat_map(|term| term.groups.iter()));
        Ok(store.delete_namespaces(TERMS + first, TERMS + last, &groups.to_vec())?)
    }

    /// Deletes everything.
    pub fn clear(&mut self, store: &mut Store) -> Result<(), Error> {
        self.over.clear();
        self.over_count = 0;
        self.delete_before(i64::MAX, store)
    }

    /// Blocks with the sessions that are over, of those whose terms are still there. The first is numbered `number`; there are
    /// not more than sessions.
    pub fn take_obituaries(
        &mut self,
        number: u64,
        format: &RowFormat,
        reservation: Reservation,
    ) -> Result<Option<Blocks>, Error> {
        let over = std::mem::take(&mut self.over);
        self.over_count = 0;
        let Some(first) = self.terms.keys().next().copied() else {
            return Ok(None);
        };
        let mut numbers = Vec::new();
        let mut terms = Vec::new();
        let mut key_groups = Vec::new();
        for over in over {
            if over.terms.iter().all(|term| *term < first) {
                continue;
            }
            let groups = format.key_groups(&over.keys, over.numbers.len())?;
            for ((of, term), group) in over.numbers.iter().zip(over.terms).zip(groups) {
                if term >= first {
                    numbers.push(*of as i64);
                    terms.push(term);
                    key_groups.push(group);
                }
            }
        }
        if numbers.is_empty() {
            return Ok(None);
        }
        self.note(&terms, &key_groups);
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(numbers))];
        let encoding = Encoding::Obituaries(Arc::clone(&self.obituaries));
        Ok(Some(Blocks::new(
            encoding,
            columns,
            key_groups,
            terms,
            number,
            reservation,
        )))
    }

    /// Blocks with these versions. The first is numbered `number`; there are not more than versions.
    pub fn put(
        &mut self,
        versions: Versions,
        number: u64,
        format: &Arc<RowFormat>,
        reservation: Reservation,
    ) -> Blocks {
        self.note(&versions.terms, &versions.key_groups);
        let Versions {
            keys,
            values,
            key_groups,
            terms,
        } = versions;
        let encoding = Encoding::Versions {
            format: Arc::clone(format),
            key_columns: keys.len(),
        };
        let columns = keys.into_iter().chain(values).collect();
        Blocks::new(encoding, columns, key_groups, terms, number, reservation)
    }

    fn note(&mut self, terms: &[i64], key_groups: &[u16]) {
        let mut key_groups = key_groups.iter();
        for same in terms.chunk_by(|a, b| a == b) {
            let term = self.terms.entry(same[0]).or_default();
            term.versions += same.len();
            term.groups.extend(key_groups.by_ref().take(same.len()).copied());
        }
    }

    /// Reads a key group's terms: the newest version of each session that is not over, a block at a time.
    pub fn read(
        &mut self,
        store: &Store,
        group: KeyGroup,
        namespaces: &[i64],
        format: &RowFormat,
    ) -> Result<Vec<Found>, Error> {
        let mut blocks = Vec::new();
        // By session, the block with its newest version; `None`: it is over.
        let mut newest: HashMap<i64, Option<u64>> = HashMap::new();
        for namespace in namespaces.iter().copied() {
            let term = self.terms.entry(namespace - TERMS).or_default();
            term.groups.insert(group.0);
            scan(store, KeyPrefix { group, namespace }, |key, block| {
                let (number, is_obituary) = read_key(key)?;
                if is_obituary {
                    let (columns, rows) = self.obituaries.decode(block)?;
                    term.versions += rows;
                    let over = columns[0].as_primitive::<Int64Type>().values().iter();
                    newest.extend(over.map(|session| (*session, None)));
                    return Ok(());
                }
                let (keys, values, rows) = format.decode_block(block)?;
                term.versions += rows;
                for session in values[0].as_primitive::<Int64Type>().values() {
                    let found = newest.entry(*session).or_insert(Some(number));
                    *found = found.map(|found| found.max(number));
                }
                blocks.push((number, keys, values));
                Ok(())
            })?;
        }
        let mut found = Vec::new();
        for (number, keys, values) in blocks {
            let sessions = values[0].as_primitive::<Int64Type>().values().iter().enumerate();
            let rows: Vec<u32> = sessions
                .filter(|(_, session)| newest.get(session) == Some(&Some(number)))
                .map(|(row, _)| row as u32)
                .collect();
            if !rows.is_empty() {
                found.push(Found {
                    keys: take_rows(&keys, &rows)?,
                    values: take_rows(&values, &rows)?,
                });
            }
        }
        Ok(found)
    }
}

/// Sessions that were read.
pub struct Found {
    pub keys: Vec<ArrayRef>,
    /// As in [`Versions`].
    pub values: Vec<ArrayRef>,
}

/// Gives every block below this slot to `see`, in the order of their keys.
fn scan(store: &Store, slot: KeyPrefix, mut see: impl FnMut(&[u8], &[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let mut last = Vec::new();
        let mut seen = Ok(());
        let more = store.scan(slot, after.as_deref(), SCAN_BLOCKS, &mut |key, block| {
            last.clear();
            last.extend_from_slice(key);
            if seen.is_ok() {
                seen = see(key, block);
            }
        })?;
        seen?;
        if !more {
            return Ok(());
        }
        after = Some(last);
    }
}

/// The number of a block, and whether it is one of obituaries.
fn read_key(key: &[u8]) -> Result<(u64, bool), Error> {
    let read = key
        .split_first_chunk()
        .map(|(number, rest)| (u64::from_be_bytes(*number), rest));
    match read {
        Some((number, [])) => Ok((number, false)),
        Some((number, [OBITUARY])) => Ok((number, true)),
        _ => Err(millstream_state::Error::Corrupt(format!("a key of {} bytes among sessions awake", key.len())).into()),
    }
}

/// Blocks being written: by key group, then by term.
pub struct Blocks {
    encoding: Encoding,
    columns: Vec<ArrayRef>,
    key_groups: Vec<u16>,
    terms: Vec<i64>,
    /// Once it is known.
    order: Vec<u32>,
    next: usize,
    block_rows: usize,
    /// Of the next block.
    number: u64,
    /// Held until everything is written.
    _reservation: Reservation,
}

enum Encoding {
    Versions { format: Arc<RowFormat>, key_columns: usize },
    Obituaries(Arc<BlockCodec>),
}

impl Blocks {
    fn new(
        encoding: Encoding,
        columns: Vec<ArrayRef>,
        key_groups: Vec<u16>,
        terms: Vec<i64>,
        number: u64,
        mut reservation: Reservation,
    ) -> Self {
        let bytes: usize = columns.iter().map(|column| column.get_array_memory_size()).sum();
        reservation.force_resize(bytes + terms.len() * ORDER_BYTES);
        Self {
            encoding,
            block_rows: rows_per_block(bytes, terms.len()),
            columns,
            key_groups,
            terms,
            order: Vec::new(),
            next: 0,
            number,
            _reservation: reservation,
        }
    }

    fn sort(&mut self) {
        let (key_groups, terms) = (&self.key_groups, &self.terms);
        self.order = rows_by_key_group(key_groups);
        let same_group = |a: &u32, b: &u32| key_groups[*a as usize] == key_groups[*b as usize];
        for same in self.order.chunk_by_mut(same_group) {
            same.sort_by_key(|row| terms[*row as usize]);
        }
    }

    fn encode(&self, rows: &[u32], block: &mut Vec<u8>) -> Result<(), millstream_state::Error> {
        let columns = take_rows(&self.columns, rows)?;
        match &self.encoding {
            Encoding::Obituaries(codec) => codec.encode(&columns, rows.len(), block),
            Encoding::Versions { format, key_columns } => {
                let (keys, values) = columns.split_at(*key_columns);
                format.encode_block(keys, values, rows.len(), block)
            }
        }
    }
}

impl FlushSource for Blocks {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, millstream_state::Error> {
        if self.order.is_empty() {
            self.sort();
        }
        let mut chunk = WriteChunk::default();
        let mut block = Vec::new();
        while self.next < self.order.len() && chunk.bytes() < CHUNK_BYTES {
            let place_of = |row: u32| (self.key_groups[row as usize], self.terms[row as usize]);
            let rest = &self.order[self.next..];
            let (group, term) = place_of(rest[0]);
            let same = rest
                .iter()
                .take(self.block_rows)
                .take_while(|row| place_of(**row) == (group, term));
            let rows = &rest[..same.count()];
            block.clear();
            self.encode(rows, &mut block)?;
            let mut key = self.number.to_be_bytes().to_vec();
            if matches!(self.encoding, Encoding::Obituaries(_)) {
                key.push(OBITUARY);
            }
            let slot = KeyPrefix {
                group: KeyGroup(group),
                namespace: TERMS + term,
            };
            chunk.put(slot, &key, &block);
            self.next += rows.len();
            self.number += 1;
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}
