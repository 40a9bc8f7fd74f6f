//! Where objects are kept: the built-in store, or an etcd that stands already; and the built-in one's etcd v3 face.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use bytes::Bytes;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{Ground, credentials::Credentials, settings::Settings};
use crate::{cli::UpArgs, data_dir::DataDir};

/// Kinds of objects that are written most, by their keys, the busiest first. What a Service reserves is written together
/// with it, so all of that stays in group 0.
const BUSY: [&str; 8] = [
    "/registry/pods/",
    "/registry/events/",
    "/registry/leases/",
    "/registry/minions/",
    "/registry/endpointslices/",
    "/registry/replicasets/",
    "/registry/deployments/",
    "/registry/jobs/",
];

/// How long an etcd client may be silent before it is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Where objects are kept.
#[derive(Clone)]
pub struct Storage {
    pub store: Arc<dyn store_api::Store>,
    /// The built-in store as a member. An etcd that stands already has its own door.
    member: Option<store::Store>,
}

/// Opens what the flags ask for; also says it in words.
pub async fn open(args: &UpArgs, data_dir: &DataDir, ground: &Ground) -> anyhow::Result<(Storage, String)> {
    if !args.datastore_endpoint.is_empty() {
        let mut options = etcd_client::Options::new(args.datastore_endpoint.clone());
        options.ca_file = args.datastore_cafile.clone();
        options.cert_file = args.datastore_certfile.clone();
        options.key_file = args.datastore_keyfile.clone();
        let client = etcd_client::Client::connect(options).await.context("--datastore-endpoint")?;
        let storage = Storage { store: Arc::new(client), member: None };
        return Ok((storage, format!("etcd at {}", args.datastore_endpoint.join(", "))));
    }
    let mut options = store::Options::new(data_dir.store(), ground.clock.clone(), ground.store.clone());
    options.groups = args.shards;
    options.shards = shard_map(args);
    let member = store::Store::open(options).await.context("the store cannot be opened")?;
    if args.shards > 1 && member.groups() != args.shards {
        // As with etcd's flags for a new cluster, what stands already goes on as it is.
        tracing::warn!(
            asked = args.shards,
            kept = member.groups(),
            "--shards is for a store that begins; it is ignored"
        );
    }
    ground.metrics.register(|registry| member.register_metrics(registry));
    let store = member.whole();
    let status = store.status().await?;
    let shards = if member.groups() > 1 { format!(", {} shards", member.groups()) } else { String::new() };
    let told = format!("revision {}, {} keys{shards}", status.revision, status.keys);
    Ok((Storage { store, member: Some(member) }, told))
}

fn shard_map(args: &UpArgs) -> Vec<(Bytes, u32)> {
    if !args.shard_map.is_empty() {
        return args.shard_map.iter().map(|shard| (shard.prefix.clone(), shard.group)).collect();
    }
    let others = args.shards.saturating_sub(1);
    let place = |(n, prefix): (u32, &'static str)| Some((prefix.into(), 1 + n.checked_rem(others)?));
    (0..).zip(BUSY).filter_map(place).collect()
}

/// Lets etcd's clients in, with a client certificate of ours only. An etcd that stands already has its own door.
pub async fn serve_etcd(
    settings: &Settings,
    credentials: &Credentials,
    storage: Storage,
    ground: &Ground,
) -> anyhow::Result<()> {
    let (Some(address), Some(member)) = (settings.etcd_listen, storage.member) else { return Ok(()) };
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} for etcd clients (--etcd-listen-address moves it, `none` turns it off)")
    })?;
    let client_urls = vec![format!("https://{address}")];
    member.publish(&settings.node_name, client_urls.clone()).await?;
    let mut options = etcd_server::Options::new(storage.store, ground.api.child("etcd"));
    options.cluster = Some(Arc::new(member));
    options.name = settings.node_name.clone();
    options.client_urls = client_urls;
    options.metrics = Some(ground.metrics.clone());
    // This listener does not have the kernel look for dead clients, as `plinth store`'s does.
    options.keep_alive.interval = KEEP_ALIVE;
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
