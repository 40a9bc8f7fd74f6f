//! What Kubernetes v1 fills into a pod spec.

use serde_json::{Value, json};

use crate::{
    kinds::persistentvolumeclaim::default_spec as default_claim,
    value::{default, default_zero, items_mut, object_mut, set, text},
};

/// The mode of projected files: 0644.
const DEFAULT_MODE: i64 = 420;

/// Completes `spec.template` of a workload.
pub(crate) fn default_template(template: &mut Value) {
    default_spec(object_mut(template, "spec"));
    // Go writes this field of a template even when it is not set; clients that compare expect it.
    default_metadata(template);
}

fn default_metadata(template: &mut Value) {
    if !template["metadata"].is_object() {
        set(template, "metadata", json!({}));
    }
}

/// Completes a pod spec.
pub(crate) fn default_spec(spec: &mut Value) {
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "restartPolicy", "Always");
    default(spec, "terminationGracePeriodSeconds", 30);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        set(spec, "terminationGracePeriodSeconds", 1);
    }
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "securityContext", json!({}));
    default_service_account(spec);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        items_mut(spec, list).for_each(default_container);
    }
    for volume in items_mut(spec, "volumes") {
        default_volume(volume);
    }
}

/// The older name of the field follows the newer one.
fn default_service_account(spec: &mut Value) {
    let (name, older) = (text(spec, "serviceAccountName"), text(spec, "serviceAccount"));
    match (name.is_empty(), older.is_empty()) {
        (false, _) if name != older => {
            let name = name.to_owned();
            set(spec, "serviceAccount", name);
        }
        (true, false) => {
            let older = older.to_owned();
            set(spec, "serviceAccountName", older);
        }
        _ => {}
    }
}

fn default_container(container: &mut Value) {
    let policy = if pulls_always(text(container, "image")) { "Always" } else { "IfNotPresent" };
    default(container, "imagePullPolicy", policy);
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    default(container, "resources", json!({}));
    for port in items_mut(container, "ports") {
        default(port, "protocol", "TCP");
    }
    for variable in items_mut(container, "env") {
        if let Some(source) = variable.get_mut("valueFrom") {
            default_field_ref(source);
            if let Some(key) = source.get_mut("fileKeyRef") {
                default(key, "optional", false);
            }
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            default_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(hook) = container.get_mut("lifecycle").and_then(|l| l.get_mut(hook)) {
            default_http_get(hook);
        }
    }
}

/// An image whose tag is `latest`, said or unsaid, may be another one tomorrow.
fn pulls_always(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !digest,
    }
}

fn default_probe(probe: &mut Value) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        default_zero(probe, field, value);
    }
    default_http_get(probe);
    if let Some(grpc) = probe.get_mut("grpc") {
        default(grpc, "service", "");
    }
}

fn default_http_get(handler: &mut Value) {
    if let Some(http) = handler.get_mut("httpGet") {
        default(http, "path", "/");
        default(http, "scheme", "HTTP");
    }
}

fn default_field_ref(source: &mut Value) {
    if let Some(field) = source.get_mut("fieldRef") {
        default(field, "apiVersion", "v1");
    }
    if let Some(resource) = source.get_mut("resourceFieldRef") {
        default(resource, "divisor", "0");
    }
}

fn default_volume(volume: &mut Value) {
    if volume.as_object().is_some_and(|fields| fields.keys().all(|key| key == "name")) {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source) {
            default(source, "defaultMode", DEFAULT_MODE);
        }
    }
    if let Some(path) = volume.get_mut("hostPath") {
        default(path, "type", "");
    }
    if let Some(downward) = volume.get_mut("downwardAPI") {
        items_mut(downward, "items").for_each(default_field_ref);
    }
    if let Some(projected) = volume.get_mut("projected") {
        for source in items_mut(projected, "sources") {
            if let Some(token) = source.get_mut("serviceAccountToken") {
                default(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = source.get_mut("downwardAPI") {
                items_mut(downward, "items").for_each(default_field_ref);
            }
        }
    }
    if let Some(iscsi) = volume.get_mut("iscsi") {
        default(iscsi, "iscsiInterface", "default");
    }
    if let Some(claim) = volume.get_mut("ephemeral").and_then(|e| e.get_mut("volumeClaimTemplate")) {
        default_claim(object_mut(claim, "spec"));
        object_mut(claim, "metadata");
    }
    if let Some(image) = volume.get_mut("image") {
        let policy = if pulls_always(text(image, "reference")) { "Always" } else { "IfNotPresent" };
        default(image, "pullPolicy", policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_tag_is_pulled_always() {
        for (image, always) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1.27", false),
            ("localhost:5000/nginx", true),
            ("localhost:5000/a/nginx:2", false),
            ("nginx@sha256:0", false),
            ("nginx:latest@sha256:0", true),
        ] {
            assert_eq!(pulls_always(image), always, "{image}");
        }
    }
}
