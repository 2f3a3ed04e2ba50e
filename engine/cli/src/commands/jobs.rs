//! `jobs`: one function call for each verb.

use millstream_proto::v1::{self, JobState};

use super::wait::{Until, wait};
use super::{describe, diff, event_streams, refresh, submit, top, update, why};
use crate::arguments::{Jobs, Parallelism, Wait, Watch};
use crate::client::{Client, Retry, jobs};
use crate::failure::{Exit, Failure};
use crate::job::{outcome, savepoint_name, state};
use crate::output::{Format, Printer, now_us, print};
use crate::requests::get_job;

pub async fn run(client: &mut Client, printer: &Printer, command: &Jobs) -> Result<(), Failure> {
    match command {
        Jobs::Submit(arguments) => submit::submit(client, printer, arguments).await,
        Jobs::Update(arguments) => update::update(client, printer, arguments).await,
        Jobs::Diff { file, from } => diff::diff(client, printer, file, from.as_deref()).await,
        Jobs::Explain { file, mode } => submit::explain(client, printer, file, *mode).await,
        Jobs::Validate { file, mode, strict } => submit::validate(client, printer, file, *mode, *strict).await,
        Jobs::List { all, watch } => list(client, printer, *all, watch).await,
        Jobs::Describe { job, watch } => {
            refresh::print_or_refresh(printer, watch, async || {
                let job = get_job(client, &job.name).await?;
                Ok(printer.message(&job, &job.name, || describe::describe(&job, printer)))
            })
            .await
        }
        Jobs::Stop { jobs, savepoint, wait } => {
            for_each(&jobs.names, async |name| {
                stop(client, printer, name, savepoint.as_deref(), wait).await
            })
            .await
        }
        Jobs::Cancel { jobs: names, wait: how } => {
            for_each(&names.names, async |name| {
                let request = v1::CancelJobRequest { name: name.to_string() };
                let mut job = client
                    .call(
                        Retry::Idempotent {
                            inspect: &describe_command(name),
                        },
                        async |channel| jobs(channel).cancel(request.clone()).await,
                    )
                    .await?;
                if how.wait {
                    job = wait(client, name, Until::Ended, how.timeout).await?;
                }
                print(&outcome(printer, &job))
            })
            .await
        }
        Jobs::Restart {
            jobs: names,
            allow_duplicates,
            wait: how,
        } => {
            for_each(&names.names, async |name| {
                let before = get_job(client, name).await?.attempt;
                let request = v1::RestartJobRequest {
                    name: name.to_string(),
                    allow_duplicates: *allow_duplicates,
                };
                let mut job = client
                    .call(
                        Retry::Never {
                            inspect: &describe_command(name),
                        },
                        async |channel| jobs(channel).restart(request.clone()).await,
                    )
                    .await?;
                if how.wait {
                    let until = Until::Running { after_attempt: before };
                    job = wait(client, name, until, how.timeout).await?;
                }
                print(&outcome(printer, &job))
            })
            .await
        }
        Jobs::Rescale {
            job,
            parallelism,
            wait: how,
        } => {
            let before = get_job(client, &job.name).await?;
            let request = v1::RescaleJobRequest {
                name: job.name.clone(),
                parallelism: match parallelism {
                    Parallelism::Auto => None,
                    Parallelism::Fixed(number) => Some(*number),
                },
            };
            let mut job = client
                .call(
                    Retry::Idempotent {
                        inspect: &describe_command(&job.name),
                    },
                    async |channel| jobs(channel).rescale(request.clone()).await,
                )
                .await?;
            let changes = job.parallelism != before.parallelism || job.attempt != before.attempt;
            if how.wait && (changes || state(&job) != JobState::Running) {
                let until = Until::Running {
                    after_attempt: before.attempt,
                };
                job = wait(client, &job.name, until, how.timeout).await?;
            }
            print(&outcome(printer, &job))
        }
        Jobs::Delete { jobs: names } => {
            for_each(&names.names, async |name| {
                let request = v1::DeleteJobRequest { name: name.to_string() };
                client
                    .call(
                        Retry::Never {
                            inspect: &describe_command(name),
                        },
                        async |channel| jobs(channel).delete(request.clone()).await,
                    )
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
        Jobs::Logs { job, tail, follow } => event_streams::logs(client, printer, &job.name, *tail, *follow).await,
        Jobs::Why { job } => {
            let job = get_job(client, &job.name).await?;
            let findings = why::why(&job, now_us());
            print(&printer.value(
                || serde_json::json!({ "name": job.name, "findings": findings }),
                || vec![job.name.clone()],
                || findings.iter().map(|finding| format!("{finding}\n")).collect(),
            ))
        }
        Jobs::Watch { names } => event_streams::watch(client, printer, names).await,
        Jobs::Wait { job, states, timeout } => {
            let job = wait(client, &job.name, Until::States(states), *timeout).await?;
            print(&outcome(printer, &job))
        }
    }
}

/// Returns the command that shows a job.
fn describe_command(name: &str) -> String {
    format!("engine-cli jobs describe {name}")
}

/// Calls `one` for every job, even after a failure. Returns the first failure and prints the others.
async fn for_each(names: &[String], mut one: impl AsyncFnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
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

async fn list(client: &mut Client, printer: &Printer, all: bool, watch: &Watch) -> Result<(), Failure> {
    refresh::print_or_refresh(printer, watch, async || {
        let request = v1::ListJobsRequest { all };
        let answer = client
            .call(Retry::ReadOnly, async |channel| jobs(channel).list(request).await)
            .await?;
        let names = answer.jobs.iter().map(|job| job.name.clone()).collect();
        let footer = match printer.is_text() {
            true => describe::recent_failures(answer.failed_last_day),
            false => String::new(),
        };
        Ok(printer.list(&answer, names, || {
            describe::table(&answer.jobs, answer.ended, printer.is_wide())
        }) + &footer)
    })
    .await
}

async fn stop(
    client: &mut Client,
    printer: &Printer,
    name: &str,
    savepoint: Option<&str>,
    how: &Wait,
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
        .call(
            Retry::Idempotent {
                inspect: &describe_command(name),
            },
            async |channel| jobs(channel).stop(request.clone()).await,
        )
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
    let mut text = outcome(printer, &job);
    if let (Some(savepoint), Format::Table | Format::Wide) = (savepoint, printer.format) {
        text.push_str(&format!("savepoint `{savepoint}`\n"));
    }
    print(&text)
}
