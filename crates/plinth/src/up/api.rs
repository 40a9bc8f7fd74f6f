//! The API server of this process, and clients that speak with it in memory.

use std::sync::Arc;

use anyhow::Context;
use apiserver::{ApiServer, Identity, ServiceAccountOptions, TlsFiles};
use kube::Client;

use super::{
    Ground,
    credentials::Credentials,
    dialer::{Dialer, NodeSlot},
    settings::Settings,
};
use crate::cli::UpArgs;

/// The running API server.
#[derive(Clone)]
pub struct Server {
    handle: apiserver::Handle,
    pub store: Arc<dyn store_api::Store>,
}

pub async fn start(
    args: &UpArgs,
    settings: &Settings,
    credentials: &Credentials,
    store: Arc<dyn store_api::Store>,
    slot: &NodeSlot,
    ground: &Ground,
) -> anyhow::Result<Server> {
    let issuer = format!("https://kubernetes.default.svc.{}", args.cluster_domain);
    let accounts = ServiceAccountOptions {
        signing_key: credentials.service_account_key.clone(),
        issuer: issuer.clone(),
        audiences: vec![issuer, "plinth".to_owned()],
    };
    let mut options = apiserver::Options::new(
        store.clone(),
        accounts,
        ground.clock.clone(),
        ground.api.child("apiserver"),
        ground.metrics.clone(),
    );
    options.listen = settings.api_listen.clone();
    options.tls = Some(TlsFiles {
        certificates: credentials.api.cert_pem.clone(),
        key: credentials.api.key_pem.clone(),
        client_ca: credentials.ca_pem.clone(),
    });
    options.advertise = Some(settings.api_advertise);
    options.service_cidr = args.service_cidr;
    options.node_ports = args.service_node_port_range.0..=args.service_node_port_range.1;
    if !args.disable_agent {
        options.node_dialer = Arc::new(Dialer { node_name: settings.node_name.clone(), slot: slot.clone() });
    }
    let handle = ApiServer::start(options).await.context("the API server cannot start")?;
    handle.ready().await;
    Ok(Server { handle, store })
}

impl Server {
    /// A client in this process for a part of the control plane, for example `system:kube-scheduler`.
    pub fn component(&self, user: &str) -> Client {
        self.client(Identity::component(user))
    }

    /// A client for this node's agent.
    pub fn node(&self, name: &str) -> Client {
        self.client(Identity::node(name))
    }

    /// A client for what the process does on the cluster's behalf.
    pub fn admin(&self) -> Client {
        self.client(Identity::admin())
    }

    fn client(&self, identity: Identity) -> Client {
        Client::new(self.handle.local(identity), "default")
    }
}
