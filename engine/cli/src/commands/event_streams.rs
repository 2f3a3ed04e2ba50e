//! `jobs watch` and `jobs logs`: streams of the coordinator that are opened again when they break.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use millstream_proto::report::time;
use millstream_proto::{json, v1};
use tokio::time::sleep;

use crate::client::{Client, Retry, jobs};
use crate::failure::{Exit, Failure};
use crate::job::outcome;
use crate::output::{Format, Printer, print};

/// Pause before a broken stream is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(300);
/// Most streams in a row that may break before their first message.
const REOPENS_MAX: u32 = 50;
/// Printed lines that are remembered so that none is printed twice; more than a coordinator stores.
const LINES_SEEN_MAX: usize = 1_000;

/// Prints each change of state once, across failovers (`jobs watch`).
pub async fn watch(client: &mut Client, printer: &Printer, names: &[String]) -> Result<(), Failure> {
    let request = v1::WatchJobsRequest { names: names.to_vec() };
    let mut shown: HashMap<String, u64> = HashMap::new();
    // Text formats leave out changes of fields that they do not show.
    let mut printed: HashMap<String, String> = HashMap::new();
    let mut broken = 0;
    loop {
        let opened = client.call(Retry::ReadOnly, async |channel| {
            jobs(channel).watch(request.clone()).await
        });
        let mut stream = opened.await?;
        while let Ok(Some(event)) = stream.message().await {
            broken = 0;
            let Some(job) = &event.job else { continue };
            // A stream that is opened again begins with the present state.
            if shown.insert(job.name.clone(), job.version) == Some(job.version) && !event.deleted {
                continue;
            }
            if event.deleted {
                shown.remove(&job.name);
            }
            let text = changed(printer, &event, job);
            if printed.insert(job.name.clone(), text.clone()).as_ref() != Some(&text) || !printer.is_text() {
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
        Format::Table | Format::Wide => format!("{}  {}", time(job.since_us), outcome(printer, job)),
    }
}

/// Prints the stored log lines of a job, and with `follow` new ones, across failovers (`jobs logs`).
pub async fn logs(client: &mut Client, printer: &Printer, name: &str, tail: u32, follow: bool) -> Result<(), Failure> {
    let mut request = v1::JobLogsRequest {
        name: name.to_string(),
        tail,
        follow,
    };
    let mut seen: VecDeque<v1::LogLine> = VecDeque::new();
    let mut broken = 0;
    loop {
        let opened = client.call(Retry::ReadOnly, async |channel| {
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
            // A stream that is opened again begins with the stored lines.
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
            // The coordinator has failed or the job was deleted: the next call shows which.
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
