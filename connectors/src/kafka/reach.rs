//! Whether a table's brokers can be reached, as all its clients in this process notice it together.
//!
//! librdkafka tries again for ever. It says that a connection failed, sometimes also that all brokers are down; it
//! never says that one is back, and the former may also be said of idle connections that brokers have closed. So its
//! word is a suspicion and no more: a client of its own then asks the brokers until they answer, and once more, as one
//! that is about to go may answer yet. The first question that stays unanswered makes it an outage, the first answer
//! ends it. While nobody suspects anything no thread runs and nothing is asked.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::client::{self, Context};
use super::explain;
use crate::clock::now_us;
use crate::{Error, Outage};

/// How long brokers may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A suspicion without an outage is over after so many.
const ANSWERS_MIN: u32 = 2;
/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// The asking client tries to connect at least so often.
const RECONNECT_MS_MAX: &str = "1000";

pub struct Reach {
    connection: ClientConfig,
    brokers: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// A thread asks the brokers.
    is_asking: bool,
    /// Since when, and what was said last.
    outage: Option<(i64, String)>,
}

impl Reach {
    /// For the clients of a table that are made from this configuration.
    pub fn new(client: &ClientConfig, brokers: &str) -> Arc<Self> {
        Arc::new(Self {
            connection: client::connection(client),
            brokers: brokers.to_string(),
            state: Mutex::new(State::default()),
        })
    }

    pub fn outage(&self) -> Option<Outage> {
        let (since_us, problem) = self.state.lock().outage.clone()?;
        Some(Outage {
            system: format!("the Kafka brokers `{}`", self.brokers),
            since_us,
            problem,
        })
    }

    /// A client cannot reach any broker, as it seems.
    pub fn suspect(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state.lock().is_asking, true) {
            return;
        }
        let (reach, since_us) = (Arc::downgrade(self), now_us());
        let asking = std::thread::Builder::new()
            .name("kafka-reach".into())
            .spawn(move || ask(&reach, since_us));
        if let Err(error) = asking {
            tracing::warn!(target: "kafka", "whether brokers can be reached is not looked at: {error}");
            self.state.lock().is_asking = false;
        }
    }

    fn asking_client(&self) -> Result<BaseConsumer<Context>, Error> {
        self.connection
            .clone()
            .set("group.id", "millstream")
            .set("reconnect.backoff.max.ms", RECONNECT_MS_MAX)
            .create_with_context(Context::new())
            .map_err(|error| client::refused(&self.connection, &error))
    }

    /// Whether they can be reached now.
    fn answered(&self, answer: Result<(), String>, since_us: i64) -> bool {
        let mut state = self.state.lock();
        match answer {
            Ok(()) => *state = State::default(),
            Err(problem) => state.outage = Some((since_us, problem)),
        }
        !state.is_asking
    }
}

/// Until the brokers answer, or nobody needs them any more.
fn ask(reach: &Weak<Reach>, since_us: i64) {
    let Some(first) = reach.upgrade() else { return };
    let consumer = match first.asking_client() {
        Ok(consumer) => consumer,
        Err(error) => {
            tracing::warn!(target: "kafka", "whether brokers can be reached is not looked at: {error}");
            first.answered(Ok(()), since_us);
            return;
        }
    };
    drop(first);
    let mut answers = 0;
    loop {
        let answer = consumer.fetch_metadata(None, ANSWER_TIMEOUT);
        let answer = answer.map(drop).map_err(|error| client::problem_of(&consumer, &error));
        let Some(reach) = reach.upgrade() else { return };
        let answer = answer.map_err(|said| {
            let words = without_times(&said);
            match explain::cause(&reach.brokers, &said) {
                Some(cause) => format!("{cause} ({words})"),
                None => words.to_string(),
            }
        });
        answers = if answer.is_ok() { answers + 1 } else { 0 };
        let is_settled = answer.is_err() || answers >= ANSWERS_MIN || reach.outage().is_some();
        if is_settled && reach.answered(answer, since_us) {
            return;
        }
        drop(reach);
        std::thread::sleep(PAUSE);
    }
}

/// librdkafka ends with how long it took and how often that has happened, each time another number.
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
    fn a_suspicion_alone_is_no_outage_and_the_first_answer_ends_one() {
        let reach = Reach::new(&ClientConfig::new(), "a:1");
        reach.state.lock().is_asking = true;
        assert_eq!(reach.outage(), None);
        assert!(!reach.answered(Err("refused".into()), 7));
        assert!(!reach.answered(Err("refused again".into()), 7));
        let outage = Outage {
            system: "the Kafka brokers `a:1`".into(),
            since_us: 7,
            problem: "refused again".into(),
        };
        assert_eq!(reach.outage(), Some(outage));
        assert!(reach.answered(Ok(()), 7));
        assert_eq!(reach.outage(), None);
    }
}
