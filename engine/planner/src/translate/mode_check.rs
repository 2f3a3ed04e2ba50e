//! Checks that the tables of a pipeline suit its mode.

use millstream_connectors::registry;
use millstream_connectors::request::{REQUEST, RESPONSE};
use millstream_graph::{JobGraph, Operator};

use crate::Mode;
use crate::error::{Error, Location};
use crate::logical::Pipeline;

/// Returns the tables that a job of this mode cannot read from or write to.
pub(super) fn check(graph: &JobGraph, pipeline: &Pipeline, mode: Mode) -> Vec<Error> {
    let location = |table: &str| {
        let declared = pipeline.tables.iter().find(|declared| declared.name == table);
        declared.map_or(Location::Unknown, |declared| declared.location.clone())
    };
    let mut errors = Vec::new();
    let mut has_request = false;
    for node in &graph.nodes {
        let (table, is_source) = match &node.operator {
            Operator::Source(source) => (&source.table, true),
            Operator::Sink(sink) => (&sink.table, false),
            _ => continue,
        };
        let name = &table.name;
        let connector = table.connector();
        has_request |= connector == REQUEST;
        let message = match (mode, is_source) {
            (Mode::Stream | Mode::Batch, _) if matches!(connector, REQUEST | RESPONSE) => format!(
                "the connector `{connector}` of `{name}` is for the mode `serve` only; run the pipeline with `engine serve`, \
                 or give the table another connector in this mode"
            ),
            (Mode::Serve, true) if !node.output.changelog.is_append() => format!(
                "the records of `{name}` are changes, which a service does not read yet; give it a table of rows in the mode \
                 `serve`"
            ),
            (Mode::Serve, true) if connector != REQUEST => {
                let is_bounded = registry::find(connector).is_none_or(|connector| connector.is_bounded(table));
                if is_bounded {
                    continue;
                }
                format!(
                    "a service reads its requests, and tables that end: `{name}` (connector `{connector}`) never ends; give \
                     it the connector `request` in the mode `serve`, in YAML: `modes: {{ serve: {{ sources: {{ {name}: \
                     {{ connector: request }} }} }} }}`"
                )
            }
            // Rows that are discarded need no answer.
            (Mode::Serve, false) if !matches!(connector, RESPONSE | "blackhole") => format!(
                "a service answers its requests and writes to nothing else yet: `{name}` has the connector `{connector}`; \
                 give it the connector `response` in the mode `serve`, in YAML: `modes: {{ serve: {{ sinks: {{ {name}: \
                 {{ connector: response }} }} }} }}`"
            ),
            _ => continue,
        };
        errors.push(Error {
            location: location(name),
            message,
        });
    }
    if mode == Mode::Serve && !has_request && errors.is_empty() {
        errors.push(Error {
            location: Location::Unknown,
            message: "the pipeline reads nothing from its requests, so there is nothing to serve; give one of its sources the \
                      connector `request`"
                .to_owned(),
        });
    }
    errors
}
