//! TLS of a listener, from the files that the flags name. Files are read again when they change, so that certificates can
//! be renewed under a running member, as with etcd.

mod certificate;
mod self_signed;
pub mod suites;
mod verifier;

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::{Tls, TlsVersions};

pub use self_signed::make_self_signed;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    OneOfTwo { key: String, cert: String },
    #[error("ClientKeyFile and ClientCertFile must both be present or both absent: key: {key}, cert: {cert}]")]
    OneOfTwoForClient { key: String, cert: String },
    #[error("open {path}: {reason}")]
    File { path: String, reason: String },
    #[error("{path}: {reason}")]
    Content { path: String, reason: String },
    #[error("AllowedCNs and AllowedHostnames are mutually exclusive (cns={cns}, hostnames={hostnames})")]
    TwoRules { cns: String, hostnames: String },
    #[error("none of the TLS cipher suites {0} is supported here")]
    NoSuite(String),
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("the client certificates cannot be verified: {0}")]
    Verifier(String),
    #[error("a certificate cannot be made: {0}")]
    Make(String),
}

impl TlsError {
    fn file(path: &Path, error: &io::Error) -> Self {
        TlsError::File { path: path.display().to_string(), reason: crate::parse::words(error) }
    }

    fn content(path: &str, reason: impl ToString) -> Self {
        TlsError::Content { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What a handshake of this side is done with.
pub fn acceptor(tls: &Tls, versions: &TlsVersions) -> Result<TlsAcceptor, TlsError> {
    if tls.cert_file.is_empty() || tls.key_file.is_empty() {
        return Err(TlsError::OneOfTwo { key: tls.key_file.clone(), cert: tls.cert_file.clone() });
    }
    if tls.client_cert_file.is_empty() != tls.client_key_file.is_empty() {
        let (key, cert) = (tls.client_key_file.clone(), tls.client_cert_file.clone());
        return Err(TlsError::OneOfTwoForClient { key, cert });
    }
    if !tls.allowed_cns.is_empty() && !tls.allowed_hostnames.is_empty() {
        let (cns, hostnames) =
            (crate::go::quoted_list(&tls.allowed_cns), crate::go::quoted_list(&tls.allowed_hostnames));
        return Err(TlsError::TwoRules { cns, hostnames });
    }
    let provider = Arc::new(provider(versions)?);
    let certificate = certificate::Files::open(&tls.cert_file, &tls.key_file, provider.clone())?;
    if !tls.client_cert_file.is_empty() {
        certificate::Files::open(&tls.client_cert_file, &tls.client_key_file, provider.clone())?;
    }
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&spoken(versions))?;
    let builder = if tls.client_cert_auth || !tls.trusted_ca_file.is_empty() {
        let roots = Arc::new(roots(&tls.trusted_ca_file)?);
        let inner = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        let inner = inner.map_err(|error| TlsError::Verifier(error.to_string()))?;
        builder.with_client_cert_verifier(Arc::new(verifier::Verifier::new(inner, tls)))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What this side connects to others with; `None` if it has no certificate.
pub fn connector(tls: &Tls, versions: &TlsVersions) -> Result<Option<TlsConnector>, TlsError> {
    let (cert, key) = match (tls.client_cert_file.is_empty(), tls.auto_tls) {
        (false, _) => (&tls.client_cert_file, &tls.client_key_file),
        (true, _) => (&tls.cert_file, &tls.key_file),
    };
    if cert.is_empty() && !tls.auto_tls {
        return Ok(None);
    }
    let provider = Arc::new(provider(versions)?);
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&spoken(versions))?;
    // As in etcd, certificates that the members made themselves prove nothing: the connection is secret, no more.
    let builder = match tls.auto_tls && tls.is_empty() {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier::Anybody::new(&provider))),
        false => builder.with_root_certificates(roots(&tls.trusted_ca_file)?),
    };
    let config = match cert.is_empty() {
        true => builder.with_no_client_auth(),
        false => builder.with_client_cert_resolver(Arc::new(certificate::Files::open(cert, key, provider)?)),
    };
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

fn provider(versions: &TlsVersions) -> Result<CryptoProvider, TlsError> {
    let (cipher_suites, absent) = suites::chosen(&versions.cipher_suites);
    if !absent.is_empty() {
        tracing::warn!("cipher-suites" = ?absent, "TLS cipher suites are not supported here and left out");
        if !cipher_suites.iter().any(|suite| suite.tls13().is_none()) && versions.max == "TLS1.2" {
            return Err(TlsError::NoSuite(crate::go::quoted_list(&absent)));
        }
    }
    Ok(CryptoProvider { cipher_suites, ..ring::default_provider() })
}

fn spoken(versions: &TlsVersions) -> Vec<&'static SupportedProtocolVersion> {
    // With suites of TLS 1.3 only, TLS 1.2 cannot be spoken.
    let (suites, _) = suites::chosen(&versions.cipher_suites);
    let old = versions.min != "TLS1.3" && suites.iter().any(|suite| suite.tls13().is_none());
    let new = versions.max != "TLS1.2";
    [(new, &TLS13), (old, &TLS12)].into_iter().filter_map(|(spoken, version)| spoken.then_some(version)).collect()
}

/// Where distributions keep the authorities that everybody trusts.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The authorities of a file; the system's where none is named.
fn roots(path: &str) -> Result<RootCertStore, TlsError> {
    let system = || SYSTEM_ROOTS.into_iter().find(|path| Path::new(path).exists()).unwrap_or(SYSTEM_ROOTS[0]);
    let path = if path.is_empty() { system() } else { path };
    let pem = std::fs::read(path).map_err(|error| TlsError::file(Path::new(path), &error))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| TlsError::content(path, error))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 { Err(TlsError::content(path, "no certificate of an authority is in it")) } else { Ok(roots) }
}
