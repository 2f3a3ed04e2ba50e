//! `COUNT(DISTINCT x)`, exactly.
//!
//! A [`DistinctSet`] contains the distinct pairs of group and value; inserting a new pair increments the count of its
//! group. A pair is one integer: the group, and a code of the value. Integers below 2^32 are their own codes; other
//! values are numbered by an index. The partial state is DataFusion's, a list of the values of each group. Lists are
//! built only when they are read; a snapshot at a barrier shares the pairs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use arrow_select::filter::filter;
use arrow_select::take::take;

use super::distinct_set::{DistinctList, DistinctSet};
use super::group_index::{GroupIndex, new_group_index, vec_growth};
use super::integers::{from_integers, integer_values, integer_width};
use super::state_snapshot::StateSnapshot;
use super::{Accumulator, AggregateSpec, Select};
use crate::Error;

/// Bits of a value's code; the group is above them.
const CODE_BITS: u32 = 33;
/// The bit that is set in codes that are numbers of the index.
const NUMBERED: u64 = 1 << 32;
/// Maximum number of groups of a table.
const GROUPS_MAX: usize = (1 << (u64::BITS - CODE_BITS)) - 1;

/// The accumulator of `COUNT(DISTINCT x)`.
pub(super) struct CountDistinct {
    /// Item field of the list in the state schema.
    item: FieldRef,
    /// Index of the values that are not their own codes.
    values: Box<dyn GroupIndex>,
    pairs: DistinctSet,
    counts: Vec<i64>,
    /// Pairs sorted by group, if they were needed and there was no update since.
    by_group: Option<ByGroup>,
    codes: Vec<u64>,
    numbers: Vec<u32>,
}

impl CountDistinct {
    /// Makes the accumulator of a call, or returns `None` if its state is not a list of values that this one supports.
    pub(super) fn for_call(spec: &AggregateSpec) -> Result<Option<Box<dyn Accumulator>>, Error> {
        let [state] = spec.state_fields.as_slice() else {
            return Ok(None);
        };
        let DataType::List(item) = state.data_type() else {
            return Ok(None);
        };
        if item.data_type().is_nested() || item.data_type().is_floating() {
            return Ok(None);
        }
        Ok(Some(Box::new(Self::of(item)?)))
    }

    fn of(item: &FieldRef) -> Result<Self, Error> {
        let indexed = match integer_width(item.data_type()) {
            Some(_) => Arc::new(Field::new("value", DataType::Int64, false)),
            None => Arc::clone(item),
        };
        Ok(Self {
            values: new_group_index(&[indexed])?,
            item: Arc::clone(item),
            pairs: DistinctSet::default(),
            counts: Vec::new(),
            by_group: None,
            codes: Vec::new(),
            numbers: Vec::new(),
        })
    }

    /// Replaces `codes` by those of values. There are no NULLs.
    fn encode(&mut self, values: &ArrayRef) -> Result<(), Error> {
        self.codes.clear();
        let Some(width) = integer_width(self.item.data_type()) else {
            self.values
                .intern(std::slice::from_ref(values), values.len(), &mut self.numbers)?;
            let numbers = self.numbers.iter().map(|number| NUMBERED | u64::from(*number));
            self.codes.extend(numbers);
            return Ok(());
        };
        let integers = integer_values(values, width);
        let mut large = Vec::new();
        self.codes.extend(integers.iter().enumerate().map(|(row, value)| {
            if *value as u64 >= NUMBERED {
                large.push(row);
            }
            *value as u64
        }));
        if !large.is_empty() {
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(large.iter().map(|row| integers[*row])));
            self.values.intern(&[values], large.len(), &mut self.numbers)?;
            for (row, number) in large.iter().zip(&self.numbers) {
                self.codes[*row] = NUMBERED | u64::from(*number);
            }
        }
        Ok(())
    }

    /// Inserts values. There are no NULLs.
    fn insert(&mut self, values: &ArrayRef, groups: &[u32], group_count: usize) -> Result<(), Error> {
        if group_count > GROUPS_MAX {
            return Err(Error::Operator {
                operator: "COUNT(DISTINCT)".to_owned(),
                message: format!("a window has more than {GROUPS_MAX} groups in one task; raise the parallelism"),
            });
        }
        self.by_group = None;
        self.counts.resize(group_count, 0);
        self.encode(values)?;
        for (groups, codes) in groups.chunks(INSERT_STEP).zip(self.codes.chunks(INSERT_STEP)) {
            self.pairs.reserve(groups.len());
            for (group, code) in groups.iter().zip(codes) {
                let is_new = self.pairs.insert((u64::from(*group) << CODE_BITS) | code);
                self.counts[*group as usize] += i64::from(is_new);
            }
        }
        Ok(())
    }

    /// Returns the values that are numbered by the index.
    fn numbered(&self) -> Result<ArrayRef, Error> {
        Ok(self.values.keys(&Select::Range(0..self.values.len()))?.remove(0))
    }
}

/// Number of rows between two reservations of slots, so that the set does not grow by a whole batch of equal pairs.
const INSERT_STEP: usize = 1024;

/// Pairs sorted by group.
struct ByGroup {
    /// Start of the pairs of each group in `pairs`, and the end of the last.
    starts: Vec<usize>,
    pairs: Vec<u64>,
    numbered: ArrayRef,
}

impl ByGroup {
    fn of(list: &DistinctList, counts: &[i64], numbered: ArrayRef) -> Self {
        let mut starts = Vec::with_capacity(counts.len() + 1);
        let mut total = 0;
        starts.push(0);
        for count in counts {
            total += *count as usize;
            starts.push(total);
        }
        let mut next = starts.clone();
        let mut pairs = vec![0; total];
        for pair in list.iter() {
            let place = &mut next[(pair >> CODE_BITS) as usize];
            pairs[*place] = pair;
            *place += 1;
        }
        Self {
            starts,
            pairs,
            numbered,
        }
    }

    /// Returns the values of some groups, as lists.
    fn lists(&self, groups: impl Iterator<Item = u32>, item: &FieldRef) -> Result<ArrayRef, Error> {
        let mut codes = Vec::new();
        let mut lengths = Vec::new();
        for group in groups {
            let range = self.starts[group as usize]..self.starts[group as usize + 1];
            lengths.push(range.len());
            codes.extend_from_slice(&self.pairs[range]);
        }
        let values = match integer_width(item.data_type()) {
            Some(_) => {
                let numbered = self.numbered.as_primitive::<Int64Type>().values();
                let value_of = |pair: u64| match pair & NUMBERED {
                    0 => i64::from(pair as u32),
                    _ => numbered[pair as u32 as usize],
                };
                from_integers(item.data_type(), codes.into_iter().map(value_of).collect(), None)?
            }
            None => {
                let numbers = UInt32Array::from_iter_values(codes.into_iter().map(|pair| pair as u32));
                take(&self.numbered, &numbers, None)?
            }
        };
        Ok(Arc::new(ListArray::try_new(
            Arc::clone(item),
            OffsetBuffer::from_lengths(lengths),
            values,
            None,
        )?))
    }

    fn size(&self) -> usize {
        self.starts.capacity() * size_of::<usize>()
            + self.pairs.capacity() * size_of::<u64>()
            + self.numbered.get_array_memory_size()
    }
}

/// A snapshot of the pairs.
struct DistinctSnapshot {
    item: FieldRef,
    list: DistinctList,
    counts: Vec<i64>,
    numbered: ArrayRef,
    /// The selected groups; `None` for all.
    groups: Option<Vec<u32>>,
    by_group: Option<ByGroup>,
}

impl StateSnapshot for DistinctSnapshot {
    fn read(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        let by_group = match &mut self.by_group {
            Some(by_group) => by_group,
            None => {
                let by_group = ByGroup::of(&self.list, &self.counts, Arc::clone(&self.numbered));
                // The list is not needed any more.
                self.list = DistinctList::default();
                self.by_group.insert(by_group)
            }
        };
        let groups = select.iter().map(|row| match &self.groups {
            Some(groups) => groups[row as usize],
            None => row,
        });
        Ok(vec![by_group.lists(groups, &self.item)?])
    }

    fn size(&self) -> usize {
        let groups = self
            .groups
            .as_ref()
            .map_or(0, |groups| groups.capacity() * size_of::<u32>());
        match &self.by_group {
            Some(by_group) => by_group.size() + groups,
            None => self.list.size() + self.counts.capacity() * size_of::<i64>() + groups,
        }
    }
}

impl Accumulator for CountDistinct {
    fn update(
        &mut self,
        values: &[ArrayRef],
        condition: Option<&BooleanArray>,
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), Error> {
        let array = if values[0].data_type() == self.item.data_type() {
            Arc::clone(&values[0])
        } else {
            arrow::compute::cast(&values[0], self.item.data_type())?
        };
        if array.null_count() == 0 && condition.is_none() {
            return self.insert(&array, groups, group_count);
        }
        let keep: Vec<bool> = (0..array.len())
            .map(|row| {
                array.is_valid(row) && condition.is_none_or(|condition| condition.is_valid(row) && condition.value(row))
            })
            .collect();
        let kept_groups: Vec<u32> = groups
            .iter()
            .zip(&keep)
            .filter(|(_, keep)| **keep)
            .map(|(group, _)| *group)
            .collect();
        let kept = filter(&array, &BooleanArray::from(keep))?;
        self.insert(&kept, &kept_groups, group_count)
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[u32], group_count: usize) -> Result<(), Error> {
        let lists = states[0].as_list::<i32>();
        let offsets = lists.value_offsets();
        let mut repeated = Vec::with_capacity(lists.values().len());
        for (row, group) in groups.iter().enumerate() {
            repeated.resize(repeated.len() + (offsets[row + 1] - offsets[row]) as usize, *group);
        }
        let (first, last) = (offsets[0] as usize, offsets[groups.len()] as usize);
        let values = lists.values().slice(first, last - first);
        self.update(&[values], None, &repeated, group_count)
    }

    fn state(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        if self.by_group.is_none() {
            self.by_group = Some(ByGroup::of(self.pairs.list(), &self.counts, self.numbered()?));
        }
        let by_group = self.by_group.as_ref().expect("made above");
        Ok(vec![by_group.lists(select.iter(), &self.item)?])
    }

    fn snapshot(&mut self, select: &Select<'_>) -> Result<Box<dyn StateSnapshot>, Error> {
        let groups = match select {
            Select::Range(range) if *range == (0..self.counts.len()) => None,
            some => Some(some.iter().collect()),
        };
        Ok(Box::new(DistinctSnapshot {
            item: Arc::clone(&self.item),
            list: self.pairs.list().clone(),
            counts: self.counts.clone(),
            numbered: self.numbered()?,
            groups,
            by_group: None,
        }))
    }

    fn evaluate(&mut self, select: &Select<'_>) -> Result<ArrayRef, Error> {
        Ok(Arc::new(Int64Array::from(select.gather(&self.counts))))
    }

    fn size(&self) -> usize {
        let scratch = self.codes.capacity() * size_of::<u64>() + self.numbers.capacity() * size_of::<u32>();
        self.values.size()
            + self.pairs.size()
            + self.counts.capacity() * size_of::<i64>()
            + self.by_group.as_ref().map_or(0, ByGroup::size)
            + scratch
    }

    fn growth(&self, groups: usize) -> usize {
        // Assumes that each new group has one new value.
        self.pairs.growth(groups) + self.values.growth(groups) + vec_growth(&self.counts, groups)
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.values.clear();
        self.pairs.clear();
        self.counts.clear();
        self.by_group = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
