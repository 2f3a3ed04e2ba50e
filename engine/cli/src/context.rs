//! Clusters by name: a small file in the user's configuration folder, and which cluster a command means.
//!
//! What says most wins: `--server`, `--context`, `MILLSTREAM_SERVER`, `MILLSTREAM_CONTEXT`, the context in use, else
//! this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::client::{SERVER_DEFAULT, addresses};
use crate::failure::{Exit, Failure};

/// Contexts in the file, at most.
const CONTEXTS_MAX: usize = 1000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contexts {
    pub current: Option<String>,
    /// Addresses of the coordinators, by the context's name.
    pub servers: BTreeMap<String, Vec<String>>,
}

/// `MILLSTREAM_CONTEXTS`, else `millstream/contexts.json` in the user's configuration folder.
pub fn path() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os("MILLSTREAM_CONTEXTS").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let folder = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|folder| Path::new(folder).is_absolute())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")))
        .ok_or_else(|| Failure::wrong("this user has no home folder; name a file in MILLSTREAM_CONTEXTS"))?;
    Ok(folder.join("millstream").join("contexts.json"))
}

impl Contexts {
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::wrong(format!("{}: cannot be read: {error}", path.display()))),
        };
        Self::parse(&text)
            .map_err(|what| Failure::wrong(format!("{}: {what}; mend or remove the file", path.display())))
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
            let list = addresses(&list.join(",")).map_err(|what| format!("`contexts.{name}`: {what}"))?;
            servers.insert(name.clone(), list);
        }
        Ok(Self {
            current: value["current"].as_str().map(str::to_string),
            servers,
        })
    }

    /// Written beside and renamed: a reader sees the old file or the new one.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let text = format!("{:#}\n", json!({ "current": self.current, "contexts": self.servers }));
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        let write = || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&beside, text)?;
            std::fs::rename(&beside, path)
        };
        write().map_err(|error| Failure::new(Exit::Failed, format!("{}: cannot be written: {error}", path.display())))
    }

    pub fn add(&mut self, name: &str, servers: Vec<String>) -> Result<(), Failure> {
        let good = !name.is_empty()
            && name.len() <= 100
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if !good {
            return Err(Failure::wrong(format!(
                "`{name}` cannot be a context's name; it consists of letters, digits, `_`, `-` and `.`"
            )));
        }
        if self.servers.len() >= CONTEXTS_MAX {
            return Err(Failure::wrong(format!(
                "there are {CONTEXTS_MAX} contexts already (CONTEXTS_MAX)"
            )));
        }
        self.servers.insert(name.to_string(), servers);
        if self.current.is_none() {
            self.current = Some(name.to_string());
        }
        Ok(())
    }

    pub fn get(&self, name: &str) -> Result<&Vec<String>, Failure> {
        self.servers.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.servers.keys().map(String::as_str).collect();
            let known = match known.is_empty() {
                true => "there are none: add one with `engine-cli context add NAME SERVER`".to_string(),
                false => format!("there are {}", known.join(", ")),
            };
            Failure::new(Exit::NotFound, format!("there is no context `{name}`; {known}"))
        })
    }
}

/// What the command line and the environment say about the cluster.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    pub server: Option<String>,
    pub context: Option<String>,
}

/// The addresses of the cluster that is meant.
pub fn servers(wish: &Wish, environment: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>, Failure> {
    let parse = |text: &str| addresses(text).map_err(Failure::wrong);
    if let Some(server) = &wish.server {
        return parse(server);
    }
    let stored = || Contexts::load(&path()?);
    if let Some(context) = &wish.context {
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
    fn a_file_that_makes_no_sense_says_where() {
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
    fn the_first_context_is_used_and_the_word_of_the_command_line_counts_most() {
        let mut contexts = Contexts::default();
        contexts.add("a", vec!["http://a:1".into()]).unwrap();
        contexts.add("b", vec!["http://b:1".into()]).unwrap();
        assert_eq!(contexts.current.as_deref(), Some("a"));
        assert!(contexts.add("no/name", Vec::new()).is_err());
        let wish = Wish {
            server: Some("x:1".into()),
            context: Some("a".into()),
        };
        let found = servers(&wish, &|_| Some("y:1".into())).unwrap();
        assert_eq!(found, ["http://x:1"]);
        let found = servers(&Wish::default(), &|name| {
            (name == "MILLSTREAM_SERVER").then(|| "y".into())
        })
        .unwrap();
        assert_eq!(found, ["http://y:7070"]);
    }
}
