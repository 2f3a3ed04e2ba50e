//! The first rows to come of each partition.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow_array::RecordBatch;
use arrow_select::take::take_arrays;
use millstream_state::keyed::{Layout, Resolved, Table, TableOptions};

use super::Common;
use crate::Error;
use crate::operators::keyed::{KeyedLogic, Keys, Output, OutputForm, Refill};

/// Value column with the number of rows of a partition, up to the last rank.
const ROWS: usize = 0;

/// The logic of the operator. Collection: the number of rows by partition.
pub(super) struct FirstToCome {
    common: Common,
    options: TableOptions,
    /// The output rows of the present call: the columns of the input, then the ranks.
    passed: Option<(Vec<ArrayRef>, Vec<i64>)>,
}

impl FirstToCome {
    pub(super) fn new(common: Common) -> Result<Self, Error> {
        let types = common.output.partition_types();
        Ok(Self {
            options: TableOptions {
                layout: Layout::new(types, &[DataType::Int64])?,
                collection: 0,
                hashed: types.len(),
                max_parallelism: common.max_parallelism,
                is_ordered: false,
                is_expiring: common.is_expiring,
            },
            common,
            passed: None,
        })
    }
}

impl KeyedLogic for FirstToCome {
    fn collections(&self) -> Vec<TableOptions> {
        vec![self.options.clone()]
    }

    fn keys(&mut self, batch: &RecordBatch) -> Result<Vec<Keys>, Error> {
        Ok(vec![Keys::of(batch, &self.common.partition)])
    }

    fn apply(
        &mut self,
        batch: &RecordBatch,
        resolved: &[Resolved],
        tables: &mut [Table],
    ) -> Result<Vec<Refill>, Error> {
        let (Some(resolved), Some(table)) = (resolved.first(), tables.first_mut()) else {
            return Ok(Vec::new());
        };
        let (mut rows, mut ranks) = (Vec::new(), Vec::new());
        for (row, slot) in resolved.slots.iter().enumerate() {
            let rank = i64::from_le_bytes(table.fixed(*slot, ROWS)) + 1;
            if rank as u64 > self.common.ranks.to {
                continue;
            }
            table.set_fixed(*slot, ROWS, rank.to_le_bytes());
            table.set_changed(*slot);
            if rank as u64 >= self.common.ranks.from {
                rows.push(row as u32);
                ranks.push(rank);
            }
        }
        let columns = match rows.len() == batch.num_rows() {
            true => batch.columns().to_vec(),
            false => take_arrays(batch.columns(), &UInt32Array::from(rows), None)?,
        };
        self.passed = Some((columns, ranks));
        Ok(Vec::new())
    }

    fn output(&mut self, _table: &Table, slots: &[u32]) -> Result<Output, Error> {
        Ok(Output {
            columns: Vec::new(),
            present: BooleanArray::from(vec![false; slots.len()]),
        })
    }

    fn changes(
        &mut self,
        form: &OutputForm,
        _keys: &[ArrayRef],
        _before: Option<&Output>,
        after: &Output,
        _from: usize,
    ) -> Result<(RecordBatch, usize), Error> {
        let (mut columns, ranks) = self.passed.take().unwrap_or_default();
        let rows = ranks.len();
        if let Some(rank_type) = self.common.output.rank_type() {
            let ranks: ArrayRef = Arc::new(Int64Array::from(ranks));
            columns.push(cast(&ranks, rank_type)?);
        }
        Ok((form.batch(columns, rows, None)?, after.present.len()))
    }
}
