//! Drives EndpointSlices and Endpoints: one pass over a Service brings both to what its pods ask for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::{Change, Key, kube};
use k8s_openapi::api::{
    core::v1::{Endpoints, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use parking_lot::Mutex;
use reconcile::{
    endpoints,
    endpointslice::{self, Action},
    meta, pod, selector,
};

use crate::{
    cache::in_namespace,
    context::{Context, of_service},
    queue::Queue,
    worker::{Controller, Error},
};

/// A write of a slice that the cache may not show for so long; then the cache is believed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The resource version that was written, or none for a deletion; and when.
type Write = (Option<String>, Duration);

pub struct ServiceEndpoints {
    context: Context,
    /// For each Service the slices written and not yet seen.
    written: Mutex<HashMap<Key, HashMap<Key, Write>>>,
}

impl ServiceEndpoints {
    pub fn new(context: &Context, queue: &Queue<Key>) -> Arc<Self> {
        let own = queue.clone();
        context.caches.services.listen(move |change| own.add(change.key.clone()));
        let (own, services) = (queue.clone(), context.caches.services.clone());
        context.caches.pods.listen(move |change| {
            if !matters(change) {
                return;
            }
            for service in services.group(&in_namespace(&change.key.namespace)) {
                if [&change.old, &change.new].into_iter().flatten().any(|pod| selects(&service, pod)) {
                    own.add(Key::of(&*service));
                }
            }
        });
        let own = queue.clone();
        context.caches.slices.listen(move |change| {
            for slice in [&change.old, &change.new].into_iter().flatten() {
                if let Some(service) = meta::label(&slice.metadata, endpointslice::SERVICE_LABEL) {
                    own.add(Key::new(&change.key.namespace, service));
                }
            }
        });
        let own = queue.clone();
        context.caches.endpoints.listen(move |change| own.add(change.key.clone()));
        Arc::new(ServiceEndpoints { context: context.clone(), written: Mutex::default() })
    }

    /// Whether the cache shows every slice that was written for the Service.
    fn caught_up(&self, key: &Key) -> bool {
        let now = self.context.clock.monotonic();
        let mut written = self.written.lock();
        let Some(open) = written.get_mut(key) else { return true };
        open.retain(|slice, (version, at)| {
            let shown = self.context.caches.slices.get(slice).map(|slice| slice.metadata.resource_version.clone());
            let shows = match (version.as_deref(), shown) {
                (Some(version), Some(shown)) => number(shown.as_deref()) >= number(Some(version)),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            !shows && now.saturating_sub(*at) < PATIENCE
        });
        if open.is_empty() {
            written.remove(key);
        }
        !written.contains_key(key)
    }

    fn wrote(&self, service: &Key, slice: Key, version: Option<String>) {
        let at = self.context.clock.monotonic();
        self.written.lock().entry(service.clone()).or_default().insert(slice, (version, at));
    }

    async fn execute(&self, key: &Key, action: Action) -> Result<(), Error> {
        let api = Api::<EndpointSlice>::namespaced(self.context.client.clone(), &key.namespace);
        match action {
            Action::Create(slice) => {
                let made = api.create(&PostParams::default(), &slice).await?;
                self.wrote(key, Key::of(&made), made.metadata.resource_version);
            }
            Action::Update(slice) => {
                let made = api.replace(meta::name(&slice.metadata), &PostParams::default(), &slice).await?;
                self.wrote(key, Key::of(&made), made.metadata.resource_version);
            }
            Action::Delete(slice) => match api.delete(meta::name(&slice.metadata), &DeleteParams::default()).await {
                Err(error) if !client::is_not_found(&error) => return Err(error.into()),
                _ => self.wrote(key, Key::of(&*slice), None),
            },
        }
        Ok(())
    }

    /// The older object; a Service without one of its own making is not touched.
    async fn mirror(&self, key: &Key, service: &Service, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let existing = self.context.caches.endpoints.get(key);
        let api = Api::<Endpoints>::namespaced(self.context.client.clone(), &key.namespace);
        match endpoints::reconcile(service, pods, existing.as_deref()) {
            Some(endpoints::Action::Create(made)) => match api.create(&PostParams::default(), &made).await {
                // Written by an earlier pass; its change starts another.
                Err(error) if client::is_already_exists(&error) => {}
                result => drop(result?),
            },
            Some(endpoints::Action::Update(made)) => {
                api.replace(&key.name, &PostParams::default(), &made).await?;
            }
            None => {}
        }
        Ok(())
    }

    async fn remove(&self, key: &Key) -> Result<(), Error> {
        self.written.lock().remove(key);
        for slice in self.context.caches.slices.group(&of_service(&key.namespace, &key.name)) {
            self.execute(key, Action::Delete(slice)).await?;
        }
        self.written.lock().remove(key);
        Ok(())
    }

    async fn remove_mirror(&self, key: &Key) -> Result<(), Error> {
        if self.context.caches.endpoints.get(key).is_none() {
            return Ok(());
        }
        let api = Api::<Endpoints>::namespaced(self.context.client.clone(), &key.namespace);
        match api.delete(&key.name, &DeleteParams::default()).await {
            Err(error) if !client::is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn pass(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let caches = &self.context.caches;
        let Some(service) = caches.services.get(key).filter(|s| !meta::is_deleting(&s.metadata)) else {
            self.remove(key).await?;
            // Endpoints have no owner reference: they follow their Service by name, unless somebody else made them.
            let ours = |e: &Endpoints| {
                meta::label(&e.metadata, "endpoints.kubernetes.io/managed-by") == Some("endpoint-controller")
            };
            if caches.endpoints.get(key).is_some_and(|endpoints| ours(&endpoints)) {
                self.remove_mirror(key).await?;
            }
            return Ok(None);
        };
        if !endpointslice::is_ours(&service) {
            // Without a selector the endpoints are somebody else's; what was ours before goes.
            self.remove(key).await?;
            return Ok(None);
        }
        let mut pods = caches.pods.group(&in_namespace(&key.namespace));
        pods.retain(|pod| selects(&service, pod));
        let again = if self.caught_up(key) {
            let existing = caches.slices.group(&of_service(&key.namespace, &key.name));
            for action in endpointslice::reconcile(&service, &pods, &existing) {
                self.execute(key, action).await?;
            }
            None
        } else {
            Some(PATIENCE)
        };
        self.mirror(key, &service, &pods).await?;
        Ok(again)
    }
}

impl Controller for ServiceEndpoints {
    type Key = Key;
    const NAME: &'static str = "endpoints";
    const QUEUE: &'static str = "endpoint_slice";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        match self.pass(key).await {
            Err(Error::Api(error)) if crate::pods::is_terminating(&error) => Ok(None),
            result => result,
        }
    }
}

fn number(version: Option<&str>) -> u64 {
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let wanted = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|wanted| !wanted.is_empty());
    wanted.is_some_and(|wanted| selector::contains(wanted, pod.metadata.labels.as_ref()))
}

/// Whether a pod's change can change an endpoint.
fn matters(change: &Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let view = |pod: &Pod| {
        let ips = pod.status.as_ref().map(|status| (status.pod_ip.clone(), status.pod_ips.clone()));
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let state = (pod::is_ready(pod), pod::is_finished(pod), meta::is_deleting(&pod.metadata));
        (pod.metadata.uid.clone(), pod.metadata.labels.clone(), ips, node, state)
    };
    view(old) != view(new)
}
