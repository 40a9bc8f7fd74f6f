//! Where a module comes from, and whether there is another one by now.

mod credentials;
mod http;
mod oci;
mod token;

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

use oci_client::Reference;
use sha2::{Digest, Sha256};

const SCHEMES: &str = "file:///path, http://host/path, https://host/path or oci://registry/repository:tag";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Http(String),
    Oci(Reference),
}

/// No source of modules.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("{0:?} is none of {SCHEMES}")]
    Scheme(String),
    #[error("{0:?} names no file: an absolute path follows file://")]
    Path(String),
    #[error("{url:?} names no artifact: {reason}")]
    Reference { url: String, reason: String },
}

/// A module could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{path:?}: {error}")]
    File { path: PathBuf, error: io::Error },
    /// Whoever writes it may be at it still.
    #[error("{0:?} changed while it was read")]
    Torn(PathBuf),
    #[error("it has more than {0} bytes, which is moduleSizeLimit")]
    TooLarge(u64),
    #[error("{url}: {reason}")]
    Http { url: String, reason: String },
    #[error("{artifact}: {reason}")]
    Oci { artifact: String, reason: String },
}

/// What was seen of a source, as cheaply as it can be told whether it has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    File(Option<SystemTime>, u64),
    /// The entity tag, where the server gives one.
    Http(Option<String>),
    /// The manifest's digest.
    Oci(String),
}

/// A module's bytes.
pub(crate) struct Fetched {
    pub bytes: Vec<u8>,
    pub stamp: Stamp,
}

impl Source {
    pub fn parse(url: &str) -> Result<Self, SourceError> {
        match url.split_once("://") {
            Some(("file", path)) if Path::new(path).is_absolute() => Ok(Source::File(path.into())),
            Some(("file", _)) => Err(SourceError::Path(url.to_owned())),
            Some(("http" | "https", rest)) if !rest.is_empty() => Ok(Source::Http(url.to_owned())),
            Some(("oci", name)) => {
                let read = name.parse::<Reference>();
                let failed = |reason: String| SourceError::Reference { url: url.to_owned(), reason };
                // Without a registry, the parser would take Docker's, which no artifact here is meant to come from.
                if !name.contains('/') {
                    return Err(failed("it has no registry before its repository".to_owned()));
                }
                Ok(Source::Oci(read.map_err(|error| failed(error.to_string()))?))
            }
            _ => Err(SourceError::Scheme(url.to_owned())),
        }
    }

    /// The module, unless it is the one that the stamp was taken of. At most `limit` bytes. Credentials for a registry are in
    /// `config`, or where docker's clients have theirs.
    pub async fn fetch(
        &self,
        config: Option<&Path>,
        seen: Option<&Stamp>,
        limit: u64,
    ) -> Result<Option<Fetched>, FetchError> {
        match self {
            Source::File(path) => {
                let (path, seen) = (path.clone(), seen.cloned());
                runtime::blocking(move || file(&path, seen.as_ref(), limit)).await
            }
            Source::Http(url) => http::fetch(url, seen, limit).await,
            Source::Oci(reference) => oci::fetch(reference, config, seen, limit).await,
        }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let found = std::fs::metadata(path)?;
    Ok(Stamp::File(found.modified().ok(), found.len()))
}

fn file(path: &Path, seen: Option<&Stamp>, limit: u64) -> Result<Option<Fetched>, FetchError> {
    let failed = |error: io::Error| FetchError::File { path: path.to_owned(), error };
    let before = stamp(path).map_err(failed)?;
    if seen == Some(&before) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    // One byte more shows that there is more.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(FetchError::TooLarge(limit));
    }
    if stamp(path).map_err(failed)? != before {
        return Err(FetchError::Torn(path.to_owned()));
    }
    Ok(Some(Fetched { bytes, stamp: before }))
}

/// `sha256:` and the digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_sources() {
        let check = |url: &str, expected: &str| {
            let found = match Source::parse(url) {
                Ok(Source::File(path)) => format!("file {}", path.display()),
                Ok(Source::Http(url)) => format!("http {url}"),
                Ok(Source::Oci(reference)) => format!("oci {reference}"),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expected), "{url}: {found}");
        };
        check("file:///a/b.wasm", "file /a/b.wasm");
        check("file://b.wasm", "an absolute path follows");
        check("https://host/p.wasm", "http https://host/p.wasm");
        check("oci://ghcr.io/a/b:v1", "oci ghcr.io/a/b:v1");
        check("oci://127.0.0.1:5000/a/b:v1", "oci 127.0.0.1:5000/a/b:v1");
        check("oci://plugin", "no registry");
        check("oci://ghcr.io/A B", "names no artifact");
        check("/a/b.wasm", "is none of file://");
        check("https://", "is none of");
        check("", "is none of");
    }

    #[test]
    fn a_file_is_read_when_it_has_changed_and_is_not_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.wasm");
        assert!(file(&path, None, 10).is_err());
        std::fs::write(&path, b"0123456789").unwrap();
        let first = file(&path, None, 10).unwrap().unwrap();
        assert_eq!(first.bytes, b"0123456789");
        assert!(file(&path, Some(&first.stamp), 10).unwrap().is_none());
        std::fs::write(&path, b"other").unwrap();
        assert_eq!(file(&path, Some(&first.stamp), 10).unwrap().unwrap().bytes, b"other");
        assert!(matches!(file(&path, None, 4), Err(FetchError::TooLarge(4))));
    }
}
