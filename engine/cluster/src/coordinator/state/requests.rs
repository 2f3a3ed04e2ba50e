//! Requests of clients: the change that each makes, or the reason why it is refused. Nothing is changed here.

use super::{Job, State};
use crate::api::{self, Code};
use crate::coordinator::ledger::{Change, DesiredState, LatestUpdate, Record, Status, Update};

/// A request of a client, or of the deletion that a client has requested.
#[derive(Debug, Clone)]
pub enum Request {
    Submit(Box<Record>),
    Stop {
        job: String,
        savepoint: Option<String>,
    },
    Cancel {
        job: String,
    },
    Rescale {
        job: String,
        parallelism: Option<u32>,
    },
    Update {
        job: String,
        update: Box<Update>,
    },
    Restart {
        job: String,
        allow_duplicates: bool,
    },
    /// Requests the deletion of a job's checkpoints.
    Delete {
        job: String,
    },
    /// Removes a job whose checkpoints have been deleted.
    Forget {
        job: String,
    },
    Drain {
        worker: String,
        undo: bool,
    },
}

impl State {
    /// Fails if the name is in use or the cluster has the maximum number of jobs.
    pub fn check_submit(&self, name: &str) -> Result<(), api::Error> {
        self.refuse_when_shutting_down()?;
        if let Some(job) = self.jobs.get(name) {
            return Err(api::Error::new(
                Code::NameInUse,
                format!(
                    "there is a job `{name}` already ({}); replace its pipeline (jobs update), choose another name, or delete \
                     that one first",
                    job.record.current().status.as_str()
                ),
            ));
        }
        if self.jobs.len() >= self.limits.jobs_max {
            return Err(api::Error::new(
                Code::LimitReached,
                format!(
                    "there are {} jobs, as many as this cluster keeps (jobs_max); delete ended ones first",
                    self.jobs.len()
                ),
            ));
        }
        Ok(())
    }

    /// Returns the change that a request makes at this time. Repeating a request changes nothing.
    pub fn request(&self, request: Request, at_us: i64) -> Result<Change, api::Error> {
        self.refuse_when_shutting_down()?;
        match request {
            Request::Submit(record) => {
                self.check_submit(&record.name)?;
                Ok(Change::Submitted(record))
            }
            Request::Stop { job, savepoint } => {
                let wanted = stopped(self.running(&job, "stop")?, savepoint)?;
                Ok(Change::wanted(job, wanted, at_us))
            }
            Request::Cancel { job } => {
                self.running(&job, "cancel")?;
                let wanted = DesiredState::Cancelled;
                Ok(Change::wanted(job, wanted, at_us))
            }
            Request::Rescale { job, parallelism } => {
                let record = &self.job(&job)?.record;
                let max = record.max_parallelism;
                if parallelism.is_some_and(|parallelism| parallelism == 0 || parallelism > max) {
                    return Err(api::Error::new(
                        Code::InvalidRequest,
                        format!("the parallelism of `{job}` can be 1 to {max} (max_parallelism)"),
                    ));
                }
                if record.current().status == Status::Finished {
                    return Err(api::Error::new(
                        Code::WrongState,
                        format!("`{job}` has finished: all its input is processed, there is nothing to rescale"),
                    ));
                }
                self.refuse_when_stopping(record)?;
                refuse_when_deleting(record)?;
                self.refuse_too_many(&job, parallelism)?;
                Ok(Change::Parallelism {
                    job,
                    parallelism,
                    at_us,
                })
            }
            Request::Update { job, update } => {
                let record = &self.job(&job)?.record;
                self.check_update(record, &update)?;
                Ok(Change::Update { job, update, at_us })
            }
            Request::Restart { job, allow_duplicates } => {
                let record = &self.job(&job)?.record;
                if !record.current().status.is_terminal() {
                    self.refuse_when_stopping(record)?;
                }
                refuse_when_deleting(record)?;
                Ok(Change::Wanted {
                    job,
                    wanted: DesiredState::Running,
                    allow_duplicates,
                    at_us,
                })
            }
            Request::Delete { job } => {
                let status = self.job(&job)?.record.current().status;
                if !status.is_terminal() {
                    return Err(api::Error::new(
                        Code::WrongState,
                        format!("`{job}` is {}; stop or cancel it first", status.as_str()),
                    ));
                }
                Ok(Change::Deleting { job })
            }
            Request::Forget { job } => {
                self.job(&job)?;
                Ok(Change::Deleted { job })
            }
            Request::Drain { worker, undo } => {
                let known = self.slots.workers().get(&worker);
                let may_undo = undo && self.drained.contains(&worker);
                if !may_undo && known.is_none_or(|known| known.state.is_gone()) {
                    let message = format!("there is no worker `{worker}` attached");
                    return Err(api::Error::new(Code::WorkerNotFound, message));
                }
                Ok(Change::Drained { worker, drained: !undo })
            }
        }
    }

    fn check_update(&self, record: &Record, update: &Update) -> Result<(), api::Error> {
        let name = &record.name;
        let status = record.current().status;
        let wrong_state = |message: String| Err(api::Error::new(Code::WrongState, message));
        if status == Status::Finished {
            return wrong_state(format!(
                "`{name}` has finished: all its input is processed, so a new pipeline would have nothing to do; submit it \
                 under another name"
            ));
        }
        self.refuse_when_stopping(record)?;
        refuse_when_deleting(record)?;
        let is_another = match &record.update {
            LatestUpdate::Pending(earlier) => earlier.resolved != update.resolved,
            LatestUpdate::Tried(_) => true,
            LatestUpdate::None | LatestUpdate::Confirmed | LatestUpdate::Reverted { .. } => false,
        };
        if is_another && !status.is_terminal() {
            return wrong_state(format!(
                "`{name}` is being updated; wait until the new pipeline has its first checkpoint or is given up, or stop the \
                 job first"
            ));
        }
        Ok(())
    }

    /// Returns a job by name. The error suggests a similar name.
    pub fn job(&self, name: &str) -> Result<&Job, api::Error> {
        self.jobs.get(name).ok_or_else(|| {
            let known = self.jobs.keys().map(String::as_str);
            let hint = millstream_proto::spec::did_you_mean(name, known);
            api::Error::new(Code::JobNotFound, format!("there is no job `{name}`{hint}"))
        })
    }

    fn running(&self, name: &str, verb: &str) -> Result<&Record, api::Error> {
        let record = &self.job(name)?.record;
        let now = record.current();
        if now.status.is_terminal() {
            return Err(api::Error::new(
                Code::WrongState,
                format!(
                    "`{name}` has ended ({}); there is nothing to {verb}",
                    now.status.as_str()
                ),
            ));
        }
        Ok(record)
    }

    fn refuse_when_stopping(&self, record: &Record) -> Result<(), api::Error> {
        if record.wanted == DesiredState::Running || record.current().status.is_terminal() {
            return Ok(());
        }
        Err(api::Error::new(
            Code::WrongState,
            format!("`{}` is being stopped; wait for its end", record.name),
        ))
    }

    /// Fails if a running job would be stopped only to wait for slots that may never exist.
    fn refuse_too_many(&self, name: &str, parallelism: Option<u32>) -> Result<(), api::Error> {
        let has_slots = |job: &Job| job.run.as_ref().is_some_and(|run| run.lease.is_some());
        let runs = has_slots(self.job(name)?);
        let Some(parallelism) = parallelism.filter(|_| runs) else {
            return Ok(());
        };
        let others = self.jobs.iter().filter(|(other, job)| *other != name && has_slots(job));
        // Jobs of parallelism `auto` give slots up.
        let leased: u32 = others.map(|(_, job)| job.record.parallelism.unwrap_or(1)).sum();
        let offered = self.slots.offered() as u32;
        if parallelism <= offered.saturating_sub(leased) {
            return Ok(());
        }
        let others = match leased {
            0 => String::new(),
            leased => format!(", other jobs need {leased} of them"),
        };
        Err(api::Error::new(
            Code::WrongState,
            format!(
                "`{name}` was not rescaled: {} workers offer {offered} slots{others}, too few for parallelism {parallelism}; \
                 add workers first, or rescale to auto, which takes as many as there are",
                self.slots.ready().count()
            ),
        ))
    }

    fn refuse_when_shutting_down(&self) -> Result<(), api::Error> {
        if !self.shutting_down {
            return Ok(());
        }
        Err(api::Error::new(
            Code::Unavailable,
            "this coordinator is shutting down; try again",
        ))
    }
}

/// Returns the desired state after a stop request. An earlier promise (a savepoint, a cancellation) is kept.
fn stopped(record: &Record, savepoint: Option<String>) -> Result<DesiredState, api::Error> {
    let name = &record.name;
    let how = match (&record.wanted, &savepoint) {
        (DesiredState::Running, _) => return Ok(DesiredState::Stopped { savepoint }),
        (wanted, None) => return Ok(wanted.clone()),
        (DesiredState::Stopped { savepoint: promised }, _) if *promised == savepoint => {
            return Ok(record.wanted.clone());
        }
        (DesiredState::Stopped { savepoint: None }, _) => "stopped without a savepoint".to_string(),
        (
            DesiredState::Stopped {
                savepoint: Some(promised),
            },
            _,
        ) => format!("stopped with the savepoint `{promised}`"),
        (DesiredState::Cancelled, _) => "cancelled, without a last checkpoint".to_string(),
    };
    Err(api::Error::new(
        Code::WrongState,
        format!("`{name}` is being {how}; wait for its end, and create a savepoint then (savepoints create)"),
    ))
}

fn refuse_when_deleting(record: &Record) -> Result<(), api::Error> {
    if !record.deleting {
        return Ok(());
    }
    Err(api::Error::new(
        Code::WrongState,
        format!("`{}` is being deleted: its checkpoints are being removed", record.name),
    ))
}
