//! Waiting until a job has reached a state, through restarts of the coordinator.

use std::time::Duration;

use millstream_proto::spec::format_duration_ms;
use millstream_proto::v1::{self, JobState};
use tokio::time::{Instant, sleep};

use crate::client::{Client, Repeat, jobs};
use crate::failure::{Exit, Failure};
use crate::jobs::{has_ended, state, state_word};

/// What `jobs wait --for` takes.
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

/// Between the first looks, and between later ones.
const PAUSE_FIRST: Duration = Duration::from_millis(30);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// What is waited for. A job that has ended otherwise ends the wait with a failure.
pub enum Until<'a> {
    /// It runs, in an attempt after this one; or all its input is processed already.
    Running { after_attempt: u32 },
    /// It has ended, however.
    Ended,
    /// One of these words.
    States(&'a [String]),
}

impl Until<'_> {
    fn reached(&self, job: &v1::Job) -> bool {
        match self {
            Self::Running { after_attempt } => {
                state(job) == JobState::Finished || (state(job) == JobState::Running && job.attempt > *after_attempt)
            }
            Self::Ended => has_ended(job),
            Self::States(words) => words
                .iter()
                .any(|word| word == state_word(job) || (word == "ended" && has_ended(job))),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Running { .. } => "running".to_string(),
            Self::Ended => "ended".to_string(),
            Self::States(words) => words.join(" or "),
        }
    }
}

pub async fn wait(client: &mut Client, name: &str, until: Until<'_>, timeout: Duration) -> Result<v1::Job, Failure> {
    let deadline = Instant::now() + timeout;
    let mut pause = PAUSE_FIRST;
    let mut seen = String::from("never seen");
    // Operators of which it was said that they cannot reach something.
    let mut told: Vec<String> = Vec::new();
    loop {
        let request = v1::GetJobRequest { name: name.to_string() };
        let asked = client.call(Repeat::Harmless, async |channel| {
            jobs(channel).get(request.clone()).await
        });
        match asked.await {
            Ok(job) if until.reached(&job) => return Ok(job),
            // A restart of an ended job is taken in before its state changes; the failure is told when it lasts.
            Ok(job)
                if has_ended(&job)
                    && !matches!(until, Until::Running { after_attempt } if job.attempt <= after_attempt) =>
            {
                let message = format!(
                    "`{name}` is {}, not {}{}",
                    state_word(&job),
                    until.words(),
                    because(&job)
                );
                return Err(Failure::new(Exit::Failed, message));
            }
            Ok(job) => {
                seen = format!("{}{}", state_word(&job), because(&job));
                let cut_off: Vec<String> = job.outages.iter().map(|outage| outage.operator.clone()).collect();
                if !cut_off.is_empty() && cut_off != told {
                    eprintln!("note: `{name}` is {seen}");
                }
                told = cut_off;
            }
            // A fail-over passes; a wrong address does not.
            Err(failure) if failure.exit == Exit::Unreachable && seen != "never seen" => {}
            Err(failure) => return Err(failure),
        }
        if Instant::now() + pause >= deadline {
            let within = format_duration_ms(timeout.as_millis() as u64);
            let message = format!("`{name}` is not {} within {within}; it is {seen}", until.words());
            return Err(Failure::new(Exit::TimedOut, message));
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}

fn because(job: &v1::Job) -> String {
    match job.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    }
}
