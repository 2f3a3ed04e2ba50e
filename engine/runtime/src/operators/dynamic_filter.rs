//! A dynamic filter before a join with the `MAX` or `MIN` of the same rows: drops rows that are not the extreme of
//! their window and keys.
//!
//! The operator stores the extreme value so far of each slice and key. A batch first updates the extremes; then its
//! rows with a worse value are dropped. Rows that equal the extreme pass. A row is only dropped because of a row of the
//! same slice, which all of its windows contain too, so each window keeps its extreme rows.
//!
//! The extremes are not part of checkpoints. After a restore rows pass that would have been dropped, and the join drops
//! them. For the same reason the number of keys is limited to [`KEYS_MAX`], and rows bypass the filter where it drops
//! few. Rows without a time, and rows whose windows have all fired, pass: downstream operators treat them as late
//! events.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use arrow::array::{Array, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow_array::RecordBatch;
use arrow_array::downcast_primitive;
use arrow_select::filter::filter_record_batch;
use millstream_graph::{self as graph, Extreme, Port};

use super::adaptive_bypass::AdaptiveBypass;
use super::table::{GroupIndex, new_group_index};
use super::window_aggregate::{RowSelection, RowTime, SliceAssignment, Slices};
use crate::Error;
use crate::operator::{Collector, Operator, Progress, Snapshot, Timestamp, WATERMARK_MIN};

/// Number of keys of all slices together, exceeded by one batch at most. Rows of further keys pass.
const KEYS_MAX: usize = 65_536;
/// Percentage of passing rows above which rows bypass the filter.
const OUTPUT_PERCENT_MAX: usize = 80;

/// Makes the operator for the type of the compared column.
pub(super) fn dynamic_filter(
    name: &str,
    node: &graph::DynamicFilter,
    input: &SchemaRef,
) -> Result<Box<dyn Operator>, Error> {
    let data_type = input.field(node.value).data_type();
    macro_rules! of_type {
        ($t:ty, $node:expr, $input:expr) => {
            Ok(Box::new(DynamicFilter::<$t>::new($node, $input)?))
        };
    }
    downcast_primitive! {
        data_type => (of_type, node, input),
        other => Err(Error::Operator {
            operator: name.to_owned(),
            message: format!("rows cannot be filtered by the extremes of a column of type {other}"),
        }),
    }
}

/// The extreme values so far of one slice.
struct Extremes<V> {
    keys: Box<dyn GroupIndex>,
    /// Extreme value by key; `None` until a row had a value.
    values: Vec<Option<V>>,
}

struct DynamicFilter<T: ArrowPrimitiveType> {
    node: graph::DynamicFilter,
    slices: Slices,
    key_fields: Vec<FieldRef>,
    /// Extremes by slice end.
    extremes: BTreeMap<i64, Extremes<T::Native>>,
    fired: Timestamp,
    /// Number of keys in `extremes`.
    keys_held: usize,
    bypass: AdaptiveBypass,
    groups: Vec<u32>,
}

impl<T: ArrowPrimitiveType> DynamicFilter<T> {
    fn new(node: &graph::DynamicFilter, input: &SchemaRef) -> Result<Self, Error> {
        Ok(Self {
            node: node.clone(),
            slices: Slices::new(&node.window)?,
            key_fields: node.keys.iter().map(|column| input.fields()[*column].clone()).collect(),
            extremes: BTreeMap::new(),
            fired: WATERMARK_MIN,
            keys_held: 0,
            bypass: AdaptiveBypass::new(OUTPUT_PERCENT_MAX),
            groups: Vec::new(),
        })
    }

    /// Sets `passes` to false for the rows to drop.
    fn filter(&mut self, batch: &RecordBatch, passes: &mut [bool]) -> Result<(), Error> {
        let values = batch.column(self.node.value).as_primitive::<T>();
        let time = RowTime::Event(self.node.time);
        let assignment = SliceAssignment::new(&self.slices, time, batch, WATERMARK_MIN, self.fired)?;
        for (slice_end, rows) in &assignment.slices {
            self.filter_slice(*slice_end, rows, batch, values, passes)?;
        }
        Ok(())
    }

    fn filter_slice(
        &mut self,
        slice_end: i64,
        rows: &RowSelection,
        batch: &RecordBatch,
        values: &PrimitiveArray<T>,
        passes: &mut [bool],
    ) -> Result<(), Error> {
        let has_room = self.keys_held < KEYS_MAX;
        let best = match self.extremes.entry(slice_end) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if !has_room => return Ok(()),
            Entry::Vacant(entry) => entry.insert(Extremes {
                keys: new_group_index(&self.key_fields)?,
                values: Vec::new(),
            }),
        };
        let total = batch.num_rows();
        let columns: Vec<_> = self.node.keys.iter().map(|key| batch.column(*key).clone()).collect();
        let keys = rows.take_all(&columns)?;
        if has_room {
            best.keys.intern(&keys, rows.count(total), &mut self.groups)?;
            self.keys_held += best.keys.len() - best.values.len();
            best.values.resize(best.keys.len(), None);
        } else {
            best.keys.find(&keys, rows.count(total), &mut self.groups)?;
        }
        let (best, groups, extreme) = (&mut best.values, &self.groups, self.node.extreme);
        match rows {
            RowSelection::All => filter_rows(best, groups, 0..total, values, extreme, passes),
            RowSelection::Range(start, count) => {
                filter_rows(best, groups, *start..start + count, values, extreme, passes)
            }
            RowSelection::Listed(rows) => {
                let rows = rows.values().iter().map(|row| *row as usize);
                filter_rows(best, groups, rows, values, extreme, passes);
            }
        }
        Ok(())
    }
}

impl<T: ArrowPrimitiveType> Operator for DynamicFilter<T> {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let rows = batch.num_rows();
        let mut passes = match self.node.condition {
            Some(condition) => is_true(batch.column(condition).as_boolean()),
            None => vec![true; rows],
        };
        let candidates = passes.iter().filter(|passes| **passes).count();
        if candidates > 0 && !self.bypass.should_bypass(candidates) {
            self.filter(&batch, &mut passes)?;
            self.bypass.record_input(candidates);
            self.bypass
                .record_output(passes.iter().filter(|passes| **passes).count());
            if self.bypass.end_sample() {
                self.extremes.clear();
                self.keys_held = 0;
            }
        }
        let passes = BooleanArray::new(BooleanBuffer::from(passes), None);
        match passes.true_count() {
            0 => {}
            count if count == rows => out.emit(Port::Main, batch),
            _ => out.emit(Port::Main, filter_record_batch(&batch, &passes)?),
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, _out: &mut dyn Collector) -> Result<Progress, Error> {
        self.fired = watermark.saturating_add(1);
        let (slices, fired) = (self.slices, self.fired);
        self.extremes
            .retain(|slice_end, _| slices.last_window(*slice_end) > fired);
        self.keys_held = self.extremes.values().map(|best| best.values.len()).sum();
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<Snapshot, Error> {
        Ok(Snapshot::default())
    }
}

/// Updates the extreme of each key by the passing rows, then sets `passes` to false for rows that are worse and for
/// rows without a value. Rows whose key is not stored pass.
fn filter_rows<T: ArrowPrimitiveType>(
    best: &mut [Option<T::Native>],
    groups: &[u32],
    rows: impl Iterator<Item = usize> + Clone,
    values: &PrimitiveArray<T>,
    extreme: Extreme,
    passes: &mut [bool],
) {
    let beats = |value: T::Native, other: T::Native| match extreme {
        Extreme::Greatest => value.is_gt(other),
        Extreme::Least => value.is_lt(other),
    };
    for (row, group) in rows.clone().zip(groups) {
        if passes[row]
            && values.is_valid(row)
            && let Some(best) = best.get_mut(*group as usize)
        {
            let value = values.value(row);
            if best.is_none_or(|best| beats(value, best)) {
                *best = Some(value);
            }
        }
    }
    for (row, group) in rows.zip(groups) {
        let best = best.get(*group as usize).copied().flatten();
        passes[row] &= values.is_valid(row) && best.is_none_or(|best| !beats(best, values.value(row)));
    }
}

/// Returns true for each row for which a condition is true; NULL is not.
fn is_true(condition: &BooleanArray) -> Vec<bool> {
    (0..condition.len())
        .map(|row| condition.is_valid(row) && condition.value(row))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ArrayRef;
    use arrow::datatypes::Int64Type;
    use millstream_graph::Window;

    use super::*;
    use crate::operators::adaptive_bypass::SAMPLE_ROWS;
    use crate::operators::testing::{Emitted, integers, rows_of, timestamps};

    /// Time, key, value, condition.
    type Row = (Option<i64>, i64, Option<i64>, Option<bool>);

    /// Batches in windows of 10 with slide 5, a watermark after each; what passes.
    #[track_caller]
    fn check(extreme: Extreme, batches: &[(&[Row], i64)], expected: &[&[&str]]) {
        let node = graph::DynamicFilter {
            condition: Some(3),
            window: Window::Hop {
                size: 10,
                slide: 5,
                offset: 0,
            },
            time: 0,
            keys: vec![1],
            value: 2,
            extreme,
        };
        let mut operator: Option<Box<dyn Operator>> = None;
        for ((rows, watermark), expected) in batches.iter().zip(expected) {
            let condition: BooleanArray = rows.iter().map(|row| row.3).collect();
            let batch = RecordBatch::try_from_iter_with_nullable([
                ("t", timestamps(&rows.iter().map(|row| row.0).collect::<Vec<_>>()), true),
                (
                    "k",
                    integers(&rows.iter().map(|row| Some(row.1)).collect::<Vec<_>>()),
                    true,
                ),
                ("v", integers(&rows.iter().map(|row| row.2).collect::<Vec<_>>()), true),
                ("c", Arc::new(condition) as ArrayRef, true),
            ])
            .unwrap();
            let operator = operator.get_or_insert_with(|| dynamic_filter("f", &node, &batch.schema()).unwrap());
            let mut out = Emitted::default();
            assert_eq!(operator.process(0, batch, &mut out).unwrap(), Progress::Done);
            assert_eq!(operator.on_watermark(*watermark, &mut out).unwrap(), Progress::Done);
            assert_eq!(rows_of(&out.main), *expected);
        }
    }

    const TRUE: Option<bool> = Some(true);

    #[test]
    fn rows_that_equal_the_best_so_far_pass() {
        check(
            Extreme::Greatest,
            &[
                (
                    &[
                        (Some(1), 1, Some(3), TRUE),
                        (Some(2), 1, Some(5), TRUE),
                        (Some(3), 1, Some(5), TRUE),
                        (Some(3), 2, Some(4), TRUE),
                        (Some(6), 1, Some(1), TRUE),
                    ],
                    0,
                ),
                (
                    &[
                        (Some(4), 1, Some(4), TRUE),
                        (Some(4), 1, Some(5), TRUE),
                        (Some(4), 1, Some(6), TRUE),
                    ],
                    0,
                ),
            ],
            &[
                &["2,1,5,true", "3,1,5,true", "3,2,4,true", "6,1,1,true"],
                &["4,1,6,true"],
            ],
        );
        check(
            Extreme::Least,
            &[(&[(Some(1), 1, Some(3), TRUE), (Some(2), 1, Some(5), TRUE)], 0)],
            &[&["1,1,3,true"]],
        );
    }

    #[test]
    fn rows_outside_the_condition_beat_nothing() {
        check(
            Extreme::Greatest,
            &[(
                &[
                    (Some(1), 1, Some(9), Some(false)),
                    (Some(1), 1, Some(8), None),
                    (Some(1), 1, Some(3), TRUE),
                    (Some(1), 1, None, TRUE),
                ],
                0,
            )],
            &[&["1,1,3,true"]],
        );
    }

    #[test]
    fn late_and_timeless_rows_pass_and_beat_nothing() {
        check(
            Extreme::Greatest,
            &[
                (&[(Some(1), 1, Some(3), TRUE)], 9),
                (
                    &[
                        (Some(1), 1, Some(9), TRUE),
                        (Some(1), 1, Some(2), TRUE),
                        (None, 1, Some(2), TRUE),
                        (Some(11), 1, Some(1), TRUE),
                    ],
                    9,
                ),
            ],
            &[
                &["1,1,3,true"],
                &[",1,2,true", "1,1,2,true", "1,1,9,true", "11,1,1,true"],
            ],
        );
    }

    #[test]
    fn where_most_rows_pass_none_are_held_against_others() {
        let node = graph::DynamicFilter {
            condition: None,
            window: Window::Tumble { size: 10, offset: 0 },
            time: 0,
            keys: vec![],
            value: 1,
            extreme: Extreme::Greatest,
        };
        let batch = |value: i64| {
            RecordBatch::try_from_iter([
                ("t", timestamps(&vec![Some(1); SAMPLE_ROWS])),
                ("v", integers(&vec![Some(value); SAMPLE_ROWS])),
            ])
            .unwrap()
        };
        let mut operator = dynamic_filter("f", &node, &batch(0).schema()).unwrap();
        let mut rows_passed = |value: i64| {
            let mut out = Emitted::default();
            assert_eq!(operator.process(0, batch(value), &mut out).unwrap(), Progress::Done);
            out.main.iter().map(RecordBatch::num_rows).sum::<usize>()
        };
        assert_eq!(rows_passed(7), SAMPLE_ROWS);
        assert_eq!(rows_passed(6), SAMPLE_ROWS);
    }

    #[test]
    fn keys_are_limited_over_all_slices_and_rows_of_others_pass() {
        let node = graph::DynamicFilter {
            condition: None,
            window: Window::Tumble { size: 10, offset: 0 },
            time: 0,
            keys: vec![],
            value: 1,
            extreme: Extreme::Greatest,
        };
        // Each row has a slice of its own, and a lesser one comes for it.
        let slices = KEYS_MAX as i64 + 1;
        let batch = |first: i64, count: i64, value: i64| {
            let times: Vec<_> = (first..first + count).map(|slice| Some(slice * 10)).collect();
            let values = vec![Some(value); times.len()];
            RecordBatch::try_from_iter([("t", timestamps(&times)), ("v", integers(&values))]).unwrap()
        };
        let schema = batch(0, 1, 0).schema();
        let mut operator = DynamicFilter::<Int64Type>::new(&node, &schema).unwrap();
        // Never bypass: this test is about the filter itself.
        operator.bypass = AdaptiveBypass::new(100);
        let mut out = Emitted::default();
        assert_eq!(
            operator.process(0, batch(0, slices, 2), &mut out).unwrap(),
            Progress::Done
        );
        assert_eq!(operator.extremes.len(), KEYS_MAX);
        out.main.clear();
        assert_eq!(
            operator.process(0, batch(slices - 2, 2, 1), &mut out).unwrap(),
            Progress::Done
        );
        assert_eq!(rows_of(&out.main), [format!("{},1", (slices - 1) * 10)]);
        assert_eq!(operator.on_watermark(slices * 10, &mut out).unwrap(), Progress::Done);
        assert_eq!((operator.extremes.len(), operator.keys_held), (0, 0));
    }
}
