//! Node selector terms: requirements on labels and on the node's name.

use std::sync::Arc;

use crate::Node;

/// One term: every requirement must hold. A term without any matches no node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Term {
    pub requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub field: Field,
    pub operator: Operator,
    pub values: Vec<Arc<str>>,
}

/// What of the node is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    Label(Arc<str>),
    /// `metadata.name`, the only field that there is.
    Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

impl Term {
    pub fn matches(&self, node: &Node) -> bool {
        !self.requirements.is_empty() && self.requirements.iter().all(|requirement| requirement.matches(node))
    }
}

impl Requirement {
    fn matches(&self, node: &Node) -> bool {
        let actual = match &self.field {
            Field::Label(key) => node.label(key).map(|value| &**value),
            Field::Name => Some(&*node.name),
        };
        let listed = |actual: &str| self.values.iter().any(|value| **value == *actual);
        let number = |text: &str| text.parse::<i64>().ok();
        let wanted = || self.values.first().and_then(|value| number(value));
        match self.operator {
            Operator::In => actual.is_some_and(listed),
            Operator::NotIn => !actual.is_some_and(listed),
            Operator::Exists => actual.is_some(),
            Operator::DoesNotExist => actual.is_none(),
            Operator::Gt => actual.and_then(number).zip(wanted()).is_some_and(|(have, want)| have > want),
            Operator::Lt => actual.and_then(number).zip(wanted()).is_some_and(|(have, want)| have < want),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_mean_what_kubernetes_means() {
        let node = Node {
            name: "a".into(),
            labels: vec![("cores".into(), "8".into()), ("zone".into(), "north".into())],
            ..Default::default()
        };
        let check = |field: Field, operator: Operator, values: &[&str], expected: bool| {
            let values = values.iter().map(|value| (*value).into()).collect();
            let term = Term { requirements: vec![Requirement { field, operator, values }] };
            assert_eq!(term.matches(&node), expected, "{term:?}");
        };
        let label = |key: &str| Field::Label(key.into());
        check(label("zone"), Operator::In, &["south", "north"], true);
        check(label("zone"), Operator::NotIn, &["north"], false);
        check(label("none"), Operator::In, &["north"], false);
        check(label("none"), Operator::NotIn, &["north"], true);
        check(label("zone"), Operator::Exists, &[], true);
        check(label("none"), Operator::DoesNotExist, &[], true);
        check(label("cores"), Operator::Gt, &["4"], true);
        check(label("cores"), Operator::Lt, &["8"], false);
        check(label("zone"), Operator::Gt, &["4"], false);
        check(Field::Name, Operator::In, &["a"], true);
        assert!(!Term::default().matches(&node));
    }
}
