//! Which nodes of a job graph form one task.
//!
//! A node joins the chain of the node before it if nothing else feeds it and no row has to change subtasks on the way:
//! the edge is `Forward`, or there is one subtask on both sides.

use millstream_planner::graph::{Edge, Exchange, JobGraph, NodeIndex, Operator, Parallelism};

/// The chains of a graph at some parallelism.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chains {
    /// Nodes of each chain, in topological order; the first is the head. In the order of the heads.
    pub chains: Vec<Vec<NodeIndex>>,
    /// For each node: its chain, and its place in it.
    pub places: Vec<(usize, usize)>,
    /// For each edge of the graph: whether it stays inside a chain.
    pub inside: Vec<bool>,
}

pub fn parallelism_of(graph: &JobGraph, node: NodeIndex, parallelism: usize) -> usize {
    match graph.nodes[node].parallelism {
        Parallelism::Job => parallelism,
        Parallelism::One => 1,
    }
}

impl Chains {
    pub fn of(graph: &JobGraph, parallelism: usize) -> Self {
        let mut chains: Vec<Vec<NodeIndex>> = Vec::new();
        let mut places = Vec::with_capacity(graph.nodes.len());
        let mut inside = vec![false; graph.edges.len()];
        for node in 0..graph.nodes.len() {
            let joined = graph
                .edges
                .iter()
                .position(|edge| edge.to == node)
                .filter(|edge| joins(graph, &graph.edges[*edge], parallelism));
            let place = match joined {
                Some(edge) => {
                    inside[edge] = true;
                    let (chain, _): (usize, usize) = places[graph.edges[edge].from];
                    chains[chain].push(node);
                    (chain, chains[chain].len() - 1)
                }
                None => {
                    chains.push(vec![node]);
                    (chains.len() - 1, 0)
                }
            };
            places.push(place);
        }
        Self { chains, places, inside }
    }
}

fn joins(graph: &JobGraph, edge: &Edge, parallelism: usize) -> bool {
    let from = parallelism_of(graph, edge.from, parallelism);
    let to = parallelism_of(graph, edge.to, parallelism);
    from == to
        && (edge.exchange == Exchange::Forward || to == 1)
        && graph.inputs(edge.to).count() == 1
        && !matches!(graph.nodes[edge.to].operator, Operator::Source(_))
}
