//! StatefulSet.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{common, persistentvolumeclaim as claim, pod_spec, pod_template};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    meta,
    names::{self, Rule},
    selector::LabelSelector,
    table::Column,
    value::{copy, default, entries, items, items_mut, object_mut, remove, set, text},
};

pub(crate) struct StatefulSet;

/// What of the spec may change.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const COUNTS: [&str; 4] = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];

impl Strategy for StatefulSet {
    fn default(&self, object: &mut Value) {
        let spec = object_mut(object, "spec");
        default(spec, "podManagementPolicy", "OrderedReady");
        default(spec, "serviceName", "");
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        let strategy = object_mut(spec, "updateStrategy");
        if text(strategy, "type").is_empty() {
            set(strategy, "type", "RollingUpdate");
            object_mut(strategy, "rollingUpdate");
        }
        if text(strategy, "type") == "RollingUpdate" && strategy["rollingUpdate"].is_object() {
            default(object_mut(strategy, "rollingUpdate"), "partition", 0);
        }
        let retention = object_mut(spec, "persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            default(retention, field, "Retain");
        }
        pod_spec::default_template(object_mut(spec, "template"));
        for template in items_mut(spec, "volumeClaimTemplates") {
            default(template, "kind", "PersistentVolumeClaim");
            default(template, "apiVersion", "v1");
            object_mut(template, "metadata");
            claim::default_spec(object_mut(template, "spec"));
            default(object_mut(template, "status"), "phase", "Pending");
        }
        common::default_zeros(object_mut(object, "status"), &["replicas", "availableReplicas"]);
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object, "status", json!({"replicas": 0, "availableReplicas": 0}));
        set(object_mut(object, "metadata"), "generation", 1);
        drop_unserved(object);
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
        drop_unserved(new);
        meta::bump_generation(new, old);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        let policy = text(spec, "podManagementPolicy");
        if !matches!(policy, "OrderedReady" | "Parallel") {
            let why = "must be 'OrderedReady' or 'Parallel'";
            errors.invalid_text(&path.field("podManagementPolicy"), policy, why);
        }
        validate_strategy(&spec["updateStrategy"], &path.field("updateStrategy"), errors);
        let retention = path.field("persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            let policy = &spec["persistentVolumeClaimRetentionPolicy"][field];
            common::validate_choice(policy, &["Retain", "Delete"], &retention.field(field), errors);
        }
        for field in ["replicas", "minReadySeconds"] {
            common::validate_non_negative(&spec[field], &path.field(field), errors);
        }
        common::validate_non_negative(&spec["ordinals"]["start"], &path.field("ordinals.start"), errors);
        validate_selector(spec, &path, errors);
        validate_template(spec, &path.field("template"), errors);
        pod_template::validate_always_restarts(object, "StatefulSet", errors);
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        // Neither may change later, and so later they are not looked at.
        let list = path.field("volumeClaimTemplates");
        for (at, template) in items(&spec["volumeClaimTemplates"]).iter().enumerate() {
            claim::validate_spec(&template["spec"], &list.index(at).field("spec"), errors);
        }
        let service = text(spec, "serviceName");
        if !service.is_empty() {
            for why in names::dns_label(service) {
                errors.invalid_text(&path.field("serviceName"), service, &why);
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let fixed = |object: &Value| {
            let mut spec = object["spec"].clone();
            for field in MUTABLE {
                remove(&mut spec, field);
            }
            spec
        };
        if fixed(new) != fixed(old) {
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
            errors.forbidden(&"spec", why);
        }
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (status, path) = (&new["status"], Path::root("status"));
        let count = |field: &str| status[field].as_i64().unwrap_or(0);
        for field in ["replicas"].into_iter().chain(COUNTS).chain(["observedGeneration", "collisionCount"]) {
            common::validate_non_negative(&status[field], &path.field(field), errors);
        }
        for field in COUNTS.into_iter().filter(|field| count(field) > count("replicas")) {
            errors.invalid(&path.field(field), &status[field], "cannot be greater than status.replicas");
        }
        if count("availableReplicas") > count("readyReplicas") {
            let why = "cannot be greater than status.readyReplicas";
            errors.invalid(&path.field("availableReplicas"), &status["availableReplicas"], why);
        }
        let before = old["status"]["collisionCount"].as_i64();
        if before.is_some_and(|before| count("collisionCount") < before) {
            errors.invalid(&path.field("collisionCount"), &count("collisionCount").into(), "cannot be decremented");
        }
    }

    fn name_rule(&self) -> Rule {
        names::dns_label
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text("Ready", "Number of the pod with ready state"),
                Column::AGE,
                pod_template::CONTAINERS,
                pod_template::IMAGES,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let ready = object["status"]["readyReplicas"].as_i64().unwrap_or(0);
        let wanted = object["spec"]["replicas"].as_i64().unwrap_or(0);
        let [containers, images, _] = pod_template::wide_cells(object);
        vec![common::name(object), format!("{ready}/{wanted}").into(), common::age(object, now), containers, images]
    }
}

/// A field whose feature is off in Kubernetes as it is delivered.
fn drop_unserved(object: &mut Value) {
    let strategy = object_mut(object_mut(object, "spec"), "updateStrategy");
    if let Some(rolling) = strategy.get_mut("rollingUpdate") {
        remove(rolling, "maxUnavailable");
    }
}

fn validate_strategy(strategy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (rolling, place) = (&strategy["rollingUpdate"], path.field("rollingUpdate"));
    match text(strategy, "type") {
        "OnDelete" if rolling.is_object() => {
            errors.invalid(&place, rolling, "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            common::validate_non_negative(&rolling["partition"], &place.field("partition"), errors);
        }
        _ => errors.invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

fn validate_selector(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (selector, path) = (&spec["selector"], path.field("selector"));
    if selector.is_null() {
        errors.required(&path, "");
        return;
    }
    common::validate_selector(selector, &path, errors);
    if entries(&selector["matchLabels"]).next().is_none() && items(&selector["matchExpressions"]).is_empty() {
        errors.invalid(&path, selector, "empty selector is invalid for statefulset");
    }
}

/// The template as its pods will be: with a volume for each claim, and with a host name of their own.
fn validate_template(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (selector, mut template) = (&spec["selector"], spec["template"].clone());
    if !common::is_selector(selector) {
        errors.invalid(&"spec.selector", selector, "");
        return;
    }
    let labels = &spec["template"]["metadata"]["labels"];
    // No selector selects nothing, and an empty one is refused already.
    if selector.is_null() || !LabelSelector::from_object(selector).matches_map(labels) {
        let metadata = path.field("metadata");
        errors.null_or_invalid(&metadata.field("labels"), labels, "`selector` does not match template `labels`");
    }
    let claims: Vec<&str> =
        items(&spec["volumeClaimTemplates"]).iter().map(|template| text(&template["metadata"], "name")).collect();
    let pod = object_mut(&mut template, "spec");
    for field in ["subdomain", "hostname"] {
        remove(pod, field);
    }
    let mut volumes: Vec<Value> =
        claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})).collect();
    volumes.extend(items(&pod["volumes"]).iter().filter(|volume| !claims.contains(&text(volume, "name"))).cloned());
    set(pod, "volumes", volumes);
    pod_spec::validate_template(&template, path, errors);
}
