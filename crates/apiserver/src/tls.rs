//! TLS: the server's certificate, and the identity that a client's certificate proves.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::Identity;

/// The certificates and key, as PEM.
#[derive(Clone)]
pub struct TlsFiles {
    /// The server's certificate, followed by those between it and its root.
    pub certificates: String,
    pub key: String,
    /// Who signs client certificates.
    pub client_ca: String,
}

/// The TLS material cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {0}")]
pub struct TlsError(String);

/// A server configuration that asks for a client certificate and also lets clients in without one, because they may
/// bring a token.
pub(crate) fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let certificates = |pem: &str, what: &str| -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| TlsError(format!("{what}: {error}")))?;
        if found.is_empty() { Err(TlsError(format!("{what}: no certificate in it"))) } else { Ok(found) }
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.client_ca, "client CA")? {
        roots.add(certificate).map_err(|error| TlsError(format!("client CA: {error}")))?;
    }
    let key = PrivateKeyDer::from_pem_slice(files.key.as_bytes())
        .map_err(|error| TlsError(format!("server key: {error}")))?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError(format!("client CA: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&files.certificates, "server certificate")?, key)
        .map_err(|error| TlsError(format!("server certificate: {error}")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Who a verified client certificate speaks for: its common name is the user, its organizations are the groups.
pub(crate) fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups: Vec<String> =
        subject.iter_organization().filter_map(|organization| organization.as_str().ok().map(str::to_owned)).collect();
    Some(Identity::new(user, groups))
}
