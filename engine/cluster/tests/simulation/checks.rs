//! Invariants that are checked during a run and at its end.
//!
//! The checks read the store directly, past the simulated network: a checkpoint exists only if its journal says so.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use millstream_state::manifest::Header;
use millstream_state::{CheckpointInfo, CheckpointStore, Storage};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

use crate::published::Written;
use crate::shapes::{Shape, Workload};
use crate::world::{ProcessId, World, world};

pub const CHECKPOINTS: &str = "sim://store/cluster/checkpoints";
/// The path of the checkpoints in the store.
const PREFIX: &str = "cluster/checkpoints";

static CHECKING: AtomicBool = AtomicBool::new(false);

/// Returns true while a check reads the store: it is answered at once and without failures.
pub fn is_checking() -> bool {
    CHECKING.load(Ordering::Relaxed)
}

/// Runs a read of the store that does not wait.
fn look<T>(at: impl Future<Output = T>) -> Option<T> {
    CHECKING.store(true, Ordering::Relaxed);
    let found = at.now_or_never();
    CHECKING.store(false, Ordering::Relaxed);
    found
}

/// A checkpoint that exists.
struct ExistingCheckpoint {
    job: String,
    info: CheckpointInfo,
    /// Path and content of its manifest.
    path: String,
    manifest: Vec<u8>,
}

impl ExistingCheckpoint {
    fn name(&self) -> String {
        format!("{}/{}", self.job, self.info.checkpoint)
    }
}

/// Returns the existing checkpoints of all jobs.
fn existing(store: &InMemory) -> Result<Vec<ExistingCheckpoint>, String> {
    let jobs: Vec<String> = world().workloads.iter().map(Workload::job).collect();
    let mut existing = Vec::new();
    for job in jobs {
        let storage = Storage::from_url(CHECKPOINTS).map_err(|error| error.to_string())?;
        let checkpoints = CheckpointStore::new(storage, &job).map_err(|error| error.to_string())?;
        let infos = look(checkpoints.list()).ok_or("the store does not wait")?;
        for info in infos.map_err(|error| error.to_string())? {
            let path = format!(
                "{PREFIX}/{job}/checkpoints/{}-{}-{}/manifest",
                info.checkpoint, info.epoch, info.attempt
            );
            let manifest = read(store, &path).ok_or_else(|| format!("{path} is missing, but the journal names it"))?;
            let job = job.clone();
            existing.push(ExistingCheckpoint {
                job,
                info,
                path,
                manifest,
            });
        }
    }
    Ok(existing)
}

fn read(store: &InMemory, path: &str) -> Option<Vec<u8>> {
    let found = store.get(&Path::from(path)).now_or_never()?.ok()?;
    Some(found.bytes().now_or_never()?.ok()?.to_vec())
}

fn names(manifest: &[u8], what: &str) -> bool {
    String::from_utf8_lossy(manifest).contains(what)
}

/// Checks that no file is deleted while a retained checkpoint needs it.
pub fn before_delete(path: &Path, store: &InMemory) {
    let path = path.as_ref();
    if !path.starts_with(PREFIX) || path.contains("/journal/") {
        return;
    }
    let Some(file) = path.rsplit('/').next() else { return };
    match existing(store) {
        Err(error) => world().violated(format!("before {path} was deleted: {error}")),
        Ok(existing) => {
            for one in existing {
                let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_string());
                let is_needed = match file {
                    "manifest" | "completed" => folder(&one.path) == folder(path),
                    file => names(&one.manifest, file),
                };
                if is_needed {
                    world().violated(format!("{path} is deleted, but {} needs it", one.name()));
                }
            }
        }
    }
}

/// Checks that nothing becomes visible before the journal lists a complete checkpoint with it. Visible output may be
/// published again at any time, by a worker that was paused meanwhile.
pub fn before_publish(id: &str, store: &InMemory) {
    if world().published.epochs.contains_key(id) {
        return;
    }
    match existing(store) {
        Err(error) => world().violated(format!("before {id} was published: {error}")),
        Ok(existing) => {
            if !existing.iter().any(|one| names(&one.manifest, id)) {
                let known: Vec<String> = existing.iter().map(ExistingCheckpoint::name).collect();
                world().violated(format!("{id} is published, but none of {known:?} holds it"));
            }
        }
    }
}

/// Takes note of the loss of a process, if it is the only fault of the run and output has been published.
pub fn before_loss(world: &mut World, process: ProcessId) {
    if world.expects_one_loss && world.only_loss.is_none() && !world.published.epochs.is_empty() {
        world.only_loss = Some((process, world.readers.len()));
    }
}

/// Checks that only tasks of the lost process were restarted.
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

/// Checks the output, the restarted tasks and the files after the jobs have ended.
pub fn at_the_end(store: &InMemory) {
    let submissions = world().submissions;
    let output = match submissions {
        0 | 1 => output(),
        _ => Ok(()),
    };
    for violation in [output, regions(), files(store), consistency_points()]
        .into_iter()
        .filter_map(Result::err)
    {
        world().violated(violation);
    }
}

/// Checks that consistency points have passed between checkpoints, if a job has them.
fn consistency_points() -> Result<(), String> {
    let world = world();
    let has_points = world.workloads.iter().any(|workload| workload.shape == Shape::Balanced);
    match has_points && world.consistency_points == 0 {
        true => Err("no consistency point has passed between two checkpoints".into()),
        false => Ok(()),
    }
}

/// Checks that the output equals that of a run without faults.
fn output() -> Result<(), String> {
    let (found, wanted) = {
        let world = world();
        let wanted = world.workloads.iter().flat_map(Workload::expected);
        let mut wanted: Vec<Written> = wanted.collect();
        wanted.sort_unstable();
        (world.published.rows(), wanted)
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

/// Checks that every file that a checkpoint lists exists with its length.
fn files(store: &InMemory) -> Result<(), String> {
    for one in existing(store)? {
        let header = Header::decode(&one.manifest, &one.path).map_err(|error| error.to_string())?;
        for file in header.files {
            let at = format!("{PREFIX}/{}/{}", one.job, file.path);
            let length = read(store, &at).map(|bytes| bytes.len() as u64);
            if length != Some(file.length) {
                return Err(format!(
                    "{} names {at} with {} bytes, but it has {length:?}",
                    one.name(),
                    file.length
                ));
            }
        }
    }
    Ok(())
}
