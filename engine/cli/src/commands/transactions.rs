//! `transactions`: the transactional ids of exactly-once sinks.

use millstream_proto::v1;

use crate::arguments::{File, Owner, Transactions};
use crate::client::{Client, Retry, transactions};
use crate::failure::Failure;
use crate::output::{Printer, age, error_color, now_us, print};
use crate::pipeline::{Pipeline, environment};
use crate::table::{ALWAYS, Cell, Table};

/// Runs a verb of `transactions`.
pub async fn run(client: &mut Client, printer: &Printer, command: &Transactions) -> Result<(), Failure> {
    let (Transactions::List { owner } | Transactions::Abort { owner, .. }) = command;
    let pipeline = match &owner.file {
        Some(file) => Some(Pipeline::read(&File { file: file.clone() })?),
        None => None,
    };
    let owner = message(owner, pipeline.as_ref());
    let result = match command {
        Transactions::List { .. } => list(client, printer, owner).await,
        Transactions::Abort { ids, .. } => abort(client, printer, owner, ids.clone()).await,
    };
    let text = result.map_err(|failure| match &pipeline {
        Some(pipeline) => pipeline.with_mistakes(failure, error_color()),
        None => failure,
    });
    print(&text?)
}

fn message(owner: &Owner, pipeline: Option<&Pipeline>) -> v1::TransactionOwner {
    v1::TransactionOwner {
        job: owner.job.clone().unwrap_or_default(),
        pipeline: pipeline.map(|pipeline| pipeline.message(&environment)),
        name: owner.name.clone(),
    }
}

async fn list(client: &mut Client, printer: &Printer, owner: v1::TransactionOwner) -> Result<String, Failure> {
    let request = v1::ListTransactionsRequest { owner: Some(owner) };
    let answer = client
        .call(Retry::ReadOnly, async |channel| {
            transactions(channel).list(request.clone()).await
        })
        .await?;
    let ids = answer.sinks.iter().flat_map(|sink| &sink.ids);
    let names = ids.map(|known| known.id.clone()).collect();
    let listed = printer.list(&answer, names, || table(&answer.sinks));
    let blocked = match printer.is_text() {
        true => blocked(&answer.sinks),
        false => String::new(),
    };
    Ok(listed + &blocked)
}

fn table(sinks: &[v1::SinkTransactions]) -> Table {
    let mut table = Table::new(
        &[
            ("SINK", ALWAYS),
            ("ID", ALWAYS),
            ("ATTEMPTS", 1),
            ("CHECKPOINT", 2),
            ("PREPARED", 3),
        ],
        "no transactional ids: no sink of it delivers exactly once through transactions, or none has published anything",
    );
    let now = now_us();
    for sink in sinks {
        for known in &sink.ids {
            table.row(vec![
                sink.sink.as_str().into(),
                known.id.as_str().into(),
                Cell::number(known.attempts.to_string()),
                Cell::number(known.checkpoint.to_string()),
                age(now, known.prepared_us).into(),
            ]);
        }
    }
    table
}

fn blocked(sinks: &[v1::SinkTransactions]) -> String {
    let partitions = sinks.iter().flat_map(|sink| &sink.blocked);
    let lines = partitions.map(|blocked| {
        let v1::BlockedPartition {
            topic,
            partition,
            stable_offset,
            end_offset,
        } = blocked;
        format!("{topic}-{partition}: a transaction is open; committed readers wait at {stable_offset}, the end is {end_offset}\n")
    });
    lines.collect()
}

async fn abort(
    client: &mut Client,
    printer: &Printer,
    owner: v1::TransactionOwner,
    ids: Vec<String>,
) -> Result<String, Failure> {
    let request = v1::AbortTransactionsRequest {
        owner: Some(owner),
        ids,
    };
    let answer = client
        .call(
            Retry::Idempotent {
                inspect: "engine-cli transactions list",
            },
            async |channel| transactions(channel).abort(request.clone()).await,
        )
        .await?;
    Ok(printer.value(
        || millstream_proto::json::to_value(&answer),
        || answer.ids.clone(),
        || match answer.ids.is_empty() {
            true => "there is no transactional id that has published anything: nothing to end\n".to_string(),
            false => answer.ids.iter().map(|id| format!("{id}: ended\n")).collect(),
        },
    ))
}
