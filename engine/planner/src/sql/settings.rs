//! `SET` statements: the settings of a script, and notes about statements without effect, with misspelt keys or keys
//! that only Flink has. Notes are not errors, because scripts written for Flink contain such keys.

use std::time::Duration;

use millstream_graph::ErrorPolicy;
use millstream_proto::spec::{as_hint, closest_within, parse_flink_duration};

use super::script;
use super::statement::StatementKind;
use crate::catalog::{self, TableDeclaration};
use crate::error::{Error, Errors};
use crate::functions::Zone;
use crate::logical::AggregatePhases;
use crate::{Mode, Settings};

/// Keys of `SET` that have an effect, in the planner or in the engine.
pub const SETTING_KEYS: &[&str] = &[
    "pipeline.name",
    "pipeline.max-parallelism",
    "parallelism.default",
    "table.exec.resource.default-parallelism",
    "execution.runtime-mode",
    "execution.checkpointing.interval",
    "execution.checkpointing.timeout",
    "execution.checkpointing.min-pause",
    "execution.checkpointing.tolerable-failed-checkpoints",
    "execution.checkpointing.aligned-checkpoint-timeout",
    "execution.checkpointing.num-retained",
    "execution.checkpointing.unaligned",
    "execution.checkpointing.unaligned.enabled",
    "execution.checkpointing.dir",
    "state.checkpoints.num-retained",
    "state.checkpoints.dir",
    "table.exec.source.idle-timeout",
    "table.exec.state.ttl",
    CONSISTENCY_INTERVAL,
    MINI_BATCH,
    MINI_BATCH_LATENCY,
    LOCAL_TIME_ZONE,
    ON_ERROR,
    AGGREGATE_PHASES,
    REQUIRE_ON_CONFLICT,
];

/// Key of the phases of aggregates.
const AGGREGATE_PHASES: &str = "table.optimizer.agg-phase-strategy";

/// Key of the need of `ON CONFLICT` where several rows of a query can have one primary key.
const REQUIRE_ON_CONFLICT: &str = "table.exec.sink.require-on-conflict";

/// Key of the handling of rows that the queries after it fail on.
pub(super) const ON_ERROR: &str = "table.exec.on-error";

/// Key of the session's time zone.
pub(super) const LOCAL_TIME_ZONE: &str = "table.local-time-zone";

/// Key of the interval of consistency points, and the keys of Flink that set it as well.
const CONSISTENCY_INTERVAL: &str = "consistency.interval";
pub(super) const MINI_BATCH: &str = "table.exec.mini-batch.enabled";
const MINI_BATCH_LATENCY: &str = "table.exec.mini-batch.allow-latency";

/// Keys of Flink that resemble a supported key.
const FLINK: &[&str] = &[
    "execution.checkpointing.mode",
    "execution.checkpointing.incremental",
    "execution.savepoint-dir",
    "state.savepoints.dir",
    "table.exec.sink.not-null-enforcer",
    "table.exec.sink.upsert-materialize",
];

/// Prefixes of Flink's keys.
const FLINK_PREFIXES: &[&str] = &[
    "akka.",
    "blob.",
    "classloader.",
    "client.",
    "cluster.",
    "env.",
    "execution.",
    "fs.",
    "heartbeat.",
    "high-availability",
    "historyserver.",
    "io.",
    "jobmanager.",
    "job.",
    "kubernetes.",
    "metrics.",
    "parallelism.",
    "pekko.",
    "pipeline.",
    "process.",
    "python.",
    "queryable-state.",
    "rest.",
    "restart-strategy",
    "rpc.",
    "s3.",
    "security.",
    "slot.",
    "slotmanager.",
    "sql-client.",
    "state.",
    "streaming-source.",
    "table.",
    "task.",
    "taskmanager.",
    "web.",
    "yarn.",
    "zookeeper.",
];

/// Maximum edit distance of a misspelt key.
const MISSPELT_MAX: usize = 3;

/// Returns the settings of a script, from its `SET` statements. Other errors of the script are not reported.
pub(crate) fn settings(text: &str) -> Result<Settings, Errors> {
    let (statements, _) = script::read(text);
    let mut settings = Settings::default();
    let mut errors = Vec::new();
    for statement in statements {
        match statement.kind {
            StatementKind::Set { key, value } => {
                if let Err(message) = set(&mut settings, &key, &value) {
                    errors.push(Error {
                        location: statement.location,
                        message,
                    });
                }
            }
            StatementKind::Reset { key } => reset(&mut settings, key.as_deref()),
            StatementKind::Explain(_) => settings.explain = true,
            StatementKind::Query(_) => settings.prints = true,
            StatementKind::Show(_) => settings.lists = true,
            StatementKind::Insert(_) => settings.writes = true,
            StatementKind::CreateTable(create) => settings.writes |= create.query.is_some(),
            _ => {}
        }
    }
    if errors.is_empty() {
        Ok(settings)
    } else {
        Err(Errors(errors))
    }
}

/// Applies one `SET 'key' = 'value'`.
pub(super) fn set(settings: &mut Settings, key: &str, value: &str) -> Result<(), String> {
    let number = || value.trim().parse::<u16>().ok().filter(|number| *number > 0);
    let boolean = || value.trim().to_ascii_lowercase().parse::<bool>().ok();
    let wrong = |expected: &str| format!("'{key}' must be {expected}, not '{value}'");
    match key {
        "pipeline.name" => settings.name = Some(value.to_owned()),
        "parallelism.default" | "table.exec.resource.default-parallelism" => {
            settings.parallelism = Some(number().ok_or_else(|| wrong("a number from 1 to 65535"))?);
        }
        "pipeline.max-parallelism" => {
            settings.max_parallelism = Some(
                number()
                    .filter(|number| *number <= 32768)
                    .ok_or_else(|| wrong("a number from 1 to 32768"))?,
            );
        }
        "execution.runtime-mode" => {
            settings.mode = Some(match value.to_ascii_lowercase().as_str() {
                "streaming" | "stream" => Mode::Stream,
                "batch" => Mode::Batch,
                "serve" => Mode::Serve,
                _ => return Err(wrong("'streaming', 'batch' or 'serve'")),
            });
        }
        "execution.checkpointing.interval" => settings.checkpoint_interval = Some(parse_flink_duration(value)?),
        "execution.checkpointing.timeout" => settings.checkpoint_timeout = Some(parse_flink_duration(value)?),
        "execution.checkpointing.min-pause" => settings.checkpoint_min_pause = Some(parse_flink_duration(value)?),
        "execution.checkpointing.tolerable-failed-checkpoints" => {
            let failures = value.trim().parse::<u32>();
            settings.checkpoint_tolerable_failures = Some(failures.map_err(|_| wrong("a number from 0"))?);
        }
        "execution.checkpointing.aligned-checkpoint-timeout" => {
            settings.checkpoint_aligned_timeout = Some(parse_flink_duration(value)?);
        }
        "execution.checkpointing.num-retained" | "state.checkpoints.num-retained" => {
            settings.checkpoint_retention = Some(u32::from(number().ok_or_else(|| wrong("a number from 1"))?));
        }
        // As in Flink, no time stands for no limit.
        "table.exec.state.ttl" => {
            settings.state_ttl = Some(parse_flink_duration(value)?).filter(|ttl| !ttl.is_zero());
        }
        CONSISTENCY_INTERVAL => settings.consistency_interval = Some(positive(key, value)?),
        MINI_BATCH => {
            settings.is_mini_batch = boolean().ok_or_else(|| wrong("'true' or 'false'"))?;
        }
        REQUIRE_ON_CONFLICT => {
            settings.allows_conflicts = !boolean().ok_or_else(|| wrong("'true' or 'false'"))?;
        }
        MINI_BATCH_LATENCY => settings.mini_batch_latency = Some(positive(key, value)?),
        AGGREGATE_PHASES => {
            settings.agg_phases = match value.trim().to_ascii_uppercase().as_str() {
                "AUTO" => AggregatePhases::Auto,
                "ONE_PHASE" => AggregatePhases::One,
                "TWO_PHASE" => AggregatePhases::Two,
                _ => return Err(wrong("'AUTO', 'ONE_PHASE' or 'TWO_PHASE'")),
            };
        }
        ON_ERROR => settings.on_error = error_policy(value).ok_or_else(|| wrong(ERROR_POLICIES))?,
        LOCAL_TIME_ZONE => {
            // The clock of the machine has no influence on results.
            if value.eq_ignore_ascii_case("default") {
                return Err(format!("'{key}' needs the name of a time zone; UTC is the default"));
            }
            Zone::new(value).map_err(|message| format!("'{key}': {message}"))?;
            settings.local_time_zone = Some(value.to_owned());
        }
        _ => {
            settings.other.insert(key.to_owned(), value.to_owned());
        }
    }
    Ok(())
}

/// Reads a duration that is not zero.
fn positive(key: &str, value: &str) -> Result<Duration, String> {
    match parse_flink_duration(value)? {
        duration if duration < Duration::from_millis(1) => Err(format!("'{key}' must be at least '1 ms'")),
        duration => Ok(duration),
    }
}

/// Returns the interval of consistency points: the one that is set, or else the latency that mini-batches may have.
pub(super) fn consistency_interval(settings: &Settings) -> Result<Option<Duration>, String> {
    match (settings.consistency_interval, settings.is_mini_batch) {
        (Some(interval), _) => Ok(Some(interval)),
        (None, false) => Ok(None),
        (None, true) => match settings.mini_batch_latency {
            Some(latency) => Ok(Some(latency)),
            None => Err(format!(
                "'{MINI_BATCH}' needs the longest time for which changes are held back: SET '{MINI_BATCH_LATENCY}' = '1 s'"
            )),
        },
    }
}

/// The values of [`ON_ERROR`], for messages.
pub(super) const ERROR_POLICIES: &str = "'fail', 'skip', 'null' or 'dead-letter'";

/// Returns the error policy of this name.
pub(super) fn error_policy(value: &str) -> Option<ErrorPolicy> {
    match value.trim().to_ascii_lowercase().as_str() {
        "fail" => Some(ErrorPolicy::Fail),
        "skip" => Some(ErrorPolicy::Skip),
        "null" => Some(ErrorPolicy::Null),
        "dead-letter" => Some(ErrorPolicy::DeadLetter),
        _ => None,
    }
}

/// Takes back the setting of a key, or of all keys.
pub(super) fn reset(settings: &mut Settings, key: Option<&str>) {
    let Settings {
        explain,
        prints,
        writes,
        ..
    } = *settings;
    match key {
        None => {
            *settings = Settings {
                explain,
                prints,
                writes,
                ..Settings::default()
            }
        }
        Some("pipeline.name") => settings.name = None,
        Some("parallelism.default" | "table.exec.resource.default-parallelism") => settings.parallelism = None,
        Some("pipeline.max-parallelism") => settings.max_parallelism = None,
        Some("table.exec.state.ttl") => settings.state_ttl = None,
        Some(CONSISTENCY_INTERVAL) => settings.consistency_interval = None,
        Some(MINI_BATCH) => settings.is_mini_batch = false,
        Some(MINI_BATCH_LATENCY) => settings.mini_batch_latency = None,
        Some(AGGREGATE_PHASES) => settings.agg_phases = AggregatePhases::default(),
        Some(REQUIRE_ON_CONFLICT) => settings.allows_conflicts = false,
        Some(ON_ERROR) => settings.on_error = ErrorPolicy::default(),
        Some("execution.runtime-mode") => settings.mode = None,
        Some("execution.checkpointing.interval") => settings.checkpoint_interval = None,
        Some("execution.checkpointing.timeout") => settings.checkpoint_timeout = None,
        Some("execution.checkpointing.min-pause") => settings.checkpoint_min_pause = None,
        Some("execution.checkpointing.tolerable-failed-checkpoints") => settings.checkpoint_tolerable_failures = None,
        Some("execution.checkpointing.aligned-checkpoint-timeout") => settings.checkpoint_aligned_timeout = None,
        Some("execution.checkpointing.num-retained" | "state.checkpoints.num-retained") => {
            settings.checkpoint_retention = None;
        }
        Some(key) => {
            settings.other.remove(key);
        }
    }
}

/// Returns notes about settings, options and statements of a script that have no effect, each with its position. Errors
/// are not reported.
pub(crate) fn notes(text: &str) -> Vec<Error> {
    let (statements, _) = script::read(text);
    let notes = statements.into_iter().flat_map(|statement| match statement.kind {
        StatementKind::Set { key, .. } => note(&key)
            .map(|message| Error {
                location: statement.location,
                message,
            })
            .into_iter()
            .collect(),
        StatementKind::NoEffect { words, reason } => vec![Error {
            location: statement.location,
            message: format!("{words} has no effect: {reason}"),
        }],
        StatementKind::CreateTable(create) => option_notes(&create.declaration),
        _ => Vec::new(),
    });
    notes.collect()
}

fn option_notes(declaration: &TableDeclaration) -> Vec<Error> {
    let notes = catalog::option_notes(declaration).into_iter();
    let notes = notes.map(|(option, message)| Error {
        location: declaration
            .option(&option)
            .map_or_else(|| declaration.location.clone(), |option| option.location.clone()),
        message,
    });
    notes.collect()
}

fn note(key: &str) -> Option<String> {
    if SETTING_KEYS.contains(&key) {
        return None;
    }
    let meant = as_hint(closest_within(MISSPELT_MAX, key, SETTING_KEYS.iter().copied()));
    if !FLINK.contains(&key) && !meant.is_empty() {
        return Some(format!("the setting '{key}' is unknown and has no effect{meant}"));
    }
    if FLINK_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
        return Some(format!(
            "'{key}' is a setting of Flink that has no meaning here: it has no effect"
        ));
    }
    Some(format!(
        "the setting '{key}' is unknown and has no effect; there are {}",
        SETTING_KEYS.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, expected: &[&str]) {
        let notes = notes(&format!("-- a script\nSET '{key}' = 'true';"));
        let told: Vec<String> = notes.iter().map(ToString::to_string).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_setting_without_effect_is_told_with_the_one_that_was_meant() {
        check(
            "parallelism.defualt",
            &[
                "2:1: the setting 'parallelism.defualt' is unknown and has no effect; did you mean `parallelism.default`?",
            ],
        );
        check(
            "Pipeline.Name",
            &["2:1: the setting 'Pipeline.Name' is unknown and has no effect; did you mean `pipeline.name`?"],
        );
        check(
            "execution.checkpoint.interval",
            &[
                "2:1: the setting 'execution.checkpoint.interval' is unknown and has no effect; did you mean \
               `execution.checkpointing.interval`?",
            ],
        );
        for flink in [
            "table.exec.mini-batch.size",
            "execution.checkpointing.externalized-checkpoint-retention",
            "restart-strategy.type",
        ] {
            let told = format!("2:1: '{flink}' is a setting of Flink that has no meaning here: it has no effect");
            check(flink, &[&told]);
        }
        let unknown = notes("SET 'colour' = 'blue'").remove(0).message;
        assert!(
            unknown.starts_with("the setting 'colour' is unknown and has no effect; there are pipeline.name, "),
            "{unknown}"
        );
    }

    /// Checks that the suggested key causes no note, and that the script plans.
    #[test]
    fn the_suggested_key_is_one_that_has_an_effect() {
        for key in SETTING_KEYS {
            check(key, &[]);
            let misspelt = format!("{key}s");
            let message = note(&misspelt).unwrap_or_default();
            assert!(message.ends_with(&format!("did you mean `{key}`?")), "{message}");
        }
        let settings = crate::sql_settings("SET 'parallelism.default' = '3'").map(|settings| settings.parallelism);
        assert_eq!(settings, Ok(Some(3)));
    }
}
