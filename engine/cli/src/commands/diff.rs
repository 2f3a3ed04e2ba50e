//! `jobs diff`: compares an edited pipeline with a checkpoint.

use millstream_proto::v1;
use millstream_proto::v1::diff_response::Verdict;

use crate::arguments::File;
use crate::client::{Client, Retry, jobs};
use crate::failure::{Exit, Failure};
use crate::output::{Printer, error_color, print};
use crate::paint::Paint;
use crate::pipeline::{Pipeline, environment};
use crate::requests::checkpoint_reference;

/// Prints the verdict on each operator's state. Fails with [`Exit::Conflict`] unless all state keeps its meaning.
pub async fn diff(client: &mut Client, printer: &Printer, file: &File, from: Option<&str>) -> Result<(), Failure> {
    let pipeline = Pipeline::read(file)?;
    let from = match (from, pipeline.name()) {
        (Some(text), _) => checkpoint_reference(client, text).await?,
        (None, Some(job)) => v1::CheckpointRef { job, checkpoint: None },
        (None, None) => {
            return Err(Failure::invalid(format!(
                "{}: the job cannot be read from an SQL file; name it with --from JOB",
                pipeline.file
            )));
        }
    };
    let request = v1::DiffRequest {
        pipeline: Some(pipeline.message(&environment)),
        from: Some(from.clone()),
    };
    let answer = client
        .call(Retry::ReadOnly, async |channel| {
            jobs(channel).diff(request.clone()).await
        })
        .await
        .map_err(|failure| pipeline.with_mistakes(failure, error_color()))?;
    let word = verdict_word(answer.verdict());
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
                painted(verdict, operator_verdict_word(verdict))
            ));
        }
        for finding in &answer.findings {
            out.push_str(&format!("  {finding}\n"));
        }
        out
    }))?;
    match answer.verdict() {
        Verdict::Compatible => Ok(()),
        // The verdict is on standard output.
        _ => Err(Failure::new(Exit::Conflict, "")),
    }
}

/// Returns the verdict on a whole checkpoint in words.
pub fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Compatible => "compatible",
        Verdict::ChangedMeaning => "changed meaning",
        Verdict::NeedsMigration => "needs migration",
        Verdict::LosesState => "loses state",
    }
}

/// Returns the verdict on the state of one operator in words.
fn operator_verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Compatible => "same meaning",
        Verdict::ChangedMeaning => "same layout, other meaning",
        Verdict::NeedsMigration | Verdict::LosesState => verdict_word(verdict),
    }
}

fn color(verdict: Verdict) -> Paint {
    match verdict {
        Verdict::Compatible => Paint::Green,
        Verdict::ChangedMeaning | Verdict::NeedsMigration => Paint::Yellow,
        Verdict::LosesState => Paint::Red,
    }
}
