//! Requests that share a batch.
//!
//! Decoding, evaluating and encoding a batch of few rows costs about as much as one row does. So the requests of a
//! pipeline without state that arrive while others are read or run are answered together: the first one starts a task,
//! which lets all connections be read that have a request, and then takes all requests that wait. Each request has the
//! response that it has alone. If a row fails, the requests of its batch are run one by one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_connectors::format::Records;
use millstream_runtime::request::SharedRows;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::answer::{self, AnswerFormat};
use super::body::{self, BodyFormat};
use super::{Failure, Service};
use crate::clock::now_us;

/// Most bytes of the bodies of a shared batch, so that a worker thread of the server is never busy for long.
pub(super) const BATCH_BYTES_MAX: usize = 64 << 10;
/// Interval at which requests whose deadline has passed are answered while none may run.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(20);

/// A request whose body may be part of a shared batch.
pub(super) struct SharedRequest {
    pub format: BodyFormat,
    pub body: Vec<u8>,
    pub deadline: Instant,
}

/// The body of a response, or a failure.
type Answer = Result<Vec<u8>, Failure>;

struct Waiting {
    request: SharedRequest,
    answer: oneshot::Sender<Answer>,
}

/// Requests of a service that wait for a batch.
#[derive(Default)]
pub(super) struct SharedQueue(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// True if a task will take the requests that wait.
    has_taker: bool,
}

impl SharedQueue {
    /// Takes requests up to the limit of bytes, at least one of those that wait. Without a rest there is no taker any
    /// more.
    fn take(&self) -> (Vec<Waiting>, bool) {
        let mut queue = self.0.lock();
        let mut bytes = 0;
        let end = queue.waiting.iter().position(|waiting| {
            bytes += waiting.request.body.len();
            bytes > BATCH_BYTES_MAX
        });
        let taken = match end {
            Some(end) => queue.waiting.drain(..end.max(1)).collect(),
            None => std::mem::take(&mut queue.waiting),
        };
        queue.has_taker = !queue.waiting.is_empty();
        (taken, queue.has_taker)
    }

    /// Answers requests whose deadline has passed.
    fn expire(&self) {
        let now = Instant::now();
        let is_expired = |waiting: &mut Waiting| waiting.request.deadline <= now;
        let expired: Vec<Waiting> = self.0.lock().waiting.extract_if(.., is_expired).collect();
        for waiting in expired {
            waiting
                .answer
                .send(Err(Failure::deadline("the queue of requests")))
                .ok();
        }
    }
}

/// Answers a request in a batch with others.
pub(super) async fn invoke(service: &Arc<Service>, request: SharedRequest) -> Answer {
    let (answer, answered) = oneshot::channel();
    let needs_taker = {
        let mut queue = service.shared.0.lock();
        queue.waiting.push(Waiting { request, answer });
        !std::mem::replace(&mut queue.has_taker, true)
    };
    if needs_taker {
        start_taker(service);
    }
    // An error only if the task was cancelled, as the process ends.
    answered.await.unwrap_or_else(|_| Err(Failure::draining()))
}

/// Starts the task that takes the requests. It belongs to no request, whose client may leave.
fn start_taker(service: &Arc<Service>) {
    let service = Arc::clone(service);
    tokio::spawn(async move {
        let permit = permit(&service).await;
        // Connections that can be read are, before the task goes on.
        tokio::task::yield_now().await;
        let (requests, has_rest) = service.shared.take();
        if has_rest {
            start_taker(&service);
        }
        service.answer(requests);
        drop(permit);
    });
}

/// Waits until a batch may run.
async fn permit(service: &Service) -> Option<OwnedSemaphorePermit> {
    if let Some(permit) = service.admission.try_run() {
        return Some(permit);
    }
    loop {
        match tokio::time::timeout(EXPIRY_INTERVAL, service.admission.run()).await {
            Ok(permit) => return permit,
            Err(_) => service.shared.expire(),
        }
    }
}

impl Service {
    /// Answers requests: together, and one by one those that cannot be.
    fn answer(&self, requests: Vec<Waiting>) {
        let mut together = match requests.len() {
            0 | 1 => Vec::new(),
            _ => self.invoke_together(&requests),
        };
        together.resize_with(requests.len(), || None);
        for (waiting, answer) in std::iter::zip(requests, together) {
            let answer = answer.map_or_else(|| self.invoke_alone(&waiting.request), Ok);
            // Its client may have left.
            waiting.answer.send(answer).ok();
        }
    }

    fn invoke_alone(&self, request: &SharedRequest) -> Answer {
        let (_, body) = self.invoke(
            request.format,
            &request.body,
            AnswerFormat::Json,
            false,
            request.deadline,
        )?;
        Ok(body)
    }

    /// Runs requests as one batch. Returns the response of each; `None` for those that have to be run alone, because
    /// their rows are not valid or any row fails.
    fn invoke_together(&self, requests: &[Waiting]) -> Vec<Option<Vec<u8>>> {
        let call = || self.run_together(requests).unwrap_or_default();
        catch_unwind(AssertUnwindSafe(call)).unwrap_or_default()
    }

    fn run_together(&self, requests: &[Waiting]) -> Option<Vec<Option<Vec<u8>>>> {
        let [input] = self.inputs.as_slice() else { return None };
        let mut data = Vec::with_capacity(requests.iter().map(|waiting| waiting.request.body.len()).sum());
        let mut ranges = Vec::with_capacity(requests.len());
        let mut ends = Vec::with_capacity(requests.len());
        let mut is_valid = Vec::with_capacity(requests.len());
        let now = Instant::now();
        for Waiting { request, .. } in requests {
            let rows = body::rows(request.format, &request.body).unwrap_or_default();
            is_valid.push(!rows.is_empty() && request.deadline > now);
            let offset = data.len();
            data.extend_from_slice(&request.body);
            ranges.extend(rows.into_iter().map(|(start, end)| (offset + start, offset + end)));
            ends.push(ranges.len());
        }
        let records = Records {
            data: &data,
            ranges: &ranges,
        };
        let decoded = input.decode_together(records).ok()?;
        debug_assert!(
            decoded.skipped.is_empty() && decoded.records.is_none(),
            "each record is a row"
        );
        // From records to rows: those that did not decode are none.
        let mut rejected = decoded.rejected.iter().map(|rejection| rejection.record).peekable();
        let mut missing = 0;
        for (end, is_valid) in std::iter::zip(&mut ends, &mut is_valid) {
            while rejected.next_if(|record| record < end).is_some() {
                missing += 1;
                *is_valid = false;
            }
            *end -= missing;
        }
        let rows = SharedRows {
            rows: decoded.rows,
            ends,
        };
        let sinks = self
            .executor
            .run_shared(rows, now_us(), self.limits.operator_bytes_max)
            .ok()?;
        let bodies = answer::encode_shared(&self.outputs, &sinks, requests.len()).ok()?;
        let answers = std::iter::zip(bodies, is_valid).map(|(body, is_valid)| is_valid.then_some(body));
        Some(answers.collect())
    }
}

#[cfg(test)]
mod tests;
