//! The metrics recorder: installed only where somebody can read it (`--http`); without it the facade costs nothing. The
//! metrics themselves are listed in [`table`].
//!
//! A process outlives the jobs it works for. What is said of one of them is forgotten once nobody has said it again for
//! [`IDLE_MAX`]; whoever speaks of something that is still there repeats itself more often than that, changed or not.
//! What is said of the process as a whole lasts as long as the process.

pub mod table;

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::MetricKindMask;

use table::{Kind, METRICS};

/// Labels that name what a process outlives.
const PASSING: [&str; 2] = ["job", "store"];
/// What has not been said for so long is over.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// How often histograms are drained, which would grow if nobody scrapes them.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// What is over goes when somebody looks; if nobody else does, this looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Installs the process's recorder.
pub fn install() -> Result<Recorded, String> {
    let recorder = Recording::new(IDLE_MAX);
    let recorded = recorder.recorded();
    metrics::set_global_recorder(recorder).map_err(|error| format!("metrics cannot be recorded: {error}"))?;
    describe();
    metrics::gauge!("millstream_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    tokio::spawn(recorded.clone().keep_up());
    Ok(recorded)
}

fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

/// Reads what was recorded. Cheap to clone.
#[derive(Clone)]
pub struct Recorded {
    lasting: PrometheusHandle,
    passing: PrometheusHandle,
}

impl Recorded {
    /// In Prometheus's text format.
    pub fn render(&self) -> String {
        let mut text = self.lasting.render();
        text.push_str(&self.passing.render());
        text
    }

    async fn keep_up(self) {
        let mut since_look = Duration::ZERO;
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            self.lasting.run_upkeep();
            self.passing.run_upkeep();
            since_look += UPKEEP_INTERVAL;
            if since_look >= LOOK_INTERVAL {
                since_look = Duration::ZERO;
                self.passing.render();
            }
        }
    }
}

/// Records what lasts and what passes apart. No metric is both: its labels decide.
struct Recording {
    lasting: PrometheusRecorder,
    passing: PrometheusRecorder,
}

impl Recording {
    fn new(idle_max: Duration) -> Self {
        let passing = PrometheusBuilder::new().idle_timeout(MetricKindMask::ALL, Some(idle_max));
        Self {
            lasting: PrometheusBuilder::new().build_recorder(),
            passing: passing.build_recorder(),
        }
    }

    fn recorded(&self) -> Recorded {
        Recorded {
            lasting: self.lasting.handle(),
            passing: self.passing.handle(),
        }
    }

    fn of(&self, key: &Key) -> &PrometheusRecorder {
        table::check(key);
        match key.labels().any(|label| PASSING.contains(&label.key())) {
            true => &self.passing,
            false => &self.lasting,
        }
    }
}

impl Recorder for Recording {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.lasting.describe_counter(name.clone(), unit, text.clone());
        self.passing.describe_counter(name, unit, text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.lasting.describe_gauge(name.clone(), unit, text.clone());
        self.passing.describe_gauge(name, unit, text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.lasting.describe_histogram(name.clone(), unit, text.clone());
        self.passing.describe_histogram(name, unit, text);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.of(key).register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.of(key).register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.of(key).register_histogram(key, metadata)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    /// The names of metrics in Rust files below a folder.
    fn names_below(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                names_below(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let quoted = text
                    .split('"')
                    .filter(|part| part.starts_with("millstream_") && !part.ends_with('_'));
                let names_of = quoted.filter(|part| part.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()));
                names.extend(names_of.map(String::from));
            }
        }
    }

    #[test]
    fn every_metric_says_what_it_means() {
        let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut used = BTreeSet::new();
        for folder in [
            "cluster/src",
            "planner/src",
            "runtime/src",
            "server/src",
            "../connectors/src",
            "../state/src",
        ] {
            names_below(&engine.join(folder), &mut used);
        }
        let described: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_string()).collect();
        assert_eq!(used, described);
    }

    #[test]
    fn help_goes_out_with_the_numbers() {
        let recorder = Recording::new(IDLE_MAX);
        metrics::with_local_recorder(&recorder, || {
            describe();
            metrics::gauge!("millstream_workers").set(2.0);
            metrics::gauge!("millstream_restarts", "job" => "toll").set(1.0);
        });
        let text = recorder.recorded().render();
        for line in [
            "# HELP millstream_workers Workers that are ready.",
            "millstream_workers 2",
            "# HELP millstream_restarts Restarts of the job.",
            "millstream_restarts{job=\"toll\"} 1",
        ] {
            assert_eq!(text.lines().filter(|there| *there == line).count(), 1, "{line}: {text}");
        }
    }

    #[test]
    fn what_nobody_says_of_a_job_any_more_is_forgotten() {
        let recorder = Recording::new(Duration::from_millis(20));
        let recorded = recorder.recorded();
        let deadline = Instant::now() + Duration::from_secs(30);
        metrics::with_local_recorder(&recorder, || {
            metrics::gauge!("millstream_workers").set(2.0);
            metrics::counter!("millstream_checkpoints_total", "job" => "deleted").increment(1);
            loop {
                metrics::counter!("millstream_checkpoints_total", "job" => "there").increment(0);
                let text = recorded.render();
                assert!(
                    text.contains("job=\"there\"") && text.contains("millstream_workers 2"),
                    "{text}"
                );
                if !text.contains("deleted") {
                    break;
                }
                assert!(Instant::now() < deadline, "{text}");
            }
        });
    }
}
