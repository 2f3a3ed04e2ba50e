//! `checkpoints verify`: reads all files of checkpoints and reports damage, and which checkpoint a restore would use.

use std::io::{IsTerminal, Write};

use millstream_proto::report::{amount, count, time};
use millstream_proto::v1;
use serde_json::{Value, json};

use crate::client::{Client, Retry, checkpoints};
use crate::failure::{Exit, Failure};
use crate::output::{Printer, print};
use crate::paint::Paint;

/// Verifies one checkpoint, or all of a job. Fails with [`Exit::Damaged`] if a file is damaged.
pub async fn run(client: &mut Client, printer: &Printer, reference: v1::CheckpointRef) -> Result<(), Failure> {
    let request = v1::VerifyCheckpointsRequest {
        job: reference.job.clone(),
        checkpoint: reference.checkpoint,
    };
    let opened = client.call(Retry::ReadOnly, async |channel| {
        checkpoints(channel).verify(request.clone()).await
    });
    let mut stream = opened.await?;
    let mut report = Report::default();
    let mut status = StatusLine::default();
    let result = loop {
        let Some(event) = stream.message().await? else {
            let message = "the connection broke before verification was complete; try again".to_string();
            return Err(Failure::new(Exit::Unreachable, message));
        };
        if let Some(progress) = &event.progress {
            status.show(&reference.job, progress);
            continue;
        }
        status.clear();
        if printer.is_text() {
            print(&line(printer, &reference.job, &event))?;
        }
        match report.add(event) {
            Some(result) => break result,
            None => continue,
        }
    };
    if !printer.is_text() {
        print(&printer.value(
            || report.json(&reference.job, &result),
            || report.names(&reference.job),
            String::new,
        ))?;
    }
    outcome(&result)
}

fn outcome(result: &v1::VerifyResult) -> Result<(), Failure> {
    if !result.error.is_empty() {
        let message = format!("not everything could be read: {}", result.error);
        return Err(Failure::new(Exit::Unreachable, message));
    }
    match result.is_whole {
        true => Ok(()),
        // The damage is on standard output.
        false => Err(Failure::new(Exit::Damaged, "")),
    }
}

/// Collected findings, for the formats for programs.
#[derive(Default)]
struct Report {
    checkpoints: Vec<v1::VerifiedCheckpoint>,
    damages: Vec<v1::DamagedObject>,
}

impl Report {
    /// Adds an event; returns the result if the event is the last one.
    fn add(&mut self, event: v1::VerifyEvent) -> Option<v1::VerifyResult> {
        self.checkpoints.extend(event.checkpoint);
        self.damages.extend(event.damage);
        event.result
    }

    fn json(&self, job: &str, result: &v1::VerifyResult) -> Value {
        let values = |list: &mut dyn Iterator<Item = Value>| Value::Array(list.collect());
        json!({
            "job": job,
            "checkpoints": values(&mut self.checkpoints.iter().map(millstream_proto::json::to_value)),
            "damages": values(&mut self.damages.iter().map(millstream_proto::json::to_value)),
            "result": millstream_proto::json::to_value(result),
        })
    }

    /// Returns the checkpoints without damage.
    fn names(&self, job: &str) -> Vec<String> {
        let whole = self.checkpoints.iter().filter(|checkpoint| checkpoint.damaged == 0);
        whole
            .map(|checkpoint| format!("{job}/{}", checkpoint.checkpoint))
            .collect()
    }
}

fn line(printer: &Printer, job: &str, event: &v1::VerifyEvent) -> String {
    let mut out = String::new();
    if let Some(damage) = &event.damage {
        let whose = damage
            .checkpoint
            .map_or(String::new(), |checkpoint| format!("{job}/{checkpoint}: "));
        let word = printer.paint(Paint::Red, "damaged");
        out.push_str(&format!("{word}  {whose}{}: {}\n", damage.kind, damage.problem));
    }
    if let Some(checkpoint) = &event.checkpoint {
        let word = match checkpoint.damaged {
            0 => printer.paint(Paint::Green, "whole"),
            damaged => printer.paint(Paint::Red, &format!("{} damaged objects", count(damaged))),
        };
        let savepoint = match checkpoint.savepoint.as_deref() {
            Some(name) => format!(" (savepoint `{name}`)"),
            None => String::new(),
        };
        out.push_str(&format!(
            "{job}/{}{savepoint} of {}: {word}, {} files, {}\n",
            checkpoint.checkpoint,
            time(checkpoint.taken_us),
            count(checkpoint.files),
            amount(checkpoint.bytes)
        ));
    }
    if let Some(result) = &event.result
        && !result.restore.is_empty()
    {
        out.push_str(&format!("{}\n", result.restore));
    }
    out
}

/// Shows the progress on a terminal.
#[derive(Default)]
struct StatusLine {
    is_shown: bool,
}

impl StatusLine {
    fn show(&mut self, job: &str, progress: &v1::VerifyProgress) {
        let mut err = std::io::stderr();
        if !err.is_terminal() {
            return;
        }
        let (read, total) = (amount(progress.bytes), amount(progress.bytes_total));
        // A failure to show progress is ignored.
        write!(err, "\r\x1b[K{job}/{}: {read} of {total} read", progress.checkpoint).ok();
        err.flush().ok();
        self.is_shown = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            write!(std::io::stderr(), "\r\x1b[K").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_has_an_exit_code_of_its_own_and_what_was_not_read_is_no_damage() {
        let exit = |result: v1::VerifyResult| outcome(&result).err().map(|failure| failure.exit);
        let whole = v1::VerifyResult {
            is_whole: true,
            ..v1::VerifyResult::default()
        };
        assert_eq!(exit(whole.clone()), None);
        let damaged = v1::VerifyResult {
            is_whole: false,
            damaged: 1,
            ..whole.clone()
        };
        assert_eq!(exit(damaged), Some(Exit::Damaged));
        let unread = v1::VerifyResult {
            is_whole: false,
            error: "the bucket does not answer".into(),
            ..whole
        };
        assert_eq!(exit(unread), Some(Exit::Unreachable));
    }
}
