//! Who is at the other end of a connection, by the certificate that it has shown.

use std::sync::Arc;

use x509_parser::{der_parser::asn1_rs::FromDer as _, prelude::X509Certificate};

/// The common name of a client's certificate, which the listener has verified. A connection carries it as an extension
/// of each of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName(pub Arc<str>);

impl PeerName {
    /// The name in a certificate (DER). Empty where it has none; `None` where it is no certificate.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        // Of several, the last one counts, as in Go.
        let name = certificate.subject().iter_common_name().last();
        Some(PeerName(name.and_then(|name| name.as_str().ok()).unwrap_or_default().into()))
    }
}
