//! Every kind of object, damaged in every way: the newest checkpoint is recovered, or whoever asks is told why not.
//! Nothing is deleted by it, so once the object is as it was the newest checkpoint is recovered.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::verify::{ObjectKind, Verifier};
use super::*;
use crate::manifest::OperatorEntry;

const BODY: u16 = 1;
const NEWEST: u64 = 5;

struct Bench {
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    /// A job with checkpoints of two claims, of which the oldest were deleted by retention; another job that is the
    /// same but for its contents; and `older`, the job as it was before its newest checkpoints.
    fn new() -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        };
        bench.fill("job");
        bench.fill("other");
        bench
    }

    /// As [`Bench::new`], in less time.
    fn copy_of(template: &Self) -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        };
        copy_folder(&template.path(""), &bench.path(""));
        bench
    }

    fn fill(&self, job: &str) {
        let claim = self.claim(job).unwrap();
        for checkpoint in 1..=3 {
            self.commit(&claim, checkpoint);
        }
        if job == "job" {
            copy_folder(&self.path("job"), &self.path("older"));
        }
        let claim = self.claim(job).unwrap();
        for checkpoint in 4..=NEWEST {
            self.commit(&claim, checkpoint);
        }
    }

    fn commit(&self, claim: &Claim, checkpoint: u64) {
        self.run(claim.commit(self.manifest(claim.store().job(), checkpoint)))
            .unwrap();
        self.run(claim.retain(3, &[])).unwrap();
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn store(&self, job: &str) -> CheckpointStore {
        CheckpointStore::new(Storage::from_url(&self.path("").display().to_string()).unwrap(), job).unwrap()
    }

    fn claim(&self, job: &str) -> Result<Claim, Error> {
        self.run(self.store(job).claim("test"))
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn file(&self, job: &str, path: String, name: &str) -> FileReference {
        let content = format!("{job} {path} ").repeat(20);
        let file = self.path(job).join(&path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, &content).unwrap();
        FileReference {
            path,
            name: name.to_string(),
            length: content.len() as u64,
            crc32: crc32fast::hash(content.as_bytes()),
        }
    }

    fn manifest(&self, job: &str, checkpoint: u64) -> Manifest<String> {
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
                files: vec![
                    self.file(job, format!("files/window-{checkpoint}.sst"), "000001.sst"),
                    self.file(job, format!("files/in-flight-{checkpoint}.rows"), ""),
                    self.file(job, format!("files/output-{checkpoint}.out"), ""),
                ],
                properties: BTreeMap::new(),
            },
            body_version: BODY,
            operators: vec![OperatorEntry {
                operator: "o".into(),
                subtasks: vec![format!("{job} {checkpoint}")],
            }],
        }
    }

    /// The outcome of a start.
    fn start(&self) -> Outcome {
        let claim = match self.claim("job") {
            Ok(claim) => claim,
            Err(error) => {
                assert!(error.is_damage(), "{error}");
                return Outcome::Refused(error.to_string());
            }
        };
        self.run(claim.sweep()).unwrap();
        let recovery = self
            .run(claim.store().latest::<String>(BODY, VerificationDepth::Contents, &[]))
            .unwrap();
        let found = recovery.manifest.map(|manifest| manifest.header.checkpoint);
        match (found, recovery.damaged.is_empty()) {
            (Some(NEWEST), _) => Outcome::Exact,
            (found, false) => Outcome::Told(found),
            (found, true) => panic!("checkpoint {found:?} was taken for the newest"),
        }
    }

    /// Manifests and files of all complete checkpoints, with their contents.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let folders = [self.path("job/checkpoints"), self.path("job/files")];
        let paths = folders.iter().flat_map(|folder| objects(folder));
        paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// The paths of what a verification finds, with their kinds.
    fn verify(&self) -> Vec<(ObjectKind, String)> {
        self.run(async {
            let mut verifier = Verifier::new(self.store("job"));
            let journal = verifier.journal().await.unwrap();
            let mut damages = journal.damages;
            for info in journal.checkpoints.iter().rev() {
                let verified = verifier.checkpoint::<String>(info, BODY, &mut |_| {}).await.unwrap();
                damages.extend(verified.damages);
            }
            damages.into_iter().map(|damage| (damage.kind, damage.path)).collect()
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// The newest checkpoint is recovered.
    Exact,
    /// An older one, or none, and that newer ones are damaged.
    Told(Option<u64>),
    /// The journal cannot be claimed, and why.
    Refused(String),
}

fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.path().is_dir() {
                true => open.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found
}

fn copy_folder(from: &Path, to: &Path) {
    for path in objects(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
}

/// A way to damage one object of the job.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Flip,
    Cut,
    Remove,
    /// In its place is the object of the same kind that was written before it.
    Older,
    /// In its place is the other job's.
    Other,
}

const HARMS: [Harm; 5] = [Harm::Flip, Harm::Cut, Harm::Remove, Harm::Older, Harm::Other];

/// Returns true if something is different now.
fn harm(bench: &Bench, path: &Path, older: Option<&PathBuf>, harm: Harm) -> bool {
    let mut bytes = fs::read(path).unwrap();
    let before = bytes.clone();
    match harm {
        Harm::Flip => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        Harm::Cut => bytes.truncate(before.len() / 2),
        Harm::Remove => {
            fs::remove_file(path).unwrap();
            return true;
        }
        Harm::Older => match older {
            Some(older) => bytes = fs::read(older).unwrap(),
            None => return false,
        },
        Harm::Other => {
            let below = path.strip_prefix(bench.path("job")).unwrap();
            match fs::read(bench.path("other").join(below)) {
                Ok(other) => bytes = other,
                Err(_) => return false,
            }
        }
    }
    fs::write(path, &bytes).unwrap();
    bytes != before
}

/// Damages one object after the other, and starts the job over it.
fn check(folder: &str, is_kind: impl Fn(&Path) -> bool, kind: ObjectKind) {
    let template = Bench::new();
    let of_kind = |bench: &Bench| -> Vec<PathBuf> {
        let found = objects(&bench.path("job").join(folder));
        found.into_iter().filter(|path| is_kind(path)).collect()
    };
    let mut outcomes = Vec::new();
    for index in 0..of_kind(&template).len() {
        for harmed in HARMS {
            let bench = Bench::copy_of(&template);
            let all = of_kind(&bench);
            let path = &all[index];
            let what = format!(
                "{}: {harmed:?}",
                path.strip_prefix(bench.path("job")).unwrap().display()
            );
            let (original, whole) = (fs::read(path).unwrap(), bench.contents());
            let older = index.checked_sub(1).map(|before| &all[before]);
            if !harm(&bench, path, older, harmed) {
                continue;
            }
            let verified = bench.verify();
            let outcome = bench.start();
            // What was there is there.
            fs::write(path, original).unwrap();
            let mut now = bench.contents();
            now.retain(|path, _| whole.contains_key(path));
            assert_eq!(now, whole, "{what}: {outcome:?}");
            if outcome != Outcome::Exact {
                let is_named = |(of, damaged): &(ObjectKind, String)| {
                    *of == kind && (Path::new(damaged) == path || kind == ObjectKind::Journal)
                };
                assert!(verified.iter().any(is_named), "{what}: {outcome:?} {verified:?}");
                if !matches!((&outcome, kind), (Outcome::Told(_), ObjectKind::Journal)) {
                    assert_eq!(bench.start(), Outcome::Exact, "{what}: after the repair");
                }
            }
            outcomes.push((what, outcome));
        }
    }
    assert!(outcomes.len() >= 5, "{outcomes:?}");
    assert!(
        outcomes.iter().any(|(_, outcome)| *outcome != Outcome::Exact),
        "{outcomes:?}"
    );
    let is_newest =
        |what: &str| what.contains(&format!("-{NEWEST}.")) || what.contains(&format!("checkpoints/{NEWEST}-"));
    for (what, outcome) in &outcomes {
        match kind {
            ObjectKind::Journal => {}
            _ if is_newest(what) => assert_eq!(*outcome, Outcome::Told(Some(NEWEST - 1)), "{what}"),
            _ => assert_eq!(*outcome, Outcome::Exact, "{what}"),
        }
    }
}

#[test]
fn a_damaged_manifest_is_told() {
    check("checkpoints", |path| path.ends_with("manifest"), ObjectKind::Manifest);
}

#[test]
fn a_damaged_file_of_keyed_state_is_told() {
    check(
        "files",
        |path| path.extension().is_some_and(|kind| kind == "sst"),
        ObjectKind::KeyedState,
    );
}

#[test]
fn damaged_channel_state_is_told() {
    check(
        "files",
        |path| path.extension().is_some_and(|kind| kind == "rows"),
        ObjectKind::ChannelState,
    );
}

#[test]
fn damaged_sink_output_is_told() {
    check(
        "files",
        |path| path.extension().is_some_and(|kind| kind == "out"),
        ObjectKind::SinkOutput,
    );
}

#[test]
fn a_damaged_journal_record_never_loses_a_checkpoint_unsaid() {
    check("journal", |_| true, ObjectKind::Journal);
}

#[test]
fn a_lost_note_that_a_checkpoint_was_complete_changes_nothing() {
    let bench = Bench::new();
    for path in objects(&bench.path("job/checkpoints")) {
        if path.ends_with("completed") {
            fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(bench.verify(), []);
    assert_eq!(bench.start(), Outcome::Exact);
}

/// Replaces the whole journal; a start must be refused with these words, and change nothing.
#[track_caller]
fn check_journal(replace: fn(&Bench), words: &str) {
    let bench = Bench::new();
    copy_folder(&bench.path("job/journal"), &bench.path("saved"));
    let whole = bench.contents();
    replace(&bench);
    let journal = objects(&bench.path("job/journal"));
    for _ in 0..2 {
        match bench.start() {
            Outcome::Refused(said) => {
                assert!(said.contains(words) && said.contains("Nothing was changed"), "{said}");
            }
            outcome => panic!("{words}: {outcome:?}"),
        }
    }
    assert_eq!(bench.contents(), whole);
    assert_eq!(objects(&bench.path("job/journal")), journal);
    let verified = bench.run(Verifier::new(bench.store("job")).journal()).unwrap();
    assert!(verified.refused.is_some_and(|said| said.contains(words)));
    fs::remove_dir_all(bench.path("job/journal")).ok();
    copy_folder(&bench.path("saved"), &bench.path("job/journal"));
    assert_eq!(bench.start(), Outcome::Exact);
}

#[test]
fn a_journal_that_is_not_the_jobs_is_refused() {
    let remove = |bench: &Bench| fs::remove_dir_all(bench.path("job/journal")).unwrap();
    check_journal(remove, "is missing, but there are checkpoints (5-2-1, 4-2-1, 3-1-1)");
    check_journal(
        |bench| {
            fs::remove_dir_all(bench.path("job/journal")).unwrap();
            copy_folder(&bench.path("older/journal"), &bench.path("job/journal"));
        },
        "is an older version: it knows 1 claims, but there are checkpoints of later ones (5-2-1, 4-2-1)",
    );
    check_journal(
        |bench| {
            fs::remove_dir_all(bench.path("job/journal")).unwrap();
            copy_folder(&bench.path("other/journal"), &bench.path("job/journal"));
        },
        "is that of the job `other`, not of `job`",
    );
    check_journal(
        |bench| {
            for record in objects(&bench.path("job/journal")) {
                fs::write(record, "nothing").unwrap();
            }
        },
        "names no checkpoint and is damaged",
    );
    // The last record of all is missing: as if its checkpoint had never been complete.
    check_journal(
        |bench| {
            let mut records = objects(&bench.path("job/journal"));
            while let Some(record) = records.pop() {
                let is_last = fs::read_to_string(&record).unwrap().contains(r#""checkpoint":5"#);
                fs::remove_file(record).unwrap();
                if is_last {
                    break;
                }
            }
        },
        "has lost records: it ends with checkpoint 4, but later ones were complete (5-2-1)",
    );
}

#[test]
fn a_whole_job_in_the_place_of_another_is_told() {
    let bench = Bench::new();
    fs::remove_dir_all(bench.path("job")).unwrap();
    copy_folder(&bench.path("other"), &bench.path("job"));
    let whole = bench.contents();
    assert!(matches!(bench.start(), Outcome::Refused(said) if said.contains("that of the job `other`")));
    assert_eq!(bench.contents(), whole);
}
