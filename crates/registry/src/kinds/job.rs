//! Job: its selector is made from its uid, unless it says that it brings its own.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{common, pod_spec, pod_template};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    meta,
    scalar::parse_time,
    table::{Column, duration},
    value::{copy, default, items, items_mut, object_mut, set, text},
};

pub(crate) struct Job;

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
/// Where these labels stood before they had a domain; still written, as old clients look there.
const OLD_UID_LABEL: &str = "controller-uid";
const OLD_NAME_LABEL: &str = "job-name";

impl Strategy for Job {
    fn default(&self, object: &mut Value) {
        let labels = object["metadata"]["labels"].clone();
        let spec = object_mut(object, "spec");
        if spec["completions"].is_null() && spec["parallelism"].is_null() {
            default(spec, "completions", 1);
        }
        default(spec, "parallelism", 1);
        let per_index = spec["backoffLimitPerIndex"].is_i64();
        default(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
        default(spec, "completionMode", "NonIndexed");
        default(spec, "suspend", false);
        let replaces = if spec["podFailurePolicy"].is_null() { "TerminatingOrFailed" } else { "Failed" };
        default(spec, "podReplacementPolicy", replaces);
        default(spec, "manualSelector", false);
        if let Some(policy) = spec.get_mut("podFailurePolicy") {
            for rule in items_mut(policy, "rules") {
                for pattern in items_mut(rule, "onPodConditions") {
                    default(pattern, "status", "True");
                }
            }
        }
        let template = object_mut(spec, "template");
        if template["metadata"]["labels"].is_null() && labels.is_object() {
            set(object_mut(template, "metadata"), "labels", labels);
        }
        pod_spec::default_template(template);
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object, "status", json!({}));
        set(object_mut(object, "metadata"), "generation", 1);
        if object["spec"]["manualSelector"] != true {
            generate_selector(object);
        }
        if object["metadata"]["labels"].is_null() {
            let labels = object["spec"]["template"]["metadata"]["labels"].clone();
            set(object_mut(object, "metadata"), "labels", labels);
        }
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
        let spec = object_mut(new, "spec");
        for field in ["selector", "manualSelector"] {
            if spec[field].is_null() {
                copy(spec, &old["spec"], field);
            }
        }
        meta::bump_generation(new, old);
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let (spec, path) = (&object["spec"], Path::root("spec"));
        for field in ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"]
        {
            common::validate_non_negative(&spec[field], &path.field(field), errors);
        }
        common::validate_choice(
            &spec["completionMode"],
            &["NonIndexed", "Indexed"],
            &path.field("completionMode"),
            errors,
        );
        if text(spec, "completionMode") == "Indexed" && spec["completions"].is_null() {
            errors.required(&path.field("completions"), "when completion mode is Indexed");
        }
        let replaces = ["Failed", "TerminatingOrFailed"];
        let place = path.field("podReplacementPolicy");
        common::validate_choice(&spec["podReplacementPolicy"], &replaces, &place, errors);
        if text(spec, "completionMode") != "Indexed" {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if spec[field].is_i64() {
                    errors.invalid(&path.field(field), &spec[field], "requires indexed completion mode");
                }
            }
        }
        let uid = text(&object["metadata"], "uid");
        if spec["manualSelector"] != true && spec["selector"]["matchLabels"][UID_LABEL] != uid {
            errors.invalid(&path.field("selector"), &spec["selector"], "`selector` not auto-generated");
        }
        pod_template::validate_selector(object, "job", errors);
        let template = path.field("template");
        pod_spec::validate_template(&spec["template"], &template, errors);
        let restart = &spec["template"]["spec"]["restartPolicy"];
        if restart == "Always" {
            let spec = template.field("spec");
            errors.required(&spec.field("restartPolicy"), "valid values: \"OnFailure\", \"Never\"");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let path = Path::root("spec");
        let (to, from) = (&new["spec"], &old["spec"]);
        for field in ["selector", "completionMode"] {
            common::validate_immutable(&to[field], &from[field], &path.field(field), errors);
        }
        if text(to, "completionMode") != "Indexed" {
            common::validate_immutable(&to["completions"], &from["completions"], &path.field("completions"), errors);
        }
        // While a job that never ran is suspended, where its pods may run can still be said.
        let open = from["suspend"] == true && old["status"]["startTime"].is_null();
        let mut expected = from["template"].clone();
        if open {
            for field in ["affinity", "nodeSelector", "tolerations", "schedulingGates"] {
                copy(object_mut(&mut expected, "spec"), &to["template"]["spec"], field);
            }
            for field in ["labels", "annotations"] {
                copy(object_mut(&mut expected, "metadata"), &to["template"]["metadata"], field);
            }
        }
        common::validate_immutable(&to["template"], &expected, &path.field("template"), errors);
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.successful"]
    }

    fn field(&self, object: &Value, _field: &str) -> String {
        object["status"]["succeeded"].as_i64().unwrap_or(0).to_string()
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text("Status", "Status of the job."),
                Column::text("Completions", "Number of completed pods, and of those wanted."),
                Column::text("Duration", "Time required to complete the job."),
                Column::AGE,
                pod_template::CONTAINERS,
                pod_template::IMAGES,
                pod_template::SELECTOR,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let succeeded = status["succeeded"].as_i64().unwrap_or(0);
        let completions = match (spec["completions"].as_i64(), spec["parallelism"].as_i64().unwrap_or(0)) {
            (Some(wanted), _) => format!("{succeeded}/{wanted}"),
            (None, parallel @ 2..) => format!("{succeeded}/1 of {parallel}"),
            (None, _) => format!("{succeeded}/1"),
        };
        let end = parse_time(text(status, "completionTime")).unwrap_or(now).as_second();
        let took = parse_time(text(status, "startTime")).map(|start| duration(end - start.as_second()));
        let [containers, images, selector] = pod_template::wide_cells(object);
        vec![
            common::name(object),
            state(object).into(),
            completions.into(),
            took.unwrap_or_default().into(),
            common::age(object, now),
            containers,
            images,
            selector,
        ]
    }
}

/// Labels the template with the job's uid and name, and selects by the uid.
fn generate_selector(object: &mut Value) {
    let uid = text(&object["metadata"], "uid").to_owned();
    let name = text(&object["metadata"], "name").to_owned();
    let spec = object_mut(object, "spec");
    let labels = object_mut(object_mut(object_mut(spec, "template"), "metadata"), "labels");
    for (key, value) in [(UID_LABEL, &uid), (OLD_UID_LABEL, &uid), (NAME_LABEL, &name), (OLD_NAME_LABEL, &name)] {
        set(labels, key, value.as_str());
    }
    // A selector that the client sent is kept, so that validation can refuse it.
    if spec["selector"].is_null() {
        set(spec, "selector", json!({"matchLabels": {UID_LABEL: uid}}));
    }
}

fn state(object: &Value) -> &'static str {
    let holds =
        |kind: &str| items(&object["status"]["conditions"]).iter().any(|c| c["type"] == kind && c["status"] == "True");
    let named = ["Complete", "Failed"].into_iter().find(|kind| holds(kind));
    let deleting = !text(&object["metadata"], "deletionTimestamp").is_empty();
    let later = ["Suspended", "FailureTarget", "SuccessCriteriaMet"].into_iter().find(|kind| holds(kind));
    named.or(deleting.then_some("Terminating")).or(later).unwrap_or("Running")
}
