//! Checks that what a pipeline reads and writes exists. The check at submission makes a wrong name a mistake in the
//! pipeline instead of a job that fails or waits when it runs.

use std::sync::Arc;

use millstream_connectors::{Role, TableDefinition, registry};
use millstream_graph::Operator;
use millstream_proto::v1::{self, resolved_job};

use super::{Resolved, at};

/// The reason why a pipeline cannot start.
#[derive(Debug, Clone, PartialEq)]
pub enum NotFound {
    /// It names something that does not exist.
    Mistakes(Vec<v1::Mistake>),
    /// An external system does not answer; trying again may help.
    Unavailable(String),
}

/// Asks the external systems, concurrently and with as few requests as connectors allow.
pub async fn look_up(resolved: &Resolved) -> Result<(), NotFound> {
    let operators = resolved.graph.nodes.iter().map(|node| &node.operator);
    let tables: Vec<(Role, Arc<TableDefinition>)> = operators
        .filter_map(|operator| match operator {
            Operator::Source(source) => Some((Role::Source, source.table.clone())),
            Operator::Sink(sink) => Some((Role::Sink, sink.table.clone())),
            _ => None,
        })
        .collect();
    let answers = registry::check_external_objects(&tables).await;
    let (mut mistakes, mut unavailable) = (Vec::new(), Vec::new());
    for ((role, table), answer) in tables.iter().zip(answers) {
        match answer {
            Ok(()) => {}
            Err(millstream_connectors::Error::Unavailable(reason)) => unavailable.push(reason),
            Err(error) => {
                let mistake = mistake(resolved, *role, table, &error.to_string());
                // A table may be read several times.
                if !mistakes.contains(&mistake) {
                    mistakes.push(mistake);
                }
            }
        }
    }
    unavailable.dedup();
    match (mistakes.is_empty(), unavailable.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => Err(NotFound::Unavailable(unavailable.join("; "))),
        (false, _) => Err(NotFound::Mistakes(mistakes)),
    }
}

fn mistake(resolved: &Resolved, role: Role, table: &TableDefinition, message: &str) -> v1::Mistake {
    let Some(resolved_job::Pipeline::Spec(_)) = &resolved.resolved.pipeline else {
        return at(None, "", message);
    };
    let entries = match role {
        Role::Source => "sources",
        Role::Sink => "sinks",
    };
    let path = format!("{entries}.{}.options.topic", table.name);
    let position = resolved.positions.find(&path);
    at(
        position.map(|position| (position.line, position.column)),
        &path,
        message,
    )
}
