//! The file of tokens. It contains hashes only: a token itself is shown once, when it is created.
//!
//! A token is `mst_` and 256 random bits in base64url; its SHA-256 is stored. A slow hash would protect guessable
//! secrets, which these are not.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Role, now_s};

/// Begin of every token, by which scanners for leaked secrets can find it.
const PREFIX: &str = "mst_";
const SECRET_BYTES: usize = 32;
/// Most tokens in a file.
const TOKENS_MAX: usize = 1_000;
/// Longest name of a token.
const NAME_BYTES_MAX: usize = 100;
/// Permissions of the file: its owner's only.
const FILE_MODE: u32 = 0o600;

/// A token, without the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Unique name in the file.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Names of the pipelines that the token is limited to; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pipelines: Vec<String>,
    /// Creation time, in seconds since 1970.
    pub created_s: u64,
    /// Time from which the token is invalid, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
    /// SHA-256 of the token, in base64url.
    hash: Hash,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Hash([u8; 32]);

impl Hash {
    fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("`hash` is not a SHA-256 in base64url")
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        URL_SAFE_NO_PAD.encode(hash.0)
    }
}

/// Properties of a token to create.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Unique name in the file.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Names of the pipelines that the token is limited to; empty: all.
    pub pipelines: Vec<String>,
    /// Time for which the token is valid, in seconds; `None`: until it is revoked.
    pub valid_s: Option<u64>,
}

impl NewToken {
    pub(super) fn worker_of_process() -> Self {
        Self {
            name: "worker of this process".to_string(),
            role: Role::Worker,
            pipelines: Vec::new(),
            valid_s: None,
        }
    }
}

impl Token {
    /// Creates a token; returns it and its secret.
    pub(super) fn generate(new: &NewToken) -> Result<(Self, String), String> {
        let mut random = [0; SECRET_BYTES];
        getrandom::fill(&mut random).map_err(|error| format!("the system has no random numbers: {error}"))?;
        let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let created_s = now_s();
        let token = Self {
            name: new.name.clone(),
            role: new.role,
            pipelines: new.pipelines.clone(),
            created_s,
            expires_s: new.valid_s.map(|valid_s| created_s.saturating_add(valid_s)),
            hash: Hash::of(secret.as_bytes()),
        };
        Ok((token, secret))
    }

    /// Returns true if the token is no longer valid.
    pub fn has_expired(&self) -> bool {
        self.expires_s.is_some_and(|expires_s| expires_s <= now_s())
    }

    pub(super) fn covers(&self, pipeline: &str) -> bool {
        self.pipelines.is_empty() || self.pipelines.iter().any(|covered| covered == pipeline)
    }
}

/// Returns the token with this secret. Compares with every token, each in constant time.
pub(super) fn find<'a>(tokens: impl Iterator<Item = &'a Arc<Token>>, secret: &[u8]) -> Option<&'a Arc<Token>> {
    let presented = Hash::of(secret);
    let mut found = None;
    for token in tokens {
        if bool::from(token.hash.0.ct_eq(&presented.0)) {
            found = Some(token);
        }
    }
    found
}

/// Content of a file of tokens.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFile {
    /// The tokens, in the order of their creation.
    pub tokens: Vec<Token>,
}

impl TokenFile {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!(
                "{}: there is no such file of tokens; `engine tokens create` makes one",
                path.display()
            ),
            _ => format!("{}: the file of tokens cannot be read: {error}", path.display()),
        })?;
        serde_json::from_str(&text).map_err(|error| {
            format!(
                "{}: not a file of tokens: {error}; restore it, or delete it and create tokens with `engine tokens create`",
                path.display()
            )
        })
    }

    /// Adds a new token to a file, which is created if it does not exist. Returns the secret.
    pub fn create(path: &Path, new: &NewToken) -> Result<String, String> {
        check_name(&new.name)?;
        let _lock = lock(path)?;
        let mut file = match path.exists() {
            true => Self::read(path)?,
            false => Self::default(),
        };
        if file.tokens.iter().any(|token| token.name == new.name) {
            return Err(format!(
                "{}: there is a token `{}` already; choose another name, or revoke it with `engine tokens revoke {}`",
                path.display(),
                new.name,
                new.name
            ));
        }
        if file.tokens.len() >= TOKENS_MAX {
            return Err(format!(
                "{}: there are {TOKENS_MAX} tokens already (TOKENS_MAX); revoke those that are not needed",
                path.display()
            ));
        }
        let (token, secret) = Token::generate(new)?;
        file.tokens.push(token);
        file.write(path)?;
        Ok(secret)
    }

    /// Removes a token from a file.
    pub fn revoke(path: &Path, name: &str) -> Result<(), String> {
        let _lock = lock(path)?;
        let mut file = Self::read(path)?;
        let before = file.tokens.len();
        file.tokens.retain(|token| token.name != name);
        if file.tokens.len() == before {
            let names = file.tokens.iter().map(|token| token.name.as_str());
            return Err(format!(
                "{}: there is no token `{name}`{}",
                path.display(),
                millstream_proto::spec::did_you_mean(name, names)
            ));
        }
        file.write(path)
    }

    /// Writes a temporary file and renames it, so that a server reads either the old content or the new one.
    fn write(&self, path: &Path) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{}: cannot be written: {error}", path.display());
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        let temporary = beside(path, ".tmp");
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(FILE_MODE)
                .open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        write().map_err(failed)
    }
}

/// Locks a file of tokens against other commands until the result is dropped.
fn lock(path: &Path) -> Result<File, String> {
    let locked = beside(path, ".lock");
    let open = || {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&locked)?;
        file.lock()?;
        Ok(file)
    };
    open().map_err(|error: std::io::Error| format!("{}: cannot be locked: {error}", locked.display()))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}

fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(format!(
            "`{name}` is not a valid name of a token; use letters, digits, `_`, `-` and `.`, at most {NAME_BYTES_MAX} characters"
        )),
    }
}
