//! Reads the pipeline file of a command and resolves it.
//!
//! Clock, environment and file are read here; [`millstream_cluster::resolve`] interprets them. The file's extension
//! decides whether it is YAML, JSON or SQL.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::Path;

use millstream_cluster::resolve::{self, Overrides, Resolved};
use millstream_proto::{spec, v1};

use crate::arguments;

/// Returns the settings of the command line that override those of the pipeline.
pub fn overrides(name: Option<String>, mode: Option<arguments::Mode>) -> Overrides {
    let mode = mode.map(|mode| match mode {
        arguments::Mode::Stream => millstream_planner::Mode::Stream,
        arguments::Mode::Batch => millstream_planner::Mode::Batch,
    });
    Overrides { name, mode }
}

/// Reads and plans a file; prints notes about it to standard error. The error is the text to print.
#[expect(clippy::disallowed_methods, reason = "the time of the submission, read once")]
pub fn load(path: &Path, overrides: &Overrides) -> Result<Resolved, String> {
    let now_us = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64);
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let resolved = resolve(path, overrides, environment, now_us)?;
    for note in &resolved.notes {
        eprintln!("note: {note}");
    }
    Ok(resolved)
}

/// Reads and plans a file with these values of variables, at a given time. The error is the text to print.
pub fn resolve(
    path: &Path,
    overrides: &Overrides,
    environment: HashMap<String, String>,
    now_us: i64,
) -> Result<Resolved, String> {
    let text = read(path)?;
    let mut pipeline = pipeline(path, &text)?;
    pipeline.environment = environment;
    resolve::resolve(&pipeline, overrides, now_us)
        .map_err(|mistakes| render(&path.display().to_string(), &text, &mistakes))
}

/// Returns the name of a job that is given by name or by its pipeline file.
pub fn job_name(job: &str) -> Result<String, String> {
    let path = Path::new(job);
    if path.extension().is_none() || !path.exists() {
        resolve::check_name(job).map_err(|what| format!("error: {what}\n"))?;
        return Ok(job.to_string());
    }
    let text = read(path)?;
    resolve::name(&pipeline(path, &text)?).map_err(|mistakes| render(&path.display().to_string(), &text, &mistakes))
}

/// Returns the pipeline of a text in the format of its file's extension.
fn pipeline(path: &Path, text: &str) -> Result<v1::Pipeline, String> {
    let file = path.display().to_string();
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let text = v1::SpecText {
        text: text.to_string(),
        file: file.clone(),
    };
    let pipeline = match extension.to_ascii_lowercase().as_str() {
        "yaml" | "yml" | "json" => v1::pipeline::Pipeline::Yaml(text),
        "sql" => v1::pipeline::Pipeline::Sql(text),
        _ => {
            return Err(format!(
                "error: {file}: unknown file type; name the pipeline's file .yaml, .yml, .json or .sql\n"
            ));
        }
    };
    Ok(v1::Pipeline {
        pipeline: Some(pipeline),
        ..v1::Pipeline::default()
    })
}

/// Largest pipeline file.
const FILE_BYTES_MAX: u64 = spec::TEXT_BYTES_MAX as u64;

/// Returns the text of a file.
pub fn read(path: &Path) -> Result<String, String> {
    let fail = |what: String| format!("error: {}: {what}\n", path.display());
    let metadata = std::fs::metadata(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    if metadata.is_dir() {
        return Err(fail("this is a folder; name the pipeline's file".into()));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(fail(format!(
            "the file has more than {FILE_BYTES_MAX} bytes (FILE_BYTES_MAX), the limit for a pipeline"
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        fail(format!("line {line} is not UTF-8 text; save the file as UTF-8"))
    })
}

/// Returns the text of all mistakes of a file, in colour if standard error is a terminal.
fn render(file: &str, text: &str, mistakes: &[v1::Mistake]) -> String {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    millstream_proto::report::render(file, text, mistakes, color)
}
