//! Claims for devices: made from templates for the pods that ask for them, held by the pods that use them, and free again when
//! nobody does.
//!
//! A claim belongs to a pod by its owner reference and to an entry of `spec.resourceClaims` by an annotation; its name is the API
//! server's to make up, and the pod's status says which it is. Claims of PodGroups (the feature WorkloadResourceClaims, which is
//! off by default) are left alone.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        core::v1::{Pod, PodResourceClaim, PodResourceClaimStatus},
        resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use crate::{Notice, meta, pod};

/// Says for which entry of its pod's `spec.resourceClaims` a claim was made.
pub const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
/// Keeps a claim as long as devices are allocated to it.
pub const PROTECTION: &str = "resource.kubernetes.io/delete-protection";
/// Pods that may hold one claim; the API's limit.
const MAX_HOLDERS: usize = 256;
/// The longest base of a generated name: with what is appended it is as long as a name may be.
const MAX_BASE: usize = 57;

/// What an entry of a pod's `spec.resourceClaims` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// This claim, which somebody else has made.
    Given(&'a str),
    /// This claim, which was made for the pod.
    Made(&'a str),
    /// Nothing: no claim is needed.
    Unneeded,
    /// A claim that has still to be made, as far as the pod's status says.
    Missing,
    /// Something that this version of the API does not know.
    Unknown,
}

/// What the entry stands for, by what the pod says of it.
pub fn named<'a>(pod: &'a Pod, entry: &'a PodResourceClaim) -> Named<'a> {
    if let Some(name) = &entry.resource_claim_name {
        return Named::Given(name);
    }
    if entry.resource_claim_template_name.is_none() {
        return Named::Unknown;
    }
    let statuses = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref()).unwrap_or_default();
    match statuses.iter().find(|status| status.name == entry.name) {
        None => Named::Missing,
        Some(status) => status.resource_claim_name.as_deref().map_or(Named::Unneeded, Named::Made),
    }
}

fn entries(pod: &Pod) -> &[PodResourceClaim] {
    pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default()
}

/// The names of all claims that the pod knows of, its own and others', also that which the scheduler has made for its extended
/// resources.
pub fn claims_of(pod: &Pod) -> Vec<&str> {
    let names = entries(pod).iter().filter_map(|entry| match named(pod, entry) {
        Named::Given(name) | Named::Made(name) => Some(name),
        Named::Unneeded | Named::Missing | Named::Unknown => None,
    });
    let extended = pod.status.as_ref().and_then(|status| status.extended_resource_claim_status.as_ref());
    names.chain(extended.map(|extended| extended.resource_claim_name.as_str())).collect()
}

/// The names of the templates that the pod asks for.
pub fn templates_of(pod: &Pod) -> Vec<&str> {
    entries(pod).iter().filter_map(|entry| entry.resource_claim_template_name.as_deref()).collect()
}

/// Whether it is certain that nothing of the pod runs, or ever will.
pub fn is_done(pod: &Pod) -> bool {
    pod::is_finished(pod) || meta::is_deleting(&pod.metadata) && node(pod).is_none()
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

/// What is to be done for a pod, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForPod {
    /// Claims to make, each with the entry of `spec.resourceClaims` that it is for. When they are made, the pod is looked at again.
    pub create: Vec<(String, ResourceClaim)>,
    /// What the pod's status has to say of claims that were made for it, and does not say yet.
    pub names: Vec<PodResourceClaimStatus>,
    /// Claims whose status is to say that the pod holds them.
    pub reserve: Vec<ResourceClaim>,
    pub notices: Vec<Notice>,
}

/// What is to be done for a pod. `claims` are those that it names and those that it owns; `templates` those that it asks for.
pub fn for_pod(pod: &Pod, claims: &[Arc<ResourceClaim>], templates: &[Arc<ResourceClaimTemplate>]) -> ForPod {
    let mut todo = ForPod::default();
    if meta::is_deleting(&pod.metadata) || pod::is_finished(pod) {
        return todo;
    }
    let find = |name: &str| claims.iter().find(|claim| meta::name(&claim.metadata) == name);
    let own = |claim: &&Arc<ResourceClaim>| meta::is_controlled_by(&claim.metadata, meta::uid(&pod.metadata));
    for entry in entries(pod) {
        let known = match named(pod, entry) {
            Named::Unneeded | Named::Unknown => continue,
            Named::Given(name) => find(name),
            Named::Made(name) => find(name).filter(own),
            Named::Missing => None,
        };
        if let Some(claim) = known {
            todo.reserve.extend(held(pod, claim));
            continue;
        }
        let Some(wanted) = &entry.resource_claim_template_name else { continue };
        // One that was made before the pod's status could say so.
        let made =
            |claim: &&Arc<ResourceClaim>| meta::annotation(&claim.metadata, POD_CLAIM) == Some(entry.name.as_str());
        if let Some(orphan) = claims.iter().filter(own).find(made) {
            let resource_claim_name = orphan.metadata.name.clone();
            todo.names.push(PodResourceClaimStatus { name: entry.name.clone(), resource_claim_name });
            continue;
        }
        match templates.iter().find(|template| meta::name(&template.metadata) == *wanted) {
            Some(template) => todo.create.push((entry.name.clone(), from_template(pod, entry, template))),
            None => {
                let missing = format!("resourceclaimtemplate.resource.k8s.io {wanted:?} not found");
                todo.notices.push(not_created(&entry.name, &format!("resource claim template {wanted:?}: {missing}")));
            }
        }
    }
    todo
}

/// What a pod is told when a claim cannot be made for it.
pub fn not_created(entry: &str, why: &str) -> Notice {
    Notice::warning("FailedResourceClaimCreation", format!("PodResourceClaim {entry}: {why}"))
}

fn from_template(pod: &Pod, entry: &PodResourceClaim, template: &ResourceClaimTemplate) -> ResourceClaim {
    let given = template.spec.metadata.as_ref();
    let mut annotations = given.and_then(|given| given.annotations.clone()).unwrap_or_default();
    annotations.insert(POD_CLAIM.to_owned(), entry.name.clone());
    let owner = OwnerReference { block_owner_deletion: None, ..meta::controller_reference(pod) };
    let metadata = ObjectMeta {
        generate_name: Some(base(meta::name(&pod.metadata), &entry.name)),
        namespace: pod.metadata.namespace.clone(),
        annotations: Some(annotations),
        labels: given.and_then(|given| given.labels.clone()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    ResourceClaim { metadata, spec: template.spec.spec.clone(), status: None }
}

/// The base of a claim's name. Where it is too long, both parts give up the same share, so that both can be recognised.
fn base(pod: &str, entry: &str) -> String {
    let full = format!("{pod}-{entry}-");
    if full.len() <= MAX_BASE {
        return full;
    }
    let share = |part: &str| part.chars().take(part.len() * MAX_BASE / full.len()).collect::<String>();
    format!("{}-{}", share(pod), share(entry))
}

/// The claim with the pod among its holders, if it is on a node, and the claim is allocated and has room. Who places pods does this
/// himself; what is left are pods that were given a node by somebody else.
fn held(pod: &Pod, claim: &ResourceClaim) -> Option<ResourceClaim> {
    node(pod)?;
    let status = claim.status.as_ref().filter(|status| status.allocation.is_some())?;
    let holders = status.reserved_for.as_deref().unwrap_or_default();
    let uid = meta::uid(&pod.metadata);
    if holders.len() >= MAX_HOLDERS || holders.iter().any(|holder| holder.uid == uid) {
        return None;
    }
    let mut claim = claim.clone();
    let holder = ResourceClaimConsumerReference {
        api_group: None,
        resource: "pods".to_owned(),
        name: meta::name(&pod.metadata).to_owned(),
        uid: uid.to_owned(),
    };
    claim.status.get_or_insert_default().reserved_for.get_or_insert_default().push(holder);
    Some(claim)
}

/// Whether somebody still holds a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    Keeps,
    Ends,
    /// The pod is not known here. It may be too new for that, so that the API has to be asked.
    Doubtful,
}

/// Whether this holder still holds it, by the pod with its name as it is known here.
pub fn hold(holder: &ResourceClaimConsumerReference, known: Option<&Pod>) -> Hold {
    if !holder.api_group.as_deref().unwrap_or_default().is_empty() || holder.resource != "pods" {
        // Who else may hold claims, and for how long, is not known here.
        return Hold::Keeps;
    }
    match known {
        None => Hold::Doubtful,
        Some(pod) if meta::uid(&pod.metadata) != holder.uid || is_done(pod) => Hold::Ends,
        Some(_) => Hold::Keeps,
    }
}

/// What is to be done for a claim, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForClaim {
    /// Its status as it is to be.
    pub status: Option<ResourceClaim>,
    /// Unless it is allocated then, nothing keeps it any more: [`PROTECTION`] goes, right after the status was written. Later is too
    /// late: whoever allocates it anew begins with that.
    pub unprotect: bool,
    /// It was made for a pod that has no use for it any more.
    pub delete: bool,
}

/// The pod that the claim was made for, by name and uid.
pub fn owning_pod(claim: &ResourceClaim) -> Option<(&str, &str)> {
    let owner = meta::controller_of(&claim.metadata)?;
    (owner.api_version == "v1" && owner.kind == "Pod").then_some((owner.name.as_str(), owner.uid.as_str()))
}

/// What is to be done for a claim that these holders are left of, the others having gone. `owner` is the pod with the name of that
/// which it was made for, as it is known here.
pub fn for_claim(
    claim: &ResourceClaim,
    remaining: Vec<ResourceClaimConsumerReference>,
    owner: Option<&Pod>,
) -> ForClaim {
    let status = claim.status.clone().unwrap_or_default();
    let before = status.reserved_for.as_deref().unwrap_or_default().len();
    let (protected, deleting) = (meta::has_finalizer(&claim.metadata, PROTECTION), meta::is_deleting(&claim.metadata));
    let unused = remaining.is_empty();
    let mut todo = ForClaim::default();
    let mut write = |remaining: Vec<ResourceClaimConsumerReference>, free: bool| {
        let mut changed = claim.clone();
        let status = changed.status.get_or_insert_default();
        status.reserved_for = (!remaining.is_empty()).then_some(remaining);
        if free {
            status.allocation = None;
        }
        todo.status = Some(changed);
    };
    if remaining.len() < before {
        // The last one has gone: others may have the devices, and the claim is allocated anew for whoever comes next. One that was
        // allocated and never held stays so, since drivers may set both in either order.
        write(remaining, unused && protected);
        todo.unprotect = unused && protected;
    } else if unused && protected && deleting {
        if status.allocation.is_some() {
            write(remaining, true);
        }
        todo.unprotect = true;
    }
    let useless = |(_, uid): (&str, &str)| owner.is_some_and(|pod| meta::uid(&pod.metadata) != uid || is_done(pod));
    todo.delete = unused && !deleting && owning_pod(claim).is_some_and(useless);
    todo
}

#[cfg(test)]
mod tests;
