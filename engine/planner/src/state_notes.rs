//! Notes about state that grows without bound: the operators that keep it, and how to bound it.

use std::time::Duration;

use arrow_schema::Schema;
use millstream_connectors::changelog::is_changelog;
use millstream_connectors::registry;
use millstream_graph::{
    Edge, Emission, GroupAggregate, JobGraph, Node, NodeIndex, Operator, Phase, SinkMaterialize, TopN,
};

/// Returns a note for each operator of a graph whose state has no bound: it grows with each new key for as long as its
/// input lasts.
pub fn state_notes(graph: &JobGraph) -> Vec<String> {
    let nodes = 0..graph.nodes.len();
    nodes.filter_map(|node| note(graph, node)).collect()
}

fn note(graph: &JobGraph, node: NodeIndex) -> Option<String> {
    let input = graph.input_schema(node, 0)?;
    let (emission, kept, remedy) = match &graph.nodes[node].operator {
        Operator::GroupAggregate(aggregate) if aggregate.phase == Phase::Local => return None,
        Operator::GroupAggregate(aggregate) if aggregate.state_ttl.is_none() => (
            aggregate.emission,
            of_aggregate(aggregate, &input)?,
            "or group by a window",
        ),
        Operator::TopN(top) if top.state_ttl.is_none() => {
            (top.emission, of_top_n(top, &input)?, "or rank the rows of each window")
        }
        Operator::MultiJoin(join) => (
            join.emission,
            of_join(graph, node, &vec![join.state_ttl; join.keys.len()])?,
            "join windows, or bound the event times of the rows that are joined (`l.ts BETWEEN r.ts - INTERVAL '1' HOUR \
             AND r.ts`)",
        ),
        Operator::Join(join) if join.bounds.is_none() => (
            join.emission,
            of_join(graph, node, &join.state_ttl)?,
            "join windows, or bound the event times of the rows that are joined (`l.ts BETWEEN r.ts - INTERVAL '1' HOUR \
             AND r.ts`)",
        ),
        Operator::SinkMaterialize(materialize) if materialize.state_ttl.is_none() => (
            materialize.emission,
            of_materialize(materialize, &input)?,
            "or make the columns that identify the rows of the query the primary key",
        ),
        // Windows and intervals end, and the rows of a normalised or versioned table are as many as the table's.
        Operator::Source(_)
        | Operator::Calc(_)
        | Operator::WindowAssign(_)
        | Operator::Unnest(_)
        | Operator::WindowAggregate(_)
        | Operator::GroupAggregate(_)
        | Operator::ChangelogNormalize(_)
        | Operator::SinkMaterialize(_)
        | Operator::Join(_)
        | Operator::TemporalJoin(_)
        | Operator::WindowJoin(_)
        | Operator::TopN(_)
        | Operator::Sort(_)
        | Operator::WindowTopN(_)
        | Operator::DynamicFilter(_)
        | Operator::Sink(_) => return None,
    };
    if emission == Emission::Final || is_bounded(&graph.nodes, &graph.edges, node) {
        return None;
    }
    Some(format!(
        "`{}` keeps {kept} for ever, so its state grows without bound unless they are few. Bound it with SET \
         'table.exec.state.ttl' = '1 d' (`state_ttl` in YAML), {remedy}",
        graph.nodes[node].id
    ))
}

/// Returns the inputs all of whose rows a join keeps, if they have no bound. The rows of a changelog are as many as
/// those of the operator that updates them.
fn of_join(graph: &JobGraph, node: NodeIndex, state_ttl: &[Option<Duration>]) -> Option<String> {
    let is_kept = |input: usize| {
        let mut edges = graph.inputs(node).filter(|edge| edge.input == input);
        state_ttl[input].is_none() && edges.any(|edge| graph.nodes[edge.from].output.changelog.is_append())
    };
    let kept: Vec<bool> = (0..state_ttl.len()).map(is_kept).collect();
    let of = match kept.as_slice() {
        [true, false] => "its left input",
        [false, true] => "its right input",
        kept if !kept.contains(&true) => return None,
        kept if kept.contains(&false) => "some of its inputs",
        _ => "its inputs",
    };
    Some(format!("all rows of {of}"))
}

/// Returns the rows that an aggregate keeps, if they have no bound.
fn of_aggregate(aggregate: &GroupAggregate, input: &Schema) -> Option<String> {
    let distinct = aggregate.aggregates.iter().any(|call| call.function.is_distinct());
    match (names(input, &aggregate.keys), distinct) {
        (None, false) => None,
        (None, true) => Some("all distinct values".to_owned()),
        (Some(names), false) => Some(format!("one row per group ({names})")),
        (Some(names), true) => Some(format!("one row per group ({names}) and its distinct values")),
    }
}

/// Returns the rows that a choice between rows of one primary key keeps, if they have no bound. Those of a changelog
/// are as many as the operator that updates them has.
fn of_materialize(materialize: &SinkMaterialize, input: &Schema) -> Option<String> {
    let names = names(input, &materialize.keys).filter(|_| !is_changelog(input))?;
    Some(format!("the rows of each primary key ({names})"))
}

/// Returns the rows that a Top-N keeps, if they have no bound.
fn of_top_n(top: &TopN, input: &Schema) -> Option<String> {
    match (is_changelog(input), names(input, &top.partition)) {
        (true, _) => Some("all rows of its input".to_owned()),
        (false, None) => None,
        (false, Some(names)) if top.keeps_first_to_come() => Some(format!("one row per partition ({names})")),
        (false, Some(names)) => Some(format!("the first rows of each partition ({names})")),
    }
}

/// Returns the names of columns; `None` if there are no columns.
fn names(input: &Schema, columns: &[usize]) -> Option<String> {
    let names: Vec<&str> = columns
        .iter()
        .map(|&column| input.field(column).name().as_str())
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Returns true if all sources of a node's rows end.
pub(crate) fn is_bounded(nodes: &[Node], edges: &[Edge], node: NodeIndex) -> bool {
    let mut above = vec![false; nodes.len()];
    above[node] = true;
    for index in (0..=node).rev() {
        if above[index] {
            let edges = edges.iter().filter(|edge| edge.to == index);
            edges.for_each(|edge| above[edge.from] = true);
        }
    }
    let mut sources = nodes
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
