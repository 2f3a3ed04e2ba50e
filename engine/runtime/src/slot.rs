//! One OS thread per slot.
use std::sync::Arc;

use crossbeam::channel::{Sender, TrySendError};

use crate::job::Command;
pub(crate) struct SlotHandle {
    pub(crate) index: usize,
    commands: Sender<Command>,
    signal: Arc<()>,
}
impl SlotHandle {
    pub(crate) fn send(&self, command: Command) -> Result<(), TrySendError<Command>> {
        self.commands.try_send(command)?;
        let _ = &self.signal;
        Ok(())
    }
    pub(crate) fn cancel(&self) {}
}
