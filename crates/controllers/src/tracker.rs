//! What a controller has written and its caches do not show yet, so that nothing is made twice.
//!
//! Tracks each object by name and UID instead of counting: a count that misses one event is wrong until it times out,
//! while a name can be looked up.

use std::{collections::HashMap, time::Duration};

use client::Key;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use parking_lot::Mutex;
use reconcile::meta;

use crate::{cache::Cache, worker::Error};

/// After so long a write that does not show is looked up in the API: it may have come and gone between two looks.
const DOUBT: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct Write {
    uid: String,
    made: bool,
    at: Duration,
}

/// The open writes of one controller, by the owner that they were made for.
#[derive(Default)]
pub struct Tracker {
    open: Mutex<HashMap<Key, HashMap<Key, Write>>>,
}

impl Tracker {
    /// A pod was made.
    pub fn made(&self, owner: &Key, pod: &ObjectMeta, now: Duration) {
        self.track(owner, pod, true, now);
    }

    /// A pod was deleted.
    pub fn deleted(&self, owner: &Key, pod: &ObjectMeta, now: Duration) {
        self.track(owner, pod, false, now);
    }

    fn track(&self, owner: &Key, pod: &ObjectMeta, made: bool, at: Duration) {
        let key = Key::new(meta::namespace(pod), meta::name(pod));
        let write = Write { uid: meta::uid(pod).to_owned(), made, at };
        self.open.lock().entry(owner.clone()).or_default().insert(key, write);
    }

    /// The owner is gone.
    pub fn forget(&self, owner: &Key) {
        self.open.lock().remove(owner);
    }

    /// Whether the view shows every write for `owner`; otherwise how long to wait before asking again, at most.
    pub async fn settle(
        &self,
        owner: &Key,
        pods: &Cache<Pod>,
        client: &client::Client,
        now: Duration,
    ) -> Result<Option<Duration>, Error> {
        let doubtful = {
            let mut open = self.open.lock();
            let Some(writes) = open.get_mut(owner) else { return Ok(None) };
            writes.retain(|key, write| !shows(pods.get(key).as_deref().map(|pod| &pod.metadata), write));
            if writes.is_empty() {
                open.remove(owner);
                return Ok(None);
            }
            let old = writes.iter().filter(|(_, write)| now.saturating_sub(write.at) >= DOUBT);
            old.map(|(key, write)| (key.clone(), write.clone())).collect::<Vec<_>>()
        };
        for (key, write) in doubtful {
            let api = client::Api::<Pod>::namespaced(client.clone(), &key.namespace);
            let live = api.get_metadata_opt(&key.name).await?;
            let live = live.as_ref().map(|live| &live.metadata);
            // Made and gone again, or not deleted after all: the view is as good as it gets.
            let passed = if write.made { live.is_none_or(|l| meta::uid(l) != write.uid) } else { !shows(live, &write) };
            if passed && let Some(writes) = self.open.lock().get_mut(owner) {
                writes.remove(&key);
            }
        }
        Ok(Some(DOUBT))
    }
}

fn shows(pod: Option<&ObjectMeta>, write: &Write) -> bool {
    let present = pod.filter(|pod| meta::uid(pod) == write.uid);
    if write.made { present.is_some() } else { present.is_none_or(meta::is_deleting) }
}
