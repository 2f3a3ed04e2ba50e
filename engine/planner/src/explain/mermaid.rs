//! A job graph as a Mermaid flowchart, for documents that render it.
//!
//! A node shows the operator's id and a short description; operators with state are drawn as cylinders. Expressions are
//! omitted, see [`super::explain`].

use millstream_graph::{Calc, ChangelogMode, JobGraph, NodeIndex, Operator, Parallelism, Phase, Port};

use super::{describe_edge, describe_window, names, window};

/// Returns the flowchart, with sources on the left.
pub fn mermaid(graph: &JobGraph) -> String {
    let mut text = "flowchart LR\n".to_owned();
    for (index, node) in graph.nodes.iter().enumerate() {
        let (open, close) = match has_state(&node.operator) {
            true => ("[(", ")]"),
            false => ("[", "]"),
        };
        let single = if node.parallelism == Parallelism::One {
            "<br>one subtask"
        } else {
            ""
        };
        let (id, words) = (escaped(&node.id.0), escaped(&title(graph, index)));
        super::line(
            &mut text,
            &format!("  n{index}{open}\"{id}<br>{words}{single}\"{close}"),
        );
    }
    for edge in &graph.edges {
        let (side, exchange, port) = describe_edge(graph, edge);
        let changelog = match (edge.port, &graph.nodes[edge.from].output.changelog) {
            (Port::Main, ChangelogMode::Upsert(_)) => "upsert",
            (Port::Main, ChangelogMode::Retract) => "retract",
            (Port::Main, ChangelogMode::Append) | (Port::Late(_) | Port::DeadLetters, _) => "",
        };
        let words = format!("{side}{exchange}{port}{changelog}");
        let label = match words.trim_end() {
            "" => String::new(),
            words => format!("|\"{}\"|", escaped(words)),
        };
        super::line(&mut text, &format!("  n{} -->{label} n{}", edge.from, edge.to));
    }
    text
}

fn has_state(operator: &Operator) -> bool {
    match operator {
        Operator::WindowAggregate(aggregate) => aggregate.phase != Phase::Local,
        Operator::Join(_)
        | Operator::MultiJoin(_)
        | Operator::TemporalJoin(_)
        | Operator::WindowJoin(_)
        | Operator::WindowTopN(_)
        | Operator::TopN(_)
        | Operator::Sort(_)
        | Operator::GroupAggregate(_)
        | Operator::ChangelogNormalize(_)
        | Operator::SinkMaterialize(_) => true,
        Operator::Source(_)
        | Operator::Calc(_)
        | Operator::WindowAssign(_)
        | Operator::Unnest(_)
        | Operator::DynamicFilter(_)
        | Operator::Sink(_) => false,
    }
}

fn title(graph: &JobGraph, index: NodeIndex) -> String {
    let input = graph.inputs(index).next().map(|edge| graph.edge_schema(edge));
    let columns = |columns: &[usize]| match (&input, columns) {
        (Some(schema), [_, ..]) => format!(" by {}", names(schema, columns)),
        _ => String::new(),
    };
    match &graph.nodes[index].operator {
        Operator::Source(source) => {
            let words = format!("read {} ({})", source.table.name, source.table.connector());
            match &source.calc {
                Some(calc) if calc.filter.is_some() => words + ", filter",
                _ => words,
            }
        }
        Operator::Calc(Calc { filter: Some(_), .. }) => "filter, project".to_owned(),
        Operator::Calc(_) => "project".to_owned(),
        Operator::Unnest(unnest) => format!("unnest{}", columns(&[unnest.collection]).replace(" by", "")),
        Operator::WindowAssign(assign) => format!("assign windows: {}", window(&assign.window)),
        Operator::WindowAggregate(aggregate) => {
            let phase = match aggregate.phase {
                Phase::Single => "aggregate",
                Phase::Local => "pre-aggregate",
                Phase::Final => "merge",
            };
            let window = match &input {
                Some(schema) => describe_window(&aggregate.window, &aggregate.time, schema),
                None => window(&aggregate.window),
            };
            // The index of the time column is omitted.
            let window = window.split(" on ").next().unwrap_or_default();
            format!("{phase} {window}{}", columns(&aggregate.keys))
        }
        Operator::GroupAggregate(aggregate) => format!("aggregate{}", columns(&aggregate.keys)),
        Operator::ChangelogNormalize(normalize) => format!("newest row{}", columns(&normalize.keys)),
        Operator::SinkMaterialize(materialize) => format!("one row{}", columns(&materialize.keys)),
        Operator::Join(join) => {
            let interval = if join.bounds.is_some() { " interval" } else { "" };
            format!("{}{interval} join", join.join_type.to_string().to_lowercase())
        }
        Operator::MultiJoin(join) => format!("inner join of {} inputs", join.keys.len()),
        Operator::TemporalJoin(join) => format!("{} temporal join", if join.is_outer { "left" } else { "inner" }),
        Operator::WindowJoin(join) => format!("{} join of windows", join.join_type.to_string().to_lowercase()),
        Operator::Sort(_) => "sort".to_owned(),
        Operator::TopN(top) => format!("rows {} to {}{}", top.from, top.to, columns(&top.partition)),
        Operator::WindowTopN(top) => format!(
            "rows {} to {} of each window{}",
            top.from,
            top.to,
            columns(&top.partition)
        ),
        Operator::DynamicFilter(_) => "dynamic filter".to_owned(),
        Operator::Sink(sink) => format!("write {} ({})", sink.table.name, sink.table.connector()),
    }
}

/// Escapes a label: Mermaid reads labels as HTML with entities of its own.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '<' | '>' | '#' | '&' | '`' => escaped += &format!("#{};", u32::from(character)),
            _ => escaped.push(character),
        }
    }
    escaped
}
