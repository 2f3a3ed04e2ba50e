//! Regions: sets of slots whose tasks fail and restart together.
//!
//! Rows that go from one subtask to another tie both together: when one restarts from a checkpoint, the other must,
//! or rows are missing or duplicated between them. A region is therefore a connected component of slots: connected by
//! the edges between their subtasks, and because tasks of one slot share its thread. Slots on one worker are one
//! region, too: the worker runs them as one part, and they are lost together.
//!
//! A job whose rows never change their subtask has one region per worker; a job with an exchange by key has only one.

use millstream_graph::{Exchange, JobGraph, Parallelism};

/// Divides slots into regions, both in ascending order. `slots` names the worker of each slot; there are as many as
/// subtasks.
pub(crate) fn divide(graph: &JobGraph, slots: &[String]) -> Vec<Vec<usize>> {
    let mut region_of: Vec<usize> = (0..slots.len()).collect();
    for (slot, worker) in slots.iter().enumerate() {
        if let Some(first) = slots[..slot].iter().position(|other| other == worker) {
            join(&mut region_of, first, slot);
        }
    }
    let subtasks = |node: usize| match graph.nodes[node].parallelism {
        Parallelism::Job => slots.len(),
        Parallelism::One => 1.min(slots.len()),
    };
    for edge in &graph.edges {
        let (from, to) = (subtasks(edge.from), subtasks(edge.to));
        let stays = edge.exchange == Exchange::Forward && from == to;
        if !stays {
            // The sending and the receiving subtasks begin at the first slot.
            (1..from.max(to)).for_each(|slot| join(&mut region_of, 0, slot));
        }
    }
    let mut regions: Vec<Vec<usize>> = Vec::new();
    for slot in 0..slots.len() {
        match regions
            .iter_mut()
            .find(|region| region_of[region[0]] == region_of[slot])
        {
            Some(region) => region.push(slot),
            None => regions.push(vec![slot]),
        }
    }
    regions
}

/// Merges the regions of two slots.
fn join(region_of: &mut [usize], one: usize, other: usize) {
    let (kept, gone) = (region_of[one], region_of[other]);
    for region in region_of {
        if *region == gone {
            *region = kept;
        }
    }
}

/// Returns the attempt id of each slot: workers know the tasks of each region by an id of its own.
pub(crate) fn attempt_ids(attempt: &str, regions: &[Vec<usize>], slots: usize) -> Vec<String> {
    let mut attempts = vec![attempt.to_string(); slots];
    if regions.len() > 1 {
        for (region, slots) in regions.iter().enumerate() {
            slots
                .iter()
                .for_each(|slot| attempts[*slot] = format!("{attempt}-{region}"));
        }
    }
    attempts
}

/// Returns the regions of tasks whose slots have these attempt ids.
pub(crate) fn regions_of_attempts(attempts: &[String]) -> Vec<Vec<usize>> {
    let mut regions: Vec<Vec<usize>> = Vec::new();
    for (slot, attempt) in attempts.iter().enumerate() {
        match regions.iter_mut().find(|region| attempts[region[0]] == *attempt) {
            Some(region) => region.push(slot),
            None => regions.push(vec![slot]),
        }
    }
    regions
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;
    use millstream_graph::{Calc, Edge, ErrorPolicy, Node, Operator, OperatorId, Port, Stream};

    use super::*;

    type EdgeSpec = (usize, usize, Exchange);

    fn graph(nodes: &[Parallelism], edges: &[EdgeSpec]) -> JobGraph {
        let node = |(index, parallelism): (usize, &Parallelism)| Node {
            id: OperatorId(format!("node {index}")),
            operator: Operator::Calc(Calc {
                filter: None,
                projection: Vec::new(),
                on_error: ErrorPolicy::Fail,
            }),
            output: Stream {
                schema: Arc::new(Schema::empty()),
                event_time: None,
                window: None,
                changelog: millstream_graph::ChangelogMode::Append,
                upsert_keys: Vec::new(),
            },
            parallelism: *parallelism,
        };
        let edge = |(from, to, exchange): &EdgeSpec| Edge {
            from: *from,
            port: Port::Main,
            to: *to,
            input: 0,
            exchange: exchange.clone(),
        };
        JobGraph {
            name: "test".into(),
            nodes: nodes.iter().enumerate().map(node).collect(),
            edges: edges.iter().map(edge).collect(),
            max_parallelism: 128,
            consistency_interval: None,
            fingerprint: 0,
        }
    }

    #[track_caller]
    fn check(nodes: &[Parallelism], edges: &[EdgeSpec], slots: &str, expected: &[&[usize]]) {
        let slots: Vec<String> = slots.split_whitespace().map(str::to_string).collect();
        assert_eq!(divide(&graph(nodes, edges), &slots), expected);
    }

    #[test]
    fn only_subtasks_that_no_edge_connects_restart_separately() {
        use Exchange::{Broadcast, Forward, Hash, Rebalance};
        use Parallelism::{Job, One};
        let (all, chain) = (&[Job, Job, Job][..], [(0, 1, Forward), (1, 2, Forward)]);
        check(all, &chain, "a b c", &[&[0], &[1], &[2]]);
        check(all, &chain, "a a b", &[&[0, 1], &[2]]);
        check(all, &chain, "a", &[&[0]]);
        for exchange in [Hash(vec![0]), Rebalance, Broadcast] {
            check(all, &[(0, 1, Forward), (1, 2, exchange)], "a b", &[&[0, 1]]);
        }
        // Pipelines without a common edge share their slots.
        check(all, &[(1, 2, Hash(vec![0]))], "a b", &[&[0, 1]]);
        check(&[One, One], &[(0, 1, Forward)], "a b", &[&[0], &[1]]);
        check(&[Job, One], &[(0, 1, Forward)], "a b c", &[&[0, 1, 2]]);
        check(
            &[Job, Job, Job, Job],
            &[(0, 1, Forward), (2, 3, Forward)],
            "b a",
            &[&[0], &[1]],
        );
    }

    #[test]
    fn a_job_of_one_region_is_one_attempt() {
        assert_eq!(attempt_ids("x", &[vec![0, 1]], 2), ["x", "x"]);
        let several = attempt_ids("x", &[vec![0, 2], vec![1]], 3);
        assert_eq!(several, ["x-0", "x-1", "x-0"]);
        assert_eq!(regions_of_attempts(&several), [vec![0, 2], vec![1]]);
    }
}
