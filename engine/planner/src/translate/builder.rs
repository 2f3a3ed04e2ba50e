//! Collection of the nodes and edges of a graph.
//!
//! A node is identified by its operator and its inputs: adding an equal node again returns the first one, so sub-plans
//! that several inserts share are computed once. Nodes get their stable names here. Nodes that no sink needs are
//! dropped at the end.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use millstream_graph::{
    Edge, ErrorPolicy, Exchange, JobGraph, Node, NodeIndex, Operator, OperatorId, Parallelism, Port, Stream,
};

use super::conflict::{self, Conflict, ConflictState};
use super::{changelog, multi_join};
use crate::error::{Error, Location};
use crate::explain;
use crate::state_notes::is_bounded;

#[derive(Debug, Default)]
pub(super) struct GraphBuilder {
    pub nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// Step, insert or table for which each node was added first.
    owners: Vec<String>,
    /// Position of that step, insert or table in the text.
    locations: Vec<Location>,
    /// Nodes by the canonical text of their operator and inputs.
    known: HashMap<String, NodeIndex>,
    names: HashSet<String>,
    /// Stateful nodes, each with another step that would have added it.
    shared_by: HashSet<(NodeIndex, String)>,
    /// Choices between rows of one primary key, by table.
    pub conflicts: HashMap<String, Conflict>,
}

/// An edge whose target is the node being added.
#[derive(Debug, Clone)]
pub(super) struct InputEdge {
    pub from: NodeIndex,
    pub port: Port,
    pub input: usize,
    pub exchange: Exchange,
}

/// The step, insert or table that a node is added for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'o> {
    pub name: &'o str,
    /// Position of errors.
    pub location: &'o Location,
}

impl GraphBuilder {
    /// Returns the node with this operator and these inputs, which is added if there is none. Its id is `owner/kind`,
    /// or `owner` if `kind` is empty.
    pub(super) fn add(
        &mut self,
        owner: Owner<'_>,
        kind: &str,
        operator: Operator,
        inputs: Vec<InputEdge>,
        output: Stream,
        parallelism: Parallelism,
    ) -> NodeIndex {
        let mut key = explain::canonical(&operator, &output, parallelism);
        key.push_str(&explain::shapes(&operator));
        // Dead letters belong to the step whose rows failed, so steps do not share such a node.
        if let Operator::Calc(calc) = &operator
            && calc.on_error == ErrorPolicy::DeadLetter
        {
            key.push_str(owner.name);
        }
        for edge in &inputs {
            key.push_str(&format!(
                "\n<- {} {:?} {} {:?}",
                edge.from, edge.port, edge.input, edge.exchange
            ));
        }
        if let Some(&node) = self.known.get(&key) {
            self.reserve_name(owner, kind, node);
            return node;
        }
        let node = self.nodes.len();
        let id = self.unique_name(owner.name, kind);
        self.nodes.push(Node {
            id,
            operator,
            output,
            parallelism,
        });
        self.owners.push(owner.name.to_owned());
        self.locations.push(owner.location.clone());
        self.edges.extend(inputs.into_iter().map(|edge| Edge {
            from: edge.from,
            port: edge.port,
            to: node,
            input: edge.input,
            exchange: edge.exchange,
        }));
        self.known.insert(key, node);
        node
    }

    /// Returns an edge from a node to one of this parallelism, where no key matters.
    pub(super) fn unkeyed_edge(&self, from: NodeIndex, input: usize, parallelism: Parallelism) -> InputEdge {
        InputEdge {
            from,
            port: Port::Main,
            input,
            exchange: if self.nodes[from].parallelism == parallelism {
                Exchange::Forward
            } else {
                Exchange::Rebalance
            },
        }
    }

    /// Returns the first node that feeds an input of a node.
    pub(super) fn input_of(&self, node: NodeIndex, input: usize) -> Option<NodeIndex> {
        let mut edges = self.edges.iter().filter(|edge| edge.to == node && edge.input == input);
        edges.next().map(|edge| edge.from)
    }

    /// Returns the outputs that a node reads.
    pub(super) fn inputs_of(&self, node: NodeIndex) -> impl Iterator<Item = (NodeIndex, Port)> + '_ {
        let edges = self.edges.iter().filter(move |edge| edge.to == node);
        edges.map(|edge| (edge.from, edge.port))
    }

    /// Returns true if the rows of a node are updated or deleted.
    pub(super) fn has_updates(&self, node: NodeIndex) -> bool {
        let mut are_append_only: Vec<bool> = Vec::with_capacity(node + 1);
        for index in 0..=node {
            let inputs = [0, 1].map(|input| {
                let edges = self.edges.iter().filter(|edge| edge.to == index && edge.input == input);
                let mut edges = edges.filter(|edge| edge.port == Port::Main);
                edges.all(|edge| are_append_only[edge.from])
            });
            are_append_only.push(changelog::is_append_only(&self.nodes[index].operator, inputs));
        }
        are_append_only.last() == Some(&false)
    }

    /// Returns true if all sources of a node's rows end.
    pub(super) fn is_bounded(&self, node: NodeIndex) -> bool {
        is_bounded(&self.nodes, &self.edges, node)
    }

    pub(super) fn owned_by<'s>(&'s self, owner: &'s str) -> impl Iterator<Item = NodeIndex> + 's {
        (0..self.nodes.len()).filter(move |&node| self.owners[node] == owner)
    }

    /// Takes the name that a stateful node would have if it were not another step's already. So the names of the step's
    /// further nodes do not depend on the other step.
    fn reserve_name(&mut self, owner: Owner<'_>, kind: &str, node: NodeIndex) {
        let is_stateless = matches!(
            self.nodes[node].operator,
            Operator::Source(_)
                | Operator::Sink(_)
                | Operator::Calc(_)
                | Operator::WindowAssign(_)
                | Operator::DynamicFilter(_)
        );
        if !is_stateless && self.owners[node] != owner.name && self.shared_by.insert((node, owner.name.to_owned())) {
            self.unique_name(owner.name, kind);
        }
    }

    fn unique_name(&mut self, owner: &str, kind: &str) -> OperatorId {
        let base = if kind.is_empty() {
            owner.to_owned()
        } else {
            format!("{owner}/{kind}")
        };
        let name = std::iter::once(base.clone())
            .chain((2..).map(|number| format!("{base}-{number}")))
            .find(|name| !self.names.contains(name))
            .expect("the numbers do not end");
        self.names.insert(name.clone());
        OperatorId(name)
    }

    /// Returns the graph of all nodes that a sink needs, with the changelogs of its edges. Without an operator that
    /// holds changes back, it has no consistency points.
    pub(super) fn finish(
        mut self,
        name: &str,
        max_parallelism: u16,
        consistency_interval: Option<Duration>,
        state: &ConflictState,
    ) -> Result<JobGraph, Vec<Error>> {
        multi_join::merge(&mut self.nodes, &mut self.edges);
        let mut needed = vec![false; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            needed[index] = matches!(node.operator, Operator::Sink(_));
        }
        for to in (0..self.nodes.len()).rev() {
            if needed[to] {
                for edge in self.edges.iter().filter(|edge| edge.to == to) {
                    needed[edge.from] = true;
                }
            }
        }
        let mut new_index = vec![0; self.nodes.len()];
        let mut nodes = Vec::new();
        let mut locations = Vec::new();
        for (index, (node, location)) in self.nodes.into_iter().zip(self.locations).enumerate() {
            new_index[index] = nodes.len();
            if needed[index] {
                nodes.push(node);
                locations.push(location);
            }
        }
        let edges = self
            .edges
            .into_iter()
            .filter(|edge| needed[edge.to])
            .map(|edge| Edge {
                from: new_index[edge.from],
                to: new_index[edge.to],
                ..edge
            })
            .collect();
        let mut graph = JobGraph {
            name: name.to_owned(),
            nodes,
            edges,
            max_parallelism,
            consistency_interval: None,
            fingerprint: 0,
        };
        conflict::materialize(&mut graph, &mut locations, &self.conflicts, state)?;
        changelog::plan(&mut graph, &locations)?;
        let has_updates = (0..graph.nodes.len()).any(|node| graph.can_hold_back(node));
        graph.consistency_interval = consistency_interval.filter(|_| has_updates);
        graph.fingerprint = explain::fingerprint(&graph);
        Ok(graph)
    }
}

/// Returns the exchange and the parallelism of a node whose rows are distributed by key: one subtask if there is no
/// key.
pub(super) fn keyed_exchange(keys: Vec<usize>) -> (Exchange, Parallelism) {
    if keys.is_empty() {
        (Exchange::Rebalance, Parallelism::One)
    } else {
        (Exchange::Hash(keys), Parallelism::Job)
    }
}
