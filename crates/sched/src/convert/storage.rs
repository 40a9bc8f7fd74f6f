//! What the API says of storage, parsed once. Volumes of in-tree plugins get the names that the CSI drivers which have taken
//! over have for them and for zones.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{ConvertError, amount, selector, term};
use crate::{
    Field, Operator, Requirement, Term,
    labels::{self, Labels},
    object::{
        AwsDisk, AzureDisk, CinderDisk, PortworxDisk,
        storage::{self as object, ClaimReference, Meta, VolumeSpec},
    },
    storage::{
        Attachment, BindingMode, Capacity, Claim, ClaimRef, CsiDriver, CsiNode, InTree, PersistentVolume, Source,
        StorageClass, Version,
    },
};

/// The class of a claim or a volume was once told by this annotation, which still wins.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
pub(crate) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const MIGRATED_PLUGINS: &str = "storage.alpha.kubernetes.io/migrated-plugins";
const STORAGE: &str = "storage";

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const BETA_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const BETA_REGION: &str = "failure-domain.beta.kubernetes.io/region";
/// Between the zones of one label.
pub(crate) const ZONES_DELIMITER: &str = "__";
/// In a handle of GCE: not known.
const UNSPECIFIED: &str = "UNSPECIFIED";

fn annotation<'a>(meta: &'a Meta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

fn filled(text: Option<&str>) -> Option<Arc<str>> {
    text.filter(|text| !text.is_empty()).map(Into::into)
}

fn name(meta: &Meta) -> Result<Arc<str>, ConvertError> {
    Ok(meta.name.as_deref().ok_or(ConvertError::Missing("name"))?.into())
}

fn uid(meta: &Meta) -> Result<Arc<str>, ConvertError> {
    Ok(meta.uid.as_deref().ok_or(ConvertError::Missing("uid"))?.into())
}

fn version(meta: &Meta) -> Version {
    Version(meta.resource_version.as_deref().unwrap_or_default().into())
}

fn class(meta: &Meta, spec: Option<&str>) -> Arc<str> {
    annotation(meta, BETA_CLASS).or(spec).unwrap_or_default().into()
}

fn bytes(list: Option<&BTreeMap<String, Quantity>>) -> Result<Option<i64>, ConvertError> {
    list.and_then(|list| list.get(STORAGE)).map(|text| Ok(amount(STORAGE, text)?.value())).transpose()
}

fn modes(list: Option<&Vec<String>>) -> Vec<Arc<str>> {
    list.into_iter().flatten().map(|mode| mode.as_str().into()).collect()
}

/// A PersistentVolumeClaim of the API.
pub fn claim(object: &object::PersistentVolumeClaim) -> Result<Claim, ConvertError> {
    let (meta, spec) = (&object.metadata, &object.spec);
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    Ok(Claim {
        name: (meta.namespace.as_deref().unwrap_or_default().into(), name(meta)?),
        uid: uid(meta)?,
        version: version(meta),
        class: class(meta, spec.storage_class_name.as_deref()),
        volume: filled(spec.volume_name.as_deref()),
        bind_completed: annotation(meta, BIND_COMPLETED).is_some(),
        access_modes: modes(spec.access_modes.as_ref()),
        block: spec.volume_mode.as_deref() == Some("Block"),
        request: bytes(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()))?,
        selector: selector(spec.selector.as_ref())?,
        attributes_class: filled(spec.volume_attributes_class_name.as_deref()),
        selected_node: annotation(meta, SELECTED_NODE).map(Into::into),
        lost: object.status.phase.as_deref() == Some("Lost"),
        deleting: meta.deletion_timestamp.is_some(),
        owner: owner.map(|owner| owner.uid.as_str().into()),
    })
}

/// A PersistentVolume of the API.
pub fn volume(object: &object::PersistentVolume) -> Result<PersistentVolume, ConvertError> {
    let (meta, spec) = (&object.metadata, &object.spec);
    let labels = super::labels(meta.labels.as_ref());
    let required = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
    let affinity: Option<Vec<Term>> = match required {
        Some(required) => Some(required.node_selector_terms.iter().map(term).collect::<Result<_, _>>()?),
        None => None,
    };
    let source = source(spec, &labels);
    let migrated_affinity = match &source {
        Some(Source::InTree { plugin, .. }) => migrated_affinity(*plugin, affinity.as_ref(), &labels),
        _ => None,
    };
    Ok(PersistentVolume {
        name: name(meta)?,
        uid: uid(meta)?,
        version: version(meta),
        class: class(meta, spec.storage_class_name.as_deref()),
        capacity: bytes(spec.capacity.as_ref())?.unwrap_or(0),
        access_modes: modes(spec.access_modes.as_ref()),
        block: spec.volume_mode.as_deref() == Some("Block"),
        attributes_class: filled(spec.volume_attributes_class_name.as_deref()),
        claim: spec.claim_ref.as_ref().map(claim_ref),
        affinity,
        migrated_affinity,
        available: object.status.phase.as_deref() == Some("Available"),
        deleting: meta.deletion_timestamp.is_some(),
        source,
        labels,
    })
}

fn claim_ref(object: &ClaimReference) -> ClaimRef {
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    ClaimRef { name: (text(&object.namespace), text(&object.name)), uid: filled(object.uid.as_deref()) }
}

fn source(spec: &VolumeSpec, labels: &Labels) -> Option<Source> {
    if let Some(csi) = &spec.csi {
        return Some(Source::Csi { driver: csi.driver.as_str().into(), handle: csi.volume_handle.as_str().into() });
    }
    if let Some(gce) = &spec.gce_persistent_disk {
        let filled = |key: &str| labels::value(labels, key).filter(|zones| !zones.is_empty());
        let zones = filled(BETA_ZONE).or_else(|| filled(ZONE));
        return Some(Source::InTree { plugin: InTree::GcePd, handle: gce_handle(&gce.pd_name, zones).into() });
    }
    let (aws, azure) = (spec.aws_elastic_block_store.as_ref(), spec.azure_disk.as_ref());
    in_tree(aws, azure, spec.cinder.as_ref(), spec.portworx_volume.as_ref())
}

/// Disks whose CSI handle needs no more than the disk's own name.
pub(super) fn in_tree(
    aws: Option<&AwsDisk>,
    azure: Option<&AzureDisk>,
    cinder: Option<&CinderDisk>,
    portworx: Option<&PortworxDisk>,
) -> Option<Source> {
    let of = |plugin: InTree, handle: &str| Some(Source::InTree { plugin, handle: handle.into() });
    if let Some(aws) = aws {
        // `aws://zone/vol-1234`, or the last part alone.
        let id = aws.volume_id.strip_prefix("aws://").and_then(|rest| rest.split_once('/')).map(|(_, id)| id);
        return of(InTree::AwsEbs, id.map_or(aws.volume_id.as_str(), |id| id.trim_matches('/')));
    }
    let managed = |disk: &&AzureDisk| disk.kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case("managed"));
    if let Some(azure) = azure.filter(managed) {
        return of(InTree::AzureDisk, &azure.disk_uri);
    }
    if let Some(cinder) = cinder {
        return of(InTree::Cinder, &cinder.volume_id);
    }
    portworx.and_then(|portworx| of(InTree::Portworx, &portworx.volume_id))
}

/// The name that the CSI driver of GCE has for a disk: by its zone, or by its region when it is in several zones.
pub(super) fn gce_handle(disk: &str, zones: Option<&Arc<str>>) -> String {
    let zones: Vec<&str> = zones.into_iter().flat_map(|zones| zones.split(ZONES_DELIMITER)).collect();
    match zones.as_slice() {
        [] => format!("projects/{UNSPECIFIED}/zones/{UNSPECIFIED}/disks/{disk}"),
        [zone] => format!("projects/{UNSPECIFIED}/zones/{zone}/disks/{disk}"),
        [zone, ..] => {
            let region = zone.rsplit_once('-').map_or(*zone, |(region, _)| region);
            format!("projects/{UNSPECIFIED}/regions/{region}/disks/{disk}")
        }
    }
}

/// The zones of a volume by the driver's own label: those that its affinity names, or else those of its label.
fn migrated_affinity(plugin: InTree, affinity: Option<&Vec<Term>>, labels: &Labels) -> Option<Vec<Term>> {
    let Some(driver_zone) = plugin.zone_label() else { return affinity.cloned() };
    let mut terms = affinity.cloned().unwrap_or_default();
    let is =
        |requirement: &Requirement, key: &str| matches!(&requirement.field, Field::Label(known) if **known == *key);
    let named = |terms: &[Term], key: &str| terms.iter().flat_map(|term| &term.requirements).any(|r| is(r, key));
    let by_affinity = [(ZONE, false), (BETA_ZONE, true)].into_iter().find(|(key, _)| named(&terms, key));
    let by_label =
        || [(ZONE, false), (BETA_ZONE, true)].into_iter().find(|(key, _)| labels::value(labels, key).is_some());
    let (zone, beta) = by_affinity.or_else(by_label).unwrap_or((ZONE, false));
    let mut rename = |from: &str, to: &str| {
        let requirements = terms.iter_mut().flat_map(|term| &mut term.requirements);
        for requirement in requirements.filter(|requirement| is(requirement, from)) {
            requirement.field = Field::Label(to.into());
        }
    };
    if by_affinity.is_some() {
        rename(zone, driver_zone);
    }
    if beta {
        // New nodes have only the label that is no longer beta.
        rename(BETA_REGION, REGION);
    }
    if by_affinity.is_none()
        && let Some(zones) = labels::value(labels, zone)
    {
        let zones = zones.split(ZONES_DELIMITER).map(str::trim).filter(|zone| !zone.is_empty());
        let values: Vec<Arc<str>> = zones.map(Into::into).collect();
        let requirement = Requirement { field: Field::Label(driver_zone.into()), operator: Operator::In, values };
        if terms.is_empty() {
            terms.push(Term::default());
        }
        terms.iter_mut().for_each(|term| term.requirements.push(requirement.clone()));
    }
    (affinity.is_some() || !terms.is_empty()).then_some(terms)
}

/// A StorageClass of the API.
pub fn storage_class(object: &object::StorageClass) -> Result<StorageClass, ConvertError> {
    let topologies = object.allowed_topologies.iter().flatten().map(|term| {
        let expressions = term.match_label_expressions.iter().flatten();
        let values = |values: &[String]| values.iter().map(|value| value.as_str().into()).collect();
        expressions.map(|expression| (expression.key.as_str().into(), values(&expression.values))).collect()
    });
    Ok(StorageClass {
        name: name(&object.metadata)?,
        provisioner: object.provisioner.as_str().into(),
        binding: object.volume_binding_mode.as_deref().map(|mode| match mode {
            "WaitForFirstConsumer" => BindingMode::WaitForFirstConsumer,
            _ => BindingMode::Immediate,
        }),
        topologies: topologies.collect(),
    })
}

/// A CSINode of the API.
pub fn csi_node(object: &object::CsiNode) -> CsiNode {
    let drivers = object.spec.drivers.iter().flatten().map(|driver| {
        let limit = driver.allocatable.as_ref().and_then(|allocatable| allocatable.count);
        (driver.name.as_str().into(), limit.map(i64::from))
    });
    let migrated = annotation(&object.metadata, MIGRATED_PLUGINS).unwrap_or_default().split(',');
    CsiNode {
        drivers: drivers.collect(),
        migrated: migrated.filter(|plugin| !plugin.is_empty()).map(Into::into).collect(),
    }
}

/// A CSIDriver of the API.
pub fn csi_driver(object: &object::CsiDriver) -> CsiDriver {
    CsiDriver { tells_capacity: object.spec.storage_capacity.unwrap_or(false) }
}

/// A CSIStorageCapacity of the API.
pub fn storage_capacity(object: &object::CsiStorageCapacity) -> Result<Capacity, ConvertError> {
    let limit = object.maximum_volume_size.as_ref().or(object.capacity.as_ref());
    Ok(Capacity {
        class: object.storage_class_name.as_str().into(),
        limit: limit.map(|text| Ok::<_, ConvertError>(amount("capacity", text)?.value())).transpose()?,
        nodes: selector(object.node_topology.as_ref())?,
    })
}

/// A VolumeAttachment of the API.
pub fn attachment(object: &object::VolumeAttachment) -> Attachment {
    Attachment {
        node: object.spec.node_name.as_str().into(),
        attacher: object.spec.attacher.as_str().into(),
        volume: filled(object.spec.source.persistent_volume_name.as_deref()),
    }
}
