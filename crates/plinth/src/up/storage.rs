//! Where objects are kept: the built-in store, or an etcd that stands already; and the built-in one's etcd v3 face.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Ground, credentials::Credentials, settings::Settings};
use crate::{cli::UpArgs, data_dir::DataDir};

/// Opens what the flags ask for; also says it in words.
pub async fn open(
    args: &UpArgs,
    data_dir: &DataDir,
    ground: &Ground,
) -> anyhow::Result<(Arc<dyn store_api::Store>, String)> {
    if !args.datastore_endpoint.is_empty() {
        let mut options = etcd_client::Options::new(args.datastore_endpoint.clone());
        options.ca_file = args.datastore_cafile.clone();
        options.cert_file = args.datastore_certfile.clone();
        options.key_file = args.datastore_keyfile.clone();
        let client = etcd_client::Client::connect(options).await.context("--datastore-endpoint")?;
        return Ok((Arc::new(client), format!("etcd at {}", args.datastore_endpoint.join(", "))));
    }
    let options = store::Options::new(data_dir.store(), ground.clock.clone(), ground.store.clone());
    let store = store::Store::open(options).await.context("the store cannot be opened")?;
    ground.metrics.register(|registry| store.register_metrics(registry));
    let status = store_api::Store::status(&store).await?;
    Ok((Arc::new(store), format!("revision {}, {} keys", status.revision, status.keys)))
}

/// Lets etcd's clients in, with a client certificate of ours only. An etcd that stands already has its own door.
pub async fn serve_etcd(
    args: &UpArgs,
    settings: &Settings,
    credentials: &Credentials,
    store: Arc<dyn store_api::Store>,
    ground: &Ground,
) -> anyhow::Result<()> {
    let Some(address) = settings.etcd_listen.filter(|_| args.datastore_endpoint.is_empty()) else { return Ok(()) };
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} for etcd clients (--etcd-listen-address moves it, `none` turns it off)")
    })?;
    let mut options = etcd_server::Options::new(store, ground.api.child("etcd"));
    options.name = settings.node_name.clone();
    options.client_urls = vec![format!("https://{address}")];
    options.metrics = Some(ground.metrics.clone());
    let service = etcd_server::Service::start(options).await?;
    service.serve(etcd_server::Listener::Tcp(listener), Some(acceptor(credentials, address)?));
    Ok(())
}

fn acceptor(credentials: &Credentials, address: SocketAddr) -> anyhow::Result<TlsAcceptor> {
    let certificates = |pem: &str| CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&credentials.ca_pem)? {
        roots.add(certificate)?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let key = PrivateKeyDer::from_pem_slice(credentials.etcd_server.key_pem.as_bytes())?;
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&credentials.etcd_server.cert_pem)?, key)
        .with_context(|| format!("the certificate for {address}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
