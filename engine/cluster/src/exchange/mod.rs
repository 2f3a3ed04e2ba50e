//! Rows between workers: Arrow IPC on one gRPC stream per attempt and pair of workers, with credit per channel.
//!
//! An [`Attempt`] carries the rows of one job in one worker: it collects the ends of the channels to and from other
//! workers (`millstream_runtime::remote_channel`) and groups them by the worker at the other side. The sending worker
//! opens the stream ([`outgoing`]). The receiving worker ([`incoming`]) puts every element at once into the channel
//! of its task, and reports from time to time how much that task has taken. A sender is never ahead of that by more
//! than the capacity of the channel, so a slow task holds back its own channel only, and no connection waits for one
//! of them. Batches count by their bytes before compression, watermarks, barriers and other control elements by their
//! number.
//!
//! Frames may be compressed ([`Compression`]): the sender decides, and the Arrow message names the method.
//!
//! A stream that breaks before its attempt is closed fails the attempt, not the process.

pub mod frame;
mod incoming;
mod outgoing;
mod ready;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use dashmap::DashMap;
use millstream_runtime::remote_channel::{ChannelId, IncomingChannel, OutgoingChannel, RemoteTransport};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use self::ready::{ReadyFlag, ReadyList};

/// Target size of a frame; larger batches are divided.
const FRAME_BYTES: usize = 4 << 20;
/// Largest frame: a single larger row cannot be sent.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Limit of the time that a stream waits for the deployment of its attempt at the receiving worker.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(30);
/// BrokenStream streams of one attempt that may wait to be reported: the first is what counts.
const FAILURES_MAX: usize = 16;

/// Compression of the frames that a worker sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// No compression: fastest on a fast network.
    #[default]
    None,
    /// Each buffer of a batch as an LZ4 frame, if that is smaller.
    Lz4,
}

/// The exchange of a worker: its attempts, for incoming streams.
#[derive(Clone, Default)]
pub struct Exchange {
    compression: Compression,
    /// Name and incarnation of the worker, for clients that check its identity.
    name: String,
    incarnation: String,
    attempts: Arc<DashMap<String, Arc<Attempt>>>,
    added: Arc<Notify>,
}

/// A stream that has broken.
#[derive(Debug)]
pub struct BrokenStream {
    /// Name of the worker at the other side.
    pub peer: String,
    /// The reason.
    pub reason: String,
}

/// The reason of a stream that the other side closed.
const CLOSED: &str = "it closed the stream";

impl BrokenStream {
    /// Returns true if the other side has closed its attempt; it reports the cause itself, unless it was asked to.
    pub fn is_orderly(&self) -> bool {
        self.reason == CLOSED
    }
}

impl Exchange {
    /// Creates the exchange of a worker.
    pub fn new(name: &str, incarnation: &str, compression: Compression) -> Self {
        Self {
            compression,
            name: name.to_string(),
            incarnation: incarnation.to_string(),
            ..Self::default()
        }
    }

    /// Creates the exchange of one attempt, and the receiver of its broken streams. `workers` has name and address of
    /// each worker, `slots` the worker of each slot, `own` the index of this worker.
    pub fn attempt(
        &self,
        job: &str,
        id: &str,
        workers: Vec<(String, String)>,
        slots: Vec<usize>,
        own: usize,
    ) -> (Arc<Attempt>, mpsc::Receiver<BrokenStream>) {
        let (broken, failures) = mpsc::channel(FAILURES_MAX);
        let attempt = Arc::new(Attempt {
            job: job.to_string(),
            id: id.to_string(),
            workers,
            slots,
            own,
            compression: self.compression,
            marks: Mutex::default(),
            outgoing: Mutex::default(),
            incoming: Mutex::default(),
            broken,
            closed: CancellationToken::new(),
        });
        (attempt, failures)
    }

    /// Accepts streams of the other workers and opens those of this one, once all channels are known.
    pub fn open(&self, attempt: &Arc<Attempt>) {
        self.attempts.insert(attempt.id.clone(), Arc::clone(attempt));
        self.added.notify_waiters();
        let outgoing = std::mem::take(&mut *attempt.outgoing.lock());
        for (peer, channels) in outgoing {
            tokio::spawn(outgoing::run(Arc::clone(attempt), peer, channels));
        }
    }

    /// Closes all streams of an attempt.
    pub fn close(&self, attempt: &Attempt) {
        self.attempts.remove(&attempt.id);
        attempt.closed.cancel();
    }

    async fn find(&self, id: &str) -> Option<Arc<Attempt>> {
        let found = async {
            loop {
                let added = self.added.notified();
                tokio::pin!(added);
                added.as_mut().enable();
                if let Some(attempt) = self.attempts.get(id) {
                    return Arc::clone(&attempt);
                }
                added.await;
            }
        };
        tokio::time::timeout(DEPLOY_TIMEOUT, found).await.ok()
    }
}

/// Ends of channels by the worker at the other side.
type ByPeer<T> = BTreeMap<usize, Vec<(T, Arc<ReadyFlag>)>>;

/// The exchange of one attempt in one worker.
pub struct Attempt {
    job: String,
    id: String,
    workers: Vec<(String, String)>,
    slots: Vec<usize>,
    own: usize,
    compression: Compression,
    /// Flags of channels whose end is not known yet.
    marks: Mutex<HashMap<ChannelId, Arc<ReadyFlag>>>,
    outgoing: Mutex<ByPeer<OutgoingChannel>>,
    incoming: Mutex<ByPeer<IncomingChannel>>,
    broken: mpsc::Sender<BrokenStream>,
    closed: CancellationToken,
}

impl Attempt {
    fn report(&self, peer: usize, reason: String) {
        if self.closed.is_cancelled() {
            return;
        }
        let broken = BrokenStream {
            peer: self.peer_name(peer).to_string(),
            reason,
        };
        if let Err(error) = self.broken.try_send(broken) {
            tracing::debug!(job = self.job, attempt = self.id, %error, "a broken stream was one of several");
        }
    }

    fn peer_name(&self, peer: usize) -> &str {
        self.workers.get(peer).map_or("an unknown worker", |(name, _)| name)
    }

    fn mark(&self, channel: ChannelId) -> Arc<ReadyFlag> {
        Arc::clone(self.marks.lock().entry(channel).or_default())
    }

    fn take_mark(&self, channel: ChannelId) -> Arc<ReadyFlag> {
        self.marks.lock().remove(&channel).unwrap_or_default()
    }
}

impl RemoteTransport for Attempt {
    fn waker(&self, channel: ChannelId) -> Waker {
        Waker::from(self.mark(channel))
    }

    fn outgoing(&self, channel: OutgoingChannel) {
        let mark = self.take_mark(channel.id);
        let peer = self.slots[channel.slot];
        self.outgoing.lock().entry(peer).or_default().push((channel, mark));
    }

    fn incoming(&self, channel: IncomingChannel) {
        let mark = self.take_mark(channel.id);
        let peer = self.slots[channel.slot];
        self.incoming.lock().entry(peer).or_default().push((channel, mark));
    }
}

/// Creates the list of the channels of one stream that have work.
fn ready_list<T>(channels: &[(T, Arc<ReadyFlag>)]) -> Arc<ReadyList> {
    let list = Arc::new(ReadyList::default());
    for (index, (_, mark)) in channels.iter().enumerate() {
        mark.join(&list, index);
    }
    list
}

#[cfg(test)]
mod tests;
