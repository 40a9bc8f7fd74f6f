//! Keeps the volumes of a running pod current: config maps, secrets and labels when they change, tokens when they age.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::select_all};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use super::{
    Tokens,
    sources::{Interest, Source},
};
use crate::{context::Context, convert::downward::NodeFacts};

/// After a refresh that failed.
const RETRY: Duration = Duration::from_secs(10);

/// The objects that the pod's volumes are made of.
pub fn sources(pod: &Pod) -> Vec<Source> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let map = |name: &str| Source::ConfigMap { namespace: namespace.clone(), name: name.to_owned() };
    let secret = |name: &str| Source::Secret { namespace: namespace.clone(), name: name.to_owned() };
    let mut all = Vec::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        all.extend(volume.config_map.iter().map(|source| map(&source.name)));
        all.extend(volume.secret.iter().filter_map(|source| source.secret_name.as_deref()).map(secret));
        for part in volume.projected.iter().flat_map(|source| source.sources.iter().flatten()) {
            all.extend(part.config_map.iter().map(|source| map(&source.name)));
            all.extend(part.secret.iter().map(|source| secret(&source.name)));
        }
    }
    all.sort();
    all.dedup();
    all
}

/// Runs until it is dropped. `pods` brings newer versions of the object.
pub async fn run(context: Arc<Context>, mut pods: watch::Receiver<Arc<Pod>>, facts: NodeFacts, tokens: Tokens) {
    let pod = pods.borrow_and_update().clone();
    let mut interests: Vec<Interest> = sources(&pod).iter().map(|source| context.sources.follow(source)).collect();
    let mut labels = labels_of(&pod);
    loop {
        let now = context.clock.now();
        let renew_in = tokens.renew_at().map(|at| at.duration_since(now).max(SignedDuration::from_secs(1)));
        let aged = async {
            match renew_in.and_then(|wait| Duration::try_from(wait).ok()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let changed = async {
            match interests.is_empty() {
                true => std::future::pending().await,
                false => {
                    select_all(interests.iter_mut().map(|interest| interest.changed().boxed())).await;
                }
            }
        };
        tokio::select! {
            () = aged => {}
            () = changed => {}
            result = pods.changed() => {
                if result.is_err() {
                    return;
                }
                let new = labels_of(&pods.borrow_and_update());
                if new == labels {
                    continue;
                }
                labels = new;
            }
        }
        let Some(pod) = wanted(&pods) else { return };
        if super::set_up(&context, &pod, &facts, &tokens).await.is_ok() {
            continue;
        }
        // Who deletes an application deletes its config map before its pods: that is worth a word only where the pod stays.
        tokio::time::sleep(RETRY).await;
        let Some(pod) = wanted(&pods) else { return };
        if let Err(error) = super::set_up(&context, &pod, &facts, &tokens).await {
            tracing::warn!(pod = pod.metadata.name, %error, "volumes are not up to date");
        }
    }
}

/// The pod as it is now, unless it is going.
fn wanted(pods: &watch::Receiver<Arc<Pod>>) -> Option<Arc<Pod>> {
    Some(pods.borrow().clone()).filter(|pod| pod.metadata.deletion_timestamp.is_none())
}

type Labels = Option<std::collections::BTreeMap<String, String>>;

fn labels_of(pod: &Pod) -> (Labels, Labels) {
    (pod.metadata.labels.clone(), pod.metadata.annotations.clone())
}
