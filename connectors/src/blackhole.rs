//! A sink that discards all rows, for benchmarks and for pipelines with side outputs only.

use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use futures::future::BoxFuture;

use crate::changelog::ChangelogSupport;
use crate::{
    Committable, Connector, Delivery, Error, JobIdentity, OptionDescription, Role, Sink, SinkWriter, TableDefinition,
    WriterContext,
};

/// The connector `blackhole`.
pub struct Blackhole;

impl Connector for Blackhole {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn help(&self) -> &'static str {
        "Discards every row."
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Sink]
    }

    fn options(&self, _role: Role) -> &'static [OptionDescription] {
        &[]
    }

    fn uses_format(&self, _role: Role) -> bool {
        false
    }

    /// As in Flink, the former versions of rows are not requested where the key tells which row is updated.
    fn changelog(&self, table: &TableDefinition, _role: Role) -> ChangelogSupport {
        match table.primary_key.is_empty() {
            true => ChangelogSupport::Retract,
            false => ChangelogSupport::Upsert,
        }
    }

    fn is_bounded(&self, _table: &TableDefinition) -> bool {
        false
    }

    fn sink(&self, _table: &TableDefinition) -> Result<Arc<dyn Sink>, Error> {
        Ok(Arc::new(Blackhole))
    }
}

#[async_trait]
impl Sink for Blackhole {
    /// No row becomes visible, so none becomes visible twice.
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    async fn start(&self, _job: &JobIdentity) -> Result<(), Error> {
        Ok(())
    }

    fn writer(&self, _context: WriterContext) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(Writer))
    }

    async fn commit(&self, _committables: Vec<Committable>) -> Result<(), Error> {
        Ok(())
    }
}

struct Writer;

impl SinkWriter for Writer {
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, _rows: &RecordBatch) -> Result<u64, Error> {
        Ok(0)
    }

    fn prepare(&mut self, _checkpoint: u64, _last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
