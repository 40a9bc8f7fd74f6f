//! Drives PodDisruptionBudgets: writes into their status what `reconcile::disruption` works out, and takes back what was
//! said of pods that were to be disrupted and were not.

use std::{sync::Arc, time::Duration};

use client::{Key, Recorder, kube};
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{Pod, ReplicationController},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use reconcile::{
    disruption::{self, Scale, Scales},
    meta,
};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::{
    cache::in_namespace,
    context::Context,
    discovery::{self, Served},
    pods::api_message,
    queue::Queue,
    worker::{Controller, Error},
};

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// What a budget allows.
    Budget(Key),
    /// Whether a pod that was to be disrupted is there still.
    Pod(Key),
}

pub struct Disruptions {
    context: Context,
    recorder: Recorder,
    /// Asked for once, by the first pod of an owner whose kind has no scale.
    served: OnceCell<Arc<Vec<Served>>>,
}

impl Disruptions {
    pub fn new(context: &Context, queue: &Queue<Subject>) -> Arc<Self> {
        let caches = &context.caches;
        let own = queue.clone();
        caches.budgets.listen(move |change| own.add(Subject::Budget(change.key.clone())));
        let (own, budgets, clock) = (queue.clone(), caches.budgets.clone(), context.clock.clone());
        caches.pods.listen(move |change| {
            for budget in budgets.group(&in_namespace(&change.key.namespace)) {
                // A pod that has left a budget by its labels counts for it, too.
                if [&change.old, &change.new].into_iter().flatten().any(|pod| disruption::covers(&budget, pod)) {
                    own.add(Subject::Budget(Key::of(&*budget)));
                }
            }
            if let Some(left) = change.new.as_ref().and_then(|pod| disruption::stale_in(pod, clock.now())) {
                own.add_after(Subject::Pod(change.key.clone()), left);
            }
        });
        let recorder = context.recorder("controllermanager");
        Arc::new(Disruptions { context: context.clone(), recorder, served: OnceCell::new() })
    }

    async fn look_at_budget(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let caches = &self.context.caches;
        let Some(budget) = caches.budgets.get(key) else { return Ok(None) };
        let mut pods = caches.pods.group(&in_namespace(&key.namespace));
        pods.retain(|pod| disruption::covers(&budget, pod));
        let mut scales = Scales::new();
        for owner in disruption::managers(&budget, &pods) {
            scales.insert(owner.uid.clone(), self.scale(&key.namespace, owner).await?);
        }
        let todo = disruption::for_budget(&budget, &pods, &scales, self.context.clock.now());
        for notice in todo.notices {
            self.context.notice(&self.recorder, &*budget, notice);
        }
        for pod in todo.overdue {
            self.context.notice(&self.recorder, &*pod, disruption::not_deleted(&budget));
        }
        if let Some(status) = todo.status {
            let mut shown = (*budget).clone();
            shown.status = Some(status);
            let api = Api::<PodDisruptionBudget>::namespaced(self.context.client.clone(), &key.namespace);
            match api.replace_status(&key.name, &PostParams::default(), &shown).await {
                Err(error) if client::is_not_found(&error) => {}
                result => drop(result?),
            }
        }
        Ok(todo.again)
    }

    /// How many pods an owner wants.
    async fn scale(&self, namespace: &str, owner: &OwnerReference) -> Result<Scale, Error> {
        let (group, _) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let client = &self.context.client;
        match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => Ok(self.of_set(namespace, owner)),
            ("apps", "StatefulSet") => {
                let set = Api::<StatefulSet>::namespaced(client.clone(), namespace).get_opt(&owner.name).await?;
                Ok(wants(owner, set.map(|set| (set.metadata, set.spec.and_then(|spec| spec.replicas)))))
            }
            ("", "ReplicationController") => {
                let one =
                    Api::<ReplicationController>::namespaced(client.clone(), namespace).get_opt(&owner.name).await?;
                Ok(wants(owner, one.map(|one| (one.metadata, one.spec.and_then(|spec| spec.replicas)))))
            }
            _ => {
                let served = self.served.get_or_try_init(|| discovery::discover(client)).await?;
                let kind = served.iter().find(|one| one.resource.group == group && one.resource.kind == owner.kind);
                Ok(Scale::Unknown(match kind {
                    Some(kind) => format!("{} does not implement the scale subresource", kind.name()),
                    None => format!("no matches for kind {:?} in version {:?}", owner.kind, owner.api_version),
                }))
            }
        }
    }

    /// A set that belongs to a Deployment has no say of its own: old and new ones share the pods while it rolls out.
    fn of_set(&self, namespace: &str, owner: &OwnerReference) -> Scale {
        let caches = &self.context.caches;
        let set = caches.sets.get(&Key::new(namespace, &owner.name));
        let above = set.as_ref().and_then(|set| meta::controller_of(&set.metadata));
        if let Some(above) = above.filter(|above| above.kind == "Deployment")
            && let Some(deployment) = caches.deployments.get(&Key::new(namespace, &above.name))
            && let Scale::Wants { counted, replicas } = wants(
                above,
                Some((deployment.metadata.clone(), deployment.spec.as_ref().and_then(|spec| spec.replicas))),
            )
        {
            return Scale::Wants { counted, replicas };
        }
        wants(owner, set.map(|set| (set.metadata.clone(), set.spec.as_ref().and_then(|spec| spec.replicas))))
    }

    async fn look_at_pod(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.context.caches.pods.get(key) else { return Ok(None) };
        let now = self.context.clock.now();
        match disruption::stale_in(&pod, now) {
            None => return Ok(None),
            Some(left) if !left.is_zero() => return Ok(Some(left)),
            Some(_) => {}
        }
        let mut condition = json!(disruption::not_disrupted(&pod, now));
        // It is not to keep why it was said.
        condition["reason"] = json!(null);
        condition["message"] = json!(null);
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let api = Api::<Pod>::namespaced(self.context.client.clone(), &key.namespace);
        match api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            // It has gone, or another one has its name.
            Err(error) if client::is_not_found(&error) || client::is_conflict(&error) => Ok(None),
            result => Ok(result.map(|_| None)?),
        }
    }
}

/// What an owner wants, if the object of its name is the one that is meant. Without a number it is one, as by default.
fn wants(owner: &OwnerReference, found: Option<(kube::api::ObjectMeta, Option<i32>)>) -> Scale {
    match found {
        Some((metadata, replicas)) if meta::uid(&metadata) == owner.uid => {
            Scale::Wants { counted: owner.uid.clone(), replicas: replicas.unwrap_or(1) }
        }
        _ => Scale::Absent,
    }
}

impl Controller for Disruptions {
    type Key = Subject;
    const NAME: &'static str = "disruption";
    const QUEUE: &'static str = "disruption";

    async fn reconcile(&self, subject: &Subject) -> Result<Option<Duration>, Error> {
        let result = match subject {
            Subject::Budget(key) => self.look_at_budget(key).await,
            Subject::Pod(key) => self.look_at_pod(key).await,
        };
        if let Err(Error::Api(error)) = &result {
            tracing::debug!(?subject, error = api_message(error), "budget was not brought up to date");
        }
        result
    }
}
