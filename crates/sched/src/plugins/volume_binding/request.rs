//! What a pod's claims ask for, and what there is for them on a node.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Field, Node, Operator, Pod, Term,
    diagnosis::{Reason, Rejection},
    plugins::claims,
    pod::Volume,
    storage::{BindingMode, Capacity, Claim, ClaimRef, InTree, LabelValues, PersistentVolume, Source, StorageClass},
    world::World,
};

const AFFINITY: &str = "node(s) didn't match PersistentVolume's node affinity";
const NO_MATCH: &str = "node(s) didn't find available persistent volumes to bind";
const NO_SPACE: &str = "node(s) did not have enough free storage";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const UNBOUND: &str = "pod has unbound immediate PersistentVolumeClaims";

const HOST: &str = "kubernetes.io/hostname";
/// The provisioner of classes whose volumes somebody makes by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// What all claims of a pod ask for; true for one version of what is known of storage.
pub(super) struct Request {
    /// Volumes of bound claims; `None`: the volume is not there.
    bound: Vec<Option<Arc<PersistentVolume>>>,
    /// The smallest first, so that large volumes are left for those that need them.
    waiting: Vec<Waiting>,
}

/// A claim that waits for its first user.
struct Waiting {
    claim: Arc<Claim>,
    /// Where its volume is to be made, if that was decided before.
    selected_node: Option<Arc<str>>,
    candidates: Candidates,
    /// `None`: nobody makes volumes of its class.
    class: Option<Arc<StorageClass>>,
    /// Where there is room for it; `None`: its driver does not say.
    room: Option<Vec<Arc<Capacity>>>,
}

/// Volumes that suit a claim, but for their nodes.
#[derive(Default)]
struct Candidates {
    /// The one that somebody has set aside for the claim: no other will do.
    set_aside: Option<Arc<PersistentVolume>>,
    /// Those of a single host, by its name; the smallest first.
    by_host: HashMap<Arc<str>, Vec<Arc<PersistentVolume>>>,
    /// All others, the smallest first.
    others: Vec<Arc<PersistentVolume>>,
}

/// What a node has for a pod's claims.
#[derive(Default)]
pub(super) struct Found {
    pub volumes: Vec<(Arc<PersistentVolume>, Arc<Claim>)>,
    /// Claims whose volumes are to be made.
    pub to_make: Vec<Arc<Claim>>,
}

impl Request {
    /// `None`: the pod has no claims. An error, if no node will do.
    pub fn of(pod: &Pod, world: &World) -> Result<Option<Self>, Rejection> {
        let mut all: Vec<&Arc<Claim>> = Vec::new();
        for volume in &pod.spec.volumes {
            let Volume::Claim { name, ephemeral, .. } = volume else { continue };
            let claim = usable(pod, name, *ephemeral, world)?;
            if !all.iter().any(|known| known.name == claim.name) {
                all.push(claim);
            }
        }
        if all.is_empty() {
            return Ok(None);
        }
        let mut request = Request { bound: Vec::new(), waiting: Vec::new() };
        let mut immediate = false;
        for claim in all {
            if claim.is_bound() {
                let volume = claim.volume.as_ref().and_then(|volume| world.volumes.volume(volume));
                request.bound.push(volume.cloned());
            } else if waits(claim, world)? {
                request.waiting.push(Waiting::of(claim, world));
            } else {
                immediate = true;
            }
        }
        if immediate {
            return Err(Rejection::unresolvable(UNBOUND));
        }
        request.waiting.sort_by_key(|waiting| waiting.claim.request);
        Ok(Some(request))
    }

    /// Whether nothing is left to decide.
    pub fn is_bound(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn find(&self, node: &Node, world: &World) -> Result<Found, Rejection> {
        let mut reasons = Vec::new();
        let mut missing = false;
        for volume in &self.bound {
            match volume {
                Some(volume) if reaches(volume, node, world) => continue,
                Some(_) => reasons.push(Reason::Borrowed(AFFINITY)),
                None => missing = true,
            }
            // The first claim that is not satisfied says why.
            break;
        }
        let found = self.find_waiting(node);
        let found = found.map_err(|reason| reasons.push(Reason::Borrowed(reason))).unwrap_or_default();
        if missing {
            reasons.push(Reason::Borrowed(NO_VOLUME));
        }
        if reasons.is_empty() { Ok(found) } else { Err(Rejection { reasons, unresolvable: true }) }
    }

    fn find_waiting(&self, node: &Node) -> Result<Found, &'static str> {
        let mut found = Found::default();
        let (decided, open): (Vec<_>, Vec<_>) =
            self.waiting.iter().partition(|waiting| waiting.selected_node.is_some());
        if decided.iter().any(|waiting| waiting.selected_node.as_ref() != Some(&node.name)) {
            return Err(NO_MATCH);
        }
        let mut to_make = decided;
        for waiting in open {
            match waiting.candidates.smallest(node, &found.volumes) {
                Some(volume) => found.volumes.push((volume.clone(), waiting.claim.clone())),
                None => to_make.push(waiting),
            }
        }
        for waiting in to_make {
            waiting.can_be_made(node)?;
            found.to_make.push(waiting.claim.clone());
        }
        Ok(found)
    }
}

/// A claim of the pod that may be used by it.
fn usable<'a>(pod: &Pod, name: &Arc<str>, ephemeral: bool, world: &'a World) -> Result<&'a Arc<Claim>, Rejection> {
    let claim = claims::find(pod, name, world).map_err(|rejection| {
        if !ephemeral {
            return rejection;
        }
        let text = format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}");
        Rejection::unresolvable(text)
    })?;
    let text = if claim.lost {
        let volume = claim.volume.as_deref().unwrap_or_default();
        format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}")
    } else if claim.deleting {
        format!("persistentvolumeclaim {name:?} is being deleted")
    } else if ephemeral && claim.owner.as_ref() != Some(&pod.uid) {
        let namespace = &pod.namespace;
        format!("PVC {namespace}/{name} was not created for pod {namespace}/{} (pod is not owner)", pod.name)
    } else {
        return Ok(claim);
    };
    Err(Rejection::unresolvable(text))
}

/// Whether an unbound claim waits for its first user. One that names a volume is bound to that at once.
fn waits(claim: &Claim, world: &World) -> Result<bool, Rejection> {
    let Some(class) = world.volumes.class(&claim.class) else { return Ok(false) };
    let Some(mode) = class.binding else {
        let text = format!("VolumeBindingMode not set for StorageClass {:?}", class.name);
        return Err(Rejection::unresolvable(text));
    };
    Ok(mode == BindingMode::WaitForFirstConsumer && claim.volume.is_none())
}

/// Whether a node can reach a volume.
pub(super) fn reaches(volume: &PersistentVolume, node: &Node, world: &World) -> bool {
    let csi_node = world.volumes.csi_node(&node.name);
    let taken_over = |plugin: InTree| {
        csi_node.is_some_and(|csi_node| csi_node.migrated.iter().any(|migrated| **migrated == *plugin.plugin()))
    };
    match &volume.source {
        Some(Source::InTree { plugin, .. }) if taken_over(*plugin) => any(volume.migrated_affinity.as_ref(), node),
        _ => any(volume.affinity.as_ref(), node),
    }
}

fn any(terms: Option<&Vec<Term>>, node: &Node) -> bool {
    terms.is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
}

impl Waiting {
    fn of(claim: &Arc<Claim>, world: &World) -> Self {
        let selected_node = world.volumes.selected_node(claim).cloned();
        let makes = |class: &&Arc<StorageClass>| !class.provisioner.is_empty() && *class.provisioner != *NO_PROVISIONER;
        let class = world.volumes.class(&claim.class).filter(makes).cloned();
        Waiting {
            candidates: if selected_node.is_none() { Candidates::of(claim, world) } else { Candidates::default() },
            room: class.as_ref().and_then(|class| room(claim, class, world)),
            selected_node,
            class,
            claim: claim.clone(),
        }
    }

    /// Whether a volume can be made for the node, or why not.
    fn can_be_made(&self, node: &Node) -> Result<(), &'static str> {
        let Some(class) = &self.class else { return Err(NO_MATCH) };
        let meets = |(label, values): &LabelValues| node.label(label).is_some_and(|value| values.contains(value));
        let mut sets = class.topologies.iter();
        if !class.topologies.is_empty() && !sets.any(|set| !set.is_empty() && set.iter().all(meets)) {
            return Err(NO_MATCH);
        }
        let admits =
            |capacity: &Arc<Capacity>| capacity.nodes.as_ref().is_some_and(|selector| selector.matches(&node.labels));
        match &self.room {
            Some(room) if !room.iter().any(admits) => Err(NO_SPACE),
            _ => Ok(()),
        }
    }
}

/// Where a driver that tells how much room it has can make so large a volume.
fn room(claim: &Claim, class: &StorageClass, world: &World) -> Option<Vec<Arc<Capacity>>> {
    let request = claim.request?;
    world.volumes.csi_driver(&class.provisioner).filter(|driver| driver.tells_capacity)?;
    let large = |capacity: &&Arc<Capacity>| capacity.limit.is_some_and(|limit| limit >= request);
    Some(world.volumes.capacities(&class.name).filter(large).cloned().collect())
}

impl Candidates {
    fn of(claim: &Claim, world: &World) -> Self {
        let mut found = Candidates::default();
        for volume in world.volumes.of_class(&claim.class) {
            match world.volumes.claim_of(volume) {
                _ if !fits(claim, volume) => {}
                Some(other) if !ClaimRef::is(other, claim) => {}
                Some(_) => {
                    found.set_aside.get_or_insert_with(|| volume.clone());
                }
                None if is_free_for(claim, volume) => found.add(volume),
                None => {}
            }
        }
        found
    }

    fn add(&mut self, volume: &Arc<PersistentVolume>) {
        match hosts(volume) {
            Some(hosts) => {
                hosts.iter().for_each(|host| self.by_host.entry(host.clone()).or_default().push(volume.clone()));
            }
            None => self.others.push(volume.clone()),
        }
    }

    fn smallest(&self, node: &Node, taken: &[(Arc<PersistentVolume>, Arc<Claim>)]) -> Option<&Arc<PersistentVolume>> {
        let reaches = |volume: &&Arc<PersistentVolume>| any(volume.affinity.as_ref(), node);
        if let Some(volume) = &self.set_aside {
            return Some(volume).filter(reaches);
        }
        let first = |volumes: &'_ [Arc<PersistentVolume>]| {
            let free = |volume: &&Arc<PersistentVolume>| !taken.iter().any(|(other, _)| other.name == volume.name);
            volumes.iter().position(|volume| free(&volume) && reaches(&volume))
        };
        let local = node.label(HOST).and_then(|host| self.by_host.get(host)).map(Vec::as_slice).unwrap_or_default();
        let local = first(local).map(|at| &local[at]);
        let other = first(&self.others).map(|at| &self.others[at]);
        local.into_iter().chain(other).min_by_key(|volume| (volume.capacity, &volume.name))
    }
}

/// What a volume needs for the claim, even if it was set aside for it.
fn fits(claim: &Claim, volume: &PersistentVolume) -> bool {
    volume.capacity >= claim.request.unwrap_or(0)
        && volume.block == claim.block
        && volume.attributes_class == claim.attributes_class
        && !volume.deleting
}

/// What a volume needs besides, if nobody has set it aside.
fn is_free_for(claim: &Claim, volume: &PersistentVolume) -> bool {
    volume.available
        && claim.selector.as_ref().is_none_or(|selector| selector.matches(&volume.labels))
        && claim.access_modes.iter().all(|mode| volume.access_modes.contains(mode))
}

/// The hosts by whose name a volume can be reached, when it is by their name alone (local volumes): the look at a node need not
/// go through those of all others.
fn hosts(volume: &PersistentVolume) -> Option<&[Arc<str>]> {
    let [term] = volume.affinity.as_deref()? else { return None };
    let by_host = term.requirements.iter().find(|requirement| {
        matches!(&requirement.field, Field::Label(key) if **key == *HOST) && requirement.operator == Operator::In
    })?;
    Some(&by_host.values)
}
