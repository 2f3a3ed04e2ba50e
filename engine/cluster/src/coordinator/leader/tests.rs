//! A leader whose journal cannot be written for a while.

use std::path::Path;

use super::*;
use crate::coordinator::data_dir::DataDir;
use crate::coordinator::ledger::tests::{record, transition};
use crate::coordinator::ledger::{Placement, RunProgress, RunTotals, Status, Transition};
use crate::coordinator::runs;
use crate::coordinator::worker_gateway::WorkerGateway;

/// A journal folder that is not there: a file is in its place.
fn take_away(journal: &Path) {
    std::fs::rename(journal, journal.with_extension("away")).expect("it is renamed");
    std::fs::write(journal, "").expect("a file");
}

fn bring_back(journal: &Path) {
    std::fs::remove_file(journal).expect("the file");
    std::fs::rename(journal.with_extension("away"), journal).expect("it is renamed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn placements_outlast_a_journal_outage_with_counters_of_1000_jobs() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = DataDir::open(&dir.path().display().to_string(), None, now_us()).await;
    let folder = folder.expect("a data folder");
    let mut journal = folder.journal().claim::<Ledger>("http://a").await.expect("a claim");
    let jobs: Vec<String> = (0..1_000).map(|number| format!("job-{number}")).collect();
    let submitted = jobs.iter().map(|job| {
        let mut record = record(job);
        // Nothing of it is started here.
        record.enter(Transition::new(Status::Finished, 2, ""));
        Change::Submitted(Box::new(record))
    });
    journal.append(submitted.collect()).await.expect("it is written");
    let (executors, events) =
        WorkerGateway::default().executor_factory()(folder.cluster(), journal.epoch(), Vec::new());
    let leader = Leader::start(
        folder.cluster(),
        journal,
        executors,
        events,
        Limits::default(),
        folder.checkpoints(),
        runs::start,
    );
    let happened = |change: Change| leader.execute(&mut leader.inner.lock(), vec![Command::Journal(change)]);

    let path = dir.path().join("journal");
    take_away(&path);
    let placement = Placement {
        slots: vec!["worker".into()],
        attempts: vec!["attempt".into()],
        is_ending: false,
    };
    happened(Change::Placed {
        job: "job-7".into(),
        attempts: 1,
        placement: Some(placement.clone()),
    });
    happened(transition("job-7", Status::Running, 3));
    // The record with the placement seems to have failed; counters come behind it.
    assert!(leader.write_unwritten().await.is_some(), "the journal is away");
    for rows_in in 0..12 {
        for job in &jobs {
            let attempt = RunTotals {
                rows_in,
                ..RunTotals::default()
            };
            let settled = RunTotals::default();
            let run_progress = Box::new(RunProgress { settled, attempt });
            happened(Change::RunProgress {
                job: job.clone(),
                run_progress,
            });
        }
    }
    assert!(leader.write_unwritten().await.is_some(), "the journal is still away");
    bring_back(&path);
    assert_eq!(leader.write_unwritten().await, None);

    let ledger = folder.journal().read::<Ledger>().await.expect("the journal").state;
    let job = &ledger.jobs["job-7"];
    assert_eq!(job.placement, Some(placement));
    assert_eq!(job.current().status, Status::Running);
    for job in ledger.jobs.values() {
        let run_progress = job.run_progress.as_ref().expect("it was told");
        assert_eq!(run_progress.attempt.rows_in, 11, "{}", job.name);
    }
    leader.end("the test is over");
}
