//! Deployment.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{common, pod_spec, pod_template};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    meta,
    table::Column,
    value::{copy, default, int_or_percent, object_mut, set, text},
};

pub(crate) struct Deployment;

impl Strategy for Deployment {
    fn default(&self, object: &mut Value) {
        let spec = object_mut(object, "spec");
        default(spec, "replicas", 1);
        default(spec, "revisionHistoryLimit", 10);
        default(spec, "progressDeadlineSeconds", 600);
        pod_spec::default_template(object_mut(spec, "template"));
        let strategy = object_mut(spec, "strategy");
        default(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate" {
            let rolling = object_mut(strategy, "rollingUpdate");
            default(rolling, "maxUnavailable", "25%");
            default(rolling, "maxSurge", "25%");
        }
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object, "status", json!({}));
        set(object_mut(object, "metadata"), "generation", 1);
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
        meta::bump_generation(new, old);
        // A rollback is asked for by an annotation, so that a change of these counts as well.
        let same = new["spec"] == old["spec"];
        if same && new["metadata"]["annotations"] != old["metadata"]["annotations"] {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            set(object_mut(new, "metadata"), "generation", generation + 1);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        for field in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
            common::validate_non_negative(&spec[field], &path.field(field), errors);
        }
        pod_template::validate_selector(object, "deployment", errors);
        pod_spec::validate_template(&spec["template"], &path.field("template"), errors);
        pod_template::validate_always_restarts(object, "ReplicaSet", errors);
        validate_strategy(&spec["strategy"], &path.field("strategy"), errors);
        let deadline = spec["progressDeadlineSeconds"].as_i64();
        if deadline.is_some_and(|seconds| seconds <= spec["minReadySeconds"].as_i64().unwrap_or(0)) {
            let why = "must be greater than minReadySeconds";
            errors.invalid(&path.field("progressDeadlineSeconds"), &spec["progressDeadlineSeconds"], why);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::root("spec");
        common::validate_immutable(&new["spec"]["selector"], &old["spec"]["selector"], &path.field("selector"), errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (status, path) = (&new["status"], Path::root("status"));
        for field in ["observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
            common::validate_non_negative(&status[field], &path.field(field), errors);
        }
        let count = |field: &str| status[field].as_i64().unwrap_or(0);
        for field in ["updatedReplicas", "readyReplicas", "availableReplicas"] {
            if count(field) > count("replicas") {
                errors.invalid(&path.field(field), &status[field], "cannot be greater than status.replicas");
            }
        }
        if count("observedGeneration") < old["status"]["observedGeneration"].as_i64().unwrap_or(0) {
            errors.invalid(&path.field("observedGeneration"), &status["observedGeneration"], "must not be decremented");
        }
    }

    fn status_keeps(&self) -> &'static [&'static str] {
        &["labels"]
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text("Ready", "Number of the pod with ready state"),
                Column::integer(
                    "Up-to-date",
                    "Total number of non-terminating pods targeted by this deployment that have the desired template spec.",
                ),
                Column::integer(
                    "Available",
                    "Total number of available non-terminating pods (ready for at least minReadySeconds) targeted by this deployment.",
                ),
                Column::AGE,
                pod_template::CONTAINERS,
                pod_template::IMAGES,
                pod_template::SELECTOR,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let status = &object["status"];
        let ready = status["readyReplicas"].as_i64().unwrap_or(0);
        let wanted = object["spec"]["replicas"].as_i64().unwrap_or(0);
        let [containers, images, selector] = pod_template::wide_cells(object);
        vec![
            common::name(object),
            format!("{ready}/{wanted}").into(),
            common::number(&status["updatedReplicas"]),
            common::number(&status["availableReplicas"]),
            common::age(object, now),
            containers,
            images,
            selector,
        ]
    }
}

fn validate_strategy(strategy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rolling = &strategy["rollingUpdate"];
    let place = path.field("rollingUpdate");
    match text(strategy, "type") {
        "Recreate" => {
            if rolling.is_object() {
                errors.forbidden(&place, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => {
            let mut zero = true;
            for field in ["maxUnavailable", "maxSurge"] {
                match int_or_percent(&rolling[field]) {
                    Some((number, _)) if number < 0 => {
                        errors.invalid(&place.field(field), &rolling[field], "must be greater than or equal to 0");
                    }
                    Some((number, true)) if number > 100 && field == "maxUnavailable" => {
                        errors.invalid(&place.field(field), &rolling[field], "must not be greater than 100%");
                    }
                    Some((number, _)) => zero &= number == 0,
                    None => {
                        let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                        errors.invalid(&place.field(field), &rolling[field], why);
                        zero = false;
                    }
                }
            }
            if zero {
                let why = "may not be 0 when `maxSurge` is 0";
                errors.invalid(&place.field("maxUnavailable"), &rolling["maxUnavailable"], why);
            }
        }
        _ => errors.not_supported(&path.field("type"), &strategy["type"], &["Recreate", "RollingUpdate"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::remove;

    fn errors_of(change: impl Fn(&mut Value)) -> Vec<String> {
        let mut object = json!({"metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "a", "image": "b"}]},
            },
        }});
        change(&mut object["spec"]);
        Deployment.default(&mut object);
        let mut errors = Errors::default();
        Deployment.validate(&object, &mut errors);
        errors.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_speak_kubernetes_words() {
        assert_eq!(errors_of(|_| {}), Vec::<String>::new());
        assert_eq!(
            errors_of(|spec| spec["template"]["metadata"]["labels"]["app"] = "other".into()),
            [
                "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`"
            ]
        );
        assert_eq!(
            errors_of(|spec| {
                remove(spec, "selector");
            }),
            [
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`"
            ]
        );
        assert_eq!(
            errors_of(|spec| spec["template"]["spec"]["containers"][0]["image"] = "".into()),
            ["spec.template.spec.containers[0].image: Required value"]
        );
        assert_eq!(
            errors_of(|spec| spec["template"]["spec"]["restartPolicy"] = "Never".into()),
            ["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""]
        );
        assert_eq!(
            errors_of(|spec| spec["replicas"] = (-1).into()),
            ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]
        );
    }
}
