//! Gives every namespace its default account and the cluster's certificate authority.

use std::{sync::Arc, time::Duration};

use client::{Key, kube};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::{Api, api::PostParams};
use reconcile::serviceaccount::{self, Action, DEFAULT, ROOT_CA};

use crate::{
    context::Context,
    queue::Queue,
    worker::{Controller, Error},
};

pub struct Accounts {
    context: Context,
    ca_pem: String,
}

impl Accounts {
    pub fn new(context: &Context, queue: &Queue<Key>, ca_pem: String) -> Arc<Self> {
        let own = queue.clone();
        context.caches.namespaces.listen(move |change| own.add(change.key.clone()));
        let own = queue.clone();
        context.caches.accounts.listen(move |change| own.add(Key::new("", &change.key.namespace)));
        let own = queue.clone();
        context.caches.configs.listen(move |change| own.add(Key::new("", &change.key.namespace)));
        Arc::new(Accounts { context: context.clone(), ca_pem })
    }

    async fn execute(&self, namespace: &str, action: Action) -> kube::Result<()> {
        let client = self.context.client.clone();
        let post = PostParams::default();
        match action {
            Action::CreateAccount(account) => {
                Api::<ServiceAccount>::namespaced(client, namespace).create(&post, &account).await.map(drop)
            }
            Action::CreateConfig(config) => {
                Api::<ConfigMap>::namespaced(client, namespace).create(&post, &config).await.map(drop)
            }
            Action::UpdateConfig(config) => {
                Api::<ConfigMap>::namespaced(client, namespace).replace(ROOT_CA, &post, &config).await.map(drop)
            }
        }
    }
}

impl Controller for Accounts {
    type Key = Key;
    const NAME: &'static str = "serviceaccount";
    const QUEUE: &'static str = "serviceaccount";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let caches = &self.context.caches;
        let Some(namespace) = caches.namespaces.get(key) else { return Ok(None) };
        let account = caches.accounts.get(&Key::new(&key.name, DEFAULT));
        let config = caches.configs.get(&Key::new(&key.name, ROOT_CA));
        for action in serviceaccount::reconcile(&namespace, account.as_deref(), config.as_deref(), &self.ca_pem) {
            match self.execute(&key.name, action).await {
                Err(error) if client::is_already_exists(&error) || client::is_not_found(&error) => {}
                Err(error) if crate::pods::is_terminating(&error) => {}
                result => result?,
            }
        }
        Ok(None)
    }
}
