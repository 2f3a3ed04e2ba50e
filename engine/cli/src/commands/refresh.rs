//! `--watch`: prints a text again whenever it changes.

use tokio::time::sleep;

use crate::arguments::Watch;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Printer, print};

/// Escape sequences that move the cursor to the top left corner and clear the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Prints the text once; with `--watch`, again whenever it has changed.
pub async fn print_or_refresh(
    printer: &Printer,
    watch: &Watch,
    mut text: impl AsyncFnMut() -> Result<String, Failure>,
) -> Result<(), Failure> {
    let mut last = text().await?;
    print(&frame(printer, watch.watch, &last))?;
    if !watch.watch {
        return Ok(());
    }
    loop {
        sleep(watch.interval).await;
        match text().await {
            Ok(now) if now == last => {}
            Ok(now) => {
                print(&frame(printer, true, &now))?;
                last = now;
            }
            // A failover may be under way; the last text stays on the screen.
            Err(failure) if failure.exit == Exit::Unreachable => eprintln!("{}", failure.message),
            Err(failure) => return Err(failure),
        }
    }
}

/// Returns the text as one of a series: on a terminal it replaces the previous one, as JSON it is one line.
pub fn frame(printer: &Printer, is_series: bool, text: &str) -> String {
    match (is_series, printer.format, printer.terminal) {
        (true, Format::Json, _) => match serde_json::from_str::<serde_json::Value>(text) {
            Ok(value) => format!("{value}\n"),
            Err(_) => text.to_string(),
        },
        (true, Format::Yaml, _) => format!("---\n{text}"),
        (true, _, true) => {
            let hidden = printer.hidden_columns().map(|note| note + "\n").unwrap_or_default();
            format!("{CLEAR}{text}{hidden}")
        }
        _ => text.to_string(),
    }
}
