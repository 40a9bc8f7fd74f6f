//! What a client's certificate must be beyond signed by a trusted authority: of an allowed name, and not taken back.

use std::{fs, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::config::Tls;

#[derive(Debug)]
pub(super) struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    allowed_cns: Vec<String>,
    allowed_hostnames: Vec<String>,
    /// Read at each handshake, so that a new list counts at once.
    crl_file: String,
}

impl Verifier {
    pub fn new(inner: Arc<dyn ClientCertVerifier>, tls: &Tls) -> Self {
        let (allowed_cns, allowed_hostnames) = (tls.allowed_cns.clone(), tls.allowed_hostnames.clone());
        Verifier { inner, allowed_cns, allowed_hostnames, crl_file: tls.crl_file.clone() }
    }

    fn is_allowed(&self, certificate: &CertificateDer<'_>) -> bool {
        if !self.allowed_cns.is_empty() {
            let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
            let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
            return name.is_some_and(|name| self.allowed_cns.iter().any(|allowed| allowed == name));
        }
        let matches = |name: &String| {
            let Ok(name) = ServerName::try_from(name.as_str()) else { return false };
            let Ok(parsed) = rustls::server::ParsedCertificate::try_from(certificate) else { return false };
            rustls::client::verify_server_name(&parsed, &name).is_ok()
        };
        self.allowed_hostnames.is_empty() || self.allowed_hostnames.iter().any(matches)
    }

    /// Whether a certificate of the chain is on the list of those taken back.
    fn is_revoked(&self, chain: &[&CertificateDer<'_>]) -> Result<bool, String> {
        if self.crl_file.is_empty() {
            return Ok(false);
        }
        let bytes = fs::read(&self.crl_file).map_err(|error| format!("{}: {error}", self.crl_file))?;
        let pem = rustls::pki_types::CertificateRevocationListDer::from_pem_slice(&bytes);
        let der = pem.map_or_else(|_| bytes.clone(), |list| list.to_vec());
        let (_, list) =
            CertificateRevocationList::from_der(&der).map_err(|error| format!("{}: {error}", self.crl_file))?;
        for certificate in chain {
            let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
            if list.iter_revoked_certificates().any(|revoked| revoked.serial() == &parsed.serial) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if !self.is_allowed(end_entity) {
            tracing::warn!(error = "client certificate authentication failed", "rejected connection");
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let chain: Vec<&CertificateDer<'_>> = [end_entity].into_iter().chain(intermediates).collect();
        match self.is_revoked(&chain) {
            Ok(false) => Ok(verified),
            Ok(true) => {
                tracing::warn!(error = "transport: certificate serial revoked", "rejected connection");
                Err(CertificateError::Revoked.into())
            }
            Err(error) => {
                tracing::warn!(error, "rejected connection");
                Err(CertificateError::UnknownRevocationStatus.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Takes every certificate that its owner holds the key of.
#[derive(Debug)]
pub(super) struct Anybody(WebPkiSupportedAlgorithms);

impl Anybody {
    pub fn new(provider: &CryptoProvider) -> Self {
        Anybody(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
