//! Modules from an image registry and from a web server, both on this machine's loopback and served here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use runtime::Tasks;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cluster::{Cluster, filter, module};

/// Who the guarded registry knows, and the token that it gives out.
const USER: &str = "robot:pass:word";
const IDENTITY: &str = "identity/+1";
const TOKEN: &str = "granted";
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
    /// How it wants to be asked, as its challenge says; everybody may ask, if there is none.
    challenge: Option<String>,
    /// Whole answers so far.
    sent: Arc<Mutex<HashMap<String, usize>>>,
    address: String,
    tasks: Tasks,
}

impl Files {
    async fn start() -> Self {
        Files::guarded(|_| None).await
    }

    /// One whose challenge depends on its address.
    async fn guarded(challenge: impl FnOnce(&str) -> Option<String>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tasks = Tasks::root();
        let challenge = challenge(&address);
        let this = Files { files: Arc::default(), challenge, sent: Arc::default(), address, tasks: tasks.clone() };
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

fn basic() -> String {
    format!("Basic {}", STANDARD.encode(USER))
}

/// Gives out a token, to a user and for an identity token.
fn token(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Response {
    let scope = "scope=repository%3Ateam%2Fplugin%3Apull";
    let query = uri.query().unwrap_or_default();
    let form = format!("grant_type=refresh_token&client_id=plinth&{scope}&refresh_token=identity%2F%2B1&service=here");
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok());
    let granted = match *method {
        Method::GET if headers.get("authorization").is_some_and(|given| *given == basic()) && query.contains(scope) => {
            json!({"token": TOKEN})
        }
        Method::POST if body == form.as_bytes() && kind == Some("application/x-www-form-urlencoded") => {
            json!({"access_token": TOKEN})
        }
        _ => return StatusCode::UNAUTHORIZED.into_response(),
    };
    granted.to_string().into_response()
}

async fn answer(State(files): State<Files>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if uri.path() == "/token" {
        return token(&method, &uri, &headers, &body);
    }
    if let Some(challenge) = &files.challenge {
        let wanted = if challenge.starts_with("Basic") { basic() } else { format!("Bearer {TOKEN}") };
        if headers.get("authorization").is_none_or(|given| *given != wanted) {
            return (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge.clone())]).into_response();
        }
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_is_told_who_asks() {
    let tokens = |address: &str| Some(format!("Bearer realm=\"http://{address}/token\",service=\"here\""));
    let password = json!({"auth": STANDARD.encode(USER)});
    check_credentials(|_| Some("Basic realm=\"here\"".to_owned()), password.clone()).await;
    check_credentials(tokens, password).await;
    check_credentials(tokens, json!({"identitytoken": IDENTITY})).await;
    check_credentials(tokens, json!({"registrytoken": TOKEN})).await;
}

/// Others are refused, and who has the credential is not, though it came later.
async fn check_credentials(challenge: impl FnOnce(&str) -> Option<String>, entry: Value) {
    let registry = Files::guarded(challenge).await;
    let good = module(&filter(0));
    registry.push("v1", "application/wasm", &good, &good);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let write = |entries: Value| std::fs::write(&file, json!({"auths": entries}).to_string()).unwrap();
    write(json!({"another.io": entry}));
    let url = format!("oci://{}/team/plugin:v1", registry.address);
    let args = json!({"guestURL": url, "registryConfig": file, "pollInterval": "20ms"});
    let cluster = Cluster::with_args(&args);
    cluster.pod("p", &json!({}));
    let failed = "scheduler_wasm_loads_total{plugin=\"guest\",result=\"failed\"}";
    cluster.reaches(failed, 2).await;
    cluster.waits("p", "plugin \"guest\" is not loaded yet").await;
    let mut wrong = entry.clone();
    wrong.as_object_mut().unwrap().values_mut().for_each(|secret| *secret = json!(STANDARD.encode("robot:other")));
    write(json!({&registry.address: wrong}));
    cluster.reaches(failed, 5).await;
    write(json!({&registry.address: entry}));
    assert_eq!(cluster.bound("p").await, "a", "{entry}");
    registry.tasks.stop();
}
