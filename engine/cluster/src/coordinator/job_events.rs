//! Streams of changes of jobs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use millstream_proto::v1;

use crate::api;
use crate::coordinator::job_view;
use crate::coordinator::leader::Leader;

/// Minimum time between two batches of changes.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Returns the present state of jobs, then each change, until the leader ends. Without names, all jobs are watched.
pub(super) fn watch(
    leader: &Arc<Leader>,
    request: v1::WatchJobsRequest,
) -> Result<BoxStream<'static, v1::JobEvent>, api::Error> {
    for name in &request.names {
        job_view::describe(leader, name)?;
    }
    let mut versions = leader.versions();
    versions.mark_changed();
    let weak = Arc::downgrade(leader);
    let sent_versions: BTreeMap<String, u64> = BTreeMap::new();
    let changes = stream::unfold(
        (versions, sent_versions, true),
        move |(mut versions, sent_versions, first)| {
            let (weak, names) = (weak.clone(), request.names.clone());
            async move {
                if !first {
                    tokio::time::sleep(WATCH_INTERVAL).await;
                }
                versions.changed().await.ok()?;
                versions.borrow_and_update();
                let (events, sent_versions) = changed_jobs(&*weak.upgrade()?, &names, sent_versions);
                Some((stream::iter(events), (versions, sent_versions, false)))
            }
        },
    );
    let leader = leader.clone();
    let ended = async move { leader.ended().await };
    Ok(changes.flatten().take_until(Box::pin(ended)).boxed())
}

/// Returns the changes since the versions in `sent_versions`, and the new versions.
fn changed_jobs(
    leader: &Leader,
    names: &[String],
    mut sent_versions: BTreeMap<String, u64>,
) -> (Vec<v1::JobEvent>, BTreeMap<String, u64>) {
    let events = leader.with(|inner| {
        let jobs = inner.state.jobs();
        let mut events = Vec::new();
        sent_versions.retain(|name, _| {
            let exists = jobs.contains_key(name);
            if !exists {
                events.push(v1::JobEvent {
                    job: Some(v1::Job {
                        name: name.clone(),
                        ..v1::Job::default()
                    }),
                    deleted: true,
                });
            }
            exists
        });
        for (name, job) in jobs {
            if (names.is_empty() || names.contains(name)) && sent_versions.get(name) != Some(&job.version) {
                sent_versions.insert(name.clone(), job.version);
                events.push(v1::JobEvent {
                    job: Some(job_view::job(job, inner.runs.get(name), inner.state.slots(), true)),
                    deleted: false,
                });
            }
        }
        events
    });
    (events, sent_versions)
}
