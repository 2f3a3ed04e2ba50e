//! `engine tokens`: creates, lists and revokes the tokens of a file that servers read (`--tokens`).

use std::fmt::Write;

use millstream_cluster::access::{NewToken, Role, TokenFile};
use millstream_proto::report::time;

use crate::arguments::{TokenRole, Tokens};
use crate::{Failure, print};

pub fn run(command: &Tokens) -> Result<(), Failure> {
    let refused = |error: String| Failure::Invalid(format!("error: {error}\n"));
    match command {
        Tokens::Create {
            name,
            role,
            expires,
            pipelines,
            file,
        } => {
            let new = NewToken {
                name: name.clone(),
                role: match role {
                    TokenRole::Viewer => Role::Viewer,
                    TokenRole::Operator => Role::Operator,
                    TokenRole::Admin => Role::Admin,
                    TokenRole::Worker => Role::Worker,
                },
                pipelines: pipelines.clone(),
                valid_s: expires.map(|expires_ms| expires_ms.div_ceil(1_000)),
            };
            let secret = TokenFile::create(&file.tokens, &new).map_err(refused)?;
            // Only the token is on standard output, so that it can be redirected to a file.
            eprintln!(
                "{}: the token `{name}` is valid now. It is shown only this once:",
                file.tokens.display()
            );
            print(&format!("{secret}\n"))
        }
        Tokens::List { file } => {
            let listed = TokenFile::read(&file.tokens).map_err(refused)?;
            print(&table(&listed))
        }
        Tokens::Revoke { name, file } => {
            TokenFile::revoke(&file.tokens, name).map_err(refused)?;
            print(&format!("{name}: revoked\n"))
        }
    }
}

fn table(file: &TokenFile) -> String {
    let shown = |seconds: u64| time(i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000));
    let width = file.tokens.iter().map(|token| token.name.len()).fold(4, usize::max);
    let mut out = format!(
        "{:<width$}  ROLE      CREATED              EXPIRES              PIPELINES\n",
        "NAME"
    );
    for token in &file.tokens {
        let expires = match token.expires_s {
            None => "never".to_string(),
            Some(_) if token.has_expired() => "expired".to_string(),
            Some(expires_s) => shown(expires_s),
        };
        let pipelines = match token.pipelines.is_empty() {
            true => "all".to_string(),
            false => token.pipelines.join(", "),
        };
        // Writing to a string cannot fail.
        writeln!(
            out,
            "{:<width$}  {:<8}  {:<19}  {expires:<19}  {pipelines}",
            token.name,
            token.role.as_str(),
            shown(token.created_s),
        )
        .ok();
    }
    out
}
