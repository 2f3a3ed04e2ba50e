//! Detection of outages of a table's brokers, shared by all its clients in this process.
//!
//! librdkafka reconnects for ever. It reports failed connections, and sometimes that all brokers are down, but never
//! that a broker is back; and it reports idle connections that brokers close in the same way. A report therefore only
//! starts a probe: a thread with a client of its own requests metadata. The first request without an answer begins an
//! outage, and the first answer ends it. The probe ends after an outage, or after [`ANSWERS_MIN`] answers, because a
//! broker that is shutting down may still answer. Without reports no thread runs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::client;
use super::client_config::{connection_config, creation_error};
use super::client_context::Context;
use super::error_causes;
use crate::clock::now_us;
use crate::{Error, Outage};

/// Timeout of a request of the probe.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Number of answers after which a probe without an outage ends.
const ANSWERS_MIN: u32 = 2;
/// Interval of the requests of the probe.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Longest back-off between two attempts of the probe to connect, in milliseconds.
const RECONNECT_MS_MAX: &str = "1000";

/// The health of a table's brokers.
pub struct BrokerHealth {
    connection: ClientConfig,
    brokers: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// True while the probe runs.
    is_probing: bool,
    /// Beginning of the outage (microseconds since 1970) and latest problem.
    outage: Option<(i64, String)>,
}

impl BrokerHealth {
    /// Creates the health of the brokers that clients with this configuration connect to.
    pub fn new(client: &ClientConfig, brokers: &str) -> Arc<Self> {
        Arc::new(Self {
            connection: connection_config(client),
            brokers: brokers.to_string(),
            state: Mutex::new(State::default()),
        })
    }

    /// Returns the context of a client that reports unreachable brokers here.
    pub fn client_context(self: &Arc<Self>) -> Context {
        let health = self.clone();
        Context::new().with_unreachable_callback(move || health.probe())
    }

    /// Returns the present outage.
    pub fn outage(&self) -> Option<Outage> {
        let (since_us, problem) = self.state.lock().outage.clone()?;
        Some(Outage {
            system: format!("the Kafka brokers `{}`", self.brokers),
            since_us,
            problem,
        })
    }

    /// Starts the probe, unless it runs already, because no broker seems to be reachable.
    #[expect(
        clippy::disallowed_methods,
        reason = "one thread per client, which must not occupy a blocking thread of the runtime"
    )]
    pub fn probe(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state.lock().is_probing, true) {
            return;
        }
        let (health, since_us) = (Arc::downgrade(self), now_us());
        let probing = std::thread::Builder::new()
            .name("kafka-probe".into())
            .spawn(move || run_probe(&health, since_us));
        if let Err(error) = probing {
            tracing::warn!(target: "kafka", "outages of the brokers are not detected: {error}");
            self.state.lock().is_probing = false;
        }
    }

    fn probe_client(&self) -> Result<BaseConsumer<Context>, Error> {
        self.connection
            .clone()
            .set("group.id", "millstream")
            .set("reconnect.backoff.max.ms", RECONNECT_MS_MAX)
            .create_with_context(Context::new())
            .map_err(|error| creation_error(&self.connection, &error))
    }

    /// Records the result of a request. Returns true if the probe is to end.
    fn record_answer(&self, answer: Result<(), String>, since_us: i64) -> bool {
        let mut state = self.state.lock();
        match answer {
            Ok(()) => *state = State::default(),
            Err(problem) => state.outage = Some((since_us, problem)),
        }
        !state.is_probing
    }
}

/// Requests metadata until the brokers answer, or until the health is dropped.
fn run_probe(health: &Weak<BrokerHealth>, since_us: i64) {
    let Some(first) = health.upgrade() else { return };
    let consumer = match first.probe_client() {
        Ok(consumer) => consumer,
        Err(error) => {
            tracing::warn!(target: "kafka", "outages of the brokers are not detected: {error}");
            first.record_answer(Ok(()), since_us);
            return;
        }
    };
    drop(first);
    let mut answers = 0;
    loop {
        let answer = consumer.fetch_metadata(None, ANSWER_TIMEOUT);
        let answer = answer.map(drop).map_err(|error| client::problem_of(&consumer, &error));
        let Some(health) = health.upgrade() else { return };
        let answer = answer.map_err(|text| {
            let words = without_times(&text);
            match error_causes::connection_cause(&health.brokers, &text) {
                Some(cause) => format!("{cause} ({words})"),
                None => words.to_string(),
            }
        });
        answers = if answer.is_ok() { answers + 1 } else { 0 };
        let is_settled = answer.is_err() || answers >= ANSWERS_MIN || health.outage().is_some();
        if is_settled && health.record_answer(answer, since_us) {
            return;
        }
        drop(health);
        std::thread::sleep(PROBE_INTERVAL);
    }
}

/// Removes the durations and counts at the end of librdkafka's message, which differ each time.
fn without_times(problem: &str) -> &str {
    problem.split(" (after ").next().unwrap_or(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_problem_reads_the_same_each_time() {
        #[track_caller]
        fn check(said: &str, expected: &str) {
            assert_eq!(without_times(said), expected);
        }
        check(
            "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT, 1 identical error(s) suppressed)",
            "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
        );
        check("no words", "no words");
    }

    #[test]
    fn a_probe_alone_is_not_an_outage_and_the_first_answer_ends_one() {
        let broker_health = BrokerHealth::new(&ClientConfig::new(), "a:1");
        broker_health.state.lock().is_probing = true;
        assert_eq!(broker_health.outage(), None);
        assert!(!broker_health.record_answer(Err("refused".into()), 7));
        assert!(!broker_health.record_answer(Err("refused again".into()), 7));
        let outage = Outage {
            system: "the Kafka brokers `a:1`".into(),
            since_us: 7,
            problem: "refused again".into(),
        };
        assert_eq!(broker_health.outage(), Some(outage));
        assert!(broker_health.record_answer(Ok(()), 7));
        assert_eq!(broker_health.outage(), None);
    }
}
