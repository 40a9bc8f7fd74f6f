//! The cluster's certificates: one CA, made on the first start and kept; the certificates it signs are made anew when
//! they are missing, near their end or lack a name.

use std::{fs, net::IpAddr, path::Path};

use anyhow::Context;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair as Key, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};

use crate::kubeconfig::write_private;

const CA_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 365;
/// A certificate with less than this left is replaced at start.
const RENEW_DAYS: i64 = 90;
const DAY: i64 = 24 * 3600;

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct KeyPair {
    pub cert_pem: String,
    pub key_pem: String,
}

/// The cluster's certificate authority.
pub struct Authority {
    pub cert_pem: String,
    issuer: Issuer<'static, Key>,
    now: Timestamp,
}

/// What a certificate is for.
pub struct Subject<'a> {
    pub common_name: &'a str,
    pub organization: Option<&'a str>,
    /// DNS names and addresses; empty for a client's certificate.
    pub names: &'a [String],
}

impl Authority {
    /// Opens the CA in `dir`, or makes it.
    pub fn open(dir: &Path, now: Timestamp) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let (cert_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
        if !cert_path.exists() || !key_path.exists() {
            let key = Key::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut params = params("plinth-ca", None, now, CA_DAYS)?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages =
                vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
            let cert = params.self_signed(&key)?;
            write_private(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
            write_private(&cert_path, cert.pem().as_bytes(), 0o644)?;
        }
        let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let (cert_pem, key_pem) = (read(&cert_path)?, read(&key_path)?);
        let key = Key::from_pem(&key_pem)
            .with_context(|| format!("{} is not a private key; restore it from a backup", key_path.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key)
            .with_context(|| format!("{} is not a certificate; restore it from a backup", cert_path.display()))?;
        Ok(Authority { cert_pem, issuer, now })
    }

    /// The certificate `name` in `dir`, made or renewed as needed.
    pub fn issue(&self, dir: &Path, name: &str, subject: &Subject<'_>) -> anyhow::Result<KeyPair> {
        let (cert_path, key_path) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        if let (Ok(cert_pem), Ok(key_pem)) = (fs::read_to_string(&cert_path), fs::read_to_string(&key_path))
            && self.is_good(&cert_pem, subject)
        {
            return Ok(KeyPair { cert_pem, key_pem });
        }
        let key = Key::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(subject.common_name, subject.organization, self.now, LEAF_DAYS)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !subject.names.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        for name in subject.names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    name.as_str().try_into().with_context(|| format!("{name:?} is not a name for a certificate"))?,
                ),
            });
        }
        let cert = params.signed_by(&key, &self.issuer)?;
        let pair = KeyPair { cert_pem: cert.pem(), key_pem: key.serialize_pem() };
        write_private(&key_path, pair.key_pem.as_bytes(), 0o600)?;
        write_private(&cert_path, pair.cert_pem.as_bytes(), 0o644)?;
        Ok(pair)
    }

    /// Whether a certificate on disk is ours, lasts, and has every name.
    fn is_good(&self, cert_pem: &str, subject: &Subject<'_>) -> bool {
        let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()) else { return false };
        let Ok(cert) = pem.parse_x509() else { return false };
        let Ok((_, ca)) = x509_parser::pem::parse_x509_pem(self.cert_pem.as_bytes()) else { return false };
        let Ok(ca) = ca.parse_x509() else { return false };
        if cert.verify_signature(Some(ca.public_key())).is_err() {
            return false;
        }
        if cert.validity().not_after.timestamp() < self.now.as_second() + RENEW_DAYS * DAY {
            return false;
        }
        let common_name = cert.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        if common_name != Some(subject.common_name) {
            return false;
        }
        let mut names = Vec::new();
        if let Ok(Some(extension)) = cert.subject_alternative_name() {
            for name in &extension.value.general_names {
                match name {
                    x509_parser::extensions::GeneralName::DNSName(name) => names.push((*name).to_owned()),
                    x509_parser::extensions::GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                    _ => {}
                }
            }
        }
        subject.names.iter().all(|name| names.contains(name))
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4).to_string());
    }
    Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string())
}

fn params(
    common_name: &str,
    organization: Option<&str>,
    now: Timestamp,
    days: i64,
) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    // An hour back, for clients whose clock is a little behind.
    let at = |second: i64| {
        let zoned = Timestamp::from_second(second)?.to_zoned(jiff::tz::TimeZone::UTC);
        let (year, month, day) = (i32::from(zoned.year()), zoned.month().unsigned_abs(), zoned.day().unsigned_abs());
        Ok::<_, jiff::Error>(rcgen::date_time_ymd(year, month, day))
    };
    params.not_before = at(now.as_second() - DAY)?;
    params.not_after = at(now.as_second() + days * DAY)?;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_kept_until_a_name_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let authority = Authority::open(dir.path(), now).unwrap();
        let issue = |authority: &Authority, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            let subject = Subject { common_name: "kube-apiserver", organization: None, names: &names };
            authority.issue(dir.path(), "server", &subject).unwrap().cert_pem
        };
        let first = issue(&authority, &["localhost", "127.0.0.1"]);
        assert_eq!(first, issue(&Authority::open(dir.path(), now).unwrap(), &["127.0.0.1"]));
        assert_ne!(first, issue(&authority, &["10.0.0.1"]));
        let later = Timestamp::from_second(now.as_second() + 300 * DAY).unwrap();
        let before = issue(&authority, &["10.0.0.1"]);
        assert_ne!(before, issue(&Authority::open(dir.path(), later).unwrap(), &["10.0.0.1"]));
    }
}
