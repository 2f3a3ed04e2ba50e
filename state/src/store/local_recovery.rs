//! Local copies of checkpoint files, so that a restart on this machine opens them instead of fetching them.
//!
//! A database file that was uploaded, or fetched and verified, is hard-linked to `kept/<job>/<name>` in the data
//! folder. The name is the last part of the file's path in object storage. It contains a UUID, so one name has one
//! content. A restore of a checkpoint that names the file links it into the new database. The folder outlives stores,
//! attempts and the process.
//!
//! A file that this process linked ([`Trust::Verified`]) is used if its length is right: its content was measured then,
//! nothing has written to it since, and the database verifies the checksum of each block that it reads. A file from an
//! earlier process ([`Trust::Unverified`]) may be torn by a crash of the machine, because links are not made durable:
//! it is read through and compared with the checksum in the manifest. Once a database has reported damage, all files of
//! the job are unverified. A file that is not as the manifest describes it is deleted, and fetched.
//!
//! Retained are the files of the last [`SNAPSHOTS_RETAINED`] snapshots of each store of the job's newest attempt; until
//! that attempt takes its first snapshot, also those of the attempt before it. Most of them are hard links to the
//! databases' own files, so they take little space of their own. The files of a job without a new attempt, restore or
//! snapshot for [`UNUSED_MAX`] are deleted.
//!
//! Local recovery never fails a checkpoint or a restore: a file that cannot be linked is fetched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::job_files::FileReference;
use crate::storage;

/// Number of snapshots of each store whose files are retained. The newest may belong to a checkpoint that fails in
/// another task; a restart then begins with the one before it.
const SNAPSHOTS_RETAINED: usize = 2;
const UNUSED_MAX: Duration = Duration::from_secs(3600);

/// The local checkpoint files below one folder. All calls may block on the disk.
pub(crate) struct LocalRecovery {
    folder: PathBuf,
    jobs: Mutex<BTreeMap<String, JobEntry>>,
}

struct JobEntry {
    files: BTreeMap<String, Trust>,
    /// File names of the snapshots of each store of the newest attempt, oldest first.
    snapshots: BTreeMap<String, VecDeque<BTreeSet<String>>>,
    last_used: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// This process linked the file; its length suffices to recognise it.
    Verified,
    /// The file must be read through before it is used.
    Unverified,
}

impl JobEntry {
    fn new() -> Self {
        Self {
            files: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            last_used: Instant::now(),
        }
    }
}

impl LocalRecovery {
    /// Opens the folder. Files of an earlier process are unverified, and are deleted unless they are used in time.
    pub(crate) fn open(folder: PathBuf) -> Self {
        let mut jobs = BTreeMap::new();
        for job in names_in(&folder) {
            let mut entry = JobEntry::new();
            entry.files = names_in(&folder.join(&job))
                .into_iter()
                .map(|file| (file, Trust::Unverified))
                .collect();
            jobs.insert(job, entry);
        }
        Self {
            folder,
            jobs: Mutex::new(jobs),
        }
    }

    /// Begins a new attempt of a job, whose stores differ from those of the attempt before it. Deletes the files of
    /// jobs that were not used for [`UNUSED_MAX`].
    pub(crate) fn begin_attempt(&self, job: &str) {
        let mut jobs = self.jobs.lock();
        let entry = jobs.entry(job.to_string()).or_insert_with(JobEntry::new);
        entry.last_used = Instant::now();
        entry.snapshots.clear();
        let unused: Vec<String> = jobs
            .iter()
            .filter(|(_, entry)| entry.last_used.elapsed() > UNUSED_MAX)
            .map(|(name, _)| name.clone())
            .collect();
        for job in unused {
            jobs.remove(&job);
            let folder = self.folder.join(&job);
            if let Err(error) = fs::remove_dir_all(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "cannot delete the local checkpoint files of an unused job");
            }
        }
    }

    /// Links a file that was just uploaded, or fetched and verified, from `from`.
    pub(crate) fn add(&self, job: &str, file: &FileReference, from: &Path) {
        let Some(name) = local_name(file) else { return };
        if self.trust(job, name) == Some(Trust::Verified) {
            return;
        }
        let to = self.folder.join(job).join(name);
        let linked = fs::create_dir_all(self.folder.join(job)).and_then(|()| match fs::hard_link(from, &to) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_file(&to)?;
                fs::hard_link(from, &to)
            }
            linked => linked,
        });
        match linked {
            Ok(()) => {
                let mut jobs = self.jobs.lock();
                let entry = jobs.entry(job.to_string()).or_insert_with(JobEntry::new);
                entry.files.insert(name.to_string(), Trust::Verified);
            }
            Err(error) => {
                tracing::debug!(file = %to.display(), %error, "cannot keep a checkpoint file locally; a restart will fetch it");
            }
        }
    }

    /// Links the file to `to`, or copies it there if it will be written to (`as_copy`). Returns false if there is no
    /// such file or it is damaged; then nothing is at `to`.
    pub(crate) fn take(&self, job: &str, file: &FileReference, to: &Path, as_copy: bool) -> bool {
        let Some(name) = local_name(file) else { return false };
        let Some(trust) = self.trust(job, name) else {
            return false;
        };
        let local = self.folder.join(job).join(name);
        let is_intact = match trust {
            Trust::Verified => fs::metadata(&local).is_ok_and(|found| found.len() == file.length),
            Trust::Unverified => {
                storage::measure(&local).is_ok_and(|found| found.length == file.length && found.crc32 == file.crc32)
            }
        };
        if !is_intact {
            tracing::warn!(file = %local.display(), "a local checkpoint file is damaged; it is fetched instead");
            self.remove(job, name);
            return false;
        }
        let taken = match as_copy {
            true => fs::copy(&local, to).map(|_| ()),
            false => fs::hard_link(&local, to),
        };
        if let Err(error) = taken {
            // A partial copy would prevent the fetch from creating the file.
            if let Err(error) = fs::remove_file(to) {
                tracing::debug!(file = %to.display(), %error, "nothing was copied");
            }
            tracing::warn!(file = %local.display(), %error, "a local checkpoint file cannot be used; it is fetched instead");
            return false;
        }
        if trust == Trust::Unverified
            && let Some(entry) = self.jobs.lock().get_mut(job)
        {
            entry.files.insert(name.to_string(), Trust::Verified);
        }
        true
    }

    /// Records that `store` is being restored from these files. They are not deleted before the store has taken
    /// [`SNAPSHOTS_RETAINED`] snapshots.
    pub(crate) fn record_restore(&self, job: &str, store: &str, files: &[FileReference]) {
        record(&mut self.jobs.lock(), job, store, files);
    }

    /// Records the files of the newest snapshot of `store`, and deletes the files that no retained snapshot names.
    pub(crate) fn record_snapshot(&self, job: &str, store: &str, files: &[FileReference]) {
        let mut jobs = self.jobs.lock();
        let entry = record(&mut jobs, job, store, files);
        let named: BTreeSet<&String> = entry.snapshots.values().flatten().flatten().collect();
        let unnamed: Vec<String> = entry
            .files
            .keys()
            .filter(|name| !named.contains(name))
            .cloned()
            .collect();
        drop(jobs);
        for name in unnamed {
            self.remove(job, &name);
        }
    }

    /// Marks all files of a job as unverified, after a database has reported damage.
    pub(crate) fn mark_unverified(&self, job: &str) {
        if let Some(entry) = self.jobs.lock().get_mut(job) {
            entry.files.values_mut().for_each(|trust| *trust = Trust::Unverified);
        }
    }

    fn trust(&self, job: &str, name: &str) -> Option<Trust> {
        self.jobs.lock().get(job)?.files.get(name).copied()
    }

    fn remove(&self, job: &str, name: &str) {
        if let Some(entry) = self.jobs.lock().get_mut(job) {
            entry.files.remove(name);
        }
        let file = self.folder.join(job).join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(file = %file.display(), %error, "cannot delete a local checkpoint file");
            }
            _ => {}
        }
    }
}

/// Adds the files of a snapshot to those of the store that are retained.
fn record<'a>(
    jobs: &'a mut BTreeMap<String, JobEntry>,
    job: &str,
    store: &str,
    files: &[FileReference],
) -> &'a mut JobEntry {
    let entry = jobs.entry(job.to_string()).or_insert_with(JobEntry::new);
    entry.last_used = Instant::now();
    let snapshots = entry.snapshots.entry(store.to_string()).or_default();
    snapshots.push_back(files.iter().filter_map(local_name).map(str::to_string).collect());
    while snapshots.len() > SNAPSHOTS_RETAINED {
        snapshots.pop_front();
    }
    entry
}

/// Returns the name of a file in the local folder, `None` if its path does not end in a usable one.
fn local_name(file: &FileReference) -> Option<&str> {
    let name = file.path.rsplit('/').next()?;
    (!name.is_empty() && !name.starts_with('.') && !name.contains('\\')).then_some(name)
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(folder = %folder.display(), %error, "local checkpoint files cannot be used");
            }
            return Vec::new();
        }
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.collect()
}

#[cfg(test)]
mod tests;
