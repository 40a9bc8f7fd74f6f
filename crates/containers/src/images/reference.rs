//! Image names as people write them, and the full form they stand for.

use std::fmt;

/// The text is not an image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name {name:?}: {reason}")]
pub struct InvalidReference {
    pub name: String,
    pub reason: &'static str,
}

/// A full image name: `registry/repository` with a tag, a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Host and perhaps port: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// `library/nginx`.
    pub repository: String,
    pub tag: Option<String>,
    /// `sha256:<64 hex digits>`.
    pub digest: Option<String>,
}

/// The longest name that is looked at.
const MAX_NAME: usize = 4096;
/// The longest repository path that registries take.
const MAX_REPOSITORY: usize = 255;
/// The longest tag (OCI distribution).
const MAX_TAG: usize = 128;

impl Reference {
    /// Parses and completes a name as docker does: `nginx` is `docker.io/library/nginx:latest`.
    pub fn parse(name: &str) -> Result<Reference, InvalidReference> {
        let fail = |reason| InvalidReference { name: name.chars().take(MAX_REPOSITORY).collect(), reason };
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(fail("invalid reference format"));
        }
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (name, None),
        };
        if digest.is_some_and(|d| !is_digest(d)) {
            return Err(fail("invalid digest, only sha256 is supported"));
        }
        // A colon after the last slash starts the tag; before it, it belongs to the registry's port.
        let (path, tag) = match rest.rfind(':') {
            Some(at) if !rest[at..].contains('/') => (&rest[..at], Some(&rest[at + 1..])),
            _ => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(fail("invalid tag format"));
        }
        let (registry, repository) = match path.split_once('/') {
            Some((first, more)) if first.contains(['.', ':']) || first == "localhost" => (first, more.to_owned()),
            Some(_) => ("docker.io", path.to_owned()),
            None => ("docker.io", format!("library/{path}")),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        if repository.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(fail("invalid reference format: repository name must be lowercase"));
        }
        if repository.len() > MAX_REPOSITORY || !is_registry(registry) || !repository.split('/').all(is_component) {
            return Err(fail("invalid reference format"));
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Reference { registry: registry.to_owned(), repository, tag, digest: digest.map(str::to_owned) })
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name with its tag, when it has one.
    pub fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.name()))
    }

    /// Whether the registry is on this machine's loopback, where plain http is spoken as docker does.
    pub fn is_loopback(&self) -> bool {
        let host = self.registry.rsplit_once(':').map_or(self.registry.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether `text` is `sha256:` and 64 lower-case hexadecimal digits: the only digests that are stored, so that one
/// never names a path.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !text.is_empty()
        && text.len() <= MAX_TAG
        && word(text.as_bytes()[0])
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host_ok = match bracketed {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        }),
    };
    host_ok && port.is_none_or(|p| p.parse::<u16>().is_ok())
}

/// Lower-case letters and digits with single `.`, one or two `_`, or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(|b| alnum(*b)) && bytes.last().is_some_and(|b| alnum(*b));
    ends && bytes
        .split(|b| alnum(*b))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: &str) {
        assert_eq!(Reference::parse(name).unwrap().to_string(), expected);
    }

    #[test]
    fn names_are_completed_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        check("nginx", "docker.io/library/nginx:latest");
        check("bitnami/redis:7", "docker.io/bitnami/redis:7");
        check("index.docker.io/library/nginx", "docker.io/library/nginx:latest");
        check("localhost/web", "localhost/web:latest");
        check("localhost:5000/a/b:v1", "localhost:5000/a/b:v1");
        check("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9");
        check(&format!("nginx@{digest}"), &format!("docker.io/library/nginx@{digest}"));
        check(&format!("nginx:1@{digest}"), &format!("docker.io/library/nginx:1@{digest}"));
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        for name in ["", "Nginx", "a b", "a/../b", "nginx:", "nginx@sha256:12", "-x/y", "/a", "a//b", "a:b:c/d", "x\n"]
        {
            assert!(Reference::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn loopback_registries_are_seen() {
        for (name, expected) in
            [("localhost:5000/a", true), ("127.0.0.1:5000/a", true), ("[::1]:80/a", true), ("example.com/a", false)]
        {
            assert_eq!(Reference::parse(name).unwrap().is_loopback(), expected, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_full_name_parses_to_itself(name in "\\PC{0,40}") {
            if let Ok(reference) = Reference::parse(&name) {
                let full = reference.to_string();
                proptest::prop_assert_eq!(Reference::parse(&full).unwrap(), reference);
            }
        }
    }
}
