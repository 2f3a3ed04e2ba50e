//! Reads the tables of a pipeline that are not part of its requests, once, when a service starts.

use std::sync::Arc;
use std::task::{Wake, Waker};

use millstream_connectors::source::ReaderContext;
use millstream_connectors::{SourceEvent, registry};
use millstream_graph::{ErrorPolicy, JobGraph, NodeIndex, Operator, Source};
use millstream_runtime::element::batch_bytes;
use millstream_runtime::request::RequestRows;
use tokio::sync::Notify;

use crate::Error;

/// Most bytes of one table, in memory.
const TABLE_BYTES_MAX: usize = 1 << 30;

/// Reads all sources but the requested ones.
pub(super) async fn read(graph: &JobGraph, requested: &[NodeIndex]) -> Result<Vec<RequestRows>, Error> {
    let mut tables = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if let Operator::Source(source) = &node.operator
            && !requested.contains(&index)
        {
            read_source(index, source, &mut tables).await?;
        }
    }
    Ok(tables)
}

async fn read_source(index: NodeIndex, node: &Source, tables: &mut Vec<RequestRows>) -> Result<(), Error> {
    let name = &node.table.name;
    let source = registry::source(&node.table)?;
    let splits = source.splits().await?;
    let notify = Arc::new(NotifyWaker(Notify::new()));
    let mut reader = source.reader(ReaderContext {
        projection: None,
        batch_rows_max: 8_192,
        batch_bytes_max: 2 << 20,
        waker: Waker::from(Arc::clone(&notify)),
        runtime: tokio::runtime::Handle::current(),
        subtask: 0,
        parallelism: 1,
    })?;
    reader.add_splits(splits)?;
    reader.no_more_splits();
    let mut bytes = 0;
    loop {
        match reader.poll()? {
            SourceEvent::Batch(batch) => {
                bytes += batch_bytes(&batch.rows);
                if bytes > TABLE_BYTES_MAX {
                    return Err(Error::Invalid(format!(
                        "the table `{name}` has more than {} MB (TABLE_BYTES_MAX), which is too much for a service to keep in \
                         memory; read fewer columns, or give it the connector `request`",
                        TABLE_BYTES_MAX >> 20
                    )));
                }
                if let (ErrorPolicy::Fail, Some(record)) = (node.on_error, batch.rejected.first()) {
                    let message = format!("the table `{name}`: {}: {}", record.position, record.error);
                    return Err(Error::Invalid(message));
                }
                tables.push(RequestRows {
                    source: index,
                    rows: batch.rows,
                    rejected: batch.rejected,
                });
            }
            SourceEvent::SplitFinished { .. } | SourceEvent::CaughtUp { .. } => {}
            SourceEvent::Pending => match reader.pending_for() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => notify.0.notified().await,
            },
            SourceEvent::End => return Ok(()),
        }
    }
}

/// Wakes the task that reads.
struct NotifyWaker(Notify);

impl Wake for NotifyWaker {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}
