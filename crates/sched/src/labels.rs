//! Labels of pods and namespaces, and the selectors over them (labels.Selector of apimachinery).

use std::sync::Arc;

/// Labels, sorted by key.
pub type Labels = Vec<(Arc<str>, Arc<str>)>;

/// The value of one label.
pub fn value<'a>(labels: &'a Labels, key: &str) -> Option<&'a Arc<str>> {
    let found = labels.binary_search_by(|(known, _)| (**known).cmp(key));
    found.ok().map(|at| &labels[at].1)
}

/// A label selector: every requirement must hold, so that one without any matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    pub requirements: Vec<LabelRequirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelRequirement {
    pub key: Arc<str>,
    pub operator: LabelOperator,
    /// Sorted.
    pub values: Vec<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LabelOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Selector {
    /// The selector that asks for exactly these labels.
    pub fn of(labels: impl IntoIterator<Item = (Arc<str>, Arc<str>)>) -> Self {
        let requirements = labels.into_iter().map(|(key, value)| LabelRequirement::is(key, value));
        Selector { requirements: requirements.collect() }
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

impl LabelRequirement {
    pub fn is(key: Arc<str>, value: Arc<str>) -> Self {
        LabelRequirement { key, operator: LabelOperator::In, values: vec![value] }
    }

    fn matches(&self, labels: &Labels) -> bool {
        let actual = value(labels, &self.key);
        let listed = |actual: &Arc<str>| self.values.contains(actual);
        match self.operator {
            LabelOperator::In => actual.is_some_and(listed),
            LabelOperator::NotIn => !actual.is_some_and(listed),
            LabelOperator::Exists => actual.is_some(),
            LabelOperator::DoesNotExist => actual.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_mean_what_kubernetes_means() {
        let labels: Labels = vec![("app".into(), "web".into()), ("tier".into(), "front".into())];
        let check = |key: &str, operator: LabelOperator, values: &[&str], expected: bool| {
            let values = values.iter().map(|value| (*value).into()).collect();
            let selector = Selector { requirements: vec![LabelRequirement { key: key.into(), operator, values }] };
            assert_eq!(selector.matches(&labels), expected, "{selector:?}");
        };
        check("app", LabelOperator::In, &["db", "web"], true);
        check("app", LabelOperator::In, &["db"], false);
        check("none", LabelOperator::In, &["db"], false);
        check("app", LabelOperator::NotIn, &["db"], true);
        check("none", LabelOperator::NotIn, &["db"], true);
        check("app", LabelOperator::NotIn, &["web"], false);
        check("tier", LabelOperator::Exists, &[], true);
        check("none", LabelOperator::Exists, &[], false);
        check("none", LabelOperator::DoesNotExist, &[], true);
        assert!(Selector::default().matches(&labels));
    }
}
