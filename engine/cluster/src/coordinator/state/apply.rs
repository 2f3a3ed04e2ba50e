//! Application of journalled changes: updates the records and starts or stops runs.

use super::{Command, NextAction, State};
use crate::coordinator::ledger::{Change, DesiredState, Record, Transition};
use crate::coordinator::slots::WorkerState;
use crate::job::StopRequest;

impl State {
    /// Applies a change that the journal has.
    pub(super) fn applied(&mut self, change: Change, now_us: i64, commands: &mut Vec<Command>) {
        match change {
            Change::Submitted(record) => {
                let name = record.name.clone();
                if !self.jobs.contains_key(&name) {
                    self.insert(*record);
                    self.start(&name, "submitted", now_us, commands);
                }
            }
            Change::Wanted {
                job,
                wanted,
                allow_duplicates,
                at_us,
            } => {
                if let Some(found) = self.jobs.get_mut(&job) {
                    found.record.allow_duplicates = allow_duplicates;
                }
                self.apply_desired(&job, wanted, at_us, now_us, commands);
            }
            Change::Parallelism {
                job,
                parallelism,
                at_us,
            } => {
                if self.change_record(&job, commands, |record| record.rescale(parallelism, at_us)) {
                    let why = self.jobs[&job].record.current().reason.clone();
                    self.rerun(&job, &why, now_us, commands);
                }
            }
            Change::Update { job, update, at_us } => {
                let Some(found) = self.jobs.get(&job) else { return };
                let ended = found.record.current().status.is_terminal();
                if self.change_record(&job, commands, |record| record.update(*update, at_us)) {
                    match ended {
                        true => self.start(&job, "updating the pipeline", now_us, commands),
                        false => self.rerun(&job, "updating the pipeline", now_us, commands),
                    }
                }
            }
            Change::Transition { job, transition } => self.confirm_end(&job, &transition),
            // This state machine made the change, so the record has it.
            Change::Placed { .. } | Change::RunTotals { .. } | Change::RunProgress { .. } | Change::Pipeline { .. } => {
            }
            Change::Deleting { job } => {
                if let Some(found) = self.jobs.get_mut(&job) {
                    found.record.deleting = true;
                    self.touch(&job);
                }
            }
            Change::Deleted { job } => {
                self.jobs.remove(&job);
                self.version += 1;
            }
            Change::Drained { worker, drained: true } => {
                self.drained.insert(worker.clone());
                self.drain(&worker, WorkerState::Draining, now_us, commands);
            }
            Change::Drained { worker, drained: false } => {
                self.drained.remove(&worker);
                if self.slots.undrain(&worker, now_us) {
                    self.slots_changed(now_us, commands);
                }
            }
        }
    }

    fn apply_desired(
        &mut self,
        name: &str,
        wanted: DesiredState,
        at_us: i64,
        now_us: i64,
        commands: &mut Vec<Command>,
    ) {
        let Some(job) = self.jobs.get(name) else { return };
        let ended = job.record.current().status.is_terminal();
        self.change_record(name, commands, |record| record.set_desired(wanted.clone(), at_us));
        match wanted {
            DesiredState::Running if ended => self.start(name, "requested", now_us, commands),
            DesiredState::Running => self.rerun(name, "restart requested", now_us, commands),
            // The job has ended meanwhile.
            _ if ended => {}
            DesiredState::Stopped { .. } => self.request_stop(name, StopRequest::Stop, NextAction::End, commands),
            DesiredState::Cancelled => self.request_stop(name, StopRequest::Abort, NextAction::End, commands),
        }
    }

    /// Changes a record as the journal does. Returns true if its state changed, which is then recorded as a
    /// transition for the job's log.
    fn change_record(&mut self, name: &str, commands: &mut Vec<Command>, change: impl FnOnce(&mut Record)) -> bool {
        let Some(job) = self.jobs.get_mut(name) else {
            return false;
        };
        let before = job.record.current().clone();
        change(&mut job.record);
        let transition = job.record.current().clone();
        let is_another = transition != before;
        if is_another {
            let job = name.to_string();
            commands.push(Command::Journal(Change::Transition { job, transition }));
        }
        self.touch(name);
        is_another
    }

    /// Marks the end of a job as journalled.
    fn confirm_end(&mut self, name: &str, transition: &Transition) {
        if let Some(job) = self.jobs.get_mut(name)
            && job.is_ending
            && job.record.current() == transition
        {
            job.is_ending = false;
            self.touch(name);
        }
    }
}
