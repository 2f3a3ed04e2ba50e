//! Secrets: the values of references `${secret:NAME}` in option values.
//!
//! A table definition contains the reference. Only [`registry::source`](crate::registry::source),
//! [`registry::sink`](crate::registry::sink) and the check of external objects replace it, in a copy for the connector.
//! So journals, plans and checkpoints never contain a value. Each opening of a connector reads the value anew.
//! Messages of libraries that repeat a value pass through [`redaction`].

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use millstream_proto::spec::secret_reference;

use crate::redaction::{self, MASK};
use crate::{Error, TableDefinition};

/// Longest secret, that of Kubernetes.
const BYTES_MAX: u64 = 1 << 20;

static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// The value of a secret. It is not printed by `Debug` and `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns the value.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Sets the folder of secrets, one file per secret, for the whole process. Called at most once, before a connector is
/// opened. Without it, secrets are read from the environment only.
pub fn set_directory(directory: PathBuf) {
    // A second call would be a mistake of the caller, whose first folder stays in effect.
    DIRECTORY.get_or_init(|| directory);
}

/// Returns the table with the values of the secrets that its options refer to.
pub(crate) fn resolve(table: &TableDefinition) -> Result<Cow<'_, TableDefinition>, Error> {
    resolve_with(table, |name| {
        read(name, DIRECTORY.get().map(PathBuf::as_path), &|variable| {
            std::env::var(variable).ok()
        })
    })
}

fn resolve_with(
    table: &TableDefinition,
    read: impl Fn(&str) -> Result<Secret, String>,
) -> Result<Cow<'_, TableDefinition>, Error> {
    let has_references = |value: &String| value.contains(secret_reference::START);
    if !table.options.values().any(has_references) {
        return Ok(Cow::Borrowed(table));
    }
    let mut resolved = table.clone();
    for (option, value) in &mut resolved.options {
        *value =
            secret_reference::replace(value, |name| read(name).map(|secret| secret.0)).map_err(|problem: String| {
                Error::Invalid(format!("table `{}`: option '{option}': {problem}", table.name))
            })?;
    }
    Ok(Cow::Owned(resolved))
}

/// Reads a secret: the file of this name in the folder, else the environment variable.
fn read(name: &str, directory: Option<&Path>, environment: &dyn Fn(&str) -> Option<String>) -> Result<Secret, String> {
    let variable = format!(
        "MILLSTREAM_SECRET_{}",
        name.to_ascii_uppercase().replace(['-', '.'], "_")
    );
    let from_file = directory
        .map(|directory| read_file(&directory.join(name)))
        .transpose()?;
    let found = from_file.flatten().or_else(|| environment(&variable));
    let Some(value) = found else {
        let looked = match directory {
            Some(directory) => format!("neither the file {} nor", directory.join(name).display()),
            None => "--secrets gives no folder, and there is not".to_string(),
        };
        return Err(format!(
            "this process has no secret `{name}`: {looked} the environment variable {variable}; add it to every process \
             that opens the table, the coordinators and the workers of a cluster"
        ));
    };
    if value.contains('\0') {
        return Err(format!("the secret `{name}` has a zero byte; it must be text"));
    }
    redaction::remember(&value);
    Ok(Secret(value))
}

/// Reads a file without the line break at its end; `None` if there is none of this name.
fn read_file(path: &Path) -> Result<Option<String>, String> {
    let failed = |problem: &dyn fmt::Display| format!("the secret in {} cannot be read: {problem}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error)),
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(&error))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(failed(&format!("it has more than {BYTES_MAX} bytes")));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| failed(&"it is not text in UTF-8"))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::Schema;

    use super::*;

    fn table(options: &[(&str, &str)]) -> TableDefinition {
        TableDefinition {
            name: "t".into(),
            schema: Arc::new(Schema::empty()),
            metadata: Vec::new(),
            options: options
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
        }
    }

    #[test]
    fn a_file_comes_before_a_variable() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a-key.pem"), "from a file\r\n").expect("written");
        let environment = |name: &str| {
            let known = ["MILLSTREAM_SECRET_A_KEY_PEM", "MILLSTREAM_SECRET_OTHER"];
            known.contains(&name).then(|| format!("from {name}"))
        };
        let read =
            |name: &str, directory| read(name, directory, &environment).map(|secret| secret.expose().to_string());
        assert_eq!(read("a-key.pem", Some(folder.path())).as_deref(), Ok("from a file"));
        assert_eq!(
            read("a-key.pem", None).as_deref(),
            Ok("from MILLSTREAM_SECRET_A_KEY_PEM")
        );
        assert_eq!(
            read("other", Some(folder.path())).as_deref(),
            Ok("from MILLSTREAM_SECRET_OTHER")
        );
        let missing = read("none", Some(folder.path())).expect_err("there is none");
        for part in [
            "no secret `none`",
            &folder.path().join("none").display().to_string(),
            "MILLSTREAM_SECRET_NONE",
        ] {
            assert!(missing.contains(part), "{missing}");
        }
        std::fs::write(folder.path().join("binary"), [0xff, 0xfe]).expect("written");
        std::fs::write(folder.path().join("zero"), "a\0b").expect("written");
        for name in ["binary", "zero"] {
            assert!(read(name, Some(folder.path())).is_err());
        }
    }

    #[test]
    fn only_the_copy_of_the_table_has_the_value() {
        let original = table(&[("a", "x${secret:n}y"), ("b", "$${secret:n}"), ("c", "plain")]);
        let resolved = resolve_with(&original, |_| Ok(Secret("v".into()))).expect("resolved");
        assert_eq!(resolved.option("a"), Some("xvy"));
        assert_eq!(resolved.option("b"), Some("${secret:n}"));
        assert_eq!(resolved.option("c"), Some("plain"));
        assert_eq!(original.option("a"), Some("x${secret:n}y"));
        let error = resolve_with(&original, |_| Err("it is missing".into())).expect_err("missing");
        assert_eq!(error.to_string(), "table `t`: option 'a': it is missing");
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?} {}", Secret("x".into()), Secret("x".into())), "*** ***");
    }
}
