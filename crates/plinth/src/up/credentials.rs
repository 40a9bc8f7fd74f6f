//! Everything secret that a start needs: the CA, certificates, the key that signs service account tokens.

use std::{fs, path::Path};

use anyhow::Context;
use jiff::Timestamp;

use super::settings::Settings;
use crate::{
    cli::UpArgs,
    data_dir::DataDir,
    kubeconfig::write_private,
    pki::{Authority, KeyPair, Subject},
};

pub struct Credentials {
    pub ca_pem: String,
    pub api: KeyPair,
    pub admin: KeyPair,
    pub etcd_server: KeyPair,
    /// Signs service account tokens: a P-256 key, PKCS#8 PEM.
    pub service_account_key: String,
}

impl Credentials {
    pub fn load(dir: &DataDir, args: &UpArgs, settings: &Settings, now: Timestamp) -> anyhow::Result<Self> {
        let (tls, etcd) = (dir.tls(), dir.tls().join("etcd"));
        let authority = Authority::open(&tls, now)?;
        let server = |common_name: &'static str, names| Subject { common_name, organization: None, names };
        let names = settings.api_names(args);
        let api = authority.issue(&tls, "serving-kube-apiserver", &server("kube-apiserver", &names))?;
        let admin = Subject { common_name: "system:admin", organization: Some("system:masters"), names: &[] };
        let admin = authority.issue(&tls, "client-admin", &admin)?;
        let mut etcd_names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        etcd_names.extend(settings.etcd_listen.map(|address| address.ip().to_string()));
        let etcd_server = authority.issue(&etcd, "server", &server("etcd-server", &etcd_names))?;
        // For etcdctl; the process itself needs none.
        authority.issue(&etcd, "client", &server("etcd-client", &[]))?;
        let service_account_key = service_account_key(&tls.join("service.key"))?;
        Ok(Credentials { ca_pem: authority.cert_pem, api, admin, etcd_server, service_account_key })
    }
}

fn service_account_key(path: &Path) -> anyhow::Result<String> {
    if !path.exists() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        write_private(path, key.serialize_pem().as_bytes(), 0o600)?;
    }
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
