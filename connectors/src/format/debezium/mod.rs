//! The format debezium-json: changes as Debezium writes them.
//!
//! A record is an *envelope*, `{"before": ROW, "after": ROW, "op": KIND, "ts_ms": TIME, "source": {...}}`, or, with
//! `schema-include`, one below `payload`. `op` is `c` (created), `r` (read by a snapshot), `u` (updated) or `d`
//! (deleted). An update is two rows, the former version and the new one. As in Flink, these are written as a record of
//! `d` and one of `c`.

pub(super) mod decoder;
pub(super) mod encoder;
pub(super) mod metadata;

#[cfg(test)]
mod tests;
