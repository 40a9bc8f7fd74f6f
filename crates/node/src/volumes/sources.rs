//! Word of changes of the config maps and secrets that pods use: one watch per object, however many pods share it, and
//! none for objects that no pod uses.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Weak},
};

use client::{Api, Client};
use futures::{StreamExt, pin_mut};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Resource,
    runtime::{WatchStreamExt, watcher},
};
use parking_lot::Mutex;
use runtime::{CancellationToken, Tasks};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    ConfigMap { namespace: String, name: String },
    Secret { namespace: String, name: String },
}

/// The watches that run.
#[derive(Clone)]
pub struct Sources {
    client: Client,
    tasks: Tasks,
    running: Arc<Mutex<HashMap<Source, Weak<Watch>>>>,
}

struct Watch {
    changes: watch::Receiver<u64>,
    stop: CancellationToken,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One pod's interest in one object; the watch ends with the last of them.
pub struct Interest {
    changes: watch::Receiver<u64>,
    _watch: Arc<Watch>,
}

impl Interest {
    /// Waits for the next change.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The watch was told to stop with the process.
            std::future::pending::<()>().await;
        }
    }
}

impl Sources {
    pub fn new(client: Client, tasks: Tasks) -> Self {
        Sources { client, tasks, running: Arc::default() }
    }

    /// Follows an object from now on.
    pub fn follow(&self, source: &Source) -> Interest {
        let mut running = self.running.lock();
        let watch = match running.get(source).and_then(Weak::upgrade) {
            Some(watch) => watch,
            None => {
                running.retain(|_, watch| watch.strong_count() > 0);
                let watch = self.start(source);
                running.insert(source.clone(), Arc::downgrade(&watch));
                watch
            }
        };
        let mut changes = watch.changes.clone();
        changes.mark_unchanged();
        Interest { changes, _watch: watch }
    }

    fn start(&self, source: &Source) -> Arc<Watch> {
        let (sender, changes) = watch::channel(0);
        let stop = CancellationToken::new();
        let (client, stopped) = (self.client.clone(), stop.clone());
        match source.clone() {
            Source::ConfigMap { namespace, name } => {
                let api = Api::<ConfigMap>::namespaced(client, &namespace);
                self.tasks.spawn("config-map-watch", run(api, name, sender, stopped));
            }
            Source::Secret { namespace, name } => {
                let api = Api::<Secret>::namespaced(client, &namespace);
                self.tasks.spawn("secret-watch", run(api, name, sender, stopped));
            }
        }
        Arc::new(Watch { changes, stop })
    }
}

async fn run<K>(api: Api<K>, name: String, sender: watch::Sender<u64>, stop: CancellationToken)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(290);
    let stream = watcher(api, config).default_backoff();
    pin_mut!(stream);
    // What the first list brings is what the pod was made with, or a change since: telling it costs one comparison.
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            event = stream.next() => match event {
                Some(Ok(watcher::Event::Apply(_) | watcher::Event::InitDone | watcher::Event::Delete(_))) => {
                    sender.send_modify(|count| *count += 1);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => tracing::debug!(%name, %error, "watch was interrupted and will be resumed"),
                None => return,
            },
        }
    }
}
