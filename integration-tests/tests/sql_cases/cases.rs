//! The cases: the folders of `sql/`, and the queries of the Nexmark and TPC-H benchmarks.

use std::fs;
use std::path::{Path, PathBuf};

use crate::changelog::Changelog;

const PRINT: &str = "'connector' = 'print'";
const BLACKHOLE: &str = "'connector' = 'blackhole'";
const CHANGELOG_FILES: &str = "'connector' = 'filesystem', 'path' = '${OUT}', 'format' = 'debezium-json'";
const EVENT_FILES: &str =
    "'connector' = 'filesystem', 'path' = '${DATA}/nexmark', 'format' = 'json', 'scan.rate-limit' = '${RATE}'";

/// Queries of Nexmark without expected rows: the windows of q12 depend on the clock, `source` is no query.
const NEXMARK_UNDETERMINED: [&str; 2] = ["q12", "source"];

/// A script and its result.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Declarations and statements, with `${DATA}`, `${OUT}` and `${RATE}`.
    script: String,
    pub(crate) expected: PathBuf,
    result: Outcome,
}

/// Form in which the output of a run has the rows of a result.
pub(crate) enum Outcome {
    /// Lines of CSV files.
    Rows,
    /// Changes of rows with a key, printed in order.
    Printed(Changelog),
    /// Changes of rows, in files.
    Changes,
}

/// The sink of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// The one that the case declares.
    Declared,
    /// Files, if the case prints a changelog.
    Files,
}

impl Case {
    /// Returns the script for a run.
    pub(crate) fn script(&self, output: Output) -> String {
        match self.outcome(output) {
            Outcome::Changes => self.script.replace(PRINT, CHANGELOG_FILES),
            _ => self.script.clone(),
        }
    }

    pub(crate) fn outcome(&self, output: Output) -> &Outcome {
        match (&self.result, output) {
            (Outcome::Printed(_), Output::Files) => &Outcome::Changes,
            (outcome, _) => outcome,
        }
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sql")
}

/// Returns all cases in the order of their names, or those that `SQL_CASE` names: `hop`, or `nexmark_*`.
pub(crate) fn cases() -> Result<Vec<Case>, String> {
    let mut cases = folders()?;
    cases.extend(nexmark()?);
    cases.extend(tpch()?);
    if let Ok(only) = std::env::var("SQL_CASE") {
        cases.retain(|case| match only.strip_suffix('*') {
            Some(prefix) => case.name.starts_with(prefix),
            None => case.name == only,
        });
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

fn folders() -> Result<Vec<Case>, String> {
    let tables = read(&root().join("tables.sql"))?;
    let mut cases = Vec::new();
    for folder in entries(&root())? {
        let pipeline = folder.join("pipeline.sql");
        if !pipeline.exists() {
            continue;
        }
        let script = tables.clone() + &read(&pipeline)?;
        cases.push(Case {
            name: stem(&folder),
            result: Changelog::of_script(&script)?.map_or(Outcome::Rows, Outcome::Printed),
            script,
            expected: folder.join("expected.csv"),
        });
    }
    Ok(cases)
}

/// Returns the queries of the benchmark, over files of events instead of generated ones. What they write to a black
/// hole is written to files, as changes.
fn nexmark() -> Result<Vec<Case>, String> {
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks/nexmark");
    let tables = read_from_files(&read(&queries.join("ddl.sql"))?)?;
    let side_input = root().join("data/side_input.csv").display().to_string();
    let mut cases = Vec::new();
    for path in entries(&queries)? {
        let query = stem(&path);
        if path.is_dir() || query == "ddl" || NEXMARK_UNDETERMINED.contains(&query.as_str()) {
            continue;
        }
        let statements = read(&path)?.replace("${SIDE_INPUT}", &side_input);
        cases.push(Case {
            name: format!("nexmark_{query}"),
            result: match statements.contains(BLACKHOLE) {
                true => Outcome::Changes,
                false => Outcome::Rows,
            },
            script: tables.clone() + &statements.replace(BLACKHOLE, CHANGELOG_FILES),
            expected: root().join("nexmark").join(query).with_extension("csv"),
        });
    }
    Ok(cases)
}

/// Returns the queries of TPC-H, over tables that are read as streams.
fn tpch() -> Result<Vec<Case>, String> {
    let folder = root().join("tpch");
    let tables = read(&folder.join("tables.sql"))?;
    let mut cases = Vec::new();
    for path in entries(&folder)? {
        let query = stem(&path);
        let is_sql = path.extension().is_some_and(|extension| extension == "sql");
        if !is_sql || query.starts_with("tables") {
            continue;
        }
        cases.push(Case {
            name: format!("tpch_{query}"),
            result: Outcome::Changes,
            script: format!(
                "{tables}CREATE TABLE result WITH ({CHANGELOG_FILES}) AS\n{};\n",
                read(&path)?
            ),
            expected: path.with_extension("csv"),
        });
    }
    Ok(cases)
}

/// Replaces the options of the generator.
fn read_from_files(tables: &str) -> Result<String, String> {
    let error = "the table of the generator has changed";
    let (columns, rest) = tables.split_once(") WITH (").ok_or(error)?;
    let (_, views) = rest.split_once(");").ok_or(error)?;
    Ok(format!("{columns}) WITH ({EVENT_FILES});{views}"))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(|e| e.to_string()));
    paths.collect()
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
