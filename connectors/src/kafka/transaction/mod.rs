//! Writing exactly once: an epoch's output travels in the checkpoint and is produced after it, in one transaction with
//! a marker that says so.
//!
//! The usual two-phase commit (produce in an open transaction, commit it after the checkpoint) cannot be used: a client
//! that starts anew with a transactional id aborts what its predecessor left open, and librdkafka has no way to go on
//! with it. A process that dies between the checkpoint and the commit would lose the epoch. So nothing is produced
//! before the checkpoint is complete:
//!
//! * [`writer`] encodes rows into *parts* of a bounded size; what is more than a little goes to the checkpoint storage.
//!   At the barrier it hands over an [`epoch::Epoch`] that names them.
//! * [`publisher`] produces the parts once the checkpoint is complete, in transactions of a bounded size, each with a
//!   marker record: "of this attempt, this checkpoint, so many parts are out".
//! * [`markers`] is the compacted topic of these records. Whoever opens a transactional id initialises it first (which
//!   fences everybody before him and ends what they left open), then reads the markers to the end, and produces only
//!   what they do not list. A commit may therefore be repeated at any time, by anybody, however often.
//!
//! An epoch is published under the transactional id it was prepared with, whoever publishes it: after a rescale, or in
//! a job that replays the checkpoint under another name. So each epoch has one id that guards it. Ids are
//! `<prefix>-<job>-<table>-<subtask>`.
//!
//! [`admin`] is for people: which ids there are, and how to end what they hold open.

pub mod admin;
pub mod epoch;
pub mod markers;
pub mod publisher;
pub mod writer;

#[cfg(test)]
mod tests;
