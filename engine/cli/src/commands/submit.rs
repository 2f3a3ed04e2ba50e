//! `jobs submit`, `jobs validate` and `jobs explain`.

use millstream_proto::v1;

use super::wait::{Until, wait};
use crate::arguments::{File, Mode, Parallelism, Submit};
use crate::client::{Client, Retry, jobs};
use crate::failure::Failure;
use crate::job::outcome;
use crate::output::{Printer, error_color, print, print_notes};
use crate::pipeline::{Pipeline, environment, mode};
use crate::requests::checkpoint_reference;

/// Submits a pipeline, or validates it against the cluster with `--dry-run`.
pub async fn submit(client: &mut Client, printer: &Printer, arguments: &Submit) -> Result<(), Failure> {
    let pipeline = Pipeline::read(&arguments.file)?;
    if arguments.strict {
        let answer = request_validation(client, &pipeline, arguments.mode).await?;
        refuse_notes(&answer.notes)?;
    }
    let from = match &arguments.from_checkpoint {
        None => None,
        Some(text) => Some(checkpoint_reference(client, text).await?),
    };
    let request = v1::SubmitRequest {
        pipeline: Some(pipeline.message(&environment)),
        name: arguments.name.clone(),
        parallelism: match arguments.parallelism {
            Some(Parallelism::Fixed(number)) => Some(number),
            Some(Parallelism::Auto) | None => None,
        },
        parallelism_auto: matches!(arguments.parallelism, Some(Parallelism::Auto)),
        mode: mode(arguments.mode),
        from,
        allow_dropped_state: arguments.allow_dropped_state,
        accept_changed_meaning: arguments.accept_changed_meaning,
        dry_run: arguments.dry_run,
    };
    let retry = if arguments.dry_run {
        Retry::ReadOnly
    } else {
        Retry::Never {
            inspect: "engine-cli jobs list --all",
        }
    };
    let answer = client
        .call(retry, async |channel| jobs(channel).submit(request.clone()).await)
        .await
        .map_err(|failure| pipeline.with_mistakes(failure, error_color()))?;
    print_notes(&answer.notes);
    let Some(mut job) = answer.job.clone() else {
        return print(&printer.message(&answer, &pipeline.name().unwrap_or_default(), || {
            format!("{} is valid; nothing was submitted\n{}", pipeline.file, answer.plan)
        }));
    };
    if arguments.wait.wait {
        let until = Until::Running { after_attempt: 0 };
        job = wait(client, &job.name.clone(), until, arguments.wait.timeout).await?;
    }
    print(&outcome(printer, &job))
}

/// Has the coordinator plan a pipeline. Mistakes of the pipeline are in the response, not a failure.
async fn request_validation(
    client: &mut Client,
    pipeline: &Pipeline,
    selected: Option<Mode>,
) -> Result<v1::ValidateResponse, Failure> {
    let request = v1::ValidateRequest {
        pipeline: Some(pipeline.message(&environment)),
        name: None,
        mode: mode(selected),
    };
    let answer = client
        .call(Retry::ReadOnly, async |channel| {
            jobs(channel).validate(request.clone()).await
        })
        .await
        .map_err(|failure| pipeline.with_mistakes(failure, error_color()))?;
    print_notes(&answer.notes);
    Ok(answer)
}

/// Prints that a pipeline is valid; the failure lists its mistakes.
pub async fn validate(
    client: &mut Client,
    printer: &Printer,
    file: &File,
    mode: Option<Mode>,
    strict: bool,
) -> Result<(), Failure> {
    let pipeline = Pipeline::read(file)?;
    let answer = request_validation(client, &pipeline, mode).await?;
    if !answer.valid {
        return Err(invalid(&pipeline, &answer));
    }
    if strict {
        refuse_notes(&answer.notes)?;
    }
    let name = pipeline.name().unwrap_or_default();
    print(&printer.message(&answer, &name, || format!("{} is valid\n", pipeline.file)))
}

/// Prints the plan of a pipeline.
pub async fn explain(client: &mut Client, printer: &Printer, file: &File, mode: Option<Mode>) -> Result<(), Failure> {
    let pipeline = Pipeline::read(file)?;
    let answer = request_validation(client, &pipeline, mode).await?;
    if !answer.valid {
        return Err(invalid(&pipeline, &answer));
    }
    let name = pipeline.name().unwrap_or_default();
    print(&printer.message(&answer, &name, || format!("{}\n", answer.plan.trim_end())))
}

/// Fails if there are notes, which have been printed.
fn refuse_notes(notes: &[String]) -> Result<(), Failure> {
    match notes {
        [] => Ok(()),
        _ => Err(Failure::invalid(
            "the pipeline has notes, see above, which --strict does not accept",
        )),
    }
}

/// Returns the failure that lists the mistakes of a pipeline.
fn invalid(pipeline: &Pipeline, answer: &v1::ValidateResponse) -> Failure {
    let rendered = pipeline.mistakes(&answer.mistakes, error_color());
    Failure {
        detail: Some(v1::ErrorDetail {
            code: "invalid-pipeline".to_string(),
            mistakes: answer.mistakes.clone(),
            leader: String::new(),
        }),
        ..Failure::invalid(rendered.unwrap_or_else(|| format!("{}: not valid", pipeline.file)))
    }
}
