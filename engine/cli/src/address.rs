//! Addresses of coordinators.

/// Address of a coordinator on this machine, used where no other is given.
pub const SERVER_DEFAULT: &str = "http://127.0.0.1:7070";
/// Most addresses of one cluster.
pub const SERVERS_MAX: usize = 16;

/// Returns an address with scheme and port, from one as people write it.
pub fn address(text: &str) -> Result<String, String> {
    let text = text.trim();
    // `bogus://` stays as it is: without its slashes it would look like a host.
    let text = match text.strip_suffix('/') {
        Some(host) if !host.ends_with('/') => host,
        _ => text,
    };
    if text.is_empty() {
        return Err("an address is empty; write http://HOST:7070".to_string());
    }
    if text.starts_with("https://") {
        return Err(format!(
            "{text}: this version does not support TLS; write http://HOST:PORT"
        ));
    }
    let full = if text.contains("://") {
        text.to_string()
    } else {
        format!("http://{text}")
    };
    let uri: tonic::codegen::http::Uri = full
        .parse()
        .map_err(|error| format!("{text}: not an address: {error}; write http://HOST:PORT"))?;
    let is_cut_short = uri
        .authority()
        .is_some_and(|authority| authority.as_str().ends_with(':'));
    if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) || uri.path().len() > 1 || is_cut_short
    {
        return Err(format!("{text}: not an address; write http://HOST:PORT"));
    }
    Ok(match uri.port() {
        Some(_) => full,
        None => format!("{full}:7070"),
    })
}

/// Parses addresses that are separated by commas.
pub fn addresses(text: &str) -> Result<Vec<String>, String> {
    let addresses: Vec<String> = text.split(',').map(address).collect::<Result<_, _>>()?;
    if addresses.len() > SERVERS_MAX {
        return Err(format!("more than {SERVERS_MAX} addresses (SERVERS_MAX)"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed_or_refused() {
        #[track_caller]
        fn check(text: &str, expected: Result<&[&str], &str>) {
            match (addresses(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert_eq!(found, expected),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
        check(
            "http://a:7070,b:1,c",
            Ok(&["http://a:7070", "http://b:1", "http://c:7070"]),
        );
        check("a,", Err("an address is empty; write http://HOST:7070"));
        check(
            "https://a",
            Err("https://a: this version does not support TLS; write http://HOST:PORT"),
        );
        check("http://a/", Ok(&["http://a:7070"]));
        for bogus in ["bogus://", "bogus://a:1", "bogus:", "http://a:", "http://"] {
            assert!(addresses(bogus).is_err(), "{bogus}");
        }
        check("ftp://a", Err("ftp://a: not an address; write http://HOST:PORT"));
        check("http://a/x", Err("http://a/x: not an address; write http://HOST:PORT"));
    }
}
