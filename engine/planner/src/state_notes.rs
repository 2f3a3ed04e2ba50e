//! Notes about state that grows without bound: the operators that keep it, and how to bound it.

use millstream_connectors::registry;
use millstream_graph::{Emission, JobGraph, NodeIndex, Operator};

/// Returns a note for each operator of a graph whose state has no bound: it grows with each new key for as long as its
/// input lasts.
pub fn state_notes(graph: &JobGraph) -> Vec<String> {
    let nodes = 0..graph.nodes.len();
    nodes.filter_map(|node| note(graph, node)).collect()
}

fn note(graph: &JobGraph, node: NodeIndex) -> Option<String> {
    let aggregate = match &graph.nodes[node].operator {
        Operator::GroupAggregate(aggregate) => aggregate,
        // Windows end, and the rows of a normalised table are as many as the table's.
        Operator::Source(_)
        | Operator::Calc(_)
        | Operator::WindowAssign(_)
        | Operator::WindowAggregate(_)
        | Operator::ChangelogNormalize(_)
        | Operator::WindowJoin(_)
        | Operator::WindowTopN(_)
        | Operator::DynamicFilter(_)
        | Operator::Sink(_) => return None,
    };
    let has_end = aggregate.emission == Emission::Final || is_bounded(graph, node);
    if has_end || aggregate.state_ttl.is_some() {
        return None;
    }
    let input = graph.input_schema(node, 0)?;
    let names: Vec<&str> = aggregate
        .keys
        .iter()
        .map(|&key| input.field(key).name().as_str())
        .collect();
    let distinct = aggregate.aggregates.iter().any(|call| call.function.is_distinct());
    let kept = match (names.as_slice(), distinct) {
        ([], false) => return None,
        ([], true) => "all distinct values".to_owned(),
        (names, false) => format!("one row per group ({})", names.join(", ")),
        (names, true) => format!("one row per group ({}) and its distinct values", names.join(", ")),
    };
    Some(format!(
        "`{}` keeps {kept} for ever, so its state grows without bound unless they are few. Bound it with SET \
         'table.exec.state.ttl' = '1 d' (`state_ttl` in YAML), or group by a window",
        graph.nodes[node].id
    ))
}

/// Returns true if all sources of a node's rows end.
fn is_bounded(graph: &JobGraph, node: NodeIndex) -> bool {
    let mut above = vec![false; graph.nodes.len()];
    above[node] = true;
    for index in (0..=node).rev() {
        if above[index] {
            graph.inputs(index).for_each(|edge| above[edge.from] = true);
        }
    }
    let mut sources = graph
        .nodes
        .iter()
        .zip(above)
        .filter(|(_, above)| *above)
        .filter_map(|(node, _)| match &node.operator {
            Operator::Source(source) => Some(&source.table),
            _ => None,
        });
    sources.all(|table| {
        let connector = registry::find(table.connector());
        connector.is_some_and(|connector| connector.is_bounded(table))
    })
}
