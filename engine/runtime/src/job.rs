//! A running job: takes commands for its tasks, and hands out their events.
//!
//! [`deployment::deploy`](crate::deployment::deploy) starts one. The caller (the cluster crate's driver) triggers
//! checkpoints, hands out newly discovered splits, and asks the job to stop. This module decides nothing about
//! checkpoints or recovery.

use std::sync::Arc;

use crossbeam::channel::TrySendError;
use tokio::sync::mpsc;

use crate::Error;
use crate::command::{Command, TaskEvent};
use crate::counters::{JobCounters, JobProgress};
use crate::slot::SlotHandle;

/// A job whose slot threads run. Dropping it cancels the job.
pub struct RunningJob {
    pub(crate) slots: Vec<SlotHandle>,
    pub(crate) events: mpsc::Receiver<TaskEvent>,
    pub(crate) counters: Arc<JobCounters>,
    pub(crate) stopped: bool,
}

impl RunningJob {
    /// Sends a command to all slots.
    ///
    /// # Errors
    ///
    /// If the bounded command queue of a slot is full. Some slots may not have got the command then: a checkpoint
    /// should be aborted, other commands repeated.
    pub fn send(&self, command: Command) -> Result<(), Error> {
        if let (Command::Point { number }, Some(slot)) = (&command, self.slots.first()) {
            slot.shared.point_triggered(*number);
        }
        for slot in &self.slots {
            match slot.send(command.clone()) {
                // A slot that has ended needs no command.
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(_)) => {
                    return Err(Error::Operator {
                        operator: format!("slot {}", slot.index),
                        message: "the queue of unprocessed commands is full: the slot does not respond".into(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Returns the next event, or `None` after [`TaskEvent::Stopped`].
    pub async fn next_event(&mut self) -> Option<TaskEvent> {
        if self.stopped {
            return None;
        }
        let event = self.events.recv().await;
        self.stopped = matches!(event, Some(TaskEvent::Stopped) | None);
        event
    }

    /// Returns rows, watermark and lag as of now. Cheap: it reads plain atomics.
    pub fn progress(&self) -> JobProgress {
        self.counters.progress()
    }

    /// Returns the counters behind [`RunningJob::progress`]. They stay readable after the job has ended.
    pub fn counters(&self) -> Arc<JobCounters> {
        Arc::clone(&self.counters)
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        for slot in &self.slots {
            slot.cancel();
        }
    }
}
