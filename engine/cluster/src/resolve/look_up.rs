//! Whether what a pipeline reads and writes exists: asked when it is submitted, so that a wrong name is a mistake in the
//! pipeline and not a job that fails, or waits, once it runs.

use std::sync::Arc;

use millstream_connectors::{Role, TableDefinition, registry};
use millstream_graph::Operator;
use millstream_proto::v1::{self, resolved_job};

use super::{Resolved, at};

/// Why a pipeline cannot be started as it stands.
#[derive(Debug, Clone, PartialEq)]
pub enum NotFound {
    /// What it names does not exist.
    Mistakes(Vec<v1::Mistake>),
    /// Nobody answers; trying again may help.
    Unavailable(String),
}

/// Asks the systems outside, all at once, and as often only as connectors must.
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
                // A table may be read in several places.
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
