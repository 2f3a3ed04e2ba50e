//! From a job spec or a SQL script to a [`JobGraph`]. Pure: no I/O, no clock.
//!
//! ```text
//! SQL script --\                                        (front end: sql, spec, catalog, functions)
//!               >--> logical::Pipeline --> JobGraph
//! JobSpec -----/                                        (translate)
//! ```
//!
//! Everything that could differ between two machines comes in through [`PlanOptions`]: the same input and options give
//! the same graph, byte for byte. All mistakes of a pipeline are reported at once ([`Errors`]).

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
pub mod translate;

use millstream_graph::JobGraph;

pub use error::{Error, Errors, Location};

/// What is to be planned.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    Spec(&'a millstream_proto::JobSpec),
    /// A SQL script; `name` is the job's name unless the script sets `pipeline.name`.
    Sql {
        name: &'a str,
        text: &'a str,
    },
}

/// Whether sources are followed or read to their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Stream,
    Batch,
}

/// Everything outside the text that planning depends on.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    pub mode: Mode,
    /// The job's start, microseconds since the epoch: the value of `NOW()` and its like.
    pub now_us: i64,
    /// Values for `${NAME}` in options.
    pub environment: BTreeMap<String, String>,
}

/// What a script or spec says about how the job runs, rather than what it computes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub name: Option<String>,
    pub mode: Option<Mode>,
    pub parallelism: Option<u16>,
    pub max_parallelism: Option<u16>,
    pub checkpoint_interval: Option<Duration>,
    pub checkpoint_retention: Option<u32>,
    /// How long barriers are waited for before they may overtake rows, if the script says it.
    pub checkpoint_aligned_timeout: Option<Duration>,
    /// The script consists of `EXPLAIN`: show the plan, run nothing.
    pub explain: bool,
    /// Every other `SET`, for the engine to judge.
    pub other: BTreeMap<String, String>,
}

/// Default of [`logical::Pipeline::max_parallelism`].
pub const MAX_PARALLELISM_DEFAULT: u16 = 128;

/// Parsing and planning recurse as deep as the text nests, which is bounded ([`sql::EXPRESSION_DEPTH_MAX`]); this is
/// enough for it, on whatever thread the caller runs.
const STACK_BYTES: usize = 64 << 20;

/// Checks the input and makes its logical plans.
pub fn front_end(input: Input<'_>, options: &PlanOptions) -> Result<logical::Pipeline, Errors> {
    stacker::grow(STACK_BYTES, || match input {
        Input::Spec(spec) => spec::pipeline(spec, options),
        Input::Sql { name, text } => sql::pipeline(name, text, options).map(|(pipeline, _)| pipeline),
    })
}

/// The `SET` statements of a script (and whether it only explains).
pub fn sql_settings(text: &str) -> Result<Settings, Errors> {
    stacker::grow(STACK_BYTES, || sql::settings(text))
}

/// Returns remarks about a script that are no mistakes: settings without effect, each with its place.
pub fn sql_notes(text: &str) -> Vec<Error> {
    stacker::grow(STACK_BYTES, || sql::notes(text))
}

/// From the text to the graph that every runtime executes.
pub fn plan(input: Input<'_>, options: &PlanOptions) -> Result<JobGraph, Errors> {
    let pipeline = front_end(input, options)?;
    stacker::grow(STACK_BYTES, || translate::translate(&pipeline, options))
}
