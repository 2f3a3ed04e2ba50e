//! What goes on until the user has seen enough: `--watch`, `jobs watch`, `jobs logs --follow`.

use std::collections::VecDeque;
use std::time::Duration;

use millstream_proto::report::time;
use millstream_proto::{json, v1};
use tokio::time::sleep;

use crate::arguments::Watch;
use crate::client::{Client, Repeat, jobs};
use crate::failure::{Exit, Failure};
use crate::jobs::done;
use crate::output::{Format, Printer, print};

/// Home, and everything below is cleared.
const CLEAR: &str = "\x1b[H\x1b[2J";
/// Before a broken stream is opened anew.
const REOPEN_PAUSE: Duration = Duration::from_millis(300);
/// Streams in a row that break before they say anything, at most.
const REOPENS_MAX: u32 = 50;
/// Lines that are remembered, so that none is shown twice: more than a coordinator keeps.
const LINES_SEEN_MAX: usize = 1_000;

/// Prints once, or again whenever the text differs.
pub async fn poll(
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
            // The coordinator may be failing over; the last picture stays.
            Err(failure) if failure.exit == Exit::Unreachable => eprintln!("{}", failure.message),
            Err(failure) => return Err(failure),
        }
    }
}

/// One picture: alone on a terminal, one line of JSON for a program, else below the one before.
pub fn frame(printer: &Printer, watched: bool, text: &str) -> String {
    match (watched, printer.format, printer.terminal) {
        (true, Format::Json, _) => match serde_json::from_str::<serde_json::Value>(text) {
            Ok(value) => format!("{value}\n"),
            Err(_) => text.to_string(),
        },
        (true, Format::Yaml, _) => format!("---\n{text}"),
        (true, _, true) => {
            let hidden = printer.hidden().map(|note| note + "\n").unwrap_or_default();
            format!("{CLEAR}{text}{hidden}")
        }
        _ => text.to_string(),
    }
}

/// Changes of state, each once, through fail-overs.
pub async fn watch(client: &mut Client, printer: &Printer, names: &[String]) -> Result<(), Failure> {
    let request = v1::WatchJobsRequest { names: names.to_vec() };
    let mut shown: std::collections::HashMap<String, u64> = std::collections::HashMap::new();
    // For people a change that shows nothing new is none.
    let mut said: std::collections::HashMap<String, String> = std::collections::HashMap::new();
    let mut broken = 0;
    loop {
        let opened = client.call(Repeat::ReadOnly, async |channel| {
            jobs(channel).watch(request.clone()).await
        });
        let mut stream = opened.await?;
        while let Ok(Some(event)) = stream.message().await {
            broken = 0;
            let Some(job) = &event.job else { continue };
            // A stream that is opened anew begins with what is known.
            if shown.insert(job.name.clone(), job.version) == Some(job.version) && !event.deleted {
                continue;
            }
            if event.deleted {
                shown.remove(&job.name);
            }
            let text = changed(printer, &event, job);
            let is_for_people = matches!(printer.format, Format::Table | Format::Wide);
            if said.insert(job.name.clone(), text.clone()).as_ref() != Some(&text) || !is_for_people {
                print(&text)?;
            }
        }
        broken += 1;
        if broken > REOPENS_MAX {
            let message = format!("the stream of changes broke {REOPENS_MAX} times in a row (REOPENS_MAX)");
            return Err(Failure::new(Exit::Unreachable, message));
        }
        sleep(REOPEN_PAUSE).await;
    }
}

fn changed(printer: &Printer, event: &v1::JobEvent, job: &v1::Job) -> String {
    match printer.format {
        Format::Json => format!("{}\n", json::to_value(event)),
        Format::Yaml => format!("---\n{}", json::to_yaml(&json::to_value(event))),
        Format::Name => format!("{}\n", job.name),
        Format::Table | Format::Wide if event.deleted => format!("{}  {}: deleted\n", time(job.since_us), job.name),
        Format::Table | Format::Wide => format!("{}  {}", time(job.since_us), done(printer, job)),
    }
}

/// What is kept; when following also what comes, through fail-overs.
pub async fn logs(client: &mut Client, printer: &Printer, name: &str, tail: u32, follow: bool) -> Result<(), Failure> {
    let mut request = v1::JobLogsRequest {
        name: name.to_string(),
        tail,
        follow,
    };
    let mut seen: VecDeque<v1::LogLine> = VecDeque::new();
    let mut broken = 0;
    loop {
        let opened = client.call(Repeat::ReadOnly, async |channel| {
            jobs(channel).logs(request.clone()).await
        });
        let mut stream = opened.await?;
        let end = loop {
            let line = match stream.message().await {
                Ok(Some(line)) => line,
                Ok(None) => break None,
                Err(status) => break Some(status),
            };
            broken = 0;
            // A stream that is opened anew begins with what is kept.
            if seen.contains(&line) {
                continue;
            }
            print(&log_line(printer, &line))?;
            if seen.len() == LINES_SEEN_MAX {
                seen.pop_front();
            }
            seen.push_back(line);
        };
        match end {
            None if !follow => return Ok(()),
            Some(status) if !follow => return Err(status.into()),
            // The coordinator is gone, or the job: the next call tells.
            None | Some(_) => broken += 1,
        }
        if broken > REOPENS_MAX {
            let message = format!("the stream of lines broke {REOPENS_MAX} times in a row (REOPENS_MAX)");
            return Err(Failure::new(Exit::Unreachable, message));
        }
        request.tail = 0;
        sleep(REOPEN_PAUSE).await;
    }
}

fn log_line(printer: &Printer, line: &v1::LogLine) -> String {
    match printer.format {
        Format::Json => format!("{}\n", json::to_value(line)),
        Format::Yaml => format!("---\n{}", json::to_yaml(&json::to_value(line))),
        _ => format!(
            "{}  {:<5}  {}  {}\n",
            time(line.at_us),
            line.level,
            line.origin,
            line.message
        ),
    }
}
