//! Plans a resolved job: a pure function, so that every process makes the same graph of the same job.

use millstream_graph::JobGraph;
use millstream_planner::{Errors, Input, Mode, PlanOptions, meaning};
use millstream_proto::v1::{self, resolved_job};

/// The reason why this engine cannot plan a resolved job.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The job has no pipeline.
    #[error("there is no pipeline")]
    NoPipeline,
    /// The mistakes of its pipeline.
    #[error("{}", in_one_line(.0))]
    Mistakes(Errors),
}

/// Returns the graph of a job. An error where this engine plans it otherwise than the one that resolved it.
pub fn plan(resolved: &v1::ResolvedJob) -> Result<JobGraph, crate::Error> {
    let graph = plan_unchecked(resolved)
        .map_err(|error| crate::Error::Invalid(format!("{} does not plan: {error}", resolved.name)))?;
    if graph.fingerprint != resolved.fingerprint {
        return Err(crate::Error::Invalid(format!(
            "{}: the plan differs from the one that was accepted (fingerprint {:016x}, accepted {:016x}); are all \
             processes of the same version?",
            resolved.name, graph.fingerprint, resolved.fingerprint
        )));
    }
    Ok(graph)
}

/// Returns the graph of a job, whatever its fingerprint.
pub(crate) fn plan_unchecked(resolved: &v1::ResolvedJob) -> Result<JobGraph, Error> {
    let input = input(resolved).ok_or(Error::NoPipeline)?;
    let mut graph = millstream_planner::plan(input, &options(resolved)).map_err(Error::Mistakes)?;
    // The name that was asked for takes precedence over the one that a script sets.
    graph.name.clone_from(&resolved.name);
    Ok(graph)
}

/// Returns the output of the `SHOW` and `DESCRIBE` statements of a job's script.
pub(crate) fn listings(resolved: &v1::ResolvedJob) -> Result<Vec<String>, Error> {
    match input(resolved) {
        Some(Input::Sql { name, text }) => {
            millstream_planner::sql_listings(name, text, &options(resolved)).map_err(Error::Mistakes)
        }
        Some(Input::Spec(_)) => Ok(Vec::new()),
        None => Err(Error::NoPipeline),
    }
}

/// Plans a job in order to compare it with another.
pub(crate) fn plan_to_compare(resolved: &v1::ResolvedJob) -> Result<meaning::Planned, Error> {
    let input = input(resolved).ok_or(Error::NoPipeline)?;
    meaning::plan(input, &options(resolved)).map_err(Error::Mistakes)
}

/// Returns the planner's mode of a job.
pub(crate) fn mode_of(resolved: &v1::ResolvedJob) -> Mode {
    mode(resolved.mode())
}

/// Returns the planner's mode of a mode in the protocol.
pub(crate) fn mode(mode: v1::Mode) -> Mode {
    match mode {
        v1::Mode::Stream => Mode::Stream,
        v1::Mode::Batch => Mode::Batch,
        v1::Mode::Serve => Mode::Serve,
    }
}

fn input(resolved: &v1::ResolvedJob) -> Option<Input<'_>> {
    Some(match resolved.pipeline.as_ref()? {
        resolved_job::Pipeline::Spec(spec) => Input::Spec(spec),
        resolved_job::Pipeline::Sql(text) => Input::Sql {
            name: &resolved.name,
            text,
        },
    })
}

fn options(resolved: &v1::ResolvedJob) -> PlanOptions {
    PlanOptions {
        mode: mode_of(resolved),
        now_us: resolved.now_us,
        environment: resolved.environment.clone().into_iter().collect(),
    }
}

fn in_one_line(errors: &Errors) -> String {
    let messages: Vec<&str> = errors.0.iter().map(|error| error.message.as_str()).collect();
    messages.join("; ")
}
