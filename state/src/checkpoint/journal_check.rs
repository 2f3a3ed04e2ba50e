//! Refuses to claim a journal that is not the one in which the job's checkpoints were recorded.
//!
//! A manifest that no record names is garbage, and is swept at a start. With a journal that was lost, replaced by an
//! older version of itself or by another job's, that rule would delete complete checkpoints and start the job anew.
//! So a claim first compares the journal with the folders of checkpoints. Two things are certain of a journal that
//! has lost nothing: whoever wrote a manifest had claimed the journal before, and where the object `completed` is
//! beside a manifest, the journal had the record of that checkpoint before.
//!
//! Folders are listed before the journal is read: what another process does meanwhile is in the journal first.

use std::collections::BTreeMap;

use super::journal::State;
use super::{COMPLETED, CheckpointStore, MANIFEST};
use crate::Error;
use crate::log::Contents;

/// Checkpoints named in a message, at most.
const NAMED_MAX: usize = 3;

/// The folder of one checkpoint, by what its name says.
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

    pub fn name(self) -> String {
        format!("{}-{}-{}", self.checkpoint, self.epoch, self.attempt)
    }
}

/// The objects of the folders of checkpoints.
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
    pub async fn list(store: &CheckpointStore) -> Result<Self, Error> {
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

    /// Those of complete checkpoints of which the journal has no record, although it is not shorter: it was lost.
    /// (One without a manifest is what a late write has left of a deleted checkpoint.)
    pub fn hidden(&self, state: &State) -> impl Iterator<Item = Folder> {
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

/// [`Error::Corrupt`] if the journal is not the one of the job's checkpoints. Changes nothing.
pub(super) async fn check(store: &CheckpointStore) -> Result<(), Error> {
    let folders = Folders::list(store).await?;
    let contents = store.log().read::<State>().await?;
    match problem(store, &folders, &contents) {
        None => Ok(()),
        Some(problem) => Err(Error::Corrupt(problem)),
    }
}

/// The damage of the journal as a whole, with the remedy.
pub(super) fn problem(store: &CheckpointStore, folders: &Folders, contents: &Contents<State>) -> Option<String> {
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
            named(&later)
        ));
    }
    if !later.is_empty() {
        return Some(format!(
            "the journal {journal} is an older version: it knows {epoch_max} claims, but there are checkpoints of later \
             ones ({}). {anew}",
            named(&later)
        ));
    }
    if state.checkpoint_max == 0
        && let Some(damaged) = state.damaged.first()
    {
        return Some(format!(
            "the journal {journal} names no checkpoint and is damaged ({}), but there are checkpoints ({}): which of them \
             are complete is not known. {anew}",
            damaged.reason,
            named(&[*newest])
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
        named(&lost),
        store.url(),
        state.checkpoint_max
    ))
}

/// Newest first.
fn named(folders: &[Folder]) -> String {
    let names: Vec<String> = folders.iter().rev().take(NAMED_MAX).map(|it| it.name()).collect();
    match folders.len().saturating_sub(NAMED_MAX) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
