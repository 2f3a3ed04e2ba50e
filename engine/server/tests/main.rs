//! The `engine` binary as a user meets it: whole processes on real files.

mod fields;
mod late;
mod process;
mod resume;
mod wrong;
