//! Throughput of the exchange between two workers: batches of numbers and words over a real loopback connection, with
//! and without compression.
//!
//! Each side does all of its work in one thread: encoding, transport, system calls. So the rate is that of one core.
//! The receiver takes batches as they arrive.

use std::sync::Arc;
use std::sync::mpsc;
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arrow_array::{Array, Float64Array, Int64Array, RecordBatch, StringArray};
use millstream_cluster::exchange::{Compression, Exchange};
use millstream_cluster::network;
use millstream_runtime::channel::channel;
use millstream_runtime::element::{Element, batch_bytes};
use millstream_runtime::remote_channel::{IncomingChannel, OutgoingChannel, RemoteTransport};
use serde_json::{Map, Value, json};

const CHANNEL_BYTES: usize = 4 << 20;
const ROWS: usize = 8_192;
const BYTES: usize = 8 << 30;
/// HTTP/2 windows and frame size, as workers configure them.
const WINDOW_BYTES: u32 = 16 << 20;
const FRAME_BYTES: u32 = 1 << 20;

pub fn run() -> Result<Value> {
    let mut results = Map::new();
    for (name, compression, bytes) in [("none", Compression::None, BYTES), ("lz4", Compression::Lz4, BYTES / 4)] {
        let (elapsed, cpu, sent) = measure(compression, bytes)?;
        let rate = sent as f64 / elapsed.as_secs_f64();
        println!(
            "{name:<8}{:>8.2} GB/s, {:.2} CPU s per GB sent",
            rate / 1e9,
            cpu.as_secs_f64() / (sent as f64 / 1e9)
        );
        results.insert(
            name.into(),
            json!({ "bytes_per_second": rate, "sender_cpu_seconds": cpu.as_secs_f64(), "bytes": sent }),
        );
    }
    Ok(Value::Object(results))
}

/// Returns a typical batch: ascending numbers, pseudo-random amounts, and words from a small set.
fn batch() -> RecordBatch {
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 33
    };
    let ids = Int64Array::from_iter_values(0..ROWS as i64);
    let amounts = Float64Array::from_iter_values((0..ROWS).map(|_| random() as f64 / 100.0));
    let words = StringArray::from_iter_values((0..ROWS).map(|_| format!("channel number {}", random() % 500)));
    RecordBatch::try_from_iter([
        ("id", Arc::new(ids) as Arc<dyn Array>),
        ("amount", Arc::new(amounts) as Arc<dyn Array>),
        ("word", Arc::new(words) as Arc<dyn Array>),
    ])
    .expect("three columns of equal length")
}

/// Sends at least so many bytes. Returns the time, the sending thread's share of a core, and the number of bytes sent.
fn measure(compression: Compression, bytes: usize) -> Result<(Duration, Duration, usize)> {
    let rows = batch();
    let count = bytes / batch_bytes(&rows);
    let (address_out, address_in) = mpsc::channel();
    let receiving = thread::spawn({
        let schema = rows.schema();
        move || -> Result<()> {
            runtime()?.block_on(async {
                let listener = network::listen("127.0.0.1:0".parse()?).await?;
                let exchange = Exchange::default();
                let server = tonic::transport::Server::builder()
                    .initial_connection_window_size(WINDOW_BYTES)
                    .initial_stream_window_size(WINDOW_BYTES)
                    .max_frame_size(FRAME_BYTES)
                    .add_service(exchange.service());
                let address = format!("http://{}", listener.address);
                let server = tokio::spawn(server.serve_with_incoming(listener.incoming));
                let (attempt, _broken) = exchange.attempt("bench", "1", workers(&address), vec![0, 1], 1);
                let arrived = Arc::new(tokio::sync::Notify::new());
                let (sender, receiver) = channel(CHANNEL_BYTES, attempt.waker(0), waker(&arrived));
                attempt.incoming(IncomingChannel {
                    id: 0,
                    slot: 0,
                    schema,
                    bytes_max: CHANNEL_BYTES,
                    sender,
                });
                exchange.open(&attempt);
                address_out.send(address)?;
                let mut taken = 0;
                while taken < count {
                    match receiver.pop() {
                        Some(_) => taken += 1,
                        None => arrived.notified().await,
                    }
                }
                exchange.close(&attempt);
                server.abort();
                Ok(())
            })
        }
    });
    let address = address_in.recv().context("the receiving side ended")?;
    let start = Instant::now();
    let cpu = runtime()?.block_on(async {
        let exchange = Exchange::new("bench", "1", compression);
        let (attempt, _broken) = exchange.attempt("bench", "1", workers(&address), vec![0, 1], 0);
        let room = Arc::new(tokio::sync::Notify::new());
        let (sender, receiver) = channel(CHANNEL_BYTES, waker(&room), attempt.waker(0));
        attempt.outgoing(OutgoingChannel {
            id: 0,
            slot: 1,
            schema: rows.schema(),
            bytes_max: CHANNEL_BYTES,
            receiver,
        });
        exchange.open(&attempt);
        for _ in 0..count {
            while !sender.has_credit() {
                room.notified().await;
            }
            sender.send(Element::Batch(rows.clone()));
        }
        while sender.waiting() > 0 {
            sender.watch();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let cpu = thread_cpu();
        // The stream stays open until everything has been received.
        let taken = tokio::task::spawn_blocking(move || receiving.join());
        taken
            .await?
            .map_err(|_| anyhow::anyhow!("the receiving side panicked"))??;
        exchange.close(&attempt);
        anyhow::Ok(cpu)
    })?;
    Ok((start.elapsed(), cpu, count * batch_bytes(&rows)))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn workers(receiver: &str) -> Vec<(String, String)> {
    vec![("a".into(), "http://127.0.0.1:1".into()), ("b".into(), receiver.into())]
}

fn waker(notify: &Arc<tokio::sync::Notify>) -> Waker {
    struct Wakes(Arc<tokio::sync::Notify>);
    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.notify_one();
        }
    }
    Waker::from(Arc::new(Wakes(Arc::clone(notify))))
}

/// Returns the CPU time of this thread.
fn thread_cpu() -> Duration {
    let mut usage = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live local variable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut usage) };
    Duration::new(usage.tv_sec as u64, usage.tv_nsec as u32)
}
