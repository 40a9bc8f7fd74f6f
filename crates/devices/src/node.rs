//! What of a node decides which devices it reaches, and node selectors over it.

use k8s_openapi::api::{
    core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm},
    resource::v1::AllocationResult,
};

/// A node, as far as devices care.
#[derive(Clone, Copy)]
pub struct NodeFacts<'a> {
    pub name: &'a str,
    /// The value of a label.
    pub labels: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// Whether a pod on the node can use what was allocated: by the allocation's node selector. One that is not understood
/// reaches no node.
pub fn reaches(allocation: &AllocationResult, node: &NodeFacts<'_>) -> bool {
    match &allocation.node_selector {
        Some(selector) => matches(selector, node).unwrap_or(false),
        None => true,
    }
}

/// Whether a selector selects the node: one of its terms must. Says what is wrong with it if it is none.
pub(crate) fn matches(selector: &NodeSelector, node: &NodeFacts<'_>) -> Result<bool, String> {
    let mut found = false;
    for term in &selector.node_selector_terms {
        found |= term_matches(term, node)?;
    }
    Ok(found)
}

/// Whether all of a term's requirements hold. A term without any selects nothing.
fn term_matches(term: &NodeSelectorTerm, node: &NodeFacts<'_>) -> Result<bool, String> {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let mut holds = !(labels.is_empty() && fields.is_empty());
    for requirement in labels {
        holds &= requirement_holds(requirement, (node.labels)(&requirement.key))?;
    }
    for requirement in fields {
        if requirement.key != "metadata.name" {
            return Err(format!("\"{}\" is not a field that nodes are selected by", requirement.key));
        }
        holds &= requirement_holds(requirement, Some(node.name))?;
    }
    Ok(holds)
}

fn requirement_holds(requirement: &NodeSelectorRequirement, actual: Option<&str>) -> Result<bool, String> {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |actual: &str| values.iter().any(|value| value == actual);
    let number = |text: &str| text.parse::<i64>().ok();
    let wanted = || values.first().and_then(|value| number(value));
    Ok(match &*requirement.operator {
        "In" => actual.is_some_and(listed),
        "NotIn" => !actual.is_some_and(listed),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => actual.and_then(number).zip(wanted()).is_some_and(|(have, want)| have > want),
        "Lt" => actual.and_then(number).zip(wanted()).is_some_and(|(have, want)| have < want),
        other => return Err(format!("\"{other}\" is not a valid node selector operator")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, operator: &str, values: &[&str]) -> NodeSelectorRequirement {
        NodeSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
        }
    }

    #[test]
    fn a_selector_selects_by_labels_and_name() {
        let labels = |key: &str| match key {
            "zone" => Some("north"),
            "cores" => Some("8"),
            _ => None,
        };
        let node = NodeFacts { name: "a", labels: &labels };
        let check = |fields: &[NodeSelectorRequirement], labels: &[NodeSelectorRequirement], expected: bool| {
            let term =
                NodeSelectorTerm { match_expressions: Some(labels.to_vec()), match_fields: Some(fields.to_vec()) };
            let selector = NodeSelector { node_selector_terms: vec![NodeSelectorTerm::default(), term] };
            let allocation = AllocationResult { node_selector: Some(selector), ..Default::default() };
            assert_eq!(reaches(&allocation, &node), expected, "{allocation:?}");
        };
        check(&[], &[], false);
        check(&[requirement("metadata.name", "In", &["a"])], &[], true);
        check(&[requirement("metadata.name", "In", &["b"])], &[], false);
        check(&[requirement("spec.unschedulable", "In", &["a"])], &[], false);
        check(&[], &[requirement("zone", "In", &["south", "north"])], true);
        check(&[], &[requirement("zone", "NotIn", &["north"])], false);
        check(&[], &[requirement("none", "NotIn", &["north"])], true);
        check(&[], &[requirement("zone", "Exists", &[]), requirement("none", "DoesNotExist", &[])], true);
        check(&[], &[requirement("cores", "Gt", &["4"]), requirement("cores", "Lt", &["9"])], true);
        check(&[], &[requirement("zone", "Gt", &["4"])], false);
        check(&[], &[requirement("zone", "Near", &["north"])], false);
        assert!(reaches(&AllocationResult::default(), &node), "what is everywhere reaches every node");
    }
}
