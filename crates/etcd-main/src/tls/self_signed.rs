//! `--auto-tls`: a certificate made at the first start and kept below the data folder, where etcd keeps its own.

use std::{
    fs,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};

use super::TlsError;
use crate::url::{self, Url};

const DAY: i64 = 24 * 3600;
const YEAR_DAYS: i64 = 365;

/// Where a certificate and its key are.
pub struct Made {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Not of an earlier start.
    pub new: bool,
}

/// Makes a certificate for the hosts of these URLs, unless there is one.
pub fn make_self_signed(folder: &Path, urls: &[Url], years: u64, now: Timestamp) -> Result<Made, TlsError> {
    if years == 0 {
        return Err(TlsError::Make("selfSignedCertValidity is invalid,it should be greater than 0".to_owned()));
    }
    let failed = |error: io::Error| TlsError::file(folder, &error);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let folder = folder.canonicalize().map_err(failed)?;
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if cert.exists() && key.exists() {
        return Ok(Made { cert, key, new: false });
    }
    let made = |error: rcgen::Error| TlsError::Make(error.to_string());
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(made)?;
    let certificate = params(urls, years, now)?.self_signed(&pair).map_err(made)?;
    write(&cert, certificate.pem().as_bytes(), 0o644)?;
    write(&key, pair.serialize_pem().as_bytes(), 0o600)?;
    Ok(Made { cert, key, new: true })
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(|error| TlsError::file(path, &error))
}

fn params(urls: &[Url], years: u64, now: Timestamp) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    for url in urls {
        let host = url::split_host_port(&url.host).map_or("", |(host, _)| host);
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if host.is_empty() => continue,
            Err(_) => SanType::DnsName(host.try_into().map_err(|_| TlsError::Make(format!("{host:?} is no name")))?),
        });
    }
    let at = |second: i64| {
        let zoned = Timestamp::from_second(second).map_err(|error| TlsError::Make(error.to_string()))?;
        let zoned = zoned.to_zoned(jiff::tz::TimeZone::UTC);
        let (year, month, day) = (i32::from(zoned.year()), zoned.month().unsigned_abs(), zoned.day().unsigned_abs());
        Ok::<_, TlsError>(rcgen::date_time_ymd(year, month, day))
    };
    let days = i64::try_from(years).unwrap_or(i64::MAX).saturating_mul(YEAR_DAYS);
    params.not_before = at(now.as_second() - DAY)?;
    params.not_after = at(now.as_second().saturating_add(days.saturating_mul(DAY)))?;
    Ok(params)
}
