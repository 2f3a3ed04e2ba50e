//! Changelogs of graphs: modes, keys and exchanges of every operator, and what is refused.
//!
//! `upsert` and `cdc` are tables whose rows are changes; a sink of `append`, `upsert` or `cdc` accepts what its name
//! says.

mod conflicts;
mod errors;
mod joins;
mod modes;
mod notes;
mod points;
mod temporal;
mod top_n;

use std::sync::Once;

use millstream_connectors::{ChangelogSupport, Connector, OptionDescription, Role, TableDefinition, registry};
use millstream_graph::{JobGraph, Operator};

use crate::{Errors, Input, Mode, PlanOptions, explain, front_end};

/// A connector whose tables support these changes.
struct Changes {
    name: &'static str,
    support: ChangelogSupport,
}

impl Connector for Changes {
    fn name(&self) -> &'static str {
        self.name
    }

    fn help(&self) -> &'static str {
        "Serves tests of changelogs."
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Source, Role::Sink]
    }

    fn options(&self, _role: Role) -> &'static [OptionDescription] {
        &[]
    }

    fn uses_format(&self, _role: Role) -> bool {
        false
    }

    fn changelog(&self, _table: &TableDefinition, _role: Role) -> ChangelogSupport {
        self.support
    }

    fn is_bounded(&self, _table: &TableDefinition) -> bool {
        false
    }
}

const TABLES: &str = "
    CREATE TABLE clicks (
      k BIGINT, i INT, name STRING, price DECIMAL(8, 2), ts TIMESTAMP(3), WATERMARK FOR ts AS ts
    ) WITH ('connector' = 'append');
    CREATE TABLE users (
      region STRING, id BIGINT, age INT, ts TIMESTAMP(3), decade AS age / 10, WATERMARK FOR ts AS ts,
      PRIMARY KEY (id) NOT ENFORCED
    ) WITH ('connector' = 'upsert');
    CREATE TABLE orders (id BIGINT, total BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'cdc');
    CREATE TABLE logs (id BIGINT, total BIGINT) WITH ('connector' = 'cdc');
";

fn plan(script: &str, mode: Mode) -> Result<JobGraph, Errors> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        for (name, support) in [
            ("append", ChangelogSupport::Append),
            ("upsert", ChangelogSupport::Upsert),
            ("cdc", ChangelogSupport::Retract),
        ] {
            registry::register(Box::leak(Box::new(Changes { name, support })));
        }
    });
    let options = PlanOptions {
        mode,
        ..PlanOptions::default()
    };
    let text = &format!("{TABLES}{script}");
    let pipeline = front_end(Input::Sql { name: "job", text }, &options)?;
    crate::translate::translate(&pipeline, &options)
}

/// Returns the plan without the text of projections, or the errors.
fn planned(script: &str, mode: Mode) -> String {
    match plan(script, mode) {
        Ok(graph) => {
            check(&graph);
            let text = explain::explain(&graph);
            text.lines().skip(1).map(|line| format!("{}\n", brief(line))).collect()
        }
        Err(errors) => format!("refused: {errors}\n"),
    }
}

/// Replaces the columns of a projection or source by `[..]`.
fn brief(line: &str) -> String {
    let is_long = line.contains(": select [") || line.contains(": read ");
    match (line.find('['), line.rfind(']')) {
        (Some(start), Some(end)) if is_long => {
            let end = match line.ends_with("[one subtask]") {
                true => line[..line.len() - "[one subtask]".len()].rfind(']').unwrap_or(end),
                false => end,
            };
            format!("{}[..{}", &line[..start], &line[end..])
        }
        _ => line.to_owned(),
    }
}

/// Checks that exactly the outputs that are not append-only have kinds, as their last column, and that all edges into
/// one input have the same columns.
fn check(graph: &JobGraph) {
    for (index, node) in graph.nodes.iter().enumerate() {
        let output = &node.output;
        let kinds = output
            .schema
            .fields()
            .iter()
            .filter(|field| field.name() == "$kind")
            .count();
        assert_eq!(kinds, usize::from(!output.changelog.is_append()), "{}", node.id);
        let has_kind = millstream_connectors::changelog::is_changelog(&output.schema);
        assert_eq!(has_kind, !output.changelog.is_append(), "{}", node.id);
        let width = output.schema.fields().len();
        for key in &output.upsert_keys {
            assert!(key.iter().all(|&column| column + 1 < width), "{}: {key:?}", node.id);
            assert!(key.is_sorted(), "{}: {key:?}", node.id);
        }
        if let Operator::Calc(calc) = &node.operator {
            assert_eq!(calc.projection.len(), width, "{}", node.id);
        }
        for edge in graph.inputs(index) {
            let first = graph.input_schema(index, edge.input).expect("an input");
            assert_eq!(
                graph.edge_schema(edge).fields().len(),
                first.fields().len(),
                "{}",
                node.id
            );
            let is_rebalanced = edge.exchange == millstream_graph::Exchange::Rebalance
                && node.parallelism == millstream_graph::Parallelism::Job;
            let is_changelog = !graph.nodes[edge.from].output.changelog.is_append();
            assert!(!(is_rebalanced && is_changelog), "{} is rebalanced", node.id);
        }
    }
}
