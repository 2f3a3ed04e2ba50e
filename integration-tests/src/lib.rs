//! External systems for tests and benchmarks of whole processes.

pub mod http;
pub mod kafka;
pub mod windowed_job;

use std::path::PathBuf;

/// Returns the `engine` binary of this build: in this program's folder or, for tests, in the parent folder.
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

/// Returns the `engine-cli` binary of this build.
pub fn engine_cli() -> PathBuf {
    engine().with_file_name("engine-cli")
}
