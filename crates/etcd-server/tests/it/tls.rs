//! TLS with client certificates, as etcd is run in earnest.

use std::{path::PathBuf, sync::Arc};

use etcd_client::{Client, ConnectError, Options};
use etcd_server::{AuthOptions, Listener, Service};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use runtime::{Clock, Tasks};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use store_api::{Auth as _, AuthChange, PutRequest, Store as _, WatchRequest};
use tokio_rustls::TlsAcceptor;

use crate::served::Served;

/// An authority, and what it has signed.
struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Certificates { authority, folder: tempfile::tempdir().unwrap() }
    }

    fn issue(&self, name: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.authority).unwrap(), key)
    }

    /// Takes only those who have a certificate.
    fn acceptor(&self) -> TlsAcceptor {
        let (server, key) = self.issue("127.0.0.1");
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![server.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    fn file(&self, name: &str, text: String) -> Option<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    }

    fn anonymous(&self, url: &str) -> Options {
        Options { ca_file: self.file("ca.pem", self.authority.pem()), ..Options::new([url]) }
    }

    /// A client with a certificate in its name.
    fn options(&self, url: &str, name: &str) -> Options {
        let (certificate, key) = self.issue(name);
        Options {
            cert_file: self.file(&format!("{name}.pem"), certificate.pem()),
            key_file: self.file(&format!("{name}-key.pem"), key.serialize_pem()),
            ..self.anonymous(url)
        }
    }
}

#[tokio::test]
async fn only_a_client_with_a_certificate_is_served() {
    let certificates = Certificates::new();
    let served = Served::with(Some(certificates.acceptor()), |_| {}).await;
    let connected = Client::connect(certificates.options(&served.url, "client")).await.unwrap();
    assert!(connected.status().await.unwrap().version.starts_with("3.5"));
    let refused = Client::connect(certificates.anonymous(&served.url)).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, ConnectError::Unreachable { .. }), "{refused:?}");
}

/// Root alone, who has no password.
async fn users(store: &store::Store) {
    let root = || "root".to_owned();
    let changes = [
        AuthChange::RoleAdd { name: root() },
        AuthChange::UserAdd { name: root(), hash: Default::default(), no_password: true },
        AuthChange::UserGrantRole { user: root(), role: root() },
        AuthChange::Enable,
    ];
    for change in changes {
        store.change(None, change).await.unwrap();
    }
}

#[tokio::test]
async fn a_certificates_name_is_its_holders_user() {
    let (certificates, folder, tasks) = (Certificates::new(), tempfile::tempdir().unwrap(), Tasks::root());
    let options = store::Options::new(folder.path(), Clock::system(), tasks.child("store"));
    let store = store::Store::open(options).await.unwrap();
    users(&store).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let guard = AuthOptions::new(Arc::new(store.clone()), Clock::system());
    let options = etcd_server::Options {
        auth: Some(AuthOptions { client_cert_auth: true, ..guard }),
        ..etcd_server::Options::new(Arc::new(store), tasks.child("etcd"))
    };
    Service::start(options).await.unwrap().serve(Listener::Tcp(listener), Some(certificates.acceptor()));

    // What is answered fast: a write, and a watch; and what is not: a lease.
    let client = Client::connect(certificates.options(&url, "root")).await.unwrap();
    client.put(PutRequest { key: "own".into(), ..Default::default() }).await.unwrap();
    let watch = WatchRequest { key: "own".into(), start_revision: 1, ..Default::default() };
    assert_eq!(client.watch(watch).await.unwrap().next().await.unwrap().events.len(), 1);
    client.lease_grant(0, 60).await.unwrap();
    let refused = Client::connect(certificates.options(&url, "nobody")).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, ConnectError::Unreachable { .. }), "{refused:?}");
    tasks.stop();
}
