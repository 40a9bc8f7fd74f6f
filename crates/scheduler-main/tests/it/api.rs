//! An API server over TLS for one test, and kubeconfigs for it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use apiserver::{ApiServer, Identity, Options, ServiceAccountOptions, StaticToken, TlsFiles};
use kube::Client;
use rcgen::{CertificateParams, KeyPair};
use runtime::{Clock, Tasks};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const ADMIN: &str = "admin-token";
/// The token of somebody who may do nothing.
pub const NOBODY: &str = "nobody-token";

pub struct Api {
    tasks: Tasks,
    client: Client,
    kubeconfig: PathBuf,
    pub dir: TempDir,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Api {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tasks, clock, metrics) = (Tasks::root(), Clock::system(), telemetry::Metrics::default());
        let options = store::Options::new(dir.path().join("store"), clock.clone(), tasks.child("store"));
        let store = Arc::new(store::Store::open(options).await.unwrap());
        let issuer = "https://kubernetes.default.svc".to_owned();
        let signing_key = apiserver::generate_signing_key().unwrap();
        let accounts = ServiceAccountOptions { signing_key, issuer: issuer.clone(), audiences: vec![issuer] };
        let mut options = Options::new(store, accounts, clock, tasks.child("apiserver"), metrics);
        options.listen = vec!["127.0.0.1:0".parse().unwrap()];
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        options.tls = Some(TlsFiles {
            certificates: certificate.clone(),
            key: key.serialize_pem(),
            client_ca: certificate.clone(),
        });
        let token = |token: &str, identity| StaticToken { token: token.into(), identity };
        options.tokens =
            vec![token(ADMIN, Identity::admin()), token(NOBODY, Identity::new("nobody", Vec::<String>::new()))];
        let handle = ApiServer::start(options).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), handle.ready()).await.unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, &certificate).unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        let server = format!("https://{}", handle.addresses()[0]);
        let document = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{"name": "a", "cluster": {"server": server, "certificate-authority": ca}}],
            "users": [{"name": "a", "user": {"token": ADMIN}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        });
        std::fs::write(&kubeconfig, document.to_string()).unwrap();
        let client = Client::new(handle.local(Identity::admin()), "default");
        Api { tasks, client, kubeconfig, dir }
    }

    /// One that runs elsewhere, such as a kube-apiserver.
    pub async fn elsewhere(kubeconfig: PathBuf) -> Self {
        let config = client::configuration(Some(&kubeconfig), None).await.unwrap();
        let client = client::connect(&config, client::Protocol::Http1).unwrap();
        Api { tasks: Tasks::root(), client, kubeconfig, dir: tempfile::tempdir().unwrap() }
    }

    /// A client of the administrator.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    /// Sends a body to a path; panics when the API refuses it.
    pub async fn send(&self, method: &str, path: &str, body: Value) -> Value {
        let request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.body(body.to_string().into_bytes()).unwrap();
        self.client().request(request).await.unwrap()
    }

    /// Makes an object, unless it is there.
    pub async fn make(&self, path: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        if self.get(&format!("{path}/{name}")).await.is_null() {
            self.send("POST", path, object).await;
        }
    }

    /// Deletes at once what is there.
    pub async fn delete(&self, path: &str) {
        let body = json!({"gracePeriodSeconds": 0}).to_string().into_bytes();
        let request = http::Request::delete(path).header("content-type", "application/json").body(body).unwrap();
        match self.client().request::<Value>(request).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// What is at a path; null where nothing is.
    pub async fn get(&self, path: &str) -> Value {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        match self.client().request(request).await {
            Ok(value) => value,
            Err(kube::Error::Api(status)) if status.code == 404 => Value::Null,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Waits until what is at a path satisfies `holds`.
    pub async fn wait(&self, path: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                last = self.get(path).await;
                if holds(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(waited.await.is_ok(), "{what}: not in time: {last}");
        last
    }
}
