//! Shell completion: the shell runs this program, which requests names from the cluster.
//!
//! Every error means no candidates: a message would be written into the user's command line.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use millstream_proto::v1;

use crate::client::{self, Client, Retry};
use crate::context::{self, ClusterSelection, Contexts};
use crate::failure::{Exit, Failure};
use crate::job::state_word;
use crate::requests::{list_checkpoints, list_workers};

/// Longest wait for the cluster: after that, typing is faster than waiting.
const TIMEOUT: Duration = Duration::from_millis(800);

/// Returns the names of jobs that begin with `current`.
pub fn jobs(current: &OsStr) -> Vec<CompletionCandidate> {
    let listed = request(async |client: &mut Client| {
        let request = v1::ListJobsRequest { all: true };
        client
            .call(Retry::ReadOnly, async |channel| {
                client::jobs(channel).list(request).await
            })
            .await
    });
    let jobs = listed.map(|answer| answer.jobs).unwrap_or_default();
    let names = jobs.iter().map(|job| (job.name.clone(), state_word(job).to_string()));
    candidates(current, names)
}

/// Returns names of jobs; after `JOB/`, the checkpoints and savepoints of that job.
pub fn checkpoints(current: &OsStr) -> Vec<CompletionCandidate> {
    let prefix = current.to_string_lossy();
    let Some((job, _)) = prefix.split_once('/') else {
        return jobs(current);
    };
    let listed = request(async |client: &mut Client| list_checkpoints(client, job, false).await);
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

/// Returns the names of workers that begin with `current`.
pub fn workers(current: &OsStr) -> Vec<CompletionCandidate> {
    let listed = request(async |client: &mut Client| list_workers(client).await);
    let workers = listed.map(|answer| answer.workers).unwrap_or_default();
    candidates(current, workers.into_iter().map(|worker| (worker.name, worker.state)))
}

/// Returns the names of contexts that begin with `current`.
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
    let prefix = current.to_string_lossy();
    names
        .filter(|(name, _)| name.starts_with(prefix.as_ref()))
        .map(|(name, help)| CompletionCandidate::new(name).help(Some(help.into())))
        .collect()
}

/// Makes a request to the selected cluster; `None` after an error or [`TIMEOUT`].
fn request<T>(request: impl AsyncFnOnce(&mut Client) -> Result<T, Failure>) -> Option<T> {
    let servers = context::servers(&selection(), &|name| std::env::var(name).ok()).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let response = runtime.block_on(async {
        let mut client = Client::new(servers);
        tokio::time::timeout(TIMEOUT, request(&mut client)).await
    });
    response.ok()?.ok()
}

/// Returns the cluster that the unfinished command line selects.
fn selection() -> ClusterSelection {
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
    ClusterSelection {
        server: value("--server"),
        context: value("--context"),
    }
}

/// Returns the script that enables completion in a shell. It runs this program for each completion, so it need not
/// change with this program's version.
pub fn script(shell: &str) -> Result<String, Failure> {
    let shells = clap_complete::env::Shells::builtins();
    let completer = shells
        .completer(shell)
        .ok_or_else(|| Failure::invalid(format!("completion for `{shell}` is not supported")))?;
    let mut script = Vec::new();
    completer
        .write_registration("COMPLETE", "engine-cli", "engine-cli", "engine-cli", &mut script)
        .map_err(|error| Failure::new(Exit::Failed, format!("the script could not be written: {error}")))?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}
