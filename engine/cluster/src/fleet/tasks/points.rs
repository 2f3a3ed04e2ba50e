//! Consistency points: a point has passed once every worker of the regions that run has reported it.
//!
//! A region that fails gives the point up, and the others go on. A region that is being restarted takes part in the
//! next point.

use std::collections::BTreeSet;

use millstream_proto::v1;
use millstream_proto::v1::task_command::Command as Wire;
use millstream_runtime::command::TaskEvent;
use millstream_runtime::element::BarrierNumber;

use super::RemoteTasks;
use super::region::Stage;
use crate::deployer::DeploymentEvent;
use crate::{Error, encoding};

/// A consistency point under way.
pub(super) struct Point {
    number: BarrierNumber,
    /// Parts of regions, by worker, that have not passed it.
    missing: BTreeSet<(usize, String)>,
}

impl RemoteTasks {
    /// Orders the workers of all regions that run to pass a point.
    pub(super) fn trigger_point(&mut self, number: BarrierNumber) -> Result<(), Error> {
        let mut missing = BTreeSet::new();
        for (index, region) in self.regions.iter().enumerate() {
            if region.stage == Stage::Running {
                let open = region.links.iter().filter(|link| !region.stopped.contains(&link.name));
                missing.extend(open.map(|link| (index, link.name.clone())));
            }
        }
        self.point = Some(Point { number, missing });
        let command = Wire::Point(v1::TriggerPoint {
            number: Some(encoding::barrier_number_message(number)),
        });
        for index in 0..self.regions.len() {
            if self.regions[index].stage == Stage::Running {
                let ordered = self.regions[index].order(&self.job, &command);
                self.after_order(index, ordered)?;
            }
        }
        self.complete_point();
        Ok(())
    }

    /// Handles a worker's report that its part of a region has passed a point.
    pub(super) fn on_point_passed(&mut self, region: usize, worker: String, number: BarrierNumber) {
        // Reports of points that were superseded are ignored.
        if let Some(point) = self.point.as_mut().filter(|point| point.number == number) {
            point.missing.remove(&(region, worker));
            self.complete_point();
        }
    }

    /// Gives up the part of a region in the point under way.
    pub(super) fn give_up_point(&mut self, region: usize) {
        if let Some(point) = &mut self.point {
            point.missing.retain(|(of, _)| *of != region);
            self.complete_point();
        }
    }

    fn complete_point(&mut self) {
        if let Some(point) = self.point.take_if(|point| point.missing.is_empty()) {
            let passed = TaskEvent::PointPassed { number: point.number };
            self.events.push_back(DeploymentEvent::Task(passed));
        }
    }
}
