//! OpenAPI as clients fetch it: forms, tags, what may be kept.

use std::io::Read;

use crate::harness::server;

const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

#[tokio::test]
async fn documents_are_kept_by_their_hash() {
    let server = server().await;
    let index = server.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let (path, hash) = url.split_once("?hash=").unwrap();
    let named = server.get(url).await;
    assert_eq!(named.headers["cache-control"], "public, immutable");
    assert!(named.headers.contains_key("expires"));
    assert_eq!(named.headers["etag"].to_str().unwrap(), format!("\"{hash}\""));
    assert!(named.json["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"].is_object());
    let plain = server.get(path).await;
    assert_eq!(plain.headers["cache-control"], "no-cache, private");
    assert_eq!(plain.bytes, named.bytes);
    let known = server.call_with(&format!("GET {path}"), &[("if-none-match", &format!("\"{hash}\""))], "").await;
    assert_eq!((known.code, known.bytes.len()), (304, 0));
    let stale = server.get(&format!("{path}?hash=00")).await;
    assert_eq!((stale.code, stale.headers["location"].to_str().unwrap()), (301, url));
    server.get("/openapi/v3/apis/nobody/v1").await.expect(404);
}

#[tokio::test]
async fn v2_comes_as_protobuf_and_compressed_when_asked_for() {
    let server = server().await;
    let json = server.get("/openapi/v2").await;
    assert_eq!(json.headers["content-type"], "application/json");
    assert_eq!(json.json["swagger"], "2.0");
    let protobuf = server.call_with("GET /openapi/v2", &[("accept", PROTOBUF)], "").await;
    assert_eq!(protobuf.headers["content-type"], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    // Field 1, length 3: the version of OpenAPI.
    assert_eq!(&protobuf.bytes[..5], b"\x0a\x032.0");
    assert_ne!(protobuf.headers["etag"], json.headers["etag"]);
    let gzip = server.call_with("GET /openapi/v2", &[("accept-encoding", "br, gzip")], "").await;
    assert_eq!(gzip.headers["content-encoding"], "gzip");
    let mut plain = vec![];
    flate2::read::GzDecoder::new(&gzip.bytes[..]).read_to_end(&mut plain).unwrap();
    assert_eq!(plain, json.bytes);
}
