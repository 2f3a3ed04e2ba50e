//! Adapter for all aggregates of DataFusion that have no accumulator of our own.
//!
//! DataFusion's group accumulators are consumed by reading, all groups at once. So only recently updated groups are in
//! one (they are *live*); the partial states of all others are *settled*: rows of Arrow arrays, which can be read any
//! number of times. An update makes a group live, beginning with an empty state. Before anything is read, and when the
//! live accumulator has grown large, it is settled: its state of each group is merged with the settled one and replaces
//! that. So the cost of reading some groups, such as those changed at a barrier, does not depend on the size of the
//! others.
//!
//! Settled states are in segments of bounded size ([`SettledStates`]). Sparse segments are rewritten, a bounded amount
//! at a time. Functions without a group accumulator run one row-wise accumulator per group.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Decimal128Type};
use arrow_select::interleave::interleave;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::{Accumulator, Select};
use crate::Error;

/// Bytes of the live accumulator above which it is settled: enough to amortise the cost, and few enough for a short
/// pause.
const LIVE_BYTES_MAX: usize = 32 << 20;
/// Number of segments above which small ones are merged.
const SEGMENTS_MAX: usize = 64;

/// An accumulator of DataFusion.
pub(super) struct DataFusionAccumulator {
    function: Arc<AggregateFunctionExpr>,
    /// Accumulator of the groups in `touched`, in that order.
    live: Box<dyn GroupsAccumulator>,
    live_bytes_max: usize,
    /// The live groups.
    touched: Vec<u32>,
    /// By group: its index in `touched`, or `SETTLED`.
    live_of: Vec<u32>,
    settled: SettledStates,
    indices: Vec<usize>,
}

const SETTLED: u32 = u32::MAX;

impl DataFusionAccumulator {
    pub(super) fn new(function: Arc<AggregateFunctionExpr>) -> Result<Self, Error> {
        Ok(Self {
            live: make(&function)?,
            live_bytes_max: LIVE_BYTES_MAX,
            function,
            touched: Vec::new(),
            live_of: Vec::new(),
            settled: SettledStates::default(),
            indices: Vec::new(),
        })
    }

    /// Makes the groups of rows live. Returns the index in `touched` of each row's group.
    fn touch(&mut self, groups: &[u32], group_count: usize) -> Vec<usize> {
        // New groups without a row become live too, because they must have a state.
        for group in self.live_of.len()..group_count {
            self.live_of.push(self.touched.len() as u32);
            self.touched.push(group as u32);
        }
        let mut indices = std::mem::take(&mut self.indices);
        indices.clear();
        indices.extend(groups.iter().map(|group| {
            let live = &mut self.live_of[*group as usize];
            if *live == SETTLED {
                *live = self.touched.len() as u32;
                self.touched.push(*group);
            }
            *live as usize
        }));
        indices
    }

    /// Keeps `indices` as scratch, and settles the live accumulator if it has grown large.
    fn touched(&mut self, indices: Vec<usize>) -> Result<(), Error> {
        self.indices = indices;
        if self.live.size() > self.live_bytes_max {
            self.settle()?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Error> {
        if self.touched.is_empty() {
            return Ok(());
        }
        let touched = std::mem::take(&mut self.touched);
        let mut states = self.live.state(EmitTo::All)?;
        self.live = make(&self.function)?;
        for group in &touched {
            self.live_of[*group as usize] = SETTLED;
        }
        let (indices, former): (Vec<usize>, Vec<u32>) = touched
            .iter()
            .enumerate()
            .filter(|(_, group)| self.settled.has(**group))
            .map(|(at, group)| (at, *group))
            .unzip();
        if !former.is_empty() {
            // The former states are merged first: some functions depend on the order.
            let mut merged = make(&self.function)?;
            let former = self.settled.read(&Select::Indices(&former))?;
            merged.merge_batch(&former, &indices, touched.len())?;
            merged.merge_batch(&states, &all(touched.len()), touched.len())?;
            states = merged.state(EmitTo::All)?;
        }
        self.settled.put(states, touched);
        self.settled.compact(self.live_bytes_max)
    }
}

fn make(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>, Error> {
    if function.groups_accumulator_supported() {
        return Ok(function.create_groups_accumulator()?);
    }
    let function = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || {
        function.create_accumulator()
    })))
}

fn all(groups: usize) -> Vec<usize> {
    (0..groups).collect()
}

impl Accumulator for DataFusionAccumulator {
    fn update(
        &mut self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), Error> {
        let indices = self.touch(groups, group_count);
        self.live.update_batch(values, &indices, filter, self.touched.len())?;
        self.touched(indices)
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[u32], group_count: usize) -> Result<(), Error> {
        let indices = self.touch(groups, group_count);
        self.live.merge_batch(states, &indices, self.touched.len())?;
        self.touched(indices)
    }

    fn state(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        self.settle()?;
        if select.len() == 0 {
            return Ok(make(&self.function)?.state(EmitTo::All)?);
        }
        self.settled.read(select)
    }

    fn evaluate(&mut self, select: &Select<'_>) -> Result<ArrayRef, Error> {
        let states = self.state(select)?;
        let mut reader = make(&self.function)?;
        reader.merge_batch(&states, &all(select.len()), select.len())?;
        let results = reader.evaluate(EmitTo::All)?;
        // A sum of decimals that has more digits than its type is NULL.
        Ok(match results.data_type() {
            DataType::Decimal128(precision, _) => {
                let decimals = results.as_primitive::<Decimal128Type>();
                let checked = decimals.null_if_overflow_precision(*precision);
                Arc::new(checked.with_data_type(results.data_type().clone()))
            }
            _ => results,
        })
    }

    fn size(&self) -> usize {
        let groups = (self.touched.capacity() + self.live_of.capacity()) * size_of::<u32>();
        self.live.size() + groups + self.settled.size()
    }

    fn growth(&self, groups: usize) -> usize {
        // Assumes that new groups are as large as the present ones on average.
        self.size() / self.live_of.len().max(1) * groups
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.live = make(&self.function)?;
        self.touched.clear();
        self.live_of.clear();
        self.settled = SettledStates::default();
        Ok(())
    }
}

/// Partial states of groups, in immutable segments.
#[derive(Default)]
struct SettledStates {
    /// `None` for unused numbers.
    segments: Vec<Option<Segment>>,
    /// Location of the state by group.
    locations: Vec<StateLocation>,
    bytes: usize,
}

struct Segment {
    states: Vec<ArrayRef>,
    /// Group of each row.
    groups: Vec<u32>,
    /// Number of rows that were not replaced by newer ones.
    in_use: usize,
    bytes: usize,
}

/// The location of a group's state.
#[derive(Clone, Copy, PartialEq, Eq)]
struct StateLocation {
    segment: u32,
    row: u32,
}

const NO_LOCATION: StateLocation = StateLocation {
    segment: u32::MAX,
    row: u32::MAX,
};

impl SettledStates {
    fn has(&self, group: u32) -> bool {
        self.locations
            .get(group as usize)
            .is_some_and(|location| *location != NO_LOCATION)
    }

    /// Adds a segment with the states of some groups, which replace the former ones.
    fn put(&mut self, states: Vec<ArrayRef>, groups: Vec<u32>) {
        let number = match self.segments.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.segments.push(None);
                self.segments.len() - 1
            }
        };
        let count = groups.iter().max().map_or(0, |group| *group as usize + 1);
        if self.locations.len() < count {
            self.locations.resize(count, NO_LOCATION);
        }
        for (row, group) in groups.iter().enumerate() {
            let location = StateLocation {
                segment: number as u32,
                row: row as u32,
            };
            let former = std::mem::replace(&mut self.locations[*group as usize], location);
            if former == NO_LOCATION {
                continue;
            }
            let segment = &mut self.segments[former.segment as usize];
            if let Some(left) = segment {
                left.in_use -= 1;
                if left.in_use == 0 {
                    self.bytes -= left.bytes;
                    *segment = None;
                }
            }
        }
        let arrays: usize = states.iter().map(|array| array.get_array_memory_size()).sum();
        let bytes = arrays + groups.capacity() * size_of::<u32>();
        self.bytes += bytes;
        self.segments[number] = Some(Segment {
            states,
            in_use: groups.len(),
            groups,
            bytes,
        });
    }

    /// Rewrites sparse segments, and small ones if there are many, up to about `bytes_max` bytes.
    fn compact(&mut self, bytes_max: usize) -> Result<(), Error> {
        let is_many = self.segments.iter().flatten().count() > SEGMENTS_MAX;
        let mut groups = Vec::new();
        let mut bytes = 0;
        for (number, segment) in self.segments.iter().enumerate() {
            let Some(segment) = segment else {
                continue;
            };
            let is_sparse = segment.in_use * 2 < segment.groups.len();
            let is_small = is_many && segment.bytes * 2 < bytes_max;
            if !(is_sparse || is_small) {
                continue;
            }
            let used = segment.groups.iter().enumerate().filter(|(row, group)| {
                let location = self.locations[**group as usize];
                (location.segment as usize, location.row as usize) == (number, *row)
            });
            groups.extend(used.map(|(_, group)| *group));
            bytes += segment.bytes / segment.groups.len().max(1) * segment.in_use;
            if bytes > bytes_max {
                break;
            }
        }
        if !groups.is_empty() {
            let states = self.read(&Select::Indices(&groups))?;
            self.put(states, groups);
        }
        Ok(())
    }

    /// Returns the states of some groups, all of which must have one.
    fn read(&self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        let locations: Vec<StateLocation> = select.iter().map(|group| self.locations[group as usize]).collect();
        let segments: Vec<Option<&Segment>> = self.segments.iter().map(Option::as_ref).collect();
        let first = locations
            .first()
            .copied()
            .unwrap_or(StateLocation { segment: 0, row: 0 });
        let is_run = |(at, location): (usize, &StateLocation)| {
            location.segment == first.segment && location.row == first.row + at as u32
        };
        if let Some(Some(segment)) = segments.get(first.segment as usize)
            && locations.iter().enumerate().all(is_run)
        {
            let columns = segment.states.iter();
            return Ok(columns
                .map(|column| column.slice(first.row as usize, locations.len()))
                .collect());
        }
        // `interleave` needs the present segments without gaps.
        let mut order = vec![0; segments.len()];
        let mut present = Vec::new();
        for (number, segment) in segments.iter().enumerate() {
            if let Some(segment) = segment {
                order[number] = present.len();
                present.push(*segment);
            }
        }
        let rows: Vec<(usize, usize)> = locations
            .iter()
            .map(|location| (order[location.segment as usize], location.row as usize))
            .collect();
        let width = present.first().map_or(0, |segment| segment.states.len());
        (0..width)
            .map(|column| {
                let arrays: Vec<&dyn Array> = present.iter().map(|segment| segment.states[column].as_ref()).collect();
                Ok(interleave(&arrays, &rows)?)
            })
            .collect()
    }

    fn size(&self) -> usize {
        self.bytes + self.locations.capacity() * size_of::<StateLocation>()
    }
}

#[cfg(test)]
mod tests;
