//! The blocking half of a writer: a queue of commands, carried out in order on a blocking thread of the runtime.
//!
//! A thread is taken only while commands wait, because a process may have many more writers than threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use crossbeam::channel::{Receiver, Sender, unbounded};
use futures::channel::oneshot;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::open_file::Payload;
use super::open_files::{OpenFiles, Prepared};
use crate::Error;

/// Bytes in the queue at which the writer applies backpressure.
const QUEUE_BYTES_MAX: u64 = 16 << 20;

/// A command to the background thread. The queue is bounded by `QUEUE_BYTES_MAX`, not by the number of commands.
pub(super) enum Command {
    /// Writes to the file of a partition folder.
    Write {
        /// Partition folder.
        folder: String,
        /// Content to append.
        payload: Payload,
        /// Size of the payload in the queue.
        bytes: u64,
    },
    /// Makes all that was written durable and answers with the output for a checkpoint.
    Prepare {
        /// True if nothing will be written after it.
        last: bool,
        /// Receives the output.
        reply: oneshot::Sender<Result<Prepared, Error>>,
    },
    /// Removes all unpublished files, because the attempt has ended.
    Discard,
}

/// Handle to the background half of a writer.
#[derive(Clone)]
pub(super) struct BackgroundWriter {
    sender: Sender<Command>,
    worker: Arc<Worker>,
    runtime: Handle,
}

/// The state shared by the slot thread and the background thread.
struct Worker {
    commands: Receiver<Command>,
    queued_bytes: AtomicU64,
    waker: AtomicWaker,
    /// True while a background thread carries out commands or is about to.
    is_running: AtomicBool,
    /// `None` after a failure.
    files: Mutex<Option<OpenFiles>>,
    /// The failure, until the slot thread takes it.
    error: Mutex<Option<Error>>,
}

impl BackgroundWriter {
    /// Creates a writer to `files`. It has no thread until a command is sent.
    pub(super) fn new(files: OpenFiles, runtime: Handle) -> Self {
        let (sender, commands) = unbounded();
        Self {
            sender,
            worker: Arc::new(Worker {
                commands,
                queued_bytes: AtomicU64::new(0),
                waker: AtomicWaker::new(),
                is_running: AtomicBool::new(false),
                files: Mutex::new(Some(files)),
                error: Mutex::new(None),
            }),
            runtime,
        }
    }

    /// Queues a command and starts a thread if none is running.
    pub(super) fn send(&self, command: Command) -> Result<(), Error> {
        self.worker.queued_bytes.fetch_add(command.bytes(), Ordering::AcqRel);
        self.sender.send(command).map_err(|_| self.take_error())?;
        if !self.worker.is_running.swap(true, Ordering::AcqRel) {
            let worker = self.worker.clone();
            drop(self.runtime.spawn_blocking(move || worker.run()));
        }
        Ok(())
    }

    /// Returns `Ready` if the queue has space, with the error of an earlier command if there was one.
    pub(super) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Poll::Ready(ready) = self.worker.ready() {
            return Poll::Ready(ready);
        }
        self.worker.waker.register(context.waker());
        self.worker.ready()
    }

    /// Returns the error that ended writing.
    pub(super) fn take_error(&self) -> Error {
        let error = self.worker.error.lock().take();
        error.unwrap_or_else(|| Error::Unavailable("writing of files has stopped".to_string()))
    }
}

impl Command {
    fn bytes(&self) -> u64 {
        match self {
            Self::Write { bytes, .. } => *bytes,
            Self::Prepare { .. } | Self::Discard => 0,
        }
    }
}

impl Worker {
    fn ready(&self) -> Poll<Result<(), Error>> {
        if let Some(error) = self.error.lock().take() {
            return Poll::Ready(Err(error));
        }
        if self.queued_bytes.load(Ordering::Acquire) < QUEUE_BYTES_MAX {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Carries out commands until the queue is empty.
    fn run(&self) {
        loop {
            let mut files = self.files.lock();
            while let Ok(command) = self.commands.try_recv() {
                let bytes = command.bytes();
                // After a failure commands are dropped, and with them the senders that somebody may wait for.
                let failed = files.as_mut().and_then(|files| carry_out(files, command).err());
                self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
                if let Some(error) = failed {
                    *self.error.lock() = Some(error);
                    if let Some(mut files) = files.take() {
                        files.discard();
                    }
                }
                self.waker.wake();
            }
            drop(files);
            // A swap, not a store: it synchronises with the swap of a sender that found a thread running, so that
            // `is_empty` sees the command of that sender.
            self.is_running.swap(false, Ordering::AcqRel);
            if self.commands.is_empty() || self.is_running.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

fn carry_out(files: &mut OpenFiles, command: Command) -> Result<(), Error> {
    match command {
        Command::Write { folder, payload, .. } => files.write(folder, payload)?,
        Command::Prepare { last, reply } => {
            // An answer that cannot be sent belongs to an attempt that has ended, which discards its files.
            if let Err(Ok(unclaimed)) = reply.send(files.prepare(last)) {
                files.take_back(unclaimed);
            }
        }
        Command::Discard => files.discard(),
    }
    Ok(())
}
