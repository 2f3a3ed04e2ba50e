//! Progress of a running job: a status line on a terminal, log lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use millstream_cluster::{JobProgress, Note, Phase, Progress, Report};
use millstream_connectors::TableDefinition;
use millstream_connectors::redaction::redact;
use millstream_graph::{JobGraph, Operator};

use millstream_proto::report::{amount, count, time};

/// Interval at which the line is drawn and notes are printed.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);
/// Interval of log lines where there is no terminal.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Number of draws over which rates are computed.
const RATE_DRAWS: usize = 8;

/// The status line; does nothing if standard error is not a terminal. Cheap to clone.
#[derive(Clone)]
pub struct StatusLine {
    bar: Option<ProgressBar>,
}

impl StatusLine {
    /// Creates the status line of a job. A job that prints rows to the same terminal has none, as both would overwrite
    /// each other.
    pub fn new(graph: &JobGraph) -> Self {
        let prints = sinks(graph).any(|table| table.connector() == "print");
        let shown = std::io::stderr().is_terminal() && !(prints && std::io::stdout().is_terminal());
        let bar = shown.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar }
    }

    /// Returns a status line that does nothing, for commands that only log.
    pub fn none() -> Self {
        Self { bar: None }
    }

    /// Returns a writer of log lines, which appear above the status line.
    pub fn writer(&self) -> impl Write + use<> {
        LineWriter { bar: self.bar.clone() }
    }

    /// Draws and logs until dropped; publishes metrics if they are recorded.
    pub async fn follow(self, progress: Progress, is_recorded: bool) {
        let mut rates = Rates::new();
        let mut logged = Instant::now();
        let mut published = Instant::now();
        loop {
            tokio::time::sleep(DRAW_INTERVAL).await;
            let report = progress.report();
            let numbers = report.totals();
            let (rate_in, rate_out) = rates.add(&numbers);
            print_notes(&progress);
            if is_recorded && published.elapsed() >= Duration::from_secs(1) {
                published = Instant::now();
                publish(&report);
            }
            let line = line(&report, &numbers, rate_in, rate_out);
            if let Some(bar) = &self.bar {
                bar.set_message(line);
                bar.tick();
            } else if logged.elapsed() >= LOG_INTERVAL {
                logged = Instant::now();
                tracing::info!("{line}");
            }
        }
    }

    /// Removes the line and prints the remaining notes.
    pub fn end(&self, progress: &Progress) {
        print_notes(progress);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Returns the tables that a job writes to.
pub fn sinks(graph: &JobGraph) -> impl Iterator<Item = &TableDefinition> {
    graph.nodes.iter().filter_map(|node| match &node.operator {
        Operator::Sink(sink) => Some(&*sink.table),
        _ => None,
    })
}

fn print_notes(progress: &Progress) {
    for note in progress.take_notes() {
        match note {
            Note::Info(text) => tracing::info!("{text}"),
            Note::Warning(text) => tracing::warn!("{text}"),
        }
    }
}

fn publish(report: &Report) {
    if let Some(counters) = report.counters.last() {
        counters.publish();
        report.publish(&counters.job);
    }
}

fn line(report: &Report, numbers: &JobProgress, rate_in: f64, rate_out: f64) -> String {
    let phase = match report.phase {
        Phase::Starting => "starting: ",
        Phase::Restarting => "restarting: ",
        Phase::Stopping => "stopping: ",
        Phase::Running | Phase::Ended => "",
    };
    let mut line = format!(
        "{phase}in {} ({}/s)  out {} ({}/s)",
        count(numbers.rows_in),
        count(rate_in as u64),
        count(numbers.rows_out),
        count(rate_out as u64),
    );
    if numbers.is_complete {
        line.push_str("  input ended");
    } else if let Some(watermark) = numbers.watermark {
        line.push_str(&format!("  watermark {}", time(watermark)));
    }
    if let Some(lag) = numbers.lag {
        line.push_str(&format!("  lag {}", count(lag)));
    }
    match &report.last_checkpoint {
        Some(checkpoint) => line.push_str(&format!(
            "  checkpoint {} {} s ago ({} ms, {})",
            checkpoint.id,
            checkpoint.at.elapsed().as_secs(),
            checkpoint.took.as_millis(),
            amount(checkpoint.state_bytes),
        )),
        None => line.push_str("  no checkpoint yet"),
    }
    for (what, number) in [
        ("late", numbers.late_rows),
        ("bad", numbers.bad_rows),
        ("dead letters", numbers.dead_letters),
    ] {
        if number > 0 {
            line.push_str(&format!("  {what} {}", count(number)));
        }
    }
    line
}

/// Row counts of the last draws, for rates per second.
struct Rates {
    points: std::collections::VecDeque<(Instant, u64, u64)>,
}

impl Rates {
    fn new() -> Self {
        Self {
            points: std::collections::VecDeque::from([(Instant::now(), 0, 0)]),
        }
    }

    fn add(&mut self, numbers: &JobProgress) -> (f64, f64) {
        let now = (Instant::now(), numbers.rows_in, numbers.rows_out);
        self.points.push_back(now);
        if self.points.len() > RATE_DRAWS {
            self.points.pop_front();
        }
        let then = self.points.front().copied().unwrap_or(now);
        let seconds = (now.0 - then.0).as_secs_f64().max(1e-3);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        (rate(now.1, then.1), rate(now.2, then.2))
    }
}

/// Standard error, written without damaging the status line.
struct LineWriter {
    bar: Option<ProgressBar>,
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Each call has a whole line.
        let line = String::from_utf8_lossy(bytes);
        let line = redact(&line);
        match &self.bar {
            Some(bar) => bar.suspend(|| std::io::stderr().write_all(line.as_bytes()))?,
            None => std::io::stderr().write_all(line.as_bytes())?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
