//! Planner: turns a job spec or a SQL script into a [`JobGraph`]. Pure: no I/O, no clock.
//!
//! ```text
//! SQL script --\                                        (front end: sql, spec, catalog, functions)
//!               >--> logical::Pipeline --> JobGraph
//! JobSpec -----/                                        (translate)
//! ```
//!
//! Everything that could differ between two machines is part of [`PlanOptions`]: the same input and options give the
//! same graph, byte for byte. All errors of a pipeline are reported at once ([`Errors`]).

#![warn(unreachable_pub)]

use std::collections::BTreeMap;
use std::time::Duration;

mod ast;
pub mod catalog;
pub mod error;
pub mod explain;
pub mod functions;
pub mod logical;
pub mod meaning;
pub mod spec;
pub mod sql;
mod state_notes;
pub mod translate;

use millstream_graph::JobGraph;

pub use error::{Error, Errors, Location};
pub use state_notes::state_notes;

/// The text of a pipeline.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    Spec(&'a millstream_proto::JobSpec),
    /// A SQL script; `name` is the job's name unless the script sets `pipeline.name`.
    Sql {
        name: &'a str,
        text: &'a str,
    },
}

/// Execution mode of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Follows the sources.
    #[default]
    Stream,
    /// Reads the sources to their end.
    Batch,
    /// Answers requests. The rows of each are a batch of their own.
    Serve,
}

impl Mode {
    /// Returns true if the input ends, so that results are final.
    pub fn is_bounded(self) -> bool {
        match self {
            Self::Stream => false,
            Self::Batch | Self::Serve => true,
        }
    }
}

/// Inputs of planning other than the text.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    pub mode: Mode,
    /// Start of the job in microseconds since the epoch: the value of `NOW()` and the like.
    pub now_us: i64,
    /// Values for `${NAME}` in options.
    pub environment: BTreeMap<String, String>,
}

/// Settings of a script or spec: how the job runs, rather than what it computes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub name: Option<String>,
    pub mode: Option<Mode>,
    pub parallelism: Option<u16>,
    pub max_parallelism: Option<u16>,
    pub checkpoint_interval: Option<Duration>,
    pub checkpoint_timeout: Option<Duration>,
    /// Minimum time between the end of a checkpoint and the start of the next one.
    pub checkpoint_min_pause: Option<Duration>,
    /// Number of consecutive failed checkpoints after which the job fails.
    pub checkpoint_tolerable_failures: Option<u32>,
    pub checkpoint_retention: Option<u32>,
    /// Time zone of the session, if the script sets one.
    pub local_time_zone: Option<String>,
    /// Aligned checkpoint timeout, if the script sets one.
    pub checkpoint_aligned_timeout: Option<Duration>,
    /// Time after which state without a window that does not change is deleted; `None`: never.
    pub state_ttl: Option<Duration>,
    /// Interval of consistency points, if the script sets one.
    pub consistency_interval: Option<Duration>,
    /// True if `table.exec.mini-batch.enabled` is true.
    pub is_mini_batch: bool,
    /// `table.exec.mini-batch.allow-latency`.
    pub mini_batch_latency: Option<Duration>,
    /// Phases of aggregates.
    pub agg_phases: logical::AggregatePhases,
    /// True if `table.exec.sink.require-on-conflict` is false.
    pub allows_conflicts: bool,
    /// Handling of rows that queries fail on.
    pub on_error: millstream_graph::ErrorPolicy,
    /// True if the script consists of `EXPLAIN`: its plan is shown and nothing runs.
    pub explain: bool,
    /// True if the script contains queries without a target, whose rows are printed to standard output.
    pub prints: bool,
    /// True if the script contains `SHOW` or `DESCRIBE`.
    pub lists: bool,
    /// The output of `SHOW` and `DESCRIBE`, if the script was planned.
    pub listings: Vec<String>,
    /// True if the script contains an `INSERT` or another statement that writes to a table.
    pub writes: bool,
    /// All other `SET` statements, which the engine checks.
    pub other: BTreeMap<String, String>,
}

/// Default of [`logical::Pipeline::max_parallelism`].
pub const MAX_PARALLELISM_DEFAULT: u16 = 128;

/// Stack for parsing and planning, which recurse as deep as the text nests. The depth is bounded by
/// [`sql::EXPRESSION_DEPTH_MAX`].
const STACK_BYTES: usize = 64 << 20;

/// Checks the input and returns its logical plans.
pub fn front_end(input: Input<'_>, options: &PlanOptions) -> Result<logical::Pipeline, Errors> {
    stacker::grow(STACK_BYTES, || match input {
        Input::Spec(spec) => spec::pipeline(spec, options),
        Input::Sql { name, text } => sql::pipeline(name, text, options).map(|(pipeline, _)| pipeline),
    })
}

/// Returns the settings of a script, from its `SET` statements.
pub fn sql_settings(text: &str) -> Result<Settings, Errors> {
    stacker::grow(STACK_BYTES, || sql::settings(text))
}

/// Returns notes about settings of a script that have no effect, each with its position.
pub fn sql_notes(text: &str) -> Vec<Error> {
    stacker::grow(STACK_BYTES, || sql::notes(text))
}

/// Returns the output of the `SHOW` and `DESCRIBE` statements of a script, in order.
pub fn sql_listings(name: &str, text: &str, options: &PlanOptions) -> Result<Vec<String>, Errors> {
    stacker::grow(STACK_BYTES, || {
        sql::pipeline(name, text, options).map(|(_, settings)| settings.listings)
    })
}

/// Plans a pipeline: returns the graph that every runtime executes.
pub fn plan(input: Input<'_>, options: &PlanOptions) -> Result<JobGraph, Errors> {
    let pipeline = front_end(input, options)?;
    stacker::grow(STACK_BYTES, || translate::translate(&pipeline, options))
}
