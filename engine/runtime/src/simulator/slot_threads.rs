//! Tests of the same graph on slot threads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::job::{ROWS, SPLITS, deployment, graph};
use super::simulation::Checkpoint;
use super::test_connectors::CollectingSink;
use super::{check, collect, positions};
use crate::command::{Command, TaskEvent};
use crate::deployment::{deploy, restore};
use crate::job::RunningJob;

async fn collect_checkpoint(job: &mut RunningJob, id: u64, parts: usize) -> Checkpoint {
    let mut checkpoint = Checkpoint::new();
    let mut count = 0;
    while count < parts {
        match job.next_event().await.expect("the job goes on") {
            TaskEvent::Snapshot {
                checkpoint: found,
                operator,
                state,
            } if found == id => {
                checkpoint.entry(operator).or_default().push(state);
                count += 1;
            }
            TaskEvent::Finished => {}
            event => panic!("{event:?}"),
        }
    }
    checkpoint
}

fn checkpoint(id: u64, last: bool) -> Command {
    Command::Checkpoint {
        id,
        last,
        aligned_timeout: None,
    }
}

fn multi_threaded() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

#[test]
fn a_job_on_slot_threads_checkpoints_finishes_and_stops() {
    let runtime = multi_threaded();
    let folder = tempfile::tempdir().expect("a folder for the test");
    let start = deployment(graph(), 2, 7, runtime.handle(), folder.path(), &HashMap::new(), 4_000);
    let parts = start.graph.nodes.len() * 2;
    runtime.block_on(async {
        let restored = restore(&start).await.expect("its state is here");
        let mut job = deploy(start, restored).await.expect("the job starts");
        job.send(checkpoint(1, false)).expect("the job listens");
        let first = collect_checkpoint(&mut job, 1, parts).await;
        job.send(checkpoint(2, false)).expect("the job listens");
        let second = collect_checkpoint(&mut job, 2, parts).await;
        while !job.counters().progress().is_complete {
            tokio::task::yield_now().await;
        }
        job.send(checkpoint(3, true)).expect("the job listens");
        let third = collect_checkpoint(&mut job, 3, parts).await;
        let mut committed = BTreeMap::new();
        for checkpoint in [&first, &second, &third] {
            collect(checkpoint, 0, &mut committed);
            check(7, 0, &positions(checkpoint), &committed);
        }
        assert_eq!(job.progress().rows_in, 2 * SPLITS * ROWS);
        job.send(Command::Cancel).expect("the job listens");
        loop {
            match job.next_event().await {
                Some(TaskEvent::Stopped) => break,
                Some(TaskEvent::Finished) => {}
                event => panic!("{event:?}"),
            }
        }
        assert!(job.next_event().await.is_none());
    });
}

#[test]
fn a_panic_fails_the_job_naming_the_operator() {
    let runtime = multi_threaded();
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut start = deployment(graph(), 2, 7, runtime.handle(), folder.path(), &HashMap::new(), 4_000);
    start.sinks.insert(
        4,
        Arc::new(CollectingSink {
            panic_at: Some(100),
            ..CollectingSink::default()
        }),
    );
    runtime.block_on(async {
        let restored = restore(&start).await.expect("its state is here");
        let mut job = deploy(start, restored).await.expect("the job starts");
        match job.next_event().await.expect("the job goes on") {
            TaskEvent::Failed { operator, error, .. } => {
                assert_eq!(operator.0, "all");
                assert!(error.to_string().contains("the id to panic at was written"), "{error}");
            }
            event => panic!("{event:?}"),
        }
        assert!(matches!(job.next_event().await, Some(TaskEvent::Stopped)));
        assert!(job.next_event().await.is_none());
    });
}
