//! The receiving side of a stream: every frame goes at once to the channel of its task; credit is returned as the
//! task takes elements.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use millstream_proto::v1;
use millstream_proto::v1::data_frame::Content;
use millstream_proto::v1::exchange_service_server::{ExchangeService, ExchangeServiceServer};
use millstream_runtime::channel::CONTROL_MAX;
use millstream_runtime::element::{Barrier, Element};
use millstream_runtime::remote_channel::IncomingChannel;
use parking_lot::Mutex;
use tonic::{Request, Response, Status, Streaming};

use super::frame::FrameDecoder;
use super::ready::{ReadyFlag, ReadyList};
use super::{Attempt, CLOSED, Exchange, FRAME_BYTES_MAX, ready_list};
use crate::encoding;

impl Exchange {
    /// Returns the gRPC service that accepts streams of other workers.
    pub fn service(&self) -> ExchangeServiceServer<Exchange> {
        ExchangeServiceServer::new(self.clone()).max_decoding_message_size(FRAME_BYTES_MAX * 2)
    }
}

#[tonic::async_trait]
impl ExchangeService for Exchange {
    type OpenStream = BoxStream<'static, Result<v1::CreditFrame, Status>>;

    async fn open(&self, request: Request<Streaming<v1::DataFrame>>) -> Result<Response<Self::OpenStream>, Status> {
        let mut frames = request.into_inner();
        let first = frames.message().await?;
        let Some(open) = first.and_then(|frame| frame.open) else {
            return Err(Status::invalid_argument(
                "the first frame of an exchange must identify it",
            ));
        };
        let Some(attempt) = self.find(&open.attempt).await else {
            return Err(Status::not_found(format!(
                "attempt {} of job `{}` does not run here",
                open.attempt, open.job
            )));
        };
        let peer = open.from as usize;
        let Some(channels) = attempt.incoming.lock().remove(&peer) else {
            return Err(Status::failed_precondition(format!(
                "no channels lead from worker {peer} to this one, or its stream is open already"
            )));
        };
        let list = ready_list(&channels);
        let channels: Arc<Vec<Channel>> = Arc::new(channels.into_iter().map(Channel::new).collect());
        tokio::spawn(drain(Arc::clone(&attempt), peer, Arc::clone(&channels), frames));
        let closed = attempt.closed.clone();
        let credits = credits(channels, list).take_until(closed.cancelled_owned());
        Ok(Response::new(credits.map(Ok).boxed()))
    }

    async fn who(&self, _request: Request<v1::WhoRequest>) -> Result<Response<v1::WhoResponse>, Status> {
        Ok(Response::new(v1::WhoResponse {
            name: self.name.clone(),
            incarnation: self.incarnation.clone(),
        }))
    }
}

struct Channel {
    incoming: IncomingChannel,
    mark: Arc<ReadyFlag>,
    account: Mutex<Account>,
}

/// The received elements, and how many of them the task has taken.
#[derive(Default)]
struct Account {
    /// Bytes of each element in the channel that is not known to be taken; 0 for control elements.
    lengths: VecDeque<u64>,
    bytes_taken: u64,
    controls_taken: u64,
    bytes_reported: u64,
    controls_reported: u64,
}

impl Channel {
    fn new((incoming, mark): (IncomingChannel, Arc<ReadyFlag>)) -> Self {
        Self {
            incoming,
            mark,
            account: Mutex::default(),
        }
    }

    fn put(&self, element: Element, length: u64) {
        // Must precede the task taking it.
        self.account.lock().lengths.push_back(length);
        self.incoming.sender.send(element);
    }

    /// Returns the credit of a channel if it is due.
    fn credit(&self) -> Option<v1::CreditFrame> {
        self.incoming.sender.watch();
        let mut account = self.account.lock();
        let account = &mut *account;
        let taken = account.lengths.len().saturating_sub(self.incoming.sender.waiting());
        for length in account.lengths.drain(..taken) {
            account.bytes_taken += length;
            account.controls_taken += u64::from(length == 0);
        }
        let is_due = account.bytes_taken - account.bytes_reported >= self.incoming.bytes_max as u64 / 4
            || account.controls_taken - account.controls_reported >= CONTROL_MAX as u64 / 4;
        if !is_due {
            return None;
        }
        account.bytes_reported = account.bytes_taken;
        account.controls_reported = account.controls_taken;
        Some(v1::CreditFrame {
            channel: self.incoming.id,
            bytes_taken: account.bytes_taken,
            controls_taken: account.controls_taken,
        })
    }
}

fn credits(channels: Arc<Vec<Channel>>, list: Arc<ReadyList>) -> impl Stream<Item = v1::CreditFrame> {
    for channel in channels.iter() {
        channel.mark.set();
    }
    futures::stream::unfold((channels, list), |(channels, list)| async move {
        loop {
            let index = list.next().await;
            channels[index].mark.clear();
            if let Some(frame) = channels[index].credit() {
                return Some((frame, (channels, list)));
            }
        }
    })
}

/// Puts all received elements into the channels, until the attempt is closed.
async fn drain(attempt: Arc<Attempt>, peer: usize, channels: Arc<Vec<Channel>>, frames: Streaming<v1::DataFrame>) {
    let closed = attempt.closed.clone();
    tokio::select! {
        () = closed.cancelled() => {}
        reason = drain_all(&channels, frames) => attempt.report(peer, reason),
    }
}

async fn drain_all(channels: &[Channel], mut frames: Streaming<v1::DataFrame>) -> String {
    let indexes: HashMap<u32, usize> = channels
        .iter()
        .enumerate()
        .map(|(index, channel)| (channel.incoming.id, index))
        .collect();
    let mut decoders: Vec<FrameDecoder> = channels.iter().map(|_| FrameDecoder::default()).collect();
    loop {
        let frame = match frames.message().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return CLOSED.into(),
            Err(status) => return status.message().to_string(),
        };
        let Some(index) = indexes.get(&frame.channel).copied() else {
            return format!("it sent to channel {}, which is none between the two", frame.channel);
        };
        let taken = match frame.content {
            Some(Content::Batch(batch)) => put_batch(&channels[index], &mut decoders[index], batch),
            Some(Content::Control(control)) => put_control(&channels[index], &control),
            None => Err("it sent an empty frame".into()),
        };
        if let Err(reason) = taken {
            return reason;
        }
    }
}

fn put_batch(channel: &Channel, decoder: &mut FrameDecoder, batch: v1::Batch) -> Result<(), String> {
    let bytes = batch.bytes.max(1);
    let rows = decoder.decode(batch)?;
    channel.put(Element::Batch(rows), bytes);
    Ok(())
}

fn put_control(channel: &Channel, control: &v1::Control) -> Result<(), String> {
    use v1::control::Control;
    let element = match &control.control {
        Some(Control::Watermark(watermark)) => Element::Watermark(*watermark),
        Some(Control::Idle(_)) => Element::Idle,
        Some(Control::Barrier(barrier)) => Element::Barrier(Barrier {
            number: encoding::barrier_number(barrier.number),
            last: barrier.last,
        }),
        Some(Control::End(_)) => Element::End,
        None => return Err("it sent an empty control frame".into()),
    };
    channel.put(element, 0);
    Ok(())
}
