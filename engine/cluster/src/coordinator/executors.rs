//! The workers of a cluster, as the leader uses them.

use async_trait::async_trait;
use millstream_proto::v1;

use crate::deployer::{self, AdoptedTasks, Allocation, Tasks};
use crate::{Error, Job};

/// The workers of a cluster as the place where attempts run.
#[async_trait]
pub trait TaskExecutors: Send + Sync {
    /// Starts the tasks of an attempt. When this returns, either all tasks run or none does.
    async fn deploy(
        &self,
        job: &Job,
        resolved: &v1::ResolvedJob,
        allocation: &Allocation,
        request: deployer::DeployRequest,
    ) -> Result<Box<dyn Tasks>, Error>;

    /// Adopts the tasks of an attempt that an earlier coordinator has started. `slots` has the worker of each slot,
    /// `attempts` the id under which the worker knows its tasks. If this fails, the tasks are cancelled.
    async fn adopt(
        &self,
        job: &Job,
        resolved: &v1::ResolvedJob,
        attempts: &[String],
        slots: &[String],
    ) -> Result<AdoptedTasks, Error>;

    /// Cancels an attempt of an earlier coordinator that will not be adopted.
    fn abandon(&self, attempt: &str);

    /// Returns name, address, version, memory and clock of the workers. Their slots and states are the leader's to
    /// add.
    fn workers(&self) -> Vec<v1::Worker>;

    /// Tells a drained worker that it may leave.
    fn release(&self, worker: &str);

    /// Ends the connections to the workers, because this coordinator leads no longer.
    fn shut_down(&self, reason: &str);
}
