//! What changes a world: nodes and pods that come, change and go, and what follows for the counts.

use std::sync::Arc;

use super::{
    CounterKey, Eligibility, MAX_COUNTERS, MAX_LOG, NodeId, NodeInfo, Placed, Resident, What, World, counter::Counters,
    population::PopulationId,
};
use crate::{Node, Pod, labels::Labels};

// What the engine changes.
impl World {
    /// The node before, if it was known.
    pub fn upsert_node(&mut self, node: Arc<Node>) -> Option<Arc<Node>> {
        let id = self.slot(&node.name);
        let before = self.nodes[id.index()].known.then(|| self.nodes[id.index()].node.clone());
        let moved = before.as_ref().is_none_or(|old| old.labels != node.labels || old.taints != node.taints);
        if moved {
            self.detach(id);
        }
        if let Some(before) = &before {
            self.count_images(before, -1);
        }
        self.count_images(&node, 1);
        let info = &mut self.nodes[id.index()];
        info.node = node;
        if !info.known {
            info.known = true;
            self.known += 1;
        }
        if moved {
            self.order.invalidate();
            self.attach(id);
        }
        self.changed(id);
        before
    }

    pub fn remove_node(&mut self, name: &str) -> Option<Arc<Node>> {
        let id = self.find(name).filter(|id| self.nodes[id.index()].known)?;
        self.detach(id);
        let info = &mut self.nodes[id.index()];
        info.known = false;
        let node = info.node.clone();
        self.count_images(&node, -1);
        self.known -= 1;
        self.order.invalidate();
        self.changed(id);
        self.release(id);
        Some(node)
    }

    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        let info = self.info(self.find(name)?);
        info.known.then_some(&info.node)
    }

    /// Labels of a namespace have changed: what selects by them is counted anew.
    pub fn set_namespace(&mut self, name: &Arc<str>, labels: Option<Labels>) {
        let before = match labels {
            Some(labels) => self.namespaces.insert(name.clone(), labels),
            None => self.namespaces.remove(name),
        };
        if before.as_ref() != self.namespaces.get(name)
            && self.counters.list.iter().any(|counter| counter.key.what.selects_namespaces())
        {
            self.reset_counters();
        }
    }

    /// Makes the pod share its spec and labels with its like.
    pub fn intern(&mut self, pod: &mut Pod) {
        self.interner.intern(pod);
    }

    /// Counts a pod on a node; one that is counted already is moved or updated.
    pub fn place(&mut self, pod: Arc<Pod>, node: &str, assumed: bool) {
        self.remove(&pod.uid);
        let node = self.slot(node);
        let resident = self.resident(pod.clone());
        *self.priorities.entry(pod.priority()).or_default() += 1;
        self.populations.settle(resident.population, node);
        self.count_resident(node, &resident, 1);
        if !pod.spec.volumes.is_empty() {
            self.volumes.moved(&pod);
        }
        self.nodes[node.index()].residents.push(resident.clone());
        self.changed_by(node, resident.population);
        self.pods.insert(pod.uid.clone(), Placed { resident, node, assumed });
    }

    /// Stops counting a pod.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let Placed { resident, node, .. } = self.pods.remove(uid)?;
        if let Some(pods) = self.priorities.get_mut(&resident.pod.priority()) {
            *pods -= 1;
            if *pods == 0 {
                self.priorities.remove(&resident.pod.priority());
            }
        }
        let residents = &mut self.nodes[node.index()].residents;
        if let Some(at) = residents.iter().position(|known| known.pod.uid == resident.pod.uid) {
            residents.swap_remove(at);
        }
        self.count_resident(node, &resident, -1);
        if !resident.pod.spec.volumes.is_empty() {
            self.volumes.moved(&resident.pod);
        }
        self.changed_by(node, resident.population);
        self.populations.leave(resident.population, node);
        self.populations.release(resident.population);
        self.release(node);
        Some(resident.pod)
    }

    /// Whether the pod is counted on a node where the API does not show it yet.
    pub fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|placed| placed.assumed)
    }

    /// The API shows an assumed pod as it was assumed, but for what does not count: its entry is replaced.
    pub fn confirm(&mut self, pod: Arc<Pod>) {
        let Some(placed) = self.pods.get_mut(&pod.uid) else { return };
        placed.assumed = false;
        let node = placed.node;
        let before = std::mem::replace(&mut placed.resident.pod, pod.clone());
        let started = before.started != pod.started || before.generation != pod.generation;
        let residents = &mut self.nodes[node.index()].residents;
        if let Some(resident) = residents.iter_mut().find(|resident| resident.pod.uid == pod.uid) {
            resident.pod = pod;
        }
        if started {
            // Preemption goes by it, and by what it would write.
            self.changed(node);
        }
    }

    pub fn placed(&self, uid: &str) -> Option<(&Arc<Pod>, NodeId)> {
        self.pods.get(uid).map(|placed| (&placed.resident.pod, placed.node))
    }

    /// How many pods are counted on nodes.
    pub fn placed_pods(&self) -> usize {
        self.pods.len()
    }

    /// A node has been freed for the pod: others of no higher priority leave it its room there.
    pub fn nominate(&mut self, pod: &Arc<Pod>, node: &str) {
        if self.nominations.get(&pod.uid).is_some_and(|known| self.find(node) == Some(*known)) {
            return;
        }
        self.denominate(&pod.uid);
        let node = self.slot(node);
        let resident = self.resident(pod.clone());
        self.nodes[node.index()].nominated.push(resident);
        self.nominations.insert(pod.uid.clone(), node);
        self.changed(node);
    }

    /// Returns the pod, if it was nominated.
    pub fn denominate(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let node = self.nominations.remove(uid)?;
        let nominated = &mut self.nodes[node.index()].nominated;
        let at = nominated.iter().position(|resident| &*resident.pod.uid == uid)?;
        let resident = nominated.swap_remove(at);
        self.populations.release(resident.population);
        self.changed(node);
        self.release(node);
        Some(resident.pod)
    }

    /// Pods below a priority that a node was freed for.
    pub fn nominated_below(&self, node: &str, priority: i32) -> Vec<Arc<Pod>> {
        let nominated = self.find(node).map(|node| self.info(node).nominated.iter()).into_iter().flatten();
        nominated.filter(|resident| resident.pod.priority() < priority).map(|resident| resident.pod.clone()).collect()
    }

    /// The lowest priority of a pod on a node.
    pub fn lowest_priority(&self) -> Option<i32> {
        self.priorities.first_key_value().map(|(priority, _)| *priority)
    }

    pub fn nominated_node(&self, uid: &str) -> Option<NodeId> {
        self.nominations.get(uid).copied()
    }

    /// Counts a resident in (1) or out (-1) for as long as a question is asked; whoever does so undoes it, and nobody learns
    /// of it.
    pub fn count_resident(&mut self, node: NodeId, resident: &Resident, pods: i64) {
        let info = &mut self.nodes[node.index()];
        info.count(&resident.pod, pods);
        if !resident.pod.spec.volumes.is_empty() {
            self.volumes.count(&resident.pod, pods);
        }
        if info.known {
            for id in &self.populations.get(resident.population).counters {
                let counter = &mut self.counters.list[id.0 as usize];
                counter.add(&self.topologies[counter.key.topology.0 as usize], node, pods);
            }
        }
    }

    /// Drops counters when there are too many. Whoever held one must ask for it again: [`World::epoch`] says so.
    pub fn trim(&mut self) {
        if self.counters.list.len() > MAX_COUNTERS {
            self.reset_counters();
        }
    }

    /// Changes when counters and topologies that were handed out are void.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many terms of existing pods were ever heard of in this epoch.
    pub fn terms(&self) -> usize {
        self.counters.terms.len()
    }

    /// The position of the next change in the log.
    pub fn position(&self) -> u64 {
        self.log_start + self.log.len() as u64
    }

    /// Nodes that changed since a position; `None`: too long ago.
    pub fn changes_since(&self, position: u64) -> Option<impl Iterator<Item = NodeId> + use<'_>> {
        let skip = usize::try_from(position.checked_sub(self.log_start)?).ok()?;
        Some(self.log.range(skip.min(self.log.len())..).copied())
    }

    /// One past the highest node number.
    pub fn node_slots(&self) -> usize {
        self.nodes.len()
    }
}

impl World {
    fn resident(&mut self, pod: Arc<Pod>) -> Resident {
        let population = self.population(&pod);
        Resident { pod, population }
    }

    fn population(&mut self, pod: &Pod) -> PopulationId {
        let (id, fresh) = self.populations.acquire(pod);
        if fresh {
            self.count_population(id);
        }
        id
    }

    /// Finds the counters that a population concerns, and makes those of the terms that it carries.
    fn count_population(&mut self, id: PopulationId) {
        let key = self.populations.get(id).key.clone();
        let mut carried = Vec::new();
        for term in key.carried() {
            let topology = self.topology(&term.term.topology_key);
            let what = What::Carrying(term.clone());
            let counter = CounterKey { what, topology, eligibility: Eligibility::default() };
            if self.counters.find(&counter).is_none() {
                self.counters.add_term(&term);
            }
            let counter = self.counter(counter);
            for (node, pods) in &self.populations.get(id).nodes {
                let counter = &mut self.counters.list[counter.0 as usize];
                counter.add(&self.topologies[topology.0 as usize], *node, i64::from(*pods));
            }
            carried.push(counter);
        }
        let labels = self.namespaces.get(&key.namespace);
        let concerning = self.counters.concerning(&key.namespace);
        let matching = concerning.filter(|counter| key.belongs_to(&self.counters.get(*counter).key.what, labels));
        // A term that a pod carries twice counts twice.
        self.populations.get_mut(id).counters = matching.chain(carried).collect();
    }

    fn reset_counters(&mut self) {
        self.epoch += 1;
        self.counters = Counters::default();
        // Those that still are asked about come back with their counters.
        self.topologies.clear();
        for id in self.populations.ids() {
            self.populations.get_mut(id).counters.clear();
        }
        for id in self.populations.ids() {
            self.count_population(id);
        }
    }

    fn attach(&mut self, id: NodeId) {
        let info = &self.nodes[id.index()];
        for topology in &mut self.topologies {
            let coarse = topology.is_coarse();
            topology.attach(id, info.node.label(&topology.key));
            self.epoch += u64::from(coarse != topology.is_coarse());
        }
        for counter in &mut self.counters.list {
            counter.attach(&self.topologies[counter.key.topology.0 as usize], id, &info.node);
        }
        self.recount(id, 1);
        self.neighbours_changed(id);
    }

    fn detach(&mut self, id: NodeId) {
        if !self.nodes[id.index()].known {
            return;
        }
        self.recount(id, -1);
        self.neighbours_changed(id);
        for counter in &mut self.counters.list {
            counter.detach(&self.topologies[counter.key.topology.0 as usize], id);
        }
        for topology in &mut self.topologies {
            let coarse = topology.is_coarse();
            topology.detach(id);
            self.epoch += u64::from(coarse != topology.is_coarse());
        }
    }

    /// Counts the images of a node in or out.
    fn count_images(&mut self, node: &Node, nodes: isize) {
        for (name, _) in &node.images {
            let with_it = self.images.entry(name.clone()).or_default();
            *with_it = with_it.saturating_add_signed(nodes);
            if *with_it == 0 {
                self.images.remove(name);
            }
        }
    }

    /// Counts all residents of a node in or out.
    fn recount(&mut self, id: NodeId, pods: i64) {
        for resident in &self.nodes[id.index()].residents {
            for counter in &self.populations.get(resident.population).counters {
                let counter = &mut self.counters.list[counter.0 as usize];
                counter.add(&self.topologies[counter.key.topology.0 as usize], id, pods);
            }
        }
    }

    /// A node came, went or moved with its pods: where nodes are told apart by counts, those of its domains changed.
    fn neighbours_changed(&mut self, id: NodeId) {
        let fine = self.topologies.iter().filter(|topology| !topology.is_coarse());
        let domains = fine.filter_map(|topology| Some(topology.nodes(topology.domain(id)?)));
        let neighbours: Vec<NodeId> = domains.flatten().copied().collect();
        for neighbour in neighbours {
            self.changed(neighbour);
        }
    }

    fn changed(&mut self, node: NodeId) {
        if self.log.len() == MAX_LOG {
            self.log.pop_front();
            self.log_start += 1;
        }
        self.log.push_back(node);
    }

    /// A pod came or went: where nodes are told apart by counts, its neighbours changed, too.
    fn changed_by(&mut self, node: NodeId, population: PopulationId) {
        self.changed(node);
        let mut neighbours = Vec::new();
        for counter in &self.populations.get(population).counters {
            let topology = &self.topologies[self.counters.get(*counter).key.topology.0 as usize];
            if !topology.is_coarse()
                && let Some(domain) = topology.domain(node)
            {
                neighbours.extend(topology.nodes(domain).iter().filter(|neighbour| **neighbour != node));
            }
        }
        neighbours.sort_unstable();
        neighbours.dedup();
        for neighbour in neighbours {
            self.changed(neighbour);
        }
    }

    fn slot(&mut self, name: &str) -> NodeId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let name: Arc<str> = name.into();
        let node = Arc::new(Node { name: name.clone(), ..Default::default() });
        let id = match self.free.pop() {
            Some(id) => {
                let info = &mut self.nodes[id.index()];
                *info = NodeInfo::new(id, node);
                id
            }
            None => {
                let id = NodeId::new(self.nodes.len());
                self.nodes.push(NodeInfo::new(id, node));
                id
            }
        };
        self.by_name.insert(name, id);
        id
    }

    /// Forgets a name that neither the API nor a pod knows.
    fn release(&mut self, id: NodeId) {
        let info = &self.nodes[id.index()];
        if !info.known
            && info.residents.is_empty()
            && info.nominated.is_empty()
            && self.by_name.remove(&info.node.name).is_some()
        {
            self.free.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{convert, world::Devices};

    fn node(name: &str, image: &str) -> Arc<Node> {
        let labels = vec![("kubernetes.io/hostname".into(), name.into())];
        Arc::new(Node { name: name.into(), labels, images: vec![(image.into(), 1)], ..Default::default() })
    }

    /// A pod that does not want others in its domain, whatever their namespace.
    fn loner(name: &str, topology_key: &str) -> Arc<Pod> {
        let term = json!({"topologyKey": topology_key, "labelSelector": {}, "namespaceSelector": {}});
        let object = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"containers": [], "affinity": {"podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [term]}}},
        });
        Arc::new(convert::pod(&serde_json::from_value(object).unwrap()).unwrap())
    }

    #[test]
    fn nothing_is_left_of_what_is_gone() {
        let mut world = World::new(0, Devices::default());
        for n in 0..100 {
            let (name, image) = (format!("node-{n}"), format!("image-{n}"));
            world.upsert_node(node(&name, &image));
            world.place(loner(&name, &format!("key-{n}")), &name, false);
            assert_eq!(world.nodes_with_image(&image), 1);
            world.remove_node(&name);
            world.remove(&name);
        }
        assert_eq!((world.images.len(), world.by_name.len(), world.nodes.len()), (0, 0, 1));
        world.set_namespace(&"default".into(), Some(vec![("team".into(), "x".into())]));
        assert_eq!((world.topologies.len(), world.counters.list.len(), world.counters.terms.len()), (0, 0, 0));
    }

    #[test]
    fn plans_outlive_nodes_that_come_and_go_about_the_limit() {
        let mut world = World::new(4, Devices::default());
        world.topology(&"kubernetes.io/hostname".into());
        for n in 0..4 {
            world.upsert_node(node(&format!("node-{n}"), "image"));
        }
        let epochs: Vec<u64> = (4..20)
            .map(|n| {
                world.upsert_node(node(&format!("node-{n}"), "image"));
                let epoch = world.epoch();
                world.remove_node(&format!("node-{n}"));
                assert_eq!(world.epoch(), epoch);
                epoch
            })
            .collect();
        assert_eq!(epochs, [1; 16]);
        for n in 0..2 {
            world.remove_node(&format!("node-{n}"));
        }
        assert_eq!(world.epoch(), 2);
    }
}
