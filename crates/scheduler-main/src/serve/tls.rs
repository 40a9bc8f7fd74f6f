//! TLS as the flags ask for it: certificates, versions, cipher suites, key exchanges, names.
//!
//! Clients' certificates are asked for and taken as they are; who vouches for them is looked at with each request.

use std::{fs, path::Path, sync::Arc};

use jiff::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    DigitallySignedStruct, DistinguishedName as Names, Error, NamedGroup, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        ClientHello, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio_rustls::TlsAcceptor;

use super::ServeError;
use crate::{parse::Values, setup::words};

static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static NEWEST: [&SupportedProtocolVersion; 1] = [&TLS13];

/// The pair's name in a folder.
const PAIR: &str = "kube-scheduler";
const YEAR: i64 = 365 * 24 * 3600;
const DAY: i64 = 24 * 3600;

/// Suites that Go knows by name and that nobody offers any more.
const OLD_SUITES: [&str; 14] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
];
/// Names that Go has for suites besides their own.
const ALIASES: [(&str, &str); 2] = [
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

/// Where the server's certificate and key come from.
pub enum Certificate {
    Files { certificate: String, key: String },
    Made { certificate: String, key: String },
}

/// The certificate of the flags, or one made now. `None`: nothing is to be served.
pub fn certificate(values: &Values) -> Result<Option<Certificate>, ServeError> {
    if values.int("secure-port") == 0 {
        return Ok(None);
    }
    let (certificate, key) = (values.text("tls-cert-file"), values.text("tls-private-key-file"));
    if !certificate.is_empty() || !key.is_empty() {
        return Ok(Some(Certificate::Files { certificate: certificate.to_owned(), key: key.to_owned() }));
    }
    let folder = values.text("cert-dir");
    let made = |error: rcgen::Error| ServeError::SelfSigned(error.to_string());
    if folder.is_empty() {
        let (certificate, key) = self_signed(runtime::Clock::system().now()).map_err(made)?;
        tracing::info!("Generated self-signed cert in-memory");
        return Ok(Some(Certificate::Made { certificate, key }));
    }
    let folder = Path::new(folder);
    let (certificate, key) = (folder.join(format!("{PAIR}.crt")), folder.join(format!("{PAIR}.key")));
    if !certificate.exists() || !key.exists() {
        let failed = |what: &str, path: &Path| {
            let path = path.display().to_string();
            let what = what.to_owned();
            move |error: std::io::Error| ServeError::SelfSigned(format!("{what} {path}: {}", words(&error)))
        };
        let (pem, key_pem) = self_signed(runtime::Clock::system().now()).map_err(made)?;
        fs::create_dir_all(folder).map_err(failed("mkdir", folder))?;
        write(&certificate, &pem, 0o644).map_err(failed("open", &certificate))?;
        write(&key, &key_pem, 0o600).map_err(failed("open", &key))?;
        tracing::info!("Generated self-signed cert ({}, {})", certificate.display(), key.display());
    }
    let path = |path: &Path| path.display().to_string();
    Ok(Some(Certificate::Files { certificate: path(&certificate), key: path(&key) }))
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}

fn self_signed(now: Timestamp) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("localhost@{}", now.as_second()));
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // A day back, for clients whose clock is behind.
    let at = |second: i64| {
        let utc = Timestamp::from_second(second).unwrap_or(now).to_zoned(jiff::tz::TimeZone::UTC);
        rcgen::date_time_ymd(i32::from(utc.year()), utc.month().unsigned_abs(), utc.day().unsigned_abs())
    };
    params.not_before = at(now.as_second() - DAY);
    params.not_after = at(now.as_second() + YEAR);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// The acceptor for the flags.
pub fn acceptor(values: &Values, certificate: &Certificate, http2: bool) -> Result<TlsAcceptor, ServeError> {
    let versions = versions(values.text("tls-min-version"))?;
    let provider = Arc::new(provider(values)?);
    let default = match certificate {
        Certificate::Made { certificate, key } => pair(certificate.as_bytes(), key.as_bytes(), "made", &provider)?,
        Certificate::Files { certificate, key } => files(certificate, key, &provider)?,
    };
    let mut named = Vec::new();
    for value in values.raw("tls-sni-cert-key") {
        // Two paths, then names behind a colon.
        let (paths, names) = value.split_once(':').unwrap_or((value, ""));
        let (certificate, key) = paths.split_once(',').unwrap_or((paths, ""));
        let mut names: Vec<String> = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let pair = files(certificate, key, &provider).map_err(|error| ServeError::Sni(Box::new(error)))?;
        if names.is_empty() {
            names = own_names(&pair);
        }
        named.push((names, Arc::new(pair)));
    }
    let verifier = Arc::new(Anyone(provider.signature_verification_algorithms));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| ServeError::Tls(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Certificates { default: Arc::new(default), named }));
    config.alpn_protocols = if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn versions(least: &str) -> Result<&'static [&'static SupportedProtocolVersion], ServeError> {
    match least {
        // What is older than 1.2 nobody should speak, so that it is not spoken here.
        "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => Ok(&BOTH),
        "VersionTLS13" => Ok(&NEWEST),
        other => Err(ServeError::Version(other.to_owned())),
    }
}

fn provider(values: &Values) -> Result<CryptoProvider, ServeError> {
    let mut provider = ring::default_provider();
    let name_of = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
    let asked = values.list("tls-cipher-suites");
    let asked: Vec<&str> = asked
        .iter()
        .map(|name| ALIASES.iter().find(|(alias, _)| alias == name).map_or(name.as_str(), |(_, name)| name))
        .collect();
    for name in &asked {
        if !OLD_SUITES.contains(name) && !provider.cipher_suites.iter().any(|suite| name_of(suite) == *name) {
            return Err(ServeError::Cipher((*name).to_owned()));
        }
    }
    if !asked.is_empty() {
        // Those of TLS 1.3 are always on, as in Go.
        provider.cipher_suites.retain(|suite| suite.tls13().is_some() || asked.contains(&name_of(suite).as_str()));
    }
    let curves = values.list("tls-curve-preferences");
    if !curves.is_empty() {
        let asked: Vec<NamedGroup> =
            curves.iter().filter_map(|curve| curve.parse::<u16>().ok()).map(NamedGroup::from).collect();
        provider.kx_groups.retain(|group| asked.contains(&group.name()));
        if provider.kx_groups.is_empty() {
            let told = format!("none of the curves of --tls-curve-preferences {curves:?} is there: 23, 24 and 29 are");
            return Err(ServeError::Tls(told));
        }
    }
    Ok(provider)
}

fn files(certificate: &str, key: &str, provider: &CryptoProvider) -> Result<CertifiedKey, ServeError> {
    let read =
        |path: &str| fs::read(path).map_err(|error| ServeError::File { path: path.to_owned(), reason: words(&error) });
    pair(&read(certificate)?, &read(key)?, certificate, provider)
}

fn pair(certificate: &[u8], key: &[u8], path: &str, provider: &CryptoProvider) -> Result<CertifiedKey, ServeError> {
    let wrong = |reason: String| ServeError::Pair { path: path.to_owned(), reason };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|error| wrong(format!("it is no certificate in PEM: {error}")))?;
    if chain.is_empty() {
        return Err(wrong("it has no certificate in PEM".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| wrong(format!("its key is none in PEM: {error}")))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| wrong(error.to_string()))
}

/// The names that a certificate is for.
fn own_names(pair: &CertifiedKey) -> Vec<String> {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
    let Some((_, parsed)) = pair.cert.first().and_then(|der| X509Certificate::from_der(der).ok()) else {
        return Vec::new();
    };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    dns.collect()
}

/// The server's certificates by the names that clients ask for.
#[derive(Debug)]
struct Certificates {
    default: Arc<CertifiedKey>,
    named: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().unwrap_or_default();
        let of = self.named.iter().find(|(names, _)| names.iter().any(|name| is_name_of(asked, name)));
        Some(of.map_or(&self.default, |(_, pair)| pair).clone())
    }
}

/// Whether a name is of a pattern, in which `*.` stands for one label.
fn is_name_of(name: &str, pattern: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
        None => name.eq_ignore_ascii_case(pattern),
    }
}

/// Takes every certificate that its owner holds the key of, and no certificate, too.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[Names] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_certificates() {
        let check =
            |name: &str, pattern: &str, expected| assert_eq!(is_name_of(name, pattern), expected, "{name} {pattern}");
        check("a.example.com", "a.example.com", true);
        check("A.example.com", "a.Example.com", true);
        check("a.example.com", "*.example.com", true);
        check("a.b.example.com", "*.example.com", false);
        check("example.com", "*.example.com", false);
        check("", "a", false);
    }

    #[test]
    fn flags_that_cannot_be_are_told_in_kube_schedulers_words() {
        let (pem, key) = self_signed(Timestamp::from_second(1_800_000_000).unwrap()).unwrap();
        let certificate = Certificate::Made { certificate: pem, key };
        let check = |line: &str, expected: Result<(), &str>| {
            let values = crate::parse::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap();
            let made = acceptor(&values, &certificate, true).map(drop).map_err(|error| error.to_string());
            assert_eq!(made.as_ref().map_err(String::as_str).copied(), expected, "{line}");
        };
        check("", Ok(()));
        check("--tls-min-version=VersionTLS13 --tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Ok(()));
        check("--tls-min-version=foo", Err("unknown tls version \"foo\""));
        check("--tls-cipher-suites=foo", Err("Cipher suite foo not supported or doesn't exist"));
        check("--tls-curve-preferences=29,23", Ok(()));
        check(
            "--tls-sni-cert-key=/nonexistent,/k",
            Err("failed to load SNI cert and key: open /nonexistent: no such file or directory"),
        );
    }
}
