//! The administrator's kubeconfig: written for kubectl, read back by our own commands.

use std::{
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;

use crate::pki::KeyPair;

/// Where `plinth up` writes it unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/plinth/plinth.yaml";

/// Writes the file atomically with `mode`.
pub fn write(path: &Path, mode: u32, server: &str, ca_pem: &str, user: &KeyPair) -> anyhow::Result<()> {
    let encode = |text: &str| BASE64_STANDARD.encode(text);
    // JSON is YAML, and every client reads it; it is laid out by hand so that a person can, too.
    let document = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: plinth\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {}\nusers:\n- name: plinth-admin\n  user:\n    client-certificate-data: {}\n    \
         client-key-data: {}\ncontexts:\n- name: plinth\n  context:\n    cluster: plinth\n    user: plinth-admin\n\
         current-context: plinth\npreferences: {}\n",
        encode(ca_pem),
        encode(&user.cert_pem),
        encode(&user.key_pem),
        json!({}),
    );
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    write_private(path, document.as_bytes(), mode)
}

/// Writes a file that is whole or absent, never half, and never readable by others on the way.
pub fn write_private(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let temporary = path.with_extension("tmp");
    let describe = || format!("cannot write {}", path.display());
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(describe)?;
    file.write_all(content).with_context(describe)?;
    file.set_permissions(fs::Permissions::from_mode(mode)).with_context(describe)?;
    file.sync_all().with_context(describe)?;
    fs::rename(&temporary, path).with_context(describe)
}

/// A client with the kubeconfig's credentials.
pub async fn client(path: &Path) -> anyhow::Result<kube::Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(path)
        .with_context(|| format!("cannot read {}; is the cluster up? (plinth up)", path.display()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    Ok(kube::Client::try_from(config)?)
}
