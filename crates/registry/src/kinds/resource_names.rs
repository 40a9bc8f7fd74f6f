//! The names of resources: which are Kubernetes' own, which somebody else's, and which of them may stand where.

use crate::{
    field::{Errors, Path},
    names,
};

/// Resources of containers that are not huge pages.
const CONTAINER: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
/// The others that Kubernetes knows: what claims and quotas count.
const COUNTED: [&str; 17] = [
    "configmaps",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];

/// Whether pages of some size are meant.
pub(super) fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// A resource of Kubernetes' own.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource of somebody else's, which quotas can count.
pub(super) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether more of it may be promised than there is, so that a limit may be over the request.
pub(super) fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

/// The rule for names of any resource.
pub(super) fn validate(name: &str, path: &Path<'_>, errors: &mut Errors) {
    let problems = names::qualified_name(name);
    for why in &problems {
        errors.invalid_text(path, name, why);
    }
    let pages = is_huge_pages(name) || name.starts_with("requests.hugepages-");
    let standard = name.contains('/') || CONTAINER.contains(&name) || COUNTED.contains(&name) || pages;
    if problems.is_empty() && !standard {
        errors.invalid_text(path, name, "must be a standard resource type or fully qualified");
    }
}

/// The rule for names of what containers get.
pub(super) fn validate_of_container(name: &str, path: &Path<'_>, errors: &mut Errors) {
    validate(name, path, errors);
    if !name.contains('/') {
        if !CONTAINER.contains(&name) && !is_huge_pages(name) {
            errors.invalid_text(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid_text(path, name, "doesn't follow extended resource name standard");
    }
}
