//! `jobs top`: how fast everything goes, and what holds it up.

use std::time::Duration;

use millstream_proto::v1;
use tokio::time::sleep;

use crate::client::{Client, Repeat, jobs};
use crate::failure::{Exit, Failure};
use crate::follow::frame;
use crate::jobs::{current, has_ended, numbers, operators, paint, state_word, watermark};
use crate::output::{Paint, Printer, age, now_us, print, rate};
use crate::table::{Cell, KEPT, Table};
use crate::terminal::Keys;

/// So many jobs are shown with their operators, unless they are named.
const DETAILED_JOBS_MAX: usize = 20;

pub async fn top(
    client: &mut Client,
    printer: &Printer,
    names: &[String],
    once: bool,
    interval: Duration,
) -> Result<(), Failure> {
    let keys = (!once && printer.people()).then(Keys::listen).flatten();
    let Some(mut keys) = keys else {
        return pictures(client, printer, names, once, interval, "").await;
    };
    let help = format!("\n{}\n", printer.paint(Paint::Dim, "q: end"));
    tokio::select! {
        outcome = pictures(client, printer, names, once, interval, &help) => outcome,
        () = until_quit(&mut keys) => Ok(()),
    }
}

/// Returns once `q` is pressed.
async fn until_quit(keys: &mut Keys) {
    while let Some(key) = keys.next().await {
        if matches!(key, b'q' | b'Q') {
            return;
        }
    }
}

/// Prints one picture, or one after the other; `help` stands below each.
async fn pictures(
    client: &mut Client,
    printer: &Printer,
    names: &[String],
    once: bool,
    interval: Duration,
    help: &str,
) -> Result<(), Failure> {
    loop {
        let asked = picture(client, printer, names).await;
        match asked {
            Ok(text) => print(&frame(printer, !once, &(text + help)))?,
            Err(failure) if !once && failure.exit == Exit::Unreachable => eprintln!("{}", failure.message),
            Err(failure) => return Err(failure),
        }
        if once {
            return Ok(());
        }
        sleep(interval).await;
    }
}

async fn picture(client: &mut Client, printer: &Printer, names: &[String]) -> Result<String, Failure> {
    let mut found = Vec::new();
    if names.is_empty() {
        let request = v1::ListJobsRequest { all: false };
        let answer = client
            .call(Repeat::ReadOnly, async |channel| jobs(channel).list(request).await)
            .await?;
        found = answer.jobs;
        found.retain(|job| !has_ended(job));
        // A list says nothing of operators; of many jobs that would be too much to ask, and too much to read.
        if found.len() <= DETAILED_JOBS_MAX {
            for job in &mut found {
                *job = crate::jobs::get(client, &job.name).await?;
            }
        }
    }
    for name in names {
        found.push(crate::jobs::get(client, name).await?);
    }
    let shown: Vec<String> = found.iter().map(|job| job.name.clone()).collect();
    let answer = v1::ListJobsResponse {
        jobs: found,
        ..v1::ListJobsResponse::default()
    };
    let text = printer.list(&answer, shown, || table(&answer.jobs, now_us()));
    if names.is_empty()
        || !matches!(
            printer.format,
            crate::output::Format::Table | crate::output::Format::Wide
        )
    {
        return Ok(text);
    }
    let of_each = answer
        .jobs
        .iter()
        .map(|job| format!("\n{}\n{}", job.name, operators(&job.operators).render(printer)));
    Ok(text + &of_each.collect::<String>())
}

fn table(jobs: &[v1::Job], now: i64) -> Table {
    let columns = [
        ("NAME", KEPT),
        ("STATE", KEPT),
        ("IN/S", 8),
        ("OUT/S", 7),
        ("LAG", 9),
        ("WATERMARK", 1),
        ("BEHIND", 6),
        ("BUSY", 5),
        ("BLOCKED", 4),
        ("CHECKPOINT", 3),
        ("RESTARTS", 2),
    ];
    let mut table = Table::new(&columns, "no jobs run");
    for job in jobs {
        let numbers = numbers(job);
        let most = |share: fn(&v1::OperatorStatus) -> f64| {
            let shares = job.operators.iter().map(share);
            Cell::number(match job.operators.is_empty() {
                true => "-".to_string(),
                false => format!("{:.0} %", shares.fold(0.0, f64::max) * 100.0),
            })
        };
        let behind = match numbers.watermark_us {
            Some(us) if us != i64::MAX => age(now, us.max(1)),
            _ => "-".to_string(),
        };
        let checkpoint = job
            .last_checkpoint
            .as_ref()
            .map_or("-".to_string(), |last| age(now, current(last)));
        table.row(vec![
            job.name.as_str().into(),
            Cell::painted(state_word(job), paint(job)),
            Cell::number(rate(numbers.rows_in_per_second)),
            Cell::number(rate(numbers.rows_out_per_second)),
            Cell::number(numbers.lag_rows.map_or("-".to_string(), |rows| rate(rows as f64))),
            watermark(numbers.watermark_us).into(),
            Cell::number(behind),
            most(|operator| operator.busy),
            most(|operator| operator.blocked),
            Cell::number(checkpoint),
            Cell::number(job.restarts.to_string()),
        ]);
    }
    table
}
