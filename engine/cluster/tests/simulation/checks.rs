//! What must hold at every moment, and at the end.
//!
//! The checks look at the store as it is, past the simulated network: only what its journal says exists.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use millstream_state::manifest::Header;
use millstream_state::{CheckpointInfo, CheckpointStore, Storage};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

use crate::job::JOB;
use crate::published::Written;
use crate::world::{ProcessId, World, world};

pub const CHECKPOINTS: &str = "sim://store/cluster/checkpoints";
/// Where that is in the store.
const PREFIX: &str = "cluster/checkpoints";

static LOOKING: AtomicBool = AtomicBool::new(false);

/// The store answers a check at once, and without fail.
pub fn is_looking() -> bool {
    LOOKING.load(Ordering::Relaxed)
}

fn look<T>(at: impl Future<Output = T>) -> Option<T> {
    LOOKING.store(true, Ordering::Relaxed);
    let found = at.now_or_never();
    LOOKING.store(false, Ordering::Relaxed);
    found
}

/// The checkpoints that exist, with the text of their manifests.
fn manifests(store: &InMemory) -> Result<Vec<(CheckpointInfo, String, Vec<u8>)>, String> {
    let storage = Storage::at(CHECKPOINTS).map_err(|error| error.to_string())?;
    let checkpoints = CheckpointStore::within(storage, JOB).map_err(|error| error.to_string())?;
    let infos = look(checkpoints.list()).ok_or("the store does not wait")?;
    let mut manifests = Vec::new();
    for info in infos.map_err(|error| error.to_string())? {
        let path = format!(
            "{PREFIX}/{JOB}/checkpoints/{}-{}-{}/manifest",
            info.checkpoint, info.epoch, info.attempt
        );
        let bytes = read(store, &path).ok_or_else(|| format!("{path} is missing, but the journal names it"))?;
        manifests.push((info, path, bytes));
    }
    Ok(manifests)
}

fn read(store: &InMemory, path: &str) -> Option<Vec<u8>> {
    let found = store.get(&Path::from(path)).now_or_never()?.ok()?;
    Some(found.bytes().now_or_never()?.ok()?.to_vec())
}

fn names(manifest: &[u8], what: &str) -> bool {
    String::from_utf8_lossy(manifest).contains(what)
}

/// No file goes while a retained checkpoint needs it.
pub fn before_delete(path: &Path, store: &InMemory) {
    let path = path.as_ref();
    if !path.starts_with(PREFIX) || path.contains("/journal/") {
        return;
    }
    let Some(file) = path.rsplit('/').next() else { return };
    match manifests(store) {
        Err(error) => world().violated(format!("before {path} was deleted: {error}")),
        Ok(manifests) => {
            for (info, manifest_path, manifest) in manifests {
                if manifest_path == path || (file != "manifest" && names(&manifest, file)) {
                    world().violated(format!(
                        "{path} is deleted, but checkpoint {} needs it",
                        info.checkpoint
                    ));
                }
            }
        }
    }
}

/// Nothing becomes visible before the journal says that a checkpoint with it is complete. What is visible may be published
/// again at any time, by a worker that stood still for one.
pub fn before_publish(id: &str, store: &InMemory) {
    if world().published.epochs.contains_key(id) {
        return;
    }
    match manifests(store) {
        Err(error) => world().violated(format!("before {id} was published: {error}")),
        Ok(manifests) => {
            if !manifests.iter().any(|(_, _, manifest)| names(manifest, id)) {
                let known: Vec<u64> = manifests.iter().map(|(info, _, _)| info.checkpoint).collect();
                world().violated(format!(
                    "{id} is published, but none of the checkpoints {known:?} holds it"
                ));
            }
        }
    }
}

/// A process is lost. If it is the only one, and the job runs without trouble, what runs elsewhere is to go on.
pub fn before_loss(world: &mut World, process: ProcessId) {
    if world.expects_one_loss && world.only_loss.is_none() && !world.published.epochs.is_empty() {
        world.only_loss = Some((process, world.readers.len()));
    }
}

/// Only what ran in the lost process was made anew.
fn regions() -> Result<(), String> {
    let world = world();
    let Some((lost, made)) = world.only_loss else {
        return Ok(());
    };
    let (before, after) = world.readers.split_at(made);
    for (table, subtask, _) in after {
        let was_in = before.iter().rfind(|(of, number, _)| of == table && number == subtask);
        if was_in.is_none_or(|(_, _, process)| *process != lost) {
            return Err(format!(
                "subtask {subtask} of {table} was restarted, though it did not run in the process that was lost"
            ));
        }
    }
    Ok(())
}

/// When all faults are over and the job has come to its end.
pub fn at_the_end(store: &InMemory) {
    for violation in [output(), regions(), files(store)].into_iter().filter_map(Result::err) {
        world().violated(violation);
    }
}

fn output() -> Result<(), String> {
    let (found, wanted) = {
        let world = world();
        (world.published.rows(), world.shape.expected())
    };
    if found == wanted {
        return Ok(());
    }
    let missing: Vec<&Written> = wanted.iter().filter(|row| !found.contains(row)).collect();
    let extra: Vec<&Written> = found.iter().filter(|row| !wanted.contains(row)).collect();
    let first = |rows: &[&Written]| {
        rows.iter()
            .take(5)
            .map(|row| format!("{row:?}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    Err(format!(
        "the output differs from that of a run without faults: {} rows, expected {}; {} missing ({}), {} extra ({})",
        found.len(),
        wanted.len(),
        missing.len(),
        first(&missing),
        extra.len(),
        first(&extra)
    ))
}

/// Every file that a checkpoint names is there, as long as it was.
fn files(store: &InMemory) -> Result<(), String> {
    for (info, path, manifest) in manifests(store)? {
        let header = Header::decode(&manifest, &path).map_err(|error| error.to_string())?;
        for file in header.files {
            let at = format!("{PREFIX}/{JOB}/{}", file.path);
            let length = read(store, &at).map(|bytes| bytes.len() as u64);
            if length != Some(file.length) {
                return Err(format!(
                    "checkpoint {} names {at} with {} bytes, but it has {length:?}",
                    info.checkpoint, file.length
                ));
            }
        }
    }
    Ok(())
}
