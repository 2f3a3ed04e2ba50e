//! `jobs update`: replaces the pipeline of a job.

use millstream_proto::v1;
use millstream_proto::v1::job_update::State;

use super::diff::verdict_word;
use super::wait::{Until, wait};
use crate::arguments::Update;
use crate::client::{Client, Retry, jobs};
use crate::failure::{Exit, Failure};
use crate::job::outcome;
use crate::output::{Printer, error_color, now_us, print, print_notes};
use crate::pipeline::{Pipeline, environment};

/// Updates a job, or checks that it can be updated with `--dry-run`.
pub async fn update(client: &mut Client, printer: &Printer, arguments: &Update) -> Result<(), Failure> {
    let pipeline = Pipeline::read(&arguments.file)?;
    let savepoint = match &arguments.savepoint {
        Some(name) => Some(name.clone()),
        None if arguments.no_savepoint => None,
        None => Some(format!("before-update-{}", now_us() / 1_000_000)),
    };
    let request = v1::UpdateJobRequest {
        name: arguments.name.clone(),
        pipeline: Some(pipeline.message(&environment)),
        parallelism: arguments.parallelism,
        allow_dropped_state: arguments.allow_dropped_state,
        accept_changed_meaning: arguments.accept_changed_meaning,
        savepoint: savepoint.clone(),
        dry_run: arguments.dry_run,
    };
    let retry = match arguments.dry_run {
        true => Retry::ReadOnly,
        false => Retry::Never {
            inspect: "engine-cli jobs list --all",
        },
    };
    let answer = client
        .call(retry, async |channel| jobs(channel).update(request.clone()).await)
        .await
        .map_err(|failure| pipeline.with_mistakes(failure, error_color()))?;
    print_notes(&answer.notes);
    let name = match (&answer.job, &arguments.name) {
        (Some(job), _) => job.name.clone(),
        (None, Some(name)) => name.clone(),
        (None, None) => pipeline.name().unwrap_or_default(),
    };
    if answer.is_same {
        return print(&printer.message(&answer, &name, || {
            format!(
                "{name}: {} is the pipeline that it has; nothing was changed\n",
                pipeline.file
            )
        }));
    }
    let Some(mut job) = answer.job.clone() else {
        let verdict = match answer.verdict {
            Some(_) => verdict_word(answer.verdict()),
            None => "it has no checkpoint yet",
        };
        return print(&printer.message(&answer, &name, || {
            format!(
                "{name} can be updated ({verdict}); nothing was changed\n{}",
                answer.plan
            )
        }));
    };
    if let (Some(savepoint), Some(checkpoint)) = (&savepoint, answer.savepoint) {
        eprintln!("note: the state before the update is savepoint `{savepoint}`, checkpoint {name}/{checkpoint}");
    }
    if arguments.wait.wait {
        job = wait(client, &name, Until::Updated, arguments.wait.timeout).await?;
        let update = job.update.clone().unwrap_or_default();
        if update.state() == State::Reverted {
            let message = format!(
                "`{name}` was not updated: {}; it has its old pipeline again",
                update.reason
            );
            return Err(Failure::new(Exit::Failed, message));
        }
    }
    print(&outcome(printer, &job))
}
