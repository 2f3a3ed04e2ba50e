//! Generates the tables of `docs/configuration.md` and `docs/metrics.md` from the command line, the schema of pipelines
//! and the catalog of metrics, and checks that the pages have them. `UPDATE_DOCS=1 cargo test --workspace --bin engine
//! documentation` updates the pages. Names without a declaration (environment variables, SET keys) are collected from
//! the sources.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use serde_json::Value;

use crate::arguments::Arguments;
use crate::recorder::catalog::{Kind, METRICS, Process};

const UPDATE: &str = "UPDATE_DOCS=1 cargo test --workspace --bin engine documentation";

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the text before, between and after two markers.
fn between<'p>(page: &'p str, path: &str, marker: &str) -> [&'p str; 3] {
    let (begin, end) = (format!("<!-- begin: {marker} -->\n"), format!("<!-- end: {marker} -->"));
    let start = page
        .find(&begin)
        .unwrap_or_else(|| panic!("{path} lacks `{}`", begin.trim()))
        + begin.len();
    let length = page[start..]
        .find(&end)
        .unwrap_or_else(|| panic!("{path} lacks `{end}`"));
    [&page[..start], &page[start..start + length], &page[start + length..]]
}

/// Compares sections of a page with the generated ones, or writes these.
fn check_sections(path: &str, sections: &[(String, String)]) {
    let file = checkout().join(path);
    let written = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut wanted = written.clone();
    for (marker, content) in sections {
        let [before, _, after] = between(&wanted, path, marker);
        wanted = format!("{before}{content}{after}");
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &wanted).unwrap();
    } else {
        assert!(wanted == written, "{path} is out of date: run {UPDATE}");
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Returns a table with a row for each option of a command.
fn options(command: &clap::Command) -> String {
    let mut table = "| option | default | variable | meaning |\n|---|---|---|---|\n".to_string();
    for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
        let values: Vec<String> = argument
            .get_value_names()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect();
        let takes_value = argument.get_action().takes_values();
        let name = match argument.get_long() {
            Some(long) if takes_value => format!("--{long} {}", values.join(" ")),
            Some(long) => format!("--{long}"),
            None => values.join(" "),
        };
        let default: Vec<String> = argument
            .get_default_values()
            .iter()
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        let default = match argument.is_required_set() {
            true => "*required*".to_string(),
            false if !takes_value => String::new(),
            false => default.join(", "),
        };
        let variable = argument
            .get_env()
            .map_or(String::new(), |name| format!("`{}`", name.to_string_lossy()));
        let mut meaning = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let possible: Vec<String> = match takes_value {
            true => argument
                .get_possible_values()
                .iter()
                .map(|value| format!("`{}`", value.get_name()))
                .collect(),
            false => Vec::new(),
        };
        if !possible.is_empty() {
            write!(meaning, " ({})", possible.join(", ")).unwrap();
        }
        writeln!(
            table,
            "| `{}` | {default} | {variable} | {} |",
            cell(&name),
            cell(&meaning)
        )
        .unwrap();
    }
    table
}

/// Appends a row for every key below a schema of pipelines in YAML.
fn keys(schema: &Value, path: &str, table: &mut String) {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}{key}");
        let required = if required.contains(&key.as_str()) {
            "*required*. "
        } else {
            ""
        };
        let mut meaning = format!("{required}{}", value["description"].as_str().unwrap_or_default());
        if let Some(words) = value["enum"].as_array() {
            let words: Vec<String> = words
                .iter()
                .filter_map(Value::as_str)
                .map(|word| format!("`{word}`"))
                .collect();
            write!(meaning, " ({})", words.join(", ")).unwrap();
        }
        writeln!(table, "| `{path}` | {} |", cell(&meaning)).unwrap();
        keys(value, &format!("{path}."), table);
        let of_each = &value["additionalProperties"];
        keys(of_each, &format!("{path}.NAME."), table);
        for form in of_each["anyOf"].as_array().into_iter().flatten() {
            keys(form, &format!("{path}.NAME."), table);
        }
    }
}

#[test]
fn configuration_lists_every_option_and_key() {
    let mut command = Arguments::command();
    command.build();
    let mut sections: Vec<(String, String)> = [
        "run",
        "serve",
        "test",
        "coordinator",
        "worker",
        "standalone",
        "checkpoints",
    ]
    .iter()
    .map(|name| {
        let command = command.find_subcommand(name).expect("a command");
        (format!("engine {name}"), options(command))
    })
    .collect();
    let tokens = command.find_subcommand("tokens").expect("a command");
    for name in ["create", "list", "revoke"] {
        let command = tokens.find_subcommand(name).expect("a command");
        sections.push((format!("engine tokens {name}"), options(command)));
    }
    let mut table = "| key | meaning |\n|---|---|\n".to_string();
    keys(&millstream_proto::spec::json_schema(), "", &mut table);
    sections.push(("pipeline".to_string(), table));
    check_sections("docs/configuration.md", &sections);
    // A command that takes options is in the page, or has none.
    let named: BTreeSet<&str> = sections.iter().map(|(marker, _)| marker.as_str()).collect();
    for other in command.get_subcommands().filter(|other| other.get_name() != "help") {
        let count = other
            .get_opts()
            .filter(|option| !matches!(option.get_id().as_str(), "help" | "version"))
            .count();
        let name = format!("engine {}", other.get_name());
        assert!(
            count == 0 || named.contains(name.as_str()),
            "docs/configuration.md lacks {name}"
        );
    }
}

#[test]
fn metrics_lists_every_metric() {
    let mut table = "| metric | kind | labels | served by | meaning |\n|---|---|---|---|---|\n".to_string();
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let process = match metric.process {
            Process::Each => "every process",
            Process::Coordinator => "coordinators",
            Process::Leader => "the leading coordinator",
            Process::Driver => "the leading coordinator, `engine run`",
            Process::Tasks => "workers, `engine run`",
            Process::Service => "`engine serve`",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let help = cell(metric.help);
        writeln!(
            table,
            "| `{}` | {kind} | {} | {process} | {help} |",
            metric.name,
            labels.join(", ")
        )
        .unwrap();
    }
    check_sections("docs/metrics.md", &[("metrics".to_string(), table)]);
}

/// Collects the string literals of Rust files below a folder, without those of tests.
fn quoted(path: &Path, words: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
            quoted(&entry.path(), words);
        }
        return;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !name.ends_with(".rs") || name.contains("test") || name == "documentation.rs" {
        return;
    }
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    // A variable that `env!` reads is one of the build.
    let code = code.replace("env!(\"", "env!(");
    words.extend(code.split('"').map(str::to_owned));
}

/// Returns the names in the first column of a section's table.
fn first_column(marker: &str) -> BTreeSet<String> {
    let path = "docs/configuration.md";
    let page = fs::read_to_string(checkout().join(path)).unwrap();
    let [_, section, _] = between(&page, path, marker);
    let cells = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    cells
        .flat_map(|cell| {
            cell.split(',')
                .filter_map(|name| name.trim().strip_prefix('`')?.strip_suffix('`'))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn configuration_lists_every_environment_variable() {
    let mut words = BTreeSet::new();
    for folder in [
        "engine/server/src",
        "engine/cli/src",
        "engine/cluster/src",
        "state/src",
        "connectors/src",
        "fail-point/src",
    ] {
        quoted(&checkout().join(folder), &mut words);
    }
    let is_variable = |word: &str| {
        ["MILLSTREAM_", "OTEL_"]
            .iter()
            .any(|start| word.strip_prefix(start).is_some_and(|rest| !rest.is_empty()))
            && word
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    let used: BTreeSet<String> = words.into_iter().filter(|word| is_variable(word)).collect();
    let listed = first_column("variables")
        .into_iter()
        .filter(|name| is_variable(name))
        .collect();
    assert_eq!(used, listed, "read by the code, and in docs/configuration.md");
}

#[test]
fn configuration_lists_every_set_key() {
    let keys = millstream_planner::sql::SETTING_KEYS.iter().map(|key| key.to_string());
    let listed = first_column("set keys");
    assert_eq!(
        keys.collect::<BTreeSet<_>>(),
        listed,
        "with an effect, and in docs/configuration.md"
    );
}
