//! Two workers' exchanges, connected over loopback.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use arrow_array::{Array, Int64Array, RecordBatch, StringArray};
use millstream_runtime::channel::{Receiver, Sender, channel};
use millstream_runtime::element::{Barrier, BarrierNumber, Element, batch_bytes};

use super::*;

const BYTES_MAX: usize = 64 << 10;

fn batch(first: i64, rows: usize) -> RecordBatch {
    let numbers = Int64Array::from_iter_values(first..first + rows as i64);
    let words = StringArray::from_iter_values((0..rows).map(|row| format!("row {row}")));
    RecordBatch::try_from_iter([
        ("n", Arc::new(numbers) as Arc<dyn Array>),
        ("word", Arc::new(words) as Arc<dyn Array>),
    ])
    .expect("two columns")
}

/// Sends over `senders`, received by `receivers`, one pair per channel, through a real connection.
struct Pair {
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    ends: [(Exchange, Arc<Attempt>); 2],
    broken: [mpsc::Receiver<BrokenStream>; 2],
}

async fn connected(channels: u32) -> Pair {
    connected_by(channels, Compression::None).await
}

async fn connected_by(channels: u32, compression: Compression) -> Pair {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let workers = vec![
        ("a".to_string(), "http://127.0.0.1:1".to_string()),
        ("b".to_string(), address),
    ];
    let (a, b) = (Exchange::new("a", "1", compression), Exchange::default());
    let (from, broken_a) = a.attempt("job", "attempt", workers.clone(), vec![0, 1], 0);
    let (to, broken_b) = b.attempt("job", "attempt", workers, vec![0, 1], 1);
    let schema = batch(0, 1).schema();
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for id in 0..channels {
        let (sender, receiver) = channel(BYTES_MAX, Waker::noop().clone(), from.waker(id));
        let slot = 1;
        let (bytes_max, schema_out) = (BYTES_MAX, schema.clone());
        from.outgoing(OutgoingChannel {
            id,
            slot,
            schema: schema_out,
            bytes_max,
            receiver,
        });
        senders.push(sender);
        let (sender, receiver) = channel(BYTES_MAX, to.waker(id), Waker::noop().clone());
        to.incoming(IncomingChannel {
            id,
            slot: 0,
            schema: schema.clone(),
            bytes_max,
            sender,
        });
        receivers.push(receiver);
    }
    let router = tonic::transport::Server::builder().add_service(b.service());
    tokio::spawn(async move {
        router
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener))
            .await
            .expect("serves");
    });
    b.open(&to);
    a.open(&from);
    Pair {
        senders,
        receivers,
        ends: [(a, from), (b, to)],
        broken: [broken_a, broken_b],
    }
}

/// The next element, within a deadline.
async fn next(receiver: &Receiver) -> Element {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(element) = receiver.pop() {
            return element;
        }
        assert!(Instant::now() < deadline, "nothing came");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elements_arrive_as_they_were_and_in_order() {
    let pair = connected(1).await;
    let rows = batch(0, 1_000);
    // A slice, as partitioning makes them, and another schema on the same channel.
    let other = RecordBatch::try_from_iter([("b", Arc::new(Int64Array::from(vec![None, Some(1)])) as Arc<dyn Array>)])
        .expect("one column");
    pair.senders[0].send(Element::Batch(rows.slice(10, 20)));
    pair.senders[0].send(Element::Watermark(-7));
    pair.senders[0].send(Element::Idle);
    pair.senders[0].send(Element::Batch(other.clone()));
    let point = Barrier::of_point(BarrierNumber {
        checkpoint: 2,
        point: 5,
    });
    pair.senders[0].send(Element::Barrier(point));
    pair.senders[0].send(Element::Barrier(Barrier::of_checkpoint(3, true)));
    pair.senders[0].send(Element::Batch(rows.clone()));
    pair.senders[0].send(Element::End);
    let receiver = &pair.receivers[0];
    assert!(matches!(next(receiver).await, Element::Batch(got) if got == rows.slice(10, 20)));
    assert!(matches!(next(receiver).await, Element::Watermark(-7)));
    assert!(matches!(next(receiver).await, Element::Idle));
    assert!(matches!(next(receiver).await, Element::Batch(got) if got == other));
    assert!(matches!(next(receiver).await, Element::Barrier(got) if got == point));
    assert!(matches!(next(receiver).await, Element::Barrier(got) if got == Barrier::of_checkpoint(3, true)));
    assert!(matches!(next(receiver).await, Element::Batch(got) if got == rows));
    assert!(matches!(next(receiver).await, Element::End));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_takes_nothing_holds_back_its_own_channel_only() {
    const BATCHES: i64 = 400;
    let pair = connected(2).await;
    let rows = batch(0, 100);
    // Many times the capacity, to both; only the second is taken from.
    for number in 0..BATCHES {
        pair.senders[0].send(Element::Batch(batch(number, 100)));
        pair.senders[1].send(Element::Batch(batch(number, 100)));
    }
    for number in 0..BATCHES {
        assert!(matches!(next(&pair.receivers[1]).await, Element::Batch(got) if got == batch(number, 100)));
    }
    let held: usize = pair.senders[0].waiting();
    let sent_on = (BATCHES as usize - held) * batch_bytes(&rows);
    assert!(
        sent_on < 2 * BYTES_MAX,
        "{sent_on} bytes went to a task that takes none, its channel has {BYTES_MAX}"
    );
    for number in 0..BATCHES {
        assert!(matches!(next(&pair.receivers[0]).await, Element::Batch(got) if got == batch(number, 100)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_batches_arrive_as_they_were_and_count_in_full() {
    const BATCHES: i64 = 200;
    let pair = connected_by(1, Compression::Lz4).await;
    // Compresses to next to nothing.
    let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![7; 2_000])) as Arc<dyn Array>)])
        .expect("one column");
    for _ in 0..BATCHES {
        pair.senders[0].send(Element::Batch(rows.clone()));
    }
    pair.senders[0].send(Element::Batch(batch(0, 10)));
    let first = next(&pair.receivers[0]).await;
    assert!(matches!(first, Element::Batch(got) if got == rows));
    // What is here and not taken is no more than the channel may hold, but for one batch.
    let sent = |pair: &Pair| BATCHES as usize + 1 - pair.senders[0].waiting();
    for taken in 2..=BATCHES as usize {
        assert!(matches!(next(&pair.receivers[0]).await, Element::Batch(got) if got == rows));
        let here = (sent(&pair) - taken) * batch_bytes(&rows);
        assert!(here <= BYTES_MAX + batch_bytes(&rows), "{here} bytes were sent ahead");
    }
    assert!(matches!(next(&pair.receivers[0]).await, Element::Batch(got) if got == batch(0, 10)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watermarks_have_credit_of_their_own() {
    let pair = connected(1).await;
    for time in 0..5_000 {
        pair.senders[0].send(Element::Watermark(time));
    }
    for time in 0..5_000 {
        assert!(matches!(next(&pair.receivers[0]).await, Element::Watermark(got) if got == time));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_larger_than_a_frame_arrives_in_pieces() {
    let pair = connected(1).await;
    let rows = 600_000;
    pair.senders[0].send(Element::Batch(batch(0, rows)));
    let mut got = 0;
    while got < rows {
        let Element::Batch(piece) = next(&pair.receivers[0]).await else {
            panic!("only batches were sent");
        };
        assert!(batch_bytes(&piece) <= FRAME_BYTES * 2);
        assert_eq!(piece, batch(0, rows).slice(got, piece.num_rows()));
        got += piece.num_rows();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_stream_is_reported_and_a_closed_one_is_not() {
    let mut pair = connected(1).await;
    pair.senders[0].send(Element::Watermark(1));
    next(&pair.receivers[0]).await;
    let [(a, from), (b, to)] = &pair.ends;
    a.close(from);
    // The other side had not closed: to it the stream broke.
    let told = tokio::time::timeout(Duration::from_secs(20), pair.broken[1].recv()).await;
    assert_eq!(told.expect("in time").expect("told").peer, "a");
    b.close(to);
    assert!(pair.broken[0].try_recv().is_err());
}
