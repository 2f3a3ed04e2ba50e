//! `jobs`: what the verbs do, and how a job is shown.

use millstream_proto::report::{amount, count, time};
use millstream_proto::v1::{self, JobState};

use crate::arguments::{Jobs, Parallelism, Watch};
use crate::client::{Client, Repeat, jobs};
use crate::failure::{Exit, Failure};
use crate::output::{Paint, Printer, age, now_us, print, rate};
use crate::table::{Cell, KEPT, Table};
use crate::wait::{Until, wait};
use crate::{follow, submit, top, update, why};

pub async fn run(client: &mut Client, printer: &Printer, command: &Jobs) -> Result<(), Failure> {
    match command {
        Jobs::Submit(arguments) => submit::submit(client, printer, arguments).await,
        Jobs::Update(arguments) => update::update(client, printer, arguments).await,
        Jobs::Diff { file, from } => submit::diff(client, printer, file, from.as_deref()).await,
        Jobs::Explain { file, mode } => submit::explain(client, printer, file, *mode).await,
        Jobs::Validate { file, mode } => submit::validate(client, printer, file, *mode).await,
        Jobs::List { all, watch } => list(client, printer, *all, watch).await,
        Jobs::Describe { job, watch } => {
            follow::poll(printer, watch, async || {
                let job = get(client, &job.name).await?;
                Ok(printer.message(&job, &job.name, || describe(&job, printer)))
            })
            .await
        }
        Jobs::Stop { jobs, savepoint, wait } => {
            each(&jobs.names, async |name| {
                stop(client, printer, name, savepoint.as_deref(), wait).await
            })
            .await
        }
        Jobs::Cancel { jobs: names, wait: how } => {
            each(&names.names, async |name| {
                let request = v1::CancelJobRequest { name: name.to_string() };
                let mut job = client
                    .call(Repeat::Harmless { look: &look(name) }, async |channel| {
                        jobs(channel).cancel(request.clone()).await
                    })
                    .await?;
                if how.wait {
                    job = wait(client, name, Until::Ended, how.timeout).await?;
                }
                print(&done(printer, &job))
            })
            .await
        }
        Jobs::Restart {
            jobs: names,
            allow_duplicates,
            wait: how,
        } => {
            each(&names.names, async |name| {
                let before = get(client, name).await?.attempt;
                let request = v1::RestartJobRequest {
                    name: name.to_string(),
                    allow_duplicates: *allow_duplicates,
                };
                let mut job = client
                    .call(Repeat::Never { look: &look(name) }, async |channel| {
                        jobs(channel).restart(request.clone()).await
                    })
                    .await?;
                if how.wait {
                    let until = Until::Running { after_attempt: before };
                    job = wait(client, name, until, how.timeout).await?;
                }
                print(&done(printer, &job))
            })
            .await
        }
        Jobs::Rescale {
            job,
            parallelism,
            wait: how,
        } => {
            let before = get(client, &job.name).await?;
            let request = v1::RescaleJobRequest {
                name: job.name.clone(),
                parallelism: match parallelism {
                    Parallelism::Auto => None,
                    Parallelism::Fixed(number) => Some(*number),
                },
            };
            let mut job = client
                .call(Repeat::Harmless { look: &look(&job.name) }, async |channel| {
                    jobs(channel).rescale(request.clone()).await
                })
                .await?;
            let changes = job.parallelism != before.parallelism || job.attempt != before.attempt;
            if how.wait && (changes || state(&job) != JobState::Running) {
                let until = Until::Running {
                    after_attempt: before.attempt,
                };
                job = wait(client, &job.name, until, how.timeout).await?;
            }
            print(&done(printer, &job))
        }
        Jobs::Delete { jobs: names } => {
            each(&names.names, async |name| {
                let request = v1::DeleteJobRequest { name: name.to_string() };
                client
                    .call(Repeat::Never { look: &look(name) }, async |channel| {
                        jobs(channel).delete(request.clone()).await
                    })
                    .await?;
                print(&printer.value(
                    || serde_json::json!({ "name": name, "deleted": true }),
                    || vec![name.to_string()],
                    || format!("{name}: deleted\n"),
                ))
            })
            .await
        }
        Jobs::Top { names, once, interval } => top::top(client, printer, names, *once, *interval).await,
        Jobs::Logs { job, tail, follow } => follow::logs(client, printer, &job.name, *tail, *follow).await,
        Jobs::Why { job } => {
            let job = get(client, &job.name).await?;
            let findings = why::why(&job, now_us());
            print(&printer.value(
                || serde_json::json!({ "name": job.name, "findings": findings }),
                || vec![job.name.clone()],
                || findings.iter().map(|finding| format!("{finding}\n")).collect(),
            ))
        }
        Jobs::Watch { names } => follow::watch(client, printer, names).await,
        Jobs::Wait { job, states, timeout } => {
            let job = wait(client, &job.name, Until::States(states), *timeout).await?;
            print(&done(printer, &job))
        }
    }
}

/// The command that shows what became of a job.
fn look(name: &str) -> String {
    format!("engine-cli jobs describe {name}")
}

/// All of them, even if one is refused; the first refusal is the command's.
async fn each(names: &[String], mut one: impl AsyncFnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut first = None;
    for name in names {
        if let Err(failure) = one(name).await {
            match &first {
                None => first = Some(failure),
                Some(_) => eprint!("{}", failure.text("", "")),
            }
        }
    }
    first.map_or(Ok(()), Err)
}

pub async fn get(client: &mut Client, name: &str) -> Result<v1::Job, Failure> {
    let request = v1::GetJobRequest { name: name.to_string() };
    client
        .call(Repeat::ReadOnly, async |channel| {
            jobs(channel).get(request.clone()).await
        })
        .await
}

async fn list(client: &mut Client, printer: &Printer, all: bool, watch: &Watch) -> Result<(), Failure> {
    follow::poll(printer, watch, async || {
        let request = v1::ListJobsRequest { all };
        let answer = client
            .call(Repeat::ReadOnly, async |channel| jobs(channel).list(request).await)
            .await?;
        let names = answer.jobs.iter().map(|job| job.name.clone()).collect();
        let footer = match printer.people() {
            true => failed_lately(answer.failed_last_day),
            false => String::new(),
        };
        Ok(printer.list(&answer, names, || table(&answer.jobs, answer.ended, printer.wide())) + &footer)
    })
    .await
}

/// Instead of an empty list.
fn nothing_listed(ended: u32) -> String {
    match ended {
        0 => "no jobs".to_string(),
        1 => "no jobs that run or wait; `--all` shows one that has ended".to_string(),
        ended => format!("no jobs that run or wait; `--all` shows {ended} that have ended"),
    }
}

/// Below a list without ended jobs: failed ones that are not in it.
fn failed_lately(failed: u32) -> String {
    match failed {
        0 => String::new(),
        1 => "1 job failed in the last 24 h: engine-cli jobs list --all\n".to_string(),
        failed => format!("{failed} jobs failed in the last 24 h: engine-cli jobs list --all\n"),
    }
}

async fn stop(
    client: &mut Client,
    printer: &Printer,
    name: &str,
    savepoint: Option<&str>,
    how: &crate::arguments::Wait,
) -> Result<(), Failure> {
    let savepoint = savepoint.map(|given| match given {
        "" => savepoint_name(now_us()),
        given => given.to_string(),
    });
    let request = v1::StopJobRequest {
        name: name.to_string(),
        savepoint: savepoint.clone(),
    };
    let mut job = client
        .call(Repeat::Harmless { look: &look(name) }, async |channel| {
            jobs(channel).stop(request.clone()).await
        })
        .await?;
    if how.wait {
        job = wait(client, name, Until::Ended, how.timeout).await?;
        if state(&job) == JobState::Failed {
            return Err(Failure::new(
                Exit::Failed,
                format!("`{name}` has failed: {}", job.reason),
            ));
        }
    }
    let mut text = done(printer, &job);
    if let (Some(savepoint), crate::output::Format::Table | crate::output::Format::Wide) = (savepoint, printer.format) {
        text.push_str(&format!("savepoint `{savepoint}`\n"));
    }
    print(&text)
}

/// Such as `20260131-120000`, UTC.
pub fn savepoint_name(now_us: i64) -> String {
    time(now_us).replace(['-', ':'], "").replace(' ', "-")
}

/// What became of a job, after an action.
pub fn done(printer: &Printer, job: &v1::Job) -> String {
    printer.message(job, &job.name, || {
        let reason = match job.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({reason})"),
        };
        format!("{}: {}{reason}\n", job.name, printer.paint(paint(job), state_word(job)))
    })
}

pub fn state(job: &v1::Job) -> JobState {
    job.state()
}

pub fn state_word(job: &v1::Job) -> &'static str {
    word(state(job))
}

pub fn word(state: JobState) -> &'static str {
    match state {
        JobState::Submitted => "submitted",
        JobState::Deploying => "deploying",
        JobState::Running => "running",
        JobState::Restarting => "restarting",
        JobState::Stopping => "stopping",
        JobState::Finished => "finished",
        JobState::Stopped => "stopped",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
    }
}

pub fn has_ended(job: &v1::Job) -> bool {
    matches!(
        state(job),
        JobState::Finished | JobState::Stopped | JobState::Failed | JobState::Cancelled
    )
}

pub fn paint(job: &v1::Job) -> Paint {
    match state(job) {
        JobState::Running | JobState::Finished => Paint::Green,
        JobState::Failed => Paint::Red,
        JobState::Restarting | JobState::Deploying | JobState::Submitted | JobState::Stopping => Paint::Yellow,
        JobState::Stopped | JobState::Cancelled => Paint::Dim,
    }
}

/// When the checkpoint was last known to say all there was to say.
pub fn current(checkpoint: &v1::Checkpoint) -> i64 {
    checkpoint.current_us.max(checkpoint.taken_us)
}

/// Numbers of a job; zeros where nothing is known yet.
pub fn numbers(job: &v1::Job) -> v1::JobNumbers {
    job.numbers.unwrap_or_default()
}

pub fn parallelism(job: &v1::Job) -> String {
    match job.parallelism_auto {
        // It has no slots.
        true if job.parallelism == 0 => "auto".to_string(),
        true => format!("{} (auto)", job.parallelism),
        false => job.parallelism.to_string(),
    }
}

fn table(jobs: &[v1::Job], ended: u32, wide: bool) -> Table {
    let mut columns = vec![
        ("NAME", KEPT),
        ("STATE", KEPT),
        ("FOR", 7),
        ("PARALLELISM", 2),
        ("IN/S", 5),
        ("OUT/S", 6),
        ("ROWS OUT", 1),
        ("CHECKPOINT", 4),
        ("RESTARTS", 3),
    ];
    if wide {
        columns.extend([
            ("WATERMARK", KEPT),
            ("LAG", KEPT),
            ("MODE", KEPT),
            ("ATTEMPT", KEPT),
            ("WORKERS", KEPT),
            ("REASON", KEPT),
        ]);
    }
    let mut table = Table::new(&columns, nothing_listed(ended));
    let now = now_us();
    for job in jobs {
        let numbers = numbers(job);
        let checkpoint = match &job.last_checkpoint {
            Some(last) => format!("{} ({})", last.checkpoint, age(now, current(last))),
            None => "-".to_string(),
        };
        let mut row = vec![
            job.name.as_str().into(),
            Cell::painted(state_word(job), paint(job)),
            age(now, job.since_us).into(),
            parallelism(job).into(),
            Cell::number(rate(numbers.rows_in_per_second)),
            Cell::number(rate(numbers.rows_out_per_second)),
            Cell::number(count(numbers.rows_out)),
            checkpoint.into(),
            Cell::number(job.restarts.to_string()),
        ];
        if wide {
            let mut workers = job.placement.clone();
            workers.dedup();
            row.extend([
                watermark(numbers.watermark_us).into(),
                Cell::number(numbers.lag_rows.map_or("-".to_string(), count)),
                mode(job).into(),
                Cell::number(job.attempt.to_string()),
                workers.join(",").into(),
                job.reason.as_str().into(),
            ]);
        }
        table.row(row);
    }
    table
}

pub fn watermark(us: Option<i64>) -> String {
    us.map_or("-".to_string(), time)
}

fn mode(job: &v1::Job) -> &'static str {
    match job.mode() {
        v1::Mode::Stream => "stream",
        v1::Mode::Batch => "batch",
    }
}

fn describe(job: &v1::Job, printer: &Printer) -> String {
    let now = now_us();
    let numbers = numbers(job);
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!("{name:<13} {value}\n"));
        }
    };
    line("name", printer.paint(Paint::Bold, &job.name));
    let held = format!(
        "{} for {}",
        printer.paint(paint(job), state_word(job)),
        age(now, job.since_us)
    );
    line("state", held);
    line("reason", job.reason.clone());
    line("mode", mode(job).to_string());
    line(
        "parallelism",
        format!("{} of at most {}", parallelism(job), job.max_parallelism),
    );
    line("submitted", time(job.submitted_us));
    line("attempt", format!("{}, {} restarts", job.attempt, job.restarts));
    line("workers", job.placement.join(", "));
    line(
        "rows in",
        format!(
            "{} ({}), {}/s",
            count(numbers.rows_in),
            amount(numbers.bytes_in),
            rate(numbers.rows_in_per_second)
        ),
    );
    line(
        "rows out",
        format!(
            "{} ({}), {}/s",
            count(numbers.rows_out),
            amount(numbers.bytes_out),
            rate(numbers.rows_out_per_second)
        ),
    );
    line(
        "set aside",
        format!(
            "{} late, {} bad, {} dead letters, {} too far in the future",
            count(numbers.late_rows),
            count(numbers.bad_rows),
            count(numbers.dead_letters),
            count(numbers.future_rows)
        ),
    );
    line("watermark", watermark(numbers.watermark_us));
    line(
        "lag",
        numbers
            .lag_rows
            .map_or(String::new(), |rows| format!("{} rows", count(rows))),
    );
    let last = match &job.last_checkpoint {
        Some(last) => format!(
            ", the last {} {} ago ({} of state, {} ms)",
            last.checkpoint,
            age(now, current(last)),
            amount(last.state_bytes),
            last.duration_ms
        ),
        None => String::new(),
    };
    let unchanged = match job.checkpoints_unchanged {
        0 => String::new(),
        unchanged => format!(", {unchanged} with nothing new"),
    };
    line(
        "checkpoints",
        format!(
            "{} completed, {} failed{unchanged}{last}",
            job.checkpoints_completed, job.checkpoints_failed
        ),
    );
    if !job.operators.is_empty() {
        out.push('\n');
        out.push_str(&operators(&job.operators).render(printer));
    }
    if !job.transitions.is_empty() {
        let mut table = Table::new(&[("WHEN", KEPT), ("STATE", KEPT), ("REASON", KEPT)], "");
        for transition in &job.transitions {
            table.row(vec![
                time(transition.at_us).into(),
                word(transition.state()).into(),
                transition.reason.as_str().into(),
            ]);
        }
        out.push('\n');
        out.push_str(&table.render(printer));
    }
    out
}

/// The operators of a job, in the order of the plan.
pub fn operators(operators: &[v1::OperatorStatus]) -> Table {
    let columns = [
        ("OPERATOR", KEPT),
        ("KIND", 2),
        ("SUBTASKS", 1),
        ("ROWS IN", 6),
        ("ROWS OUT", 7),
        ("WATERMARK", 3),
        ("BUSY", 5),
        ("BLOCKED", 4),
    ];
    let mut table = Table::new(&columns, "nothing is reported yet");
    for operator in operators {
        let share = |share: f64| Cell::number(format!("{:.0} %", share * 100.0));
        table.row(vec![
            operator.id.as_str().into(),
            operator.kind.as_str().into(),
            Cell::number(operator.subtasks.to_string()),
            Cell::number(count(operator.rows_in)),
            Cell::number(count(operator.rows_out)),
            watermark(operator.watermark_us).into(),
            share(operator.busy),
            share(operator.blocked),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_says_what_it_leaves_out() {
        let printer = Printer::new(crate::output::Format::Wide);
        assert_eq!(table(&[], 0, false).render(&printer), "no jobs\n");
        assert_eq!(
            table(&[], 2, false).render(&printer),
            "no jobs that run or wait; `--all` shows 2 that have ended\n"
        );
    }

    #[test]
    fn a_list_ends_with_the_number_of_jobs_that_failed_lately() {
        assert_eq!(failed_lately(0), "");
        assert_eq!(
            failed_lately(1),
            "1 job failed in the last 24 h: engine-cli jobs list --all\n"
        );
        assert_eq!(
            failed_lately(2),
            "2 jobs failed in the last 24 h: engine-cli jobs list --all\n"
        );
    }

    #[test]
    fn a_parallelism_that_follows_the_slots_is_a_number_only_where_there_are_some() {
        let job = |parallelism, parallelism_auto| v1::Job {
            parallelism,
            parallelism_auto,
            ..v1::Job::default()
        };
        assert_eq!(parallelism(&job(4, true)), "4 (auto)");
        assert_eq!(parallelism(&job(0, true)), "auto");
        assert_eq!(parallelism(&job(3, false)), "3");
    }
}
