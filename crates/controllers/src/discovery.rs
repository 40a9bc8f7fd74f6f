//! Which kinds the API serves, and how to reach each.

use std::sync::Arc;

use client::{Client, kube};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::{
    Api,
    core::{ApiResource, DynamicObject},
};

/// A kind in its preferred version.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    pub resource: ApiResource,
    pub namespaced: bool,
    verbs: Vec<String>,
}

impl Served {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|one| one == verb)
    }

    /// The objects of a namespace; all of them for an empty one or a cluster-scoped kind.
    pub fn api(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced && !namespace.is_empty() {
            Api::namespaced_with(client.clone(), namespace, &self.resource)
        } else {
            Api::all_with(client.clone(), &self.resource)
        }
    }

    /// The name as in `jobs.batch`.
    pub fn name(&self) -> String {
        match self.resource.group.as_str() {
            "" => self.resource.plural.clone(),
            group => format!("{}.{group}", self.resource.plural),
        }
    }
}

/// All kinds that are served, each once.
pub async fn discover(client: &Client) -> kube::Result<Arc<Vec<Served>>> {
    let mut served = Vec::new();
    collect(&mut served, "v1", client.list_core_api_resources("v1").await?);
    for group in client.list_api_groups().await?.groups {
        let preferred = group.preferred_version.or_else(|| group.versions.first().cloned());
        let Some(version) = preferred else { continue };
        let listed = client.list_api_group_resources(&version.group_version).await?;
        collect(&mut served, &version.group_version, listed);
    }
    Ok(Arc::new(served))
}

fn collect(served: &mut Vec<Served>, group_version: &str, list: APIResourceList) {
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    for resource in list.resources.into_iter().filter(|resource| !resource.name.contains('/')) {
        served.push(Served {
            resource: ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version: group_version.to_owned(),
                kind: resource.kind,
                plural: resource.name,
            },
            namespaced: resource.namespaced,
            verbs: resource.verbs,
        });
    }
}
