//! Cost of exactly-once delivery from Kafka to Kafka, compared with at-least-once delivery.
//!
//! Throughput (`exactly-once`): the same topic is copied under both, with checkpoints every second and every 10 s.
//! Records are counted as a reader of committed records sees them.
//!
//! Latency (`kafka-latency`): rows are sent at a fixed rate, each with the time when it was *due* to be sent, and read
//! with `read_committed` at the other end; the latency of a row is from then to its reading. A stall of the sender, the
//! broker, the engine or the reader delays rows and never their due times: nothing is hidden by coordinated omission.
//! `BENCH_RATE` and `BENCH_SECONDS` change how much is sent.

use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use millstream_integration_tests::kafka::KafkaBroker;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kafka::{self, PARTITIONS};
use crate::measure;

/// Nexmark events; 46 of 50 are bids.
const EVENTS: u64 = 5_000_000;
const RATE: u64 = 20_000;
const SECONDS: u64 = 60;
const INTERVAL: &str = "500ms";
/// Warm-up time, in which connections are opened; its rows are not counted.
const WARM_UP_S: u64 = 5;
/// Longest wait for the last rows.
const PATIENCE: Duration = Duration::from_secs(30);
const DELIVERIES: [&str; 2] = ["at-least-once", "exactly-once"];

pub fn latencies() -> Result<Value> {
    let mut latencies = serde_json::Map::new();
    for delivery in DELIVERIES {
        latencies.insert(delivery.to_string(), latency(delivery)?);
    }
    Ok(Value::Object(latencies))
}

pub fn throughput() -> Result<Value> {
    let broker = KafkaBroker::start()?;
    broker.create_topic("bids", PARTITIONS)?;
    let folder = TempDir::new()?;
    kafka::fill(folder.path(), broker.address(), EVENTS)?;
    let mut results = Vec::new();
    for interval in ["1s", "10s"] {
        for delivery in DELIVERIES {
            let out = format!("prices-{delivery}-{interval}");
            broker.create_topic(&out, PARTITIONS)?;
            let (cost, summary) = kafka::copy(folder.path(), broker.address(), &out, delivery, interval)?;
            let (read, written) = (summary["rows_in"].as_u64(), summary["rows_out"].as_u64());
            let read = read.context("rows_in")?;
            let found = committed(&broker, &out)?;
            if written != Some(found) {
                bail!("{out}: the engine says it wrote {written:?} rows; the topic has {found}");
            }
            let rate = read as f64 / cost.wall.as_secs_f64();
            let cpu = cost.cpu.as_secs_f64() / (read as f64 / 1e6);
            println!(
                "{delivery:<14} checkpoints every {interval:<4} {rate:>9.0} rows/s, {cpu:.2} CPU s/M rows, {:.0} MB resident",
                cost.peak_rss_bytes as f64 / 1e6
            );
            results.push(json!({
                "delivery": delivery, "checkpoint_interval": interval, "rows_per_second": rate,
                "cpu_seconds_per_million_rows": cpu, "peak_rss_bytes": cost.peak_rss_bytes,
                "rows_in": read, "rows_out": found, "checkpoints": summary["checkpoints"],
            }));
        }
    }
    Ok(results.into())
}

/// Returns the number of committed records in a topic.
fn committed(broker: &KafkaBroker, topic: &str) -> Result<u64> {
    let consumer = consumer(broker, topic)?;
    let mut at_end = 0;
    let mut count = 0;
    let mut last = Instant::now();
    while at_end < PARTITIONS {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(_)) => {
                count += 1;
                last = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(_))) => at_end += 1,
            Some(Err(error)) => return Err(error.into()),
            None if last.elapsed() > PATIENCE => bail!("{topic} cannot be read to its end"),
            None => {}
        }
    }
    Ok(count)
}

fn consumer(broker: &KafkaBroker, topic: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    Ok(consumer)
}

fn latency(delivery: &str) -> Result<Value> {
    let number = |name: &str, default: u64| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (rate, seconds) = (number("BENCH_RATE", RATE), number("BENCH_SECONDS", SECONDS));
    let broker = KafkaBroker::start()?;
    broker.create_topic("sent", PARTITIONS)?;
    broker.create_topic("came", PARTITIONS)?;
    let folder = TempDir::new()?;
    let started = Instant::now();
    let engine = engine(folder.path(), broker.address(), delivery)?;
    let brokers = broker.address().to_string();
    let sender = thread::spawn(move || send(&brokers, rate, seconds));
    let received = receive(&broker, rate, seconds);
    // The engine ends first: otherwise it would wait for the broker, which ends with an error above.
    let pid = i32::try_from(engine.id())?;
    // SAFETY: a signal to a child that has not been waited for cannot reach another process.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    let cost = measure::wait(engine, started)?;
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    let microseconds = received?;
    if !cost.status.success() {
        bail!("the engine ended with {}", cost.status);
    }
    let at = |quantile: f64| microseconds.value_at_quantile(quantile) as f64 / 1000.0;
    let row = json!({
        "rows_per_second": rate, "seconds": seconds, "checkpoint_interval": INTERVAL, "measured": microseconds.len(),
        "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "p999_ms": at(0.999),
        "max_ms": microseconds.max() as f64 / 1000.0,
        "cpu_seconds": cost.cpu.as_secs_f64(), "peak_rss_bytes": cost.peak_rss_bytes,
    });
    let shown = |name: &str| row[name].as_f64().unwrap_or_default();
    println!(
        "{delivery:<14} checkpoints every {INTERVAL}, {rate} rows/s: p50 {:.1} ms, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}; CPU {:.1} s, RSS {:.0} MB",
        shown("p50_ms"),
        shown("p90_ms"),
        shown("p99_ms"),
        shown("p999_ms"),
        shown("max_ms"),
        shown("cpu_seconds"),
        cost.peak_rss_bytes as f64 / 1e6
    );
    Ok(row)
}

fn engine(folder: &Path, brokers: &str, delivery: &str) -> Result<std::process::Child> {
    let variables = [("${BROKERS}", brokers), ("${OUT}", "came"), ("${DELIVERY}", delivery)];
    let mut engine = kafka::engine(folder, "exactly-once-latency.sql", &variables, INTERVAL)?;
    engine.stderr(Stdio::null()).spawn().context("the engine")
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

/// Sends rows when they are due. A late row is sent at once, with the time it was due.
fn send(brokers: &str, rate: u64, seconds: u64) -> Result<()> {
    let producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        // As many requests at a time as a Java client sends, so that rows are batched while the broker is busy. With
        // more requests, the benchmark would measure their queue in the broker.
        .set("linger.ms", "5")
        .set("max.in.flight", "5")
        .create()?;
    let start_us = now_us();
    for id in 0..rate * seconds {
        let due_us = start_us + id * 1_000_000 / rate;
        let early_us = due_us.saturating_sub(now_us());
        if early_us > 0 {
            thread::sleep(Duration::from_micros(early_us));
        }
        let row = format!("{{\"id\":{id},\"sent_us\":{due_us},\"word\":\"about as long as a word of a sentence\"}}");
        let partition = (id % PARTITIONS as u64) as i32;
        loop {
            match producer.send(BaseRecord::<(), str>::to("sent").partition(partition).payload(&row)) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
    producer.flush(PATIENCE)?;
    Ok(())
}

/// Reads all rows, and returns the latencies of those after the warm-up.
fn receive(broker: &KafkaBroker, rate: u64, seconds: u64) -> Result<Histogram<u64>> {
    let consumer = consumer(broker, "came")?;
    let mut microseconds = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3)?;
    let mut seen = vec![false; usize::try_from(rate * seconds)?];
    let mut missing = seen.len();
    let mut last = Instant::now();
    while missing > 0 {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let now = now_us();
                last = Instant::now();
                let payload = message.payload().context("a record without a value")?;
                let (id, sent_us) = row(payload).context("a record that is none of ours")?;
                let seen = seen.get_mut(usize::try_from(id)?).context("an id that was not sent")?;
                if std::mem::replace(seen, true) {
                    bail!("row {id} came twice");
                }
                missing -= 1;
                if id >= WARM_UP_S * rate {
                    microseconds.saturating_record(now.saturating_sub(sent_us).max(1));
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error.into()),
            None if last.elapsed() > PATIENCE => bail!("{missing} rows do not arrive"),
            None => {}
        }
    }
    Ok(microseconds)
}

/// Returns id and due time of `{"id":1,"sent_us":2,...}`.
fn row(payload: &[u8]) -> Option<(u64, u64)> {
    let text = str::from_utf8(payload).ok()?;
    let number = |name: &str| -> Option<u64> {
        let rest = &text[text.find(name)? + name.len()..];
        rest[..rest.find([',', '}'])?].parse().ok()
    };
    Some((number("\"id\":")?, number("\"sent_us\":")?))
}
