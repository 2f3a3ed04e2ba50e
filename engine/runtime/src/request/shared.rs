//! Several requests in one batch.

use std::time::Instant;

use arrow_array::RecordBatch;
use millstream_graph::{NodeIndex, Port, clock};

use super::{Kind, RequestError, RequestExecutor, count};
use crate::Error;
use crate::element::batch_bytes;
use crate::operator::Timestamp;

/// Rows of several requests in one batch, one request after the other.
#[derive(Debug, Clone)]
pub struct SharedRows {
    /// Rows of all requests.
    pub rows: RecordBatch,
    /// End of each request's rows in `rows`.
    pub ends: Vec<usize>,
}

/// Counts of a node, added to its counters once the whole batch has succeeded.
struct Counted {
    node: NodeIndex,
    rows_in: usize,
    bytes_in: usize,
    rows_out: usize,
    bytes_out: usize,
    busy_ns: u64,
}

impl RequestExecutor {
    /// Returns true if requests can share a batch: all nodes process row by row, and all rows are the request's.
    pub fn can_share(&self) -> bool {
        let sources = self
            .nodes
            .iter()
            .filter(|node| matches!(node.kind, Kind::Source { .. }));
        self.is_stateless() && sources.count() == 1 && self.constants.iter().all(Option::is_none)
    }

    /// Runs several requests as one batch, of which `rows` are those of the only source. Returns rows of sinks; each
    /// request has those that it gets alone, in the same order.
    ///
    /// Fails as a whole if any row fails, whatever the error policy, or if a node emits more than `node_bytes_max` for
    /// all of them: the caller then runs them one by one.
    pub fn run_shared(
        &self,
        rows: SharedRows,
        arrival: Timestamp,
        node_bytes_max: usize,
    ) -> Result<Vec<(NodeIndex, SharedRows)>, RequestError> {
        debug_assert!(self.can_share(), "a graph whose requests do not share batches");
        clock::with_now(arrival, || {
            let mut own = Some(rows);
            let mut inputs: Vec<Vec<SharedRows>> = vec![Vec::new(); self.nodes.len()];
            let mut sinks = Vec::new();
            let mut counted = Vec::with_capacity(self.nodes.len());
            for index in 0..self.nodes.len() {
                let node = &self.nodes[index];
                let mut of_node = std::mem::take(&mut inputs[index]);
                if let Kind::Source { .. } = node.kind {
                    of_node.extend(own.take());
                }
                for mut shared in of_node {
                    let begun = Instant::now();
                    let (rows_in, bytes_in) = (shared.rows.num_rows(), batch_bytes(&shared.rows));
                    self.calculate(index, &mut shared)?;
                    let (rows_out, bytes_out) = (shared.rows.num_rows(), batch_bytes(&shared.rows));
                    if bytes_out > node_bytes_max {
                        return Err(RequestError::TooLarge {
                            operator: self.graph.nodes[index].id.to_string(),
                            bytes_max: node_bytes_max,
                        });
                    }
                    counted.push(Counted {
                        node: index,
                        rows_in,
                        bytes_in,
                        rows_out,
                        bytes_out,
                        busy_ns: u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX),
                    });
                    if let Kind::Sink = node.kind {
                        sinks.push((index, shared));
                        continue;
                    }
                    for edge in self.graph.outputs(index).filter(|edge| edge.port == Port::Main) {
                        inputs[edge.to].push(shared.clone());
                    }
                }
            }
            self.add(&counted);
            Ok(sinks)
        })
    }

    /// Replaces the rows of a node by its output.
    fn calculate(&self, index: NodeIndex, shared: &mut SharedRows) -> Result<(), Error> {
        let calc = match &self.nodes[index].kind {
            Kind::Source { projection, calc, .. } => {
                shared.rows = shared.rows.project(projection)?;
                calc.as_ref()
            }
            Kind::Calc(calc) => Some(calc),
            Kind::Operator | Kind::Sink => None,
        };
        if let Some(calc) = calc {
            shared.rows = calc.evaluate_groups(&shared.rows, &mut shared.ends)?;
        }
        Ok(())
    }

    fn add(&self, counted: &[Counted]) {
        for of_node in counted {
            let counters = &self.nodes[of_node.node].counters;
            count(&counters.rows_in, of_node.rows_in as u64);
            count(&counters.rows_out, of_node.rows_out as u64);
            if let Kind::Sink = self.nodes[of_node.node].kind {
                continue;
            }
            count(&counters.bytes_in, of_node.bytes_in as u64);
            count(&counters.bytes_out, of_node.bytes_out as u64);
            count(&counters.busy_ns, of_node.busy_ns);
        }
    }
}
