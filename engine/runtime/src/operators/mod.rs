//! The operators of a job graph, one per file, and [`build`], which makes one from its node.

use std::task::Waker;

use millstream_planner::graph::Node;
use millstream_state::key_group::KeyGroupRange;
use millstream_state::memory::MemoryBudget;
use millstream_state::store::Store;

use crate::Error;
use crate::operator::Operator;

/// What an operator gets besides its node.
pub struct OperatorContext {
    pub subtask: usize,
    pub parallelism: usize,
    pub max_parallelism: u16,
    pub key_groups: KeyGroupRange,
    /// The subtask's keyed state, restored if the job resumes.
    pub store: Store,
    /// Inline state of every subtask of the checkpoint the job resumes from; the operator takes what belongs to its
    /// key groups.
    pub restored_inline: Vec<Vec<u8>>,
    pub memory: MemoryBudget,
    /// Wakes the slot after `Progress::Pending`.
    pub waker: Waker,
}

/// Makes the operator of one node's subtask. Sources and sinks are not operators: tasks drive them.
/// `inputs` are the schemas of the node's inputs.
pub fn build(
    _node: &Node,
    _inputs: &[arrow::datatypes::SchemaRef],
    _context: OperatorContext,
) -> Result<Box<dyn Operator>, Error> {
    todo!()
}
