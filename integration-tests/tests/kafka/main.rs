//! Kafka against a real broker: the connector on its own, exactly-once delivery, and whole processes that are killed.

mod connector;
mod crash;
mod exactly_once;
