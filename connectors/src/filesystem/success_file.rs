//! The success file of a partition: an empty file that tells readers of the folder that files were published there.
//!
//! It is written after the files of a checkpoint are published, as with Flink's process-time trigger without a delay;
//! with another trigger or a delay, none is written. Writing it again changes nothing, so it is there after a failure,
//! too.

use std::collections::BTreeSet;
use std::path::Path;

use object_store::ObjectStoreExt;

use super::error::{io_error, store_error};
use super::local_fs::sync_folder;
use super::location::Location;
use super::part_file::FinalName;
use crate::options::Options;
use crate::{Error, TableDefinition};

const POLICY: &str = "sink.partition-commit.policy.kind";
const NAME: &str = "sink.partition-commit.success-file.name";
const TRIGGER: &str = "sink.partition-commit.trigger";
const DELAY: &str = "sink.partition-commit.delay";

const NAME_DEFAULT: &str = "_SUCCESS";

/// Returns the name of the success file of a table's partitions; `None` if none is to be written.
pub(super) fn name_of(table: &TableDefinition) -> Result<Option<String>, Error> {
    let options = Options::of(table);
    let invalid =
        |option: &str, problem: String| Error::Invalid(format!("table `{}`: option '{option}': {problem}", table.name));
    let Some(policies) = options.text(POLICY) else {
        return Ok(None);
    };
    let mut is_wanted = false;
    for policy in policies.split(',').map(str::trim) {
        match policy {
            "success-file" => is_wanted = true,
            "metastore" | "custom" => {
                return Err(invalid(
                    POLICY,
                    format!(
                        "'{policy}' is not supported: there is no metastore and there are no Java classes; 'success-file' is"
                    ),
                ));
            }
            other => {
                return Err(invalid(
                    POLICY,
                    format!("`{other}` is not a policy; 'success-file' is one"),
                ));
            }
        }
    }
    // By event time, or later, a success file would have to wait for the watermark. One that is early would be wrong.
    let is_immediate = options.text(TRIGGER).is_none_or(|trigger| trigger == "process-time")
        && options.duration(DELAY)?.is_none_or(|delay| delay.is_zero());
    let name = options.text(NAME).unwrap_or(NAME_DEFAULT);
    if name.is_empty() || name.contains('/') || !name.starts_with(['_', '.']) {
        return Err(invalid(
            NAME,
            format!("`{name}` would be read as data: begin the name with `_`, and write no `/`"),
        ));
    }
    Ok((is_wanted && is_immediate && !table.partitioned_by.is_empty()).then(|| name.to_owned()))
}

/// Writes the success file into the folders of published files.
pub(super) async fn write(location: &Location, name: &str, published: &[FinalName]) -> Result<(), Error> {
    let folders: BTreeSet<&str> = published
        .iter()
        .filter_map(|file| match file {
            FinalName::Path(path) | FinalName::Key(path) => path.rsplit_once('/').map(|(folder, _)| folder),
        })
        .collect();
    match location {
        Location::Local(_) => {
            let folders: Vec<String> = folders.into_iter().map(str::to_owned).collect();
            let name = name.to_owned();
            tokio::task::spawn_blocking(move || folders.iter().try_for_each(|folder| write_local(folder, &name)))
                .await
                .map_err(|error| Error::Unavailable(format!("writing success files was interrupted: {error}")))?
        }
        Location::Store(store) => {
            for folder in folders {
                let key = store.key_of(&format!("{folder}/{name}"))?;
                let written = store.store.put(&key, Vec::new().into()).await;
                written.map_err(|error| store_error(key.as_ref(), &error))?;
            }
            Ok(())
        }
    }
}

fn write_local(folder: &str, name: &str) -> Result<(), Error> {
    let path = Path::new(folder).join(name);
    match std::fs::write(&path, b"") {
        Ok(()) => sync_folder(Path::new(folder)),
        // The folder was moved away by a reader of the output, with its files.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error(
            "cannot write the success file",
            &path.to_string_lossy(),
            error,
        )),
    }
}
