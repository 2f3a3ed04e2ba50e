//! Authentication and authorization of callers: tokens, roles, and the rights of calls.
//!
//! A server with a file of tokens answers callers that send one of them (`Authorization: Bearer`, RFC 6750).
//! [`Access`] finds the [`Caller`] of a request; [`Guard`] requires a [`Right`] for each call of the client API. A
//! server without such a file answers everyone.
//!
//! A token is checked when a call begins: revoking it does not end the streams that it has opened.

mod guard;
mod tokens;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tonic::metadata::AsciiMetadataValue;

pub(crate) use self::guard::Guard;
pub use self::tokens::{NewToken, Token, TokenFile};
use crate::api::{Code, Error};
use crate::clock;

/// Interval at which the file of tokens is checked for changes.
const RELOAD_INTERVAL: Duration = Duration::from_millis(500);

/// Role of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads the state of jobs, checkpoints and workers.
    Viewer,
    /// Also runs and changes jobs, and invokes services.
    Operator,
    /// Also deletes what cannot be restored, and drains workers.
    Admin,
    /// Registers as a worker, and does nothing else.
    Worker,
}

impl Role {
    /// Returns the name of the role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Worker => "worker",
        }
    }

    fn has(self, right: Right) -> bool {
        match self {
            Self::Viewer => matches!(right, Right::Read),
            Self::Operator => matches!(right, Right::Read | Right::Operate),
            Self::Admin => matches!(right, Right::Read | Right::Operate | Right::Administer),
            Self::Worker => matches!(right, Right::Register),
        }
    }
}

/// Right that a call requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    Read,
    Operate,
    Administer,
    /// Registering as a worker, which receives whole pipelines with their credentials.
    Register,
}

impl Right {
    fn requirement(self) -> &'static str {
        match self {
            Self::Read => "the role `viewer`, `operator` or `admin`",
            Self::Operate => "the role `operator` or `admin`",
            Self::Administer => "the role `admin`",
            Self::Register => "the role `worker`",
        }
    }
}

/// Surface of a server: a label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    Grpc,
    Rest,
    Worker,
    Service,
}

impl Surface {
    fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
            Self::Worker => "worker",
            Self::Service => "service",
        }
    }
}

/// The tokens that a server accepts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `None`: everyone is answered.
    accepted: Option<Arc<Accepted>>,
}

#[derive(Debug)]
struct Accepted {
    of_file: RwLock<Vec<Arc<Token>>>,
    /// Token of the worker in this process, if there is one.
    of_process: Option<Arc<Token>>,
}

impl Access {
    /// Returns the access to a server that answers everyone.
    pub fn unrestricted() -> Self {
        Self::default()
    }

    /// Reads a file of tokens. A background task reads it again when it changes; while it cannot be read, the last
    /// tokens stay valid. Must be called within a Tokio runtime.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        Self::start(path, None)
    }

    /// Like [`Access::from_file`], and returns a new token for a worker in this process.
    pub fn with_own_worker(path: &Path) -> Result<(Self, String), String> {
        let (token, secret) = Token::generate(&NewToken::worker_of_process())?;
        Ok((Self::start(path, Some(Arc::new(token)))?, secret))
    }

    fn start(path: &Path, of_process: Option<Arc<Token>>) -> Result<Self, String> {
        // Before the content: a change in between is read again.
        let mut seen = Version::of(path);
        let accepted = Arc::new(Accepted {
            of_file: RwLock::new(read(path)?),
            of_process,
        });
        let (weak, path) = (Arc::downgrade(&accepted), path.to_path_buf());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RELOAD_INTERVAL).await;
                let Some(accepted) = weak.upgrade() else { return };
                let present = Version::of(&path);
                if present == seen {
                    continue;
                }
                seen = present;
                match read(&path) {
                    Ok(tokens) => {
                        tracing::info!("{}: {} tokens are valid now", path.display(), tokens.len());
                        *accepted.of_file.write() = tokens;
                    }
                    Err(error) => tracing::error!("the tokens stay as they are: {error}"),
                }
            }
        });
        Ok(Self {
            accepted: Some(accepted),
        })
    }

    /// Returns the caller with this `Authorization` header. A caller without the header is anonymous; a token that is
    /// unknown or has expired is an error.
    pub fn caller(&self, surface: Surface, authorization: Option<&[u8]>) -> Result<Caller, Error> {
        let Some(accepted) = &self.accepted else {
            return Ok(Caller {
                surface,
                identity: Identity::Everyone,
            });
        };
        let Some(header) = authorization else {
            return Ok(Caller {
                surface,
                identity: Identity::Anonymous,
            });
        };
        let Some(secret) = bearer(header) else {
            let message = "the header `Authorization` has no token; send `Authorization: Bearer TOKEN`";
            return Err(unauthenticated(surface, "no_token", message));
        };
        let of_file = accepted.of_file.read();
        match tokens::find(of_file.iter().chain(&accepted.of_process), secret) {
            None => {
                let message = "the token is not known to this server; it may have been revoked";
                Err(unauthenticated(surface, "unknown_token", message))
            }
            Some(token) if token.has_expired() => {
                let message = format!("the token `{}` has expired; create another one", token.name);
                Err(unauthenticated(surface, "expired_token", message))
            }
            Some(token) => Ok(Caller {
                surface,
                identity: Identity::Token(Arc::clone(token)),
            }),
        }
    }
}

/// The sender of a request.
#[derive(Debug, Clone)]
pub struct Caller {
    surface: Surface,
    identity: Identity,
}

#[derive(Debug, Clone)]
enum Identity {
    /// Anyone, at a server without tokens.
    Everyone,
    /// A caller that sent no token.
    Anonymous,
    Token(Arc<Token>),
}

impl Caller {
    /// Returns an error for a caller that sent no token although the server requires one.
    pub fn identified(self) -> Result<Self, Error> {
        match self.is_anonymous() {
            true => Err(self.no_token()),
            false => Ok(self),
        }
    }

    /// Returns true if the server requires a token, and the caller sent none.
    pub fn is_anonymous(&self) -> bool {
        matches!(self.identity, Identity::Anonymous)
    }

    /// Checks that the caller has a right. `pipeline` is the one that the call names.
    pub fn check(&self, right: Right, pipeline: Option<&str>) -> Result<(), Error> {
        let token = match &self.identity {
            Identity::Everyone => return Ok(()),
            Identity::Anonymous => return Err(self.no_token()),
            Identity::Token(token) => token,
        };
        if !token.role.has(right) {
            let message = format!(
                "the token `{}` has the role `{}`; this call requires {}",
                token.name,
                token.role.as_str(),
                right.requirement()
            );
            return Err(self.denied("role", message));
        }
        let limits = &token.pipelines;
        let is_within = match pipeline {
            Some(pipeline) => token.covers(pipeline),
            None => limits.is_empty() || right == Right::Read,
        };
        if is_within {
            return Ok(());
        }
        let message = match pipeline {
            Some(pipeline) => format!("the token `{}` has no rights on the pipeline `{pipeline}`", token.name),
            None => format!(
                "the token `{}` has rights on single pipelines only, and the call names none; name one of {} in the request",
                token.name,
                limits.join(", ")
            ),
        };
        Err(self.denied("pipeline", message))
    }

    /// Returns true if lists for this caller contain a pipeline.
    pub fn sees(&self, pipeline: &str) -> bool {
        match &self.identity {
            Identity::Everyone => true,
            Identity::Anonymous => false,
            Identity::Token(token) => token.covers(pipeline),
        }
    }

    fn no_token(&self) -> Error {
        let message = "this server requires a token; send `Authorization: Bearer TOKEN` (engine-cli: set \
                       MILLSTREAM_TOKEN_FILE; workers: --token-file)";
        unauthenticated(self.surface, "no_token", message)
    }

    fn denied(&self, reason: &'static str, message: String) -> Error {
        count(self.surface, reason);
        Error::new(Code::PermissionDenied, message)
    }
}

/// Returns the error of a request whose caller was not determined: a mistake of this program, which refuses it.
pub(crate) fn not_authenticated() -> Error {
    Error::new(Code::Unauthenticated, "the request was not authenticated")
}

fn unauthenticated(surface: Surface, reason: &'static str, message: impl Into<String>) -> Error {
    count(surface, reason);
    Error::new(Code::Unauthenticated, message)
}

fn count(surface: Surface, reason: &'static str) {
    let labels = [("surface", surface.as_str()), ("reason", reason)];
    metrics::counter!("millstream_access_denied_total", &labels).increment(1);
}

/// Returns the token of an `Authorization` header. The scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = header.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

fn read(path: &Path) -> Result<Vec<Arc<Token>>, String> {
    Ok(TokenFile::read(path)?.tokens.into_iter().map(Arc::new).collect())
}

fn now_s() -> u64 {
    u64::try_from(clock::now_us() / 1_000_000).unwrap_or(0)
}

/// Properties that change with the content of a file.
#[derive(Debug, PartialEq, Eq)]
struct Version(Option<(SystemTime, u64, u64)>);

impl Version {
    fn of(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok();
        Self(metadata.and_then(|found| Some((found.modified().ok()?, found.len(), found.ino()))))
    }
}

/// The token that a client of this process sends.
#[derive(Clone, Default)]
pub enum OwnToken {
    /// None: the server answers everyone.
    #[default]
    None,
    /// The content of a file, which is read for each connection.
    File(PathBuf),
    /// This one.
    Secret(String),
}

impl std::fmt::Debug for OwnToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => formatter.write_str("None"),
            Self::File(path) => write!(formatter, "File({})", path.display()),
            Self::Secret(_) => formatter.write_str("Secret(..)"),
        }
    }
}

impl OwnToken {
    /// Adds the token to a request.
    pub async fn add_to<T>(&self, request: &mut tonic::Request<T>) -> Result<(), String> {
        let secret = match self {
            Self::None => return Ok(()),
            Self::Secret(secret) => secret.clone(),
            Self::File(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|error| format!("--token-file {}: cannot be read: {error}", path.display()))?,
        };
        let header = format!("Bearer {}", secret.trim());
        let mut value: AsciiMetadataValue = header
            .parse()
            .map_err(|_| "the file of --token-file contains something else than one token".to_string())?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
