//! Operator chains: the nodes of a job graph that form one task.
//!
//! A node is chained to the node before it if no other edge leads to it and no row changes its subtask on the edge: the
//! exchange is `Forward`, or there is one subtask on both sides.

use millstream_graph::{Edge, Exchange, JobGraph, NodeIndex, Operator, Parallelism};

/// The chains of a graph at some parallelism.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chains {
    /// Nodes of each chain in topological order; the first is the head. Chains are in the order of their heads.
    pub chains: Vec<Vec<NodeIndex>>,
    /// The chain of each node, and its position in the chain.
    pub positions: Vec<(usize, usize)>,
    /// For each edge of the graph: true if it is inside a chain.
    pub is_chained: Vec<bool>,
}

/// Returns the number of subtasks of a node, where the job has this parallelism.
pub(crate) fn parallelism_of(graph: &JobGraph, node: NodeIndex, parallelism: usize) -> usize {
    match graph.nodes[node].parallelism {
        Parallelism::Job => parallelism,
        Parallelism::One => 1,
    }
}

impl Chains {
    /// Chains the nodes of a graph.
    pub(crate) fn of(graph: &JobGraph, parallelism: usize) -> Self {
        let mut chains: Vec<Vec<NodeIndex>> = Vec::new();
        let mut positions = Vec::with_capacity(graph.nodes.len());
        let mut is_chained = vec![false; graph.edges.len()];
        for node in 0..graph.nodes.len() {
            let joined = graph
                .edges
                .iter()
                .position(|edge| edge.to == node)
                .filter(|edge| can_chain(graph, &graph.edges[*edge], parallelism));
            let position = match joined {
                Some(edge) => {
                    is_chained[edge] = true;
                    let (chain, _): (usize, usize) = positions[graph.edges[edge].from];
                    chains[chain].push(node);
                    (chain, chains[chain].len() - 1)
                }
                None => {
                    chains.push(vec![node]);
                    (chains.len() - 1, 0)
                }
            };
            positions.push(position);
        }
        Self {
            chains,
            positions,
            is_chained,
        }
    }
}

/// Returns true if the node that an edge leads to is chained to the node it comes from.
fn can_chain(graph: &JobGraph, edge: &Edge, parallelism: usize) -> bool {
    let from = parallelism_of(graph, edge.from, parallelism);
    let to = parallelism_of(graph, edge.to, parallelism);
    from == to
        && (edge.exchange == Exchange::Forward || to == 1)
        && graph.inputs(edge.to).count() == 1
        && !matches!(graph.nodes[edge.to].operator, Operator::Source(_))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;
    use millstream_graph::{Calc, ErrorPolicy, Node, OperatorId, Port, Stream};

    use super::*;

    fn graph(nodes: usize, edges: &[(NodeIndex, NodeIndex, Exchange)]) -> JobGraph {
        let node = |index| Node {
            id: OperatorId(format!("node {index}")),
            operator: Operator::Calc(Calc {
                filter: None,
                projection: Vec::new(),
                on_error: ErrorPolicy::Fail,
            }),
            output: Stream {
                schema: Arc::new(Schema::empty()),
                event_time: None,
                window: None,
                changelog: millstream_graph::ChangelogMode::Append,
                upsert_keys: Vec::new(),
            },
            parallelism: Parallelism::Job,
        };
        let edge = |(from, to, exchange): &(NodeIndex, NodeIndex, Exchange)| Edge {
            from: *from,
            port: Port::Main,
            to: *to,
            input: 0,
            exchange: exchange.clone(),
        };
        JobGraph {
            name: "test".into(),
            nodes: (0..nodes).map(node).collect(),
            edges: edges.iter().map(edge).collect(),
            max_parallelism: 128,
            consistency_interval: None,
            fingerprint: 0,
        }
    }

    #[track_caller]
    fn check(graph: &JobGraph, parallelism: usize, expected: &[&[NodeIndex]]) {
        assert_eq!(Chains::of(graph, parallelism).chains, expected);
    }

    #[test]
    fn rows_that_change_subtasks_leave_the_chain_unless_there_is_only_one() {
        let graph = graph(3, &[(0, 1, Exchange::Forward), (1, 2, Exchange::Hash(vec![0]))]);
        check(&graph, 2, &[&[0, 1], &[2]]);
        check(&graph, 1, &[&[0, 1, 2]]);
    }

    #[test]
    fn a_union_starts_a_chain_and_a_shared_node_has_several_next_ones() {
        let forward = || Exchange::Forward;
        let graph = graph(
            5,
            &[
                (0, 2, forward()),
                (1, 2, forward()),
                (2, 3, forward()),
                (2, 4, forward()),
            ],
        );
        check(&graph, 2, &[&[0], &[1], &[2, 3, 4]]);
    }

    #[test]
    fn a_node_of_another_parallelism_starts_a_chain() {
        let mut graph = graph(2, &[(0, 1, Exchange::Forward)]);
        graph.nodes[1].parallelism = Parallelism::One;
        check(&graph, 2, &[&[0], &[1]]);
    }
}
