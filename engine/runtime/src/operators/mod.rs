//! The operators of a job graph, one per file, and [`build`], which makes one from its node.

mod adaptive_bypass;
pub mod calc;
mod dynamic_filter;
mod inline;
mod keyed_state;
mod session;
mod spill;
mod table;
#[cfg(test)]
mod testing;

mod window_aggregate;
mod window_assign;
mod window_join;
mod window_panes;
mod window_top_n;

use std::task::Waker;

use arrow::datatypes::SchemaRef;
use millstream_graph::{self as graph, Node, Phase, TimeAttribute, Window};
use millstream_state::key_group::KeyGroupRange;
use millstream_state::memory::MemoryBudget;
use millstream_state::store::Store;

use self::calc::CalcOperator;
pub use self::calc::{Calc, Calculated};
use self::dynamic_filter::dynamic_filter;
use self::session::SessionAggregate;
use self::window_aggregate::{LocalAggregate, WindowAggregate};
use self::window_assign::WindowAssign;
use self::window_join::WindowJoin;
use self::window_top_n::WindowTopN;
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
pub fn build(node: &Node, inputs: &[SchemaRef], context: OperatorContext) -> Result<Box<dyn Operator>, Error> {
    let name = node.id.0.as_str();
    let invalid = |message: &str| Error::Operator {
        operator: name.to_owned(),
        message: message.to_owned(),
    };
    let output = &node.output.schema;
    let input = inputs.first().ok_or_else(|| invalid("an operator needs an input"))?;
    match &node.operator {
        graph::Operator::Source(_) | graph::Operator::Sink(_) => {
            Err(invalid("sources and sinks are tasks of their own, not operators"))
        }
        graph::Operator::Calc(calc) => {
            let calc = Calc::new(name, calc, input, output.clone())?;
            Ok(Box::new(CalcOperator::new(calc)))
        }
        graph::Operator::WindowAggregate(aggregate) => match (aggregate.window, aggregate.phase) {
            (Window::Session { .. }, Phase::Single) => Ok(Box::new(SessionAggregate::new(
                name, aggregate, input, output, context,
            )?)),
            (Window::Session { .. }, Phase::Local | Phase::Final) => Err(invalid(
                "sessions are aggregated in one phase: where they end is not known before all rows of a key meet",
            )),
            (_, Phase::Local | Phase::Final) if aggregate.time == TimeAttribute::Processing => Err(invalid(
                "windows of the clock cannot be aggregated in two phases: what a subtask sends may arrive after its window",
            )),
            (_, Phase::Local) => Ok(Box::new(LocalAggregate::new(aggregate, input, output)?)),
            (_, Phase::Single | Phase::Final) => {
                Ok(Box::new(WindowAggregate::new(name, aggregate, input, output, context)?))
            }
        },
        graph::Operator::DynamicFilter(filter) => dynamic_filter(name, filter, input),
        graph::Operator::WindowAssign(assign) => Ok(Box::new(WindowAssign::new(assign, output)?)),
        graph::Operator::WindowJoin(join) => {
            let right = inputs.get(1).ok_or_else(|| invalid("a join needs two inputs"))?;
            Ok(Box::new(WindowJoin::new(name, join, [input, right], output, context)?))
        }
        graph::Operator::WindowTopN(top_n) => Ok(Box::new(WindowTopN::new(name, top_n, input, output, context)?)),
    }
}
