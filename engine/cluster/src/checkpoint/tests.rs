//! Events in, commands out: each row of a table is one step.

use millstream_connectors::Committable;

use super::*;

fn operator(name: &str) -> OperatorId {
    OperatorId(name.to_string())
}

/// A source and a sink of two subtasks each. Checkpoints are triggered every 100 ms and time out after 50.
fn coordinator() -> Coordinator {
    let participants = ["in", "out"]
        .iter()
        .flat_map(|name| [(operator(name), 0), (operator(name), 1)])
        .collect();
    let config = Config {
        interval_ms: 100,
        min_pause_ms: 10,
        timeout_ms: 50,
        tolerable_failures: 1,
        aligned_timeout_ms: None,
    };
    Coordinator::new(config, participants, 1, 0)
}

fn ack(checkpoint: u64, name: &str, subtask: usize) -> Event {
    let committables = match name {
        "out" => vec![Committable::new(vec![checkpoint as u8, subtask as u8])],
        _ => Vec::new(),
    };
    Event::Acknowledged {
        checkpoint,
        operator: operator(name),
        state: SubtaskState {
            subtask,
            committables,
            ..SubtaskState::default()
        },
    }
}

fn declined(checkpoint: u64, name: &str, subtask: usize) -> Event {
    Event::Declined {
        checkpoint,
        operator: operator(name),
        subtask,
        reason: "no".into(),
        rows_lost: name == "out",
    }
}

/// Commands in short: `trigger 1`, `trigger-last 1`, `store 1 [committables of out]`, `publish 1`, `warn 1`, `fail`,
/// `done`.
fn short(commands: &[Command]) -> String {
    let texts: Vec<_> = commands
        .iter()
        .map(|command| match command {
            Command::Trigger {
                checkpoint,
                last: false,
            } => format!("trigger {checkpoint}"),
            Command::Trigger { checkpoint, last: true } => format!("trigger-last {checkpoint}"),
            Command::Store(completed) => {
                let committables: Vec<_> = completed.states[&operator("out")]
                    .iter()
                    .flat_map(|state| state.committables.iter().map(|committable| committable.content.clone()))
                    .collect();
                let finished = if completed.finished { " finished" } else { "" };
                format!("store {} {committables:?}{finished}", completed.checkpoint)
            }
            Command::Publish(completed) => format!("publish {}", completed.checkpoint),
            Command::Warn { checkpoint, .. } => format!("warn {checkpoint}"),
            Command::Fail { .. } => "fail".into(),
            Command::Done => "done".into(),
        })
        .collect();
    texts.join("; ")
}

#[track_caller]
fn check(steps: Vec<(u64, Event, &str)>) {
    let mut coordinator = coordinator();
    for (step, (now_ms, event, expected)) in steps.into_iter().enumerate() {
        let text = format!("{event:?}");
        assert_eq!(
            short(&coordinator.on_event(event, now_ms)),
            expected,
            "step {step}: {text}"
        );
    }
}

fn stored(checkpoint: u64) -> Event {
    Event::Stored { checkpoint }
}

fn published(checkpoint: u64) -> Event {
    Event::Published { checkpoint }
}

#[test]
fn a_checkpoint_exists_when_all_answered_and_is_published_after_it_is_stored() {
    check(vec![
        (99, Event::Tick, ""),
        (100, Event::Tick, "trigger 1"),
        (101, ack(1, "in", 0), ""),
        (102, ack(1, "in", 1), ""),
        (103, ack(1, "out", 1), ""),
        (103, ack(1, "out", 1), ""),
        (104, ack(1, "out", 0), "store 1 [[1, 0], [1, 1]]"),
        (300, Event::Tick, ""),
        (301, stored(1), "publish 1"),
        (302, published(1), ""),
        (311, Event::Tick, ""),
        (312, Event::Tick, "trigger 2"),
    ]);
}

#[test]
fn an_unchanged_checkpoint_counts_as_a_stored_one() {
    check(vec![
        (100, Event::Tick, "trigger 1"),
        (101, ack(1, "in", 0), ""),
        (101, ack(1, "in", 1), ""),
        (101, ack(1, "out", 0), ""),
        (102, ack(1, "out", 1), "store 1 [[1, 0], [1, 1]]"),
        (103, Event::Unchanged { checkpoint: 1 }, ""),
        (199, Event::Tick, ""),
        (200, Event::Tick, "trigger 2"),
    ]);
}

#[test]
fn a_failed_checkpoint_is_followed_by_another_and_its_late_answers_are_not_taken_for_it() {
    check(vec![
        (100, Event::Tick, "trigger 1"),
        (101, ack(1, "out", 0), ""),
        (102, declined(1, "in", 0), "warn 1"),
        (202, Event::Tick, "trigger 2"),
        (203, ack(2, "in", 0), ""),
        (203, ack(2, "in", 1), ""),
        (203, ack(2, "out", 0), ""),
        (204, ack(1, "out", 1), ""),
        (205, ack(2, "out", 1), "store 2 [[2, 0], [2, 1]]"),
    ]);
}

#[test]
fn a_manifest_that_was_not_written_is_a_failed_checkpoint() {
    check(vec![
        (100, Event::Tick, "trigger 1"),
        (101, ack(1, "in", 0), ""),
        (101, ack(1, "in", 1), ""),
        (101, ack(1, "out", 0), ""),
        (101, ack(1, "out", 1), "store 1 [[1, 0], [1, 1]]"),
        (
            102,
            Event::NotStored {
                checkpoint: 1,
                reason: "full".into(),
            },
            "warn 1",
        ),
        (202, Event::Tick, "trigger 2"),
    ]);
}

#[test]
fn too_many_failures_in_a_row_fail_the_attempt() {
    check(vec![
        (100, Event::Tick, "trigger 1"),
        (149, Event::Tick, ""),
        (150, Event::Tick, "warn 1"),
        (250, Event::Tick, "trigger 2"),
        (300, Event::Tick, "fail"),
        (900, Event::Tick, ""),
    ]);
}

#[test]
fn a_sink_that_cannot_prepare_fails_the_attempt_at_once() {
    check(vec![
        (100, Event::Tick, "trigger 1"),
        (101, declined(1, "out", 0), "fail"),
    ]);
    check(vec![
        (100, Event::Tick, "trigger 1"),
        (101, declined(1, "in", 0), "warn 1"),
        (102, declined(1, "out", 0), "fail"),
    ]);
}

#[test]
fn stop_takes_one_last_checkpoint_at_once() {
    check(vec![
        (5, Event::Stop, "trigger-last 1"),
        (6, ack(1, "in", 0), ""),
        (6, ack(1, "in", 1), ""),
        (6, ack(1, "out", 0), ""),
        (6, ack(1, "out", 1), "store 1 [[1, 0], [1, 1]]"),
        (7, stored(1), "publish 1"),
        (8, published(1), "done"),
        (900, Event::Tick, ""),
    ]);
}

#[test]
fn the_end_of_input_waits_for_the_checkpoint_under_way() {
    check(vec![
        (100, Event::Tick, "trigger 1"),
        (101, Event::InputEnded, ""),
        (102, ack(1, "in", 0), ""),
        (102, ack(1, "in", 1), ""),
        (102, ack(1, "out", 0), ""),
        (102, ack(1, "out", 1), "store 1 [[1, 0], [1, 1]]"),
        (103, stored(1), "publish 1"),
        (104, published(1), "trigger-last 2"),
        (105, ack(2, "in", 0), ""),
        (105, ack(2, "in", 1), ""),
        (105, ack(2, "out", 0), ""),
        (105, ack(2, "out", 1), "store 2 [[2, 0], [2, 1]] finished"),
        (106, stored(2), "publish 2"),
        (107, published(2), "done"),
    ]);
}

#[test]
fn a_failed_last_checkpoint_fails_the_attempt() {
    check(vec![
        (5, Event::InputEnded, "trigger-last 1"),
        (55, Event::Tick, "fail"),
    ]);
}

#[test]
fn a_sink_that_cannot_publish_fails_the_attempt() {
    check(vec![
        (5, Event::Stop, "trigger-last 1"),
        (6, ack(1, "in", 0), ""),
        (6, ack(1, "in", 1), ""),
        (6, ack(1, "out", 0), ""),
        (6, ack(1, "out", 1), "store 1 [[1, 0], [1, 1]]"),
        (7, stored(1), "publish 1"),
        (
            8,
            Event::NotPublished {
                checkpoint: 1,
                reason: "gone".into(),
            },
            "fail",
        ),
    ]);
}

#[test]
fn answers_for_other_checkpoints_change_nothing() {
    check(vec![
        (1, ack(7, "in", 0), ""),
        (100, Event::Tick, "trigger 1"),
        (101, stored(1), ""),
        (101, published(1), ""),
        (101, declined(9, "out", 0), ""),
    ]);
}

#[test]
fn while_a_region_restarts_no_checkpoint_is_triggered_and_one_under_way_is_aborted() {
    let suspend = || Event::Suspend {
        reason: "a region failed".into(),
    };
    let mut steps = vec![
        (100, Event::Tick, "trigger 1"),
        (101, ack(1, "in", 0), ""),
        (102, suspend(), "warn 1"),
        (103, ack(1, "in", 1), ""),
        (103, ack(1, "out", 0), ""),
        (103, ack(1, "out", 1), ""),
        (200, Event::Tick, ""),
        (300, Event::Requested, ""),
        (301, Event::Resume, "trigger 2"),
    ];
    steps.extend([("in", 0), ("in", 1), ("out", 0)].map(|(id, subtask)| (302, ack(2, id, subtask), "")));
    steps.extend([
        (303, ack(2, "out", 1), "store 2 [[2, 0], [2, 1]]"),
        // A checkpoint that all have acknowledged is not aborted.
        (304, suspend(), ""),
        (305, stored(2), "publish 2"),
        (306, published(2), ""),
        (900, Event::Tick, ""),
        (901, Event::Resume, "trigger 3"),
    ]);
    check(steps);
}
