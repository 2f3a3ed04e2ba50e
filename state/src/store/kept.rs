//! Files of checkpoints that stay in the local data folder, so that a restart here opens them instead of fetching them.
//!
//! A database's file that was uploaded, or fetched and verified, is linked to `kept/<job>/<name>`. The name is the last
//! part of the file's path in object storage, which has a UUID in it, so it stands for one content. A restore of a
//! checkpoint that names the file links it into the new database. The folder outlives stores, attempts and the process.
//!
//! What is believed of such a file: one that this process put there was measured then, and nothing writes to it since, so
//! only its length is looked at; the database verifies each block's checksum whenever it reads one, and once it has found
//! fault with any, nothing of the job is believed any more. One that was found at the start of the process may have been torn by a crash of the
//! machine (links are not made durable): it is read through and compared with the manifest's checksum. A file that is
//! not what the manifest says is deleted, and fetched.
//!
//! What stays: the files of the last [`SNAPSHOTS_KEPT`] snapshots of each store of the job's newest attempt, from its
//! first snapshot on; before that, those of the attempt before it. Most of them are the databases' own files, so they
//! take little room of their own. A job of which nothing was started or cut here for [`UNUSED_MAX`] is forgotten.
//!
//! Nothing here can fail a checkpoint or a restore: what cannot be kept is fetched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::FileReference;
use crate::storage;

/// The newest may be of a checkpoint that fails elsewhere, the one before it is what a restart then begins with.
const SNAPSHOTS_KEPT: usize = 2;
const UNUSED_MAX: Duration = Duration::from_secs(3600);

/// The files kept below one folder. All calls may block on the disk.
pub struct Kept {
    folder: PathBuf,
    jobs: Mutex<BTreeMap<String, Job>>,
}

struct Job {
    files: BTreeMap<String, Trust>,
    /// Of each store of the newest attempt, oldest first.
    snapshots: BTreeMap<String, VecDeque<BTreeSet<String>>>,
    used: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// This process put it there.
    Own,
    /// It must be read through before it is used.
    Found,
}

impl Job {
    fn new() -> Self {
        Self {
            files: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            used: Instant::now(),
        }
    }
}

impl Kept {
    /// What an earlier process left in the folder is found, and deleted unless it is used in time.
    pub fn open(folder: PathBuf) -> Self {
        let mut jobs = BTreeMap::new();
        for job in names_in(&folder) {
            let mut found = Job::new();
            found.files = names_in(&folder.join(&job))
                .into_iter()
                .map(|file| (file, Trust::Found))
                .collect();
            jobs.insert(job, found);
        }
        Self {
            folder,
            jobs: Mutex::new(jobs),
        }
    }

    /// A new attempt of a job: its stores are not those of the one before.
    pub fn begin(&self, job: &str) {
        let mut jobs = self.jobs.lock();
        let begun = jobs.entry(job.to_string()).or_insert_with(Job::new);
        begun.used = Instant::now();
        begun.snapshots.clear();
        let unused: Vec<String> = jobs
            .iter()
            .filter(|(_, job)| job.used.elapsed() > UNUSED_MAX)
            .map(|(name, _)| name.clone())
            .collect();
        for job in unused {
            jobs.remove(&job);
            let folder = self.folder.join(&job);
            if let Err(error) = fs::remove_dir_all(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "files of a job that is gone stay behind");
            }
        }
    }

    /// Puts a file here, by a link from where it was cut, or fetched and verified.
    pub fn keep(&self, job: &str, file: &FileReference, from: &Path) {
        let Some(name) = name_of(file) else { return };
        if self.trust(job, name) == Some(Trust::Own) {
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
                let job = jobs.entry(job.to_string()).or_insert_with(Job::new);
                job.files.insert(name.to_string(), Trust::Own);
            }
            Err(error) => {
                tracing::debug!(file = %to.display(), %error, "a file of state is not kept: a restart will fetch it");
            }
        }
    }

    /// Whether the file is here and sound; then it is at `to` as well, by a link, or as a copy that may be written to.
    pub fn bring(&self, job: &str, file: &FileReference, to: &Path, as_copy: bool) -> bool {
        let Some(name) = name_of(file) else { return false };
        let Some(trust) = self.trust(job, name) else {
            return false;
        };
        let kept = self.folder.join(job).join(name);
        let is_sound = match trust {
            Trust::Own => fs::metadata(&kept).is_ok_and(|found| found.len() == file.length),
            Trust::Found => {
                storage::measure(&kept).is_ok_and(|found| found.length == file.length && found.crc32 == file.crc32)
            }
        };
        if !is_sound {
            tracing::warn!(file = %kept.display(), "a kept file of state is damaged: it is fetched instead");
            self.remove(job, name);
            return false;
        }
        let brought = match as_copy {
            true => fs::copy(&kept, to).map(|_| ()),
            false => fs::hard_link(&kept, to),
        };
        if let Err(error) = brought {
            // Half a copy would be in the way of what is fetched.
            if let Err(error) = fs::remove_file(to) {
                tracing::debug!(file = %to.display(), %error, "nothing was copied");
            }
            tracing::warn!(file = %kept.display(), %error, "a kept file of state cannot be used: it is fetched instead");
            return false;
        }
        if trust == Trust::Found
            && let Some(job) = self.jobs.lock().get_mut(job)
        {
            job.files.insert(name.to_string(), Trust::Own);
        }
        true
    }

    /// A store was restored from these files, or they are its newest snapshot: what no kept snapshot names goes, except
    /// that a restore lets everything be.
    pub fn note(&self, job: &str, store: &str, files: &[FileReference], is_restore: bool) {
        let names: BTreeSet<String> = files.iter().filter_map(name_of).map(str::to_string).collect();
        let mut jobs = self.jobs.lock();
        let noted = jobs.entry(job.to_string()).or_insert_with(Job::new);
        noted.used = Instant::now();
        let snapshots = noted.snapshots.entry(store.to_string()).or_default();
        snapshots.push_back(names);
        while snapshots.len() > SNAPSHOTS_KEPT {
            snapshots.pop_front();
        }
        if is_restore {
            return;
        }
        let named: BTreeSet<&String> = noted.snapshots.values().flatten().flatten().collect();
        let unnamed: Vec<String> = noted
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

    /// A database found fault with what it read: nothing of the job is used again unread.
    pub fn distrust(&self, job: &str) {
        if let Some(job) = self.jobs.lock().get_mut(job) {
            job.files.values_mut().for_each(|trust| *trust = Trust::Found);
        }
    }

    fn trust(&self, job: &str, name: &str) -> Option<Trust> {
        self.jobs.lock().get(job)?.files.get(name).copied()
    }

    fn remove(&self, job: &str, name: &str) {
        if let Some(job) = self.jobs.lock().get_mut(job) {
            job.files.remove(name);
        }
        let file = self.folder.join(job).join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(file = %file.display(), %error, "a kept file of state cannot be deleted");
            }
            _ => {}
        }
    }
}

fn name_of(file: &FileReference) -> Option<&str> {
    let name = file.path.rsplit('/').next()?;
    (!name.is_empty() && !name.starts_with('.') && !name.contains('\\')).then_some(name)
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(folder = %folder.display(), %error, "kept files of state cannot be used");
            }
            return Vec::new();
        }
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.collect()
}

#[cfg(test)]
mod tests;
