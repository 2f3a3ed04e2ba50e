//! Committing, falling back, retaining, taking over; against a local folder, as every cloud's bucket behaves alike.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::manifest::OperatorEntry;

const BODY: u16 = 1;

struct Bench {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn store(&self) -> CheckpointStore {
        CheckpointStore::new(
            Storage::from_url(&self.folder.path().display().to_string()).unwrap(),
            "job",
        )
        .unwrap()
    }

    fn claim(&self) -> Claim {
        self.run(self.store().claim("test")).unwrap()
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join("job").join(below)
    }

    fn file(&self, name: &str) -> FileReference {
        let content = name.repeat(10);
        let path = format!("files/{name}");
        std::fs::create_dir_all(self.path("files")).unwrap();
        std::fs::write(self.path(&path), &content).unwrap();
        FileReference {
            path,
            name: name.to_string(),
            length: content.len() as u64,
            crc32: crc32fast::hash(content.as_bytes()),
        }
    }

    fn manifest(&self, checkpoint: u64, files: &[&str]) -> Manifest<String> {
        Manifest {
            header: Header {
                job: String::new(),
                checkpoint,
                epoch: 0,
                attempt: 1,
                created_ms: 0,
                fingerprint: String::new(),
                max_parallelism: 128,
                parallelism: 1,
                savepoint: None,
                files: files.iter().map(|name| self.file(name)).collect(),
                properties: BTreeMap::new(),
            },
            body_version: BODY,
            operators: vec![OperatorEntry {
                operator: "o".into(),
                subtasks: vec![format!("state {checkpoint}")],
            }],
        }
    }

    fn commit(&self, claim: &Claim, checkpoint: u64, files: &[&str]) -> Result<CheckpointInfo, Error> {
        self.run(claim.commit(self.manifest(checkpoint, files)))
    }

    /// The checkpoint that is recovered, and what was passed over.
    fn latest(&self, depth: VerificationDepth) -> (Option<u64>, Vec<String>) {
        let recovery = self.run(self.store().latest::<String>(BODY, depth, &[])).unwrap();
        let reasons = recovery.damaged.into_iter().map(|damaged| damaged.reason).collect();
        (recovery.manifest.map(|manifest| manifest.header.checkpoint), reasons)
    }

    fn numbers(&self) -> Vec<u64> {
        self.run(self.store().list())
            .unwrap()
            .into_iter()
            .map(|info| info.checkpoint)
            .collect()
    }

    fn files(&self) -> Vec<String> {
        let listed = self.run(self.store().storage.list("job/files")).unwrap();
        listed
            .into_iter()
            .map(|file| file.path["job/files/".len()..].to_string())
            .collect()
    }
}

#[test]
fn what_was_committed_is_recovered() {
    let bench = Bench::new();
    assert_eq!(bench.latest(VerificationDepth::Contents), (None, vec![]));
    let claim = bench.claim();
    assert_eq!(bench.run(claim.next_checkpoint()), 1);
    bench.commit(&claim, 1, &["a"]).unwrap();
    let info = bench.commit(&claim, 2, &["a", "b"]).unwrap();
    assert_eq!(info.state_bytes, 20);
    assert_eq!(bench.run(claim.next_checkpoint()), 3);
    let manifest = bench
        .run(bench.store().load::<String>(2, BODY, VerificationDepth::Contents))
        .unwrap();
    assert_eq!(manifest.operators[0].subtasks, ["state 2"]);
    assert_eq!((manifest.header.job.as_str(), manifest.header.epoch), ("job", 1));
    assert_eq!(bench.numbers(), [1, 2]);
    let error = bench
        .run(bench.store().load::<String>(5, BODY, VerificationDepth::Lengths))
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("has no complete checkpoint 5; it has 1, 2"), "{error}");
    assert!(bench.commit(&claim, 2, &[]).is_err());
}

#[test]
fn damage_is_named_and_passed_over() {
    type Damage = (&'static str, fn(&Bench), VerificationDepth, &'static str);
    let damages: [Damage; 5] = [
        (
            "flipped manifest",
            |bench| flip(&bench.path("checkpoints/2-1-1/manifest")),
            VerificationDepth::Lengths,
            "manifest",
        ),
        (
            "torn manifest",
            |bench| tear(&bench.path("checkpoints/2-1-1/manifest")),
            VerificationDepth::Lengths,
            "manifest",
        ),
        (
            "missing file",
            |bench| std::fs::remove_file(bench.path("files/b")).unwrap(),
            VerificationDepth::Lengths,
            "files/b",
        ),
        (
            "torn file",
            |bench| tear(&bench.path("files/b")),
            VerificationDepth::Lengths,
            "files/b",
        ),
        (
            "flipped file",
            |bench| flip(&bench.path("files/b")),
            VerificationDepth::Contents,
            "files/b",
        ),
    ];
    for (what, damage, depth, named) in damages {
        let bench = Bench::new();
        let claim = bench.claim();
        bench.commit(&claim, 1, &["a"]).unwrap();
        bench.commit(&claim, 2, &["b"]).unwrap();
        damage(&bench);
        let (latest, reasons) = bench.latest(depth);
        assert_eq!(latest, Some(1), "{what}");
        assert!(reasons.len() == 1 && reasons[0].contains(named), "{what}: {reasons:?}");
    }
}

#[test]
fn a_damaged_journal_record_hides_its_checkpoint_only() {
    for damage in [flip, tear] {
        let bench = Bench::new();
        let claim = bench.claim();
        for checkpoint in 1..=3 {
            bench.commit(&claim, checkpoint, &[]).unwrap();
        }
        // Record 0 is the claim, 1 the base, 2 says whose it is, 3 to 5 are the checkpoints.
        damage(&bench.path("journal/0000000001/0000000005"));
        let (latest, reasons) = bench.latest(VerificationDepth::Lengths);
        assert_eq!(latest, Some(2));
        assert!(
            reasons.len() == 1 && reasons[0].contains("0000000001/0000000005 is damaged"),
            "{reasons:?}"
        );
    }
}

#[test]
fn a_manifest_without_its_record_is_garbage() {
    let bench = Bench::new();
    let claim = bench.claim();
    bench.commit(&claim, 1, &["a"]).unwrap();
    bench.commit(&claim, 2, &["b"]).unwrap();
    // As if the process had ended between the two.
    std::fs::remove_file(bench.path("journal/0000000001/0000000004")).unwrap();
    std::fs::remove_file(bench.path("checkpoints/2-1-1/completed")).unwrap();
    assert_eq!(bench.latest(VerificationDepth::Contents), (Some(1), vec![]));
    bench.file("never-named");
    let next = bench.claim();
    assert_eq!(bench.run(next.sweep()).unwrap(), 3);
    assert_eq!(bench.files(), ["a"]);
    assert!(!bench.path("checkpoints/2-1-1").exists());
    assert_eq!(bench.latest(VerificationDepth::Contents), (Some(1), vec![]));
}

#[test]
fn a_superseded_claim_changes_nothing() {
    let bench = Bench::new();
    let old = bench.claim();
    bench.commit(&old, 1, &[]).unwrap();
    let new = bench.claim();
    assert_eq!(new.epoch(), 2);
    let error = bench.commit(&old, 2, &[]).unwrap_err();
    assert!(
        matches!(&error, Error::Superseded(why) if why.contains("taken over")),
        "{error}"
    );
    assert!(matches!(bench.run(old.retain(1, &[])), Ok(done) if done.checkpoints_deleted.is_empty()));
    assert!(matches!(bench.run(old.delete(1)), Err(Error::Superseded(_))));
    assert_eq!(bench.numbers(), [1]);
    // The number that the old one tried is free, in a folder of its own.
    bench.commit(&new, 2, &[]).unwrap();
    assert_eq!(bench.numbers(), [1, 2]);
}

#[test]
fn claims_taken_at_once_have_one_winner() {
    let bench = Bench::new();
    let (a, b, c) = bench.run(async {
        let (x, y, z) = (bench.store(), bench.store(), bench.store());
        tokio::join!(x.claim("a"), y.claim("b"), z.claim("c"))
    });
    let mut claims: Vec<Claim> = [a, b, c].into_iter().flatten().collect();
    claims.sort_by_key(Claim::epoch);
    let committed: Vec<bool> = (claims.iter().zip(1..))
        .map(|(claim, n)| bench.commit(claim, n, &[]).is_ok())
        .collect();
    assert!(committed.iter().filter(|done| **done).count() <= 1, "{committed:?}");
    assert!(claims.is_empty() || committed[committed.len() - 1]);
}

#[test]
fn retention_keeps_what_is_asked_and_every_file_of_it() {
    let bench = Bench::new();
    let claim = bench.claim();
    bench.commit(&claim, 1, &["a", "b"]).unwrap();
    let mut savepoint = bench.manifest(2, &["b", "c"]);
    savepoint.header.savepoint = Some("before the upgrade".into());
    bench.run(claim.commit(savepoint)).unwrap();
    bench.commit(&claim, 3, &["c", "d"]).unwrap();
    bench.commit(&claim, 4, &["d", "e"]).unwrap();
    bench.commit(&claim, 5, &["e"]).unwrap();
    let done = bench.run(claim.retain(1, &[3])).unwrap();
    assert_eq!(done.checkpoints_deleted, [4, 1]);
    assert_eq!(bench.numbers(), [2, 3, 5]);
    assert_eq!(bench.files(), ["b", "c", "d", "e"]);
    assert!(!bench.path("checkpoints/4-1-1").exists());
    for checkpoint in [2, 3, 5] {
        bench
            .run(
                bench
                    .store()
                    .load::<String>(checkpoint, BODY, VerificationDepth::Contents),
            )
            .unwrap();
    }
    // A successor that has to read the manifests decides alike.
    let next = bench.claim();
    bench.run(next.retain(1, &[])).unwrap();
    assert_eq!(bench.numbers(), [2, 5]);
    assert_eq!(bench.files(), ["b", "c", "e"]);
    bench.run(next.delete(2)).unwrap();
    assert_eq!(bench.files(), ["e"]);
}

#[test]
fn files_beside_a_damaged_checkpoint_that_stays_are_not_deleted() {
    let bench = Bench::new();
    let claim = bench.claim();
    bench.commit(&claim, 1, &["a"]).unwrap();
    bench.commit(&claim, 2, &["a", "b"]).unwrap();
    bench.commit(&claim, 3, &["c"]).unwrap();
    flip(&bench.path("checkpoints/2-1-1/manifest"));
    let next = bench.claim();
    bench.run(next.sweep()).unwrap();
    bench.run(next.retain(2, &[])).unwrap();
    assert_eq!(bench.files(), ["a", "b", "c"]);
    bench.run(next.retain(1, &[])).unwrap();
    bench.run(bench.claim().sweep()).unwrap();
    assert_eq!(bench.files(), ["c"]);
}

#[test]
fn the_journal_stays_short_through_many_checkpoints_and_restarts() {
    let bench = Bench::new();
    let mut checkpoint = 0;
    for _ in 0..3 {
        let claim = bench.claim();
        for _ in 0..100 {
            checkpoint += 1;
            bench.commit(&claim, checkpoint, &[]).unwrap();
            bench.run(claim.retain(2, &[])).unwrap();
        }
    }
    assert_eq!(bench.numbers(), [299, 300]);
    let records = bench.run(bench.store().storage.list("job/journal")).unwrap().len();
    assert!(records < 200, "{records} records");
    // A damaged base is bridged by the one before it.
    let journal = bench.run(bench.store().log().read::<State>()).unwrap();
    let (epoch, seq) = journal.base.unwrap();
    flip(&bench.path(&format!("journal/{epoch:010}/{seq:010}")));
    assert_eq!(bench.numbers(), [299, 300]);
}

#[test]
fn a_job_needs_a_name_that_can_be_a_folder() {
    let storage = Storage::from_url("/nowhere").unwrap();
    for name in ["", "..", "a/b", ".hidden"] {
        assert!(
            matches!(CheckpointStore::new(storage.clone(), name), Err(Error::Invalid(_))),
            "{name}"
        );
    }
}

fn flip(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn tear(path: &std::path::Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn a_manifest_that_another_attempt_left_is_not_taken_for_ours() {
    let bench = Bench::new();
    let claim = bench.claim();
    // Of the same length, and with a checksum of its own at its end.
    let mut other = bench.manifest(1, &[]);
    other.header.job = "job".into();
    other.header.epoch = claim.epoch();
    other.operators[0].subtasks[0] = "state 9".into();
    let path = format!("job/checkpoints/1-{}-1/manifest", claim.epoch());
    let bytes = other.encode().unwrap();
    let storage = Storage::from_url(&bench.folder.path().display().to_string()).unwrap();
    assert!(bench.run(storage.put_if_absent(&path, bytes)).unwrap());
    let error = bench.commit(&claim, 1, &[]).unwrap_err().to_string();
    assert!(error.contains("by an earlier attempt"), "{error}");
    assert!(bench.run(claim.store().list()).unwrap().is_empty());
    // One that was swapped later is not what the journal means.
    bench.commit(&claim, 2, &[]).unwrap();
    let path = bench.path(&format!("checkpoints/2-{}-1/manifest", claim.epoch()));
    other.header.checkpoint = 2;
    let bytes = other.encode().unwrap();
    assert_eq!(bytes.len(), std::fs::read(&path).unwrap().len());
    std::fs::write(&path, bytes).unwrap();
    let error = bench
        .run(claim.store().load::<String>(2, BODY, VerificationDepth::Lengths))
        .unwrap_err();
    assert!(error.is_damage(), "{error}");
}
