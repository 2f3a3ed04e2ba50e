//! Events in, actions out: each row of a table is one step.

use std::collections::HashMap;

use millstream_proto::v1;
use millstream_runtime::subtask_state::{SplitState, SubtaskState};
use tokio::sync::oneshot;

use super::*;
use crate::job::Start;
use crate::resolve::{self, Overrides};

const SQL: &str = "
CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '1');
CREATE TABLE printed (n BIGINT) WITH ('connector' = 'print');
INSERT INTO printed SELECT n FROM numbers;
";

/// An updating query with consistency points.
const WITH_POINTS: &str = "
SET 'consistency.interval' = '1 s';
CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '1');
CREATE TABLE printed (n BIGINT) WITH ('connector' = 'print');
INSERT INTO printed SELECT COUNT(*) FROM numbers GROUP BY n;
";

fn job() -> Job {
    job_of(SQL)
}

fn job_of(script: &str) -> Job {
    let text = v1::SpecText {
        text: script.into(),
        file: "job.sql".into(),
    };
    let pipeline = v1::Pipeline {
        pipeline: Some(v1::pipeline::Pipeline::Sql(text)),
        environment: HashMap::new(),
    };
    let resolved = resolve::resolve(&pipeline, &Overrides::default(), 0).expect("it plans");
    resolved.job(1, "unused".into(), Start::Fresh)
}

fn short(action: &Action) -> String {
    match action {
        Action::Command(TaskCommand::Checkpoint { id, last: false, .. }) => format!("trigger {id}"),
        Action::Command(TaskCommand::Checkpoint { id, last: true, .. }) => format!("trigger-last {id}"),
        Action::Command(TaskCommand::Confirm { checkpoint }) => format!("confirm {checkpoint}"),
        Action::Command(command) => format!("{command:?}"),
        Action::Store(completed) => format!("store {}", completed.checkpoint),
        Action::Publish(completed) => format!("publish {}", completed.checkpoint),
        Action::Stored => "stored".into(),
        Action::Fail(_, retry) => format!("fail {retry:?}"),
        Action::Superseded(_) => "superseded".into(),
        Action::End(outcome) => format!("end {outcome:?}"),
    }
}

/// The checkpoints of a job, and what it takes to complete one.
struct Fixture<'a> {
    checkpoints: Checkpoints<'a>,
    job: &'a Job,
}

impl<'a> Fixture<'a> {
    fn new(job: &'a Job, progress: &'a Progress) -> Self {
        Self {
            checkpoints: Checkpoints::new(job, progress, 1, 1),
            job,
        }
    }

    #[track_caller]
    fn event(&mut self, event: Event, expected: &[&str]) {
        let actions = self.checkpoints.on_event(event);
        assert_eq!(actions.iter().map(short).collect::<Vec<_>>(), expected);
    }

    #[track_caller]
    fn result(&mut self, result: BackgroundResult, expected: &[&str]) {
        let actions = self.checkpoints.on_result(result);
        assert_eq!(actions.iter().map(short).collect::<Vec<_>>(), expected);
    }

    /// All subtasks acknowledge; the source has read up to `position`. Returns the completed checkpoint.
    #[track_caller]
    fn acknowledge_all(&mut self, checkpoint: u64, position: u8) -> Arc<Completed> {
        let mut actions = Vec::new();
        for node in &self.job.graph.nodes {
            let split = SplitState {
                id: "0".into(),
                position: vec![position],
                weight: 1,
                finished: false,
                watermark: None,
            };
            actions.extend(self.checkpoints.on_event(Event::Acknowledged {
                checkpoint,
                operator: node.id.clone(),
                state: SubtaskState {
                    splits: vec![split],
                    ..SubtaskState::default()
                },
            }));
        }
        match actions.as_slice() {
            [Action::Store(completed)] => completed.clone(),
            actions => panic!("{actions:?}"),
        }
    }

    /// The manifest is written and the output published.
    #[track_caller]
    fn store_and_publish(&mut self, completed: Arc<Completed>, then: &[&str]) {
        let checkpoint = completed.checkpoint;
        self.checkpoints.begin_storing(completed);
        let stored = BackgroundResult::Checkpoint(Event::Stored { checkpoint });
        self.result(stored, &["stored", &format!("publish {checkpoint}")]);
        let confirm = format!("confirm {checkpoint}");
        let expected: Vec<&str> = [confirm.as_str()].into_iter().chain(then.iter().copied()).collect();
        self.result(BackgroundResult::Checkpoint(Event::Published { checkpoint }), &expected);
    }
}

fn answer(waiter: &mut oneshot::Receiver<Result<TakenCheckpoint, String>>) -> Result<(u64, bool), String> {
    let taken = waiter.try_recv().expect("it is answered")?;
    Ok((taken.checkpoint, taken.is_unchanged))
}

#[test]
fn a_caller_is_answered_when_the_checkpoint_it_waits_for_is_published() {
    let (job, progress) = (job(), Progress::default());
    let mut fixture = Fixture::new(&job, &progress);
    let mut first = job.checkpoint_requests.request();
    fixture.event(Event::Requested, &["trigger 1"]);
    let completed = fixture.acknowledge_all(1, 7);
    // One that comes while the checkpoint is under way waits for the next.
    let mut second = job.checkpoint_requests.request();
    fixture.store_and_publish(completed, &["trigger 2"]);
    assert_eq!(answer(&mut first), Ok((1, false)));
    assert_eq!(fixture.checkpoints.newest(), Some(1));

    // The second has the same content as the first, which stands for it.
    let completed = fixture.acknowledge_all(2, 7);
    assert!(fixture.checkpoints.is_unchanged(&completed));
    let unchanged = BackgroundResult::Checkpoint(Event::Unchanged { checkpoint: 2 });
    fixture.result(unchanged, &["confirm 2"]);
    assert_eq!(answer(&mut second), Ok((1, true)));
    assert_eq!(fixture.checkpoints.newest(), Some(1));
}

#[test]
fn a_caller_is_told_why_its_checkpoint_failed_and_the_next_request_is_served() {
    let (job, progress) = (job(), Progress::default());
    let mut fixture = Fixture::new(&job, &progress);
    let mut waiter = job.checkpoint_requests.request();
    fixture.event(Event::Requested, &["trigger 1"]);
    job.checkpoint_requests.request_savepoint("s");
    let declined = Event::Declined {
        checkpoint: 1,
        operator: job.graph.nodes[0].id.clone(),
        subtask: 0,
        reason: "disk".into(),
        rows_lost: false,
    };
    fixture.event(declined, &["trigger 2"]);
    assert!(answer(&mut waiter).unwrap_err().ends_with("disk"));
    assert_eq!(progress.report().checkpoints_failed, 1);
}

#[test]
fn a_checkpoint_with_new_positions_or_the_last_one_is_stored() {
    let (job, progress) = (job(), Progress::default());
    let mut fixture = Fixture::new(&job, &progress);
    fixture.event(Event::Requested, &["trigger 1"]);
    let completed = fixture.acknowledge_all(1, 7);
    assert!(!fixture.checkpoints.is_unchanged(&completed), "it is the first");
    fixture.store_and_publish(completed, &[]);
    fixture.event(Event::Requested, &["trigger 2"]);
    let completed = fixture.acknowledge_all(2, 8);
    assert!(!fixture.checkpoints.is_unchanged(&completed), "positions have moved");
    fixture.store_and_publish(completed, &[]);
    fixture.event(Event::Stop, &["trigger-last 3"]);
    let completed = fixture.acknowledge_all(3, 8);
    assert!(!fixture.checkpoints.is_unchanged(&completed), "it is the last");
    fixture.store_and_publish(completed, &["end Stopped { checkpoint: 3 }"]);
}

#[test]
fn the_retryability_of_a_failure_is_that_of_its_cause() {
    let (job, progress) = (job(), Progress::default());
    let mut fixture = Fixture::new(&job, &progress);
    fixture.event(Event::Stop, &["trigger-last 1"]);
    let completed = fixture.acknowledge_all(1, 7);
    fixture.checkpoints.begin_storing(completed);
    let event = Event::NotStored {
        checkpoint: 1,
        reason: "no space".into(),
    };
    fixture.result(BackgroundResult::Failed(event, Retry::Unlimited), &["fail Unlimited"]);
}

#[test]
fn the_last_checkpoint_savepoints_and_every_other_one_after_failures_align() {
    for (last, is_savepoint, failures_in_row, expected) in [
        (false, false, 0, false),
        (false, false, 1, true),
        (false, false, 2, false),
        (true, false, 0, true),
        (false, true, 2, true),
    ] {
        assert_eq!(must_align(last, is_savepoint, failures_in_row), expected);
    }
}

#[test]
fn barriers_of_a_job_with_consistency_points_never_overtake_rows() {
    for (script, overtake) in [(SQL, true), (WITH_POINTS, false)] {
        let (job, progress) = (job_of(script), Progress::default());
        let mut fixture = Fixture::new(&job, &progress);
        let actions = fixture.checkpoints.on_event(Event::Requested);
        let [Action::Command(TaskCommand::Checkpoint { aligned_timeout, .. })] = actions.as_slice() else {
            panic!("{actions:?}");
        };
        assert_eq!(aligned_timeout.is_some(), overtake);
    }
}
