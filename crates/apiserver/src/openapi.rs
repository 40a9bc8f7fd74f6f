//! `/openapi/v2` and `/openapi/v3/…`: which document, in which form, and what the client may keep.
//!
//! The documents cannot change while the process runs, so that their tags come from what they are made of: no document
//! is made for its tag. One is made when it is first asked for, off the async threads, and kept compressed: some tens
//! of kilobytes each.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::OnceLock,
};

use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use registry::{Registry, Status, openapi};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::{body::Body, pipeline::Call, respond};

/// The two names of the v2 document's protobuf form; with `@` it is no media type by RFC 6838, and old clients say so.
const PROTOBUF: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
];
/// The key of the v2 document as protobuf. URLs cannot name it.
const V2_PROTOBUF: &str = "v2 protobuf";
/// How long a document that is named with its hash may be kept.
const KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(24 * 365);

/// One document.
struct Document {
    tag: String,
    group_version: (String, String),
    compressed: OnceCell<Bytes>,
}

/// Every document by its path below `/openapi/`.
fn documents(registry: &Registry) -> &'static BTreeMap<String, Document> {
    static DOCUMENTS: OnceLock<BTreeMap<String, Document>> = OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        let mut base = Sha256::new();
        base.update(env!("CARGO_PKG_VERSION"));
        base.update(kube_schema::SCHEMA_TABLE);
        for resource in registry.resources() {
            base.update(format!("{:?}", resource.kind()));
        }
        let document = |path: String, group: &str, version: &str| {
            let hash = base.clone().chain_update(&path).finalize();
            let tag = hash.iter().map(|byte| format!("{byte:02X}")).collect();
            let group_version = (group.to_owned(), version.to_owned());
            (path, Document { tag, group_version, compressed: OnceCell::new() })
        };
        let v3 = registry.group_versions().into_iter();
        v3.map(|(group, version)| document(format!("v3/{}", openapi::root(group, version)), group, version))
            .chain(["v2", V2_PROTOBUF].map(|path| document(path.to_owned(), "", "")))
            .collect()
    })
}

/// Answers a request below `/openapi/`.
pub(crate) async fn serve(call: &Call, rest: &[&str]) -> Result<Response<Body>, Status> {
    let registry = call.core.registry;
    let documents = documents(registry);
    if *rest == ["v3"] {
        return Ok(respond::json(StatusCode::OK, &index(documents)));
    }
    let as_protobuf = *rest == ["v2"] && accepts_protobuf(&call.headers);
    let path = if as_protobuf { V2_PROTOBUF.to_owned() } else { rest.join("/") };
    let (path, document) = documents.get_key_value(&path).ok_or_else(Status::no_such_path)?;
    let hash = call.request.uri().query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("hash="));
    let mut response = match hash {
        Some(hash) if hash != document.tag => {
            let mut response = empty(StatusCode::MOVED_PERMANENTLY);
            let location = format!("/openapi/{}", url(path, document));
            insert(response.headers_mut(), header::LOCATION, &location);
            response
        }
        _ if is_known(&call.headers, &document.tag) => empty(StatusCode::NOT_MODIFIED),
        _ => send(&call.headers, registry, path, document).await?,
    };
    let headers = response.headers_mut();
    insert(headers, header::ETAG, &format!("\"{}\"", document.tag));
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if as_protobuf {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROTOBUF[0]));
    }
    if hash == Some(document.tag.as_str()) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let expires = call.core.clock.now() + KEPT;
        insert(headers, header::EXPIRES, &expires.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    }
    Ok(response)
}

/// The index of v3: one entry per group version, whose hash changes with what is served.
fn index(documents: &BTreeMap<String, Document>) -> serde_json::Value {
    let entry = |(path, document): (&String, &Document)| {
        let root = path.strip_prefix("v3/")?;
        let url = format!("/openapi/{}", url(path, document));
        Some((root.to_owned(), json!({ "serverRelativeURL": url })))
    };
    json!({ "paths": documents.iter().filter_map(entry).collect::<Map<_, _>>() })
}

fn url(path: &str, document: &Document) -> String {
    format!("{path}?hash={}", document.tag)
}

fn empty(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
}

fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn accepts_protobuf(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    ranges.flat_map(|value| value.split(',')).any(|range| {
        let media = range.split(';').next().unwrap_or_default().trim();
        PROTOBUF.contains(&media)
    })
}

fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    known.split(',').any(|one| one.trim().trim_start_matches("W/").trim_matches('"') == tag)
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    codings.flat_map(|value| value.split(',')).any(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && !matches!(parameters.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

async fn send(
    headers: &HeaderMap,
    registry: &'static Registry,
    path: &'static str,
    document: &'static Document,
) -> Result<Response<Body>, Status> {
    let make = || runtime::blocking(move || compress(&make(registry, path, document)));
    let compressed = document.compressed.get_or_init(make).await.clone();
    if accepts_gzip(headers) {
        let mut response = respond::bytes(StatusCode::OK, compressed);
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        return Ok(response);
    }
    let plain = runtime::blocking(move || decompress(&compressed)).await.map_err(Status::internal_error)?;
    Ok(respond::bytes(StatusCode::OK, plain))
}

fn make(registry: &Registry, path: &str, document: &Document) -> Vec<u8> {
    let (group, version) = &document.group_version;
    let value = match path {
        V2_PROTOBUF => return openapi::protobuf::encode(&openapi::v2(registry)),
        "v2" => Some(openapi::v2(registry)),
        _ => openapi::v3(registry, group, version),
    };
    serde_json::to_vec(&value).unwrap_or_default()
}

fn compress(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(bytes);
    let done = written.and_then(|()| encoder.finish()).expect("writing to memory does not fail");
    done.into_boxed_slice().into_vec().into()
}

fn decompress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain)?;
    Ok(plain)
}
