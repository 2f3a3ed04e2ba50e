//! The `engine` binary: the command line around the embedded engine.
//!
//! Here, and only here, live the process's edges: arguments, the environment, the clock at start, signals, the terminal
//! and the exit code (0: done, 1: the run failed, 2: what was asked for is wrong).

mod allocator;
mod arguments;
mod checkpoints;
mod coordinator;
#[cfg(test)]
mod documentation;
mod http;
mod listing;
mod logging;
mod measure;
mod pipeline;
mod process;
mod report;
mod run;
mod standalone;
mod status;
mod summary;
mod traces;
mod worker;

use std::process::ExitCode;
use std::time::Duration;

use arguments::{Arguments, Command};
use clap::Parser;

/// How a command can end badly. The text is ready to be printed.
pub enum Failure {
    /// What was asked for is wrong: exit code 2.
    Wrong(String),
    /// It was tried and failed: exit code 1.
    Failed(String),
    /// Something of a checkpoint is damaged, which has been said: exit code 7.
    Damaged,
}

fn main() -> ExitCode {
    allocator::give_large_allocations_back();
    millstream_state::memory::when_short(allocator::let_go);
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Standalone(arguments) => standalone::run(&arguments),
        Command::Coordinator(arguments) => coordinator::run(&arguments),
        Command::Worker(arguments) => worker::run(&arguments),
        Command::Schema => print(&format!("{:#}\n", millstream_proto::spec::json_schema())),
        Command::Connectors { name } => listing::connectors(name.as_deref())
            .map_err(|what| Failure::Wrong(format!("error: {what}\n")))
            .and_then(|text| print(&text)),
        Command::Checkpoints {
            job,
            verify: Some(wanted),
            json,
            place,
        } => checkpoints::verify(&job, wanted, json, &place),
        Command::Checkpoints { job, place, .. } => checkpoints::list(&job, &place).and_then(|text| print(&text)),
        Command::Version => print(&format!("engine {}\n", env!("MILLSTREAM_VERSION"))),
    };
    let code = match outcome {
        Ok(()) => 0,
        Err(Failure::Wrong(text)) => {
            eprint!("{text}");
            2
        }
        Err(Failure::Failed(text)) => {
            eprint!("{text}");
            1
        }
        Err(Failure::Damaged) => 7,
    };
    if !millstream_state::threads::join_all(THREADS_TIMEOUT) {
        leave(code);
    }
    ExitCode::from(code)
}

/// How long threads of an ended job may take to end; one that hangs in an operator does not keep the process.
const THREADS_TIMEOUT: Duration = Duration::from_secs(5);

/// Ends the process under a thread that does not end: without the C++ library's destructors of static objects, which
/// such a thread may still use. Nothing is lost by it: what must last is on disk and synchronised by now, and standard
/// error is not buffered.
fn leave(code: u8) -> ! {
    use std::io::Write;
    // A reader that went away has no use for the rest.
    std::io::stdout().flush().ok();
    // SAFETY: always sound; it only ends the process.
    unsafe { libc::_exit(i32::from(code)) }
}

/// To standard output; a reader that went away (`engine schema | head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("error: standard output: {error}\n")))
        }
        _ => Ok(()),
    }
}
