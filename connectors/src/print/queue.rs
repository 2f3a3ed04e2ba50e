//! The queue of lines to a stream that may be slow. All subtasks append; one blocking task at a time writes.

use std::io::Write;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::Future;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::Error;

/// Bytes in the queue at which writers wait.
const WAITING_BYTES_MAX: usize = 1 << 20;

pub(super) struct LineQueue {
    state: Mutex<State>,
    /// The stream, which only the task that writes locks.
    target: Mutex<Box<dyn Write + Send>>,
    /// Name of the stream in errors.
    name: &'static str,
    /// Number of bytes written so far, or the reason why writing has ended.
    progress: watch::Sender<Progress>,
}

struct State {
    waiting: Vec<u8>,
    /// Number of bytes pushed so far.
    pushed: u64,
    /// True while a task writes, which checks `waiting` again before it ends.
    is_writing: bool,
    blocked: Vec<Waker>,
}

#[derive(Clone)]
struct Progress {
    written: u64,
    failure: Option<Failure>,
}

/// The reason why writing has ended.
#[derive(Debug, Clone)]
enum Failure {
    /// The reader has closed the stream.
    Closed(&'static str),
    Refused(String),
}

impl Failure {
    fn error(&self) -> Error {
        match self {
            Self::Closed(name) => Error::Invalid(format!("cannot print to {name}: it was closed by its reader")),
            Self::Refused(message) => Error::Unavailable(message.clone()),
        }
    }
}

impl LineQueue {
    pub(super) fn new(target: Box<dyn Write + Send>, name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                waiting: Vec::new(),
                pushed: 0,
                is_writing: false,
                blocked: Vec::new(),
            }),
            target: Mutex::new(target),
            name,
            progress: watch::Sender::new(Progress {
                written: 0,
                failure: None,
            }),
        })
    }

    pub(super) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(failure) = &self.progress.borrow().failure {
            return Poll::Ready(Err(failure.error()));
        }
        let mut state = self.state.lock();
        if state.waiting.len() < WAITING_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        state.blocked.push(context.waker().clone());
        Poll::Pending
    }

    /// Appends whole lines. They are written in this order, after everything pushed before.
    pub(super) fn push(self: &Arc<Self>, lines: Vec<u8>, runtime: &tokio::runtime::Handle) {
        let mut state = self.state.lock();
        state.pushed += lines.len() as u64;
        if state.waiting.is_empty() {
            state.waiting = lines;
        } else {
            state.waiting.extend_from_slice(&lines);
        }
        if !mem::replace(&mut state.is_writing, true) {
            let queue = self.clone();
            runtime.spawn_blocking(move || queue.write_all());
        }
    }

    /// Waits until everything pushed so far is written.
    pub(super) fn written(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let target = self.state.lock().pushed;
        let mut progress = self.progress.subscribe();
        let name = self.name;
        async move {
            let reached = progress
                .wait_for(|progress| progress.written >= target || progress.failure.is_some())
                .await
                .map_err(|_| Error::Unavailable(format!("cannot print to {name}: the job has ended")))?
                .clone();
            match reached.failure {
                Some(failure) if reached.written < target => Err(failure.error()),
                _ => Ok(()),
            }
        }
    }

    /// Writes until the queue is empty.
    fn write_all(&self) {
        let mut target = self.target.lock();
        loop {
            let (lines, blocked) = {
                let mut state = self.state.lock();
                if state.waiting.is_empty() {
                    state.is_writing = false;
                    return;
                }
                (mem::take(&mut state.waiting), mem::take(&mut state.blocked))
            };
            let result = target.write_all(&lines).and_then(|()| target.flush());
            self.progress.send_modify(|progress| match result {
                Ok(()) => progress.written += lines.len() as u64,
                Err(error) => {
                    progress.failure.get_or_insert(match error.kind() {
                        std::io::ErrorKind::BrokenPipe => Failure::Closed(self.name),
                        _ => Failure::Refused(format!("cannot print to {}: {error}", self.name)),
                    });
                }
            });
            blocked.into_iter().for_each(Waker::wake);
        }
    }
}
