//! Rules for the node affinity that a profile adds to its pods'.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use super::names;
use crate::{
    field::{FieldError, Path},
    v1::NodeAffinityArgs,
};

const OPERATORS: [&str; 6] = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];

pub fn node_affinity(path: &Path, args: &NodeAffinityArgs, errors: &mut Vec<FieldError>) {
    let Some(affinity) = &args.added_affinity else { return };
    let path = path.child("addedAffinity");
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        let path = path.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        for (index, one) in required.node_selector_terms.iter().enumerate() {
            term(&path.index(index), one, errors);
        }
    }
    let path = path.child("preferredDuringSchedulingIgnoredDuringExecution");
    for (index, preferred) in affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate()
    {
        // One that counts nothing is never looked at.
        if preferred.weight != 0 {
            term(&path.index(index), &preferred.preference, errors);
        }
    }
}

fn term(path: &Path, term: &NodeSelectorTerm, errors: &mut Vec<FieldError>) {
    for (index, one) in term.match_expressions.iter().flatten().enumerate() {
        expression(&path.child("matchExpressions").index(index), one, errors);
    }
    for (index, field) in term.match_fields.iter().flatten().enumerate() {
        let path = path.child("matchFields").index(index);
        let values = field.values.as_deref().unwrap_or_default();
        if !OPERATORS[..2].contains(&field.operator.as_str()) {
            errors.push(FieldError::unsupported(&path.child("operator"), &field.operator, &OPERATORS[..2]));
        } else if values.len() != 1 {
            errors.push(FieldError::invalid(&path.child("values"), &field.values, "must have one element"));
        }
    }
}

fn expression(path: &Path, expression: &NodeSelectorRequirement, errors: &mut Vec<FieldError>) {
    let values = expression.values.as_deref().unwrap_or_default();
    let at = path.child("values");
    let wrong = match expression.operator.as_str() {
        "In" | "NotIn" => values.is_empty().then_some("for 'in', 'notin' operators, values set can't be empty"),
        "Exists" | "DoesNotExist" => {
            (!values.is_empty()).then_some("values set must be empty for exists and does not exist")
        }
        "Gt" | "Lt" => (values.len() != 1).then_some("for 'Gt', 'Lt' operators, exactly one value is required"),
        other => {
            errors.push(FieldError::unsupported(&path.child("operator"), other, &OPERATORS));
            return;
        }
    };
    let key = names::qualified(&expression.key);
    if !key.is_empty() {
        errors.push(FieldError::invalid(&path.child("key"), &expression.key, &key.join("; ")));
    }
    if let Some(detail) = wrong {
        errors.push(FieldError::invalid(&at, &expression.values, detail));
    }
    for (index, value) in values.iter().enumerate() {
        if matches!(expression.operator.as_str(), "Gt" | "Lt") && value.parse::<i64>().is_err() {
            let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
            errors.push(FieldError::invalid(&at.index(index), value, detail));
        }
    }
    for (index, value) in values.iter().enumerate() {
        let told = names::label_value(value);
        if !told.is_empty() {
            errors.push(FieldError::invalid(&at.index(index).key(&expression.key), value, &told.join("; ")));
        }
    }
}
