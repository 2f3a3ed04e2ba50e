//! From the file a person gave to a planned job.
//!
//! The clock and the environment are read here and nowhere below: planning is pure. A file is YAML, JSON or SQL by its
//! extension.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use millstream_planner::graph::JobGraph;
use millstream_planner::{Input, Mode, PlanOptions, explain};
use millstream_proto::spec::{self, Positions};
use millstream_proto::{Checkpoints, Delivery, JobSpec};

use crate::arguments;
use crate::report::{Mistake, render};

/// A pipeline, ready to run, and what its text says about how.
pub struct Planned {
    pub graph: Arc<JobGraph>,
    pub batch: bool,
    pub parallelism: Option<usize>,
    pub interval_ms: Option<u64>,
    pub min_pause_ms: Option<u64>,
    pub timeout_ms: Option<u64>,
    pub tolerable_failures: Option<u32>,
    pub retain: Option<usize>,
    pub storage: Option<String>,
    pub exactly_once_required: bool,
    /// The text asks for its plan only (`EXPLAIN`).
    pub explain: bool,
}

impl Planned {
    pub fn explain(&self) -> String {
        explain::explain(&self.graph)
    }
}

/// What the command line says that planning must know.
pub struct Wish {
    pub name: Option<String>,
    pub mode: Option<arguments::Mode>,
}

/// Reads and plans a file. The error is ready to be printed.
pub fn load(path: &Path, wish: &Wish) -> Result<Planned, String> {
    let file = path.display().to_string();
    let text = read(path)?;
    let now_us = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64);
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match kind(path)? {
        Kind::Spec => load_spec(&file, &text, wish, now_us, environment),
        Kind::Sql => load_sql(path, &file, &text, wish, now_us, environment),
    }
}

enum Kind {
    Spec,
    Sql,
}

fn kind(path: &Path) -> Result<Kind, String> {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "yaml" | "yml" | "json" => Ok(Kind::Spec),
        "sql" => Ok(Kind::Sql),
        _ => Err(format!(
            "error: {}: cannot tell what this is; a pipeline's file ends in .yaml, .yml, .json or .sql\n",
            path.display()
        )),
    }
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

fn load_spec(
    file: &str,
    text: &str,
    wish: &Wish,
    now_us: i64,
    environment: BTreeMap<String, String>,
) -> Result<Planned, String> {
    let of_spec =
        |errors: Vec<spec::Error>| render(file, text, &errors.iter().map(Mistake::of_spec).collect::<Vec<_>>());
    let parsed = spec::parse(text).map_err(of_spec)?;
    let (mut job, positions) = (parsed.spec, parsed.positions);
    spec::expand(&mut job, &positions, &|name| environment.get(name).cloned()).map_err(of_spec)?;
    if let Some(name) = &wish.name {
        job.name = name.clone();
    }
    let mode = mode(
        wish,
        (job.mode == Some(millstream_proto::Mode::Batch as i32)).then_some(Mode::Batch),
    );
    let options = PlanOptions {
        mode,
        now_us,
        // Replaced already: values are never looked at twice.
        environment: BTreeMap::new(),
    };
    let graph = plan(file, text, &positions, Input::Spec(&job), &options)?;
    Ok(planned(graph, mode, &job))
}

fn planned(graph: JobGraph, mode: Mode, job: &JobSpec) -> Planned {
    let none = Checkpoints::default();
    let checkpoints = job.checkpoints.as_ref().unwrap_or(&none);
    Planned {
        graph: Arc::new(graph),
        batch: mode == Mode::Batch,
        parallelism: job.parallelism.map(|parallelism| parallelism as usize),
        interval_ms: checkpoints.interval_ms,
        min_pause_ms: checkpoints.min_pause_ms,
        timeout_ms: checkpoints.timeout_ms,
        tolerable_failures: checkpoints.tolerable_failures,
        retain: checkpoints.retain.map(|retain| retain as usize),
        storage: checkpoints.storage.clone(),
        exactly_once_required: checkpoints.delivery == Some(Delivery::ExactlyOnce as i32),
        explain: false,
    }
}

fn load_sql(
    path: &Path,
    file: &str,
    text: &str,
    wish: &Wish,
    now_us: i64,
    environment: BTreeMap<String, String>,
) -> Result<Planned, String> {
    let none = Positions::default();
    let settings =
        millstream_planner::sql_settings(text).map_err(|errors| render(file, text, &mistakes(&errors, &none)))?;
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or("job")
        .to_string();
    let name = wish.name.clone().or(settings.name.clone()).unwrap_or(stem);
    let mode = mode(wish, settings.mode);
    let options = PlanOptions {
        mode,
        now_us,
        environment,
    };
    let input = Input::Sql { name: &name, text };
    let mut graph = plan(file, text, &none, input, &options)?;
    if let Some(name) = &wish.name {
        graph.name = name.clone();
    }
    check_name(&graph.name).map_err(|what| format!("error: {file}: {what}\n"))?;
    Ok(Planned {
        graph: Arc::new(graph),
        batch: mode == Mode::Batch,
        parallelism: settings.parallelism.map(usize::from),
        interval_ms: settings.checkpoint_interval.map(|interval| interval.as_millis() as u64),
        min_pause_ms: None,
        timeout_ms: None,
        tolerable_failures: None,
        retain: settings.checkpoint_retention.map(|retain| retain as usize),
        storage: settings
            .other
            .get("state.checkpoints.dir")
            .or(settings.other.get("execution.checkpointing.dir"))
            .cloned(),
        exactly_once_required: false,
        explain: settings.explain,
    })
}

/// The name becomes a folder's.
fn check_name(name: &str) -> Result<(), String> {
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && name.len() <= 200;
    if good {
        return Ok(());
    }
    Err(format!(
        "`{name}` cannot be a job's name; it consists of letters, digits, `_`, `-` and `.`: give one with --name, or SET 'pipeline.name' = '...'"
    ))
}

fn mode(wish: &Wish, from_text: Option<Mode>) -> Mode {
    match wish.mode {
        Some(arguments::Mode::Stream) => Mode::Stream,
        Some(arguments::Mode::Batch) => Mode::Batch,
        None => from_text.unwrap_or_default(),
    }
}

fn plan(
    file: &str,
    text: &str,
    positions: &Positions,
    input: Input<'_>,
    options: &PlanOptions,
) -> Result<JobGraph, String> {
    millstream_planner::plan(input, options).map_err(|errors| render(file, text, &mistakes(&errors, positions)))
}

fn mistakes(errors: &millstream_planner::Errors, positions: &Positions) -> Vec<Mistake> {
    errors
        .0
        .iter()
        .map(|error| Mistake::of_plan(error, positions))
        .collect()
}

/// The job that `checkpoints` is asked about: a pipeline's file, or a name.
pub fn job_name(job: &str) -> Result<String, String> {
    let path = Path::new(job);
    if path.extension().is_none() || !path.exists() {
        check_name(job).map_err(|what| format!("error: {what}\n"))?;
        return Ok(job.to_string());
    }
    let text = read(path)?;
    let file = path.display().to_string();
    match kind(path)? {
        Kind::Spec => {
            let parsed = spec::parse(&text)
                .map_err(|errors| render(&file, &text, &errors.iter().map(Mistake::of_spec).collect::<Vec<_>>()))?;
            Ok(parsed.spec.name)
        }
        Kind::Sql => {
            let settings = millstream_planner::sql_settings(&text)
                .map_err(|errors| render(&file, &text, &mistakes(&errors, &Positions::default())))?;
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("job");
            Ok(settings.name.unwrap_or_else(|| stem.to_string()))
        }
    }
}
