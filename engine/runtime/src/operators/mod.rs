//! The operators of a job graph, one per file, and [`build`], which makes one from its node.

mod adaptive_bypass;
mod byte_list;
mod calc;
mod changelog_normalize;
#[cfg(debug_assertions)]
mod checked;
mod collection;
mod double;
mod dynamic_filter;
mod ended;
mod group_aggregate;
mod hold_back;
mod inline;
mod join;
mod keyed;
mod keyed_state;
mod multi_join;
mod mutants;
pub(crate) mod row_kinds;
mod session;
mod sink_materialize;
mod sort;
mod sort_key;
mod spill;
mod table;
mod temporal_join;
#[cfg(test)]
mod testing;
mod top_n;
mod unnest;
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

pub(crate) use self::calc::Calc;
use self::calc::CalcOperator;
use self::dynamic_filter::dynamic_filter;
pub(crate) use self::ended::Ended;
use self::hold_back::HoldBack;
use self::session::SessionAggregate;
use self::window_aggregate::{LocalAggregate, WindowAggregate};
use self::window_assign::WindowAssign;
use self::window_join::WindowJoin;
use self::window_top_n::WindowTopN;
use crate::Error;
use crate::operator::Operator;

/// The state and resources of one subtask of an operator.
pub(crate) struct OperatorContext {
    pub max_parallelism: u16,
    pub key_groups: KeyGroupRange,
    /// The subtask's keyed state, restored if the job resumes.
    pub store: Store,
    /// Inline state of every subtask of the checkpoint that the job resumes from. The operator takes the part that
    /// belongs to its key groups.
    pub restored_inline: Vec<Vec<u8>>,
    pub memory: MemoryBudget,
    /// Wakes the task after [`Progress::Pending`](crate::operator::Progress::Pending).
    pub waker: Waker,
    /// True if the operator holds changes back until consistency points ([`Operator::on_point`]).
    pub holds_back: bool,
}

/// Makes the operator of one subtask of a node. `inputs` are the schemas of the node's inputs.
///
/// # Errors
///
/// If the node is a source or a sink, which tasks drive themselves, or a plan that no operator can run.
///
/// In debug builds the operator checks its contract.
pub(crate) fn build(node: &Node, inputs: &[SchemaRef], context: OperatorContext) -> Result<Box<dyn Operator>, Error> {
    let memory = context.holds_back.then(|| context.memory.clone());
    let mut operator = make(node, inputs, context)?;
    if let Some(memory) = memory {
        operator = Box::new(HoldBack::new(node, operator, memory)?);
    }
    #[cfg(debug_assertions)]
    let operator = Box::new(checked::CheckedOperator::new(node, inputs, operator));
    Ok(operator)
}

fn make(node: &Node, inputs: &[SchemaRef], context: OperatorContext) -> Result<Box<dyn Operator>, Error> {
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
                "session windows are aggregated in one phase only: their bounds depend on all rows of a key",
            )),
            (_, Phase::Local | Phase::Final) if aggregate.time == TimeAttribute::Processing => Err(invalid(
                "processing-time windows are aggregated in one phase only: partial states may arrive after their window",
            )),
            (_, Phase::Local) => Ok(Box::new(LocalAggregate::new(aggregate, input, output)?)),
            (_, Phase::Single | Phase::Final) => {
                Ok(Box::new(WindowAggregate::new(name, aggregate, input, output, context)?))
            }
        },
        graph::Operator::GroupAggregate(aggregate) if aggregate.phase == Phase::Local => Ok(Box::new(
            group_aggregate::LocalGroupAggregate::new(aggregate, input, output)?,
        )),
        graph::Operator::GroupAggregate(aggregate) => {
            let mode = &node.output.changelog;
            let operator = group_aggregate::group_aggregate(name, aggregate, input, output, mode, context)?;
            Ok(Box::new(operator))
        }
        graph::Operator::ChangelogNormalize(normalize) => {
            let mode = &node.output.changelog;
            let operator = changelog_normalize::changelog_normalize(normalize, input, output, mode, context)?;
            Ok(Box::new(operator))
        }
        graph::Operator::SinkMaterialize(materialize) => {
            let mode = &node.output.changelog;
            let operator = sink_materialize::sink_materialize(name, materialize, input, output, mode, context)?;
            Ok(Box::new(operator))
        }
        graph::Operator::DynamicFilter(filter) => dynamic_filter(name, filter, input),
        graph::Operator::Unnest(unnest) => Ok(Box::new(unnest::Unnest::new(unnest, output))),
        graph::Operator::WindowAssign(assign) => Ok(Box::new(WindowAssign::new(assign, output)?)),
        graph::Operator::Join(join) => {
            let right = inputs.get(1).ok_or_else(|| invalid("a join needs two inputs"))?;
            Ok(Box::new(join::join(name, join, [input, right], &node.output, context)?))
        }
        graph::Operator::MultiJoin(join) => Ok(Box::new(multi_join::multi_join(join, inputs, &node.output, context)?)),
        graph::Operator::TemporalJoin(join) => {
            let right = inputs.get(1).ok_or_else(|| invalid("a join needs two inputs"))?;
            let operator = temporal_join::temporal_join(join, [input, right], output, context)?;
            Ok(Box::new(operator))
        }
        graph::Operator::WindowJoin(join) => {
            let right = inputs.get(1).ok_or_else(|| invalid("a join needs two inputs"))?;
            Ok(Box::new(WindowJoin::new(name, join, [input, right], output, context)?))
        }
        graph::Operator::Sort(sort) => Ok(Box::new(sort::Sort::new(sort, input, output, context)?)),
        graph::Operator::TopN(top) => top_n::top_n(name, top, input, &node.output, context),
        graph::Operator::WindowTopN(top_n) => Ok(Box::new(WindowTopN::new(name, top_n, input, output, context)?)),
    }
}
