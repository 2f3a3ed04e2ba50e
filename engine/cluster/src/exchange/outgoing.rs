//! The sending side of a stream: elements leave their channels as frames, within their credit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow_schema::{ArrowError, SchemaRef};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use millstream_proto::v1;
use millstream_proto::v1::data_frame::Content;
use millstream_proto::v1::exchange_service_client::ExchangeServiceClient;
use millstream_runtime::channel::CONTROL_MAX;
use millstream_runtime::element::{Element, batch_bytes};
use millstream_runtime::remote_channel::OutgoingChannel;

use super::ready::{ReadyFlag, ReadyList};
use super::{Attempt, CLOSED, Compression, FRAME_BYTES, FRAME_BYTES_MAX, ready_list};
use crate::{connect, encoding};

/// Sends all elements for one peer until the attempt is closed.
pub(super) async fn run(attempt: Arc<Attempt>, peer: usize, channels: Vec<(OutgoingChannel, Arc<ReadyFlag>)>) {
    let closed = attempt.closed.clone();
    tokio::select! {
        () = closed.cancelled() => {}
        result = stream(&attempt, peer, channels) => {
            let reason = match result {
                Ok(()) => CLOSED.to_string(),
                Err(reason) => reason,
            };
            attempt.report(peer, reason);
        }
    }
}

async fn stream(
    attempt: &Attempt,
    peer: usize,
    channels: Vec<(OutgoingChannel, Arc<ReadyFlag>)>,
) -> Result<(), String> {
    let address = attempt.workers.get(peer).map(|(_, address)| address.as_str());
    let address = address.ok_or("the deployment does not list it")?;
    let connection = connect::worker(address).await.map_err(|error| error.to_string())?;
    let mut client = ExchangeServiceClient::new(connection).max_encoding_message_size(FRAME_BYTES_MAX * 2);
    let list = ready_list(&channels);
    let credits: Arc<Vec<Credit>> = Arc::new(channels.iter().map(|(_, mark)| Credit::new(mark)).collect());
    let indexes: std::collections::HashMap<u32, usize> = channels
        .iter()
        .enumerate()
        .map(|(index, (channel, _))| (channel.id, index))
        .collect();
    let open = v1::DataFrame {
        open: Some(v1::OpenExchange {
            job: attempt.job.clone(),
            attempt: attempt.id.clone(),
            from: attempt.own as u32,
        }),
        ..v1::DataFrame::default()
    };
    let (failed, mut failure) = tokio::sync::mpsc::channel(1);
    let source = FrameSource {
        open: Some(open),
        channels: channels
            .into_iter()
            .map(|(channel, _)| Channel::new(channel, attempt.compression))
            .collect(),
        list,
        credits: Arc::clone(&credits),
        failed,
    };
    // The transport keeps the stream of frames until it ends, even if the answer is no longer awaited.
    let frames = frames(source).take_until(attempt.closed.clone().cancelled_owned());
    let mut answers = client
        .open(frames)
        .await
        .map_err(|status| status.message().to_string())?
        .into_inner();
    loop {
        tokio::select! {
            Some(error) = failure.recv() => return Err(error),
            answer = answers.message() => match answer {
                Ok(Some(credit)) => {
                    if let Some(index) = indexes.get(&credit.channel) {
                        credits[*index].taken(&credit);
                    }
                }
                Ok(None) => return Ok(()),
                Err(status) => return Err(status.message().to_string()),
            }
        }
    }
}

/// Credit of a channel: how much of it the receiving task has taken.
struct Credit {
    bytes_taken: AtomicU64,
    controls_taken: AtomicU64,
    mark: Arc<ReadyFlag>,
}

impl Credit {
    fn new(mark: &Arc<ReadyFlag>) -> Self {
        Self {
            bytes_taken: AtomicU64::new(0),
            controls_taken: AtomicU64::new(0),
            mark: Arc::clone(mark),
        }
    }

    fn taken(&self, frame: &v1::CreditFrame) {
        self.bytes_taken.store(frame.bytes_taken, Ordering::Release);
        self.controls_taken.store(frame.controls_taken, Ordering::Release);
        self.mark.set();
    }
}

struct FrameSource {
    open: Option<v1::DataFrame>,
    channels: Vec<Channel>,
    list: Arc<ReadyList>,
    credits: Arc<Vec<Credit>>,
    failed: tokio::sync::mpsc::Sender<String>,
}

struct Channel {
    outgoing: OutgoingChannel,
    compression: Compression,
    /// The remaining pieces of a divided batch.
    pieces: VecDeque<RecordBatch>,
    encoder: Option<(SchemaRef, StreamEncoder)>,
    bytes_sent: u64,
    controls_sent: u64,
}

/// Returns frames as the transport asks for them: nothing is taken from a channel before it can be sent.
fn frames(source: FrameSource) -> impl Stream<Item = v1::DataFrame> {
    futures::stream::unfold(source, |mut source| async move {
        if let Some(open) = source.open.take() {
            return Some((open, source));
        }
        loop {
            let index = source.list.next().await;
            let credit = &source.credits[index];
            // Clear before the channel is read: a later element sets it again.
            credit.mark.clear();
            let channel = &mut source.channels[index];
            if !channel.has_credit(credit) {
                continue;
            }
            match channel.next_frame() {
                Ok(Some(frame)) => {
                    // Continue after the other channels had their turn.
                    credit.mark.set();
                    return Some((frame, source));
                }
                Ok(None) => {}
                Err(error) => {
                    if source.failed.try_send(error).is_err() {
                        tracing::debug!("the stream had failed before");
                    }
                    // The receiver must not take the failure for the end.
                    std::future::pending::<()>().await;
                }
            }
        }
    })
}

impl Channel {
    fn new(outgoing: OutgoingChannel, compression: Compression) -> Self {
        Self {
            outgoing,
            compression,
            pieces: VecDeque::new(),
            encoder: None,
            bytes_sent: 0,
            controls_sent: 0,
        }
    }

    fn has_credit(&self, credit: &Credit) -> bool {
        let bytes = self.bytes_sent - credit.bytes_taken.load(Ordering::Acquire);
        let controls = self.controls_sent - credit.controls_taken.load(Ordering::Acquire);
        bytes < self.outgoing.bytes_max as u64 && controls < CONTROL_MAX as u64
    }

    fn next_frame(&mut self) -> Result<Option<v1::DataFrame>, String> {
        let content = match self.pieces.pop_front() {
            Some(piece) => self.batch(&piece)?,
            None => match self.outgoing.receiver.pop() {
                None => return Ok(None),
                Some(Element::Batch(batch)) => {
                    self.cut(batch);
                    match self.pieces.pop_front() {
                        Some(piece) => self.batch(&piece)?,
                        None => return Ok(None),
                    }
                }
                Some(element) => {
                    self.controls_sent += 1;
                    Content::Control(control(&element))
                }
            },
        };
        Ok(Some(v1::DataFrame {
            open: None,
            channel: self.outgoing.id,
            content: Some(content),
        }))
    }

    /// Divides a batch into pieces of about [`FRAME_BYTES`].
    fn cut(&mut self, batch: RecordBatch) {
        let rows = batch.num_rows();
        let pieces = batch_bytes(&batch).div_ceil(FRAME_BYTES).clamp(1, rows.max(1));
        let rows_each = rows.div_ceil(pieces).max(1);
        if pieces == 1 {
            return self.pieces.push_back(batch);
        }
        for start in (0..rows).step_by(rows_each) {
            self.pieces.push_back(batch.slice(start, rows_each.min(rows - start)));
        }
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<Content, String> {
        let (ipc, starts_stream) = self
            .encode(batch)
            .map_err(|error| format!("a batch could not be encoded: {error}"))?;
        if ipc.len() > FRAME_BYTES_MAX {
            return Err(format!(
                "{} rows have {} bytes, more than can travel between workers ({FRAME_BYTES_MAX}, FRAME_BYTES_MAX); \
                 make the rows smaller before they are shuffled",
                batch.num_rows(),
                ipc.len()
            ));
        }
        let bytes = match self.compression {
            Compression::None => ipc.len(),
            Compression::Lz4 => ipc.len().max(batch_bytes(batch)),
        } as u64;
        self.bytes_sent += bytes;
        Ok(Content::Batch(v1::Batch {
            ipc,
            starts_stream,
            bytes,
        }))
    }

    fn encode(&mut self, batch: &RecordBatch) -> Result<(Bytes, bool), ArrowError> {
        let schema = batch.schema_ref();
        let is_known = matches!(&self.encoder, Some((known, _)) if Arc::ptr_eq(known, schema) || known == schema);
        if !is_known {
            let compression = match self.compression {
                Compression::None => None,
                Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
            };
            let options = IpcWriteOptions::default().try_with_compression(compression)?;
            let encoder = StreamEncoder::try_new_with_options(schema, options)?;
            self.encoder = Some((schema.clone(), encoder));
        }
        let Some((_, encoder)) = &mut self.encoder else {
            return Err(ArrowError::IpcError("no encoder".into()));
        };
        let buffers = encoder.encode(batch)?;
        let mut ipc = BytesMut::with_capacity(buffers.iter().map(|buffer| buffer.len()).sum());
        for buffer in &buffers {
            ipc.extend_from_slice(buffer.as_slice());
        }
        Ok((ipc.freeze(), !is_known))
    }
}

fn control(element: &Element) -> v1::Control {
    use v1::control::Control;
    let control = match element {
        Element::Watermark(watermark) => Control::Watermark(*watermark),
        Element::Idle => Control::Idle(true),
        Element::Barrier(barrier) => Control::Barrier(v1::Barrier {
            number: Some(encoding::barrier_number_message(barrier.number)),
            last: barrier.last,
        }),
        Element::End | Element::Batch(_) => Control::End(true),
    };
    v1::Control { control: Some(control) }
}
