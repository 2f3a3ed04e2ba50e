//! Exactly-once delivery: the output of an epoch, the time between two checkpoints, is stored in the checkpoint and
//! produced after it, in transactions with a marker.
//!
//! The usual two-phase commit (produce in an open transaction, commit it after the checkpoint) is not possible: a
//! client that initialises a transactional id aborts the transaction that its predecessor left open, and librdkafka
//! cannot resume one. A process that fails between the checkpoint and the commit would lose the epoch. Nothing is
//! therefore produced before the checkpoint is complete:
//!
//! * [`writer`] encodes rows into *parts* of a bounded size, and writes all but small ones to the checkpoint storage.
//!   At the barrier it returns an [`epoch::Epoch`] with the list of its parts.
//! * [`publisher`] produces the parts once the checkpoint is complete, in transactions of a bounded size, each with a
//!   marker record: the number of parts of this checkpoint of this attempt that are published.
//! * [`markers`] is the compacted topic of these records. A process first initialises the transactional id, which
//!   fences all others and aborts their open transactions, then reads the markers to the end, and produces only the
//!   parts that they do not list. A commit may therefore be repeated at any time, by any process.
//!
//! An epoch is published under the transactional id it was prepared with, whichever process publishes it: after a
//! rescale, or in a job that replays the checkpoint under another name. Each epoch is thus guarded by one id. Ids are
//! `<prefix>-<job>-<table>-<subtask>`.
//!
//! [`admin`] lists transactional ids and aborts their open transactions, for operators.

pub mod admin;
pub mod epoch;
pub mod marker_topic;
pub mod markers;
mod part_reads;
pub mod publisher;
pub mod recent_parts;
pub mod writer;

#[cfg(test)]
mod tests;
