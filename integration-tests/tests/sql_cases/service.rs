//! The cases as services: one process serves them all, the rows of the larger tables are sent in one request, and the
//! response must have the expected rows. Small tables stay files, which the service reads when it starts.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use millstream_integration_tests::http;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::cases::{self, Case, Outcome, Output};
use crate::changelog;

/// Tables that are not part of requests.
const FILES: [&str; 2] = ["names", "side_input"];
/// Time for the process to plan all cases.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// The process that serves all cases.
pub(crate) struct Server {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A declared table whose rows are sent.
struct Table {
    name: String,
    path: PathBuf,
    is_csv: bool,
    has_header: bool,
}

impl Server {
    /// Starts the process.
    pub(crate) fn start<'a>(cases: impl Iterator<Item = &'a Case>) -> Result<Self, String> {
        let folder = TempDir::new().map_err(|e| e.to_string())?;
        let mut command = Command::new(millstream_integration_tests::engine());
        command.args(["serve", "--http", "127.0.0.1:0", "--timeout", "60s", "--data-dir"]);
        command.arg(folder.path().join("data"));
        for case in cases {
            let file = folder.path().join(&case.name).with_extension("sql");
            let (script, _) = script(case);
            fs::write(&file, script).map_err(|e| e.to_string())?;
            command.arg(file);
        }
        let mut process = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start the engine: {e}"))?;
        let output = process.stderr.take().ok_or("no standard error")?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = Vec::new();
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let address = line.split_once("http://127.0.0.1:").and_then(|(_, rest)| {
                    let (port, _) = rest.split_once('/')?;
                    port.parse::<u16>().ok()
                });
                lines.push(line);
                if let Some(port) = address {
                    sender.send(Ok(port)).ok();
                }
            }
            sender.send(Err(lines.join("\n"))).ok();
        });
        let port = receiver.recv_timeout(START_TIMEOUT).map_err(|e| e.to_string())??;
        Ok(Self {
            process,
            port,
            _folder: folder,
        })
    }

    /// Sends the rows of a case's tables, and returns the rows of the response in the form of the expected ones.
    pub(crate) fn rows(&self, case: &Case) -> Result<Vec<String>, String> {
        let (_, tables) = script(case);
        let path = format!("/v1/pipelines/{}", case.name);
        let description = http::request(self.port, "GET", &path, &[], &[])?;
        let description: Value = serde_json::from_str(&description.body).map_err(|e| e.to_string())?;
        let inputs = description["inputs"].as_array().ok_or("no inputs")?;
        let mut rows = Map::new();
        for input in inputs {
            let name = input["name"].as_str().unwrap_or_default();
            let table = tables.iter().find(|table| table.name == name);
            let table = table.ok_or_else(|| format!("{name} is not a table of the case"))?;
            let columns = input["columns"].as_array().into_iter().flatten();
            let columns: Vec<&str> = columns.filter_map(|column| column["name"].as_str()).collect();
            rows.insert(name.to_string(), Value::Array(table.rows(&columns)?));
        }
        let body = match rows.len() {
            1 => rows.into_iter().next().map(|(_, rows)| rows).unwrap_or_default(),
            _ => Value::Object(rows),
        };
        let is_rows = matches!(case.outcome(Output::Files), Outcome::Rows);
        let accept = if is_rows { "text/csv" } else { "application/x-ndjson" };
        let headers = [("Content-Type", "application/json"), ("Accept", accept)];
        let response = http::request(
            self.port,
            "POST",
            &format!("{path}/invoke"),
            &headers,
            body.to_string().as_bytes(),
        )?;
        if response.status != 200 {
            return Err(format!("{}: {}", response.status, response.body));
        }
        let lines = response.body.lines();
        match is_rows {
            true => Ok(lines.skip(1).map(str::to_string).collect()),
            false => {
                let inserts = lines.map(|row| format!(r#"{{"before":null,"after":{row},"op":"c"}}"#));
                changelog::table_of_files(&inserts.collect::<Vec<_>>())
            }
        }
    }
}

/// Returns the script of a case with tables of requests and responses, and the tables whose rows are sent.
fn script(case: &Case) -> (String, Vec<Table>) {
    let script = case.script(Output::Files);
    let mut rest = script.as_str();
    let (mut out, mut tables) = (String::new(), Vec::new());
    while let Some(at) = rest.find("WITH (") {
        let options = &rest[at + "WITH (".len()..];
        let end = options.find(')').unwrap_or(options.len());
        let (declared, options) = (&rest[..at], &options[..end]);
        let name = declared
            .rfind("CREATE TABLE ")
            .map(|at| &declared[at + "CREATE TABLE ".len()..]);
        let name = name.and_then(|name| name.split_whitespace().next()).unwrap_or_default();
        out.push_str(declared);
        match (options.contains("'${OUT}"), option(options, "path")) {
            (true, _) => out.push_str("WITH ('connector' = 'response'"),
            (false, Some(path)) if !FILES.contains(&name) => {
                out.push_str("WITH ('connector' = 'request'");
                tables.push(Table {
                    name: name.to_string(),
                    path: PathBuf::from(path.replace("${DATA}", &data().display().to_string())),
                    is_csv: option(options, "format") == Some("csv"),
                    has_header: option(options, "csv.header") == Some("true"),
                });
            }
            _ => {
                out.push_str("WITH (");
                out.push_str(options);
            }
        }
        rest = &rest[at + "WITH (".len() + end..];
    }
    out.push_str(rest);
    let out = out
        .replace("${DATA}", &data().display().to_string())
        .replace("${RATE}", "10000000");
    (out, tables)
}

fn data() -> PathBuf {
    cases::root().join("data")
}

/// Returns the value of an option in the text of a WITH clause.
fn option<'a>(options: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = options.split_once(&format!("'{name}'"))?;
    let (_, rest) = rest.split_once('\'')?;
    Some(rest.split_once('\'')?.0)
}

impl Table {
    /// Returns the rows of the table's files as JSON.
    fn rows(&self, columns: &[&str]) -> Result<Vec<Value>, String> {
        let mut rows = Vec::new();
        for file in self.files()? {
            let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            let lines = text.lines().skip(usize::from(self.has_header));
            for line in lines {
                rows.push(match self.is_csv {
                    true => csv_row(columns, line),
                    false => serde_json::from_str(line).map_err(|e| format!("{}: {e}", file.display()))?,
                });
            }
        }
        Ok(rows)
    }

    fn files(&self) -> Result<Vec<PathBuf>, String> {
        if self.path.is_file() {
            return Ok(vec![self.path.clone()]);
        }
        let entries = fs::read_dir(&self.path).map_err(|e| format!("{}: {e}", self.path.display()))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort_by(|a: &PathBuf, b| Path::cmp(a, b));
        Ok(files)
    }
}

/// Returns a CSV record as a JSON object of texts. An empty field is NULL.
fn csv_row(columns: &[&str], line: &str) -> Value {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match (c, quoted) {
            ('"', _) => quoted = !quoted,
            (',', false) => fields.push(String::new()),
            _ => fields.last_mut().expect("one field at least").push(c),
        }
    }
    let value = |field: String| if field.is_empty() { Value::Null } else { json!(field) };
    let fields = fields.into_iter().map(value);
    columns
        .iter()
        .map(|column| column.to_string())
        .zip(fields)
        .collect::<Map<_, _>>()
        .into()
}
