//! Resolves the text of a pipeline to a job: everything that depends on the environment is determined once, here.
//!
//! The input is the text (YAML, JSON or SQL) or a spec, the values of the variables it names, the time, and what
//! overrides the text; nothing is read from the process or the clock. The output is a [`v1::ResolvedJob`], and
//! everything else is a pure function of it: [`planning::plan`] makes the same graph of it on every machine,
//! [`settings`] says how it is to run. All mistakes are found at once, with their positions in the text. The
//! existence of what the pipeline reads and writes is checked separately ([`look_up`]) before a job starts, because a
//! plan does not need the external systems.

mod look_up;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_graph::JobGraph;
use millstream_planner::{Location, Mode};
use millstream_proto::spec::{self, Positions};
use millstream_proto::v1::{self, pipeline, resolved_job};
use millstream_runtime::deployment::Options;

pub use self::look_up::{NotFound, look_up};
use crate::job::{Job, Start};
use crate::{Error, checkpoint, planning, restart, stored_pipeline};

/// Default of the number of completed checkpoints that retention keeps.
const RETAIN_DEFAULT: usize = 3;
/// The newer and the older name of the option in Flink.
const UNALIGNED_KEYS: [&str; 2] = [
    "execution.checkpointing.unaligned.enabled",
    "execution.checkpointing.unaligned",
];
/// Longest name of a job, which becomes the name of a folder.
const NAME_BYTES_MAX: usize = 200;

/// Settings that override those of the text.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Name of the job.
    pub name: Option<String>,
    /// Batch or streaming.
    pub mode: Option<Mode>,
}

/// A resolved job, its plan, and its settings.
#[derive(Debug)]
pub struct Resolved {
    /// The job.
    pub resolved: v1::ResolvedJob,
    /// Its plan.
    pub graph: Arc<JobGraph>,
    /// Its settings.
    pub settings: Settings,
    /// Notes for the author that are no mistakes, such as settings without effect and state without a bound.
    pub notes: Vec<String>,
    /// The output of `SHOW` and `DESCRIBE`, which only `engine run` prints.
    pub listings: Vec<String>,
    /// Positions in the text, for mistakes that are found later.
    positions: Positions,
}

/// The settings of a pipeline, with defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Batch or streaming.
    pub mode: Mode,
    /// Subtasks per operator; `None`: one per slot.
    pub parallelism: Option<usize>,
    /// Configuration of checkpoints.
    pub checkpoints: checkpoint::Config,
    /// Number of completed checkpoints that retention keeps.
    pub retain: usize,
    /// URL of the folder for checkpoints, if not the default.
    pub storage: Option<String>,
    /// True to refuse sinks that cannot deliver exactly once.
    pub exactly_once_required: bool,
    /// True if the text asks for its plan only (`EXPLAIN`).
    pub explain: bool,
    /// True if the script prints rows of queries to standard output, which only `engine run` does.
    pub prints: bool,
    /// True if the script only prints rows, so that each run starts anew.
    pub only_prints: bool,
    /// True if the script only shows tables and the like (`SHOW`, `DESCRIBE`), so that there is nothing to run.
    pub only_lists: bool,
}

/// Resolves a pipeline, or lists all its mistakes.
pub fn resolve(pipeline: &v1::Pipeline, overrides: &Overrides, now_us: i64) -> Result<Resolved, Vec<v1::Mistake>> {
    match &pipeline.pipeline {
        Some(pipeline::Pipeline::Yaml(text)) => {
            let parsed = spec::parse(&text.text).map_err(|errors| of_spec(&errors))?;
            resolve_spec(parsed.spec, parsed.positions, &pipeline.environment, overrides, now_us)
        }
        Some(pipeline::Pipeline::Spec(spec)) => resolve_spec(
            spec.clone(),
            Positions::default(),
            &pipeline.environment,
            overrides,
            now_us,
        ),
        Some(pipeline::Pipeline::Sql(text)) => resolve_sql(text, &pipeline.environment, overrides, now_us),
        None => Err(vec![mistake(
            "there is no pipeline; give it as YAML, as SQL or as a spec",
        )]),
    }
}

/// Returns the settings of a resolved job. Pure.
pub fn settings(resolved: &v1::ResolvedJob) -> Result<Settings, Error> {
    let mode = planning::mode_of(resolved);
    match &resolved.pipeline {
        Some(resolved_job::Pipeline::Spec(spec)) => Ok(settings_of_spec(spec, mode)),
        Some(resolved_job::Pipeline::Sql(text)) => {
            let settings = millstream_planner::sql_settings(text)
                .map_err(|errors| Error::Invalid(format!("{}: {errors}", resolved.name)))?;
            Ok(settings_of_sql(&settings, mode))
        }
        None => Err(Error::Invalid(format!("{} has no pipeline", resolved.name))),
    }
}

/// Returns the name of the job in its text, without planning it.
pub fn name(pipeline: &v1::Pipeline) -> Result<String, Vec<v1::Mistake>> {
    match &pipeline.pipeline {
        Some(pipeline::Pipeline::Yaml(text)) => {
            let parsed = spec::parse(&text.text).map_err(|errors| of_spec(&errors))?;
            Ok(parsed.spec.name)
        }
        Some(pipeline::Pipeline::Spec(spec)) => Ok(spec.name.clone()),
        Some(pipeline::Pipeline::Sql(text)) => {
            let settings = millstream_planner::sql_settings(&text.text).map_err(|errors| of_sql(&errors))?;
            Ok(settings.name.unwrap_or_else(|| stem(&text.file)))
        }
        None => Err(vec![mistake("there is no pipeline")]),
    }
}

/// Checks the name of a job, which becomes the name of a folder.
pub fn check_name(name: &str) -> Result<(), String> {
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && name.len() <= NAME_BYTES_MAX;
    if good {
        return Ok(());
    }
    Err(format!(
        "`{name}` cannot be a job's name; it consists of letters, digits, `_`, `-` and `.`, at most {NAME_BYTES_MAX} of \
         them: give one with --name, or SET 'pipeline.name' = '...'"
    ))
}

impl Resolved {
    /// Returns a job that can run. `storage` is the folder for checkpoints.
    pub fn job(&self, parallelism: usize, storage: String, start: Start) -> Job {
        let resolved = Arc::new(self.resolved.clone());
        self.settings
            .job(self.graph.clone(), resolved, parallelism, storage, start)
    }
}

impl Settings {
    /// Returns a job that can run. `storage` is the folder for checkpoints.
    pub fn job(
        &self,
        graph: Arc<JobGraph>,
        resolved: Arc<v1::ResolvedJob>,
        parallelism: usize,
        storage: String,
        start: Start,
    ) -> Job {
        Job {
            graph,
            stored_pipeline: stored_pipeline::encode(&resolved).map(Arc::from),
            resolved,
            parallelism,
            checkpoint_storage: storage,
            options: Options {
                batch: self.mode.is_bounded(),
                ..Options::default()
            },
            checkpoints: self.checkpoints.clone(),
            retain: self.retain,
            exactly_once_required: self.exactly_once_required,
            restart: restart::Config::default(),
            start,
            allow_duplicates: false,
            accept_changed_meaning: false,
            allow_dropped_state: false,
            remove_output: false,
            started_before: false,
            checkpoint_requests: Arc::default(),
            trace_parent: String::new(),
        }
    }
}

fn resolve_spec(
    mut spec: v1::JobSpec,
    mut positions: Positions,
    environment: &HashMap<String, String>,
    overrides: &Overrides,
    now_us: i64,
) -> Result<Resolved, Vec<v1::Mistake>> {
    let mode = overrides.mode.unwrap_or_else(|| planning::mode(spec.mode()));
    let parameters = spec::apply_mode(&mut spec, &mut positions, wire_mode(mode)).map_err(|errors| of_spec(&errors))?;
    spec::expand(&mut spec, &positions, &parameters, &|name| {
        environment.get(name).cloned()
    })
    .map_err(|errors| of_spec(&errors))?;
    if let Some(name) = &overrides.name {
        spec.name = name.clone();
    }
    let settings = settings_of_spec(&spec, mode);
    let resolved = v1::ResolvedJob {
        name: spec.name.clone(),
        mode: wire_mode(mode) as i32,
        now_us,
        // Variables are replaced already; values are never expanded again.
        environment: HashMap::new(),
        fingerprint: 0,
        pipeline: Some(resolved_job::Pipeline::Spec(spec)),
    };
    finish(resolved, settings, &positions)
}

fn resolve_sql(
    text: &v1::SpecText,
    environment: &HashMap<String, String>,
    overrides: &Overrides,
    now_us: i64,
) -> Result<Resolved, Vec<v1::Mistake>> {
    if text.text.len() > spec::TEXT_BYTES_MAX {
        return Err(vec![mistake(&format!(
            "the script has more than {} bytes (TEXT_BYTES_MAX); a pipeline is shorter",
            spec::TEXT_BYTES_MAX
        ))]);
    }
    let settings = millstream_planner::sql_settings(&text.text).map_err(|errors| of_sql(&errors))?;
    let name = overrides.name.clone().or(settings.name.clone());
    let mode = overrides.mode.or(settings.mode).unwrap_or_default();
    let named = environment
        .iter()
        .filter(|(variable, _)| text.text.contains(&format!("${{{variable}")));
    let resolved = v1::ResolvedJob {
        name: name.unwrap_or_else(|| stem(&text.file)),
        mode: wire_mode(mode) as i32,
        now_us,
        environment: named.map(|(name, value)| (name.clone(), value.clone())).collect(),
        fingerprint: 0,
        pipeline: Some(resolved_job::Pipeline::Sql(text.text.clone())),
    };
    let notes = millstream_planner::sql_notes(&text.text);
    let notes = notes.into_iter().map(|note| format!("{}:{note}", text.file));
    let finished = finish(resolved, settings_of_sql(&settings, mode), &Positions::default())?;
    let listings = match settings.lists {
        true => planning::listings(&finished.resolved).map_err(|error| of_planning(&error, &Positions::default()))?,
        false => Vec::new(),
    };
    Ok(Resolved {
        notes: notes.chain(finished.notes).collect(),
        listings,
        ..finished
    })
}

fn finish(
    mut resolved: v1::ResolvedJob,
    settings: Settings,
    positions: &Positions,
) -> Result<Resolved, Vec<v1::Mistake>> {
    let graph = planning::plan_unchecked(&resolved).map_err(|error| of_planning(&error, positions))?;
    check_name(&graph.name).map_err(|message| vec![mistake(&message)])?;
    resolved.fingerprint = graph.fingerprint;
    Ok(Resolved {
        resolved,
        notes: millstream_planner::state_notes(&graph),
        listings: Vec::new(),
        graph: Arc::new(graph),
        settings,
        positions: positions.clone(),
    })
}

fn settings_of_spec(spec: &v1::JobSpec, mode: Mode) -> Settings {
    let none = v1::Checkpoints::default();
    let checkpoints = spec.checkpoints.as_ref().unwrap_or(&none);
    let defaults = checkpoint::Config::default();
    Settings {
        mode,
        parallelism: spec.parallelism.map(|parallelism| parallelism as usize),
        checkpoints: checkpoint::Config {
            interval_ms: checkpoints.interval_ms.unwrap_or(defaults.interval_ms),
            min_pause_ms: checkpoints.min_pause_ms.unwrap_or(defaults.min_pause_ms),
            timeout_ms: checkpoints.timeout_ms.unwrap_or(defaults.timeout_ms),
            tolerable_failures: checkpoints.tolerable_failures.unwrap_or(defaults.tolerable_failures),
            aligned_timeout_ms: checkpoints.aligned_timeout_ms.or(defaults.aligned_timeout_ms),
        },
        retain: checkpoints.retain.map_or(RETAIN_DEFAULT, |retain| retain as usize),
        storage: checkpoints.storage.clone(),
        exactly_once_required: checkpoints.delivery == Some(v1::Delivery::ExactlyOnce as i32),
        explain: false,
        prints: false,
        only_prints: false,
        only_lists: false,
    }
}

fn settings_of_sql(settings: &millstream_planner::Settings, mode: Mode) -> Settings {
    let defaults = checkpoint::Config::default();
    let millis = |duration: Option<Duration>| duration.map(|duration| duration.as_millis() as u64);
    let interval_ms = millis(settings.checkpoint_interval);
    Settings {
        mode,
        parallelism: settings.parallelism.map(usize::from),
        checkpoints: checkpoint::Config {
            interval_ms: interval_ms.unwrap_or(defaults.interval_ms),
            min_pause_ms: millis(settings.checkpoint_min_pause).unwrap_or(defaults.min_pause_ms),
            timeout_ms: millis(settings.checkpoint_timeout).unwrap_or(defaults.timeout_ms),
            tolerable_failures: settings
                .checkpoint_tolerable_failures
                .unwrap_or(defaults.tolerable_failures),
            aligned_timeout_ms: aligned_timeout_ms(settings, &defaults),
        },
        retain: settings
            .checkpoint_retention
            .map_or(RETAIN_DEFAULT, |retain| retain as usize),
        storage: settings
            .other
            .get("state.checkpoints.dir")
            .or(settings.other.get("execution.checkpointing.dir"))
            .cloned(),
        exactly_once_required: false,
        explain: settings.explain,
        prints: settings.prints,
        only_prints: settings.prints && !settings.writes,
        only_lists: settings.lists && !settings.prints && !settings.writes && !settings.explain,
    }
}

/// Returns the aligned timeout of a script. As in Flink, unaligned checkpoints that are enabled have no aligned
/// timeout unless one is given; if they are disabled, all align.
fn aligned_timeout_ms(settings: &millstream_planner::Settings, defaults: &checkpoint::Config) -> Option<u64> {
    let given = settings
        .checkpoint_aligned_timeout
        .map(|timeout| timeout.as_millis() as u64);
    let enabled = UNALIGNED_KEYS.iter().find_map(|key| settings.other.get(*key));
    match enabled {
        Some(enabled) if enabled.eq_ignore_ascii_case("true") => Some(given.unwrap_or_default()),
        Some(_) => None,
        None => given.or(defaults.aligned_timeout_ms),
    }
}

/// Returns the default name of a script: that of its file.
fn stem(file: &str) -> String {
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str());
    stem.unwrap_or("job").to_string()
}

fn wire_mode(mode: Mode) -> v1::Mode {
    match mode {
        Mode::Stream => v1::Mode::Stream,
        Mode::Batch => v1::Mode::Batch,
        Mode::Serve => v1::Mode::Serve,
    }
}

fn mistake(message: &str) -> v1::Mistake {
    v1::Mistake {
        message: message.to_string(),
        ..v1::Mistake::default()
    }
}

fn of_spec(errors: &[spec::Error]) -> Vec<v1::Mistake> {
    let placed = errors.iter().map(|error| at(error.at, &error.path, &error.message));
    placed.collect()
}

fn of_sql(errors: &millstream_planner::Errors) -> Vec<v1::Mistake> {
    of_plan(errors, &Positions::default())
}

fn of_planning(error: &planning::Error, positions: &Positions) -> Vec<v1::Mistake> {
    match error {
        planning::Error::NoPipeline => vec![mistake(&error.to_string())],
        planning::Error::Mistakes(errors) => of_plan(errors, positions),
    }
}

/// Returns the mistakes with their positions. Paths of a spec are looked up in its text.
fn of_plan(errors: &millstream_planner::Errors, positions: &Positions) -> Vec<v1::Mistake> {
    let placed = errors.0.iter().map(|error| {
        let message = &error.message;
        match &error.location {
            Location::Unknown => at(None, "", message),
            Location::LineColumn { line, column } => at(Some((*line, *column)), "", message),
            Location::Path(path) => {
                let position = positions.find(path);
                at(position.map(|position| (position.line, position.column)), path, message)
            }
            Location::Within { path, line, column } => at(positions.find_within(path, *line, *column), path, message),
        }
    });
    placed.collect()
}

fn at(place: Option<(u64, u64)>, path: &str, message: &str) -> v1::Mistake {
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let (line, column) = place.unwrap_or((0, 0));
    v1::Mistake {
        line: number(line),
        column: number(column),
        path: path.to_string(),
        message: message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "
name: tolls
parallelism: 2
checkpoints: { interval: 2s, retain: 5, delivery: exactly-once }
sources:
  entries:
    connector: datagen
    options: { number-of-rows: \"${ROWS:-10}\" }
    columns: { booth: bigint }
steps:
  all:
    sql: SELECT booth FROM entries
sinks:
  out: { from: all, connector: print }
";

    fn yaml(text: &str) -> v1::Pipeline {
        pipeline(pipeline::Pipeline::Yaml(v1::SpecText {
            text: text.into(),
            file: "tolls.yaml".into(),
        }))
    }

    fn sql(text: &str) -> v1::Pipeline {
        pipeline(pipeline::Pipeline::Sql(v1::SpecText {
            text: text.into(),
            file: "folder/script.sql".into(),
        }))
    }

    fn pipeline(pipeline: pipeline::Pipeline) -> v1::Pipeline {
        v1::Pipeline {
            pipeline: Some(pipeline),
            environment: HashMap::from([("ROWS".into(), "7".into()), ("OTHER".into(), "secret".into())]),
        }
    }

    const SQL: &str = "
CREATE TABLE entries (booth BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '${ROWS}');
CREATE TABLE printed (booth BIGINT) WITH ('connector' = 'print');
INSERT INTO printed SELECT booth FROM entries;
";

    #[test]
    fn a_resolved_job_plans_alike_anywhere() {
        for pipeline in [yaml(YAML), sql(SQL)] {
            let resolved = resolve(&pipeline, &Overrides::default(), 1_700_000_000_000_000).unwrap();
            let again = planning::plan(&resolved.resolved).unwrap();
            assert_eq!(again.fingerprint, resolved.graph.fingerprint);
            assert_eq!(again.name, resolved.graph.name);
            assert!(!resolved.resolved.environment.contains_key("OTHER"));
            let mut other = resolved.resolved;
            other.fingerprint += 1;
            assert!(planning::plan(&other).unwrap_err().to_string().contains("fingerprint"));
        }
    }

    #[test]
    fn settings_are_those_of_the_text() {
        let resolved = resolve(&yaml(YAML), &Overrides::default(), 0).unwrap();
        for settings in [resolved.settings, settings(&resolved.resolved).unwrap()] {
            assert_eq!(settings.parallelism, Some(2));
            assert_eq!(settings.checkpoints.interval_ms, 2000);
            assert_eq!(settings.retain, 5);
            assert!(settings.exactly_once_required);
            assert_eq!(settings.mode, Mode::Stream);
        }
    }

    #[test]
    fn overrides_take_precedence_over_the_text() {
        let overrides = Overrides {
            name: Some("replayed".into()),
            mode: Some(Mode::Batch),
        };
        for pipeline in [yaml(YAML), sql(SQL)] {
            let resolved = resolve(&pipeline, &overrides, 0).unwrap();
            assert_eq!(resolved.graph.name, "replayed");
            assert_eq!(resolved.settings.mode, Mode::Batch);
        }
        let unnamed = resolve(&sql(SQL), &Overrides::default(), 0).unwrap();
        assert_eq!(unnamed.graph.name, "script");
    }

    #[test]
    fn mistakes_have_their_place() {
        let wrong = YAML
            .replace("SELECT booth", "SELECT boot")
            .replace("from: all", "from: al");
        let mistakes = resolve(&yaml(&wrong), &Overrides::default(), 0).unwrap_err();
        let places: Vec<_> = mistakes
            .iter()
            .map(|mistake| (mistake.line, mistake.path.as_str()))
            .collect();
        assert!(places.contains(&(12, "steps.all.sql")), "{mistakes:?}");
        let name = Overrides {
            name: Some("../etc".into()),
            mode: None,
        };
        let mistakes = resolve(&yaml(YAML), &name, 0).unwrap_err();
        assert!(mistakes[0].message.contains("cannot be a job's name"), "{mistakes:?}");
        assert!(
            !resolve(&v1::Pipeline::default(), &Overrides::default(), 0)
                .unwrap_err()
                .is_empty()
        );
    }

    #[test]
    fn a_script_sets_the_aligned_timeout_as_in_flink() {
        const ENABLED: &str = "execution.checkpointing.unaligned.enabled";
        for (enabled, given, expected) in [
            (None, None, Some(30_000)),
            (None, Some(5), Some(5_000)),
            (Some("true"), None, Some(0)),
            (Some("true"), Some(5), Some(5_000)),
            (Some("false"), None, None),
            (Some("false"), Some(5), None),
        ] {
            let settings = millstream_planner::Settings {
                checkpoint_aligned_timeout: given.map(std::time::Duration::from_secs),
                other: enabled
                    .map(|value| (ENABLED.into(), value.into()))
                    .into_iter()
                    .collect(),
                ..millstream_planner::Settings::default()
            };
            let resolved = settings_of_sql(&settings, Mode::Stream).checkpoints.aligned_timeout_ms;
            assert_eq!(resolved, expected, "{enabled:?} {given:?}");
        }
    }
}
