//! Credentials for registries, as image pull secrets carry them.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{ImageError, Reference};

/// The largest secret that is looked at; Kubernetes' own bound for a Secret.
const MAX_SECRET: usize = 1024 * 1024;

/// Credentials by registry, from `imagePullSecrets`.
#[derive(Clone, Default)]
pub struct RegistryAuths {
    entries: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    /// `registry` or `registry/path`.
    place: String,
    user: String,
    password: String,
}

impl fmt::Debug for RegistryAuths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|e| &e.place)).finish()
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: Option<BTreeMap<String, Credentials>>,
}

#[derive(Deserialize)]
struct Credentials {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    /// `base64(user:password)`; wins over the two above.
    #[serde(default)]
    auth: String,
}

impl RegistryAuths {
    /// Nobody's.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Adds what a secret of type `kubernetes.io/dockerconfigjson` (its `.dockerconfigjson`) or
    /// `kubernetes.io/dockercfg` (its `.dockercfg`) holds. Earlier entries win.
    pub fn add_docker_config(&mut self, json: &[u8]) -> Result<(), ImageError> {
        let bad = |reason: &str| ImageError::Invalid(format!("registry credentials: {reason}"));
        if json.len() > MAX_SECRET {
            return Err(bad("too large"));
        }
        // The parser's own words could repeat a part of the secret.
        let file: File = serde_json::from_slice(json).map_err(|_| bad("not a docker configuration"))?;
        let entries = match file.auths {
            Some(entries) => entries,
            None => serde_json::from_slice(json).map_err(|_| bad("not a docker configuration"))?,
        };
        for (place, credentials) in entries {
            let (user, password) = if credentials.auth.is_empty() {
                (credentials.username, credentials.password)
            } else {
                let decoded = STANDARD.decode(credentials.auth.trim()).map_err(|_| bad("auth is not base64"))?;
                let text = String::from_utf8(decoded).map_err(|_| bad("auth is not text"))?;
                let (user, password) = text.split_once(':').ok_or_else(|| bad("auth has no colon"))?;
                (user.to_owned(), password.trim_end_matches('\0').to_owned())
            };
            if !user.is_empty() {
                self.entries.push(Entry { place: normal(&place), user, password });
            }
        }
        Ok(())
    }

    /// User and password for an image: the longest matching place, the earliest of equal ones.
    pub(super) fn find(&self, reference: &Reference) -> Option<(String, String)> {
        let name = reference.name();
        let fits = |place: &str| name == place || name.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
        let matching = self.entries.iter().filter(|e| fits(&e.place)).rev();
        matching.max_by_key(|e| e.place.len()).map(|e| (e.user.clone(), e.password.clone()))
    }
}

/// `https://index.docker.io/v1/` is how Docker Hub is written; schemes and trailing slashes mean nothing.
fn normal(place: &str) -> String {
    let bare = place.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    match bare {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, image: &str, expected: Option<(&str, &str)>) {
        let mut auths = RegistryAuths::anonymous();
        auths.add_docker_config(json.as_bytes()).unwrap();
        let found = auths.find(&Reference::parse(image).unwrap());
        assert_eq!(found, expected.map(|(u, p)| (u.to_owned(), p.to_owned())));
    }

    #[test]
    fn the_nearest_credentials_are_taken() {
        let hub = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOmE="}}}"#;
        check(hub, "nginx", Some(("u", "p:a")));
        check(hub, "localhost:5000/x", None);
        let paths = r#"{"auths":{"r.io":{"username":"a","password":"1"},"r.io/team":{"username":"b","password":"2"}}}"#;
        check(paths, "r.io/team/app", Some(("b", "2")));
        check(paths, "r.io/teams/app", Some(("a", "1")));
        check(r#"{"r.io":{"username":"a","password":"1"}}"#, "r.io/app", Some(("a", "1")));
    }

    #[test]
    fn broken_secrets_are_refused_without_repeating_them() {
        for json in ["", "[]", r#"{"auths":{"r.io":{"auth":"%%%"}}}"#, r#"{"auths":{"r.io":{"auth":"c2VjcmV0"}}}"#] {
            let error = RegistryAuths::anonymous().add_docker_config(json.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
