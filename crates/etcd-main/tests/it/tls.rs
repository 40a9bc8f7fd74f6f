//! TLS: certificates of the flags, of clients, made here, renewed and taken back.

use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

use crate::member::{BINARY, Member, Place, clean, write};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(place: &Place, name: &str) -> (Self, String) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = write(place, &format!("{name}.pem"), &issuer.pem());
        (Authority(issuer), file)
    }

    /// A certificate and its key in files; the serial number is the length of the name.
    fn issue(&self, place: &Place, file: &str, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(file.len() as u64));
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let cert = write(place, &format!("{file}.pem"), &certificate.pem());
        (cert, write(place, &format!("{file}-key.pem"), &key.serialize_pem()))
    }

    fn revoke(&self, place: &Place, file: &str) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(file.len() as u64),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2036, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = place.path("list.pem");
        fs::write(&path, list.signed_by(&self.0).unwrap().pem().unwrap()).unwrap();
        path.display().to_string()
    }
}

fn flags(place: &Place, ca: &str, pair: Option<&(String, String)>) -> Vec<String> {
    let mut flags = vec!["--endpoints".to_owned(), place.url("https"), "--cacert".to_owned(), ca.to_owned()];
    flags.extend(["--dial-timeout=2s".to_owned(), "--command-timeout=3s".to_owned()]);
    if let Some((cert, key)) = pair {
        flags.extend(["--cert".to_owned(), cert.clone(), "--key".to_owned(), key.clone()]);
    }
    flags
}

#[test]
fn only_clients_with_an_allowed_certificate_are_served() {
    let place = Place::new();
    let (authority, ca) = Authority::new(&place, "ca");
    let server = authority.issue(&place, "server", "127.0.0.1");
    let (good, other) = (authority.issue(&place, "good", "friend"), authority.issue(&place, "others", "stranger"));
    let revoked = authority.issue(&place, "revoked", "friend");
    let list = authority.revoke(&place, "revoked");
    let (stranger, _) = Authority::new(&place, "elsewhere");
    let foreign = stranger.issue(&place, "foreign-one", "friend");
    let tls = [
        format!("--cert-file={}", server.0),
        format!("--key-file={}", server.1),
        format!("--trusted-ca-file={ca}"),
        format!("--client-crl-file={list}"),
        "--client-cert-auth".to_owned(),
        "--client-cert-allowed-hostname=friend".to_owned(),
        "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".to_owned(),
    ];
    let member = Member::start(clean(BINARY).args(place.flags("https")).args(tls));
    member.wait_for("starting with client TLS");
    member.wait_for("serving client traffic securely");
    let put = |pair: Option<&(String, String)>| place.etcdctl(&flags(&place, &ca, pair), "put a 1").ok();
    assert!(put(Some(&good)), "{}", member.log());
    for (what, pair) in [
        ("none", None),
        ("of no allowed name", Some(&other)),
        ("taken back", Some(&revoked)),
        ("foreign", Some(&foreign)),
    ] {
        assert!(!put(pair), "{what}");
    }
}

/// The flags with which kubeadm starts an etcd.
#[test]
fn kubeadms_flags() {
    let place = Place::new();
    let (authority, ca) = Authority::new(&place, "ca");
    let (server, client) = (authority.issue(&place, "server", "127.0.0.1"), authority.issue(&place, "client", "a"));
    let metrics = test_support::ports::free_port();
    let (url, peer) = (place.url("https"), format!("https://127.0.0.1:{}", place.peer));
    let flags = [
        format!("--advertise-client-urls={url}"),
        format!("--cert-file={}", server.0),
        "--client-cert-auth=true".to_owned(),
        format!("--data-dir={}", place.data_dir()),
        "--experimental-initial-corrupt-check=true".to_owned(),
        "--experimental-watch-progress-notify-interval=5s".to_owned(),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=node={peer}"),
        format!("--key-file={}", server.1),
        format!("--listen-client-urls={url}"),
        format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
        format!("--listen-peer-urls={peer}"),
        "--name=node".to_owned(),
        format!("--peer-cert-file={}", server.0),
        "--peer-client-cert-auth=true".to_owned(),
        format!("--peer-key-file={}", server.1),
        format!("--peer-trusted-ca-file={ca}"),
        "--snapshot-count=10000".to_owned(),
        format!("--trusted-ca-file={ca}"),
    ];
    let mut member = Member::start(clean(BINARY).args(flags));
    member.wait_for("starting with peer TLS");
    member.wait_for("serving metrics");
    let ran = place.etcdctl(&crate::tls::flags(&place, &ca, Some(&client)), "member list -w json");
    assert!(ran.expect_ok().contains("\"name\":\"node\""));
    member.stop();
}

#[test]
fn a_renewed_certificate_counts_at_once() {
    let place = Place::new();
    let (old, old_ca) = Authority::new(&place, "old");
    let pair = old.issue(&place, "server", "127.0.0.1");
    let tls = [format!("--cert-file={}", pair.0), format!("--key-file={}", pair.1)];
    let _member = Member::start(clean(BINARY).args(place.flags("https")).args(tls));
    let put = |ca: &str| place.etcdctl(&flags(&place, ca, None), "put a 1").ok();
    assert!(put(&old_ca));
    let (new, new_ca) = Authority::new(&place, "new");
    new.issue(&place, "server", "127.0.0.1");
    assert_eq!((put(&new_ca), put(&old_ca)), (true, false));
}

#[test]
fn a_certificate_is_made_and_kept() {
    let place = Place::new();
    let mut flags = place.flags("https");
    flags.extend(["--auto-tls".to_owned(), "--peer-auto-tls".to_owned()]);
    let mut member = Member::start(clean(BINARY).args(&flags));
    member.wait_for("created cert file");
    let cert = place.path("data/fixtures/client/cert.pem");
    let first = fs::read(&cert).unwrap();
    assert!(place.path("data/fixtures/peer/key.pem").exists());
    let ctl = ["--endpoints".to_owned(), place.url("https"), "--insecure-transport=false".to_owned()];
    let skip = [ctl.as_slice(), &["--insecure-skip-tls-verify".to_owned()]].concat();
    let ran = place.etcdctl(&skip, "put a 1");
    assert_eq!(ran.expect_ok(), "OK\n");
    member.stop();
    let _again = Member::start(clean(BINARY).args(&flags));
    assert_eq!(fs::read(&cert).unwrap(), first);
}

#[test]
fn files_that_are_no_certificates_are_refused() {
    let place = Place::new();
    let (authority, _) = Authority::new(&place, "ca");
    let (cert, key) = authority.issue(&place, "server", "127.0.0.1");
    let (_, other_key) = authority.issue(&place, "other", "127.0.0.1");
    let text = write(&place, "text", "dear");
    let none = place.path("none").display().to_string();
    for (cert, key, words) in [
        (&cert, &none, "no such file or directory"),
        (&text, &key, "failed to find any PEM data in certificate input"),
        (&cert, &other_key, "private key does not match public key"),
    ] {
        let tls = [format!("--cert-file={cert}"), format!("--key-file={key}")];
        let ran = test_support::run(clean(BINARY).args(place.flags("https")).args(tls), None, 20);
        assert!(ran.code == Some(1) && ran.stderr.contains(words), "{words}: {ran:?}");
    }
}
