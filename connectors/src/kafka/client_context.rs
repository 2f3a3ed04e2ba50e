//! The callbacks of librdkafka clients: logs, errors and delivery reports.

use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};

use super::error_causes;
use super::error_code;
use crate::Error;

/// Facility of librdkafka's log lines about a connection that broke or could not be made.
const CONNECTION_FAILED: &str = "FAIL";

/// A callback with a record's epoch, its size in bytes, and the error if it was not delivered.
type OnDelivery = dyn Fn(usize, usize, Option<KafkaError>) + Send + Sync;

/// The callbacks of one client, and the problems that it reported.
pub struct Context {
    /// Latest problem, which is usually the reason why nothing arrives.
    last_problem: Mutex<Option<String>>,
    /// First problem that ends the client.
    failure: Mutex<Option<(RDKafkaErrorCode, String)>>,
    on_delivery: Option<Box<OnDelivery>>,
    on_unreachable: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Context {
    /// Creates a context without callbacks.
    pub fn new() -> Self {
        Self {
            last_problem: Mutex::new(None),
            failure: Mutex::new(None),
            on_delivery: None,
            on_unreachable: None,
        }
    }

    /// Sets a callback for when no broker seems to be reachable.
    pub fn with_unreachable_callback(self, on_unreachable: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            on_unreachable: Some(Box::new(on_unreachable)),
            ..self
        }
    }

    /// Sets a callback for the delivery report of each record.
    pub fn with_delivery_callback(
        self,
        on_delivery: impl Fn(usize, usize, Option<KafkaError>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            on_delivery: Some(Box::new(on_delivery)),
            ..self
        }
    }

    /// Returns the failure of the client, after which it is of no use.
    pub fn failure(&self) -> Option<Error> {
        let (code, message) = self.failure.lock().clone()?;
        Some(error_code::error(Some(code), message))
    }

    /// Returns the code of the failure of the client.
    pub fn failure_code(&self) -> Option<RDKafkaErrorCode> {
        self.failure.lock().as_ref().map(|(code, _)| *code)
    }

    /// Returns the latest problem that the client reported.
    pub fn last_problem(&self) -> Option<String> {
        self.last_problem.lock().clone()
    }

    /// Records a problem.
    fn record_problem(&self, error: &KafkaError, reason: &str) {
        let text = if reason.is_empty() {
            error.to_string()
        } else {
            reason.to_string()
        };
        if let Some(code) = error.rdkafka_error_code().filter(|code| error_code::is_fatal(*code)) {
            let cause = error_causes::explain_connection("", &text).unwrap_or_else(|| text.clone());
            self.failure.lock().get_or_insert((code, format!("Kafka: {cause}")));
        }
        // The reason of each broker is more informative than "all brokers are down".
        let has_reason = !reason.is_empty() && error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown);
        let mut last_problem = self.last_problem.lock();
        if has_reason || last_problem.is_none() {
            *last_problem = Some(text);
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(target: "kafka", "{facility}: {message}"),
            _ => tracing::debug!(target: "kafka", "{facility}: {message}"),
        }
        if facility != CONNECTION_FAILED {
            return;
        }
        // `[thrd:NAME]: BROKER: PROBLEM`
        let problem = message.split_once("]: ").map_or(message, |(_, problem)| problem);
        *self.last_problem.lock() = Some(problem.to_string());
        if let Some(on_unreachable) = &self.on_unreachable {
            on_unreachable();
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", "{error}: {reason}");
        self.record_problem(&error, reason);
        let is_unreachable = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve
            )
        );
        if let (Some(on_unreachable), true) = (&self.on_unreachable, is_unreachable) {
            on_unreachable();
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    /// Epoch of the record.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, epoch: usize) {
        let Some(on_delivery) = &self.on_delivery else { return };
        match result {
            Ok(message) => on_delivery(epoch, message.payload_len(), None),
            Err((error, message)) => on_delivery(epoch, message.payload_len(), Some(error.clone())),
        }
    }
}

impl Context {
    /// Takes the events of a consumer that does not read records.
    pub fn drain_events(consumer: &BaseConsumer<Self>) {
        for _ in 0..32 {
            if let Some(Err(error)) = consumer.poll(Duration::from_millis(1)) {
                consumer.context().record_problem(&error, "");
            }
        }
    }

    /// Takes the events of a consumer that reads records, without waiting. Returns its failure.
    pub fn serve(consumer: &BaseConsumer<Context>) -> Result<(), Error> {
        while let Some(event) = consumer.poll(Duration::ZERO) {
            match event {
                Err(error) => consumer.context().record_problem(&error, ""),
                Ok(message) => {
                    return Err(Error::Unavailable(format!(
                        "Kafka: a record of `{}-{}` arrived outside its queue; restart the job",
                        message.topic(),
                        message.partition()
                    )));
                }
            }
        }
        match consumer.context().failure() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
