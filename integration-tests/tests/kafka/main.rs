//! Tests with a real Kafka broker: the connector, exactly-once delivery, and whole processes that are killed.

mod connector;
mod crash;
mod exactly_once;
