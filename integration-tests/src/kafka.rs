//! A real Kafka broker for a test: started on free ports with its own data, and stopped with the test.
//!
//! The broker runs under `scripts/kafka.sh run`, which ends it when its standard input closes. That happens when a
//! [`KafkaBroker`] is dropped, and also when the test process ends in any other way.

use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers as _, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tempfile::TempDir;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

pub struct KafkaBroker {
    address: String,
    /// Ports of the broker and of its controller.
    ports: (u16, u16),
    /// True if the broker creates topics on request.
    makes_topics: bool,
    script: Mutex<Script>,
    dir: TempDir,
}

/// The script that runs the broker.
struct Script {
    child: Child,
    /// Standard input of the script; closing it ends the broker.
    stdin: Option<ChildStdin>,
}

/// A record as read from a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    /// The value; empty for a tombstone.
    pub value: Vec<u8>,
    pub is_tombstone: bool,
    pub timestamp_ms: Option<i64>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.value).into_owned()
    }
}

impl KafkaBroker {
    /// Starts a broker and waits until it is ready: about two seconds if it is downloaded already.
    pub fn start() -> Result<Self> {
        Self::start_new(false)
    }

    /// Starts a broker that creates topics on request.
    pub fn start_that_makes_topics() -> Result<Self> {
        Self::start_new(true)
    }

    fn start_new(makes_topics: bool) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("millstream-kafka-").tempdir()?;
        let ports = free_ports()?;
        let (script, address) = Self::run(&dir, ports, makes_topics)?;
        Ok(Self {
            address,
            ports,
            makes_topics,
            script: Mutex::new(script),
            dir,
        })
    }

    /// Kills the broker; its data stays.
    pub fn stop(&self) -> Result<()> {
        let mut script = self.script();
        if let Some(mut stdin) = script.stdin.take() {
            stdin.write_all(b"keep")?;
        }
        script.child.wait().context("kafka.sh")?;
        Ok(())
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Suspends the broker's process (SIGSTOP): connections stay open without answers.
    pub fn freeze(&self) -> Result<()> {
        self.signal(libc::SIGSTOP)
    }

    /// Resumes the process after [`Self::freeze`].
    pub fn thaw(&self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    fn signal(&self, signal: i32) -> Result<()> {
        let pid = std::fs::read_to_string(self.dir.path().join("pid")).context("the broker's process id")?;
        let pid: i32 = pid.trim().parse().context("the broker's process id")?;
        // SAFETY: the call takes no pointers; the process is the broker's, which runs as long as its script.
        if unsafe { libc::kill(pid, signal) } != 0 {
            bail!(
                "signal {signal} to the broker {pid}: {}",
                std::io::Error::last_os_error()
            );
        }
        Ok(())
    }

    /// Starts the broker again with its data, after [`Self::stop`].
    pub fn start_again(&self) -> Result<()> {
        let (script, _) = Self::run(&self.dir, self.ports, self.makes_topics)?;
        *self.script() = script;
        Ok(())
    }

    fn run(dir: &TempDir, (port, controller): (u16, u16), makes_topics: bool) -> Result<(Script, String)> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka.sh");
        let mut script = Command::new(script)
            .arg("run")
            .arg(dir.path())
            .args([port.to_string(), controller.to_string()])
            .env("KAFKA_MAKES_TOPICS", makes_topics.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run scripts/kafka.sh")?;
        let (stdin, stdout) = (script.stdin.take(), script.stdout.take().context("piped above")?);
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address)?;
        let address = address.trim().to_string();
        if address.is_empty() {
            let status = script.wait()?;
            bail!("Kafka did not start ({status}); what it said is above");
        }
        Ok((Script { child: script, stdin }, address))
    }

    /// Returns the broker that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<KafkaBroker> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().expect("a Kafka broker; `scripts/setup.sh test` installs what it needs"))
    }

    /// Returns the address, `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.address)
            .set("message.max.bytes", "20000000");
        config
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.client().create()?)
    }

    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let admin = self.admin()?;
        let results = block_on(admin.create_topics([&topic], &AdminOptions::new()))?;
        check(results)?;
        // The request to create a topic returns before every part of the broker knows the topic.
        let consumer: BaseConsumer = self.client().create()?;
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        loop {
            let metadata = consumer.fetch_metadata(None, REQUEST_TIMEOUT)?;
            let known = metadata.topics().iter().find(|topic| topic.name() == name);
            if known.is_some_and(|topic| {
                topic.partitions().len() == partitions as usize && topic.partitions().iter().all(|p| p.leader() >= 0)
            }) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the topic {name} does not become ready");
            }
            std::thread::yield_now();
        }
    }

    pub fn add_partitions(&self, topic: &str, total: usize) -> Result<()> {
        let admin = self.admin()?;
        let partitions = NewPartitions::new(topic, total);
        check(block_on(admin.create_partitions([&partitions], &AdminOptions::new()))?)
    }

    /// Deletes the records before `offset`, as retention would.
    pub fn delete_records_before(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        block_on(self.admin()?.delete_records(&offsets, &AdminOptions::new()))?;
        Ok(())
    }

    /// Writes records without keys to one partition, in order.
    pub fn produce<V: AsRef<[u8]>>(
        &self,
        topic: &str,
        partition: i32,
        values: impl IntoIterator<Item = V>,
    ) -> Result<()> {
        self.produce_records(
            topic,
            values.into_iter().map(|value| (partition, None::<Vec<u8>>, value)),
        )
    }

    /// Writes records, each `(key, value)`, to partition 0, in order; one without a value is a tombstone.
    pub fn produce_optional<'v>(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = (Option<&'v str>, Option<&'v str>)>,
    ) -> Result<()> {
        let producer: BaseProducer = self.client().create()?;
        for (key, value) in records {
            let mut record = BaseRecord::<str, str>::to(topic).partition(0);
            (record.key, record.payload) = (key, value);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(REQUEST_TIMEOUT)?;
        Ok(())
    }

    /// Writes records, each `(partition, key, value)`, and waits until the broker has acknowledged them.
    pub fn produce_records<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = (i32, Option<K>, V)>,
    ) -> Result<()> {
        let producer: BaseProducer = self.client().set("linger.ms", "5").create()?;
        for (partition, key, value) in records {
            let mut record = BaseRecord::<[u8], [u8]>::to(topic)
                .partition(partition)
                .payload(value.as_ref());
            if let Some(key) = &key {
                record = record.key(key.as_ref());
            }
            loop {
                match producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                        record = refused;
                        producer.poll(Duration::from_millis(10));
                    }
                    Err((error, _)) => return Err(error.into()),
                }
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(REQUEST_TIMEOUT)?;
        Ok(())
    }

    /// Writes records, each `(partition, value of the header, value)`, in the order of each partition.
    pub fn produce_with_header<V: AsRef<[u8]>>(
        &self,
        topic: &str,
        header: &str,
        records: impl IntoIterator<Item = (i32, String, V)>,
    ) -> Result<()> {
        let producer: BaseProducer = self.client().create()?;
        for (partition, of_header, value) in records {
            let headers = OwnedHeaders::new().insert(Header {
                key: header,
                value: Some(&of_header),
            });
            let record = BaseRecord::<[u8], [u8]>::to(topic)
                .partition(partition)
                .payload(value.as_ref())
                .headers(headers);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(REQUEST_TIMEOUT)?;
        Ok(())
    }

    /// Waits until no transaction is open in a topic. A commit returns to the writer before the broker has written the
    /// markers of every partition; until then, readers of committed records do not pass the transaction.
    pub fn until_settled(&self, topic: &str) -> Result<()> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        while self.ends(topic, "read_committed")? != self.ends(topic, "read_uncommitted")? {
            if Instant::now() > deadline {
                bail!("a transaction stays open in {topic}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Returns the end offset of each partition for a reader with this isolation level.
    fn ends(&self, topic: &str, isolation: &str) -> Result<Vec<i64>> {
        let consumer: BaseConsumer = self.client().set("isolation.level", isolation).create()?;
        let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
        let partitions = metadata
            .topics()
            .iter()
            .flat_map(rdkafka::metadata::MetadataTopic::partitions);
        partitions
            .map(|partition| Ok(consumer.fetch_watermarks(topic, partition.id(), REQUEST_TIMEOUT)?.1))
            .collect()
    }

    /// Returns all committed records of a topic, by partition and offset.
    pub fn records(&self, topic: &str) -> Result<Vec<Record>> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "millstream-tests")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .create()?;
        let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
        let mut ends = Vec::new();
        let mut assignment = TopicPartitionList::new();
        for partition in metadata
            .topics()
            .iter()
            .flat_map(rdkafka::metadata::MetadataTopic::partitions)
        {
            let (low, high) = consumer.fetch_watermarks(topic, partition.id(), REQUEST_TIMEOUT)?;
            if high > low {
                assignment.add_partition_offset(topic, partition.id(), Offset::Offset(low))?;
                ends.push((partition.id(), high));
            }
        }
        let mut records = Vec::new();
        if !ends.is_empty() {
            consumer.assign(&assignment)?;
        }
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        while !ends.is_empty() {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    records.push(record(&message));
                    let next = message.offset() + 1;
                    ends.retain(|(partition, end)| *partition != message.partition() || next < *end);
                }
                // The last offset may be a transaction marker instead of a record.
                Some(Err(KafkaError::PartitionEOF(at_end))) => ends.retain(|(partition, _)| *partition != at_end),
                Some(Err(error)) => return Err(error.into()),
                None => {}
            }
            if Instant::now() > deadline {
                bail!("the rest of {topic} does not arrive: {ends:?}");
            }
        }
        records.sort();
        Ok(records)
    }

    /// Returns the number of records of a topic without reading them.
    pub fn count(&self, topic: &str) -> Result<i64> {
        let consumer: BaseConsumer = self.client().create()?;
        let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
        let mut count = 0;
        for partition in metadata
            .topics()
            .iter()
            .flat_map(rdkafka::metadata::MetadataTopic::partitions)
        {
            let (low, high) = consumer.fetch_watermarks(topic, partition.id(), REQUEST_TIMEOUT)?;
            count += high - low;
        }
        Ok(count)
    }
}

fn record(message: &rdkafka::message::BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.to_string(), header.value.unwrap_or_default().to_vec()))
            .collect()
    });
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().unwrap_or_default().to_vec(),
        is_tombstone: message.payload().is_none(),
        timestamp_ms: message.timestamp().to_millis(),
        headers: headers.unwrap_or_default(),
    }
}

fn check(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<()> {
    for result in results {
        if let Err((name, code)) = result {
            bail!("{name}: {code}");
        }
    }
    Ok(())
}

fn block_on<T>(work: impl Future<Output = Result<T, KafkaError>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work)?)
}

fn free_ports() -> Result<(u16, u16)> {
    let (first, second) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}

impl Drop for KafkaBroker {
    fn drop(&mut self) {
        let mut script = self.script();
        drop(script.stdin.take());
        if let Err(error) = script.child.wait() {
            eprintln!("waiting for kafka.sh: {error}");
        }
    }
}
