//! Snapshots of graphs: every `cases/NAME.sql` with its plan (or its errors) in `cases/NAME.plan`, and the benchmark's
//! Nexmark queries with their plans in `cases/nexmark/`. `UPDATE_EXPECT=1` updates the snapshots.

use std::fs;
use std::path::{Path, PathBuf};

use millstream_graph::JobGraph;

use crate::{Errors, Input, PlanOptions, explain, front_end};

fn plan(script: &str) -> Result<JobGraph, Errors> {
    let mut options = PlanOptions::default();
    for (name, value) in [
        ("EVENTS", "1000"),
        ("DATA", "data"),
        ("OUT", "out"),
        ("RATE", "1000"),
        ("SIDE_INPUT", "side_input"),
    ] {
        options.environment.insert(name.to_owned(), value.to_owned());
    }
    let name = "job";
    let pipeline = front_end(Input::Sql { name, text: script }, &options)?;
    super::translate(&pipeline, &options)
}

fn rendered(script: &str) -> String {
    rendered_plan(plan(script))
}

fn plan_spec(text: &str) -> Result<JobGraph, Errors> {
    let parsed = millstream_proto::spec::parse(text).expect("a valid spec");
    let options = PlanOptions::default();
    front_end(Input::Spec(&parsed.spec), &options).and_then(|pipeline| super::translate(&pipeline, &options))
}

fn rendered_spec(text: &str) -> String {
    rendered_plan(plan_spec(text))
}

fn rendered_plan(plan: Result<JobGraph, Errors>) -> String {
    match plan {
        Ok(graph) => {
            check_graph(&graph);
            explain::explain(&graph)
        }
        Err(errors) => format!("refused:\n{errors}\n"),
    }
}

/// Checks the invariants of a graph: topological order, unique names, columns within their schemas.
fn check_graph(graph: &JobGraph) {
    assert_eq!(graph.by_id().len(), graph.nodes.len(), "ids are unique");
    for edge in &graph.edges {
        assert!(edge.from < edge.to, "edges go forward");
        if edge.exchange == millstream_graph::Exchange::Forward {
            let (from, to) = (&graph.nodes[edge.from], &graph.nodes[edge.to]);
            assert_eq!(from.parallelism, to.parallelism, "{} -> {}", from.id, to.id);
        }
        if let millstream_graph::Exchange::Hash(columns) = &edge.exchange {
            let width = graph.nodes[edge.from].output.schema.fields().len();
            assert!(!columns.is_empty() && columns.iter().all(|&column| column < width));
        }
    }
    for node in &graph.nodes {
        for field in node.output.schema.fields() {
            assert!(
                !matches!(field.data_type(), arrow_schema::DataType::Utf8View),
                "{}: `{}` is a view of strings",
                node.id,
                field.name()
            );
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/translate/cases")
}

fn scripts(folder: &Path) -> Vec<PathBuf> {
    files(folder, "sql")
}

fn files(folder: &Path, wanted: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder exists");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == wanted))
        .collect();
    paths.sort();
    paths
}

/// Compares with the file and returns the difference, or updates the file.
fn compare(found: &str, path: &Path) -> Option<String> {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, found).expect("the plan can be written");
        return None;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    (expected != found).then(|| format!("{}\nexpected:\n{expected}\nfound:\n{found}", path.display()))
}

#[test]
fn scripts_become_the_expected_graphs() {
    let common = fs::read_to_string(folder().join("tables.ddl")).expect("the tables exist");
    let differences: Vec<String> = scripts(&folder())
        .iter()
        .filter_map(|path| {
            let script = fs::read_to_string(path).expect("readable");
            compare(&rendered(&format!("{common}\n{script}")), &path.with_extension("plan"))
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// `cases/mermaid/NAME.mmd` is the flowchart of `cases/NAME`, a script or a spec.
#[test]
fn graphs_become_the_expected_flowcharts() {
    let common = fs::read_to_string(folder().join("tables.ddl")).expect("the tables exist");
    let read = |name: &str| fs::read_to_string(folder().join(name)).expect("readable");
    let differences: Vec<String> = files(&folder().join("mermaid"), "mmd")
        .iter()
        .filter_map(|path| {
            let name = path.file_stem().expect("a file").to_string_lossy();
            let graph = match folder().join(format!("{name}.sql")).exists() {
                true => plan(&format!("{common}\n{}", read(&format!("{name}.sql")))),
                false => plan_spec(&read(&format!("{name}.yaml"))),
            };
            compare(&explain::mermaid(&graph.expect("a plan")), path)
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn specs_become_the_expected_graphs() {
    let differences: Vec<String> = files(&folder(), "yaml")
        .iter()
        .filter_map(|path| {
            let spec = fs::read_to_string(path).expect("readable");
            compare(&rendered_spec(&spec), &path.with_extension("plan"))
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn nexmark_queries_become_the_expected_graphs() {
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration-tests/benchmarks/nexmark");
    let ddl = fs::read_to_string(queries.join("ddl.sql")).expect("the tables exist");
    let mut differences = Vec::new();
    for path in scripts(&queries) {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        if name == "ddl.sql" {
            continue;
        }
        let script = fs::read_to_string(&path).expect("readable");
        let found = rendered(&format!("{ddl}\n{script}"));
        assert!(!found.starts_with("refused"), "{name}: {found}");
        differences.extend(compare(
            &found,
            &folder().join("nexmark").join(name).with_extension("plan"),
        ));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_sql_cases_of_the_integration_tests_are_planned() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration-tests/sql");
    let tables = fs::read_to_string(cases.join("tables.sql")).expect("the tables exist");
    let mut refused = Vec::new();
    for entry in fs::read_dir(&cases).expect("the folder exists") {
        let script = entry.expect("readable").path().join("pipeline.sql");
        if let Ok(text) = fs::read_to_string(&script)
            && let Err(errors) = plan(&format!("{tables}\n{text}"))
        {
            refused.push(format!("{}: {errors}", script.display()));
        }
    }
    refused.sort();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn the_same_script_gives_the_same_graph_byte_for_byte() {
    let common = fs::read_to_string(folder().join("tables.ddl")).expect("the tables exist");
    for path in scripts(&folder()) {
        let script = format!("{common}\n{}", fs::read_to_string(&path).expect("readable"));
        match (plan(&script), plan(&script)) {
            (Ok(first), Ok(second)) => {
                assert_eq!(first.fingerprint, second.fingerprint, "{}", path.display());
                assert_eq!(explain::explain(&first), explain::explain(&second));
            }
            (Err(first), Err(second)) => assert_eq!(first, second),
            _ => panic!("{}: planned once, refused once", path.display()),
        }
    }
}

#[test]
fn another_script_has_another_fingerprint() {
    let script = |size: u32| {
        let common = fs::read_to_string(folder().join("tables.ddl")).expect("the tables exist");
        format!(
            "{common}
             INSERT INTO counts SELECT k, count(*), window_start FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), \
             INTERVAL '{size}' SECOND)) GROUP BY k, window_start, window_end;"
        )
    };
    let first = plan(&script(10)).expect("a valid script");
    let second = plan(&script(20)).expect("a valid script");
    assert_ne!(first.fingerprint, second.fingerprint);
}

#[test]
fn long_chains_of_views_and_unions_are_planned() {
    let common = fs::read_to_string(folder().join("tables.ddl")).expect("the tables exist");
    let mut script = format!("{common}\nCREATE VIEW v0 AS SELECT k, name FROM clicks;\n");
    for number in 1..150 {
        script.push_str(&format!(
            "CREATE VIEW v{number} AS SELECT k + 1 AS k, name FROM v{};\n",
            number - 1
        ));
    }
    script.push_str("INSERT INTO names SELECT k, name FROM v149");
    for _ in 0..150 {
        script.push_str(" UNION ALL SELECT k, name FROM clicks");
    }
    plan(&script).expect("a valid script");
}

/// DataFusion displays both expressions alike.
#[test]
fn expressions_that_only_nest_differently_are_two_nodes() {
    let table = "CREATE TABLE t (a BIGINT, b BIGINT, c BIGINT) WITH ('connector' = 'datagen');";
    let sinks = ["x", "y"].map(|name| format!("CREATE TABLE {name} (d BIGINT) WITH ('connector' = 'print');"));
    let graph = plan(&format!(
        "{table}{}INSERT INTO x SELECT a - (b - c) FROM t; INSERT INTO y SELECT a - b - c FROM t;",
        sinks.concat()
    ))
    .expect("a valid script");
    let inputs: Vec<_> = graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| matches!(node.operator, millstream_graph::Operator::Sink(_)))
        .flat_map(|(sink, _)| graph.inputs(sink).map(|edge| edge.from))
        .collect();
    assert_eq!(inputs.len(), 2);
    assert_ne!(inputs[0], inputs[1], "{}", explain::explain(&graph));
}

/// Random queries from valid and invalid parts: each is planned or refused, none panics, and none is refused because of
/// an internal error.
#[test]
fn queries_of_random_parts_are_planned_or_refused() {
    const RELATIONS: [&str; 9] = [
        "clicks",
        "TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))",
        "TABLE(HOP(TABLE clicks, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))",
        "TABLE(CUMULATE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))",
        "TABLE(SESSION(TABLE clicks PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10' SECOND))",
        "TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(p), INTERVAL '10' SECOND))",
        "TABLE(TUMBLE(TABLE per_key, DESCRIPTOR(window_time), INTERVAL '1' MINUTE))",
        "per_key",
        "(SELECT * FROM per_key UNION ALL SELECT * FROM per_key)",
    ];
    const KEYS: [&str; 8] = [
        "k",
        "k % 3",
        "window_start",
        "window_end",
        "window_time",
        "name",
        "1",
        "CAST(window_end AS VARCHAR)",
    ];
    const VALUES: [&str; 6] = [
        "count(*)",
        "sum(k) FILTER (WHERE k > 3)",
        "count(DISTINCT name)",
        "max(window_end)",
        "avg(k + 1)",
        "min(name)",
    ];
    const CONDITIONS: [&str; 5] = ["k > 3", "window_start > ts", "name LIKE 'a%'", "1 = 1", "1 = 2"];
    const ON: [&str; 4] = [
        "l.k = r.k",
        "l.window_start = r.window_start",
        "l.window_end = r.window_end",
        "l.k < r.k",
    ];
    const JOINS: [&str; 4] = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];

    let common = fs::read_to_string(folder().join("tables.ddl")).expect("the tables exist");
    let view = "CREATE VIEW per_key AS SELECT k, name, k AS price, window_start, window_end, window_time, window_time AS ts \
                FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
                GROUP BY k, name, window_start, window_end, window_time;";
    let sink = "CREATE TABLE anything (a VARCHAR) WITH ('connector' = 'blackhole');";
    let mut seed: u64 = 0x5eed;
    let mut next = move |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut planned = 0;
    for _ in 0..60 {
        let mut some = |all: &[&'static str], more: usize| -> Vec<&'static str> {
            let count = 1 + next(more);
            let mut picked: Vec<&str> = (0..count).map(|_| all[next(all.len())]).collect();
            picked.dedup();
            picked
        };
        let from = some(&RELATIONS, 1)[0];
        let conditions = some(&CONDITIONS, 2).join(" AND ");
        let query = match some(&["group", "group", "join", "distinct", "top"], 1)[0] {
            "group" => {
                let mut keys = some(&KEYS, 3);
                if some(&["both", "neither"], 1)[0] == "both" {
                    keys.extend(["window_start", "window_end"]);
                }
                let value = some(&VALUES, 1)[0];
                let keys = keys.join(", ");
                format!("SELECT CAST({value} AS VARCHAR) FROM {from} WHERE {conditions} GROUP BY {keys}")
            }
            "join" => {
                let (join, other) = (some(&JOINS, 1)[0], some(&RELATIONS, 1)[0]);
                let on = some(&ON, 4).join(" AND ");
                format!("SELECT l.name FROM {from} l {join} {other} r ON {on}")
            }
            "distinct" => format!("SELECT DISTINCT name FROM {from} WHERE {conditions}"),
            _ => {
                let keys = some(&KEYS, 3).join(", ");
                format!(
                    "SELECT name FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, {keys} ORDER BY k, price) \
                     AS rn FROM {from}) WHERE rn < 3 AND {conditions}"
                )
            }
        };
        match plan(&format!("{common}\n{view}\n{sink}\nINSERT INTO anything {query};")) {
            Ok(graph) => {
                check_graph(&graph);
                planned += 1;
            }
            Err(errors) => {
                let text = errors.to_string();
                for ours in ["Internal error", "internal error", "bug", "lost", "Physical plan"] {
                    assert!(!text.contains(ours), "{query}\n{text}");
                }
            }
        }
    }
    assert!(planned > 10, "only {planned} queries were planned");
}
