//! Completion in the shell: the shell asks this program, and this program asks the cluster, briefly.
//!
//! Whatever goes wrong here means no candidates: a message would land in the user's command line.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use millstream_proto::v1;

use crate::client::{self, Client, Repeat};
use crate::context::{self, Contexts, Wish};
use crate::failure::Failure;
use crate::jobs::state_word;

/// Longer, and the user would have typed it.
const PATIENCE: Duration = Duration::from_millis(800);

pub fn jobs(current: &OsStr) -> Vec<CompletionCandidate> {
    let listed = ask(async |client: &mut Client| {
        let request = v1::ListJobsRequest { all: true };
        client
            .call(Repeat::ReadOnly, async |channel| {
                client::jobs(channel).list(request).await
            })
            .await
    });
    let jobs = listed.map(|answer| answer.jobs).unwrap_or_default();
    let names = jobs.iter().map(|job| (job.name.clone(), state_word(job).to_string()));
    candidates(current, names)
}

/// `JOB`, and `JOB/CHECKPOINT` once the job is typed.
pub fn checkpoints(current: &OsStr) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy();
    let Some((job, _)) = begun.split_once('/') else {
        return jobs(current);
    };
    let listed = ask(async |client: &mut Client| crate::checkpoints::list(client, job, false).await);
    let checkpoints = listed.map(|answer| answer.checkpoints).unwrap_or_default();
    let names = checkpoints.iter().flat_map(|checkpoint| {
        let help = checkpoint.savepoint.clone();
        let help = help.map_or("checkpoint".to_string(), |name| format!("savepoint {name}"));
        let by_name = checkpoint
            .savepoint
            .clone()
            .map(|name| (format!("{job}/{name}"), help.clone()));
        by_name
            .into_iter()
            .chain([(format!("{job}/{}", checkpoint.checkpoint), help)])
    });
    candidates(current, names)
}

pub fn workers(current: &OsStr) -> Vec<CompletionCandidate> {
    let listed = ask(async |client: &mut Client| crate::workers::list(client).await);
    let workers = listed.map(|answer| answer.workers).unwrap_or_default();
    candidates(current, workers.into_iter().map(|worker| (worker.name, worker.state)))
}

pub fn contexts(current: &OsStr) -> Vec<CompletionCandidate> {
    let contexts = context::path()
        .and_then(|path| Contexts::load(&path))
        .unwrap_or_default();
    let names = contexts
        .servers
        .into_iter()
        .map(|(name, servers)| (name, servers.join(",")));
    candidates(current, names)
}

fn candidates(current: &OsStr, names: impl Iterator<Item = (String, String)>) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy();
    names
        .filter(|(name, _)| name.starts_with(begun.as_ref()))
        .map(|(name, help)| CompletionCandidate::new(name).help(Some(help.into())))
        .collect()
}

fn ask<T>(question: impl AsyncFnOnce(&mut Client) -> Result<T, Failure>) -> Option<T> {
    let servers = context::servers(&wish(), &|name| std::env::var(name).ok()).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let asked = runtime.block_on(async {
        let mut client = Client::new(servers);
        tokio::time::timeout(PATIENCE, question(&mut client)).await
    });
    asked.ok()?.ok()
}

/// The cluster that the unfinished command line means.
fn wish() -> Wish {
    let words: Vec<String> = std::env::args().collect();
    let value = |flag: &str| {
        let with_equals = format!("{flag}=");
        words
            .iter()
            .enumerate()
            .find_map(|(position, word)| match word.strip_prefix(&with_equals) {
                Some(value) => Some(value.to_string()),
                None if word == flag => words.get(position + 1).cloned(),
                None => None,
            })
    };
    Wish {
        server: value("--server"),
        context: value("--context"),
    }
}
