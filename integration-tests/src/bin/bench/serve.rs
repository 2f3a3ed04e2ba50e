//! A stateless pipeline as a service, and a hand-written axum service that does the same: throughput, CPU per request
//! and latency at half of the throughput, alternating, on the same load.
//!
//! Both decode JSON payments, check and compute, filter, and encode JSON. The load generator is this process, with
//! connections that are kept open.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use axum::routing::{get, post};
use axum::{Json, Router};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::measure::{cpu_seconds, resident_bytes};

/// Argument with which this program becomes the hand-written service.
pub const REFERENCE: &str = "serve-reference";
const PIPELINE: &str = "
name: score
sources:
  payments:
    connector: request
    columns: { id: bigint, card: string, country: string, amount: double }
steps:
  scored:
    sql: |
      SELECT id, card, UPPER(country) AS country, amount, amount * 0.02 + 0.25 AS fee,
        CASE WHEN amount > 500 THEN 'high' WHEN amount > 50 THEN 'middle' ELSE 'low' END AS risk
      FROM payments
      WHERE amount > 0 AND card IS NOT NULL
sinks:
  out: { from: scored, connector: response }
";
const CONNECTIONS: usize = 32;
const ROUNDS: usize = 3;
const RUN: Duration = Duration::from_secs(4);
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// Rows of a request.
const ROWS: [usize; 2] = [1, 50];

#[derive(Deserialize)]
struct Payment {
    id: Option<i64>,
    card: Option<String>,
    country: Option<String>,
    amount: Option<f64>,
}

#[derive(Serialize)]
struct Scored {
    id: Option<i64>,
    card: String,
    country: Option<String>,
    amount: f64,
    fee: f64,
    risk: &'static str,
}

fn score(payment: Payment) -> Option<Scored> {
    let amount = payment.amount.filter(|amount| *amount > 0.0)?;
    Some(Scored {
        id: payment.id,
        card: payment.card?,
        country: payment.country.map(|country| country.to_uppercase()),
        amount,
        fee: amount * 0.02 + 0.25,
        risk: match amount {
            amount if amount > 500.0 => "high",
            amount if amount > 50.0 => "middle",
            _ => "low",
        },
    })
}

/// Runs the hand-written service until the process ends. `arguments` is its port.
pub fn reference(arguments: &[String]) -> Result<()> {
    let port: u16 = arguments.first().context("a port")?.parse()?;
    runtime()?.block_on(async {
        let invoke = |Json(payments): Json<Vec<Payment>>| async {
            Json(payments.into_iter().filter_map(score).collect::<Vec<_>>())
        };
        let router = Router::new()
            .route("/v1/pipelines/score/invoke", post(invoke))
            .route("/readyz", get(|| async { "ready" }));
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        axum::serve(listener, router).await?;
        Ok(())
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}

struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Server {
    fn start(mut command: Command, port: u16) -> Result<Self> {
        let process = command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let server = Self { process, port };
        let deadline = Instant::now() + READY_DEADLINE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                bail!("nothing listens at port {port} after {} s", READY_DEADLINE.as_secs());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

/// The result of one run of the load.
struct Load {
    requests: u64,
    per_second: f64,
    cpu_us: f64,
    latencies_us: Histogram<u64>,
}

pub fn run() -> Result<Value> {
    let folder = TempDir::new()?;
    let file = folder.path().join("score.yaml");
    std::fs::write(&file, PIPELINE)?;
    let ports = [free_port()?, free_port()?];
    let mut engine = Command::new(millstream_integration_tests::engine());
    engine
        .arg("serve")
        .arg(&file)
        .arg("--http")
        .arg(format!("127.0.0.1:{}", ports[0]));
    engine.arg("--data-dir").arg(folder.path().join("data"));
    let mut reference = Command::new(std::env::current_exe()?);
    reference.arg(REFERENCE).arg(ports[1].to_string());
    let servers = [
        ("engine", Server::start(engine, ports[0])?),
        ("axum", Server::start(reference, ports[1])?),
    ];
    let runtime = runtime()?;
    let mut results = Vec::new();
    for rows in ROWS {
        let body = body(rows);
        for round in 0..ROUNDS {
            let mut half = f64::MAX;
            for (name, server) in &servers {
                let load = runtime.block_on(load(server, &body, None))?;
                half = half.min(load.per_second / 2.0);
                results.push(report(name, rows, "all", &load, server)?);
            }
            for (name, server) in &servers {
                let load = runtime.block_on(load(server, &body, Some(half)))?;
                results.push(report(name, rows, "half", &load, server)?);
            }
            println!("-- round {} of {ROUNDS}", round + 1);
        }
    }
    Ok(Value::Array(results))
}

fn report(name: &str, rows: usize, rate: &str, load: &Load, server: &Server) -> Result<Value> {
    let latency = |quantile: f64| load.latencies_us.value_at_quantile(quantile);
    let memory = resident_bytes(server.process.id())? >> 20;
    println!(
        "{name:>7}, {rows:>2} rows, {rate:>4} load: {:>7.0} requests/s, {:>6.1} us of CPU, p50 {:>6} us, p99 {:>6} us, {memory} MB",
        load.per_second,
        load.cpu_us,
        latency(0.5),
        latency(0.99),
    );
    Ok(json!({
        "service": name, "rows": rows, "load": rate, "requests": load.requests, "requests_per_second": load.per_second,
        "cpu_us_per_request": load.cpu_us, "p50_us": latency(0.5), "p99_us": latency(0.99), "resident_mb": memory,
    }))
}

fn body(rows: usize) -> String {
    let row = |n: usize| json!({ "id": n, "card": format!("4000-{n:04}"), "country": "ch", "amount": (n * 37 % 900) as f64 + 0.5 });
    Value::Array((0..rows).map(row).collect()).to_string()
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Sends requests on all connections, as fast as they are answered or at `rate` requests per second in all.
async fn load(server: &Server, body: &str, rate: Option<f64>) -> Result<Load> {
    let request = format!(
        "POST /v1/pipelines/score/invoke HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let began = Instant::now();
    let cpu = cpu_seconds(server.process.id())?;
    let connections = (0..CONNECTIONS).map(|index| {
        let (request, port) = (request.clone(), server.port);
        tokio::spawn(async move { connection(port, &request, rate, index, began).await })
    });
    let mut latencies_us = Histogram::new(3)?;
    for connection in connections.collect::<Vec<_>>() {
        latencies_us.add(connection.await??)?;
    }
    let requests = latencies_us.len();
    Ok(Load {
        requests,
        per_second: requests as f64 / began.elapsed().as_secs_f64(),
        cpu_us: (cpu_seconds(server.process.id())? - cpu) * 1e6 / requests as f64,
        latencies_us,
    })
}

/// Sends requests on one connection. At a rate, latency counts from the time at which a request was due.
async fn connection(
    port: u16,
    request: &str,
    rate: Option<f64>,
    index: usize,
    began: Instant,
) -> Result<Histogram<u64>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let interval = rate.map(|rate| Duration::from_secs_f64(CONNECTIONS as f64 / rate));
    let mut due = began + interval.unwrap_or_default().mul_f64(index as f64 / CONNECTIONS as f64);
    let mut latencies = Histogram::new(3)?;
    let mut buffer = vec![0; 64 << 10];
    while began.elapsed() < RUN {
        let start = match interval {
            None => Instant::now(),
            Some(interval) => {
                let start = due;
                tokio::time::sleep_until(start.into()).await;
                due += interval;
                start
            }
        };
        stream.write_all(request.as_bytes()).await?;
        read_response(&mut stream, &mut buffer).await?;
        latencies.record(start.elapsed().as_micros() as u64)?;
    }
    Ok(latencies)
}

/// Reads one response; an error unless its status is 200.
async fn read_response(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            bail!(
                "the connection was closed: {}",
                String::from_utf8_lossy(&buffer[..filled])
            );
        }
        filled += read;
        let text = &buffer[..filled];
        let Some(head) = text.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let lines = std::str::from_utf8(&text[..head])?.to_ascii_lowercase();
        let length = lines.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("a content length")?.trim().parse()?;
        if filled >= head + 4 + length {
            if !lines.starts_with("http/1.1 200") {
                bail!("{}", String::from_utf8_lossy(text));
            }
            return Ok(());
        }
    }
}
