//! The metrics recorder. It is installed only with an HTTP port (`--http`); without it the `metrics` facade does
//! nothing. The metrics are listed in [`catalog`].
//!
//! A process outlives its jobs. Series of a job expire [`IDLE_MAX`] after their last update; the code that reports on a
//! running job updates them more often, changed or not. Series of the process as a whole never expire.

pub mod catalog;

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::MetricKindMask;

use catalog::{Kind, METRICS};

/// Labels of series that expire.
const EXPIRING_LABELS: [&str; 2] = ["job", "store"];
/// Time without an update after which a series expires.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// Interval at which histograms are drained, which otherwise grow without scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Interval at which the expiring series are rendered, which removes expired ones even without scrapes.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// Installs the recorder of this process.
pub fn install() -> Result<MetricsHandle, String> {
    let recorder = SplitRecorder::new(IDLE_MAX);
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| format!("metrics cannot be recorded: {error}"))?;
    describe();
    metrics::gauge!("millstream_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    tokio::spawn(handle.clone().run_upkeep());
    Ok(handle)
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

/// Handle that renders the recorded metrics. Cheap to clone.
#[derive(Clone)]
pub struct MetricsHandle {
    permanent: PrometheusHandle,
    expiring: PrometheusHandle,
}

impl MetricsHandle {
    /// Returns all metrics in Prometheus's text format.
    pub fn render(&self) -> String {
        let mut text = self.permanent.render();
        text.push_str(&self.expiring.render());
        text
    }

    async fn run_upkeep(self) {
        let mut since_expiry = Duration::ZERO;
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            self.permanent.run_upkeep();
            self.expiring.run_upkeep();
            since_expiry += UPKEEP_INTERVAL;
            if since_expiry >= EXPIRY_INTERVAL {
                since_expiry = Duration::ZERO;
                self.expiring.render();
            }
        }
    }
}

/// A recorder of permanent and one of expiring series. The labels of a metric decide which one it belongs to.
struct SplitRecorder {
    permanent: PrometheusRecorder,
    expiring: PrometheusRecorder,
}

impl SplitRecorder {
    fn new(idle_max: Duration) -> Self {
        let expiring = PrometheusBuilder::new().idle_timeout(MetricKindMask::ALL, Some(idle_max));
        Self {
            permanent: PrometheusBuilder::new().build_recorder(),
            expiring: expiring.build_recorder(),
        }
    }

    fn handle(&self) -> MetricsHandle {
        MetricsHandle {
            permanent: self.permanent.handle(),
            expiring: self.expiring.handle(),
        }
    }

    fn recorder_of(&self, key: &Key) -> &PrometheusRecorder {
        catalog::check(key);
        match key.labels().any(|label| EXPIRING_LABELS.contains(&label.key())) {
            true => &self.expiring,
            false => &self.permanent,
        }
    }
}

impl Recorder for SplitRecorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.permanent.describe_counter(name.clone(), unit, text.clone());
        self.expiring.describe_counter(name, unit, text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.permanent.describe_gauge(name.clone(), unit, text.clone());
        self.expiring.describe_gauge(name, unit, text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.permanent.describe_histogram(name.clone(), unit, text.clone());
        self.expiring.describe_histogram(name, unit, text);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.recorder_of(key).register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.recorder_of(key).register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.recorder_of(key).register_histogram(key, metadata)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    /// Collects the names of metrics in Rust files below a folder.
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
    fn every_metric_is_in_the_catalog() {
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
    fn help_is_rendered_with_the_values() {
        let recorder = SplitRecorder::new(IDLE_MAX);
        metrics::with_local_recorder(&recorder, || {
            describe();
            metrics::gauge!("millstream_workers").set(2.0);
            metrics::gauge!("millstream_restarts", "job" => "toll").set(1.0);
        });
        let text = recorder.handle().render();
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
    fn series_of_a_job_expire_without_updates() {
        let recorder = SplitRecorder::new(Duration::from_millis(20));
        let handle = recorder.handle();
        let deadline = Instant::now() + Duration::from_secs(30);
        metrics::with_local_recorder(&recorder, || {
            metrics::gauge!("millstream_workers").set(2.0);
            metrics::counter!("millstream_checkpoints_total", "job" => "deleted").increment(1);
            loop {
                metrics::counter!("millstream_checkpoints_total", "job" => "there").increment(0);
                let text = handle.render();
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
