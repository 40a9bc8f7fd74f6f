//! The rules for what decides where a pod runs: affinity, spread, tolerations, gates, groups and claims.

use std::collections::HashSet;

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    kinds::common::{validate_choice, validate_selector},
    names,
    value::{entries, items, text},
};

/// These parts of a pod spec.
pub(super) fn validate(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_claims(&spec["resourceClaims"], &path.field("resourceClaims"), errors);
    validate_affinity(&spec["affinity"], &path.field("affinity"), errors);
    validate_gates(&spec["schedulingGates"], &path.field("schedulingGates"), errors);
    if !items(&spec["schedulingGates"]).is_empty() && !text(spec, "nodeName").is_empty() {
        errors.forbidden(&path.field("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    let (list, constraints) = (path.field("topologySpreadConstraints"), items(&spec["topologySpreadConstraints"]));
    for (at, constraint) in constraints.iter().enumerate() {
        validate_spread(constraint, &constraints[at + 1..], &list.index(at), errors);
    }
    let list = path.field("tolerations");
    for (at, toleration) in items(&spec["tolerations"]).iter().enumerate() {
        validate_toleration(toleration, &list.index(at), errors);
    }
    let policies = ["Never", "PreemptLowerPriority"];
    validate_choice(&spec["preemptionPolicy"], &policies, &path.field("preemptionPolicy"), errors);
    validate_group(&spec["schedulingGroup"], &path.field("schedulingGroup"), errors);
}

fn validate_toleration(toleration: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (key, operator, value) = (text(toleration, "key"), text(toleration, "operator"), text(toleration, "value"));
    if !key.is_empty() {
        for why in names::qualified_name(key) {
            errors.invalid_text(&path.field("key"), key, &why);
        }
    } else if operator != "Exists" {
        let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.invalid(&path.field("operator"), &toleration["operator"], why);
    }
    let effect = text(toleration, "effect");
    if toleration["tolerationSeconds"].is_i64() && effect != "NoExecute" {
        errors.invalid(
            &path.field("effect"),
            &toleration["effect"],
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
    match operator {
        "" | "Equal" => {
            let problems = names::label_value(value);
            if !problems.is_empty() {
                errors.invalid_text(&path.field("operator"), value, &problems.join(";"));
            }
        }
        "Exists" if !value.is_empty() => {
            errors.invalid_text(&path.field("operator"), value, "value must be empty when `operator` is 'Exists'");
        }
        "Exists" => {}
        // Comparisons are a feature that is off in Kubernetes as it is delivered.
        "Lt" | "Gt" => {
            let known = ["Equal", "Exists", "Lt", "Gt"];
            errors.not_supported(&path.field("operator"), &toleration["operator"], &known);
        }
        _ => errors.not_supported(&path.field("operator"), &toleration["operator"], &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        validate_choice(
            &toleration["effect"],
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            &path.field("effect"),
            errors,
        );
    }
}

fn validate_affinity(affinity: &Value, path: &Path<'_>, errors: &mut Errors) {
    validate_node_affinity(&affinity["nodeAffinity"], &path.field("nodeAffinity"), errors);
    for field in ["podAffinity", "podAntiAffinity"] {
        let (pods, path) = (&affinity[field], path.field(field));
        let list = path.field("requiredDuringSchedulingIgnoredDuringExecution");
        for (at, term) in items(&pods["requiredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate() {
            validate_pod_term(term, &list.index(at), errors);
        }
        let list = path.field("preferredDuringSchedulingIgnoredDuringExecution");
        for (at, weighted) in items(&pods["preferredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate() {
            validate_weight(weighted, &list.index(at), errors);
            validate_pod_term(&weighted["podAffinityTerm"], &list.index(at).field("podAffinityTerm"), errors);
        }
    }
}

fn validate_node_affinity(node: &Value, path: &Path<'_>, errors: &mut Errors) {
    let required = path.field("requiredDuringSchedulingIgnoredDuringExecution");
    validate_node_selector(&node["requiredDuringSchedulingIgnoredDuringExecution"], &required, errors);
    let list = path.field("preferredDuringSchedulingIgnoredDuringExecution");
    for (at, preferred) in items(&node["preferredDuringSchedulingIgnoredDuringExecution"]).iter().enumerate() {
        let path = list.index(at);
        validate_weight(preferred, &path, errors);
        validate_node_term(&preferred["preference"], &path.field("preference"), errors);
    }
}

fn validate_weight(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    let weight = term["weight"].as_i64().unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.field("weight"), &weight.into(), "must be in the range 1-100");
    }
}

fn validate_pod_term(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    for field in ["labelSelector", "namespaceSelector"] {
        validate_selector(&term[field], &path.field(field), errors);
    }
    for name in items(&term["namespaces"]) {
        for why in names::dns_label(name.as_str().unwrap_or_default()) {
            errors.invalid(&path.field("namespace"), name, &why);
        }
    }
    validate_label_keys(term, path, errors);
    let (key, place) = (text(term, "topologyKey"), path.field("topologyKey"));
    if key.is_empty() {
        errors.required(&place, "can not be empty");
    }
    for why in names::qualified_name(key) {
        errors.invalid_text(&place, key, &why);
    }
}

/// Keys of the pod's own labels, whose values are asked for or against. They stand in the selector when this is looked at.
fn validate_label_keys(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    let selector = &term["labelSelector"];
    let [wanted, unwanted] = ["matchLabelKeys", "mismatchLabelKeys"].map(|field| items(&term[field]));
    for (field, keys) in [("matchLabelKeys", wanted), ("mismatchLabelKeys", unwanted)] {
        let list = path.field(field);
        if !keys.is_empty() && selector.is_null() {
            errors.forbidden(&list, "must not be specified when labelSelector is not set");
            continue;
        }
        for (at, key) in keys.iter().enumerate() {
            let key = key.as_str().unwrap_or_default();
            for why in names::qualified_name(key) {
                errors.invalid_text(&list.index(at), key, &why);
            }
        }
    }
    let mut asked: HashSet<&str> = entries(&selector["matchLabels"]).map(|(key, _)| key).collect();
    for expression in items(&selector["matchExpressions"]) {
        let key = text(expression, "key");
        let at = wanted.iter().position(|wanted| wanted == key);
        if let (Some(at), false) = (at, asked.insert(key)) {
            errors.invalid_text(&path.index(at), key, "exists in both matchLabelKeys and labelSelector");
        }
    }
    let list = path.field("matchLabelKeys");
    for (at, key) in wanted.iter().enumerate().filter(|(_, key)| unwanted.contains(key)) {
        errors.invalid(&list.index(at), key, "exists in both matchLabelKeys and mismatchLabelKeys");
    }
}

/// A selector of nodes, wherever it stands. Absent is fine here.
pub(crate) fn validate_node_selector(selector: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !selector.is_object() {
        return;
    }
    let list = path.field("nodeSelectorTerms");
    if items(&selector["nodeSelectorTerms"]).is_empty() {
        errors.required(&list, "must have at least one node selector term");
    }
    for (at, term) in items(&selector["nodeSelectorTerms"]).iter().enumerate() {
        validate_node_term(term, &list.index(at), errors);
    }
}

fn validate_node_term(term: &Value, path: &Path<'_>, errors: &mut Errors) {
    let list = path.field("matchExpressions");
    for (at, requirement) in items(&term["matchExpressions"]).iter().enumerate() {
        let path = list.index(at);
        let values = items(&requirement["values"]).len();
        match text(requirement, "operator") {
            "In" | "NotIn" if values == 0 => {
                errors.required(&path.field("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                errors.forbidden(
                    &path.field("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "Gt" | "Lt" if values != 1 => {
                errors
                    .required(&path.field("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => errors.invalid(&path.field("operator"), &requirement["operator"], "not a valid selector operator"),
        }
        for why in names::qualified_name(text(requirement, "key")) {
            errors.invalid_text(&path.field("key"), text(requirement, "key"), &why);
        }
        for (at, value) in items(&requirement["values"]).iter().enumerate() {
            for why in names::label_value(value.as_str().unwrap_or_default()) {
                errors.invalid(&path.field("values").index(at), value, &why);
            }
        }
    }
    let list = path.field("matchFields");
    for (at, requirement) in items(&term["matchFields"]).iter().enumerate() {
        validate_node_field(requirement, &list.index(at), errors);
    }
}

/// The name is the only field of a node that can be asked for.
fn validate_node_field(requirement: &Value, path: &Path<'_>, errors: &mut Errors) {
    let values = items(&requirement["values"]);
    match text(requirement, "operator") {
        "In" | "NotIn" if values.len() != 1 => {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.required(&path.field("values"), why);
        }
        "In" | "NotIn" => {}
        _ => errors.invalid(&path.field("operator"), &requirement["operator"], "not a valid selector operator"),
    }
    let key = text(requirement, "key");
    if key != "metadata.name" {
        errors.invalid_text(&path.field("key"), key, "not a valid field selector key");
        return;
    }
    for (at, value) in values.iter().enumerate() {
        for why in names::dns_subdomain(value.as_str().unwrap_or_default()) {
            errors.invalid(&path.field("values").index(at), value, &why);
        }
    }
}

fn validate_spread(constraint: &Value, others: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
    if skew <= 0 {
        errors.invalid(&path.field("maxSkew"), &skew.into(), "must be greater than zero");
    }
    let (key, action) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
    if key.is_empty() {
        errors.required(&path.field("topologyKey"), "can not be empty");
    }
    let known = ["DoNotSchedule", "ScheduleAnyway"];
    if !known.contains(&action) {
        errors.not_supported(&path.field("whenUnsatisfiable"), &constraint["whenUnsatisfiable"], &known);
    }
    let same = |other: &Value| text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == action;
    if others.iter().any(same) {
        let place = path.field("{topologyKey, whenUnsatisfiable}");
        errors.duplicate(&place, &format!("{{{key}, {action}}}").into());
    }
    if let Some(domains) = constraint["minDomains"].as_i64() {
        let place = path.field("minDomains");
        if domains <= 0 {
            errors.invalid(&place, &domains.into(), "must be greater than zero");
        }
        if action != "DoNotSchedule" {
            let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
            errors.invalid(&place, &domains.into(), &why);
        }
    }
    for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        validate_choice(&constraint[field], &["Honor", "Ignore"], &path.field(field), errors);
    }
    validate_label_keys(constraint, path, errors);
    validate_selector(&constraint["labelSelector"], &path.field("labelSelector"), errors);
}

fn validate_gates(gates: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (at, gate) in items(gates).iter().enumerate() {
        let name = text(gate, "name");
        for why in names::qualified_name(name) {
            errors.invalid_text(&path.index(at), name, &why);
        }
        if !seen.insert(name) {
            errors.duplicate(&path.index(at), &name.into());
        }
    }
}

fn validate_group(group: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !group.is_object() {
        return;
    }
    let place = path.field("podGroupName");
    let Some(name) = group["podGroupName"].as_str() else {
        errors.null_or_invalid(&place, &Value::Null, "must specify one of: `podGroupName`");
        return;
    };
    for why in names::dns_subdomain(name) {
        errors.invalid_text(&place, name, &why);
    }
}

/// The claims for devices that containers may name.
fn validate_claims(claims: &Value, path: &Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (at, claim) in items(claims).iter().enumerate() {
        let path = path.index(at);
        let (name, place) = (text(claim, "name"), path.field("name"));
        if name.is_empty() {
            errors.required(&place, "");
        } else if !seen.insert(name) {
            errors.duplicate(&place, &claim["name"]);
        } else {
            for why in names::dns_label(name) {
                errors.invalid_text(&place, name, &why);
            }
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        match sources.iter().filter(|field| claim[**field].is_string()).count() {
            0 => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid_as(&path, &internal_form(claim), why);
            }
            1 => {}
            _ => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid_as(&path, &internal_form(claim), why);
            }
        }
        for field in sources {
            let name = claim[field].as_str().into_iter().flat_map(names::dns_subdomain);
            name.for_each(|why| errors.invalid_text(&path.field(field), text(claim, field), &why));
        }
    }
}

/// Kubernetes shows a claim as its own code names the fields.
fn internal_form(claim: &Value) -> String {
    format!(
        r#"{{"Name":{:?},"ResourceClaimName":{},"ResourceClaimTemplateName":{}}}"#,
        text(claim, "name"),
        claim["resourceClaimName"],
        claim["resourceClaimTemplateName"],
    )
}
