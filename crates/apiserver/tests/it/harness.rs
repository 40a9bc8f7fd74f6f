//! A server for one test: a store in a temporary folder, the API over it, and ways to talk to it.

use std::{fmt::Debug, net::SocketAddr, sync::Arc, time::Duration};

use apiserver::{ApiServer, Body, Handle, Identity, Options, ServiceAccountOptions, StaticToken, TlsFiles};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use runtime::{Clock, Tasks};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::Service;

use crate::pki::{Pair, Pki};

pub const ADMIN_TOKEN: &str = "admin-token";

pub struct Server {
    pub handle: Handle,
    pub pki: Pki,
    pub store: Arc<dyn store_api::Store>,
    tasks: Tasks,
    pub dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// A server that is ready.
pub async fn server() -> Server {
    server_with(|_| {}).await
}

pub async fn server_with(change: impl FnOnce(&mut Options)) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let (tasks, clock, metrics) = (Tasks::root(), Clock::system(), telemetry::Metrics::default());
    let options = store::Options::new(dir.path().join("store"), clock.clone(), tasks.child("store"));
    let store: Arc<dyn store_api::Store> = Arc::new(store::Store::open(options).await.unwrap());
    let pki = Pki::new();
    let accounts = ServiceAccountOptions {
        signing_key: apiserver::generate_signing_key().unwrap(),
        issuer: "https://kubernetes.default.svc".into(),
        audiences: vec!["https://kubernetes.default.svc".into()],
    };
    let mut options = Options::new(store.clone(), accounts, clock, tasks.child("apiserver"), metrics);
    options.listen = vec!["127.0.0.1:0".parse().unwrap()];
    options.tls = Some(TlsFiles {
        certificates: pki.server.certificate.clone(),
        key: pki.server.key.clone(),
        client_ca: pki.ca.clone(),
    });
    options.tokens = vec![StaticToken { token: ADMIN_TOKEN.into(), identity: Identity::admin() }];
    change(&mut options);
    let handle = ApiServer::start(options).await.unwrap();
    within("ready", handle.ready()).await;
    Server { handle, pki, store, tasks, dir }
}

/// Waits for something that must happen.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub bytes: Bytes,
    pub json: Value,
}

impl Answer {
    async fn read<B>(response: Response<B>) -> Self
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Debug,
    {
        let (parts, body) = response.into_parts();
        let bytes = within("body", body.collect()).await.unwrap().to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes, json }
    }

    /// Asserts the code and gives the JSON.
    #[track_caller]
    pub fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", String::from_utf8_lossy(&self.bytes));
        self.json
    }

    /// Asserts that it is an error of this code, reason and message.
    #[track_caller]
    pub fn expect_error(self, code: u16, reason: &str, message: &str) {
        let seen = (self.code, self.json["reason"].as_str().unwrap_or_default(), self.json["message"].as_str());
        assert_eq!(seen, (code, reason, Some(message)));
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// `"POST /path"` with headers and a body.
pub fn request(line: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

fn default_type(line: &str) -> &'static str {
    if line.starts_with("PATCH") { "application/merge-patch+json" } else { "application/json" }
}

impl Server {
    /// Sends as the administrator, in this process.
    pub async fn call(&self, line: &str, body: Value) -> Answer {
        self.call_with(line, &[("content-type", default_type(line))], body.to_string()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call_with(&format!("GET {path}"), &[], "").await
    }

    pub async fn call_with(&self, line: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.call_as(Identity::admin(), line, headers, body).await
    }

    pub async fn call_as(
        &self,
        identity: Identity,
        line: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        Answer::read(self.open_as(identity, line, headers, body).await).await
    }

    /// Sends as the administrator and leaves the body to the caller.
    pub async fn open(&self, line: &str, headers: &[(&str, &str)]) -> Response<Body> {
        self.open_as(Identity::admin(), line, headers, "").await
    }

    async fn open_as(
        &self,
        identity: Identity,
        line: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Body> {
        let mut service = self.handle.local(identity);
        within(line, service.call(request(line, headers, body))).await.unwrap()
    }

    pub fn address(&self) -> SocketAddr {
        self.handle.addresses()[0]
    }

    /// A `kube` client, in this process.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.handle.local(Identity::admin()), "default")
    }

    /// A TLS connection, with a client certificate or without.
    pub async fn connect(&self, client: Option<&Pair>) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        self.connector(client).connect(name, stream).await.unwrap()
    }

    pub fn connector(&self, client: Option<&Pair>) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pki.ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(pair) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        TlsConnector::from(Arc::new(config))
    }

    /// An HTTP/1.1 connection over TLS.
    pub async fn http(&self, client: Option<&Pair>) -> SendRequest<Full<Bytes>> {
        let stream = self.connect(client).await;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        self.tasks.spawn("test-connection", async {
            let _ = connection.with_upgrades().await;
        });
        sender
    }

    /// Sends over TLS with headers only for identity.
    pub async fn remote(
        &self,
        client: Option<&Pair>,
        line: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut sender = self.http(client).await;
        let response = within(line, sender.send_request(request(line, headers, body))).await.unwrap();
        Answer::read(response).await
    }
}

/// Lines of a watch, one by one.
pub struct Lines<B> {
    body: B,
    buffer: Vec<u8>,
}

impl<B> Lines<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Debug,
{
    pub fn new(response: Response<B>) -> Self {
        assert_eq!(response.status(), 200);
        Lines { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next event; none at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = within("watch event", self.body.frame()).await?;
            if let Ok(data) = frame.unwrap().into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// The next `count` events as `TYPE name` (or `TYPE` for those without a name).
    pub async fn take(&mut self, count: usize) -> Vec<String> {
        let mut seen = Vec::new();
        for _ in 0..count {
            let event = self.next().await.expect("the watch ended");
            let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
            seen.push(format!("{} {name}", event["type"].as_str().unwrap()).trim_end().to_owned());
        }
        seen
    }
}
