//! Reports of a worker, forwarded to the attempts and to the coordinator until the stream ends.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use millstream_proto::v1;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::link::Link;
use super::messages::{MessageBody, WorkerMessage};
use super::{FleetEvent, Inner};

/// Reads a worker's reports until its stream ends.
pub(super) async fn listen(
    inner: Arc<Inner>,
    link: Weak<Link>,
    worker: String,
    incarnation: String,
    mut reports: Streaming<v1::Report>,
    closed: CancellationToken,
) {
    let reason = loop {
        let report = tokio::select! {
            () = closed.cancelled() => return,
            report = reports.message() => report,
        };
        let report = match report {
            Ok(Some(report)) => report,
            Ok(None) => break "it closed its stream".to_string(),
            Err(status) => break status.message().to_string(),
        };
        let Some(link) = link.upgrade() else { return };
        link.heartbeat.beat();
        match report.report {
            Some(v1::report::Report::Heartbeat(heartbeat)) => {
                link.compare_clocks(&heartbeat);
                link.state_bytes.store(heartbeat.state_bytes, Ordering::Relaxed);
                if !heartbeat.lines.is_empty() {
                    let (worker, lines) = (worker.clone(), heartbeat.lines);
                    inner.send_event(FleetEvent::Logged { worker, lines }).await;
                }
                for progress in heartbeat.progress {
                    forward(
                        &inner,
                        &worker,
                        progress.attempt.clone(),
                        MessageBody::Progress(progress),
                    );
                }
            }
            Some(v1::report::Report::Attempt(report)) => {
                forward(&inner, &worker, report.attempt.clone(), MessageBody::Report(report));
            }
            Some(v1::report::Report::Leaving(_)) => {
                link.is_leaving.store(true, Ordering::Relaxed);
                inner.send_event(FleetEvent::Leaving { worker: worker.clone() }).await;
            }
            Some(v1::report::Report::Register(_)) | None => {}
        }
    };
    inner.on_stream_broken(&worker, &incarnation, &reason).await;
}

/// Forwards a message to the driver of the attempt. A driver that does not read its messages must not block the
/// others, so its attempt is given up.
fn forward(inner: &Inner, worker: &str, attempt: String, body: MessageBody) {
    let Some(listener) = inner.attempts.get(&attempt).map(|entry| entry.value().clone()) else {
        return;
    };
    let is_progress = matches!(body, MessageBody::Progress(_));
    let message = WorkerMessage {
        worker: worker.to_string(),
        body,
    };
    if let Err(mpsc::error::TrySendError::Full(_)) = listener.try_send(message)
        && !is_progress
    {
        tracing::warn!(
            attempt,
            "the driver of the attempt does not read its messages: giving the attempt up"
        );
        inner.attempts.retain(|_, other| !other.same_channel(&listener));
    }
}
