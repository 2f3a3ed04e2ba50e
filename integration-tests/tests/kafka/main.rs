//! Tests with a real Kafka broker: the connector, changelogs, exactly-once delivery, and whole processes that are
//! killed.

mod changelog;
mod connector;
mod crash;
mod exactly_once;
mod hybrid;
mod toll_booth;
mod updating;
