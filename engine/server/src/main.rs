//! The `engine` binary: the command line around the embedded engine.
//!
//! This crate alone deals with the process itself: arguments, environment, start time, signals, terminal and exit code
//! (0: success, 1: the command failed, 2: the command line or the pipeline is invalid, 7: a checkpoint is damaged).

mod allocator;
mod arguments;
mod checkpoints;
mod connectors;
mod coordinator;
#[cfg(test)]
mod documentation;
mod http;
mod logging;
mod pipeline;
mod process;
mod recorder;
mod run;
mod scheduling;
mod serve;
mod standalone;
mod status_line;
mod summary;
mod test;
mod tokens;
mod traces;
mod worker;

use std::process::ExitCode;
use std::time::Duration;

use arguments::{Arguments, Command};
use clap::Parser;
use millstream_connectors::redaction::redact;
use millstream_connectors::secrets;

/// Failure of a command, with the text to print.
pub enum Failure {
    /// The command line or the pipeline is invalid: exit code 2.
    Invalid(String),
    /// The command failed: exit code 1.
    Failed(String),
    /// A checkpoint is damaged, and the damage has been printed: exit code 7.
    Damaged,
}

fn main() -> ExitCode {
    allocator::configure();
    scheduling::request_short_slices();
    millstream_state::memory::set_reclaimer(allocator::release_memory);
    let arguments = Arguments::parse();
    if let Some(directory) = arguments.command.secrets() {
        if !directory.is_dir() {
            eprintln!("error: --secrets {}: this folder does not exist", directory.display());
            return ExitCode::from(2);
        }
        secrets::set_directory(directory.to_path_buf());
    }
    let result = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Standalone(arguments) => standalone::run(&arguments),
        Command::Coordinator(arguments) => coordinator::run(&arguments),
        Command::Worker(arguments) => worker::run(&arguments),
        Command::Schema => print(&format!("{:#}\n", millstream_proto::spec::json_schema())),
        Command::Connectors { name } => connectors::list(name.as_deref())
            .map_err(|error| Failure::Invalid(format!("error: {error}\n")))
            .and_then(|text| print(&text)),
        Command::Checkpoints {
            job,
            verify: Some(checkpoint),
            json,
            storage,
        } => checkpoints::verify(&job, checkpoint, json, &storage),
        Command::Checkpoints { job, storage, .. } => checkpoints::list(&job, &storage).and_then(|text| print(&text)),
        Command::Tokens(command) => tokens::run(&command),
        Command::Version => print(&format!("engine {}\n", env!("MILLSTREAM_VERSION"))),
    };
    let code = match result {
        Ok(()) => 0,
        Err(Failure::Invalid(text)) => {
            eprint!("{}", redact(&text));
            2
        }
        Err(Failure::Failed(text)) => {
            eprint!("{}", redact(&text));
            1
        }
        Err(Failure::Damaged) => 7,
    };
    if !millstream_state::threads::join_all(THREADS_TIMEOUT) {
        exit_without_destructors(code);
    }
    ExitCode::from(code)
}

/// Longest wait for the threads of an ended job; one that hangs in an operator does not keep the process alive.
const THREADS_TIMEOUT: Duration = Duration::from_secs(5);

/// Ends the process although a thread still runs, without the C++ library's destructors of static objects, which that
/// thread may still use. Nothing is lost: durable data has been synchronised by now, and standard error is unbuffered.
fn exit_without_destructors(code: u8) -> ! {
    use std::io::Write;
    // Standard output may be a pipe without a reader.
    std::io::stdout().flush().ok();
    // SAFETY: `_exit` only ends the process.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Writes to standard output; a closed pipe (`engine schema | head`) is not a failure.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("error: standard output: {error}\n")))
        }
        _ => Ok(()),
    }
}
