//! Tokens from the file to the rights of calls.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

struct Server {
    folder: TempDir,
    access: Access,
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("tokens.json")
}

fn create(folder: &TempDir, name: &str, role: Role, pipelines: &[&str], valid_s: Option<u64>) -> String {
    let new = NewToken {
        name: name.into(),
        role,
        pipelines: pipelines.iter().map(ToString::to_string).collect(),
        valid_s,
    };
    TokenFile::create(&file(folder), &new).unwrap()
}

impl Server {
    fn caller(&self, secret: &str) -> Result<Caller, Error> {
        self.access
            .caller(Surface::Rest, Some(format!("Bearer {secret}").as_bytes()))
    }

    #[track_caller]
    fn check(&self, secret: &str, right: Right, pipeline: Option<&str>, expected: Option<Code>) {
        let checked = self.caller(secret).and_then(|caller| caller.check(right, pipeline));
        assert_eq!(checked.err().map(|error| error.code), expected);
    }
}

#[tokio::test]
async fn roles_and_pipelines_limit_what_a_token_may_do() {
    use Right::{Administer, Operate, Read, Register};
    let folder = TempDir::new().unwrap();
    let secrets = [
        create(&folder, "v", Role::Viewer, &[], None),
        create(&folder, "o", Role::Operator, &[], None),
        create(&folder, "a", Role::Admin, &[], None),
        create(&folder, "w", Role::Worker, &[], None),
    ];
    let limited = create(&folder, "limited", Role::Admin, &["a", "b"], None);
    let expired = create(&folder, "expired", Role::Admin, &[], Some(0));
    let access = Access::from_file(&file(&folder)).unwrap();
    let server = Server { folder, access };
    let rights = [Read, Operate, Administer, Register];
    let allowed = [
        [true, false, false, false],
        [true, true, false, false],
        [true, true, true, false],
        [false, false, false, true],
    ];
    for (secret, allowed) in secrets.iter().zip(allowed) {
        for (right, is_allowed) in rights.into_iter().zip(allowed) {
            let expected = (!is_allowed).then_some(Code::PermissionDenied);
            server.check(secret, right, None, expected);
            server.check(secret, right, Some("x"), expected);
        }
    }
    server.check(&limited, Operate, Some("a"), None);
    server.check(&limited, Operate, Some("c"), Some(Code::PermissionDenied));
    server.check(&limited, Read, Some("c"), Some(Code::PermissionDenied));
    // Lists are filtered.
    server.check(&limited, Read, None, None);
    server.check(&limited, Operate, None, Some(Code::PermissionDenied));
    assert!(server.caller(&limited).unwrap().sees("b") && !server.caller(&limited).unwrap().sees("c"));
    server.check(&expired, Read, None, Some(Code::Unauthenticated));
    server.check("mst_guess", Read, None, Some(Code::Unauthenticated));
    server.check("", Read, None, Some(Code::Unauthenticated));
    let other_scheme = server.access.caller(Surface::Rest, Some(b"Basic dXNlcg=="));
    assert_eq!(other_scheme.unwrap_err().code, Code::Unauthenticated);
    let anonymous = server.access.caller(Surface::Rest, None).unwrap();
    assert_eq!(anonymous.check(Read, None).unwrap_err().code, Code::Unauthenticated);
    assert!(!anonymous.sees("a"));
    assert!(
        Access::unrestricted()
            .caller(Surface::Rest, None)
            .unwrap()
            .identified()
            .is_ok()
    );
    let stored = std::fs::read_to_string(file(&server.folder)).unwrap();
    assert!(secrets.iter().all(|secret| !stored.contains(secret.as_str())));
}

#[tokio::test]
async fn a_changed_file_is_read_again_and_a_broken_one_is_not_used() {
    let folder = TempDir::new().unwrap();
    let first = create(&folder, "first", Role::Viewer, &[], None);
    let access = Access::from_file(&file(&folder)).unwrap();
    let server = Server { folder, access };
    let until = async |secret: &str, is_valid: bool| {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while server.caller(secret).is_ok() != is_valid {
            assert!(std::time::Instant::now() < deadline, "{is_valid}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let second = create(&server.folder, "second", Role::Viewer, &[], None);
    until(&second, true).await;
    TokenFile::revoke(&file(&server.folder), "first").unwrap();
    until(&first, false).await;
    std::fs::write(file(&server.folder), "{").unwrap();
    tokio::time::sleep(RELOAD_INTERVAL * 3).await;
    assert!(server.caller(&second).is_ok());
}

#[test]
fn mistakes_are_refused_with_the_remedy() {
    let folder = TempDir::new().unwrap();
    let error = TokenFile::read(&file(&folder)).unwrap_err();
    assert!(
        error.ends_with("there is no such file of tokens; `engine tokens create` makes one"),
        "{error}"
    );
    create(&folder, "a", Role::Viewer, &[], None);
    let again = NewToken {
        name: "a".into(),
        role: Role::Viewer,
        pipelines: Vec::new(),
        valid_s: None,
    };
    let error = TokenFile::create(&file(&folder), &again).unwrap_err();
    assert!(error.contains("there is a token `a` already"), "{error}");
    let spaced = NewToken {
        name: "a b".into(),
        ..again
    };
    let error = TokenFile::create(&file(&folder), &spaced).unwrap_err();
    assert!(error.starts_with("`a b` is not a valid name of a token"), "{error}");
    let error = TokenFile::revoke(&file(&folder), "b").unwrap_err();
    assert!(error.contains("there is no token `b`"), "{error}");
}
