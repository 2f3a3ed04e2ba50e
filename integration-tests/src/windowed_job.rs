//! A job from Kafka to Kafka with a known result: a keyed window under exactly-once delivery.
//!
//! The output of runs with failures, read with `read_committed`, must have exactly the rows of a batch run over the
//! same input.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::engine;
use crate::kafka::KafkaBroker;

const EVENTS: i64 = 40_000;
const PARTITIONS: i32 = 3;

/// Counts and sums by key and second. Deterministic: no row is late, since each partition is in order.
const PIPELINE: &str = r#"
name: $NAME
checkpoints: { interval: 150ms, delivery: exactly-once }
sources:
  events:
    connector: kafka
    options: { brokers: "$BROKERS", topic: $IN, scan.bounded.mode: latest-offset, scan.rate-limit: "$RATE" }
    format: json
    columns: { key: bigint, value: bigint, at: timestamp }
    event_time: { column: at, out_of_orderness: 100ms }
steps:
  per_key:
    sql: |
      SELECT key, window_start, count(*) AS events, sum(value) AS total
      FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(at), INTERVAL '1' SECOND))
      GROUP BY key, window_start, window_end
sinks:
  results:
    from: per_key
    connector: kafka
    options:
      brokers: "$BROKERS"
      topic: $OUT
      key.format: json
      key.fields: key
      properties.transaction.timeout.ms: "10000"
    format: json
"#;

/// The input topic `<name>-in` with its expected result, and any number of output topics `<name>-<output>`.
pub struct WindowedJob {
    pub broker: &'static KafkaBroker,
    name: &'static str,
    answer: BTreeMap<String, usize>,
}

impl WindowedJob {
    /// Creates and fills the input, and computes the result by a batch run, whose files are in `folder`.
    pub fn new(name: &'static str, folder: &Path) -> Result<Self> {
        Self::at(KafkaBroker::shared(), name, folder)
    }

    /// Creates the job with a broker of its own, which a test may freeze. The broker ends with this process.
    pub fn with_own_broker(name: &'static str, folder: &Path) -> Result<Self> {
        Self::at(Box::leak(Box::new(KafkaBroker::start()?)), name, folder)
    }

    fn at(broker: &'static KafkaBroker, name: &'static str, folder: &Path) -> Result<Self> {
        let mut windows = Self {
            broker,
            name,
            answer: BTreeMap::new(),
        };
        broker.create_topic(&windows.topic("in"), PARTITIONS)?;
        let events = (0..EVENTS).map(|id| {
            let at_ms = id * 2;
            let (second, ms) = (at_ms / 1000, at_ms % 1000);
            let (minute, second) = (second / 60, second % 60);
            let event = format!(
                "{{\"key\":{},\"value\":{id},\"at\":\"2026-01-01 00:{minute:02}:{second:02}.{ms:03}\"}}",
                id % 37
            );
            ((id % i64::from(PARTITIONS)) as i32, None::<Vec<u8>>, event)
        });
        broker.produce_records(&windows.topic("in"), events)?;
        broker.create_topic(&windows.topic("batch"), 1)?;
        let file = windows.pipeline(folder, "batch", 1_000_000)?;
        let batch = Command::new(engine())
            .args(["run", "--mode", "batch", "--data-dir"])
            .arg(folder.join("batch"))
            .arg(file)
            .stdin(Stdio::null())
            .output()
            .context("the engine")?;
        if !batch.status.success() {
            bail!("the batch: {}", String::from_utf8_lossy(&batch.stderr));
        }
        windows.answer = windows.rows("batch")?;
        if windows.answer.len() < 1000 || windows.answer.values().any(|count| *count != 1) {
            bail!("the batch's answer has {} rows", windows.answer.len());
        }
        Ok(windows)
    }

    pub fn topic(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.name)
    }

    pub fn create_output(&self, output: &str) -> Result<()> {
        self.broker.create_topic(&self.topic(output), 4)
    }

    /// Writes the pipeline with this output, which reads `rate` rows per second; the job has the output's name.
    pub fn pipeline(&self, folder: &Path, output: &str, rate: u32) -> Result<std::path::PathBuf> {
        let file = folder.join(format!("{output}.yaml"));
        let text = PIPELINE
            .replace("$NAME", &self.topic(output))
            .replace("$BROKERS", self.broker.address())
            .replace("$IN", &self.topic("in"))
            .replace("$OUT", &self.topic(output))
            .replace("$RATE", &rate.to_string());
        fs::write(&file, text)?;
        Ok(file)
    }

    fn rows(&self, output: &str) -> Result<BTreeMap<String, usize>> {
        self.broker.until_settled(&self.topic(output))?;
        let mut rows = BTreeMap::new();
        for record in self.broker.records(&self.topic(output))? {
            *rows.entry(record.text()).or_default() += 1;
        }
        Ok(rows)
    }

    /// Checks that the output has every row of the result exactly once.
    pub fn check(&self, output: &str) -> Result<()> {
        let stream = self.rows(output)?;
        let differing: Vec<_> = self
            .answer
            .keys()
            .chain(stream.keys())
            .filter(|row| self.answer.get(*row) != stream.get(*row))
            .map(|row| (row, self.answer.get(row), stream.get(row)))
            .take(5)
            .collect();
        if !differing.is_empty() {
            bail!("row, times in the batch, in the stream: {differing:?}");
        }
        Ok(())
    }
}
