//! A module from a web server. Asks with the entity tag of what is known, so that an unchanged module is not sent again.

use std::{error::Error, time::Duration};

use reqwest::{Client, StatusCode, header};

use super::{FetchError, Fetched, Stamp};

/// For the whole answer.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn fetch(url: &str, seen: Option<&Stamp>, limit: u64) -> Result<Option<Fetched>, FetchError> {
    let failed = |reason: String| FetchError::Http { url: url.to_owned(), reason };
    let unanswered = |error: reqwest::Error| failed(chain(&error));
    let agent = concat!("plinth/", env!("CARGO_PKG_VERSION"));
    let client = Client::builder().timeout(PATIENCE).user_agent(agent).build().map_err(unanswered)?;
    let mut request = client.get(url);
    if let Some(Stamp::Http(Some(tag))) = seen {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    let mut response = request.send().await.map_err(unanswered)?;
    match response.status() {
        StatusCode::NOT_MODIFIED if seen.is_some() => return Ok(None),
        StatusCode::OK => {}
        other => return Err(failed(format!("the server answers {other}"))),
    }
    let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > limit {
            return Err(FetchError::TooLarge(limit));
        }
    }
    Ok(Some(Fetched { bytes, stamp: Stamp::Http(tag) }))
}

/// An error with what it comes from.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
