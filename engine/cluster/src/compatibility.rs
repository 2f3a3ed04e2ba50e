//! Whether a checkpoint fits a plan: what can be restored as it is, what starts empty, what would be lost.
//!
//! Operators are found by their stable ids. State that no operator of the plan would take, or that another kind of
//! operator would take, is a refusal: results would silently be wrong. An operator without state in the checkpoint
//! starts empty, and that is said.

use std::collections::BTreeMap;

use millstream_planner::graph::{JobGraph, NodeIndex, Operator, OperatorId};
use millstream_runtime::job::SubtaskState;

use crate::signature;

/// What a restore has to say to the user.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Why the checkpoint cannot be restored.
    pub refusals: Vec<String>,
    /// Those operators of the checkpoint whose state nobody would take; each is a refusal.
    pub dropped: Vec<OperatorId>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// A line that changes exactly when an operator's stored state could no longer be read by it; empty for operators
/// whose state does not depend on their definition.
pub fn state_signature(graph: &JobGraph, node: NodeIndex) -> String {
    let input_types = |input: usize, columns: &[usize]| -> Vec<String> {
        let edge = graph.inputs(node).find(|edge| edge.input == input);
        let schema = edge.map(|edge| &graph.nodes[edge.from].output.schema);
        columns
            .iter()
            .map(|column| {
                let field = schema.and_then(|schema| schema.fields().get(*column));
                field.map_or_else(|| "?".to_string(), |field| field.data_type().to_string())
            })
            .collect()
    };
    match &graph.nodes[node].operator {
        Operator::WindowAggregate(aggregate) => {
            let calls: Vec<String> = aggregate
                .aggregates
                .iter()
                .map(|call| {
                    let function = &call.function;
                    // Types only: literals may differ between two starts (`NOW()`), column names between two edits.
                    let state: Vec<String> = match function.state_fields() {
                        Ok(fields) => fields.iter().map(|field| field.data_type().to_string()).collect(),
                        Err(error) => vec![error.to_string()],
                    };
                    let distinct = if function.is_distinct() { "distinct " } else { "" };
                    format!("{distinct}{}: {}", function.fun().name(), state.join(" "))
                })
                .collect();
            format!(
                "aggregate {:?} {:?} keys [{}] calls [{}]",
                aggregate.window,
                aggregate.phase,
                input_types(0, &aggregate.keys).join(", "),
                calls.join(", ")
            )
        }
        Operator::WindowJoin(join) => {
            let all = |input: usize| {
                let edge = graph.inputs(node).find(|edge| edge.input == input);
                let columns = edge.map_or(0, |edge| graph.nodes[edge.from].output.schema.fields().len());
                input_types(input, &(0..columns).collect::<Vec<_>>()).join(", ")
            };
            format!("join on {:?} left [{}] right [{}]", join.on, all(0), all(1))
        }
        Operator::WindowTopN(top) => {
            let columns = graph.nodes[node].output.schema.fields().len();
            format!(
                "top {}..={} by {:?} of [{}]",
                top.from,
                top.to,
                top.partition,
                input_types(0, &(0..columns).collect::<Vec<_>>()).join(", ")
            )
        }
        _ => String::new(),
    }
}

/// Compares a checkpoint with the plan that is to resume from it.
pub fn check(
    graph: &JobGraph,
    max_parallelism: u16,
    states: &BTreeMap<OperatorId, Vec<SubtaskState>>,
    signatures: &BTreeMap<OperatorId, String>,
) -> Findings {
    let mut findings = Findings::default();
    if max_parallelism != graph.max_parallelism {
        findings.refusals.push(format!(
            "the checkpoint has {max_parallelism} key groups (max_parallelism), the pipeline {}; set it back to {max_parallelism}",
            graph.max_parallelism
        ));
    }
    let nodes = graph.by_id();
    for (operator, states) in states {
        let Some(node) = nodes.get(operator) else {
            if states.iter().any(has_state) {
                findings.dropped.push(operator.clone());
                findings.refusals.push(format!(
                    "the checkpoint holds state of `{operator}`, which the pipeline no longer has; its state would be lost"
                ));
            }
            continue;
        };
        let before = signatures.get(operator).map(String::as_str).unwrap_or_default();
        let now = state_signature(graph, *node);
        if before != now && states.iter().any(has_state) {
            let (before, now) = signature::both_in_words(before, &now);
            findings.refusals.push(format!(
                "the state of `{operator}` is of another kind than the pipeline now keeps (it was: {before}; it is: {now})"
            ));
        }
    }
    for node in &graph.nodes {
        if !states.contains_key(&node.id) {
            findings
                .notes
                .push(format!("`{}` is new in the pipeline and starts without state", node.id));
        }
    }
    findings
}

fn has_state(state: &SubtaskState) -> bool {
    !state.inline.is_empty()
        || state.keyed.as_ref().is_some_and(|keyed| !keyed.files.is_empty())
        || !state.splits.is_empty()
        || state.in_flight.is_some()
}
