//! From the file a person gave to a resolved job.
//!
//! The clock, the environment and the file are read here; what they mean is decided in [`millstream_cluster::resolve`].
//! A file is YAML, JSON or SQL by its extension.

use std::path::Path;

use millstream_cluster::resolve::{self, Overrides, Resolved};
use millstream_proto::{spec, v1};

use crate::arguments;
use crate::report::render;

/// What the command line says that planning must know.
pub fn overrides(name: Option<String>, mode: Option<arguments::Mode>) -> Overrides {
    Overrides {
        name,
        mode: mode.map(|mode| match mode {
            arguments::Mode::Stream => millstream_planner::Mode::Stream,
            arguments::Mode::Batch => millstream_planner::Mode::Batch,
        }),
    }
}

/// Reads and plans a file; notes about it go to standard error. The error is ready to be printed.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Resolved, String> {
    let text = read(path)?;
    let now_us = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64);
    let mut pipeline = pipeline(path, &text)?;
    pipeline.environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let resolved = resolve::resolve(&pipeline, overrides, now_us)
        .map_err(|mistakes| render(&path.display().to_string(), &text, &mistakes))?;
    for note in &resolved.notes {
        eprintln!("note: {note}");
    }
    Ok(resolved)
}

/// The job that `checkpoints` is asked about: a pipeline's file, or a name.
pub fn job_name(job: &str) -> Result<String, String> {
    let path = Path::new(job);
    if path.extension().is_none() || !path.exists() {
        resolve::check_name(job).map_err(|what| format!("error: {what}\n"))?;
        return Ok(job.to_string());
    }
    let text = read(path)?;
    resolve::name(&pipeline(path, &text)?).map_err(|mistakes| render(&path.display().to_string(), &text, &mistakes))
}

/// The text as what its file's extension says.
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
                "error: {file}: cannot tell what this is; a pipeline's file ends in .yaml, .yml, .json or .sql\n"
            ));
        }
    };
    Ok(v1::Pipeline {
        pipeline: Some(pipeline),
        ..v1::Pipeline::default()
    })
}

/// Longest pipeline that is read.
const FILE_BYTES_MAX: u64 = spec::TEXT_BYTES_MAX as u64;

fn read(path: &Path) -> Result<String, String> {
    let fail = |what: String| format!("error: {}: {what}\n", path.display());
    let metadata = std::fs::metadata(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    if metadata.is_dir() {
        return Err(fail("this is a folder; give the pipeline's file".into()));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(fail(format!(
            "the file has more than {FILE_BYTES_MAX} bytes (FILE_BYTES_MAX); a pipeline is shorter"
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
