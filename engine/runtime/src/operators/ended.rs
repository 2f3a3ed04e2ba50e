//! An operator whose input has ended and whose result was emitted.

use arrow_array::RecordBatch;
use millstream_graph::OperatorId;

use crate::Error;
use crate::operator::{Collector, Operator, Progress, Snapshot};

/// Replaces an operator that emits its result at the end of input ([`emits_at_end`](millstream_graph::Operator)), once
/// it has: its state is needed no more. A job that resumes from a later checkpoint must not emit the result again.
pub(crate) struct Ended {
    /// Id of the operator.
    pub id: OperatorId,
}

impl Operator for Ended {
    fn process(&mut self, _input: usize, batch: RecordBatch, _out: &mut dyn Collector) -> Result<Progress, Error> {
        Err(Error::Operator {
            operator: self.id.to_string(),
            message: format!("{} rows have arrived after the end of input", batch.num_rows()),
        })
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<Snapshot, Error> {
        Ok(Snapshot::default())
    }
}
