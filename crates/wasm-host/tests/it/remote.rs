//! Modules from an image registry and from a web server, both on this machine's loopback and served here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use runtime::Tasks;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cluster::{Cluster, filter, module};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A content's type and bytes.
type Content = (String, Vec<u8>);

/// A server of files by path, each with the digest of its content as tag and as digest.
#[derive(Clone)]
struct Files {
    files: Arc<Mutex<HashMap<String, Content>>>,
    /// Whole answers so far.
    sent: Arc<Mutex<HashMap<String, usize>>>,
    address: String,
    tasks: Tasks,
}

impl Files {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tasks = Tasks::root();
        let this = Files { files: Arc::default(), sent: Arc::default(), address, tasks: tasks.clone() };
        let router = Router::new().fallback(answer).with_state(this.clone());
        tasks.spawn("files", async move { axum::serve(listener, router).await.unwrap() });
        this
    }

    fn put(&self, path: &str, kind: &str, bytes: &[u8]) {
        self.files.lock().unwrap().insert(path.to_owned(), (kind.to_owned(), bytes.to_vec()));
    }

    /// Puts an artifact under a tag; `blob` is what its layer turns out to be.
    fn push(&self, tag: &str, media: &str, module: &[u8], blob: &[u8]) {
        let config = b"{}";
        let layer = json!({"mediaType": media, "digest": digest(module), "size": module.len()});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": digest(config), "size": 2},
            "layers": [layer]});
        let manifest = manifest.to_string().into_bytes();
        let repository = "/v2/team/plugin";
        self.put(&format!("{repository}/blobs/{}", digest(module)), "application/octet-stream", blob);
        self.put(&format!("{repository}/blobs/{}", digest(config)), "application/octet-stream", config);
        self.put(&format!("{repository}/manifests/{}", digest(&manifest)), MANIFEST, &manifest);
        self.put(&format!("{repository}/manifests/{tag}"), MANIFEST, &manifest);
    }
}

async fn answer(State(files): State<Files>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if uri.path() == "/v2/" {
        return StatusCode::OK.into_response();
    }
    let Some((kind, bytes)) = files.files.lock().unwrap().get(uri.path()).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tag = format!("\"{}\"", digest(&bytes));
    if headers.get("if-none-match").is_some_and(|seen| *seen == tag) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    if method == Method::GET {
        *files.sent.lock().unwrap().entry(uri.path().to_owned()).or_default() += 1;
    }
    let digest = digest(&bytes);
    ([("content-type", kind), ("etag", tag), ("docker-content-digest", digest)], bytes).into_response()
}

async fn rejects_then_takes(cluster: &Cluster, change: impl FnOnce()) {
    cluster.pod("p", &json!({}));
    cluster.waits("p", "node(s) rejected by plugin \"guest\"").await;
    change();
    assert_eq!(cluster.bound("p").await, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_of_a_registry_is_followed() {
    for media in ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"] {
        let registry = Files::start().await;
        let (closed, open) = (module(&filter(3)), module(&filter(0)));
        registry.push("v1", media, &closed, &closed);
        let url = format!("oci://{}/team/plugin:v1", registry.address);
        let cluster = Cluster::with_args(&json!({"guestURL": url, "pollInterval": "20ms"}));
        rejects_then_takes(&cluster, || registry.push("v1", media, &open, &open)).await;
        // Each was fetched once, however often the tag was looked at.
        let path = format!("/v2/team/plugin/blobs/{}", digest(&closed));
        assert_eq!(registry.sent.lock().unwrap()[&path], 1);
        registry.tasks.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_that_is_not_what_it_says_is_not_loaded() {
    let (good, other) = (module(&filter(0)), module(&filter(3)));
    for (media, blob) in [("application/wasm", &other), ("application/vnd.oci.image.layer.v1.tar", &good)] {
        let registry = Files::start().await;
        registry.push("v1", media, &good, blob);
        let url = format!("oci://{}/team/plugin:v1", registry.address);
        let cluster = Cluster::with_args(&json!({"guestURL": url, "pollInterval": "20ms"}));
        cluster.figure("scheduler_wasm_loads_total{plugin=\"guest\",result=\"failed\"} 2").await;
        cluster.pod("p", &json!({}));
        cluster.waits("p", "plugin \"guest\" is not loaded yet").await;
        // Put right, it is loaded.
        registry.push("v1", "application/wasm", &good, &good);
        assert_eq!(cluster.bound("p").await, "a");
        registry.tasks.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_a_web_server_is_followed() {
    let server = Files::start().await;
    server.put("/p.wasm", "application/wasm", &module(&filter(3)));
    let url = format!("http://{}/p.wasm", server.address);
    let cluster = Cluster::with_args(&json!({"guestURL": url, "pollInterval": "20ms"}));
    rejects_then_takes(&cluster, || server.put("/p.wasm", "application/wasm", &module(&filter(0)))).await;
    // It was sent once, and then only asked about.
    assert_eq!(server.sent.lock().unwrap()["/p.wasm"], 2);
    server.tasks.stop();
}
