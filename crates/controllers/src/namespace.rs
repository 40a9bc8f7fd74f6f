//! Drives namespace deletion: empties the namespace of every served kind, then lets it go.

use std::{sync::Arc, time::Duration};

use client::{Key, kube};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use reconcile::{
    meta,
    namespace::{self, Action, Findings},
};

use crate::{
    context::Context,
    discovery::{self, Served},
    pods::api_message,
    queue::Queue,
    worker::{Controller, Error},
};

pub struct Namespaces {
    context: Context,
}

impl Namespaces {
    pub fn new(context: &Context, queue: &Queue<Key>) -> Arc<Self> {
        let own = queue.clone();
        context.caches.namespaces.listen(move |change| {
            if change.new.as_ref().is_some_and(|namespace| namespace::is_terminating(namespace)) {
                own.add(change.key.clone());
            }
        });
        Arc::new(Namespaces { context: context.clone() })
    }

    async fn empty(&self, namespace: &str) -> Findings {
        let mut findings = Findings::default();
        let served = match discovery::discover(&self.context.client).await {
            Ok(served) => served,
            Err(error) => {
                findings.discovery_error = Some(api_message(&error));
                return findings;
            }
        };
        let kinds = served.iter().filter(|kind| kind.namespaced && kind.can("list") && kind.can("delete"));
        for (kind, result) in join_all(kinds.map(|kind| async move { (kind, self.clear(kind, namespace).await) })).await
        {
            match result {
                Ok(left) => note(&mut findings, kind, &left),
                // The kind went away between discovery and now, and its objects with it.
                Err(error) if client::is_not_found(&error) => {}
                Err(error) => findings.content_errors.push(format!("{}: {}", kind.name(), api_message(&error))),
            }
        }
        findings
    }

    /// Deletes the objects of one kind, and returns what is left of them.
    async fn clear(&self, kind: &Served, namespace: &str) -> kube::Result<Vec<kube::core::ObjectMeta>> {
        let api = kind.api(&self.context.client, namespace);
        let list = || async { Ok(api.list_metadata(&ListParams::default()).await?.items) };
        let present: Vec<_> = list().await?;
        if present.is_empty() {
            return Ok(Vec::new());
        }
        if kind.can("deletecollection") {
            api.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
        } else {
            for object in present {
                match api.delete(meta::name(&object.metadata), &DeleteParams::background()).await {
                    Err(error) if !client::is_not_found(&error) => return Err(error),
                    _ => {}
                }
            }
        }
        let left: kube::Result<Vec<_>> = list().await;
        Ok(left?.into_iter().map(|object| object.metadata).collect())
    }
}

fn note(findings: &mut Findings, kind: &Served, left: &[kube::core::ObjectMeta]) {
    if left.is_empty() {
        return;
    }
    findings.remaining.insert(kind.name(), left.len());
    for object in left {
        for finalizer in object.finalizers.iter().flatten() {
            *findings.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        let grace = meta::seconds(object.deletion_grace_period_seconds.unwrap_or(0));
        findings.grace = findings.grace.max(Some(grace));
    }
}

impl Controller for Namespaces {
    type Key = Key;
    const NAME: &'static str = "namespace";
    const QUEUE: &'static str = "namespace";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let api = Api::<Namespace>::all(self.context.client.clone());
        // Read live: what was cleared last is what the conditions have to be true of.
        let Some(live) = api.get_opt(&key.name).await? else { return Ok(None) };
        if !namespace::is_terminating(&live) {
            return Ok(None);
        }
        let findings = self.empty(&key.name).await;
        let mut again = None;
        for action in namespace::reconcile(&live, &findings, self.context.clock.now()) {
            let result = match action {
                Action::Status(status) => {
                    let mut shown = live.clone();
                    shown.status = Some(*status);
                    api.replace_status(&key.name, &PostParams::default(), &shown).await.map(drop)
                }
                Action::Finalize(wanted) => {
                    api.replace_subresource("finalize", &key.name, &PostParams::default(), &*wanted).await.map(drop)
                }
                Action::Again(after) => {
                    again = Some(after);
                    Ok(())
                }
            };
            match result {
                Err(error) if client::is_not_found(&error) => return Ok(None),
                result => result?,
            }
        }
        match findings.discovery_error.into_iter().chain(findings.content_errors).next() {
            Some(error) => Err(Error::Other(error)),
            None => Ok(again),
        }
    }
}
