//! Functions of all values of a group, which can take values back: `ARRAY_AGG`, `LISTAGG`, and `FIRST_VALUE` and
//! `LAST_VALUE` without `ORDER BY`.
//!
//! Cells: the values in the order of their arrival or of `ORDER BY`, and those that were taken back before they arrived.
//! As in Flink, the earliest of several equal values is taken back first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, FieldRef};
use millstream_state::Codec;
use millstream_state::keyed::Table;

use super::byte_list::{decode, encode};
use super::function::{Function, Rows, in_type};
use crate::Error;

const KEPT: usize = 0;
const OWED: usize = 1;
/// Most bytes of the values of one group.
const COLLECTED_BYTES_MAX: usize = 64 << 20;

/// Result of a [`Collected`].
pub(super) enum Collection {
    First,
    Last,
    /// An array with this field of elements.
    Array(FieldRef),
    /// Strings with a separator between them.
    Text(String),
}

/// A function of all values.
pub(super) struct Collected {
    pub name: String,
    pub collection: Collection,
    pub value: DataType,
    pub result: DataType,
    /// True if the last argument is a sort key.
    pub is_ordered: bool,
    pub ignores_nulls: bool,
}

impl Collected {
    /// Returns the encoding of a value, preceded by its sort key if there is one. Equal values have equal bytes.
    fn codec(&self) -> Result<Codec, Error> {
        let key = self.is_ordered.then_some(DataType::Binary);
        let types: Vec<DataType> = key.into_iter().chain([self.value.clone()]).collect();
        Ok(Codec::keys(&types)?)
    }

    /// Returns the values of encoded entries.
    fn values(&self, entries: Vec<&[u8]>) -> Result<ArrayRef, Error> {
        let mut columns = self.codec()?.decode(entries)?;
        columns.pop().ok_or_else(|| Error::Operator {
            operator: self.name.clone(),
            message: "an entry has no value".to_owned(),
        })
    }
}

/// The entries of a group during an update.
struct Entries<'a> {
    /// `None` where an entry was taken back.
    kept: Vec<Option<&'a [u8]>>,
    owed: BTreeMap<&'a [u8], usize>,
    /// Places of the kept entries, once one is taken back.
    places: Option<HashMap<&'a [u8], VecDeque<usize>, ahash::RandomState>>,
}

impl<'a> Entries<'a> {
    fn new(kept: &'a [u8], owed: &'a [u8]) -> Self {
        let mut entries = Self {
            kept: decode(kept).into_iter().map(Some).collect(),
            owed: BTreeMap::new(),
            places: None,
        };
        for entry in decode(owed) {
            *entries.owed.entry(entry).or_default() += 1;
        }
        entries
    }

    fn add(&mut self, entry: &'a [u8]) {
        if let Some(count) = self.owed.get_mut(entry) {
            *count -= 1;
            if *count == 0 {
                self.owed.remove(entry);
            }
            return;
        }
        if let Some(places) = &mut self.places {
            places.entry(entry).or_default().push_back(self.kept.len());
        }
        self.kept.push(Some(entry));
    }

    fn take_back(&mut self, entry: &'a [u8]) {
        let kept = &mut self.kept;
        let places = self.places.get_or_insert_with(|| {
            let mut places: HashMap<_, VecDeque<usize>, _> = HashMap::default();
            for (place, entry) in kept.iter().enumerate() {
                if let Some(entry) = entry {
                    places.entry(*entry).or_default().push_back(place);
                }
            }
            places
        });
        match places.get_mut(entry).and_then(VecDeque::pop_front) {
            Some(place) => kept[place] = None,
            None => *self.owed.entry(entry).or_default() += 1,
        }
    }

    /// Returns the cells of the kept entries and of those that are owed.
    fn cells(&self, is_ordered: bool) -> (Vec<u8>, Vec<u8>) {
        let mut kept: Vec<&[u8]> = self.kept.iter().flatten().copied().collect();
        if is_ordered {
            kept.sort();
        }
        let owed = self
            .owed
            .iter()
            .flat_map(|(entry, count)| std::iter::repeat_n(*entry, *count));
        (encode(kept), encode(owed))
    }
}

impl Function for Collected {
    fn value_types(&self) -> Vec<DataType> {
        vec![DataType::Binary, DataType::Binary]
    }

    fn update(
        &mut self,
        arguments: &[ArrayRef],
        rows: &Rows<'_>,
        ordinals: &[u32],
        table: &mut Table,
        first: usize,
    ) -> Result<(), Error> {
        let values = in_type(&arguments[0], &self.value)?;
        let nulls = self.ignores_nulls.then(|| values.logical_nulls()).flatten();
        let key = arguments.last().filter(|_| self.is_ordered).cloned();
        let columns: Vec<ArrayRef> = key.into_iter().chain([values]).collect();
        let encoded = self.codec()?.encode(&columns)?;
        let mut changes: Vec<Vec<(usize, bool)>> = vec![Vec::new(); rows.distinct.len()];
        rows.for_each(nulls.as_ref(), |row, slot, weight| {
            changes[ordinals[slot as usize] as usize].push((row, weight > 0));
        });
        for (slot, changes) in rows.distinct.iter().zip(&changes) {
            if changes.is_empty() {
                continue;
            }
            let mut entries = Entries::new(table.bytes(*slot, first + KEPT), table.bytes(*slot, first + OWED));
            for (row, is_added) in changes {
                match is_added {
                    true => entries.add(encoded.row(*row)),
                    false => entries.take_back(encoded.row(*row)),
                }
            }
            let (kept, owed) = entries.cells(self.is_ordered);
            if kept.len() + owed.len() > COLLECTED_BYTES_MAX {
                return Err(Error::Operator {
                    operator: self.name.clone(),
                    message: format!(
                        "the values of one group have more than {COLLECTED_BYTES_MAX} bytes (COLLECTED_BYTES_MAX); \
                         group by more columns, or select fewer rows with FILTER"
                    ),
                });
            }
            table.set_bytes(*slot, first + KEPT, &kept);
            table.set_bytes(*slot, first + OWED, &owed);
        }
        Ok(())
    }

    fn evaluate(&mut self, table: &Table, first: usize, slots: &[u32]) -> Result<ArrayRef, Error> {
        // The encoding of NULL, with a sort key that is NULL or without one.
        let null: &[u8] = if self.is_ordered { &[0, 0] } else { &[0] };
        let entries = slots.iter().map(|slot| decode(table.bytes(*slot, first + KEPT)));
        match &self.collection {
            Collection::First => self.values(
                entries
                    .map(|entries| entries.first().copied().unwrap_or(null))
                    .collect(),
            ),
            Collection::Last => self.values(entries.map(|entries| entries.last().copied().unwrap_or(null)).collect()),
            Collection::Array(field) => {
                let entries: Vec<Vec<&[u8]>> = entries.collect();
                let lengths = OffsetBuffer::from_lengths(entries.iter().map(Vec::len));
                let present: Vec<bool> = entries.iter().map(|entries| !entries.is_empty()).collect();
                let values = self.values(entries.into_iter().flatten().collect())?;
                let nulls = Some(NullBuffer::from(present));
                Ok(Arc::new(ListArray::try_new(Arc::clone(field), lengths, values, nulls)?))
            }
            Collection::Text(separator) => {
                let entries: Vec<Vec<&[u8]>> = entries.collect();
                let lengths: Vec<usize> = entries.iter().map(Vec::len).collect();
                let values = self.values(entries.into_iter().flatten().collect())?;
                let values = in_type(&values, &DataType::Utf8)?;
                let mut values = values.as_string::<i32>().iter().flatten();
                let texts = lengths.into_iter().map(|length| {
                    let parts: Vec<&str> = values.by_ref().take(length).collect();
                    (length > 0).then(|| parts.join(separator))
                });
                let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
                in_type(&texts, &self.result)
            }
        }
    }

    fn is_zero(&self, table: &Table, first: usize, slot: u32) -> bool {
        table.bytes(slot, first + KEPT).is_empty() && table.bytes(slot, first + OWED).is_empty()
    }
}
