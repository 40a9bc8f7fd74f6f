//! What Kubernetes' built-in admission plugins do to a new object, given the neighbours it refers to.
//!
//! The caller asks [`needs`] which neighbours to read, reads them, and calls [`admit_create`] before
//! [`Resource::create`]: NamespaceLifecycle, LimitRanger, ServiceAccount, Priority, DefaultTolerationSeconds,
//! DefaultStorageClass, PodTopologyLabels, PodGroupWorkloadExists. What is complete and valid goes through [`validate`]: the
//! other half of LimitRanger.

mod limits;
mod references;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    Context, Resource, Status, Target,
    field::{Errors, Path},
    value::{items, items_mut, list_mut, object_mut, set, text},
};

/// Tolerations that every pod gets last this long.
const DEFAULT_TOLERATION_SECONDS: i64 = 300;
/// A projected service account token lasts this long: an hour and a few seconds, by which Kubernetes tells these from
/// tokens that somebody asked for.
const TOKEN_EXPIRATION_SECONDS: i64 = 3607;
const TOKEN_MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
pub(crate) const TOKEN_VOLUME_PREFIX: &str = "kube-api-access-";
/// The names of built-in classes begin with this, and none but these may.
const SYSTEM_PRIORITIES: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
const TOPOLOGY_LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];
const LAST_APPLIED_MIRROR: &str = "kubernetes.io/config.mirror";

/// Which neighbours an object has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The namespace it is created in.
    pub namespace: Option<String>,
    /// The service account its pod runs as, in that namespace.
    pub service_account: Option<String>,
    /// All priority classes.
    pub priority_classes: bool,
    /// All storage classes.
    pub storage_classes: bool,
    /// The node that a pod is created on.
    pub node: Option<String>,
    /// The workload that a group of pods was made from, in its namespace.
    pub workload: Option<String>,
    /// The limit ranges of its namespace.
    pub limit_ranges: bool,
}

/// The neighbours, as read from the store. `None`: there is none of that name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Neighbours<'a> {
    /// See [`Needs::namespace`].
    pub namespace: Option<&'a Value>,
    /// See [`Needs::service_account`].
    pub service_account: Option<&'a Value>,
    /// See [`Needs::priority_classes`].
    pub priority_classes: &'a [Arc<Value>],
    /// See [`Needs::storage_classes`].
    pub storage_classes: &'a [Arc<Value>],
    /// See [`Needs::node`].
    pub node: Option<&'a Value>,
    /// See [`Needs::workload`].
    pub workload: Option<&'a Value>,
    /// See [`Needs::limit_ranges`].
    pub limit_ranges: &'a [Arc<Value>],
}

/// Which neighbours to read before `object` is created in `namespace`.
pub fn needs(resource: &Resource, namespace: &str, object: &Value) -> Needs {
    let kind = resource.kind();
    let pod = is_pod(resource);
    let account = Some(service_account_name(&object["spec"])).filter(|_| pod && !is_mirror(object));
    Needs {
        namespace: kind.namespaced.then(|| namespace.to_owned()),
        service_account: account.map(str::to_owned),
        priority_classes: pod,
        storage_classes: references::wants_default_class(resource, object),
        workload: references::workload(resource, object).map(str::to_owned),
        node: Some(text(&object["spec"], "nodeName").to_owned()).filter(|name| pod && !name.is_empty()),
        limit_ranges: pod || is_claim(resource),
    }
}

/// Completes or refuses an object that is about to be created.
pub fn admit_create(
    resource: &Resource,
    context: &Context,
    namespace: &str,
    object: &mut Value,
    neighbours: Neighbours<'_>,
) -> Result<(), Status> {
    let kind = resource.kind();
    let name = text(&object["metadata"], "name").to_owned();
    if kind.namespaced {
        let Some(found) = neighbours.namespace else { return Err(no_such_namespace(namespace)) };
        if is_terminating(found) {
            return Err(Status::namespace_terminating(kind, &name, namespace));
        }
    }
    references::admit(resource, object, neighbours)?;
    if is_pod(resource) {
        if !neighbours.limit_ranges.is_empty() {
            resource.default(object);
            limits::complete(object, neighbours.limit_ranges);
        }
        admit_service_account(resource, context, namespace, object, neighbours)?;
        admit_priority(resource, object, neighbours.priority_classes)?;
        default_tolerations(object);
        admit_runtime_class(resource, object)?;
        if let Some(node) = neighbours.node {
            copy_topology(|label| node["metadata"]["labels"][label].as_str(), object);
        }
    }
    Ok(())
}

/// Whether a change of an object is to go through [`validate`]. Of a pod, what limit ranges speak of does not change.
pub fn validates_change(resource: &Resource, target: Target, old: &Value) -> bool {
    target == Target::Object && is_claim(resource) && text(&old["metadata"], "deletionTimestamp").is_empty()
}

/// Refuses an object that is complete and valid and that its namespace does not allow.
pub fn validate(resource: &Resource, object: &Value, limit_ranges: &[Arc<Value>]) -> Result<(), Status> {
    let refusal = match () {
        () if limit_ranges.is_empty() => None,
        () if is_pod(resource) => limits::pod_refusal(object, limit_ranges),
        () if is_claim(resource) => limits::claim_refusal(object, limit_ranges),
        () => None,
    };
    let name = text(&object["metadata"], "name");
    refusal.map_or(Ok(()), |why| Err(Status::forbidden(resource.kind(), name, &why)))
}

/// Whether a namespace goes away, and takes no new objects.
pub fn is_terminating(namespace: &Value) -> bool {
    let deleted = !text(&namespace["metadata"], "deletionTimestamp").is_empty();
    deleted || text(&namespace["status"], "phase") == "Terminating"
}

/// Tells a pod the region and the zone of its node, as labels. `object` is the pod, or the binding that gives it its node;
/// `of_node` looks a label of the node up.
pub fn copy_topology<'l>(of_node: impl Fn(&str) -> Option<&'l str>, object: &mut Value) {
    for (label, value) in topology_labels(of_node) {
        set(object_mut(object_mut(object, "metadata"), "labels"), label, value);
    }
}

/// The labels that tell a node's region and zone.
pub fn topology_labels<'l>(of_node: impl Fn(&str) -> Option<&'l str>) -> impl Iterator<Item = (&'static str, &'l str)> {
    TOPOLOGY_LABELS.into_iter().filter_map(move |label| Some((label, of_node(label)?)))
}

fn no_such_namespace(namespace: &str) -> Status {
    let registry = crate::Registry::builtin();
    let kind = registry.find("", "v1", "namespaces").expect("namespaces are a built-in kind").kind();
    Status::not_found(kind, namespace)
}

/// Whether a kind's objects are pods.
pub fn is_pod(resource: &Resource) -> bool {
    resource.kind().group.is_empty() && resource.kind().kind == "Pod"
}

fn is_claim(resource: &Resource) -> bool {
    resource.kind().group.is_empty() && resource.kind().kind == "PersistentVolumeClaim"
}

/// Mirror pods stand for what a node runs by itself; they get no service account.
pub(crate) fn is_mirror(object: &Value) -> bool {
    object["metadata"]["annotations"].get(LAST_APPLIED_MIRROR).is_some()
}

fn service_account_name(spec: &Value) -> &str {
    match (text(spec, "serviceAccountName"), text(spec, "serviceAccount")) {
        ("", "") => "default",
        ("", older) => older,
        (name, _) => name,
    }
}

fn admit_service_account(
    resource: &Resource,
    context: &Context,
    namespace: &str,
    object: &mut Value,
    neighbours: Neighbours<'_>,
) -> Result<(), Status> {
    if is_mirror(object) {
        return Ok(());
    }
    let account = service_account_name(&object["spec"]).to_owned();
    let Some(found) = neighbours.service_account else {
        let why =
            format!("error looking up service account {namespace}/{account}: serviceaccount {account:?} not found");
        return Err(Status::forbidden(resource.kind(), text(&object["metadata"], "name"), &why));
    };
    let spec = object_mut(object, "spec");
    set(spec, "serviceAccountName", account.as_str());
    set(spec, "serviceAccount", account);
    let wanted = spec["automountServiceAccountToken"].as_bool();
    if wanted.or(found["automountServiceAccountToken"].as_bool()).unwrap_or(true) {
        mount_token(context, spec);
    }
    if items(&spec["imagePullSecrets"]).is_empty() && !items(&found["imagePullSecrets"]).is_empty() {
        set(spec, "imagePullSecrets", found["imagePullSecrets"].clone());
    }
    Ok(())
}

/// Gives every container the token, the cluster's certificate and the namespace at the well-known path, unless it
/// mounts something there itself.
fn mount_token(context: &Context, spec: &mut Value) {
    let existing = items(&spec["volumes"]).iter().map(|v| text(v, "name")).find(|n| n.starts_with(TOKEN_VOLUME_PREFIX));
    let fresh = existing.is_none();
    let volume = existing.map_or_else(|| format!("{TOKEN_VOLUME_PREFIX}{}", context.name_suffix()), str::to_owned);
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            if items(&container["volumeMounts"]).iter().any(|m| text(m, "mountPath") == TOKEN_MOUNT_PATH) {
                continue;
            }
            mounted = true;
            list_mut(container, "volumeMounts")
                .push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_MOUNT_PATH}));
        }
    }
    if fresh && mounted {
        list_mut(spec, "volumes").push(token_volume(&volume));
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_EXPIRATION_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
        ]}},
    ]}})
}

fn admit_priority(resource: &Resource, object: &mut Value, classes: &[Arc<Value>]) -> Result<(), Status> {
    let pod = text(&object["metadata"], "name").to_owned();
    let spec = object_mut(object, "spec");
    let name = text(spec, "priorityClassName").to_owned();
    let builtin = SYSTEM_PRIORITIES.iter().find(|(class, _)| *class == name);
    let class = if name.is_empty() {
        // Of several default classes the one with the lowest value counts.
        classes.iter().filter(|c| c["globalDefault"] == true).min_by_key(|c| c["value"].as_i64())
    } else {
        classes.iter().find(|c| text(&c["metadata"], "name") == name)
    };
    let (value, policy) = match (class, builtin) {
        (Some(class), _) => (class["value"].as_i64().unwrap_or(0), text(class, "preemptionPolicy")),
        (None, Some((_, value))) => (*value, ""),
        (None, None) if name.is_empty() => (0, ""),
        (None, None) => {
            let why = format!("no PriorityClass with name {name} was found");
            return Err(Status::forbidden(resource.kind(), &pod, &why));
        }
    };
    let mismatch = |detail: &str| {
        let why = format!("the {detail}");
        Err(Status::forbidden(resource.kind(), &pod, &why))
    };
    match spec["priority"].as_i64() {
        Some(given) if given != value => {
            let detail = format!(
                "integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            );
            return mismatch(&detail);
        }
        _ => {}
    }
    if let (true, Some(class)) = (name.is_empty(), class) {
        set(spec, "priorityClassName", class["metadata"]["name"].clone());
    }
    let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy };
    match text(spec, "preemptionPolicy") {
        "" => set(spec, "preemptionPolicy", policy),
        given if given == policy => {}
        given => {
            let detail = format!(
                "string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            );
            return mismatch(&detail);
        }
    }
    set(spec, "priority", value);
    Ok(())
}

/// There are no runtime classes to choose from here, and overhead comes from them alone.
fn admit_runtime_class(resource: &Resource, object: &Value) -> Result<(), Status> {
    let (spec, name) = (&object["spec"], text(&object["metadata"], "name"));
    let class = text(spec, "runtimeClassName");
    let why = if !class.is_empty() {
        format!("pod rejected: RuntimeClass {class:?} not found")
    } else if spec["overhead"].is_object() {
        "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".to_owned()
    } else {
        return Ok(());
    };
    Err(Status::forbidden(resource.kind(), name, &why))
}

/// Lets a pod stay for a while on a node that is not ready or not reached, unless it says otherwise.
pub(crate) fn default_tolerations(object: &mut Value) {
    let tolerations = list_mut(object_mut(object, "spec"), "tolerations");
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|t| {
            matches!(text(t, "key"), k if k == key || (k.is_empty() && text(t, "operator") == "Exists"))
                && matches!(text(t, "effect"), "NoExecute" | "")
        });
        if !tolerated {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": DEFAULT_TOLERATION_SECONDS,
            }));
        }
    }
}

/// Names that begin with `system-` belong to the built-in priority classes.
pub(crate) fn validate_priority_class(name: &str, value: i64, errors: &mut Errors) {
    let builtin = SYSTEM_PRIORITIES.iter().find(|(class, _)| *class == name);
    let metadata = Path::root("metadata");
    match builtin {
        Some((_, expected)) if *expected == value => {}
        _ if name.starts_with("system-") => {
            let error = match builtin {
                Some((name, expected)) => format!("value of {name} PriorityClass must be {expected}"),
                None => format!("{name} is not a known system priority class"),
            };
            let why =
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {error}");
            errors.forbidden(&metadata.field("name"), &why);
        }
        _ if value > 1_000_000_000 => {
            let why = "maximum allowed value of a user defined priority is 1000000000";
            errors.forbidden(&"value", why);
        }
        _ => {}
    }
}

/// The priority classes that every cluster has.
pub fn builtin_priority_classes() -> Vec<Value> {
    let descriptions = [
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        "Used for system critical pods that must not be moved from their current node.",
    ];
    let class = |((name, value), description): (&(&str, i64), &str)| {
        json!({
            "kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": name}, "value": value,
            "description": description,
        })
    };
    SYSTEM_PRIORITIES.iter().zip(descriptions).map(class).collect()
}
