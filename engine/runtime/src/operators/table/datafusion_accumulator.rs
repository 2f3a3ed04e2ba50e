//! Every aggregate that DataFusion has and we do not: its accumulator, made readable without being consumed.
//!
//! DataFusion's group accumulators give up what they emit, all at once. So only groups that were touched lately live in
//! one; the others are *settled*: their partial states are rows of Arrow arrays, of which any may be read any number of
//! times. A group that is touched begins anew in the live accumulator. Before anything is read, and whenever the live
//! accumulator has grown large, it is settled: what it has of each group is merged with the group's former state, which
//! the new one replaces. So reading some groups, at a barrier those that changed, costs what these groups hold, however
//! large the rest is.
//!
//! Settled states lie in segments of bounded size ([`Settled`]); those of which little is still in use are rewritten, a
//! bounded amount at a time. Functions without a group accumulator run one row-wise accumulator per group.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Decimal128Type};
use arrow_select::interleave::interleave;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::{Accumulator, Select};
use crate::Error;

/// Bytes of the live accumulator from which on it is settled: so much that it pays, so little that it takes but a
/// moment.
const LIVE_BYTES_MAX: usize = 32 << 20;
/// More segments than this are made fewer, if there are small ones among them.
const SEGMENTS_MAX: usize = 64;

/// An aggregate computed by DataFusion.
pub struct DataFusionAccumulator {
    function: Arc<AggregateFunctionExpr>,
    /// Of `touched`, in that order.
    live: Box<dyn GroupsAccumulator>,
    live_bytes_max: usize,
    /// Groups that are live.
    touched: Vec<u32>,
    /// By group: its index among those, or `SETTLED`.
    live_of: Vec<u32>,
    settled: Settled,
    indices: Vec<usize>,
}

const SETTLED: u32 = u32::MAX;

impl DataFusionAccumulator {
    pub fn new(function: Arc<AggregateFunctionExpr>) -> Result<Self, Error> {
        Ok(Self {
            live: make(&function)?,
            live_bytes_max: LIVE_BYTES_MAX,
            function,
            touched: Vec::new(),
            live_of: Vec::new(),
            settled: Settled::default(),
            indices: Vec::new(),
        })
    }

    /// Makes groups live; the rows' indices among those that are.
    fn touch(&mut self, groups: &[u32], group_count: usize) -> Vec<usize> {
        // Also groups without a row: they have a state, too.
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

    /// Gives scratch back, and settles what has become large.
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
            // First what was first: some functions depend on the order.
            let mut merged = make(&self.function)?;
            let former = self.settled.read(&Select::Indices(&former))?;
            merged.merge_batch(&former, &indices, touched.len())?;
            merged.merge_batch(&states, &all(touched.len()), touched.len())?;
            states = merged.state(EmitTo::All)?;
        }
        self.settled.put(states, touched);
        self.settled.tidy(self.live_bytes_max)
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
        // A sum of different decimals may have more digits than its type: as any sum, it is NULL then.
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
        // New groups are about as large as those that are here.
        self.size() / self.live_of.len().max(1) * groups
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.live = make(&self.function)?;
        self.touched.clear();
        self.live_of.clear();
        self.settled = Settled::default();
        Ok(())
    }
}

/// Partial states of groups, in segments that are never changed.
#[derive(Default)]
struct Settled {
    /// Numbered by their places here; `None` where there is none any more.
    segments: Vec<Option<Segment>>,
    /// By group.
    places: Vec<Place>,
    bytes: usize,
}

struct Segment {
    states: Vec<ArrayRef>,
    /// Of each row.
    groups: Vec<u32>,
    /// Rows that are some group's state; the others have been replaced.
    in_use: usize,
    bytes: usize,
}

/// Where a group's state is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    segment: u32,
    row: u32,
}

const NOWHERE: Place = Place {
    segment: u32::MAX,
    row: u32::MAX,
};

impl Settled {
    fn has(&self, group: u32) -> bool {
        self.places.get(group as usize).is_some_and(|place| *place != NOWHERE)
    }

    /// Takes the states of some groups, in place of those that were.
    fn put(&mut self, states: Vec<ArrayRef>, groups: Vec<u32>) {
        let number = match self.segments.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.segments.push(None);
                self.segments.len() - 1
            }
        };
        let count = groups.iter().max().map_or(0, |group| *group as usize + 1);
        if self.places.len() < count {
            self.places.resize(count, NOWHERE);
        }
        for (row, group) in groups.iter().enumerate() {
            let place = Place {
                segment: number as u32,
                row: row as u32,
            };
            let former = std::mem::replace(&mut self.places[*group as usize], place);
            if former == NOWHERE {
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

    /// Rewrites some of what is hardly used, and of what is small where there is much of it: about `bytes_max`, or the
    /// first of it.
    fn tidy(&mut self, bytes_max: usize) -> Result<(), Error> {
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
                let place = self.places[**group as usize];
                (place.segment as usize, place.row as usize) == (number, *row)
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

    /// The states of some groups, all of which have one.
    fn read(&self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        let places: Vec<Place> = select.iter().map(|group| self.places[group as usize]).collect();
        let segments: Vec<Option<&Segment>> = self.segments.iter().map(Option::as_ref).collect();
        let first = places.first().copied().unwrap_or(Place { segment: 0, row: 0 });
        let is_run =
            |(at, place): (usize, &Place)| place.segment == first.segment && place.row == first.row + at as u32;
        if let Some(Some(segment)) = segments.get(first.segment as usize)
            && places.iter().enumerate().all(is_run)
        {
            let columns = segment.states.iter();
            return Ok(columns
                .map(|column| column.slice(first.row as usize, places.len()))
                .collect());
        }
        // Segments by their order among those that are.
        let mut order = vec![0; segments.len()];
        let mut present = Vec::new();
        for (number, segment) in segments.iter().enumerate() {
            if let Some(segment) = segment {
                order[number] = present.len();
                present.push(*segment);
            }
        }
        let rows: Vec<(usize, usize)> = places
            .iter()
            .map(|place| (order[place.segment as usize], place.row as usize))
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
        self.bytes + self.places.capacity() * size_of::<Place>()
    }
}

#[cfg(test)]
mod tests;
