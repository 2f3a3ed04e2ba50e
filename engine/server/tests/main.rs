//! Tests of the `engine` binary: whole processes on real files.

mod absent_columns;
mod error_messages;
mod late_rows;
mod ordered_batch;
mod resume;
mod secrets;
mod test_folder;
