//! The sink that writes rows to standard output (or standard error) for a person to read, one row per line, as Flink's
//! `print` connector does: `+I[7, toll, null]`, with an optional identifier and, at parallelism above one, the
//! subtask's number in front: `stats:2> +I[7, toll, null]`. Rows of a changelog have their kind instead of `+I`: `-U`,
//! `+U` or `-D`.
//!
//! All subtasks share one [`queue::LineQueue`], which writes whole lines from a blocking thread: lines of several
//! subtasks are never mixed, and a terminal that does not read blocks no slot, only the rows of this sink.

mod queue;
pub(crate) mod row;

use std::io::Write;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use futures::future::BoxFuture;

use self::queue::LineQueue;
use crate::changelog::{self, ChangelogSupport, Kinds};
use crate::options::{Options, option};
use crate::{
    Committable, Connector, Delivery, Error, JobIdentity, OptionDescription, OptionKind, Role, Sink, SinkWriter,
    TableDefinition, WriterContext,
};

/// The connector `print`.
pub struct Print;

const OPTIONS: &[OptionDescription] = &[
    option(
        "print-identifier",
        OptionKind::Text,
        None,
        "Text in front of every line, to tell several print sinks apart.",
    ),
    option(
        "standard-error",
        OptionKind::Boolean,
        Some("false"),
        "Print to standard error instead of standard output.",
    ),
];

impl Connector for Print {
    fn name(&self) -> &'static str {
        "print"
    }

    fn help(&self) -> &'static str {
        "Prints every row to standard output."
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Sink]
    }

    fn options(&self, _role: Role) -> &'static [OptionDescription] {
        OPTIONS
    }

    fn uses_format(&self, _role: Role) -> bool {
        false
    }

    fn changelog(&self, _table: &TableDefinition, _role: Role) -> ChangelogSupport {
        ChangelogSupport::Retract
    }

    fn is_bounded(&self, _table: &TableDefinition) -> bool {
        false
    }

    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn Sink>, Error> {
        let options = Options::of(table);
        let identifier = options.text("print-identifier").unwrap_or_default().to_string();
        let (target, name): (Box<dyn Write + Send>, _) = if options.boolean("standard-error")?.unwrap_or(false) {
            (Box::new(std::io::stderr()), "standard error")
        } else {
            (Box::new(std::io::stdout()), "standard output")
        };
        Ok(Arc::new(PrintSink {
            identifier,
            queue: LineQueue::new(target, name),
        }))
    }
}

struct PrintSink {
    identifier: String,
    queue: Arc<LineQueue>,
}

#[async_trait]
impl Sink for PrintSink {
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    async fn start(&self, _job: &JobIdentity) -> Result<(), Error> {
        Ok(())
    }

    fn writer(&self, context: WriterContext) -> Result<Box<dyn SinkWriter>, Error> {
        let prefix = match (self.identifier.as_str(), context.parallelism) {
            ("", 0 | 1) => String::new(),
            ("", _) => format!("{}> ", context.subtask + 1),
            (identifier, 0 | 1) => format!("{identifier}> "),
            (identifier, _) => format!("{identifier}:{}> ", context.subtask + 1),
        };
        Ok(Box::new(PrintWriter {
            prefix,
            queue: self.queue.clone(),
            runtime: context.runtime,
        }))
    }

    async fn commit(&self, _committables: Vec<Committable>) -> Result<(), Error> {
        Ok(())
    }
}

/// Rows of a batch that are queued at once, so that the first are written while the next are formatted.
const PIECE_ROWS: usize = 1_024;
const LINE_BYTES_EXPECTED: usize = 64;

struct PrintWriter {
    prefix: String,
    queue: Arc<LineQueue>,
    runtime: tokio::runtime::Handle,
}

impl SinkWriter for PrintWriter {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.queue.poll_ready(context)
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<u64, Error> {
        let kinds = Kinds::of(rows)?;
        let columns = match changelog::kinds(rows) {
            Some(_) => &rows.columns()[..rows.num_columns() - 1],
            None => rows.columns(),
        };
        let mut bytes = 0;
        let mut first = 0;
        while first < rows.num_rows() {
            let end = rows.num_rows().min(first + PIECE_ROWS);
            let mut lines = String::with_capacity((end - first) * LINE_BYTES_EXPECTED);
            for row in first..end {
                lines.push_str(&self.prefix);
                row::append(&mut lines, kinds.kind(row), columns, row);
                lines.push('\n');
            }
            bytes += lines.len() as u64;
            self.queue.push(lines.into_bytes(), &self.runtime);
            first = end;
        }
        Ok(bytes)
    }

    fn prepare(&mut self, _checkpoint: u64, _last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>> {
        let written = self.queue.written();
        Box::pin(async move {
            written.await?;
            Ok(Vec::new())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use arrow_array::{ArrayRef, Int8Array, Int64Array, StringArray};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no writer panics").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn rows(from: i64, count: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + count));
        let words: ArrayRef = Arc::new(StringArray::from_iter(
            (from..from + count).map(|n| (n % 2 == 0).then_some("even")),
        ));
        RecordBatch::try_from_iter([("n", numbers), ("word", words)]).expect("two columns of one length")
    }

    fn writers(sink: &PrintSink, parallelism: usize) -> Vec<Box<dyn SinkWriter>> {
        (0..parallelism)
            .map(|subtask| {
                sink.writer(WriterContext {
                    job: JobIdentity {
                        job: "j".into(),
                        attempt: "1".into(),
                    },
                    subtask,
                    parallelism,
                    runtime: tokio::runtime::Handle::current(),
                    storage: Arc::new(crate::sink::NoStorage),
                })
                .expect("a print writer needs nothing")
            })
            .collect()
    }

    #[tokio::test]
    async fn lines_of_several_subtasks_are_whole_and_carry_their_prefix() {
        let captured = Captured::default();
        let queue = LineQueue::new(Box::new(captured.clone()), "the test");
        let sink = PrintSink {
            identifier: "out".into(),
            queue,
        };
        let mut writers = writers(&sink, 2);
        for round in 0..10 {
            for writer in &mut writers {
                futures::future::poll_fn(|context| writer.poll_ready(context))
                    .await
                    .expect("nothing fails");
                writer.write(&rows(round * 2, 2)).expect("nothing fails");
            }
        }
        for writer in &mut writers {
            writer.prepare(1, true).await.expect("nothing fails");
        }
        let text = String::from_utf8(captured.0.lock().expect("no writer panics").clone()).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 40);
        assert_eq!(lines[0], "out:1> +I[0, even]");
        assert_eq!(lines[1], "out:1> +I[1, null]");
        assert_eq!(lines[2], "out:2> +I[0, even]");
        assert!(lines.iter().all(|line| line.starts_with("out:") && line.ends_with(']')));
    }

    #[tokio::test]
    async fn changes_print_with_their_kinds() {
        let captured = Captured::default();
        let queue = LineQueue::new(Box::new(captured.clone()), "the test");
        let sink = PrintSink {
            identifier: String::new(),
            queue,
        };
        let mut writer = writers(&sink, 1).remove(0);
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values([7, 7, 8, 8]));
        let kinds: ArrayRef = Arc::new(Int8Array::from_iter_values([1, -2, 2, -1]));
        let columns = vec![numbers, kinds];
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true), changelog::kind_field()]);
        let rows = RecordBatch::try_new(Arc::new(schema), columns).expect("two columns");
        writer.write(&rows).expect("nothing fails");
        writer.prepare(1, true).await.expect("nothing fails");
        let text = String::from_utf8(captured.0.lock().expect("no writer panics").clone()).expect("text");
        assert_eq!(text, "+I[7]\n-U[7]\n+U[8]\n-D[8]\n");
    }

    #[tokio::test]
    async fn a_closed_pipe_is_an_error_that_names_it() {
        let sink = PrintSink {
            identifier: String::new(),
            queue: LineQueue::new(Box::new(Closed), "standard output"),
        };
        let mut writer = writers(&sink, 1).remove(0);
        writer.write(&rows(0, 1)).expect("the failure comes later");
        let error = writer
            .prepare(1, true)
            .await
            .expect_err("the pipe is closed")
            .to_string();
        assert!(error.contains("standard output") && error.contains("closed"), "{error}");
    }
}
