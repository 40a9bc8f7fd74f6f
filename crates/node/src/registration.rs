//! The node's own object and lease: registered at the start, renewed, and told of what has changed.

mod object;

use std::{sync::Arc, time::Duration};

use client::{Api, EventType};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{Namespace, Node, NodeStatus, ObjectReference},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::watch;

use crate::{context::Context, machine_facts::Pressure};

/// Leases of nodes live here.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Seconds after which a lease that was not renewed has run out.
const LEASE_SECONDS: i32 = 40;
/// Pause between renewals.
const RENEW: Duration = Duration::from_secs(10);
/// The status is written at least this often, changed or not.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// Pauses after a failure, from the first doubling to the last.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(5);

pub(crate) struct Registration {
    pub context: Arc<Context>,
    pub max_pods: u32,
    pub kubelet_port: u16,
    pub pod_cidr: Option<String>,
    /// Told once the node is Ready in the API.
    pub ready: watch::Sender<bool>,
}

impl Registration {
    pub async fn run(self) {
        let mut pause = RETRY_FIRST;
        while let Err(error) = self.register().await {
            tracing::warn!(%error, "node could not be registered and will be tried again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_LAST);
        }
        self.ready.send_replace(true);
        let about = ObjectReference {
            kind: Some("Node".into()),
            name: Some(self.context.node_name.clone()),
            uid: Some(self.context.node_name.clone()),
            ..ObjectReference::default()
        };
        self.context.recorder.event(&about, EventType::Normal, "Starting", "Starting kubelet.");
        let message = format!("Node {} status is now: NodeReady", self.context.node_name);
        self.context.recorder.event(&about, EventType::Normal, "NodeReady", message);
        self.keep().await;
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.context.client.clone())
    }

    fn status(&self, old: Option<&NodeStatus>, now: Timestamp) -> NodeStatus {
        let pressure = Pressure::read(&self.context.data_dir);
        object::status(&self.context, old, pressure, self.max_pods, self.kubelet_port, now)
    }

    /// Creates the object, or takes over the one that is there.
    async fn register(&self) -> kube::Result<()> {
        let now = self.context.clock.now();
        let node = object::node(&self.context, self.pod_cidr.as_deref(), self.status(None, now));
        match self.nodes().create(&PostParams::default(), &node).await {
            // The API drops a status on creation where it is a subresource, so it is written below all the same.
            Ok(made) if object::is_ready(made.status.as_ref()) => return Ok(()),
            Ok(_) => {}
            Err(error) if client::is_already_exists(&error) => {
                let labels = json!({ "metadata": { "labels": node.metadata.labels } });
                self.nodes().patch(&self.context.node_name, &PatchParams::default(), &Patch::Merge(labels)).await?;
            }
            Err(error) => return Err(error),
        }
        let old = self.nodes().get(&self.context.node_name).await?;
        self.write(self.status(old.status.as_ref(), now)).await
    }

    async fn write(&self, status: NodeStatus) -> kube::Result<()> {
        let patch = json!({ "status": status });
        self.nodes()
            .patch_status(&self.context.node_name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
            .map(|_| ())
    }

    /// Renews the lease, and writes the status when it has changed or is old.
    async fn keep(&self) {
        let mut written: Option<NodeStatus> = None;
        let mut written_at = self.context.clock.monotonic();
        loop {
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, "lease could not be renewed");
            }
            let now = self.context.clock.now();
            let status = self.status(written.as_ref(), now);
            let age = self.context.clock.monotonic().saturating_sub(written_at);
            let changed = written.as_ref().is_none_or(|old| !object::same(old, &status));
            if changed || age >= HEARTBEAT {
                match self.write(status.clone()).await {
                    Ok(()) => {
                        written = Some(status);
                        written_at = self.context.clock.monotonic();
                    }
                    // Somebody deleted the node: it comes back.
                    Err(error) if client::is_not_found(&error) => {
                        if let Err(error) = self.register().await {
                            tracing::warn!(%error, "node could not be registered");
                        }
                    }
                    Err(error) => tracing::warn!(%error, "node status could not be written"),
                }
            }
            tokio::time::sleep(RENEW).await;
        }
    }

    async fn renew(&self) -> kube::Result<()> {
        let name = &self.context.node_name;
        let api = Api::<Lease>::namespaced(self.context.client.clone(), LEASE_NAMESPACE);
        let renewed = MicroTime(self.context.clock.now());
        let patch = json!({ "spec": {
            "holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": renewed } });
        match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(error) if client::is_not_found(&error) => {}
            result => return result.map(|_| ()),
        }
        let owner = self.nodes().get_opt(name).await?.and_then(|node| node.metadata.uid);
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(LEASE_NAMESPACE.to_owned()),
                owner_references: owner.map(|uid| {
                    vec![OwnerReference {
                        api_version: "v1".into(),
                        kind: "Node".into(),
                        name: name.clone(),
                        uid,
                        ..OwnerReference::default()
                    }]
                }),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(name.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                renew_time: Some(renewed),
                ..LeaseSpec::default()
            }),
        };
        match api.create(&PostParams::default(), &lease).await {
            Err(error) if client::is_not_found(&error) => {
                // The namespace is not there yet; whoever needs it first makes it.
                let namespace = Namespace {
                    metadata: ObjectMeta { name: Some(LEASE_NAMESPACE.to_owned()), ..ObjectMeta::default() },
                    ..Namespace::default()
                };
                match Api::<Namespace>::all(self.context.client.clone())
                    .create(&PostParams::default(), &namespace)
                    .await
                {
                    Err(error) if !client::is_already_exists(&error) => return Err(error),
                    _ => {}
                }
                api.create(&PostParams::default(), &lease).await.map(|_| ())
            }
            result => result.map(|_| ()),
        }
    }
}
