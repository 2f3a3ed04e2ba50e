//! The `engine-cli` binary: the command-line client of a running cluster.
//!
//! It depends on the protocol and on nothing else of the engine: a pipeline is sent as text and planned by the server,
//! whose mistakes are printed with file, line and column. Everything runs on one thread, as there is nothing to compute
//! here.
//!
//! Modules import downwards only: `commands` over `arguments`, `completion`, `requests`, `client` and the output
//! modules.

mod address;
mod arguments;
mod client;
mod commands;
mod completion;
mod context;
mod failure;
mod job;
mod output;
mod paint;
mod pipeline;
mod port_probe;
mod requests;
mod table;
mod terminal;

use std::process::ExitCode;

use arguments::{Arguments, Noun};
use clap::{CommandFactory, Parser};
use client::Client;
use commands::{checkpoints, contexts, doctor, jobs, transactions, workers};
use context::ClusterSelection;
use failure::{Exit, Failure};
use output::{Format, Printer, error_color, print};

fn main() -> ExitCode {
    // Ends here if a shell requests completions.
    clap_complete::CompleteEnv::with_factory(Arguments::command).complete();
    let arguments = Arguments::parse();
    let printer = Printer::new(arguments.global.output);
    let result = run(&arguments, &printer);
    if let Some(note) = printer.hidden_columns() {
        eprintln!("{note}");
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprint!("{}", render_failure(&failure, printer.format));
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn render_failure(failure: &Failure, format: Format) -> String {
    match (format, error_color()) {
        (Format::Json, _) => format!("{}\n", failure.json()),
        (_, true) => failure.text("\x1b[31;1m", "\x1b[0m"),
        (_, false) => failure.text("", ""),
    }
}

fn run(arguments: &Arguments, printer: &Printer) -> Result<(), Failure> {
    match &arguments.noun {
        Noun::Context(command) => return contexts::run(command, printer),
        Noun::Completion { shell } => return print(&completion::script(shell)?),
        _ => {}
    }
    let selection = ClusterSelection {
        server: arguments.global.server.clone(),
        context: arguments.global.context.clone(),
    };
    let servers = context::servers(&selection, &|name| std::env::var(name).ok())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("the client could not start: {error}")))?;
    runtime.block_on(async {
        let mut client = Client::new(servers.clone());
        match &arguments.noun {
            Noun::Jobs(command) => jobs::run(&mut client, printer, command).await,
            Noun::Checkpoints(command) => checkpoints::run(&mut client, printer, command).await,
            Noun::Savepoints(command) => checkpoints::savepoints(&mut client, printer, command).await,
            Noun::Transactions(command) => transactions::run(&mut client, printer, command).await,
            Noun::Workers(command) => workers::run(&mut client, printer, command).await,
            Noun::Cluster(command) => workers::cluster(&mut client, printer, command).await,
            Noun::Doctor => doctor::doctor(servers, printer).await,
            Noun::Context(_) | Noun::Completion { .. } => Ok(()),
        }
    })
}
