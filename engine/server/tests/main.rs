//! The `engine` binary as a user meets it: whole processes on real files.

mod process;
mod resume;
mod wrong;
