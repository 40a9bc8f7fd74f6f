//! Extenders over HTTP: kube-scheduler's webhook protocol (kube-scheduler/extender/v1).
//!
//! ```text
//!   Decision::Consult ──▶ filter, one extender after the other ──▶ prioritize, all at once ──▶ Advice
//!   Decision::ConsultVictims ──▶ preempt, one after the other ──▶ Eviction
//!   Reservation ──▶ bind, the first that does
//! ```
//!
//! Each is asked only about pods that it is interested in. One that fails fails the attempt, unless it is ignorable.

mod nodes;
mod webhook;
mod wire;

use std::{collections::BTreeMap, sync::Arc};

use client::{Client, feed::Identity};
use futures::future::join_all;
use sched::{
    Advice, Extender, Pod, Reservation,
    diagnosis::{Rejected, Rejection},
    extender::Eviction,
    preempt::Victims,
};
use serde::Deserialize;

use crate::profiles::ProfileError;
pub(crate) use nodes::Nodes;
use webhook::Webhook;
use wire::{Filtered, Names};

/// All that are configured.
pub(crate) struct Extenders {
    webhooks: Vec<Webhook>,
    /// The nodes as the API has them, for those that do not know them themselves.
    nodes: Nodes,
    client: Client,
}

impl Extenders {
    pub fn new(configured: &[sched_config::Extender], client: &Client) -> Result<Self, ProfileError> {
        let webhooks = configured.iter().map(Webhook::new).collect::<Result<_, _>>()?;
        Ok(Extenders { webhooks, nodes: Nodes::default(), client: client.clone() })
    }

    /// Where nodes are to be kept in full, if any of them must be sent such.
    pub fn nodes(&self) -> Option<Nodes> {
        self.webhooks.iter().any(Webhook::needs_nodes).then(|| self.nodes.clone())
    }

    /// What the engine needs to know of them.
    pub fn facts(&self) -> Vec<Extender> {
        self.webhooks.iter().map(|webhook| webhook.facts.clone()).collect()
    }

    fn interested(&self, pod: &Pod) -> impl Iterator<Item = &Webhook> {
        self.webhooks.iter().filter(|webhook| webhook.facts.is_interested(pod))
    }

    /// Which of the nodes the pod may have, and which the extenders would rather have it on.
    pub async fn advise(&self, pod: &Pod, nodes: Vec<Arc<str>>) -> Result<Advice, String> {
        let object = self.object(pod).await?;
        let (mut left, mut rejected) = (nodes, Vec::new());
        for webhook in self.interested(pod) {
            if left.is_empty() {
                break;
            }
            match webhook.filter(&object, &left, &self.nodes).await {
                Ok(Filtered { nodes, failed }) => {
                    rejected.extend(by_reason(&webhook.facts.name, failed));
                    left = nodes;
                }
                Err(error) if webhook.ignorable => ignored(webhook, pod, &error),
                Err(error) => return Err(error),
            }
        }
        let mut nodes: BTreeMap<Arc<str>, i64> = left.iter().map(|name| (name.clone(), 0)).collect();
        if left.len() > 1 {
            let (object, left) = (&object, &left);
            let asked = self
                .interested(pod)
                .map(|webhook| async move { (webhook, webhook.prioritize(object, left, &self.nodes).await) });
            for (webhook, answer) in join_all(asked).await {
                match answer {
                    Ok(priorities) => {
                        for (name, priority) in priorities {
                            if let Some(sum) = nodes.get_mut(&*name) {
                                *sum = sum.saturating_add(priority.saturating_mul(webhook.weight));
                            }
                        }
                    }
                    // A preference is nothing that a pod has to wait for.
                    Err(error) => ignored(webhook, pod, &error),
                }
            }
        }
        Ok(Advice { nodes: nodes.into_iter().collect(), rejected })
    }

    /// Which of the evictions may be.
    pub async fn advise_victims(&self, pod: &Pod, candidates: Vec<Victims>) -> Result<Vec<Eviction>, String> {
        let object = self.object(pod).await?;
        let known: BTreeMap<Arc<str>, Arc<Pod>> =
            candidates.iter().flat_map(|one| &one.pods).map(|pod| (pod.uid.clone(), pod.clone())).collect();
        let mut evictions: Vec<Eviction> = candidates.iter().map(Eviction::from).collect();
        for webhook in self.interested(pod).filter(|webhook| webhook.facts.victims) {
            let mut objects = BTreeMap::new();
            if !webhook.node_cache_capable {
                for uid in evictions.iter().flat_map(|eviction| &eviction.pods) {
                    if let Some(victim) = known.get(uid).filter(|_| !objects.contains_key(uid)) {
                        objects.insert(uid.clone(), self.object(victim).await?);
                    }
                }
            }
            match webhook.preempt(&object, &evictions, &objects).await {
                Ok(answer) => evictions = answer,
                Err(error) if webhook.ignorable => ignored(webhook, pod, &error),
                Err(error) => return Err(error),
            }
            if evictions.is_empty() {
                break;
            }
        }
        Ok(evictions)
    }

    /// Has the pod bound, if one of them does that; `None`: none does, or those that do may be passed over.
    pub async fn bind(&self, reservation: &Reservation) -> Option<Result<(), String>> {
        for webhook in self.interested(&reservation.pod).filter(|webhook| webhook.binds()) {
            match webhook.bind(reservation).await {
                Err(error) if webhook.ignorable => ignored(webhook, &reservation.pod, &error),
                answer => return Some(answer),
            }
        }
        None
    }

    /// The pod as the API has it now, in full: the engine keeps only what it looks at.
    async fn object(&self, pod: &Pod) -> Result<String, String> {
        let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name);
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
        let failed = |error: String| format!("reading pod {}/{} for extenders: {error}", pod.namespace, pod.name);
        let object = self.client.request_text(request).await.map_err(|error| failed(error.to_string()))?;
        match serde_json::from_str(&object) {
            Ok(Head { metadata: Identity { uid: Some(uid), .. } }) if *uid == *pod.uid => Ok(object),
            Ok(_) => Err(failed("another pod has its name now".to_owned())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

/// Who an object is.
#[derive(Deserialize)]
struct Head {
    metadata: Identity,
}

fn ignored(webhook: &Webhook, pod: &Pod, error: &str) {
    let extender = &webhook.facts.name;
    tracing::warn!(%extender, pod = %pod.name, namespace = %pod.namespace, error, "extender is passed over");
}

fn by_reason(extender: &str, failed: Names<Rejection>) -> impl Iterator<Item = Rejected> {
    let mut counts: Vec<(Rejection, usize)> = Vec::new();
    for rejection in failed.into_values() {
        match counts.iter_mut().find(|(known, _)| *known == rejection) {
            Some((_, nodes)) => *nodes += 1,
            None => counts.push((rejection, 1)),
        }
    }
    counts.into_iter().map(|(rejection, nodes)| Rejected { plugin: extender.to_owned(), rejection, nodes })
}
