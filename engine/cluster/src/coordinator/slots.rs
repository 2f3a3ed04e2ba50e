//! Slots of the workers and their leases. This module makes no decisions about jobs.
//!
//! A *lease* is the set of slots of one attempt of one job, as a list of workers. Workers attach, are drained, are
//! lost and return. A lease lasts until its attempt returns it, whatever happens to the workers.

use std::collections::BTreeMap;

/// Lost and departed workers that are listed.
const GONE_WORKERS_MAX: usize = 100;
/// Time for which they are listed.
const GONE_KEPT_US: i64 = 600_000_000;

/// Number of a lease.
pub(super) type LeaseId = u64;

/// Workers, and the leases of their slots.
#[derive(Debug, Default)]
pub struct Slots {
    workers: BTreeMap<String, Worker>,
    leases: BTreeMap<LeaseId, Lease>,
    next_lease: LeaseId,
}

/// A worker that is attached, or was until recently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Random id of the worker's process.
    pub incarnation: String,
    pub slots: u32,
    pub state: WorkerState,
    pub reachability: Reachability,
    /// Time of the last change of its state or reachability.
    pub since_us: i64,
}

/// Reachability of a worker for others. It takes no tasks before it was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reachability {
    Unknown,
    Reached,
    /// With the reason.
    Unreachable(String),
}

/// State of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    Ready,
    /// It takes no new tasks, and its tasks are being moved.
    Draining,
    /// Draining because its process was asked to end.
    Leaving,
    Lost,
    /// It ended in an orderly way, without tasks.
    Left,
}

impl WorkerState {
    /// Returns true if the worker is not attached.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Lost | Self::Left)
    }
}

/// Slots of one attempt of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub job: String,
    /// Worker of each slot.
    pub slots: Vec<String>,
}

impl Slots {
    /// Returns all workers by name.
    pub fn workers(&self) -> &BTreeMap<String, Worker> {
        &self.workers
    }

    /// Returns a lease by its number.
    pub fn lease(&self, lease: LeaseId) -> Option<&Lease> {
        self.leases.get(&lease)
    }

    /// Adds a worker, or one that returned. A worker that was draining keeps draining if it is the same process.
    pub fn attach(&mut self, name: &str, incarnation: &str, slots: u32, now_us: i64) {
        let known = self.workers.get(name).filter(|known| known.incarnation == incarnation);
        let reachability = known.map_or(Reachability::Unknown, |known| known.reachability.clone());
        let state = match known.map(|known| known.state) {
            None | Some(WorkerState::Lost | WorkerState::Left) => WorkerState::Ready,
            Some(state) => state,
        };
        let worker = Worker {
            incarnation: incarnation.to_string(),
            slots,
            state,
            reachability,
            since_us: now_us,
        };
        self.workers.insert(name.to_string(), worker);
    }

    /// Records the result of connecting to a worker. Returns true if its reachability changed. A worker that was
    /// reached once stays reachable.
    pub fn reached(&mut self, name: &str, incarnation: &str, found: Result<(), String>, now_us: i64) -> bool {
        let reachability = match found {
            Ok(()) => Reachability::Reached,
            Err(reason) => Reachability::Unreachable(reason),
        };
        match self.workers.get_mut(name) {
            Some(worker)
                if worker.incarnation == incarnation
                    && ![&reachability, &Reachability::Reached].contains(&&worker.reachability) =>
            {
                // The time since which it cannot be reached does not change with the reason.
                if reachability == Reachability::Reached || worker.reachability == Reachability::Unknown {
                    worker.since_us = now_us;
                }
                worker.reachability = reachability;
                true
            }
            _ => false,
        }
    }

    /// Returns the attached workers that would take tasks but cannot be reached.
    pub fn unreachable(&self) -> impl Iterator<Item = &String> {
        let unreachable = |worker: &Worker| {
            worker.state == WorkerState::Ready && matches!(worker.reachability, Reachability::Unreachable(_))
        };
        self.workers
            .iter()
            .filter(move |(_, worker)| unreachable(worker))
            .map(|(name, _)| name)
    }

    /// Marks a worker as lost. Returns false if it was gone already or is a newer process.
    pub fn lose(&mut self, name: &str, incarnation: &str, now_us: i64) -> bool {
        let is_empty = self.used(name) == 0;
        let Some(worker) = self.workers.get_mut(name) else {
            return false;
        };
        if worker.incarnation != incarnation || worker.state.is_gone() {
            return false;
        }
        worker.state = match worker.state {
            WorkerState::Leaving if is_empty => WorkerState::Left,
            _ => WorkerState::Lost,
        };
        worker.since_us = now_us;
        let gone = self.gone();
        if gone.clone().count() > GONE_WORKERS_MAX
            && let Some((oldest, _)) = gone.min_by_key(|(_, worker)| worker.since_us)
        {
            let oldest = oldest.clone();
            self.workers.remove(&oldest);
        }
        true
    }

    /// Removes workers that were lost long ago.
    pub fn forget_gone(&mut self, now_us: i64) {
        self.workers
            .retain(|_, worker| !worker.state.is_gone() || now_us < worker.since_us + GONE_KEPT_US);
    }

    /// Returns the next time at which [`Slots::forget_gone`] has an effect.
    pub fn next_forget_us(&self) -> Option<i64> {
        self.gone().map(|(_, worker)| worker.since_us + GONE_KEPT_US).min()
    }

    fn gone(&self) -> impl Iterator<Item = (&String, &Worker)> + Clone {
        self.workers.iter().filter(|(_, worker)| worker.state.is_gone())
    }

    /// Marks a worker as draining or leaving. Returns true if it is attached, so that its tasks are to be moved.
    pub fn drain(&mut self, name: &str, state: WorkerState, now_us: i64) -> bool {
        match self.workers.get_mut(name) {
            Some(worker) if !worker.state.is_gone() => {
                if worker.state != WorkerState::Leaving {
                    worker.state = state;
                    worker.since_us = now_us;
                }
                true
            }
            _ => false,
        }
    }

    /// Lets a draining worker take tasks again. Returns false if it was not draining, or is leaving.
    pub fn undrain(&mut self, name: &str, now_us: i64) -> bool {
        match self.workers.get_mut(name) {
            Some(worker) if worker.state == WorkerState::Draining => {
                worker.state = WorkerState::Ready;
                worker.since_us = now_us;
                true
            }
            _ => false,
        }
    }

    /// Returns the number of slots of workers that take tasks.
    pub fn offered(&self) -> usize {
        self.ready().map(|(_, worker)| worker.slots as usize).sum()
    }

    /// Returns the number of free slots of workers that take tasks.
    pub fn free(&self) -> usize {
        let used = self.used_by_worker();
        self.ready()
            .map(|(name, worker)| (worker.slots as usize).saturating_sub(used.get(name).copied().unwrap_or(0)))
            .sum()
    }

    /// Returns the number of leased slots of a worker.
    pub fn used(&self, worker: &str) -> usize {
        let slots = self.leases.values().flat_map(|lease| &lease.slots);
        slots.filter(|name| *name == worker).count()
    }

    /// Returns the number of slots in use.
    pub fn used_total(&self) -> usize {
        self.leases.values().map(|lease| lease.slots.len()).sum()
    }

    /// Returns the jobs that have slots of this worker.
    pub fn jobs_on(&self, worker: &str) -> Vec<String> {
        let on = self
            .leases
            .values()
            .filter(|lease| lease.slots.iter().any(|slot| slot == worker));
        let mut jobs: Vec<String> = on.map(|lease| lease.job.clone()).collect();
        jobs.dedup();
        jobs
    }

    /// Leases `count` slots, spread evenly. Returns `None` if there are not enough.
    pub fn grant(&mut self, job: &str, count: usize) -> Option<(LeaseId, Vec<String>)> {
        if self.free() < count {
            return None;
        }
        let mut used = self.used_by_worker();
        let mut slots = Vec::with_capacity(count);
        for _ in 0..count {
            // The least used worker relative to its size; among equals the largest, then the first by name.
            let (name, _) = self
                .ready()
                .filter(|(name, worker)| used.get(*name).copied().unwrap_or(0) < worker.slots as usize)
                .min_by_key(|(name, worker)| {
                    let used = used.get(*name).copied().unwrap_or(0) as u64;
                    let slots = u64::from(worker.slots);
                    (used * 1_000_000 / slots, std::cmp::Reverse(slots))
                })?;
            let name = name.clone();
            *used.entry(name.clone()).or_default() += 1;
            slots.push(name);
        }
        // Subtasks with neighbouring numbers share a worker.
        slots.sort();
        Some((self.hold(job, slots.clone()), slots))
    }

    /// Replaces the displaced slots of a lease whose workers take no tasks. Returns all slots of the lease, or the
    /// number of slots needed if there are not enough.
    pub fn relocate(&mut self, lease: LeaseId, displaced: &[usize]) -> Result<Vec<String>, usize> {
        let Some(Lease { job, mut slots }) = self.leases.get(&lease).cloned() else {
            return Err(displaced.len());
        };
        let is_ready = |name: &String| self.ready().any(|(ready, _)| ready == name);
        let gone: Vec<usize> = displaced
            .iter()
            .copied()
            .filter(|slot| !is_ready(&slots[*slot]))
            .collect();
        let (spare, found) = self.grant(&job, gone.len()).ok_or(gone.len())?;
        self.leases.remove(&spare);
        for (slot, worker) in gone.into_iter().zip(found) {
            slots[slot] = worker;
        }
        self.leases.insert(
            lease,
            Lease {
                job,
                slots: slots.clone(),
            },
        );
        Ok(slots)
    }

    /// Leases particular slots, whether their workers are attached or not.
    pub fn hold(&mut self, job: &str, slots: Vec<String>) -> LeaseId {
        let lease = self.next_lease;
        self.next_lease += 1;
        let job = job.to_string();
        self.leases.insert(lease, Lease { job, slots });
        lease
    }

    /// Ends a lease. Returns it unless it has ended before.
    pub fn release(&mut self, lease: LeaseId) -> Option<Lease> {
        self.leases.remove(&lease)
    }

    /// Returns the workers that take tasks.
    pub fn ready(&self) -> impl Iterator<Item = (&String, &Worker)> {
        self.workers
            .iter()
            .filter(|(_, worker)| worker.state == WorkerState::Ready && worker.reachability == Reachability::Reached)
    }

    fn used_by_worker(&self) -> BTreeMap<String, usize> {
        let mut used = BTreeMap::new();
        for slot in self.leases.values().flat_map(|lease| &lease.slots) {
            *used.entry(slot.clone()).or_default() += 1;
        }
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attached and reached.
    fn attach(slots: &mut Slots, name: &str, incarnation: &str, count: u32, now_us: i64) {
        slots.attach(name, incarnation, count, now_us);
        slots.reached(name, incarnation, Ok(()), now_us);
    }

    fn slots(workers: &[(&str, u32)]) -> Slots {
        let mut slots = Slots::default();
        for (name, count) in workers {
            attach(&mut slots, name, "1", *count, 0);
        }
        slots
    }

    #[track_caller]
    fn check(workers: &[(&str, u32)], counts: &[usize], expected: &[&str]) {
        let mut slots = slots(workers);
        let granted: Vec<String> = counts
            .iter()
            .map(|count| match slots.grant("job", *count) {
                Some((_, slots)) => slots.join(" "),
                None => "none".into(),
            })
            .collect();
        assert_eq!(granted, expected);
    }

    #[test]
    fn slots_are_spread_evenly_by_the_size_of_workers() {
        check(&[("a", 2), ("b", 2)], &[2, 2, 1], &["a b", "a b", "none"]);
        check(&[("a", 1), ("b", 3)], &[4], &["a b b b"]);
        check(&[("a", 1), ("b", 3)], &[1, 1, 1, 1], &["b", "a", "b", "b"]);
        check(&[("a", 4)], &[5, 3, 1], &["none", "a a a", "a"]);
        check(&[], &[1], &["none"]);
    }

    #[test]
    fn drained_and_lost_workers_offer_nothing_and_leases_outlive_them() {
        let mut slots = slots(&[("a", 2), ("b", 2)]);
        let (lease, _) = slots.grant("job", 4).unwrap();
        assert!(slots.drain("a", WorkerState::Draining, 1));
        assert!(!slots.drain("c", WorkerState::Draining, 1));
        assert!(slots.undrain("a", 1) && !slots.undrain("b", 1));
        assert_eq!(slots.offered(), 4);
        assert!(slots.drain("a", WorkerState::Draining, 1));
        assert_eq!((slots.offered(), slots.free(), slots.used("a")), (2, 0, 2));
        assert!(slots.lose("b", "1", 2));
        assert!(!slots.lose("b", "1", 2));
        assert!(!slots.lose("a", "0", 2));
        assert_eq!((slots.offered(), slots.used_total()), (0, 4));
        assert_eq!(slots.jobs_on("b"), ["job"]);
        slots.release(lease).unwrap();
        // The same process keeps being drained, a new one is ready.
        attach(&mut slots, "a", "1", 2, 3);
        assert_eq!(slots.offered(), 0);
        attach(&mut slots, "a", "2", 2, 3);
        attach(&mut slots, "b", "1", 3, 3);
        assert_eq!(slots.free(), 5);
    }

    #[test]
    fn a_place_is_found_for_slots_of_lost_workers_only_and_for_those_that_are_asked_for() {
        let mut slots = slots(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
        let (lease, granted) = slots.grant("job", 3).unwrap();
        assert_eq!(granted.join(" "), "a b c");
        assert_eq!(slots.relocate(lease, &[1]).unwrap().join(" "), "a b c");
        assert!(slots.lose("b", "1", 1) && slots.lose("c", "1", 1));
        assert_eq!(slots.relocate(lease, &[1, 2]), Err(2));
        assert_eq!(slots.relocate(lease, &[1]).unwrap().join(" "), "a d c");
        assert_eq!((slots.free(), slots.used("b"), slots.used("d")), (0, 0, 1));
        // The one it had has come back.
        attach(&mut slots, "c", "2", 1, 2);
        assert_eq!(slots.relocate(lease, &[2]).unwrap().join(" "), "a d c");
        assert_eq!(slots.used_total(), 3);
    }

    #[test]
    fn slots_that_are_held_for_workers_to_come_are_not_given_away() {
        let mut slots = Slots::default();
        let lease = slots.hold("job", vec!["a".into(), "b".into()]);
        attach(&mut slots, "a", "1", 1, 0);
        assert_eq!((slots.free(), slots.grant("other", 1)), (0, None));
        attach(&mut slots, "b", "1", 2, 0);
        assert_eq!(slots.free(), 1);
        slots.release(lease);
        assert_eq!(slots.free(), 3);
    }

    #[test]
    fn workers_that_are_gone_for_long_are_forgotten() {
        let mut slots = Slots::default();
        for number in 0..500 {
            let name = format!("w{number}");
            attach(&mut slots, &name, "1", 1, number);
            slots.lose(&name, "1", number);
        }
        assert_eq!(slots.workers().len(), GONE_WORKERS_MAX);
        assert!(slots.workers().contains_key("w499"));
        assert_eq!(slots.next_forget_us(), Some(400 + GONE_KEPT_US));
        slots.forget_gone(498 + GONE_KEPT_US);
        assert_eq!(slots.workers().len(), 1);
    }

    #[test]
    fn a_worker_that_hands_its_tasks_over_and_goes_has_left() {
        let mut slots = slots(&[("a", 1), ("b", 1)]);
        let (lease, _) = slots.grant("job", 2).unwrap();
        for (name, state) in [("a", WorkerState::Lost), ("b", WorkerState::Left)] {
            assert!(slots.drain(name, WorkerState::Leaving, 1));
            if state == WorkerState::Left {
                slots.release(lease).unwrap();
            }
            assert!(slots.lose(name, "1", 2));
            assert_eq!(slots.workers()[name].state, state);
        }
        attach(&mut slots, "b", "2", 1, 3);
        assert_eq!(slots.offered(), 1);
    }

    #[test]
    fn slots_count_once_their_worker_can_be_reached() {
        let mut slots = slots(&[("a", 1)]);
        slots.attach("b", "1", 2, 0);
        assert_eq!(slots.offered(), 1);
        assert!(slots.reached("b", "1", Err("no such host".into()), 1));
        assert!(!slots.reached("b", "1", Err("no such host".into()), 2));
        assert!(!slots.reached("b", "0", Ok(()), 2));
        assert_eq!((slots.offered(), slots.unreachable().count()), (1, 1));
        assert!(slots.reached("b", "1", Ok(()), 3));
        assert_eq!((slots.offered(), slots.unreachable().count()), (3, 0));
        // The stream broke and the process came back: it is where it was.
        assert!(slots.lose("b", "1", 4));
        slots.attach("b", "1", 2, 5);
        assert_eq!(slots.offered(), 3);
        slots.attach("b", "2", 2, 6);
        assert_eq!(slots.offered(), 1);
    }
}
