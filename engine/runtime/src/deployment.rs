//! From a job graph to tasks.
use crate::Error;
use crate::job::{Deployment, RunningJob};

pub(crate) async fn deploy(_deployment: Deployment) -> Result<RunningJob, Error> {
    todo!()
}
