//! Lists: from the cache, or page by page from the store at the revision of the first page.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use registry::{Resource, Selection, Status, table};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store_api::{RangeRequest, Revision, StoreError};

use crate::{
    body::Body,
    cache::{Cache, entry::Entry, state::Scope},
    core::{Core, Served},
    negotiate::View,
    pipeline::Call,
    respond,
    view::{Shape, write_json},
};

/// Bytes of a list that are made at once.
const CHUNK: usize = 64 * 1024;
/// Objects read from the store at once.
const PAGE: i64 = 1000;

/// How old the answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// The newest.
    MostRecent,
    Any,
    NotOlderThan(Revision),
    Exactly(Revision),
}

/// A page's end, as the client hands it back.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Continue {
    v: String,
    /// The revision of the list; -1: whatever is newest.
    rv: Revision,
    /// The first key that is not in the page, below the list's prefix.
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

impl Continue {
    fn encode(rv: Revision, start: &[u8]) -> String {
        let start = String::from_utf8_lossy(start).into_owned();
        let token = Continue { v: TOKEN_VERSION.into(), rv, start };
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Self, Status> {
        let bad = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes =
            BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|error| bad(&error.to_string()))?;
        let token: Continue = serde_json::from_slice(&bytes).map_err(|error| bad(&error.to_string()))?;
        match token.v.as_str() {
            TOKEN_VERSION if token.rv != 0 && !token.start.starts_with('/') => Ok(token),
            TOKEN_VERSION => Err(bad("incorrect encoded start resourceVersion")),
            _ => Err(bad("server does not recognize this encoded version")),
        }
    }
}

/// What a list asks for.
struct Query {
    selection: Selection,
    scope: Scope,
    limit: usize,
    token: Option<(Continue, String)>,
    consistency: Consistency,
}

/// What a list found.
struct Page {
    entries: Vec<Arc<Entry>>,
    revision: Revision,
    next: Option<Vec<u8>>,
    remaining: Option<i64>,
}

/// A resource version in a query.
pub(crate) fn parse_revision(text: &str) -> Result<Revision, Status> {
    text.parse::<Revision>().ok().filter(|revision| *revision >= 0).ok_or_else(|| {
        Status::bad_request(format!("Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"))
    })
}

/// The keys that a list or watch is about. A selected name makes it a single key.
pub(crate) fn scope(call: &Call, resource: &Resource, selection: &Selection) -> Scope {
    let kind = resource.kind();
    let namespace = call.target().namespace.as_deref().filter(|_| kind.namespaced);
    let name = call.target().name.as_deref().or_else(|| selection.fields.requires("metadata.name"));
    match (name, namespace, kind.namespaced) {
        (Some(name), None, false) => Scope::One(kind.key("", name).into()),
        (Some(name), Some(namespace), true) => Scope::One(kind.key(namespace, name).into()),
        _ => Scope::Prefix(kind.prefix(namespace).into()),
    }
}

/// Both selectors of the request.
pub(crate) fn selection(call: &Call, resource: &Resource) -> Result<Selection, Status> {
    let query = &call.info.query;
    let text = |key| query.get(key).unwrap_or_default();
    resource.selection(text("labelSelector"), text("fieldSelector"))
}

fn consistency(call: &Call, limit: usize, continues: bool) -> Result<Consistency, Status> {
    let query = &call.info.query;
    let invalid = |why: String| Status::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {why}"));
    let forbidden = |why: &str| invalid(format!("resourceVersionMatch: Forbidden: {why}"));
    let version = query.given("resourceVersion");
    let rule = query.given("resourceVersionMatch");
    if query.flag("sendInitialEvents") {
        return Err(invalid("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list".into()));
    }
    match (rule, continues) {
        (Some(_), true) => {
            return Err(forbidden("resourceVersionMatch is forbidden when continue is provided"));
        }
        (Some(_), _) if version.is_none() => {
            return Err(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        _ => {}
    }
    let Some(revision) = version.map(parse_revision).transpose()? else { return Ok(Consistency::MostRecent) };
    Ok(match (rule, revision) {
        (Some("Exact"), 0) => {
            return Err(forbidden("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""));
        }
        (Some("Exact"), n) => Consistency::Exactly(n),
        (Some("NotOlderThan") | None, 0) => Consistency::Any,
        (Some("NotOlderThan"), n) => Consistency::NotOlderThan(n),
        (None, n) if limit > 0 && !continues => Consistency::Exactly(n),
        (None, n) => Consistency::NotOlderThan(n),
        (Some(other), _) => {
            return Err(invalid(format!(
                "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
            )));
        }
    })
}

/// Answers a list.
pub(crate) async fn list(call: Call, served: &Served) -> Result<Response<Body>, Status> {
    let shape = Shape::of(&call)?;
    let resource = served.resource;
    let cache = served.cache.as_ref().ok_or_else(Status::method_not_allowed)?;
    let selection = selection(&call, resource)?;
    let limit = match call.info.query.given("limit") {
        None => 0,
        Some(text) => text
            .parse::<i64>()
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?
            .max(0),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let token = call.info.query.given("continue").map(|text| Continue::decode(text).map(|t| (t, text.to_owned())));
    let token = token.transpose()?;
    let consistency = consistency(&call, limit, token.is_some())?;
    if token.is_some() && matches!(consistency, Consistency::NotOlderThan(_) | Consistency::Exactly(_)) {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    let query = Query { scope: scope(&call, resource, &selection), selection, limit, token, consistency };
    match find(&call.core, resource, cache, &query).await {
        Ok(page) => Ok(answer(&shape, resource, &query, page)),
        Err(status) if status.code == 410 => Ok(expired(&query, &status, cache)),
        Err(status) => Err(status),
    }
}

/// All objects of a kind in the newest state, for handlers that work on many.
pub(crate) async fn most_recent(
    core: &Core,
    cache: &Arc<Cache>,
    scope: &Scope,
) -> Result<(Vec<Arc<Entry>>, Revision), Status> {
    wait_most_recent(core, cache).await?;
    Ok(cache.list(scope))
}

pub(crate) async fn wait_most_recent(core: &Core, cache: &Arc<Cache>) -> Result<(), Status> {
    // The header of any answer about these keys tells their newest revision, which is not that of others where they are kept
    // in different shards; a key that cannot exist keeps the answer empty.
    let response = core.store.range(RangeRequest { count_only: true, ..RangeRequest::key(cache.prefix()) }).await;
    let revision = response.map_err(|error| respond::store_error(&error))?.revision;
    wait(cache, revision).await
}

pub(crate) async fn wait(cache: &Arc<Cache>, revision: Revision) -> Result<(), Status> {
    cache.wait_for(revision).await.map_err(|behind| {
        if behind.current == 0 {
            Status::service_unavailable("the store cannot be read now").retry_after(1)
        } else {
            Status::too_large_resource_version(revision.unsigned_abs(), behind.current.unsigned_abs(), 1)
        }
    })
}

async fn find(core: &Core, resource: &Resource, cache: &Arc<Cache>, query: &Query) -> Result<Page, Status> {
    if let Some((token, _)) = &query.token {
        let prefix = resource.kind().storage_prefix.as_bytes();
        let start = [prefix, token.start.as_bytes()].concat();
        let revision = token.rv.max(0);
        return from_store(core, resource, query, start, revision).await;
    }
    match query.consistency {
        Consistency::Exactly(revision) => {
            let start = match &query.scope {
                Scope::Prefix(prefix) => prefix.to_vec(),
                Scope::One(key) => key.to_vec(),
            };
            return from_store(core, resource, query, start, revision).await;
        }
        Consistency::MostRecent => wait_most_recent(core, cache).await?,
        Consistency::Any => wait(cache, 0).await?,
        Consistency::NotOlderThan(revision) => wait(cache, revision).await?,
    }
    let (mut entries, revision) = cache.list(&query.scope);
    if !query.selection.is_everything() {
        entries.retain(|entry| query.selection.matches(entry.attributes(resource)));
    }
    let limit = query.limit;
    // The newest state needs no second page when nothing is left out.
    if limit == 0 || entries.len() <= limit || query.consistency == Consistency::Any {
        return Ok(Page { entries, revision, next: None, remaining: None });
    }
    let remaining = query.selection.is_everything().then(|| (entries.len() - limit) as i64);
    entries.truncate(limit);
    let next = entries.last().map(|last| [last.key.as_ref(), &[0]].concat());
    Ok(Page { entries, revision, next, remaining })
}

/// A page of the store's own history.
async fn from_store(
    core: &Core,
    resource: &Resource,
    query: &Query,
    start: Vec<u8>,
    revision: Revision,
) -> Result<Page, Status> {
    let end = match &query.scope {
        Scope::Prefix(prefix) => store_api::prefix_end(prefix),
        Scope::One(key) => Bytes::from([key.as_ref(), &[0]].concat()),
    };
    let everything = query.selection.is_everything();
    let mut page = Page { entries: Vec::new(), revision, next: None, remaining: None };
    let mut key = Bytes::from(start);
    loop {
        let wanted = match query.limit {
            0 => PAGE,
            limit if everything => i64::try_from(limit - page.entries.len()).unwrap_or(PAGE).min(PAGE),
            _ => PAGE,
        };
        let request = RangeRequest {
            key: key.clone(),
            range_end: end.clone(),
            limit: wanted,
            revision: page.revision,
            ..RangeRequest::default()
        };
        let response = core.store.range(request).await.map_err(|error| match error {
            StoreError::Compacted { .. } => too_old(query),
            error => respond::store_error(&error),
        })?;
        if page.revision == 0 {
            page.revision = response.revision;
        }
        let (count, read) = (response.count, response.kvs.len() as i64);
        let Some(last) = response.kvs.last().map(|kv| kv.key.clone()) else { return Ok(page) };
        for kv in response.kvs {
            let at = [kv.key.as_ref(), &[0]].concat();
            let entry = Arc::new(Entry::new(kv.key, resource.from_stored(kv.value), kv.mod_revision));
            if everything || query.selection.matches(entry.attributes(resource)) {
                page.entries.push(entry);
            }
            if query.limit > 0 && page.entries.len() == query.limit {
                if response.more || at[..at.len() - 1] != last[..] {
                    page.next = Some(at);
                    page.remaining = everything.then_some(count - read);
                }
                return Ok(page);
            }
        }
        if !response.more {
            return Ok(page);
        }
        key = [last.as_ref(), &[0]].concat().into();
    }
}

fn too_old(query: &Query) -> Status {
    Status::expired(if query.token.is_some() {
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list."
    } else {
        "The resourceVersion for the provided list is too old."
    })
}

/// The answer to a token whose revision is gone: with a token that goes on in the newest state.
fn expired(query: &Query, status: &Status, _cache: &Arc<Cache>) -> Response<Body> {
    let mut value = status.to_value();
    if let Some((token, _)) = &query.token {
        value["metadata"]["continue"] = Continue::encode(-1, token.start.as_bytes()).into();
    }
    respond::json(StatusCode::GONE, &value)
}

fn answer(shape: &Shape, resource: &'static Resource, _query: &Query, page: Page) -> Response<Body> {
    let kind = resource.kind();
    let mut metadata = json!({ "resourceVersion": page.revision.to_string() });
    if let Some(next) = &page.next {
        let start = next.strip_prefix(kind.storage_prefix.as_bytes()).unwrap_or(next);
        metadata["continue"] = Continue::encode(page.revision, start).into();
    }
    if let Some(remaining) = page.remaining.filter(|n| *n > 0) {
        metadata["remainingItemCount"] = remaining.into();
    }
    let mut head = BytesMut::with_capacity(CHUNK + 8192);
    let (list_kind, api_version, items) = match shape.view {
        View::Object => (kind.list_kind(), kind.api_version().into_owned(), "items"),
        View::Metadata => ("PartialObjectMetadataList".into(), "meta.k8s.io/v1".into(), "items"),
        View::Table => ("Table".into(), "meta.k8s.io/v1".into(), "rows"),
    };
    head.extend_from_slice(
        format!("{{\"kind\":\"{list_kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":").as_bytes(),
    );
    write_json(&metadata, &mut head);
    if shape.view == View::Table {
        head.extend_from_slice(b",\"columnDefinitions\":");
        write_json(&table::column_definitions(resource.columns()), &mut head);
    }
    head.extend_from_slice(format!(",\"{items}\":[").as_bytes());
    let chunks =
        Chunks { entries: page.entries.into_iter(), shape: *shape, resource, out: head, first: true, done: false };
    send(shape, chunks)
}

fn send(shape: &Shape, mut chunks: Chunks) -> Response<Body> {
    if shape.pretty {
        let all: Vec<u8> = chunks.flatten().collect();
        let value: Value = serde_json::from_slice(&all).unwrap_or_default();
        return crate::view::pretty(StatusCode::OK, &value);
    }
    let Some(first) = chunks.next() else { return respond::bytes(StatusCode::OK, "") };
    // A list that fits into one piece is sent with its length.
    if chunks.done {
        return respond::bytes(StatusCode::OK, first);
    }
    respond::with_body(StatusCode::OK, Body::chunks(std::iter::once(first).chain(chunks)))
}

/// A list being written, piece by piece.
struct Chunks {
    entries: std::vec::IntoIter<Arc<Entry>>,
    shape: Shape,
    resource: &'static Resource,
    out: BytesMut,
    first: bool,
    done: bool,
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        while self.out.len() < CHUNK {
            let Some(entry) = self.entries.next() else {
                self.out.extend_from_slice(b"]}\n");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                self.out.extend_from_slice(b",");
            }
            self.shape.write_item(self.resource, &entry, &mut self.out);
        }
        let next = BytesMut::with_capacity(if self.done { 0 } else { CHUNK + 8192 });
        Some(std::mem::replace(&mut self.out, next).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continue_tokens_round_trip_and_foreign_ones_are_refused() {
        let token = Continue::encode(7, b"default/a\0");
        let back = Continue::decode(&token).unwrap();
        assert_eq!((back.rv, back.start.as_str()), (7, "default/a\0"));
        for bad in ["", "x", "e30", "!!!"] {
            assert_eq!(Continue::decode(bad).unwrap_err().code, 400, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_token_is_read_or_refused(text in "[A-Za-z0-9_=.-]{0,80}") {
            let _ = Continue::decode(&text);
        }

        #[test]
        fn every_token_of_ours_comes_back(revision in 1..i64::MAX, start in "[a-z0-9.-]{1,20}(/[a-z0-9.-]{1,20})?") {
            let token = Continue::decode(&Continue::encode(revision, start.as_bytes())).unwrap();
            proptest::prop_assert_eq!((token.rv, token.start), (revision, start));
        }
    }
}
