//! Verifies the checkpoints of a job: reads all their objects, lists damage, and describes the effect on a restore.
//!
//! Findings are sent as events, one per damaged object and per checkpoint, so that neither side holds more than one
//! checkpoint's damage in memory. Verification needs no claim and does not disturb a running job. A checkpoint that a
//! running job deletes meanwhile is left out, not reported as damaged.

use std::time::Instant;

use millstream_proto::v1;
use millstream_runtime::subtask_state::SubtaskState;
use millstream_state::checkpoint::verify::{Damage, Progress, Verifier};
use millstream_state::checkpoint::{CheckpointInfo, CheckpointStore};
use tokio::sync::mpsc;

use crate::Error;
use crate::fallback::Output;
use crate::snapshot::{BODY_VERSION, output_of};

/// Largest number of events that wait for the receiver.
pub const EVENTS_MAX: usize = 64;
/// Interval of progress events.
const PROGRESS_MS: u128 = 500;

/// The receiver of the events is gone.
struct ReceiverGone;

/// Sends the events of a verification and sums up its result.
struct EventSender {
    events: mpsc::Sender<v1::VerifyEvent>,
    result: v1::VerifyResult,
}

impl EventSender {
    async fn send(&self, event: v1::VerifyEvent) -> Result<(), ReceiverGone> {
        self.events.send(event).await.map_err(|_| ReceiverGone)
    }

    async fn damages(&mut self, checkpoint: Option<u64>, damages: Vec<Damage>) -> Result<(), ReceiverGone> {
        self.result.damaged += damages.len() as u64;
        for damage in damages {
            self.send(v1::VerifyEvent {
                damage: Some(v1::DamagedObject {
                    checkpoint,
                    kind: damage.kind.as_str().to_string(),
                    path: damage.path,
                    problem: damage.problem,
                }),
                ..v1::VerifyEvent::default()
            })
            .await?;
        }
        Ok(())
    }
}

/// Verifies one checkpoint of a job, or all, newest first. The last event is the result; it is missing only if the
/// receiver is dropped.
pub async fn verify(store: CheckpointStore, wanted: Option<u64>, events: mpsc::Sender<v1::VerifyEvent>) {
    let mut sender = EventSender {
        events,
        result: v1::VerifyResult::default(),
    };
    let verified = verify_all(&store, wanted, &mut sender).await;
    let mut result = std::mem::take(&mut sender.result);
    match verified {
        Ok(Ok(())) => result.is_whole = result.damaged == 0,
        Ok(Err(ReceiverGone)) => return,
        Err(error) => result.error = error.to_string(),
    }
    let last = v1::VerifyEvent {
        result: Some(result),
        ..v1::VerifyEvent::default()
    };
    if sender.send(last).await.is_err() {
        tracing::debug!(job = store.job(), "nobody waits for the result any more");
    }
}

async fn verify_all(
    store: &CheckpointStore,
    wanted: Option<u64>,
    sender: &mut EventSender,
) -> Result<Result<(), ReceiverGone>, Error> {
    let mut verifier = Verifier::new(store.clone());
    let journal = verifier.journal().await?;
    if sender.damages(None, journal.damages).await.is_err() {
        return Ok(Err(ReceiverGone));
    }
    let newest = journal.checkpoints.last().map(|info| info.checkpoint);
    // The newest intact checkpoint, as long as all newer ones were verified.
    let mut restored = Restored::Searching(Vec::new());
    for info in journal.checkpoints.iter().rev() {
        let is_wanted = wanted.is_none_or(|wanted| wanted == info.checkpoint);
        let is_older = wanted.is_some_and(|wanted| info.checkpoint < wanted);
        let is_searching = matches!(restored, Restored::Searching(_));
        if !(is_wanted || is_older && is_searching) {
            if !is_older {
                restored = Restored::NotRead;
            }
            continue;
        }
        let is_whole = match checkpoint(&mut verifier, store, info, sender).await? {
            Ok(is_whole) => is_whole,
            Err(ReceiverGone) => return Ok(Err(ReceiverGone)),
        };
        match (&mut restored, is_whole) {
            (Restored::Searching(_), Some(true)) => {
                let Restored::Searching(passed_over) = std::mem::replace(&mut restored, Restored::NotRead) else {
                    continue;
                };
                restored = Restored::Found(info.checkpoint, passed_over);
            }
            (Restored::Searching(passed_over), Some(false)) => passed_over.push(info.clone()),
            _ => {}
        }
    }
    sender.result.restored_from = match (&journal.refused, &restored) {
        (None, Restored::Found(checkpoint, _)) => Some(*checkpoint),
        _ => None,
    };
    sender.result.restore = match journal.refused {
        Some(problem) => format!("a restore is refused: {problem}"),
        None => describe_restore(store, newest, &restored).await?,
    };
    Ok(Ok(()))
}

/// The checkpoint that a restore selects if the user chooses none.
enum Restored {
    /// All checkpoints so far are damaged.
    Searching(Vec<CheckpointInfo>),
    /// A checkpoint, with the newer damaged ones that are skipped.
    Found(u64, Vec<CheckpointInfo>),
    /// A newer one was not verified.
    NotRead,
}

/// Verifies a checkpoint. Returns true if it is intact; `None` if it was deleted meanwhile.
async fn checkpoint(
    verifier: &mut Verifier,
    store: &CheckpointStore,
    info: &CheckpointInfo,
    sender: &mut EventSender,
) -> Result<Result<Option<bool>, ReceiverGone>, Error> {
    let mut reported_at = Instant::now();
    let events = sender.events.clone();
    let mut report = |progress: Progress| {
        if reported_at.elapsed().as_millis() < PROGRESS_MS {
            return;
        }
        reported_at = Instant::now();
        let event = v1::VerifyEvent {
            progress: Some(v1::VerifyProgress {
                checkpoint: info.checkpoint,
                files: progress.files,
                files_total: progress.files_total,
                bytes: progress.bytes,
                bytes_total: progress.bytes_total,
            }),
            ..v1::VerifyEvent::default()
        };
        // A slow receiver gets the next one.
        if events.try_send(event).is_err() {
            tracing::trace!("nobody follows the progress");
        }
    };
    let verified = verifier
        .checkpoint::<SubtaskState>(info, BODY_VERSION, &mut report)
        .await?;
    if !verified.damages.is_empty() {
        let now = store.list().await?;
        if !now.contains(info) {
            return Ok(Ok(None));
        }
    }
    let is_whole = verified.damages.is_empty();
    let damaged = verified.damages.len() as u64;
    sender.result.checkpoints += 1;
    sender.result.files += verified.files;
    sender.result.bytes += verified.bytes;
    if sender.damages(Some(info.checkpoint), verified.damages).await.is_err() {
        return Ok(Err(ReceiverGone));
    }
    let event = v1::VerifyEvent {
        checkpoint: Some(v1::VerifiedCheckpoint {
            checkpoint: info.checkpoint,
            taken_us: info.created_ms * 1000,
            savepoint: info.savepoint.clone(),
            files: verified.files,
            bytes: verified.bytes,
            damaged,
        }),
        ..v1::VerifyEvent::default()
    };
    Ok(sender.send(event).await.map(|()| Some(is_whole)))
}

/// Describes the checkpoint that a restore selects.
async fn describe_restore(store: &CheckpointStore, newest: Option<u64>, restored: &Restored) -> Result<String, Error> {
    let Some(newest) = newest else {
        return Ok("there is no checkpoint: the job begins anew".into());
    };
    match restored {
        Restored::NotRead => Ok(format!(
            "a restore begins with checkpoint {newest}, the newest, which was not verified"
        )),
        Restored::Searching(_) => Ok("nothing is left that a restore could begin with: it is refused".into()),
        Restored::Found(checkpoint, passed_over) if passed_over.is_empty() => {
            Ok(format!("a restore begins with checkpoint {checkpoint}"))
        }
        Restored::Found(checkpoint, passed_over) => {
            let mut output = Output::None;
            for info in passed_over {
                match output_of(store, info.checkpoint).await? {
                    Output::None => {}
                    Output::Unknown if output == Output::None => output = Output::Unknown,
                    Output::Unknown => {}
                    Output::Present => output = Output::Present,
                }
            }
            let twice = match output {
                Output::None => "no output was published after it".to_string(),
                Output::Present | Output::Unknown => {
                    let was = if output == Output::Present {
                        "was"
                    } else {
                        "may have been"
                    };
                    format!(
                        "output after it {was} published and would appear twice, so with sinks that deliver exactly once it \
                         is refused unless --allow-duplicates accepts that"
                    )
                }
            };
            Ok(format!("a restore would fall back to checkpoint {checkpoint}; {twice}"))
        }
    }
}
