//! Reports outages of sources and sinks, and columns that no record has, while an attempt runs.

use std::collections::BTreeSet;

use millstream_proto::v1::Outage;

use crate::deployer::Tasks;
use crate::input_fields;
use crate::outage::{self, ConnectorMonitor};
use crate::progress::Progress;

/// Looks at the sources and sinks of an attempt, in this process and in those that run its tasks.
pub(super) struct Monitor {
    connectors: ConnectorMonitor,
    /// Sources whose absent columns were reported.
    sources_warned: BTreeSet<String>,
}

impl Monitor {
    /// Monitors these connectors.
    pub(super) fn new(connectors: ConnectorMonitor) -> Self {
        Self {
            connectors,
            sources_warned: BTreeSet::new(),
        }
    }

    /// Reports each outage once when it begins and once when it ends.
    pub(super) fn report_outages(&self, tasks: &dyn Tasks, progress: &Progress) {
        let now = outage::merge(self.connectors.outages().into_iter().chain(tasks.outages()));
        let before = progress.with(|report| report.outages.clone());
        if now == before {
            return;
        }
        let is_among =
            |outage: &Outage, others: &[Outage]| others.iter().any(|other| other.operator == outage.operator);
        for outage in now.iter().filter(|outage| !is_among(outage, &before)) {
            progress.warn(outage::describe(outage));
        }
        for outage in before.iter().filter(|outage| !is_among(outage, &now)) {
            let Outage {
                kind, operator, system, ..
            } = outage;
            progress.warn(format!("the {kind} `{operator}` reaches {system} again"));
        }
        progress.update(|report| report.outages = now);
    }

    /// Updates the fields of the records read so far, and warns of columns that no record has: once for each source,
    /// after [`input_fields::WARN_RECORDS_MIN`] records, or at the first checkpoint if a column is probably misspelt.
    ///
    /// At the end (`is_final`) all that were not reported are, if the tasks are remote: the summary of a run in this
    /// process lists them.
    pub(super) fn report_absent_columns(
        &mut self,
        tasks: &dyn Tasks,
        progress: &Progress,
        has_checkpoint: bool,
        is_final: bool,
    ) {
        let found = self.connectors.input_fields().into_iter().chain(tasks.input_fields());
        let now = input_fields::merge(found);
        for fields in &now {
            let is_due = fields.records >= input_fields::WARN_RECORDS_MIN
                || has_checkpoint && input_fields::is_probably_misspelt(fields)
                || is_final && tasks.are_remote();
            if is_due && !fields.absent_columns.is_empty() && self.sources_warned.insert(fields.operator.clone()) {
                input_fields::warnings(fields)
                    .into_iter()
                    .for_each(|sentence| progress.warn(sentence));
            }
        }
        progress.update(|report| report.input_fields = now);
    }
}
