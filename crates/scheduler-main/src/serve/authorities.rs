//! Who vouches for clients' certificates: authorities from a file or from the cluster, which change while we run.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::RwLock;
use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// A set of authorities that can be replaced.
#[derive(Clone, Default)]
pub struct Authorities(Arc<RwLock<Current>>);

#[derive(Default)]
struct Current {
    pem: Vec<u8>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
#[error("no certificate of an authority can be read from it: {0}")]
pub struct AuthorityError(String);

impl Authorities {
    /// Replaces the authorities by those in `pem`.
    pub fn set(&self, pem: &[u8]) -> Result<(), AuthorityError> {
        if self.0.read().pem == pem {
            return Ok(());
        }
        let wrong = |error: &dyn std::fmt::Display| AuthorityError(error.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error| wrong(&error))?;
        *self.0.write() = Current { pem: pem.to_vec(), verifier: Some(verifier) };
        Ok(())
    }

    /// Whether one of the authorities vouches for the chain's first certificate now.
    pub fn vouch(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> bool {
        let Some((first, rest)) = chain.split_first() else { return false };
        let Some(verifier) = self.0.read().verifier.clone() else { return false };
        let since = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
        verifier.verify_client_cert(first, rest, UnixTime::since_unix_epoch(since)).is_ok()
    }
}

/// The common name and the organizations of a certificate.
pub fn subject(certificate: &CertificateDer<'_>) -> Option<(String, Vec<String>)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = parsed.subject().iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned);
    Some((name, groups.collect()))
}
