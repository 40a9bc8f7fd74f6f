//! PodDisruptionBudgets: which evictions they allow, and which of them have changed.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use crate::{Pod, labels::Selector, world::Resident};

/// So many changes are remembered; who is further behind looks at everything.
const MAX_CHANGES: usize = 4096;

/// How many pods that its selector matches may be evicted now (PodDisruptionBudget).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub namespace: Arc<str>,
    pub selector: Option<Selector>,
    pub disruptions_allowed: i32,
    /// Names of pods whose eviction is counted in it already.
    pub disrupted: Vec<Arc<str>>,
}

impl Budget {
    /// Whether it is about the pod, which is in its namespace, at all.
    fn covers(&self, pod: &Pod) -> bool {
        let selects = |selector: &Selector| !selector.is_empty() && selector.matches(&pod.labels);
        self.selector.as_ref().is_some_and(selects) && !pod.labels.is_empty()
    }
}

/// A budget by its namespace and name.
pub(crate) type Key = (Arc<str>, Arc<str>);

#[derive(Default)]
pub(crate) struct Budgets {
    by_namespace: HashMap<Arc<str>, BTreeMap<Arc<str>, Budget>>,
    /// Goes up with each change.
    version: u64,
    /// The version at which it changed last which pods budgets are about.
    reach: u64,
    /// The last versions, each with the budget that changed.
    changes: VecDeque<(u64, Key)>,
}

impl Budgets {
    /// A budget appeared or changed; `None`: it is gone.
    pub fn set(&mut self, namespace: &Arc<str>, name: &Arc<str>, budget: Option<Budget>) {
        let known = self.by_namespace.entry(namespace.clone()).or_default();
        let selector = budget.as_ref().map(|budget| budget.selector.clone());
        let before = match &budget {
            Some(new) if known.get(name) == Some(new) => return,
            Some(new) => known.insert(name.clone(), new.clone()),
            None => known.remove(name),
        };
        if known.is_empty() {
            self.by_namespace.remove(namespace);
        }
        if before.is_none() && budget.is_none() {
            return;
        }
        self.version += 1;
        if before.map(|before| before.selector) != selector {
            self.reach = self.version;
        }
        self.changes.push_back((self.version, (namespace.clone(), name.clone())));
        if self.changes.len() > MAX_CHANGES {
            self.changes.pop_front();
        }
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// The budgets of which anything but the pods that they are about has changed since; `None`: who knows.
    pub fn changed_since(&self, version: u64) -> Option<impl Iterator<Item = &Key>> {
        let first = self.changes.front().map_or(self.version + 1, |(first, _)| *first);
        let knows = version >= self.reach && version + 1 >= first;
        knows.then(|| self.changes.iter().rev().take_while(move |(at, _)| *at > version).map(|(_, key)| key))
    }

    fn of(&self, pod: &Pod) -> impl Iterator<Item = (&Arc<str>, &Budget)> {
        let all = self.by_namespace.get(&pod.namespace).into_iter().flatten();
        all.filter(|(_, budget)| budget.covers(pod))
    }

    /// The budgets that are about one of the pods, each once.
    pub fn about<'a>(&self, pods: impl Iterator<Item = &'a Pod>) -> Vec<Key> {
        let mut keys: Vec<Key> = Vec::new();
        if !self.by_namespace.is_empty() {
            let of = |pod: &'a Pod| self.of(pod).map(|(name, _)| (pod.namespace.clone(), name.clone()));
            keys.extend(pods.flat_map(of));
            keys.sort_unstable();
            keys.dedup();
        }
        keys
    }

    /// Those whose eviction breaks a budget, if they are evicted in this order, and the others.
    pub fn divide<'a>(&self, pods: &'a [Resident]) -> (Vec<&'a Resident>, Vec<&'a Resident>) {
        let mut left: HashMap<Key, i32> = HashMap::new();
        pods.iter().partition(|Resident { pod, .. }| {
            let mut violates = false;
            for (name, budget) in self.of(pod).filter(|(_, budget)| !budget.disrupted.contains(&pod.name)) {
                let key = (pod.namespace.clone(), name.clone());
                let left = left.entry(key).or_insert(budget.disruptions_allowed);
                *left = left.saturating_sub(1);
                violates |= *left < 0;
            }
            violates
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(selector: &str, allowed: i32) -> Budget {
        let selector = Some(Selector::of([("app".into(), selector.into())]));
        Budget { namespace: "n".into(), selector, disruptions_allowed: allowed, disrupted: Vec::new() }
    }

    #[test]
    fn what_has_changed_is_known_as_long_as_it_is_about_the_same_pods() {
        let mut budgets = Budgets::default();
        let mut set = |name: &str, budget| {
            budgets.set(&"n".into(), &name.into(), budget);
            let changed = |since| {
                let names = |keys: Vec<&Key>| keys.iter().map(|key| key.1.to_string()).collect::<Vec<_>>();
                budgets.changed_since(since).map(|keys| names(keys.collect()))
            };
            (budgets.version(), changed(0), changed(budgets.version()), changed(2))
        };
        let none = || Some(Vec::new());
        assert_eq!(set("gone", None), (0, none(), none(), none()));
        assert_eq!(set("a", Some(budget("x", 1))), (1, None, none(), none()));
        assert_eq!(set("b", Some(budget("y", 1))), (2, None, none(), none()));
        // Nothing has changed.
        assert_eq!(set("b", Some(budget("y", 1))), (2, None, none(), none()));
        assert_eq!(set("a", Some(budget("x", 0))), (3, None, none(), Some(vec!["a".into()])));
        assert_eq!(set("b", Some(budget("y", 5))), (4, None, none(), Some(vec!["b".into(), "a".into()])));
        assert_eq!(set("b", Some(budget("z", 5))), (5, None, none(), None));
        assert_eq!(set("a", None), (6, None, none(), None));
        for n in 0..=MAX_CHANGES {
            set("b", Some(budget("z", i32::try_from(n).unwrap())));
        }
        assert!(budgets.changed_since(6).is_none() && budgets.changes.len() == MAX_CHANGES);
    }
}
