//! `context`: adds, selects, lists and deletes named clusters.

use crate::address::addresses;
use crate::arguments::Context;
use crate::context::{self, Contexts};
use crate::failure::Failure;
use crate::output::{Printer, print};
use crate::table::{ALWAYS, Cell, Table};

/// Runs a verb of `context`.
pub fn run(command: &Context, printer: &Printer) -> Result<(), Failure> {
    let path = context::path()?;
    let mut contexts = Contexts::load(&path)?;
    let message = match command {
        Context::Add { name, servers } => {
            let servers = addresses(&servers.join(",")).map_err(Failure::invalid)?;
            contexts.add(name, servers)?;
            format!("context {name} saved in {}", path.display())
        }
        Context::Use { name } => {
            contexts.get(name)?;
            contexts.current = Some(name.clone());
            format!("{name} is now the current context")
        }
        Context::Delete { name } => {
            contexts.get(name)?;
            contexts.servers.remove(name);
            if contexts.current.as_ref() == Some(name) {
                contexts.current = None;
            }
            format!("context {name} deleted")
        }
        Context::List => return print(&render(&contexts, printer)),
    };
    contexts.save(&path)?;
    match printer.is_text() {
        true => print(&format!("{message}\n")),
        false => print(&render(&contexts, printer)),
    }
}

fn render(contexts: &Contexts, printer: &Printer) -> String {
    printer.value(
        || serde_json::json!({ "current": contexts.current, "contexts": contexts.servers }),
        || contexts.servers.keys().cloned().collect(),
        || {
            let mut table = Table::new(&[("", ALWAYS), ("NAME", ALWAYS), ("SERVERS", ALWAYS)], "no contexts");
            for (name, servers) in &contexts.servers {
                let mark = match contexts.current.as_ref() == Some(name) {
                    true => "*",
                    false => "",
                };
                let cells: Vec<Cell> = vec![mark.into(), name.as_str().into(), servers.join(",").into()];
                table.row(cells);
            }
            printer.render(&table)
        },
    )
}
