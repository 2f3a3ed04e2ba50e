//! A check, before a claim, that the journal is the one in which the job's checkpoints were recorded.
//!
//! A manifest that no record names is garbage, which a restart deletes. If the journal was lost, or replaced by an
//! older version of itself or by the journal of another job, that rule would delete complete checkpoints and start the
//! job from scratch. So a claim first compares the journal with the folders of checkpoints. Two invariants hold for an
//! intact journal: the epoch of every manifest was claimed in it, and it has the record of every checkpoint with an
//! object `completed`.
//!
//! Folders are listed before the journal is read, because other processes write to the journal first.

use std::collections::BTreeMap;

use super::journal::State;
use super::{COMPLETED, CheckpointStore, MANIFEST};
use crate::Error;
use crate::log::Contents;

/// Number of checkpoints that a message names.
const NAMED_MAX: usize = 3;

/// The folder of one checkpoint, parsed from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Folder {
    pub checkpoint: u64,
    pub epoch: u64,
    pub attempt: u64,
}

impl Folder {
    fn parse(name: &str) -> Option<Self> {
        let mut numbers = name.split('-').map(str::parse);
        let (checkpoint, epoch, attempt) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        numbers.next().is_none().then_some(Self {
            checkpoint,
            epoch,
            attempt,
        })
    }

    pub(crate) fn name(self) -> String {
        format!("{}-{}-{}", self.checkpoint, self.epoch, self.attempt)
    }
}

/// The folders of all checkpoints and their objects.
#[derive(Debug, Default)]
pub(super) struct Folders {
    found: BTreeMap<Folder, Objects>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Objects {
    manifest: bool,
    completed: bool,
}

impl Folders {
    pub(crate) async fn list(store: &CheckpointStore) -> Result<Self, Error> {
        let folder = format!("{}/checkpoints", store.job);
        let mut found = BTreeMap::new();
        for object in store.storage.list(&folder).await? {
            let below = object.path.strip_prefix(&folder).unwrap_or_default();
            let Some((name, object)) = below.trim_start_matches('/').split_once('/') else {
                continue;
            };
            if let (Some(folder), MANIFEST | COMPLETED) = (Folder::parse(name), object) {
                let objects: &mut Objects = found.entry(folder).or_default();
                objects.manifest |= object == MANIFEST;
                objects.completed |= object == COMPLETED;
            }
        }
        Ok(Self { found })
    }

    /// Returns the folders of complete checkpoints that the journal has no record of, although it has later records.
    /// (A folder without a manifest is ignored: a late write left it of a deleted checkpoint.)
    pub(crate) fn unrecorded(&self, state: &State) -> impl Iterator<Item = Folder> {
        let complete = self
            .found
            .iter()
            .filter(|(_, objects)| objects.manifest && objects.completed);
        complete.map(|(folder, _)| *folder).filter(|folder| {
            let known = state.checkpoints.get(&folder.checkpoint);
            let is_known = known.is_some_and(|info| (info.epoch, info.attempt) == (folder.epoch, folder.attempt));
            let is_deleted = || {
                let prefix = format!("checkpoints/{}/", folder.name());
                state.deleting.iter().any(|object| object.starts_with(&prefix))
            };
            folder.checkpoint <= state.checkpoint_max && !is_known && !is_deleted()
        })
    }
}

/// Returns [`Error::Corrupt`] if the journal is not that of the job's checkpoints. Changes nothing.
pub(super) async fn check(store: &CheckpointStore) -> Result<(), Error> {
    let folders = Folders::list(store).await?;
    let contents = store.log().read::<State>().await?;
    match diagnose(store, &folders, &contents) {
        None => Ok(()),
        Some(problem) => Err(Error::Corrupt(problem)),
    }
}

/// Returns a description of the damage to the journal as a whole, with the remedy; `None` if it is intact.
pub(super) fn diagnose(store: &CheckpointStore, folders: &Folders, contents: &Contents<State>) -> Option<String> {
    let (state, journal) = (&contents.state, format!("{}/journal", store.url()));
    let anew = format!(
        "Nothing was changed. Put the right journal back from a backup; or, to start the job anew, move {} elsewhere",
        store.url()
    );
    if !state.job.is_empty() && state.job != store.job {
        return Some(format!(
            "the journal {journal} is that of the job `{}`, not of `{}`. {anew}",
            state.job, store.job
        ));
    }
    let (newest, _) = folders.found.last_key_value()?;
    let epoch_max = contents.leader().map_or(0, |(epoch, _)| epoch);
    let later: Vec<Folder> = folders
        .found
        .keys()
        .copied()
        .filter(|it| it.epoch > epoch_max)
        .collect();
    if contents.places.is_empty() {
        return Some(format!(
            "the journal {journal} is missing, but there are checkpoints ({}): which of them are complete is not known. \
             {anew}",
            format_names(&later)
        ));
    }
    if !later.is_empty() {
        return Some(format!(
            "the journal {journal} is an older version: it knows {epoch_max} claims, but there are checkpoints of later \
             ones ({}). {anew}",
            format_names(&later)
        ));
    }
    if state.checkpoint_max == 0
        && let Some(damaged) = state.damaged.first()
    {
        return Some(format!(
            "the journal {journal} names no checkpoint and is damaged ({}), but there are checkpoints ({}): which of them \
             are complete is not known. {anew}",
            damaged.reason,
            format_names(&[*newest])
        ));
    }
    let complete = folders.found.iter().filter(|(_, objects)| objects.completed);
    let lost: Vec<Folder> = complete
        .map(|(folder, _)| *folder)
        .filter(|folder| folder.checkpoint > state.checkpoint_max)
        .collect();
    if lost.is_empty() {
        return None;
    }
    let damage = state
        .damaged
        .first()
        .map_or(String::new(), |damaged| format!(" ({})", damaged.reason));
    Some(format!(
        "the journal {journal} has lost records{damage}: it ends with checkpoint {}, but later ones were complete ({}). \
         Nothing was changed. Put the right journal back from a backup; or, to give these checkpoints up, delete their \
         folders in {}/checkpoints: what was published since checkpoint {} is then published again",
        state.checkpoint_max,
        format_names(&lost),
        store.url(),
        state.checkpoint_max
    ))
}

/// Formats the names of folders, newest first.
fn format_names(folders: &[Folder]) -> String {
    let names: Vec<String> = folders.iter().rev().take(NAMED_MAX).map(|it| it.name()).collect();
    match folders.len().saturating_sub(NAMED_MAX) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
