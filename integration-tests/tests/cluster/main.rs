//! A cluster as a user meets it: real processes, the client's commands, and deaths of any of them.

mod aimed;
mod chaos;
mod client;
mod damage;
mod deaths;
mod disks;
mod fields;
mod folders;
mod life;
mod outages;
mod pages;
mod pending;
mod place;
mod ports;
mod small_disk;
mod snapshots;
mod terminal;
mod topics;
mod traces;
mod transactions;
mod update;
mod versions;
mod wrong;
