//! Functions of all values of a group, which can take values back: `ARRAY_AGG`, `LISTAGG`, and `FIRST_VALUE` and
//! `LAST_VALUE` without `ORDER BY`.
//!
//! Cells: the values in the order of their arrival or of `ORDER BY`, and those that were taken back before they
//! arrived. As in Flink, the earliest of several equal values is taken back first.

use std::collections::{BTreeMap, HashMap, VecDeque};

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use millstream_state::keyed::Table;

use super::function::{Function, Rows};
use crate::Error;
use crate::operators::byte_list::{decode, encode};
use crate::operators::collection::Collection;

const KEPT: usize = 0;
const OWED: usize = 1;
/// Most bytes of the values of one group.
const COLLECTED_BYTES_MAX: usize = 64 << 20;

/// A function of all values.
pub(super) struct Collected {
    pub collection: Collection,
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
        let (encoded, nulls) = self.collection.entries(arguments)?;
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
            let (kept, owed) = entries.cells(self.collection.is_ordered);
            if kept.len() + owed.len() > COLLECTED_BYTES_MAX {
                return Err(Error::Operator {
                    operator: self.collection.name.clone(),
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
        let groups: Vec<Vec<&[u8]>> = slots
            .iter()
            .map(|slot| decode(table.bytes(*slot, first + KEPT)))
            .collect();
        self.collection.results(&groups)
    }

    fn is_zero(&self, table: &Table, first: usize, slot: u32) -> bool {
        table.bytes(slot, first + KEPT).is_empty() && table.bytes(slot, first + OWED).is_empty()
    }
}
