//! Waiting until a job has reached a state, across failovers of the coordinator.
//!
//! The last request is made at the deadline, so that a wait never times out although the state has been reached. Each
//! change of the state or its reason meanwhile is a line on standard error ([`Changes`]); standard output has only the
//! command's result, one text or one JSON document.

use std::time::Duration;

use millstream_proto::report::time;
use millstream_proto::spec::format_duration_ms;
use millstream_proto::v1::job_update::State as UpdateState;
use millstream_proto::v1::{self, JobState};
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::job::{has_ended, state, state_word, word};
use crate::output::now_us;
use crate::requests::get_job;

/// Interval between the first two requests; it grows to [`INTERVAL_MAX`].
const INTERVAL_MIN: Duration = Duration::from_millis(30);
const INTERVAL_MAX: Duration = Duration::from_millis(500);

/// Condition of a wait. A job that ends without meeting it ends the wait with a failure.
pub enum Until<'a> {
    /// The job is running in an attempt after this one, or has finished.
    Running { after_attempt: u32 },
    /// The update of its pipeline was confirmed or reverted.
    Updated,
    /// The job is in a final state.
    Ended,
    /// The job is in one of these states.
    States(&'a [String]),
}

impl Until<'_> {
    fn reached(&self, job: &v1::Job) -> bool {
        match self {
            Self::Running { after_attempt } => {
                state(job) == JobState::Finished || (state(job) == JobState::Running && job.attempt > *after_attempt)
            }
            Self::Updated => {
                let update = job.update.as_ref().map(v1::JobUpdate::state);
                matches!(update, Some(UpdateState::Confirmed | UpdateState::Reverted))
            }
            Self::Ended => has_ended(job),
            Self::States(words) => words
                .iter()
                .any(|word| word == state_word(job) || (word == "ended" && has_ended(job))),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Running { after_attempt: 0 } => "running".to_string(),
            Self::Running { .. } => "running again".to_string(),
            Self::Updated => "updated".to_string(),
            Self::Ended => "ended".to_string(),
            Self::States(words) => words.join(" or "),
        }
    }
}

impl Until<'_> {
    /// Returns the state of a job that does not meet the condition yet, in words.
    fn describe(&self, job: &v1::Job) -> String {
        let earlier = match self {
            Self::Running { after_attempt } if job.attempt <= *after_attempt => {
                format!(" in attempt {}, as before", job.attempt)
            }
            _ => String::new(),
        };
        format!("{}{earlier}{}", state_word(job), because(job))
    }
}

/// Waits until a job meets the condition, and prints each change of its state to standard error.
pub async fn wait(client: &mut Client, name: &str, until: Until<'_>, timeout: Duration) -> Result<v1::Job, Failure> {
    let request = async || get_job(client, name).await;
    let report = |line: String| eprintln!("{}  {line}", time(now_us()));
    wait_with(request, report, name, until, timeout).await
}

/// Changes of a job's state between two requests.
#[derive(Default)]
struct Changes {
    /// State and reason in the last response.
    last: Option<(JobState, String)>,
    /// Time of the newest transition so far.
    newest_us: i64,
}

impl Changes {
    /// Returns the changes since the last response, oldest first: intermediate states, then the present one if its
    /// state or its reason differs. The first response yields the present state only.
    fn since_last(&mut self, job: &v1::Job) -> Vec<String> {
        let line = |state: JobState, reason: &str| match reason {
            "" => format!("{}: {}", job.name, word(state)),
            reason => format!("{}: {} ({reason})", job.name, word(state)),
        };
        let present = (state(job), job.reason.clone());
        let newest_us = job.transitions.last().map_or(0, |last| last.at_us);
        let mut lines = Vec::new();
        if let Some(last) = &self.last {
            // The last transition is the present state.
            let passed = job.transitions.split_last().map_or(&[][..], |(_, passed)| passed);
            let passed = passed.iter().filter(|transition| transition.at_us > self.newest_us);
            lines.extend(passed.map(|transition| line(transition.state(), &transition.reason)));
            if *last != present || newest_us > self.newest_us {
                lines.push(line(present.0, &present.1));
            }
        } else {
            lines.push(line(present.0, &present.1));
        }
        self.last = Some(present);
        self.newest_us = self.newest_us.max(newest_us);
        lines
    }
}

/// Implements [`wait`] with any source of the job's state; `report` receives a line for each change.
async fn wait_with(
    mut request: impl AsyncFnMut() -> Result<v1::Job, Failure>,
    mut report: impl FnMut(String),
    name: &str,
    until: Until<'_>,
    timeout: Duration,
) -> Result<v1::Job, Failure> {
    let deadline = Instant::now() + timeout;
    let mut interval = INTERVAL_MIN;
    let mut last_state = String::from("never seen");
    let mut changes = Changes::default();
    loop {
        let is_last = Instant::now() >= deadline;
        match request().await {
            Ok(job) if until.reached(&job) => return Ok(job),
            // A restart of an ended job is accepted before the state changes, so the final state may be the old one.
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
                last_state = until.describe(&job);
                changes.since_last(&job).into_iter().for_each(&mut report);
            }
            // After a first response, an unreachable coordinator means a failover, not a wrong address.
            Err(failure) if failure.exit == Exit::Unreachable && last_state != "never seen" => {
                if is_last {
                    let message = format!(
                        "`{name}` was not seen {} within {}, and its state cannot be read now ({}); it was last {last_state}",
                        until.words(),
                        format_duration_ms(timeout.as_millis() as u64),
                        failure.message
                    );
                    return Err(Failure::new(Exit::TimedOut, message));
                }
            }
            Err(failure) => return Err(failure),
        }
        if is_last {
            let within = format_duration_ms(timeout.as_millis() as u64);
            let message = format!("`{name}` is not {} within {within}; it is {last_state}", until.words());
            return Err(Failure::new(Exit::TimedOut, message));
        }
        sleep(interval.min(deadline.saturating_duration_since(Instant::now()))).await;
        interval = (interval * 3 / 2).min(INTERVAL_MAX);
    }
}

/// Returns the reason of a job's state as a suffix of a message.
fn because(job: &v1::Job) -> String {
    match job.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(state: JobState, attempt: u32) -> v1::Job {
        v1::Job {
            state: state.into(),
            attempt,
            ..v1::Job::default()
        }
    }

    const TIMEOUT: Duration = Duration::from_millis(120);

    /// Waits for a job to run; `answer` receives the time since the start, and true for the first request.
    async fn wait_to_run(
        after_attempt: u32,
        answer: impl Fn(Duration, bool) -> Result<v1::Job, Failure>,
    ) -> Result<v1::Job, String> {
        let began = Instant::now();
        let mut is_first = true;
        let look = async || answer(began.elapsed(), std::mem::take(&mut is_first));
        let waited = wait_with(look, drop, "a", Until::Running { after_attempt }, TIMEOUT).await;
        waited.map_err(|failure| format!("{:?}: {}", failure.exit, failure.message))
    }

    #[tokio::test]
    async fn the_last_request_is_made_at_the_deadline() {
        let late = wait_to_run(0, |after, _| match after < TIMEOUT {
            true => Ok(job(JobState::Deploying, 1)),
            false => Ok(job(JobState::Running, 1)),
        });
        assert_eq!(late.await.map(|job| job.state()), Ok(JobState::Running));
    }

    #[tokio::test]
    async fn a_timeout_reports_the_last_known_state() {
        let never = wait_to_run(0, |_, _| Ok(job(JobState::Deploying, 1)));
        let expected = "TimedOut: `a` is not running within 120ms; it is deploying";
        assert_eq!(never.await.unwrap_err(), expected);

        let not_again = wait_to_run(3, |_, _| Ok(job(JobState::Running, 3)));
        let expected = "TimedOut: `a` is not running again within 120ms; it is running in attempt 3, as before";
        assert_eq!(not_again.await.unwrap_err(), expected);

        let lost = wait_to_run(0, |_, is_first| match is_first {
            true => Ok(job(JobState::Deploying, 1)),
            false => Err(Failure::new(Exit::Unreachable, "nobody answers")),
        });
        let expected = "TimedOut: `a` was not seen running within 120ms, and its state cannot be read now (nobody answers); it was \
                        last deploying";
        assert_eq!(lost.await.unwrap_err(), expected);
    }

    #[tokio::test]
    async fn a_wait_reports_each_change_of_state_and_reason_once() {
        let transition = |state: JobState, at_us, reason: &str| v1::Transition {
            state: state.into(),
            at_us,
            reason: reason.into(),
        };
        let waits = |reason: &str| v1::Job {
            name: "a".into(),
            reason: reason.into(),
            transitions: vec![
                transition(JobState::Submitted, 1, ""),
                transition(JobState::Deploying, 2, reason),
            ],
            ..job(JobState::Deploying, 0)
        };
        // Between two requests the job has run and restarted.
        let mut restarted = waits("starting tasks");
        restarted.transitions.extend([
            transition(JobState::Running, 3, ""),
            transition(JobState::Restarting, 4, "worker w1 is lost"),
        ]);
        restarted.state = JobState::Restarting.into();
        restarted.reason = "worker w1 is lost".into();
        let looks = [
            waits("waiting for 4 slots, 2 are free"),
            waits("waiting for 4 slots, 2 are free"),
            waits("starting tasks"),
            restarted.clone(),
            restarted,
            job(JobState::Running, 2),
        ];
        let mut looks = looks.into_iter();
        let look = async || Ok(looks.next().expect("the wait ends with the last one"));
        let mut told = Vec::new();
        let until = Until::Running { after_attempt: 1 };
        let waited = wait_with(look, |line| told.push(line), "a", until, Duration::from_secs(60)).await;
        assert_eq!(waited.map(|job| job.attempt).ok(), Some(2));
        let expected = [
            "a: deploying (waiting for 4 slots, 2 are free)",
            "a: deploying (starting tasks)",
            "a: running",
            "a: restarting (worker w1 is lost)",
        ];
        assert_eq!(told, expected);
    }
}
