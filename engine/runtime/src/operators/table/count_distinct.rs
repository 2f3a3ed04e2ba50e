//! `COUNT(DISTINCT x)`, exactly.
//!
//! Values are numbered by a group index of their own; a second index holds the distinct (group, value number) pairs,
//! packed into one integer. A pair seen for the first time counts one for its group. The partial state is, as
//! DataFusion has it, the list of each group's values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow_select::filter::filter;

use super::groups::{GroupIndex, new_group_index};
use super::{Accumulator, AggregateSpec, Select};
use crate::Error;

/// Distinct values per group.
pub struct CountDistinct {
    /// The list's item field, as the state schema has it.
    item: FieldRef,
    values: Box<dyn GroupIndex>,
    /// `group << 32 | value number`, in order of first appearance.
    pairs: Box<dyn GroupIndex>,
    counts: Vec<i64>,
    /// Value numbers sorted by group, while no update has come since they were asked for.
    by_group: Option<ByGroup>,
}

struct ByGroup {
    /// Start of each group's values in `values`, and the end of the last.
    starts: Vec<usize>,
    values: Vec<u32>,
}

fn pair_index() -> Result<Box<dyn GroupIndex>, Error> {
    new_group_index(&[Arc::new(Field::new("pair", DataType::Int64, false))])
}

impl CountDistinct {
    /// `None` if the state is not a list of values.
    pub fn for_call(spec: &AggregateSpec) -> Result<Option<Box<dyn Accumulator>>, Error> {
        let [state] = spec.state_fields.as_slice() else {
            return Ok(None);
        };
        let DataType::List(item) = state.data_type() else {
            return Ok(None);
        };
        if item.data_type().is_nested() || item.data_type().is_floating() {
            return Ok(None);
        }
        Ok(Some(Box::new(Self {
            values: new_group_index(std::slice::from_ref(item))?,
            item: Arc::clone(item),
            pairs: pair_index()?,
            counts: Vec::new(),
            by_group: None,
        })))
    }

    /// Takes values without NULLs.
    fn insert(&mut self, values: &ArrayRef, groups: &[u32], group_count: usize) -> Result<(), Error> {
        self.by_group = None;
        self.counts.resize(group_count, 0);
        let mut numbers = Vec::new();
        self.values
            .intern(std::slice::from_ref(values), values.len(), &mut numbers)?;
        let packed: ArrayRef =
            Arc::new(Int64Array::from_iter_values(groups.iter().zip(&numbers).map(
                |(group, number)| ((u64::from(*group) << 32) | u64::from(*number)) as i64,
            )));
        let mut next = self.pairs.len() as u32;
        self.pairs.intern(&[packed], values.len(), &mut numbers)?;
        for (pair, group) in numbers.iter().zip(groups) {
            if *pair == next {
                next += 1;
                self.counts[*group as usize] += 1;
            }
        }
        Ok(())
    }

    fn by_group(&mut self) -> Result<&ByGroup, Error> {
        if self.by_group.is_none() {
            let mut starts = Vec::with_capacity(self.counts.len() + 1);
            let mut total = 0;
            starts.push(0);
            for count in &self.counts {
                total += *count as usize;
                starts.push(total);
            }
            let mut next = starts.clone();
            let mut values = vec![0; total];
            let pairs = self.pairs.keys(&Select::Range(0..self.pairs.len()))?;
            for pair in pairs[0].as_primitive::<arrow::datatypes::Int64Type>().values() {
                let place = &mut next[(*pair as u64 >> 32) as usize];
                values[*place] = *pair as u32;
                *place += 1;
            }
            self.by_group = Some(ByGroup { starts, values });
        }
        Ok(self.by_group.as_ref().expect("filled above"))
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
        let by_group = self.by_group()?;
        let mut numbers = Vec::new();
        let mut lengths = Vec::with_capacity(select.len());
        for group in select.iter() {
            let range = by_group.starts[group as usize]..by_group.starts[group as usize + 1];
            lengths.push(range.len());
            numbers.extend_from_slice(&by_group.values[range]);
        }
        let values = self.values.keys(&Select::Indices(&numbers))?.remove(0);
        Ok(vec![Arc::new(ListArray::try_new(
            Arc::clone(&self.item),
            OffsetBuffer::from_lengths(lengths),
            values,
            None,
        )?)])
    }

    fn evaluate(&mut self, select: &Select<'_>) -> Result<ArrayRef, Error> {
        Ok(Arc::new(Int64Array::from(select.gather(&self.counts))))
    }

    fn size(&self) -> usize {
        let by_group = self.by_group.as_ref().map_or(0, |by_group| {
            by_group.starts.capacity() * size_of::<usize>() + by_group.values.capacity() * size_of::<u32>()
        });
        self.values.size() + self.pairs.size() + self.counts.capacity() * size_of::<i64>() + by_group
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.values.clear();
        self.pairs.clear();
        self.counts.clear();
        self.by_group = None;
        Ok(())
    }
}
