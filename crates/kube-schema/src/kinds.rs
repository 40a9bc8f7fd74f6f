//! The kinds served: their names, scope, verbs, subresources and where the store keeps them.
//!
//! One row per kind, in the order discovery lists groups. Short names, categories and storage prefixes are Kubernetes'
//! own, so that a client or a backup tool that knows them finds what it expects.

use std::{borrow::Cow, sync::OnceLock};

/// One kind, as discovery tells it, and its place in the store.
#[derive(Clone, Debug)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// The API version within the group.
    pub version: Cow<'static, str>,
    /// The kind in CamelCase.
    pub kind: Cow<'static, str>,
    /// The name in URLs.
    pub plural: Cow<'static, str>,
    /// The name in commands.
    pub singular: Cow<'static, str>,
    /// Abbreviations that `kubectl` takes.
    pub short_names: Cow<'static, [Cow<'static, str>]>,
    /// Groups of kinds such as `all`.
    pub categories: Cow<'static, [Cow<'static, str>]>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What can be asked of it, in alphabetical order.
    pub verbs: &'static [&'static str],
    /// What stands below an object of it.
    pub subresources: Cow<'static, [Subresource]>,
    /// The key prefix of its objects, with a slash at the end: the prefix, the namespace if any and the name, joined by
    /// slashes, are an object's key. Empty for kinds that are answered and never stored.
    pub storage_prefix: Cow<'static, str>,
    /// The name of its type in the schema.
    pub type_name: Cow<'static, str>,
}

/// What stands below an object, such as `pods/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// The last part of the URL.
    pub name: &'static str,
    /// Group of the kind that is sent and received; empty for the core group.
    pub group: &'static str,
    /// Version of that kind.
    pub version: &'static str,
    /// That kind.
    pub kind: &'static str,
    /// What can be asked of it.
    pub verbs: &'static [&'static str],
}

impl Kind {
    /// `v1` or `apps/v1`, as in `apiVersion`.
    pub fn api_version(&self) -> Cow<'_, str> {
        if self.group.is_empty() {
            Cow::Borrowed(&self.version)
        } else {
            Cow::Owned(format!("{}/{}", self.group, self.version))
        }
    }

    /// The kind of a list of its objects.
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// The subresource called `name`.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether objects of it are kept in the store.
    pub fn stored(&self) -> bool {
        !self.storage_prefix.is_empty()
    }

    /// The key of one object. Cluster-wide kinds ignore the namespace.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced {
            format!("{}{namespace}/{name}", self.storage_prefix)
        } else {
            format!("{}{name}", self.storage_prefix)
        }
    }

    /// The prefix of the keys of all objects, or of those in one namespace.
    pub fn prefix(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) if self.namespaced => format!("{}{namespace}/", self.storage_prefix),
            _ => self.storage_prefix.to_string(),
        }
    }

    /// Namespace and name out of a key; none when the key is not one of this kind's.
    pub fn split_key<'k>(&self, key: &'k str) -> Option<(Option<&'k str>, &'k str)> {
        let rest = key.strip_prefix(self.storage_prefix.as_ref())?;
        match (self.namespaced, rest.split_once('/')) {
            (true, Some((namespace, name))) if !name.contains('/') => Some((Some(namespace), name)),
            (false, None) => Some((None, rest)),
            _ => None,
        }
    }
}

const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const SINGLE_VERBS: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const READ_WRITE: &[&str] = &["get", "patch", "update"];
const CREATE: &[&str] = &["create"];
const STREAM: &[&str] = &["create", "get"];
const NO_NAMES: &[Cow<'static, str>] = &[];
const ALL: &[Cow<'static, str>] = &[Cow::Borrowed("all")];

const fn sub(
    name: &'static str,
    group: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource { name, group, version: "v1", kind, verbs }
}

fn kind(group: &'static str, kind: &'static str, plural: &'static str, singular: &'static str) -> Kind {
    Kind {
        group: Cow::Borrowed(group),
        version: Cow::Borrowed("v1"),
        kind: Cow::Borrowed(kind),
        plural: Cow::Borrowed(plural),
        singular: Cow::Borrowed(singular),
        short_names: Cow::Borrowed(NO_NAMES),
        categories: Cow::Borrowed(NO_NAMES),
        namespaced: true,
        verbs: ALL_VERBS,
        subresources: Cow::Borrowed(&[]),
        storage_prefix: Cow::Borrowed(""),
        type_name: Cow::Borrowed(""),
    }
}

macro_rules! row {
    ($base:expr, $prefix:literal, $type_name:literal $(, $field:ident: $value:expr)*) => {
        Kind {
            storage_prefix: Cow::Borrowed($prefix),
            type_name: Cow::Borrowed($type_name),
            $($field: $value,)*
            ..$base
        }
    };
}

const fn cow<T: Clone>(items: &'static [T]) -> Cow<'static, [T]> {
    Cow::Borrowed(items)
}

const STATUS_NAMESPACE: &[Subresource] =
    &[sub("finalize", "", "Namespace", &["update"]), sub("status", "", "Namespace", READ_WRITE)];
const STATUS_NODE: &[Subresource] = &[sub("status", "", "Node", READ_WRITE)];
const STATUS_SERVICE: &[Subresource] = &[sub("status", "", "Service", READ_WRITE)];
const STATUS_JOB: &[Subresource] = &[sub("status", "batch", "Job", READ_WRITE)];
const DEPLOYMENT: &[Subresource] =
    &[sub("scale", "autoscaling", "Scale", READ_WRITE), sub("status", "apps", "Deployment", READ_WRITE)];
const REPLICA_SET: &[Subresource] =
    &[sub("scale", "autoscaling", "Scale", READ_WRITE), sub("status", "apps", "ReplicaSet", READ_WRITE)];
const STATEFUL_SET: &[Subresource] =
    &[sub("scale", "autoscaling", "Scale", READ_WRITE), sub("status", "apps", "StatefulSet", READ_WRITE)];
const REPLICATION_CONTROLLER: &[Subresource] =
    &[sub("scale", "autoscaling", "Scale", READ_WRITE), sub("status", "", "ReplicationController", READ_WRITE)];
const STATUS_CLAIM: &[Subresource] = &[sub("status", "", "PersistentVolumeClaim", READ_WRITE)];
const STATUS_VOLUME: &[Subresource] = &[sub("status", "", "PersistentVolume", READ_WRITE)];
const STATUS_BUDGET: &[Subresource] = &[sub("status", "policy", "PodDisruptionBudget", READ_WRITE)];
const STATUS_RESOURCE_CLAIM: &[Subresource] = &[sub("status", "resource.k8s.io", "ResourceClaim", READ_WRITE)];
const STATUS_POD_GROUP: &[Subresource] =
    &[Subresource { version: "v1alpha2", ..sub("status", "scheduling.k8s.io", "PodGroup", READ_WRITE) }];
const STATUS_ATTACHMENT: &[Subresource] = &[sub("status", "storage.k8s.io", "VolumeAttachment", READ_WRITE)];
const TOKEN: &[Subresource] = &[sub("token", "authentication.k8s.io", "TokenRequest", CREATE)];
const POD: &[Subresource] = &[
    sub("attach", "", "PodAttachOptions", STREAM),
    sub("binding", "", "Binding", CREATE),
    sub("eviction", "policy", "Eviction", CREATE),
    sub("exec", "", "PodExecOptions", STREAM),
    sub("log", "", "Pod", &["get"]),
    sub("portforward", "", "PodPortForwardOptions", STREAM),
    sub("status", "", "Pod", READ_WRITE),
];

/// Every kind served.
pub fn builtin() -> &'static [Kind] {
    static KINDS: OnceLock<Vec<Kind>> = OnceLock::new();
    KINDS.get_or_init(rows)
}

fn rows() -> Vec<Kind> {
    vec![
        row!(kind("", "Binding", "bindings", "binding"), "", "io.k8s.api.core.v1.Binding", verbs: CREATE),
        row!(kind("", "ConfigMap", "configmaps", "configmap"), "/registry/configmaps/", "io.k8s.api.core.v1.ConfigMap",
        short_names: cow(&[Cow::Borrowed("cm")])),
        row!(kind("", "Endpoints", "endpoints", "endpoints"), "/registry/services/endpoints/", "io.k8s.api.core.v1.Endpoints",
        short_names: cow(&[Cow::Borrowed("ep")])),
        row!(kind("", "Event", "events", "event"), "/registry/events/", "io.k8s.api.core.v1.Event",
        short_names: cow(&[Cow::Borrowed("ev")])),
        row!(kind("", "LimitRange", "limitranges", "limitrange"), "/registry/limitranges/", "io.k8s.api.core.v1.LimitRange",
        short_names: cow(&[Cow::Borrowed("limits")])),
        row!(kind("", "Namespace", "namespaces", "namespace"), "/registry/namespaces/", "io.k8s.api.core.v1.Namespace",
        short_names: cow(&[Cow::Borrowed("ns")]), namespaced: false, verbs: SINGLE_VERBS,
        subresources: cow(STATUS_NAMESPACE)),
        row!(kind("", "Node", "nodes", "node"), "/registry/minions/", "io.k8s.api.core.v1.Node",
        short_names: cow(&[Cow::Borrowed("no")]), namespaced: false, subresources: cow(STATUS_NODE)),
        row!(kind("", "PersistentVolumeClaim", "persistentvolumeclaims", "persistentvolumeclaim"),
        "/registry/persistentvolumeclaims/", "io.k8s.api.core.v1.PersistentVolumeClaim",
        short_names: cow(&[Cow::Borrowed("pvc")]), subresources: cow(STATUS_CLAIM)),
        row!(kind("", "PersistentVolume", "persistentvolumes", "persistentvolume"), "/registry/persistentvolumes/",
        "io.k8s.api.core.v1.PersistentVolume", short_names: cow(&[Cow::Borrowed("pv")]), namespaced: false,
        subresources: cow(STATUS_VOLUME)),
        row!(kind("", "Pod", "pods", "pod"), "/registry/pods/", "io.k8s.api.core.v1.Pod",
        short_names: cow(&[Cow::Borrowed("po")]), categories: cow(ALL), subresources: cow(POD)),
        row!(kind("", "ReplicationController", "replicationcontrollers", "replicationcontroller"),
        "/registry/controllers/", "io.k8s.api.core.v1.ReplicationController",
        short_names: cow(&[Cow::Borrowed("rc")]), categories: cow(ALL), subresources: cow(REPLICATION_CONTROLLER)),
        row!(kind("", "Secret", "secrets", "secret"), "/registry/secrets/", "io.k8s.api.core.v1.Secret"),
        row!(kind("", "ServiceAccount", "serviceaccounts", "serviceaccount"), "/registry/serviceaccounts/",
        "io.k8s.api.core.v1.ServiceAccount", short_names: cow(&[Cow::Borrowed("sa")]), subresources: cow(TOKEN)),
        row!(kind("", "Service", "services", "service"), "/registry/services/specs/", "io.k8s.api.core.v1.Service",
        short_names: cow(&[Cow::Borrowed("svc")]), categories: cow(ALL), subresources: cow(STATUS_SERVICE)),
        row!(kind("apps", "Deployment", "deployments", "deployment"), "/registry/deployments/",
        "io.k8s.api.apps.v1.Deployment", short_names: cow(&[Cow::Borrowed("deploy")]), categories: cow(ALL),
        subresources: cow(DEPLOYMENT)),
        row!(kind("apps", "ReplicaSet", "replicasets", "replicaset"), "/registry/replicasets/",
        "io.k8s.api.apps.v1.ReplicaSet", short_names: cow(&[Cow::Borrowed("rs")]), categories: cow(ALL),
        subresources: cow(REPLICA_SET)),
        row!(kind("apps", "StatefulSet", "statefulsets", "statefulset"), "/registry/statefulsets/",
        "io.k8s.api.apps.v1.StatefulSet", short_names: cow(&[Cow::Borrowed("sts")]), categories: cow(ALL),
        subresources: cow(STATEFUL_SET)),
        row!(kind("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview"), "",
        "io.k8s.api.authentication.v1.SelfSubjectReview", namespaced: false, verbs: CREATE),
        row!(kind("authentication.k8s.io", "TokenReview", "tokenreviews", "tokenreview"), "",
        "io.k8s.api.authentication.v1.TokenReview", namespaced: false, verbs: CREATE),
        row!(kind("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews", "selfsubjectaccessreview"),
        "", "io.k8s.api.authorization.v1.SelfSubjectAccessReview", namespaced: false, verbs: CREATE),
        row!(kind("authorization.k8s.io", "SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview"),
        "", "io.k8s.api.authorization.v1.SelfSubjectRulesReview", namespaced: false, verbs: CREATE),
        row!(kind("authorization.k8s.io", "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview"), "",
        "io.k8s.api.authorization.v1.SubjectAccessReview", namespaced: false, verbs: CREATE),
        row!(kind("batch", "Job", "jobs", "job"), "/registry/jobs/", "io.k8s.api.batch.v1.Job", categories: cow(ALL),
        subresources: cow(STATUS_JOB)),
        row!(
            kind("coordination.k8s.io", "Lease", "leases", "lease"),
            "/registry/leases/",
            "io.k8s.api.coordination.v1.Lease"
        ),
        row!(
            kind("discovery.k8s.io", "EndpointSlice", "endpointslices", "endpointslice"),
            "/registry/endpointslices/",
            "io.k8s.api.discovery.v1.EndpointSlice"
        ),
        // The same objects as core/v1's events, in other words: see `registry`'s `convert`.
        row!(kind("events.k8s.io", "Event", "events", "event"), "/registry/events/", "io.k8s.api.events.v1.Event",
        short_names: cow(&[Cow::Borrowed("ev")])),
        row!(kind("policy", "PodDisruptionBudget", "poddisruptionbudgets", "poddisruptionbudget"),
        "/registry/poddisruptionbudgets/", "io.k8s.api.policy.v1.PodDisruptionBudget",
        short_names: cow(&[Cow::Borrowed("pdb")]), subresources: cow(STATUS_BUDGET)),
        row!(kind("resource.k8s.io", "DeviceClass", "deviceclasses", "deviceclass"), "/registry/deviceclasses/",
        "io.k8s.api.resource.v1.DeviceClass", namespaced: false),
        row!(kind("resource.k8s.io", "ResourceClaim", "resourceclaims", "resourceclaim"), "/registry/resourceclaims/",
        "io.k8s.api.resource.v1.ResourceClaim", subresources: cow(STATUS_RESOURCE_CLAIM)),
        row!(
            kind("resource.k8s.io", "ResourceClaimTemplate", "resourceclaimtemplates", "resourceclaimtemplate"),
            "/registry/resourceclaimtemplates/",
            "io.k8s.api.resource.v1.ResourceClaimTemplate"
        ),
        row!(kind("resource.k8s.io", "ResourceSlice", "resourceslices", "resourceslice"), "/registry/resourceslices/",
        "io.k8s.api.resource.v1.ResourceSlice", namespaced: false),
        row!(kind("scheduling.k8s.io", "PriorityClass", "priorityclasses", "priorityclass"), "/registry/priorityclasses/",
        "io.k8s.api.scheduling.v1.PriorityClass", short_names: cow(&[Cow::Borrowed("pc")]), namespaced: false),
        row!(kind("scheduling.k8s.io", "PodGroup", "podgroups", "podgroup"), "/registry/podgroups/",
        "io.k8s.api.scheduling.v1alpha2.PodGroup", version: Cow::Borrowed("v1alpha2"),
        subresources: cow(STATUS_POD_GROUP)),
        row!(kind("scheduling.k8s.io", "Workload", "workloads", "workload"), "/registry/workloads/",
        "io.k8s.api.scheduling.v1alpha2.Workload", version: Cow::Borrowed("v1alpha2")),
        row!(kind("storage.k8s.io", "CSIDriver", "csidrivers", "csidriver"), "/registry/csidrivers/",
        "io.k8s.api.storage.v1.CSIDriver", namespaced: false),
        row!(kind("storage.k8s.io", "CSINode", "csinodes", "csinode"), "/registry/csinodes/",
        "io.k8s.api.storage.v1.CSINode", namespaced: false),
        row!(
            kind("storage.k8s.io", "CSIStorageCapacity", "csistoragecapacities", "csistoragecapacity"),
            "/registry/csistoragecapacities/",
            "io.k8s.api.storage.v1.CSIStorageCapacity"
        ),
        row!(kind("storage.k8s.io", "StorageClass", "storageclasses", "storageclass"), "/registry/storageclasses/",
        "io.k8s.api.storage.v1.StorageClass", short_names: cow(&[Cow::Borrowed("sc")]), namespaced: false),
        row!(kind("storage.k8s.io", "VolumeAttachment", "volumeattachments", "volumeattachment"),
        "/registry/volumeattachments/", "io.k8s.api.storage.v1.VolumeAttachment", namespaced: false,
        subresources: cow(STATUS_ATTACHMENT)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Schema;

    #[test]
    fn every_kind_and_every_subresource_has_a_type() {
        for kind in builtin() {
            let id = Schema::builtin().find(&kind.type_name).unwrap_or_else(|| panic!("{}", kind.type_name));
            let gvk = Schema::builtin().object(id).gvk.clone().unwrap();
            assert_eq!((gvk.0, gvk.1, gvk.2), (kind.group.clone(), kind.version.clone(), kind.kind.clone()));
            let mut sorted = kind.verbs.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, kind.verbs);
        }
    }

    #[test]
    fn keys_are_kubernetes_own_and_split_again() {
        let kind = |name: &str| builtin().iter().find(|k| k.kind == name).unwrap();
        for (name, namespace, expected) in [
            ("Pod", "a", "/registry/pods/a/x"),
            ("Service", "a", "/registry/services/specs/a/x"),
            ("Node", "", "/registry/minions/x"),
            ("Endpoints", "a", "/registry/services/endpoints/a/x"),
            ("ReplicationController", "a", "/registry/controllers/a/x"),
        ] {
            let key = kind(name).key(namespace, "x");
            assert_eq!(key, expected);
            let namespace = kind(name).namespaced.then_some(namespace);
            assert_eq!(kind(name).split_key(&key), Some((namespace, "x")));
        }
        assert_eq!(kind("Pod").split_key("/registry/pods/a"), None);
        assert_eq!(kind("Pod").split_key("/registry/leases/a/b"), None);
    }
}
