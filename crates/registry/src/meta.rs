//! What holds for every object's metadata: what the system sets, what may not change, which names are allowed.

use std::fmt::Display;

use kube_schema::kinds::Kind;
use serde_json::Value;

use crate::{
    Context, Existing, Status,
    field::{Errors, Path},
    names::{self, Rule},
    value::{copy, entries, items, object_mut, remove, set, text},
};

/// A generated name is this long at most before its suffix of five.
const MAX_GENERATED_BASE: usize = 58;
/// All annotations of an object together.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;
/// Finalizers that need no domain in front.
const PLAIN_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Puts the request's namespace into the object, or refuses one that says otherwise.
pub(crate) fn match_namespace(kind: &Kind, namespace: &str, object: &mut Value) -> Result<(), Status> {
    let metadata = object_mut(object, "metadata");
    if !kind.namespaced {
        // The namespace of a cluster-wide object is dropped by the JSON form that clients send for it.
        if text(metadata, "namespace").is_empty() {
            remove(metadata, "namespace");
        }
        return Ok(());
    }
    match text(metadata, "namespace") {
        "" => set(metadata, "namespace", namespace),
        given if given == namespace => {}
        _ => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

/// What the system, and not the client, decides about a new object.
pub(crate) fn prepare_create(context: &Context, object: &mut Value) {
    let metadata = object_mut(object, "metadata");
    // Field ownership is kept once server-side apply stands; until then nothing may seem to own fields.
    for field in [
        "managedFields",
        "selfLink",
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        remove(metadata, field);
    }
    let base = text(metadata, "generateName");
    if text(metadata, "name").is_empty() && !base.is_empty() {
        let mut end = base.len().min(MAX_GENERATED_BASE);
        while !base.is_char_boundary(end) {
            end -= 1;
        }
        let name = format!("{}{}", &base[..end], context.name_suffix());
        set(metadata, "name", name);
    }
    set(metadata, "uid", context.uid());
    set(metadata, "creationTimestamp", context.timestamp());
}

/// The preconditions that an update carries in its metadata.
pub(crate) fn match_existing(
    kind: &Kind,
    existing: Existing<'_>,
    new: &Value,
    needs_revision: bool,
) -> Result<(), Status> {
    let (old, new) = (&existing.object["metadata"], &new["metadata"]);
    let (name, given) = (text(old, "name"), text(new, "name"));
    if !given.is_empty() && given != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    let (namespace, given) = (text(old, "namespace"), text(new, "namespace"));
    if !given.is_empty() && given != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let (uid, given) = (text(old, "uid"), text(new, "uid"));
    if !given.is_empty() && given != uid {
        let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {uid}");
        return Err(Status::conflict(kind, name, &why));
    }
    let given = text(new, "resourceVersion");
    let revision = match given {
        "" => Some(0),
        given => given.parse::<u64>().ok(),
    };
    match revision {
        Some(0) if !needs_revision => Ok(()),
        Some(revision) if revision == existing.revision => Ok(()),
        None | Some(0) => {
            let mut errors = Errors::default();
            errors.invalid(&"metadata.resourceVersion", &0.into(), "must be specified for an update");
            // Kubernetes names the resource here, and not the kind.
            Err(Status::invalid(&kind.group, &kind.plural, name, errors.into_vec()))
        }
        Some(_) => Err(Status::modified(kind, name)),
    }
}

/// Carries over what a client may not set, and what it may not set here (`kept`).
pub(crate) fn prepare_update(kept: &[&str], new: &mut Value, old: &Value) {
    let from = &old["metadata"];
    let metadata = object_mut(new, "metadata");
    for field in ["managedFields", "selfLink", "resourceVersion"] {
        remove(metadata, field);
    }
    for field in [
        "name",
        "generateName",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        copy(metadata, from, field);
    }
    for field in kept {
        copy(metadata, from, field);
    }
}

/// Counts a change of what is wanted, for kinds that carry a generation.
pub(crate) fn bump_generation(new: &mut Value, old: &Value) {
    let same = new["spec"] == old["spec"];
    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
    if !same {
        set(object_mut(new, "metadata"), "generation", generation + 1);
    }
}

/// Whether an object that was to be deleted has nothing left to wait for.
pub(crate) fn deletion_is_due(object: &Value) -> bool {
    let metadata = &object["metadata"];
    !text(metadata, "deletionTimestamp").is_empty()
        && items(&metadata["finalizers"]).is_empty()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
}

/// The rules for metadata.
pub(crate) fn validate(kind: &Kind, name_rule: Rule, object: &Value, errors: &mut Errors) {
    let metadata = &object["metadata"];
    let path = Path::root("metadata");
    let (name, base) = (text(metadata, "name"), text(metadata, "generateName"));
    if !base.is_empty() {
        // A base may end in a hyphen, as its suffix comes behind it.
        let tried = base.strip_suffix('-').map_or(base.to_owned(), |base| format!("{base}a"));
        for why in name_rule(&tried) {
            errors.invalid_text(&path.field("generateName"), base, &why);
        }
    }
    if name.is_empty() {
        errors.required(&path.field("name"), "name or generateName is required");
    } else {
        for why in name_rule(name) {
            errors.invalid_text(&path.field("name"), name, &why);
        }
    }
    let namespace = text(metadata, "namespace");
    if kind.namespaced {
        if namespace.is_empty() {
            errors.required(&path.field("namespace"), "");
        } else {
            for why in names::dns_label(namespace) {
                errors.invalid_text(&path.field("namespace"), namespace, &why);
            }
        }
    } else if !namespace.is_empty() {
        errors.forbidden(&path.field("namespace"), "not allowed on this type");
    }
    validate_labels(&metadata["labels"], &path.field("labels"), errors);
    validate_annotations(&metadata["annotations"], &path.field("annotations"), errors);
    validate_owners(&metadata["ownerReferences"], &path.field("ownerReferences"), errors);
    validate_finalizers(Finalizers::OfMetadata, &metadata["finalizers"], &path.field("finalizers"), errors);
}

/// Keys and values of a label map, wherever it stands.
pub(crate) fn validate_labels(labels: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (key, value) in entries(labels) {
        for why in names::qualified_name(key) {
            errors.invalid_text(path, key, &why);
        }
        let value = value.as_str().unwrap_or_default();
        for why in names::label_value(value) {
            errors.invalid_text(path, value, &why);
        }
    }
}

fn validate_annotations(annotations: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut total = 0;
    for (key, value) in entries(annotations) {
        for why in names::annotation_key(key) {
            errors.invalid_text(path, key, &why);
        }
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > MAX_ANNOTATION_BYTES {
        errors.too_long(path, MAX_ANNOTATION_BYTES);
    }
}

fn validate_owners(owners: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut controllers = vec![];
    for owner in items(owners) {
        // An event is gone after an hour, and what it owned with it.
        if text(owner, "kind") == "Event" && matches!(text(owner, "apiVersion"), "v1" | "events.k8s.io/v1") {
            let (group, version) = text(owner, "apiVersion").split_once('/').unwrap_or(("", "v1"));
            let why = format!("{group}/{version}, Kind=Event is disallowed from being an owner");
            errors.invalid(path, owner, &why);
        }
        if text(owner, "apiVersion").is_empty() {
            errors.invalid(&path.field("apiVersion"), &owner["apiVersion"], "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                errors.invalid(&path.field(field), &owner[field], "must not be empty");
            }
        }
        if owner["controller"] == true {
            controllers.push(format!("{}/{}", text(owner, "kind"), text(owner, "name")));
        }
    }
    if let [first, second, ..] = &controllers[..] {
        let why = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
        );
        errors.invalid(path, owners, &why);
    }
}

/// Which list of finalizers.
pub(crate) enum Finalizers {
    /// `metadata.finalizers`
    OfMetadata,
    /// `spec.finalizers` of a namespace
    OfNamespace,
}

pub(crate) fn validate_finalizers(kind: Finalizers, finalizers: &Value, path: &dyn Display, errors: &mut Errors) {
    let has = |name: &str| items(finalizers).iter().any(|f| f == name);
    for (at, finalizer) in items(finalizers).iter().enumerate() {
        let name = finalizer.as_str().unwrap_or_default();
        for why in names::qualified_name(name) {
            errors.invalid_text(path, name, &why);
        }
        if !name.contains('/') && !PLAIN_FINALIZERS.contains(&name) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            match kind {
                // Kubernetes names the item here, and not where a namespace has its own list.
                Finalizers::OfMetadata => errors.invalid_text(&format_args!("{path}[{at}]"), name, why),
                Finalizers::OfNamespace => errors.invalid_text(path, name, why),
            }
        }
    }
    if has("orphan") && has("foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.invalid(path, finalizers, why);
    }
}

/// The rules for a change of metadata.
pub(crate) fn validate_update(kind: &Kind, name_rule: Rule, new: &Value, old: &Value, errors: &mut Errors) {
    validate(kind, name_rule, new, errors);
    let (from, to) = (&old["metadata"], &new["metadata"]);
    if text(from, "deletionTimestamp").is_empty() {
        return;
    }
    let added: Vec<&Value> =
        items(&to["finalizers"]).iter().filter(|f| !items(&from["finalizers"]).contains(f)).collect();
    if !added.is_empty() {
        let names: Vec<&str> = added.iter().filter_map(|f| f.as_str()).collect();
        let why =
            format!("no new finalizers can be added if the object is being deleted, found new finalizers {names:?}");
        errors.forbidden(&"metadata.finalizers", &why);
    }
}
