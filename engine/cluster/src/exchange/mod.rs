//! Rows between workers: Arrow IPC on one gRPC stream per attempt and pair of workers, with credit per channel.
//!
//! An [`Attempt`] is one job's carrier in one worker: it collects the ends of the channels that lead elsewhere
//! (`millstream_runtime::remote_channel`) and groups them by the worker at the other side. The sending worker opens the
//! stream ([`outgoing`]); the receiving one ([`incoming`]) puts every element at once into the channel of the task it is
//! for, and says from time to time how much that task has taken. A sender is never more than a channel's capacity ahead
//! of that, so a slow task holds back its own channel and no other, and no connection ever waits for one of them.
//! Batches are counted in bytes before compression, watermarks, barriers and the like by their number.
//!
//! Frames may be compressed ([`Compression`]): the sender decides, the Arrow message says how.
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

/// A batch is cut so that the rows of one frame have about so many bytes.
const FRAME_BYTES: usize = 4 << 20;
/// One row larger than this cannot travel.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// How long a stream waits for its attempt to be deployed at the receiving worker.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(30);
/// BrokenStream streams of one attempt that may wait to be reported: the first is what counts.
const FAILURES_MAX: usize = 16;

/// Whether what a worker sends to others is made smaller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Fastest where the network is.
    #[default]
    None,
    /// Each buffer of a batch as an LZ4 frame, where that is smaller.
    Lz4,
}

/// The attempts of a worker, for streams that come in.
#[derive(Clone, Default)]
pub struct Exchange {
    compression: Compression,
    /// The worker's, for those who look whether they have found it.
    name: String,
    incarnation: String,
    attempts: Arc<DashMap<String, Arc<Attempt>>>,
    added: Arc<Notify>,
}

/// A stream that broke.
#[derive(Debug)]
pub struct BrokenStream {
    /// The worker at the other side.
    pub peer: String,
    pub reason: String,
}

/// The other side ended its part in good order.
const CLOSED: &str = "it closed the stream";

impl BrokenStream {
    /// The attempt ends at the other side, which says itself why, if it was not asked to.
    pub fn is_orderly(&self) -> bool {
        self.reason == CLOSED
    }
}

impl Exchange {
    /// One of this worker that sends what it sends in this way.
    pub fn new(name: &str, incarnation: &str, compression: Compression) -> Self {
        Self {
            compression,
            name: name.to_string(),
            incarnation: incarnation.to_string(),
            ..Self::default()
        }
    }

    /// A carrier for one attempt. `workers` has name and address of each worker, `slots` the worker of each slot, `own`
    /// says which worker this is.
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

    /// Lets streams of the other workers in, and opens those of this one. Called when all channels are known.
    pub fn open(&self, attempt: &Arc<Attempt>) {
        self.attempts.insert(attempt.id.clone(), Arc::clone(attempt));
        self.added.notify_waiters();
        let outgoing = std::mem::take(&mut *attempt.outgoing.lock());
        for (peer, channels) in outgoing {
            tokio::spawn(outgoing::run(Arc::clone(attempt), peer, channels));
        }
    }

    /// Ends all streams of an attempt.
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

/// Ends of channels, by the worker at the other side.
type ByPeer<T> = BTreeMap<usize, Vec<(T, Arc<ReadyFlag>)>>;

/// One job's carrier in one worker.
pub struct Attempt {
    job: String,
    id: String,
    workers: Vec<(String, String)>,
    slots: Vec<usize>,
    own: usize,
    compression: Compression,
    /// Of channels whose end has not been handed over yet.
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

/// The channels of one stream, and which of them have something to do.
fn ready_list<T>(channels: &[(T, Arc<ReadyFlag>)]) -> Arc<ReadyList> {
    let list = Arc::new(ReadyList::default());
    for (index, (_, mark)) in channels.iter().enumerate() {
        mark.join(&list, index);
    }
    list
}

#[cfg(test)]
mod tests;
