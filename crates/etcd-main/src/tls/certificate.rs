//! A certificate and its key in two files, read again when either has changed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use parking_lot::Mutex;
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::TlsError;

#[derive(Debug)]
pub(super) struct Files {
    cert: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    stamp: Option<Stamp>,
    key: Arc<CertifiedKey>,
}

/// When and how large both files were.
type Stamp = [(SystemTime, u64); 2];

impl Files {
    pub fn open(cert: &str, key: &str, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let (cert, key) = (PathBuf::from(cert), PathBuf::from(key));
        let read = Read { stamp: stamp(&cert, &key), key: Arc::new(load(&cert, &key, &provider)?) };
        Ok(Files { cert, key, provider, read: Mutex::new(read) })
    }

    /// The certificate as it is on disk; the last good one while what is there cannot be used.
    fn current(&self) -> Arc<CertifiedKey> {
        let stamp = stamp(&self.cert, &self.key);
        let mut read = self.read.lock();
        if stamp != read.stamp {
            match load(&self.cert, &self.key, &self.provider) {
                Ok(key) => *read = Read { stamp, key: Arc::new(key) },
                Err(error) => tracing::warn!(%error, "failed to create peer certificate"),
            }
        }
        read.key.clone()
    }
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for Files {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn stamp(cert: &Path, key: &Path) -> Option<Stamp> {
    let one = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    Some([one(cert)?, one(key)?])
}

fn load(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let read = |path: &Path| fs::read(path).map_err(|error| TlsError::file(path, &error));
    let (cert_pem, key_pem) = (read(cert)?, read(key)?);
    let content =
        |path: &Path, reason: &dyn ToString| TlsError::content(&path.display().to_string(), reason.to_string());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&cert_pem).collect();
    let chain = chain.map_err(|error| content(cert, &error))?;
    if chain.is_empty() {
        return Err(content(cert, &"tls: failed to find any PEM data in certificate input"));
    }
    let private = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| content(key, &error))?;
    let signing = provider.key_provider.load_private_key(private).map_err(|error| content(key, &error))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err(content(key, &"tls: private key does not match public key")),
    }
}
