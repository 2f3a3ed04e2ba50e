//! The simulated object store: a store in memory behind a network that delays and fails.
//!
//! A request reaches the store after a while, takes effect at one time, and its answer arrives later. With faults it
//! fails before it takes effect, or after: then the caller gets an error although the put has happened. A request
//! whose caller was killed, or has timed out, may still take effect later.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::checks;
use crate::faults::{Degradation, FaultKind};
use crate::mutants::Mutant;
use crate::world::{ProcessId, STORE, World, current, name_of, world};

/// Timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// Path of the cluster's journal, and the suffix of a claim's name.
const JOURNAL: &str = "cluster/journal/";
const CLAIM: &str = "/0000000000";

/// The state of the store that faults need.
#[derive(Default)]
pub struct Objects {
    pub puts: u64,
    /// A put that kills its process: its number, and whether it takes effect before.
    pub kill_at_put: Option<(u64, bool)>,
}

/// The store as processes see it.
#[derive(Debug)]
pub struct SimulatedStore(pub std::sync::Arc<InMemory>);

impl fmt::Display for SimulatedStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("simulated")
    }
}

fn failed(what: &str) -> Error {
    Error::Generic {
        store: "simulated",
        source: what.to_string().into(),
    }
}

impl World {
    fn store_delay(&mut self, process: ProcessId) -> Duration {
        let machine = self.machine_of(process);
        let slow = self.is_degraded(Degradation::SlowStore, machine);
        let (least_ms, most_ms) = match slow {
            true => (50, 3_000),
            false if self.random.per_mille(10) => (20, 300),
            false => (1, 12),
        };
        Duration::from_millis(self.random.between(least_ms, most_ms))
    }

    fn store_fails(&mut self, process: ProcessId) -> bool {
        let machine = self.machine_of(process);
        self.is_degraded(Degradation::FailingStore, machine) && self.random.per_mille(350)
    }
}

/// Delays a request or an answer; fails if the network is cut for too long.
async fn transit() -> Result<()> {
    let process = current();
    let (cut_ns, delay) = {
        let mut world = world();
        let machine = world.machine_of(process);
        let cut = world.is_cut(machine, STORE);
        (cut, world.store_delay(process))
    };
    if let Some(until_ns) = cut_ns {
        let wait = Duration::from_nanos(until_ns.saturating_sub(crate::kernel::now_ns()));
        tokio::time::sleep(wait.min(REQUEST_TIMEOUT)).await;
        if wait > REQUEST_TIMEOUT {
            return Err(failed("no answer"));
        }
    }
    tokio::time::sleep(delay).await;
    Ok(())
}

/// A change in flight. If it is dropped before it took effect, it may take effect later.
struct PendingChange {
    change: Option<Change>,
    process: ProcessId,
    store: std::sync::Arc<InMemory>,
}

#[derive(Clone)]
enum Change {
    Put(Path, PutPayload, PutMode),
    Delete(Path),
}

impl Change {
    fn apply(self, process: ProcessId, store: &InMemory) -> Result<()> {
        match self {
            Self::Put(path, payload, mode) => {
                let mode = match world().mutant {
                    Some(Mutant::UnconditionalPuts) => PutMode::Overwrite,
                    _ => mode,
                };
                let payload = match world().mutant {
                    Some(Mutant::LeaderlessClaims) if path.as_ref().ends_with(CLAIM) => without_leader(&payload),
                    Some(Mutant::ForgottenPipelines) if path.as_ref().starts_with(JOURNAL) => {
                        without_pipelines(&payload)
                    }
                    _ => payload,
                };
                let done = store.put_opts(&path, payload, PutOptions::from(mode));
                let done = done
                    .now_or_never()
                    .unwrap_or_else(|| Err(failed("memory does not wait")));
                let told = if done.is_ok() { "puts" } else { "may not put" };
                let mut world = world();
                let machine = world.machine_of(process);
                world.note(&format!("{} {told} {path}", name_of(machine)));
                if done.is_ok() && path.as_ref().starts_with(JOURNAL) && path.as_ref().ends_with(CLAIM) {
                    world.has_claimed(machine);
                }
                done.map(|_| ())
            }
            Self::Delete(path) => {
                checks::before_delete(&path, store);
                let done = store.delete(&path).now_or_never();
                let mut world = world();
                let machine = world.machine_of(process);
                world.note(&format!("{} deletes {path}", name_of(machine)));
                done.unwrap_or_else(|| Err(failed("memory does not wait")))
            }
        }
    }
}

/// Returns the claim of a log without the leader that it is for.
fn without_leader(claim: &PutPayload) -> PutPayload {
    let bytes: Vec<u8> = claim.iter().flat_map(|part| part.to_vec()).collect();
    let text = String::from_utf8_lossy(&bytes);
    let Some((before, rest)) = text.split_once(",\"leader\":{") else {
        return claim.clone();
    };
    let (Some((_, before)), Some((_, after))) = (
        before.split_once(" ").and_then(|(_, rest)| rest.split_once(' ')),
        rest.split_once('}'),
    ) else {
        return claim.clone();
    };
    let json = format!("{before}{}", after.trim_end());
    let checksum = crc32fast::hash(json.as_bytes());
    PutPayload::from(format!("MSJ1 {checksum:08x} {json}\n"))
}

/// Returns a record of the cluster's journal without its changes of jobs' pipelines.
fn without_pipelines(unchanged: &PutPayload) -> PutPayload {
    let bytes: Vec<u8> = unchanged.iter().flat_map(|part| part.to_vec()).collect();
    let text = String::from_utf8_lossy(&bytes);
    let json = text
        .splitn(3, ' ')
        .nth(2)
        .and_then(|json| serde_json::from_str(json).ok());
    let Some(mut entry): Option<serde_json::Value> = json else {
        return unchanged.clone();
    };
    let is_pipeline = |change: &serde_json::Value| change.get("pipeline").is_some();
    let changes = match &entry["record"] {
        record if is_pipeline(record) => Vec::new(),
        record => match record["group"].as_array() {
            Some(changes) if changes.iter().any(is_pipeline) => {
                changes.iter().filter(|change| !is_pipeline(change)).cloned().collect()
            }
            _ => return unchanged.clone(),
        },
    };
    entry["record"] = serde_json::json!({ "group": changes });
    let json = entry.to_string();
    let checksum = crc32fast::hash(json.as_bytes());
    PutPayload::from(format!("MSJ1 {checksum:08x} {json}\n"))
}

impl Drop for PendingChange {
    fn drop(&mut self) {
        let Some(change) = self.change.take() else { return };
        let (process, store) = (self.process, self.store.clone());
        let mut world = world();
        if world.random.per_mille(500) {
            let delay_ns = world.random.between(1, 4_000) * 1_000_000;
            // The lock of the world must not be held while the change takes effect.
            let late = move |world: &mut World| {
                world.late_changes.push(Box::new(move || {
                    if let Err(error) = change.apply(process, &store) {
                        crate::world::world().note(&format!("a late change has no effect: {error}"));
                    }
                }))
            };
            world.after(delay_ns, late);
        }
    }
}

impl SimulatedStore {
    async fn change(&self, change: Change) -> Result<()> {
        let process = current();
        let is_put = matches!(change, Change::Put(..));
        let mut under_way = PendingChange {
            change: Some(change),
            process,
            store: self.0.clone(),
        };
        let struck = is_put.then(|| world().count_put(process)).flatten();
        transit().await?;
        if let Some((false, kind)) = struck {
            inject_fault(process, kind).await;
        }
        if world().store_fails(process) {
            under_way.change = None;
            return Err(failed("the put was refused for no reason"));
        }
        let Some(change) = under_way.change.take() else {
            return Err(failed("there is nothing to change"));
        };
        let done = change.apply(process, &self.0);
        if let Some((true, kind)) = struck {
            inject_fault(process, kind).await;
        }
        transit().await?;
        if world().store_fails(process) {
            return Err(failed("the answer was lost"));
        }
        done
    }
}

impl World {
    /// Returns the fault of the process at its next put, if any, and whether it comes after the put took effect.
    fn count_put(&mut self, process: ProcessId) -> Option<(bool, FaultKind)> {
        self.objects.puts += 1;
        let machine = self.machine_of(process);
        if let Some(struck) = self.fault_at_put(machine) {
            return Some(struck);
        }
        let (number, after) = self.objects.kill_at_put?;
        (number == self.objects.puts).then_some((after, FaultKind::Kill))
    }
}

/// Kills or pauses the process at this point.
async fn inject_fault(process: ProcessId, kind: FaultKind) {
    {
        let mut world = world();
        let machine = world.machine_of(process);
        world.fault_now(machine, kind);
    }
    crate::kernel::end_turn();
    match kind {
        FaultKind::Kill => std::future::pending().await,
        FaultKind::Pause => tokio::task::yield_now().await,
    }
}

#[async_trait]
impl ObjectStore for SimulatedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.change(Change::Put(location.clone(), payload, options.mode))
            .await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(failed("files of many megabytes are not simulated"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if !checks::is_checking() {
            transit().await?;
            if world().store_fails(current()) {
                return Err(failed("the read was refused for no reason"));
            }
        }
        self.0.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = Self(self.0.clone());
        let deleted = locations.then(move |path| {
            let store = Self(store.0.clone());
            async move {
                let path = path?;
                store.change(Change::Delete(path.clone())).await?;
                Ok(path)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if checks::is_checking() {
            return self.0.list(prefix);
        }
        let (store, prefix) = (self.0.clone(), prefix.cloned());
        let listed = async move {
            if let Err(error) = transit().await {
                return futures::stream::once(async { Err(error) }).boxed();
            }
            store.list(prefix.as_ref())
        };
        futures::stream::once(listed).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        transit().await?;
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(failed("nothing copies inside the store"))
    }
}
