//! Selectors of Services and workloads: pods without spread constraints of their own are spread by them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    Pod,
    labels::{LabelRequirement, Selector},
    pod::OwnerKind,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Service,
    Owner(OwnerKind),
}

#[derive(Debug, Default)]
struct OfNamespace {
    selectors: BTreeMap<(Kind, Arc<str>), Selector>,
    version: u64,
}

#[derive(Debug, Default)]
pub struct Workloads {
    namespaces: HashMap<Arc<str>, OfNamespace>,
    version: u64,
}

impl Workloads {
    /// A Service; one without a selector selects nothing.
    pub fn set_service(&mut self, namespace: &Arc<str>, name: &Arc<str>, selector: Option<Selector>) -> bool {
        self.set(namespace, (Kind::Service, name.clone()), selector)
    }

    pub fn set_owner(
        &mut self,
        kind: OwnerKind,
        namespace: &Arc<str>,
        name: &Arc<str>,
        selector: Option<Selector>,
    ) -> bool {
        self.set(namespace, (Kind::Owner(kind), name.clone()), selector)
    }

    fn set(&mut self, namespace: &Arc<str>, key: (Kind, Arc<str>), selector: Option<Selector>) -> bool {
        let of_namespace = self.namespaces.entry(namespace.clone()).or_default();
        if of_namespace.selectors.get(&key) == selector.as_ref() {
            return false;
        }
        match selector {
            Some(selector) => of_namespace.selectors.insert(key, selector),
            None => of_namespace.selectors.remove(&key),
        };
        self.version += 1;
        of_namespace.version = self.version;
        true
    }

    /// Changes with the selectors of a namespace.
    pub fn version(&self, namespace: &str) -> u64 {
        self.namespaces.get(namespace).map_or(0, |of_namespace| of_namespace.version)
    }

    /// The selector that a pod is spread by when it does not say: that of its Services and its owner together.
    pub fn selector(&self, pod: &Pod) -> Selector {
        let Some(of_namespace) = self.namespaces.get(&pod.namespace) else { return Selector::default() };
        let first = (Kind::Service, Arc::from(""));
        let services = of_namespace.selectors.range(first..).take_while(|((kind, _), _)| *kind == Kind::Service);
        let matching = services.map(|(_, selector)| selector).filter(|selector| selector.matches(&pod.labels));
        let owner = pod.spec.owner.as_ref();
        let owner = owner.and_then(|(kind, name)| of_namespace.selectors.get(&(Kind::Owner(*kind), name.clone())));
        let mut requirements: Vec<LabelRequirement> =
            matching.chain(owner).flat_map(|selector| selector.requirements.iter().cloned()).collect();
        requirements.sort_unstable();
        requirements.dedup();
        Selector { requirements }
    }
}
