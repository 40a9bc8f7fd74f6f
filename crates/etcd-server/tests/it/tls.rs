//! TLS with client certificates, as etcd is run in earnest.

use std::{path::PathBuf, sync::Arc};

use etcd_client::{Client, ConnectError, Options};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use store_api::Store;
use tokio_rustls::TlsAcceptor;

use crate::served::Served;

#[tokio::test]
async fn only_a_client_with_a_certificate_is_served() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let issue = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        (certificate, key)
    };
    let (server, server_key) = issue("127.0.0.1");
    let (client, client_key) = issue("client");
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let served = Served::with(Some(TlsAcceptor::from(Arc::new(config))), |_| {}).await;

    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| -> Option<PathBuf> {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let anonymous = Options { ca_file: file("ca.pem", authority.pem()), ..Options::new([&served.url]) };
    let own = Options {
        cert_file: file("client.pem", client.pem()),
        key_file: file("client-key.pem", client_key.serialize_pem()),
        ..anonymous.clone()
    };
    let connected = Client::connect(own).await.unwrap();
    assert!(connected.status().await.unwrap().version.starts_with("3.5"));
    let refused = Client::connect(anonymous).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, ConnectError::Unreachable { .. }), "{refused:?}");
}
