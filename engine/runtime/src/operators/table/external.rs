//! Every aggregate that DataFusion has and we do not: its accumulator, made readable without being consumed.
//!
//! DataFusion's group accumulators give up what they emit. So a read first *freezes* the accumulator into the state
//! columns of all its groups, from which any number of reads are served; the next update *thaws* it by merging those
//! columns into a fresh accumulator. Functions without a group accumulator run one row-wise accumulator per group.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::{Accumulator, Select};
use crate::Error;

/// An aggregate computed by DataFusion.
pub struct External {
    function: Arc<AggregateFunctionExpr>,
    live: Box<dyn GroupsAccumulator>,
    /// State columns of all groups while frozen; `live` is empty then.
    frozen: Option<Vec<ArrayRef>>,
    /// Results of all groups, while frozen and once asked for.
    results: Option<ArrayRef>,
    group_count: usize,
    indices: Vec<usize>,
}

impl External {
    pub fn new(function: Arc<AggregateFunctionExpr>) -> Result<Self, Error> {
        Ok(Self {
            live: make(&function)?,
            function,
            frozen: None,
            results: None,
            group_count: 0,
            indices: Vec::new(),
        })
    }

    fn freeze(&mut self) -> Result<&[ArrayRef], Error> {
        if self.frozen.is_none() {
            self.frozen = Some(self.live.state(EmitTo::All)?);
            self.live = make(&self.function)?;
        }
        Ok(self.frozen.as_deref().expect("filled above"))
    }

    fn thaw(&mut self) -> Result<(), Error> {
        self.results = None;
        if let Some(states) = self.frozen.take() {
            let groups: Vec<usize> = (0..self.group_count).collect();
            self.live.merge_batch(&states, &groups, self.group_count)?;
        }
        Ok(())
    }

    fn indices(&mut self, groups: &[u32]) -> Vec<usize> {
        let mut indices = std::mem::take(&mut self.indices);
        indices.clear();
        indices.extend(groups.iter().map(|group| *group as usize));
        indices
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

fn choose(array: &ArrayRef, select: &Select<'_>) -> Result<ArrayRef, Error> {
    Ok(match select {
        Select::Range(range) => array.slice(range.start, range.len()),
        Select::Indices(indices) => arrow_select::take::take(array, &UInt32Array::from(indices.to_vec()), None)?,
    })
}

impl Accumulator for External {
    fn update(
        &mut self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), Error> {
        self.thaw()?;
        let indices = self.indices(groups);
        self.live.update_batch(values, &indices, filter, group_count)?;
        self.indices = indices;
        self.group_count = group_count;
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[u32], group_count: usize) -> Result<(), Error> {
        self.thaw()?;
        let indices = self.indices(groups);
        self.live.merge_batch(states, &indices, group_count)?;
        self.indices = indices;
        self.group_count = group_count;
        Ok(())
    }

    fn state(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        self.freeze()?.iter().map(|array| choose(array, select)).collect()
    }

    fn evaluate(&mut self, select: &Select<'_>) -> Result<ArrayRef, Error> {
        if self.results.is_none() {
            self.freeze()?;
            let states = self.frozen.as_deref().expect("frozen above");
            let groups: Vec<usize> = (0..self.group_count).collect();
            let mut reader = make(&self.function)?;
            reader.merge_batch(states, &groups, self.group_count)?;
            self.results = Some(reader.evaluate(EmitTo::All)?);
        }
        let results = self.results.as_ref().expect("filled above");
        choose(results, select)
    }

    fn size(&self) -> usize {
        let arrays = |arrays: &[ArrayRef]| arrays.iter().map(|array| array.get_array_memory_size()).sum::<usize>();
        self.live.size()
            + self.frozen.as_deref().map_or(0, arrays)
            + self.results.as_ref().map_or(0, |array| array.get_array_memory_size())
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.live = make(&self.function)?;
        self.frozen = None;
        self.results = None;
        self.group_count = 0;
        Ok(())
    }
}
