//! State of a job in words, colours and numbers, for all commands that print it.

use millstream_proto::report::time;
use millstream_proto::v1::{self, JobState};

use crate::output::Printer;
use crate::paint::Paint;

/// States that `jobs wait --for` accepts: those of [`word`], and `ended` for each of the final ones.
pub const STATES: [&str; 10] = [
    "submitted",
    "deploying",
    "running",
    "restarting",
    "stopping",
    "finished",
    "stopped",
    "failed",
    "cancelled",
    "ended",
];

/// Returns the state of a job.
pub fn state(job: &v1::Job) -> JobState {
    job.state()
}

/// Returns the state of a job in a word.
pub fn state_word(job: &v1::Job) -> &'static str {
    word(state(job))
}

/// Returns a state in a word.
pub fn word(state: JobState) -> &'static str {
    match state {
        JobState::Submitted => "submitted",
        JobState::Deploying => "deploying",
        JobState::Running => "running",
        JobState::Restarting => "restarting",
        JobState::Stopping => "stopping",
        JobState::Finished => "finished",
        JobState::Stopped => "stopped",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

/// Returns true if the job is in a final state.
pub fn has_ended(job: &v1::Job) -> bool {
    matches!(
        state(job),
        JobState::Finished | JobState::Stopped | JobState::Failed | JobState::Cancelled
    )
}

/// Returns the colour of a job's state.
pub fn paint(job: &v1::Job) -> Paint {
    match state(job) {
        JobState::Running | JobState::Finished => Paint::Green,
        JobState::Failed => Paint::Red,
        JobState::Restarting | JobState::Deploying | JobState::Submitted | JobState::Stopping => Paint::Yellow,
        JobState::Stopped | JobState::Cancelled => Paint::Dim,
    }
}

/// Returns the latest time at which the checkpoint was complete and nothing newer had to be stored.
pub fn current_us(checkpoint: &v1::Checkpoint) -> i64 {
    checkpoint.current_us.max(checkpoint.taken_us)
}

/// Returns the counters of a job; zeros before its tasks have reported.
pub fn counters(job: &v1::Job) -> v1::JobNumbers {
    job.numbers.unwrap_or_default()
}

/// Returns the parallelism as it is printed: `4`, `4 (auto)`, or `auto` without slots.
pub fn parallelism(job: &v1::Job) -> String {
    match job.parallelism_auto {
        true if job.parallelism == 0 => "auto".to_string(),
        true => format!("{} (auto)", job.parallelism),
        false => job.parallelism.to_string(),
    }
}

/// Returns a watermark as it is printed; `-` if there is none.
pub fn watermark(us: Option<i64>) -> String {
    us.map_or("-".to_string(), time)
}

/// Returns the output of a command that acted on a job: its state and the reason.
pub fn outcome(printer: &Printer, job: &v1::Job) -> String {
    printer.message(job, &job.name, || {
        let reason = match job.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        format!("{}: {}{reason}\n", job.name, printer.paint(paint(job), state_word(job)))
    })
}

/// Returns a name for a savepoint made from the time in UTC, such as `20260131-120000`.
pub fn savepoint_name(now_us: i64) -> String {
    time(now_us).replace(['-', ':'], "").replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parallelism_that_follows_the_slots_is_a_number_only_where_there_are_some() {
        let job = |parallelism, parallelism_auto| v1::Job {
            parallelism,
            parallelism_auto,
            ..v1::Job::default()
        };
        assert_eq!(parallelism(&job(4, true)), "4 (auto)");
        assert_eq!(parallelism(&job(0, true)), "auto");
        assert_eq!(parallelism(&job(3, false)), "3");
    }
}
