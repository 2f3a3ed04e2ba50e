//! `checkpoints` and `savepoints`.

use millstream_proto::report::{amount, count, time};
use millstream_proto::v1;

use super::refresh::print_or_refresh;
use super::verify;
use crate::arguments::{Checkpoints, Savepoints};
use crate::client::{Client, Retry, checkpoints};
use crate::failure::Failure;
use crate::job::{savepoint_name, watermark};
use crate::output::{Printer, age, now_us, print};
use crate::paint::Paint;
use crate::requests::{checkpoint_reference, list_checkpoints, savepoint_reference};
use crate::table::{ALWAYS, Cell, Table};

pub async fn run(client: &mut Client, printer: &Printer, command: &Checkpoints) -> Result<(), Failure> {
    match command {
        Checkpoints::List { job, watch } => {
            print_or_refresh(printer, watch, async || {
                render_list(client, printer, &job.name, false).await
            })
            .await
        }
        Checkpoints::Inspect { checkpoint } => {
            let reference = checkpoint_reference(client, checkpoint).await?;
            inspect(client, printer, reference).await
        }
        Checkpoints::Verify { checkpoint } => {
            let reference = checkpoint_reference(client, checkpoint).await?;
            verify::run(client, printer, reference).await
        }
        Checkpoints::Create { job } => {
            let request = v1::CreateCheckpointRequest { job: job.name.clone() };
            let taken = client
                .call(
                    Retry::Never {
                        inspect: &list_command("checkpoints", &job.name),
                    },
                    async |channel| checkpoints(channel).create(request.clone()).await,
                )
                .await?;
            print(&printer.message(&taken, &name(&taken), || created(&taken)))
        }
        Checkpoints::Delete { checkpoint } => {
            let reference = checkpoint_reference(client, checkpoint).await?;
            let Some(number) = reference.checkpoint else {
                return Err(Failure::invalid(format!(
                    "which checkpoint of `{checkpoint}`? write {checkpoint}/NUMBER; `engine-cli checkpoints list {checkpoint}` shows them"
                )));
            };
            let request = v1::DeleteCheckpointRequest {
                job: reference.job.clone(),
                checkpoint: number,
            };
            client
                .call(
                    Retry::Never {
                        inspect: &list_command("checkpoints", &reference.job),
                    },
                    async |channel| checkpoints(channel).delete(request.clone()).await,
                )
                .await?;
            let (job, deleted) = (reference.job, format!("{}/{number}", request.job));
            print(&printer.value(
                || serde_json::json!({ "job": job, "checkpoint": number, "deleted": true }),
                || vec![deleted.clone()],
                || format!("checkpoint {deleted} deleted\n"),
            ))
        }
    }
}

/// Returns the command that lists the checkpoints or savepoints of a job.
fn list_command(noun: &str, job: &str) -> String {
    format!("engine-cli {noun} list {job}")
}

async fn inspect(client: &mut Client, printer: &Printer, reference: v1::CheckpointRef) -> Result<(), Failure> {
    let request = v1::InspectCheckpointRequest {
        checkpoint: Some(reference),
    };
    let detail = client
        .call(Retry::ReadOnly, async |channel| {
            checkpoints(channel).inspect(request.clone()).await
        })
        .await?;
    let checkpoint = detail.checkpoint.clone().unwrap_or_default();
    print(&printer.message(&detail, &name(&checkpoint), || describe(&detail, &checkpoint, printer)))
}

/// Returns the output of `checkpoints create`.
fn created(taken: &v1::Checkpoint) -> String {
    match taken.current_us > taken.taken_us {
        true => format!(
            "{}: nothing is new since checkpoint {} ({} of state)\n",
            taken.job,
            taken.checkpoint,
            amount(taken.state_bytes)
        ),
        false => format!(
            "{}: checkpoint {} ({} of state)\n",
            taken.job,
            taken.checkpoint,
            amount(taken.state_bytes)
        ),
    }
}

pub async fn savepoints(client: &mut Client, printer: &Printer, command: &Savepoints) -> Result<(), Failure> {
    match command {
        Savepoints::Create { job, name } => {
            let request = v1::CreateSavepointRequest {
                job: job.name.clone(),
                // Named here, so that a repeated command is refused instead of making a second savepoint.
                name: Some(name.clone().unwrap_or_else(|| savepoint_name(now_us()))),
            };
            let taken = client
                .call(
                    Retry::Never {
                        inspect: &list_command("savepoints", &job.name),
                    },
                    async |channel| checkpoints(channel).create_savepoint(request.clone()).await,
                )
                .await?;
            print(&printer.message(&taken, taken.savepoint(), || {
                format!(
                    "{}: savepoint `{}` is checkpoint {} ({} of state)\n",
                    taken.job,
                    taken.savepoint(),
                    taken.checkpoint,
                    amount(taken.state_bytes)
                )
            }))
        }
        Savepoints::List { job, watch } => {
            print_or_refresh(printer, watch, async || {
                render_list(client, printer, &job.name, true).await
            })
            .await
        }
        Savepoints::Inspect { job, name } => {
            let reference = savepoint_reference(client, &job.name, name).await?;
            inspect(client, printer, reference).await
        }
        Savepoints::Delete { job, name } => {
            let request = v1::DeleteSavepointRequest {
                job: job.name.clone(),
                name: name.clone(),
            };
            client
                .call(
                    Retry::Idempotent {
                        inspect: &list_command("savepoints", &job.name),
                    },
                    async |channel| checkpoints(channel).delete_savepoint(request.clone()).await,
                )
                .await?;
            print(&printer.value(
                || serde_json::json!({ "job": job.name, "savepoint": name, "deleted": true }),
                || vec![name.clone()],
                || format!("{}: savepoint `{name}` deleted\n", job.name),
            ))
        }
    }
}

async fn render_list(client: &mut Client, printer: &Printer, job: &str, only: bool) -> Result<String, Failure> {
    let answer = list_checkpoints(client, job, only).await?;
    let names = answer.checkpoints.iter().map(name).collect();
    Ok(printer.list(&answer, names, || table(&answer.checkpoints, only, printer.is_wide())))
}

/// Returns the checkpoint as `--from-checkpoint` accepts it.
fn name(checkpoint: &v1::Checkpoint) -> String {
    format!("{}/{}", checkpoint.job, checkpoint.checkpoint)
}

fn table(checkpoints: &[v1::Checkpoint], only_savepoints: bool, wide: bool) -> Table {
    let mut columns = vec![
        ("CHECKPOINT", ALWAYS),
        ("SAVEPOINT", ALWAYS),
        ("TAKEN", 3),
        ("AGE", 5),
        ("STATE", 4),
        ("TOOK", 2),
        ("PARALLELISM", 1),
        ("NOTE", ALWAYS),
    ];
    if wide {
        columns.push(("ORIGIN", ALWAYS));
    }
    let empty = if only_savepoints {
        "no savepoints"
    } else {
        "no checkpoints"
    };
    let mut table = Table::new(&columns, empty);
    let now = now_us();
    for checkpoint in checkpoints {
        let note = match (checkpoint.damage.as_str(), checkpoint.finished) {
            ("", false) if checkpoint.in_flight_bytes > 0 => Cell::from("with rows in flight"),
            ("", false) => Cell::from(""),
            ("", true) => Cell::from("all input processed"),
            (damage, _) => Cell::painted(format!("damaged: {damage}"), Paint::Red),
        };
        let took = match checkpoint.duration_ms {
            0 => "-".to_string(),
            ms => format!("{ms} ms"),
        };
        let mut row = vec![
            checkpoint.checkpoint.to_string().into(),
            checkpoint.savepoint.as_deref().unwrap_or("-").into(),
            time(checkpoint.taken_us).into(),
            age(now, checkpoint.taken_us).into(),
            Cell::number(amount(checkpoint.state_bytes)),
            Cell::number(took),
            Cell::number(checkpoint.parallelism.to_string()),
            note,
        ];
        if wide {
            row.push(checkpoint.origin.as_str().into());
        }
        table.row(row);
    }
    table
}

/// Returns the number of keyed entries, which RocksDB estimates.
fn entries(operator: &v1::CheckpointOperator) -> String {
    match operator.keyed_entries {
        Some(0) => "0".to_string(),
        Some(entries) => format!("~{}", count(entries)),
        None => "-".to_string(),
    }
}

fn describe(detail: &v1::CheckpointDetail, checkpoint: &v1::Checkpoint, printer: &Printer) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!("{name:<13} {value}\n"));
        }
    };
    line("checkpoint", printer.paint(Paint::Bold, &name(checkpoint)));
    line("savepoint", checkpoint.savepoint.clone().unwrap_or_default());
    line("taken", time(checkpoint.taken_us));
    line("state", amount(checkpoint.state_bytes));
    line(
        "parallelism",
        format!("{} of at most {}", checkpoint.parallelism, detail.max_parallelism),
    );
    if checkpoint.in_flight_bytes > 0 {
        line("in flight", amount(checkpoint.in_flight_bytes));
    }
    line("origin", checkpoint.origin.clone());
    line("engine", detail.engine_version.clone());
    line("fingerprint", detail.fingerprint.clone());
    line("damage", checkpoint.damage.clone());
    if checkpoint.finished {
        line("note", "all input was processed".to_string());
    }
    if !detail.operators.is_empty() {
        let columns = [
            ("OPERATOR", ALWAYS),
            ("SUBTASKS", 3),
            ("ENTRIES", 7),
            ("KEYED STATE", ALWAYS),
            ("FILES", 2),
            ("OTHER STATE", 6),
            ("IN FLIGHT", 5),
            ("TO PUBLISH", 4),
            ("KIND", 1),
        ];
        let mut table = Table::new(&columns, "");
        for operator in &detail.operators {
            table.row(vec![
                operator.id.as_str().into(),
                Cell::number(operator.subtasks.to_string()),
                Cell::number(entries(operator)),
                Cell::number(amount(operator.keyed_bytes)),
                Cell::number(operator.files.to_string()),
                Cell::number(amount(operator.inline_bytes)),
                Cell::number(amount(operator.in_flight_bytes)),
                Cell::number(operator.committables.to_string()),
                operator.kind.as_str().into(),
            ]);
        }
        out.push('\n');
        out.push_str(&printer.render(&table));
    }
    let splits = || {
        let of_each = detail.operators.iter();
        of_each.flat_map(|operator| operator.splits.iter().map(move |split| (operator, split)))
    };
    if splits().next().is_some() {
        let columns = [
            ("SOURCE", ALWAYS),
            ("SPLIT", ALWAYS),
            ("POSITION", ALWAYS),
            ("WATERMARK", 1),
            ("NOTE", 2),
        ];
        let mut table = Table::new(&columns, "");
        for (operator, split) in splits() {
            table.row(vec![
                operator.id.as_str().into(),
                split.id.as_str().into(),
                split.position.as_str().into(),
                watermark(split.watermark_us).into(),
                if split.finished {
                    "read to the end".into()
                } else {
                    "".into()
                },
            ]);
        }
        out.push('\n');
        out.push_str(&printer.render(&table));
    }
    out
}
