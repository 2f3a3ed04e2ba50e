//! The end of a run: its totals, and the state or the run that follows.

use super::{Command, End, NextAction, State};
use crate::coordinator::ledger::{Change, DesiredState, RunTotals, Status};
use crate::job::StopRequest;

impl State {
    /// Adds the totals of a run that has ended to those of the job.
    pub(super) fn run_totals(&mut self, name: &str, run_totals: Option<Box<RunTotals>>, commands: &mut Vec<Command>) {
        if let (Some(job), Some(run_totals)) = (self.jobs.get_mut(name), run_totals) {
            let run_totals = match &job.record.run_totals {
                Some(earlier) => run_totals.after(earlier),
                None => *run_totals,
            };
            job.record.run_totals = Some(run_totals.clone());
            job.record.run_progress = None;
            let (job, run_totals) = (name.to_string(), Box::new(run_totals));
            commands.push(Command::Journal(Change::RunTotals { job, run_totals }));
        }
    }

    /// Adds the progress of an earlier coordinator's run to the totals of the job.
    pub(super) fn settle(&mut self, name: &str, attempt_goes_on: bool, commands: &mut Vec<Command>) {
        let Some(job) = self.jobs.get_mut(name).filter(|job| job.record.run_progress.is_some()) else {
            return;
        };
        job.record.settle(attempt_goes_on);
        commands.extend(job.record.totals_changes().map(Command::Journal));
    }

    pub(super) fn ended(&mut self, name: &str, end: End, now_us: i64, commands: &mut Vec<Command>) {
        self.waiting.retain(|(job, _)| job != name);
        let Some(job) = self.jobs.get_mut(name) else { return };
        let Some(run) = job.run.take() else { return };
        if let Some(lease) = run.lease {
            self.release_lease(lease, now_us, commands);
        }
        let Some(job) = self.jobs.get_mut(name) else { return };
        let wanted = job.record.wanted.clone();
        if job.record.tried_update().is_some() {
            match &end {
                End::Failed { reason } if wanted == DesiredState::Running => {
                    let reason = format!("the new pipeline failed: {reason}");
                    let runs_again = job.record.revert_update(&reason);
                    commands.push(Command::Journal(job.record.pipeline_change()));
                    let reason = format!("{reason}; the job has its old pipeline again");
                    return match runs_again {
                        true => self.start(name, &reason, now_us, commands),
                        false => self.enter(name, Status::Failed, &reason, now_us, commands),
                    };
                }
                // The last checkpoint was taken with the new pipeline.
                End::Finished { .. } | End::Stopped { .. } => {
                    job.record.confirm_update();
                    commands.push(Command::Journal(job.record.pipeline_change()));
                }
                End::Failed { .. } | End::Aborted { .. } | End::Superseded { .. } => {}
            }
        }
        let (status, reason) = match (end, run.next_action, wanted) {
            (End::Superseded { .. }, NextAction::Suspend, _) => return,
            (End::Superseded { reason }, _, DesiredState::Running) => {
                return self.start(name, &reason, now_us, commands);
            }
            (End::Superseded { .. }, _, DesiredState::Stopped { .. }) => {
                self.run(name, None, None, commands);
                return self.request_stop(name, StopRequest::Stop, NextAction::End, commands);
            }
            (End::Finished { checkpoint }, ..) => (
                Status::Finished,
                format!("all input is processed, as of checkpoint {checkpoint}"),
            ),
            (End::Stopped { .. } | End::Aborted { .. }, NextAction::Suspend, _) => return,
            (End::Stopped { .. } | End::Aborted { .. }, NextAction::Rerun(reason), DesiredState::Running) => {
                return self.start(name, &reason, now_us, commands);
            }
            (_, _, DesiredState::Cancelled) => (Status::Cancelled, "requested".to_string()),
            (End::Failed { reason }, ..) => (Status::Failed, reason),
            (End::Stopped { checkpoint }, _, DesiredState::Stopped { .. }) => {
                (Status::Stopped, format!("requested; at checkpoint {checkpoint}"))
            }
            (
                End::Aborted {
                    last_checkpoint,
                    unpublished,
                },
                _,
                DesiredState::Stopped { .. },
            ) => {
                let mut reason = match last_checkpoint {
                    Some(checkpoint) => format!("requested while it was not running; at checkpoint {checkpoint}"),
                    None => "requested before its first checkpoint".to_string(),
                };
                if let Some(unpublished) = unpublished {
                    reason.push_str(&format!(
                        "; output that this checkpoint holds is not published yet ({unpublished}): restarting the job, \
                         or submitting another from this checkpoint, publishes it"
                    ));
                }
                (Status::Stopped, reason)
            }
            // The run stopped without a request, so the job continues.
            (End::Stopped { .. } | End::Aborted { .. }, _, DesiredState::Running) => {
                return self.start(name, "the run stopped without a request", now_us, commands);
            }
        };
        self.enter(name, status, &reason, now_us, commands);
    }
}
