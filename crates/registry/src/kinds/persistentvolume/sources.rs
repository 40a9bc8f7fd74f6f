//! What backs a volume: one of many sources, each with what it must name.

use serde_json::{Map, Value};

use crate::{
    field::{Errors, Path},
    kinds::common::validate_choice,
    names,
    value::{default as set_default, text},
};

/// The sources in the order in which Kubernetes looks at them, each with the fields that must be given.
const SOURCES: [(&str, &[&str]); 22] = [
    ("hostPath", &[]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("nfs", &["server", "path"]),
    ("rbd", &["image"]),
    ("quobyte", &["registry", "volume"]),
    ("cephfs", &[]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("cinder", &["volumeID"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("local", &[]),
    ("storageos", &[]),
    ("csi", &[]),
];
/// Kinds of storage that are mounted with options.
const MOUNTED: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];
const PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
/// Defaults of fields of sources.
const DEFAULTS: [(&str, &str, &str); 10] = [
    ("hostPath", "type", ""),
    ("iscsi", "iscsiInterface", "default"),
    ("rbd", "pool", "rbd"),
    ("rbd", "user", "admin"),
    ("rbd", "keyring", "/etc/ceph/keyring"),
    ("azureDisk", "cachingMode", "ReadWrite"),
    ("azureDisk", "kind", "Shared"),
    ("azureDisk", "fsType", "ext4"),
    ("scaleIO", "storageMode", "ThinProvisioned"),
    ("scaleIO", "fsType", "xfs"),
];
const MAX_DRIVER_BYTES: usize = 63;

/// Completes the source.
pub(super) fn default(spec: &mut Value) {
    for (source, field, value) in DEFAULTS {
        if let Some(source) = spec.get_mut(source) {
            set_default(source, field, value);
        }
    }
    if let Some(disk) = spec.get_mut("azureDisk") {
        set_default(disk, "readOnly", false);
    }
}

/// The source alone, out of the spec whose fields it is among.
pub(super) fn source(spec: &Value) -> Map<String, Value> {
    let given = SOURCES.iter().filter(|(name, _)| spec[*name].is_object());
    given.map(|(name, _)| ((*name).to_owned(), spec[*name].clone())).collect()
}

/// Whether what backs the volume is mounted with options.
pub(super) fn takes_mount_options(spec: &Value) -> bool {
    MOUNTED.iter().any(|name| spec[*name].is_object())
}

/// Whether a host path is the whole file system.
pub(super) fn is_root(host_path: &Value) -> bool {
    let place = text(host_path, "path");
    place.starts_with('/') && place.split('/').all(|step| matches!(step, "" | "."))
}

/// There must be one source, and it must name what it is about.
pub(super) fn validate(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut found = false;
    for (name, required) in SOURCES {
        let source = &spec[name];
        if !source.is_object() {
            continue;
        }
        if found {
            errors.forbidden(&path.field(name), "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        // Kubernetes calls this one so.
        let path = path.field(if name == "gcePersistentDisk" { "persistentDisk" } else { name });
        for field in required.iter().filter(|field| text(source, field).is_empty()) {
            errors.required(&path.field(field), "");
        }
        validate_source(name, source, &path, errors);
    }
    if spec["local"].is_object() && !spec["nodeAffinity"].is_object() {
        errors.required(&path.field("nodeAffinity"), "Local volume requires node affinity");
    }
    if !found {
        errors.required(path, "must specify a volume type");
    }
}

fn validate_source(name: &str, source: &Value, path: &Path<'_>, errors: &mut Errors) {
    match name {
        "hostPath" | "local" => {
            let place = text(source, "path");
            if place.is_empty() {
                errors.required(&path.field("path"), "");
                return;
            }
            if place.split('/').any(|step| step == "..") {
                errors.invalid_text(&path.field("path"), place, "must not contain '..'");
            }
            if name == "hostPath" {
                validate_choice(&source["type"], &PATH_TYPES, &path.field("type"), errors);
            }
        }
        "nfs" if !text(source, "path").starts_with('/') => {
            errors.invalid_text(&path.field("path"), text(source, "path"), "must be an absolute path");
        }
        "csi" => validate_csi(source, path, errors),
        _ => {}
    }
}

fn validate_csi(csi: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_driver_name(text(csi, "driver"), &path.field("driver"), errors);
    if text(csi, "volumeHandle").is_empty() {
        errors.required(&path.field("volumeHandle"), "");
    }
    let secrets =
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];
    for field in secrets.into_iter().filter(|field| csi[*field].is_object()) {
        let (secret, path) = (&csi[field], path.field(field));
        let rules: [(&str, names::Rule); 2] = [("name", names::dns_subdomain), ("namespace", names::dns_label)];
        for (field, rule) in rules {
            let name = text(secret, field);
            if name.is_empty() {
                errors.required(&path.field(field), "");
                continue;
            }
            for why in rule(name) {
                errors.invalid_text(&path.field(field), name, &why);
            }
        }
    }
}

/// The rules for the name of a driver, of storage or of devices.
pub(crate) fn validate_driver_name(name: &str, path: &Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > MAX_DRIVER_BYTES {
        errors.too_long(path, MAX_DRIVER_BYTES);
    }
    for why in names::dns_subdomain(&name.to_ascii_lowercase()) {
        errors.invalid_text(path, name, &why);
    }
}
