//! What takes a pipeline: `jobs submit`, `validate`, `explain` and `diff`.

use millstream_proto::v1;
use millstream_proto::v1::diff_response::Verdict;

use crate::arguments::{File, Mode, Parallelism, Submit};
use crate::checkpoints::reference;
use crate::client::{Client, Repeat, jobs};
use crate::failure::{Exit, Failure};
use crate::jobs::done;
use crate::output::{Paint, Printer, print};
use crate::pipeline::{Pipeline, mode};
use crate::wait::{Until, wait};

pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub async fn submit(client: &mut Client, printer: &Printer, arguments: &Submit) -> Result<(), Failure> {
    let pipeline = Pipeline::read(&arguments.file)?;
    let from = match &arguments.from_checkpoint {
        None => None,
        Some(text) => Some(reference(client, text).await?),
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
    let repeat = if arguments.dry_run {
        Repeat::ReadOnly
    } else {
        Repeat::Never {
            look: "engine-cli jobs list --all",
        }
    };
    let answer = client
        .call(repeat, async |channel| jobs(channel).submit(request.clone()).await)
        .await
        .map_err(|failure| pipeline.refused(failure, error_color()))?;
    tell(&answer.notes);
    let Some(mut job) = answer.job.clone() else {
        return print(&printer.message(&answer, &pipeline.name().unwrap_or_default(), || {
            format!("{} is valid; nothing was submitted\n{}", pipeline.file, answer.plan)
        }));
    };
    if arguments.wait.wait {
        let until = Until::Running { after_attempt: 0 };
        job = wait(client, &job.name.clone(), until, arguments.wait.timeout).await?;
    }
    print(&done(printer, &job))
}

/// Whether errors may be coloured: they go to standard error.
pub fn error_color() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn tell(notes: &[String]) {
    for note in notes {
        eprintln!("note: {note}");
    }
}

async fn checked(
    client: &mut Client,
    pipeline: &Pipeline,
    wish: Option<Mode>,
) -> Result<v1::ValidateResponse, Failure> {
    let request = v1::ValidateRequest {
        pipeline: Some(pipeline.message(&environment)),
        name: None,
        mode: mode(wish),
    };
    let answer = client
        .call(Repeat::ReadOnly, async |channel| {
            jobs(channel).validate(request.clone()).await
        })
        .await
        .map_err(|failure| pipeline.refused(failure, error_color()))?;
    tell(&answer.notes);
    Ok(answer)
}

pub async fn validate(client: &mut Client, printer: &Printer, file: &File, mode: Option<Mode>) -> Result<(), Failure> {
    let pipeline = Pipeline::read(file)?;
    let answer = checked(client, &pipeline, mode).await?;
    if !answer.valid {
        return Err(invalid(&pipeline, &answer));
    }
    let name = pipeline.name().unwrap_or_default();
    print(&printer.message(&answer, &name, || format!("{} is valid\n", pipeline.file)))
}

pub async fn explain(client: &mut Client, printer: &Printer, file: &File, mode: Option<Mode>) -> Result<(), Failure> {
    let pipeline = Pipeline::read(file)?;
    let answer = checked(client, &pipeline, mode).await?;
    if !answer.valid {
        return Err(invalid(&pipeline, &answer));
    }
    let name = pipeline.name().unwrap_or_default();
    print(&printer.message(&answer, &name, || format!("{}\n", answer.plan.trim_end())))
}

fn invalid(pipeline: &Pipeline, answer: &v1::ValidateResponse) -> Failure {
    let rendered = pipeline.mistakes(&answer.mistakes, error_color());
    Failure {
        detail: Some(v1::ErrorDetail {
            code: "invalid-pipeline".to_string(),
            mistakes: answer.mistakes.clone(),
            leader: String::new(),
        }),
        ..Failure::wrong(rendered.unwrap_or_else(|| format!("{}: not valid", pipeline.file)))
    }
}

pub async fn diff(client: &mut Client, printer: &Printer, file: &File, from: Option<&str>) -> Result<(), Failure> {
    let pipeline = Pipeline::read(file)?;
    let from = match (from, pipeline.name()) {
        (Some(text), _) => reference(client, text).await?,
        (None, Some(job)) => v1::CheckpointRef { job, checkpoint: None },
        (None, None) => {
            return Err(Failure::wrong(format!(
                "{}: does not say which job it is; say --from JOB",
                pipeline.file
            )));
        }
    };
    let request = v1::DiffRequest {
        pipeline: Some(pipeline.message(&environment)),
        from: Some(from.clone()),
    };
    let answer = client
        .call(Repeat::ReadOnly, async |channel| {
            jobs(channel).diff(request.clone()).await
        })
        .await
        .map_err(|failure| pipeline.refused(failure, error_color()))?;
    let word = word(answer.verdict());
    print(&printer.message(&answer, word, || {
        let painted = |verdict: Verdict, word: &str| printer.paint(color(verdict), word);
        let mut out = format!(
            "{} and checkpoint {}/{}: {}\n",
            pipeline.file,
            from.job,
            answer.checkpoint,
            painted(answer.verdict(), word)
        );
        for operator in &answer.operators {
            let verdict = operator.verdict();
            out.push_str(&format!(
                "  {}: {}\n",
                operator.operator,
                painted(verdict, of_operator(verdict))
            ));
        }
        for finding in &answer.findings {
            out.push_str(&format!("  {finding}\n"));
        }
        out
    }))?;
    match answer.verdict() {
        Verdict::Compatible => Ok(()),
        // Said already, on standard output.
        _ => Err(Failure::new(Exit::Conflict, "")),
    }
}

/// The verdict about a checkpoint as a whole.
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Compatible => "compatible",
        Verdict::ChangedMeaning => "changed meaning",
        Verdict::NeedsMigration => "needs migration",
        Verdict::LosesState => "loses state",
    }
}

/// The verdict about one operator.
fn of_operator(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Compatible => "same meaning",
        Verdict::ChangedMeaning => "same layout, other meaning",
        Verdict::NeedsMigration | Verdict::LosesState => word(verdict),
    }
}

fn color(verdict: Verdict) -> Paint {
    match verdict {
        Verdict::Compatible => Paint::Green,
        Verdict::ChangedMeaning | Verdict::NeedsMigration => Paint::Yellow,
        Verdict::LosesState => Paint::Red,
    }
}
