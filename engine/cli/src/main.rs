//! The `engine-cli` binary: everything a person does to a running cluster.
//!
//! It knows the protocol and nothing else of the engine: a pipeline is sent as text and planned by the server, whose
//! mistakes are printed as a compiler prints them. Everything runs on one thread; there is nothing to compute here.

mod arguments;
mod checkpoints;
mod client;
mod complete;
mod context;
mod doctor;
mod failure;
mod follow;
mod jobs;
mod output;
mod pipeline;
mod submit;
mod table;
mod terminal;
mod top;
mod transactions;
mod update;
mod verify;
mod wait;
mod why;
mod workers;
mod wrong_port;

use std::process::ExitCode;

use arguments::{Arguments, Context, Noun};
use clap::{CommandFactory, Parser};
use client::Client;
use context::{Contexts, Wish};
use failure::{Exit, Failure};
use output::{Format, Printer, print};
use table::{Cell, KEPT, Table};

fn main() -> ExitCode {
    // Ends here if a shell asks for completions.
    clap_complete::CompleteEnv::with_factory(Arguments::command).complete();
    let arguments = Arguments::parse();
    let printer = Printer::new(arguments.global.output);
    let outcome = run(&arguments, &printer);
    if let Some(note) = printer.hidden() {
        eprintln!("{note}");
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprint!("{}", said(&failure, printer.format));
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn said(failure: &Failure, format: Format) -> String {
    match (format, submit::error_color()) {
        (Format::Json, _) => format!("{}\n", failure.json()),
        (_, true) => failure.text("\x1b[31;1m", "\x1b[0m"),
        (_, false) => failure.text("", ""),
    }
}

fn run(arguments: &Arguments, printer: &Printer) -> Result<(), Failure> {
    match &arguments.noun {
        Noun::Context(command) => return contexts(command, printer),
        Noun::Completion { shell } => return completion(shell),
        _ => {}
    }
    let wish = Wish {
        server: arguments.global.server.clone(),
        context: arguments.global.context.clone(),
    };
    let servers = context::servers(&wish, &|name| std::env::var(name).ok())?;
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
            Noun::Cluster(command) => workers::about(&mut client, printer, command).await,
            Noun::Doctor => doctor::doctor(servers, printer).await,
            Noun::Context(_) | Noun::Completion { .. } => Ok(()),
        }
    })
}

fn contexts(command: &Context, printer: &Printer) -> Result<(), Failure> {
    let path = context::path()?;
    let mut contexts = Contexts::load(&path)?;
    let said = match command {
        Context::Add { name, servers } => {
            let servers = client::addresses(&servers.join(",")).map_err(Failure::wrong)?;
            contexts.add(name, servers)?;
            format!("{name} is kept in {}", path.display())
        }
        Context::Use { name } => {
            contexts.get(name)?;
            contexts.current = Some(name.clone());
            format!("{name} is used from now on")
        }
        Context::Delete { name } => {
            contexts.get(name)?;
            contexts.servers.remove(name);
            if contexts.current.as_ref() == Some(name) {
                contexts.current = None;
            }
            format!("{name} is forgotten")
        }
        Context::List => return print(&listed(&contexts, printer)),
    };
    contexts.save(&path)?;
    match printer.format {
        Format::Table | Format::Wide => print(&format!("{said}\n")),
        _ => print(&listed(&contexts, printer)),
    }
}

fn listed(contexts: &Contexts, printer: &Printer) -> String {
    printer.value(
        || serde_json::json!({ "current": contexts.current, "contexts": contexts.servers }),
        || contexts.servers.keys().cloned().collect(),
        || {
            let mut table = Table::new(&[("", KEPT), ("NAME", KEPT), ("SERVERS", KEPT)], "no contexts");
            for (name, servers) in &contexts.servers {
                let mark = if contexts.current.as_ref() == Some(name) {
                    "*"
                } else {
                    ""
                };
                let cells: Vec<Cell> = vec![mark.into(), name.as_str().into(), servers.join(",").into()];
                table.row(cells);
            }
            table.render(printer)
        },
    )
}

/// The script asks this program anew each time, so it never falls behind it.
fn completion(shell: &str) -> Result<(), Failure> {
    let shells = clap_complete::env::Shells::builtins();
    let completer = shells
        .completer(shell)
        .ok_or_else(|| Failure::wrong(format!("there is no completion for `{shell}`")))?;
    let mut script = Vec::new();
    completer
        .write_registration("COMPLETE", "engine-cli", "engine-cli", "engine-cli", &mut script)
        .map_err(|error| Failure::new(Exit::Failed, format!("the script could not be written: {error}")))?;
    print(&String::from_utf8_lossy(&script))
}
