//! `jobs top`: live rates, lag and back pressure.

use std::time::Duration;

use millstream_proto::v1;
use tokio::time::sleep;

use super::describe::operators;
use super::refresh::frame;
use crate::client::{Client, Retry, jobs};
use crate::failure::{Exit, Failure};
use crate::job::{counters, current_us, has_ended, paint, state_word, watermark};
use crate::output::{Printer, age, now_us, print, rate};
use crate::paint::Paint;
use crate::requests::get_job;
use crate::table::{ALWAYS, Cell, Table};
use crate::terminal::Keys;

/// Most jobs that are shown with their operators, unless jobs are named.
const DETAILED_JOBS_MAX: usize = 20;

/// Shows live figures until `q` is pressed; once with `once`.
pub async fn top(
    client: &mut Client,
    printer: &Printer,
    names: &[String],
    once: bool,
    interval: Duration,
) -> Result<(), Failure> {
    let keys = (!once && printer.is_text()).then(Keys::listen).flatten();
    let Some(mut keys) = keys else {
        return run_screens(client, printer, names, once, interval, "").await;
    };
    let help = format!("\n{}\n", printer.paint(Paint::Dim, "q: end"));
    tokio::select! {
        outcome = run_screens(client, printer, names, once, interval, &help) => outcome,
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

/// Prints one screen, or one in each interval; `help` is printed below each.
async fn run_screens(
    client: &mut Client,
    printer: &Printer,
    names: &[String],
    once: bool,
    interval: Duration,
    help: &str,
) -> Result<(), Failure> {
    loop {
        let asked = screen(client, printer, names).await;
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

async fn screen(client: &mut Client, printer: &Printer, names: &[String]) -> Result<String, Failure> {
    let mut found = Vec::new();
    if names.is_empty() {
        let request = v1::ListJobsRequest { all: false };
        let answer = client
            .call(Retry::ReadOnly, async |channel| jobs(channel).list(request).await)
            .await?;
        found = answer.jobs;
        found.retain(|job| !has_ended(job));
        // A list lacks operators. With many jobs, one request for each would be too many.
        if found.len() <= DETAILED_JOBS_MAX {
            for job in &mut found {
                *job = get_job(client, &job.name).await?;
            }
        }
    }
    for name in names {
        found.push(get_job(client, name).await?);
    }
    let shown: Vec<String> = found.iter().map(|job| job.name.clone()).collect();
    let answer = v1::ListJobsResponse {
        jobs: found,
        ..v1::ListJobsResponse::default()
    };
    let text = printer.list(&answer, shown, || table(&answer.jobs, now_us()));
    if names.is_empty() || !printer.is_text() {
        return Ok(text);
    }
    let of_each = answer
        .jobs
        .iter()
        .map(|job| format!("\n{}\n{}", job.name, printer.render(&operators(&job.operators))));
    Ok(text + &of_each.collect::<String>())
}

fn table(jobs: &[v1::Job], now: i64) -> Table {
    let columns = [
        ("NAME", ALWAYS),
        ("STATE", ALWAYS),
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
        let counters = counters(job);
        let most = |share: fn(&v1::OperatorStatus) -> f64| {
            let shares = job.operators.iter().map(share);
            Cell::number(match job.operators.is_empty() {
                true => "-".to_string(),
                false => format!("{:.0} %", shares.fold(0.0, f64::max) * 100.0),
            })
        };
        let behind = match counters.watermark_us {
            Some(us) if us != i64::MAX => age(now, us.max(1)),
            _ => "-".to_string(),
        };
        let checkpoint = job
            .last_checkpoint
            .as_ref()
            .map_or("-".to_string(), |last| age(now, current_us(last)));
        table.row(vec![
            job.name.as_str().into(),
            Cell::painted(state_word(job), paint(job)),
            Cell::number(rate(counters.rows_in_per_second)),
            Cell::number(rate(counters.rows_out_per_second)),
            Cell::number(counters.lag_rows.map_or("-".to_string(), |rows| rate(rows as f64))),
            watermark(counters.watermark_us).into(),
            Cell::number(behind),
            most(|operator| operator.busy),
            most(|operator| operator.blocked),
            Cell::number(checkpoint),
            Cell::number(job.restarts.to_string()),
        ]);
    }
    table
}
