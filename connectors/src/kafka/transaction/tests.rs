//! Without a broker: what travels in a checkpoint comes back as it was, and what counts as published. The rest is
//! tested against a real one, in `integration-tests`.

use proptest::prelude::*;

use super::epoch::{Epoch, MarkerPartition, PendingEpoch, RecordReader, push_record};
use super::marker_topic::PARTITIONS;
use super::markers::{ATTEMPT_AGE_MAX_MS, Marker, Published, marker_partition};
use crate::kafka::topic_producer::{Header, Record};
use crate::{Committable, OutputFile};

fn pending(attempt: &str, checkpoint: u64, files: usize) -> PendingEpoch {
    let file = |index: usize| OutputFile {
        path: format!("files/{index}.out"),
        length: 10,
        crc32: 0,
    };
    PendingEpoch {
        epoch: Epoch {
            transactional_id: "p-job-t-0".into(),
            attempt: attempt.into(),
            checkpoint,
            prepared_ms: 1_000,
            topic: "out".into(),
            markers: MarkerPartition {
                topic: "m".into(),
                partition: 3,
            },
            records: 7,
            inline: vec![1, 2, 3],
        },
        files: (0..files).map(file).collect(),
    }
}

#[test]
fn an_epoch_survives_the_round_trip() {
    for files in [0, 1, 3] {
        let before = pending("a", 7, files);
        let committable = before.clone().encode().expect("it can be written");
        assert_eq!(committable.files.len(), files);
        assert_eq!(PendingEpoch::decode(committable).expect("own encoding"), before);
        assert_eq!(before.parts().len(), files + 1);
    }
    for content in [vec![], vec![9, 1, 2], vec![1, 255]] {
        assert!(PendingEpoch::decode(Committable::new(content)).is_err());
    }
}

type OwnedRecord = (i32, Option<Vec<u8>>, Option<Vec<u8>>, i64, Vec<Header>);

fn records() -> impl Strategy<Value = Vec<OwnedRecord>> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..20));
    let headers = prop::collection::vec(("[a-z]{0,5}", bytes()), 0..3);
    let times = prop_oneof![Just(0), any::<i64>()];
    prop::collection::vec((-1..20_i32, bytes(), bytes(), times, headers), 0..20)
}

fn part_of(records: &[OwnedRecord]) -> Vec<u8> {
    let mut part = Vec::new();
    for (partition, key, value, timestamp_ms, headers) in records {
        let record = Record {
            partition: *partition,
            key: key.as_deref(),
            value: value.as_deref(),
            timestamp_ms: *timestamp_ms,
            headers,
        };
        push_record(&mut part, &record).expect("short");
    }
    part
}

fn owned(record: &Record<'_>) -> OwnedRecord {
    (
        record.partition,
        record.key.map(<[u8]>::to_vec),
        record.value.map(<[u8]>::to_vec),
        record.timestamp_ms,
        record.headers.to_vec(),
    )
}

/// As the publisher reads: plain ones together, others one by one.
fn read(part: &[u8]) -> Result<Vec<OwnedRecord>, crate::Error> {
    let mut reader = RecordReader::new(part);
    let mut records = Vec::new();
    loop {
        while let Some(record) = reader.next_plain()? {
            records.push(owned(&record));
        }
        match reader.next_any()? {
            Some(record) => records.push(owned(&record)),
            None => return Ok(records),
        }
    }
}

proptest! {
    #[test]
    fn records_come_back_as_they_were(records in records()) {
        prop_assert_eq!(read(&part_of(&records)).expect("own encoding"), records);
    }

    #[test]
    fn a_damaged_part_is_an_error_and_no_panic(records in records(), cut in any::<prop::sample::Index>(), garbage: Vec<u8>) {
        let mut part = part_of(&records);
        part.truncate(cut.index(part.len() + 1));
        part.extend(garbage);
        // Whether it can be read is left to chance.
        drop(read(&part));
    }
}

fn marker(checkpoint: u64, parts: usize, prepared_ms: i64) -> Marker {
    Marker {
        version: 1,
        checkpoint,
        parts,
        prepared_ms,
    }
}

#[track_caller]
fn check_published(attempts: &[(&str, Marker)], floor_ms: Option<i64>, of: &PendingEpoch, expected: usize) {
    let published = Published {
        attempts: attempts
            .iter()
            .map(|(name, marker)| ((*name).to_string(), *marker))
            .collect(),
        floor_ms,
    };
    assert_eq!(published.parts(of), expected);
    assert_eq!(published.is_published(of), expected == of.parts().len());
}

#[test]
fn only_markers_of_its_attempt_count_for_an_epoch() {
    let epoch = pending("a", 7, 2);
    check_published(&[], None, &epoch, 0);
    check_published(&[("a", marker(6, 9, 0))], None, &epoch, 0);
    check_published(&[("a", marker(7, 2, 0))], None, &epoch, 2);
    check_published(&[("a", marker(7, 3, 0))], None, &epoch, 3);
    check_published(&[("a", marker(8, 1, 0))], None, &epoch, 3);
    // Checkpoints are counted anew where a data folder was deleted: another attempt's numbers say nothing.
    check_published(&[("b", marker(99, 1, 0))], None, &epoch, 0);
    // Prepared at 1,000.
    check_published(&[("b", marker(99, 1, 0))], Some(999), &epoch, 0);
    check_published(&[("b", marker(99, 1, 0))], Some(1_000), &epoch, 3);
    check_published(&[("a", marker(7, 1, 0))], Some(1_000), &epoch, 1);
}

#[test]
fn the_oldest_attempts_expire_and_raise_the_floor() {
    let mut published = Published::default();
    for (name, at_ms) in [("a", 30), ("b", 10), ("c", 20)] {
        published.attempts.insert(name.into(), marker(1, 1, at_ms));
    }
    assert!(published.expire(40, 3).is_empty());
    assert_eq!(published.expire(40, 2), ["b"]);
    assert_eq!(published.floor_ms, Some(10));
    assert_eq!(published.expire(ATTEMPT_AGE_MAX_MS + 25, 2), ["c"]);
    assert_eq!(published.floor_ms, Some(20));
    assert_eq!(published.attempts.len(), 1);
}

/// They are on disk in the cluster of whoever uses them: another place would not find them again.
#[test]
fn the_partition_of_markers_never_changes() {
    let partitions = ["millstream-toll-booth-stats", "p-job-t", ""].map(|base| marker_partition("m", base).partition);
    assert_eq!(partitions, [1, 9, 2]);
    assert!(partitions.iter().all(|partition| *partition < PARTITIONS));
}
