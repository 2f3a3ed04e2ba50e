//! What tests and benchmarks of whole processes share: the outside systems they run against.

pub mod kafka;
pub mod windowed_job;

use std::path::PathBuf;

/// The `engine` binary of the build this program belongs to: beside it, or (for tests) one folder up.
pub fn engine() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("engine"))
        .find(|engine| engine.is_file())
        .unwrap_or_else(|| PathBuf::from("engine"))
}

/// The `engine-cli` binary beside it.
pub fn engine_cli() -> PathBuf {
    engine().with_file_name("engine-cli")
}
