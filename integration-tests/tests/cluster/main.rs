//! Tests of whole clusters: real processes, the commands of the client, and failures of any process.

mod absent_columns;
mod access;
mod chaos;
mod checkpoint_commands;
mod checkpoint_damage;
mod client_output;
mod data_folders;
mod error_messages;
mod fail_points;
mod full_disks;
mod job_lifecycle;
mod job_update;
mod kafka_outages;
mod pages;
mod pending_output;
mod pipeline_tests;
mod ports;
mod process_failures;
mod pseudo_terminal;
mod services;
mod small_disk;
mod test_cluster;
mod topic_lookup;
mod traces;
mod transactions;
mod versions;
