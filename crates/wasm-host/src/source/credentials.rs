//! Who the scheduler is to an image registry: the configuration file of docker's clients, `config.json`, with its `auths`. It is read
//! at each look at the registry, so that what is renewed there is used. Programs that it names (`credsStore`, `credHelpers`) are
//! not run.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

/// Of the file.
const MAX_BYTES: u64 = 1 << 20;
const NAME: &str = "config.json";
/// How Docker's own registry is called in such files, by whoever follows Docker's first.
const DOCKER: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// What a registry is told. It has no `Debug`: nothing of it belongs into a log.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    Basic {
        user: String,
        password: String,
    },
    /// What is given for a token, by OAuth2.
    Identity(String),
    /// A token.
    Token(String),
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    /// `user:password` in base64; wins over the two above.
    auth: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
    #[serde(rename = "registrytoken")]
    registry_token: String,
}

/// Where credentials are: where it is said, or else where docker's clients look. One that nobody has named may be missing.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    must_be: bool,
}

/// The credential for a repository, if there is one.
pub(super) fn look(given: Option<&Path>, registry: &str, repository: &str) -> Result<Option<Credential>, String> {
    let variable = |name: &str| std::env::var_os(name);
    let (folder, home) = (variable("DOCKER_CONFIG"), variable("HOME"));
    let Some(place) = place(given, folder.as_deref(), home.as_deref()) else { return Ok(None) };
    let failed = |reason: String| format!("credentials in {}: {reason}", place.path.display());
    let file = match File::open(&place.path) {
        Err(error) if error.kind() == ErrorKind::NotFound && !place.must_be => return Ok(None),
        result => result.map_err(|error| failed(error.to_string()))?,
    };
    let mut bytes = Vec::new();
    // One byte more shows that there is more.
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    find(&bytes, registry, repository).map_err(failed)
}

fn place(given: Option<&Path>, folder: Option<&OsStr>, home: Option<&OsStr>) -> Option<Place> {
    let filled = |text: Option<&OsStr>| text.filter(|text| !text.is_empty()).map(PathBuf::from);
    if let Some(path) = given {
        return Some(Place { path: path.to_owned(), must_be: true });
    }
    let folder = filled(folder).or_else(|| Some(filled(home)?.join(".docker")))?;
    Some(Place { path: folder.join(NAME), must_be: false })
}

/// Of the entries that fit, the one that is about the least.
fn find(bytes: &[u8], registry: &str, repository: &str) -> Result<Option<Credential>, String> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    // The parser's own words could repeat a part of what is secret.
    let config: Config = serde_json::from_slice(bytes).map_err(|error| {
        format!("it is no configuration of docker's: see line {}, column {}", error.line(), error.column())
    })?;
    let wanted = bare(&format!("{registry}/{repository}"));
    let fits = |place: &str| wanted.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let fitting = config.auths.into_iter().map(|(place, entry)| (bare(&place), entry));
    let best = fitting.filter(|(place, _)| fits(place)).max_by_key(|(place, _)| place.len());
    let Some((place, entry)) = best else { return Ok(None) };
    credential(entry).map_err(|reason| format!("{place}: {reason}"))
}

fn credential(entry: Entry) -> Result<Option<Credential>, &'static str> {
    if !entry.registry_token.is_empty() {
        return Ok(Some(Credential::Token(entry.registry_token)));
    }
    if !entry.identity_token.is_empty() {
        return Ok(Some(Credential::Identity(entry.identity_token)));
    }
    let (user, password) = match entry.auth.trim() {
        "" => (entry.username, entry.password),
        auth => {
            let text = STANDARD.decode(auth).map_err(|_| "its auth is not base64")?;
            let text = String::from_utf8(text).map_err(|_| "its auth is not text")?;
            let (user, password) = text.split_once(':').ok_or("its auth has no colon")?;
            (user.to_owned(), password.trim_end_matches('\0').to_owned())
        }
    };
    // A program that keeps the secret leaves an entry without any.
    Ok((!user.is_empty()).then_some(Credential::Basic { user, password }))
}

/// A place without what means nothing: its scheme, the version of its interface, and which of Docker's names it has.
fn bare(place: &str) -> String {
    let place = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://")).unwrap_or(place);
    let place = place.trim_end_matches('/');
    let place = place.strip_suffix("/v1").or_else(|| place.strip_suffix("/v2")).unwrap_or(place);
    let (host, rest) = place.split_at(place.find('/').unwrap_or(place.len()));
    let host = if DOCKER.contains(&host) { DOCKER[0] } else { host };
    format!("{host}{rest}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn words(found: Result<Option<Credential>, String>) -> String {
        match found {
            Ok(None) => "nobody".to_owned(),
            Ok(Some(Credential::Basic { user, password })) => format!("{user} with {password}"),
            Ok(Some(Credential::Identity(token))) => format!("identity {token}"),
            Ok(Some(Credential::Token(token))) => format!("token {token}"),
            Err(error) => error,
        }
    }

    #[test]
    fn the_entry_that_is_about_the_least_is_taken() {
        let auth = |text: &str| json!({"auth": STANDARD.encode(text)});
        let config = json!({"auths": {
            "r.io": auth("all:a:b"), "r.io/team": auth("team:t"), "https://r.io:5000/v2/": auth("port:p\0"),
            "https://index.docker.io/v1/": auth("docker:d"),
            "id.io": {"auth": STANDARD.encode("<token>:"), "identitytoken": "i"}, "tok.io": {"registrytoken": "t"},
            "plain.io": {"username": "u", "password": "w"}, "kept.io": {},
        }, "credsStore": "desktop", "HttpHeaders": {}})
        .to_string();
        let check = |registry: &str, repository: &str, expected: &str| {
            assert_eq!(words(find(config.as_bytes(), registry, repository)), expected, "{registry}/{repository}");
        };
        check("r.io", "other/plugin", "all with a:b");
        check("r.io", "teams/plugin", "all with a:b");
        check("r.io", "team/plugin", "team with t");
        check("r.io", "team", "team with t");
        check("r.io:5000", "team", "port with p");
        check("r.io:5001", "team", "nobody");
        check("docker.io", "library/plugin", "docker with d");
        check("index.docker.io", "library/plugin", "docker with d");
        check("id.io", "p", "identity i");
        check("tok.io", "p", "token t");
        check("plain.io", "p", "u with w");
        check("kept.io", "p", "nobody");
        check("another.io", "p", "nobody");
    }

    #[test]
    fn a_file_that_is_damaged_is_refused_without_its_secrets() {
        let check = |text: &str, expected: &str| {
            let found = words(find(text.as_bytes(), "r.io", "p"));
            assert!(found.contains(expected) && !found.contains("secret"), "{text}: {found}");
        };
        check("{", "no configuration of docker's: see line 1, column 1");
        check(r#"{"auths": {"r.io": {"password": ["secret"]}}}"#, "no configuration of docker's");
        check(r#"{"auths": {"r.io": {"auth": "secret!"}}}"#, "r.io: its auth is not base64");
        check(r#"{"auths": {"r.io": {"auth": "/w=="}}}"#, "r.io: its auth is not text");
        check(r#"{"auths": {"r.io": {"auth": "c2VjcmV0"}}}"#, "r.io: its auth has no colon");
        check("{}", "nobody");
        check(&" ".repeat(usize::try_from(MAX_BYTES).unwrap() + 1), "more than 1048576 bytes");
    }

    #[test]
    fn the_file_is_where_it_is_said_or_where_docker_has_it() {
        let check = |given: Option<&str>, folder: Option<&str>, home: Option<&str>, expected: Option<(&str, bool)>| {
            let found = place(given.map(Path::new), folder.map(OsStr::new), home.map(OsStr::new));
            let expected = expected.map(|(path, must_be)| Place { path: path.into(), must_be });
            assert_eq!(found, expected, "{given:?} {folder:?} {home:?}");
        };
        check(Some("/given.json"), Some("/d"), Some("/h"), Some(("/given.json", true)));
        check(None, Some("/d"), Some("/h"), Some(("/d/config.json", false)));
        check(None, Some(""), Some("/h"), Some(("/h/.docker/config.json", false)));
        check(None, None, None, None);
    }

    #[test]
    fn a_file_that_was_named_has_to_be_there() {
        let missing = tempfile::tempdir().unwrap().path().join("none.json");
        assert!(words(look(Some(&missing), "r.io", "p")).contains("none.json: No such file"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..64), place in ".{0,20}", auth in ".{0,20}") {
            let _ = find(&bytes, "r.io", "p");
            let config = json!({"auths": {place: {"auth": auth}}}).to_string();
            let _ = find(config.as_bytes(), "r.io", "p");
        }
    }
}
