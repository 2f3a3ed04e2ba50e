//! Named clusters, in a file of the user's configuration folder, and the selection of a command's cluster.
//!
//! Order of precedence: `--server`, `--context`, `MILLSTREAM_SERVER`, `MILLSTREAM_CONTEXT`, the current context, a
//! coordinator on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::address::{SERVER_DEFAULT, addresses};
use crate::failure::{Exit, Failure};

/// Most contexts in the file.
const CONTEXTS_MAX: usize = 1000;

/// Content of the file of contexts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contexts {
    /// Name of the context that is used where none is selected.
    pub current: Option<String>,
    /// Addresses of the coordinators, by the context's name.
    pub servers: BTreeMap<String, Vec<String>>,
}

/// Returns `MILLSTREAM_CONTEXTS`, else `millstream/contexts.json` in the user's configuration folder.
pub fn path() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os("MILLSTREAM_CONTEXTS").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let folder = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|folder| Path::new(folder).is_absolute())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")))
        .ok_or_else(|| Failure::invalid("this user has no home folder; name a file in MILLSTREAM_CONTEXTS"))?;
    Ok(folder.join("millstream").join("contexts.json"))
}

impl Contexts {
    /// Reads the file; a missing file has no contexts.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::invalid(format!("{}: cannot be read: {error}", path.display()))),
        };
        Self::parse(&text)
            .map_err(|error| Failure::invalid(format!("{}: {error}; correct or delete the file", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let contexts = value["contexts"].as_object().ok_or("`contexts` is not an object")?;
        let mut servers = BTreeMap::new();
        for (name, list) in contexts {
            let list = list
                .as_array()
                .ok_or_else(|| format!("`contexts.{name}` is not a list"))?;
            let list: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            let list = addresses(&list.join(",")).map_err(|error| format!("`contexts.{name}`: {error}"))?;
            servers.insert(name.clone(), list);
        }
        Ok(Self {
            current: value["current"].as_str().map(str::to_string),
            servers,
        })
    }

    /// Writes a temporary file and renames it, so that a reader sees either the old content or the new one.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let text = format!("{:#}\n", json!({ "current": self.current, "contexts": self.servers }));
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let write = || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&temporary, text)?;
            std::fs::rename(&temporary, path)
        };
        write().map_err(|error| Failure::new(Exit::Failed, format!("{}: cannot be written: {error}", path.display())))
    }

    /// Adds or replaces a context. The first one becomes the current one.
    pub fn add(&mut self, name: &str, servers: Vec<String>) -> Result<(), Failure> {
        let is_valid = !name.is_empty()
            && name.len() <= 100
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if !is_valid {
            return Err(Failure::invalid(format!(
                "`{name}` is not a valid context name; use letters, digits, `_`, `-` and `.`, at most 100 characters"
            )));
        }
        if self.servers.len() >= CONTEXTS_MAX {
            return Err(Failure::invalid(format!(
                "there are {CONTEXTS_MAX} contexts already (CONTEXTS_MAX)"
            )));
        }
        self.servers.insert(name.to_string(), servers);
        if self.current.is_none() {
            self.current = Some(name.to_string());
        }
        Ok(())
    }

    /// Returns the addresses of a context.
    pub fn get(&self, name: &str) -> Result<&Vec<String>, Failure> {
        self.servers.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.servers.keys().map(String::as_str).collect();
            let known = match known.is_empty() {
                true => "there are no contexts yet; add one with `engine-cli context add NAME SERVER`".to_string(),
                false => format!("known contexts: {}", known.join(", ")),
            };
            Failure::new(Exit::NotFound, format!("there is no context `{name}`; {known}"))
        })
    }
}

/// Options that select a cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterSelection {
    /// Value of `--server`.
    pub server: Option<String>,
    /// Value of `--context`.
    pub context: Option<String>,
}

/// Returns the addresses of the selected cluster.
pub fn servers(
    selection: &ClusterSelection,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, Failure> {
    let parse = |text: &str| addresses(text).map_err(Failure::invalid);
    if let Some(server) = &selection.server {
        return parse(server);
    }
    let stored = || Contexts::load(&path()?);
    if let Some(context) = &selection.context {
        return Ok(stored()?.get(context)?.clone());
    }
    if let Some(server) = environment("MILLSTREAM_SERVER").filter(|server| !server.is_empty()) {
        return parse(&server);
    }
    let contexts = stored()?;
    let name = environment("MILLSTREAM_CONTEXT")
        .filter(|name| !name.is_empty())
        .or(contexts.current.clone());
    match name {
        Some(name) => Ok(contexts.get(&name)?.clone()),
        None => Ok(vec![SERVER_DEFAULT.to_string()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_file_is_refused_with_the_place() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(Contexts::parse(text).unwrap_err(), expected);
        }
        check("{}", "`contexts` is not an object");
        check(r#"{"contexts":{"a":1}}"#, "`contexts.a` is not a list");
        check(
            r#"{"contexts":{"a":["ftp://b"]}}"#,
            "`contexts.a`: ftp://b: not an address; write http://HOST:PORT",
        );
    }

    #[test]
    fn the_first_context_is_current_and_the_command_line_takes_precedence() {
        let mut contexts = Contexts::default();
        contexts.add("a", vec!["http://a:1".into()]).unwrap();
        contexts.add("b", vec!["http://b:1".into()]).unwrap();
        assert_eq!(contexts.current.as_deref(), Some("a"));
        assert!(contexts.add("no/name", Vec::new()).is_err());
        let selection = ClusterSelection {
            server: Some("x:1".into()),
            context: Some("a".into()),
        };
        let found = servers(&selection, &|_| Some("y:1".into())).unwrap();
        assert_eq!(found, ["http://x:1"]);
        let found = servers(&ClusterSelection::default(), &|name| {
            (name == "MILLSTREAM_SERVER").then(|| "y".into())
        })
        .unwrap();
        assert_eq!(found, ["http://y:7070"]);
    }
}
