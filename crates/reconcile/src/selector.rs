//! Label selectors.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

pub type Labels = BTreeMap<String, String>;

/// Whether the selector says nothing, and so would select everything.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether `labels` satisfy the selector; an empty one is satisfied by all, an unknown operator by none.
pub fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    selector.match_labels.as_ref().is_none_or(|wanted| contains(wanted, labels))
        && selector.match_expressions.as_deref().unwrap_or_default().iter().all(|one| satisfies(one, labels))
}

/// Whether `labels` have every pair of `wanted`.
pub fn contains(wanted: &Labels, labels: Option<&Labels>) -> bool {
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

fn satisfies(requirement: &LabelSelectorRequirement, labels: Option<&Labels>) -> bool {
    let value = labels.and_then(|labels| labels.get(&requirement.key));
    let listed = |value: &String| requirement.values.as_deref().unwrap_or_default().contains(value);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(selector: serde_json::Value, labels: &[(&str, &str)], expected: bool) {
        let parsed: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
        let labels: Labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        assert_eq!(matches(&parsed, Some(&labels)), expected, "{selector} on {labels:?}");
    }

    #[test]
    fn selectors() {
        check(json!({}), &[], true);
        check(json!({"matchLabels": {"a": "1"}}), &[("a", "1"), ("b", "2")], true);
        check(json!({"matchLabels": {"a": "1"}}), &[("a", "2")], false);
        check(json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}), &[("a", "2")], true);
        check(json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}), &[], false);
        check(json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}), &[], true);
        check(json!({"matchExpressions": [{"key": "a", "operator": "Exists"}]}), &[("a", "")], true);
        check(json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}), &[("a", "")], false);
        check(json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}), &[("a", "2")], false);
    }
}
