//! Garbage collection: the graph of who owns whom, and what follows when an owner goes.
//!
//! ```text
//!   metadata of every object ─▶ Graph ─▶ Work (uid to look at) ─▶ live object and live owners ─▶ judge ─▶ Verdict
//! ```
//!
//! The graph only says what deserves a look; nothing is deleted on its word. Each verdict is made on the live object
//! and its live owners, because the watches that feed the graph are not in step with one another.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::meta;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// Where an object is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// An object that deserves a look.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// May have to be deleted, or freed of owners that are gone.
    Examine(String),
    /// Its dependents have to be let go.
    Orphan(String),
}

#[derive(Debug)]
struct Node {
    identity: Identity,
    owners: Vec<OwnerReference>,
    deleting: bool,
    foreground: bool,
    orphaning: bool,
}

/// Who owns whom, by UID. Holds a few words for each object, not the object.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    /// Also of owners that the graph does not know (yet).
    dependents: HashMap<String, HashSet<String>>,
}

impl Graph {
    /// An object appeared or changed.
    pub fn upsert(&mut self, identity: Identity, meta: &ObjectMeta) -> Vec<Work> {
        let uid = identity.uid.clone();
        let node = Node {
            identity,
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting: meta::is_deleting(meta),
            foreground: meta::is_deleting(meta) && meta::has_finalizer(meta, FOREGROUND),
            orphaning: meta::is_deleting(meta) && meta::has_finalizer(meta, ORPHAN),
        };
        let mut work = Vec::new();
        let before = self.nodes.remove(&uid);
        let old_owners = before.as_ref().map(|node| node.owners.as_slice()).unwrap_or_default();
        for gone in old_owners.iter().filter(|old| !node.owners.iter().any(|new| new.uid == old.uid)) {
            self.unlink(&gone.uid, &uid);
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            // An owner that is not known may be gone: the live look will tell.
            if !self.nodes.contains_key(&owner.uid) && before.is_none() {
                work.push(Work::Examine(uid.clone()));
            }
        }
        // An owner that waits for its dependents looks again when one lets go of it, or no longer holds it.
        let changed = old_owners.iter().filter(|old| !node.owners.contains(old));
        work.extend(changed.filter(|owner| self.is_foreground(&owner.uid)).map(|o| Work::Examine(o.uid.clone())));
        if node.orphaning && !before.as_ref().is_some_and(|before| before.orphaning) {
            work.push(Work::Orphan(uid.clone()));
        }
        if node.foreground && !before.as_ref().is_some_and(|before| before.foreground) {
            work.extend(self.dependents_of(&uid).map(|dependent| Work::Examine(dependent.clone())));
            work.push(Work::Examine(uid.clone()));
        }
        // A dependent that comes while its owner waits in the foreground has to go as well.
        if before.is_none() && node.owners.iter().any(|owner| self.is_foreground(&owner.uid)) {
            work.push(Work::Examine(uid.clone()));
        }
        self.nodes.insert(uid, node);
        work
    }

    /// An object is gone.
    pub fn remove(&mut self, uid: &str) -> Vec<Work> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
        }
        let dependents = self.dependents_of(uid).map(|dependent| Work::Examine(dependent.clone()));
        let waiting = node.owners.iter().filter(|owner| self.is_foreground(&owner.uid));
        dependents.chain(waiting.map(|owner| Work::Examine(owner.uid.clone()))).collect()
    }

    /// Every object with an owner that the graph does not know: to be looked at when a watch may have missed something.
    pub fn dangling(&self) -> Vec<Work> {
        let lost = |node: &&Node| node.owners.iter().any(|owner| !self.nodes.contains_key(&owner.uid));
        self.nodes.values().filter(lost).map(|node| Work::Examine(node.identity.uid.clone())).collect()
    }

    pub fn identity(&self, uid: &str) -> Option<&Identity> {
        Some(&self.nodes.get(uid)?.identity)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The objects of one kind, by UID; for finding what a new list no longer has.
    pub fn of_kind<'a>(&'a self, api_version: &'a str, kind: &'a str) -> impl Iterator<Item = &'a Identity> {
        let identities = self.nodes.values().map(|node| &node.identity);
        identities.filter(move |identity| identity.kind == kind && identity.api_version == api_version)
    }

    /// The dependents of an object.
    pub fn dependents(&self, uid: &str) -> Vec<Identity> {
        self.dependents_of(uid).filter_map(|dependent| Some(self.nodes.get(dependent)?.identity.clone())).collect()
    }

    /// What a look at a live object has to know of its dependents.
    pub fn situation(&self, uid: &str) -> Situation {
        let nodes: Vec<&Node> = self.dependents_of(uid).filter_map(|dependent| self.nodes.get(dependent)).collect();
        let blocks = |node: &&&Node| node.owners.iter().any(|o| o.uid == uid && o.block_owner_deletion == Some(true));
        let blocking: Vec<&&Node> = nodes.iter().filter(blocks).collect();
        Situation {
            has_dependents: !nodes.is_empty(),
            dependents_wait: nodes.iter().any(|node| node.foreground),
            blocked: !blocking.is_empty(),
            blocking: blocking.iter().filter(|node| !node.foreground).map(|n| n.identity.uid.clone()).collect(),
        }
    }

    fn dependents_of(&self, uid: &str) -> impl Iterator<Item = &String> {
        self.dependents.get(uid).into_iter().flatten()
    }

    fn is_foreground(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| node.foreground && node.deleting)
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

/// An object's dependents, as far as a verdict on it depends on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    pub has_dependents: bool,
    /// A dependent is itself being deleted in the foreground.
    pub dependents_wait: bool,
    /// A dependent holds the object back.
    pub blocked: bool,
    /// Those that hold it back and are not yet on their way out.
    pub blocking: Vec<String>,
}

/// What a live look at an owner showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Present,
    /// There is nothing of that name, or something with another UID.
    Absent,
    /// It is being deleted in the foreground and waits for its dependents.
    Waiting,
}

impl Owner {
    /// Judges a live owner.
    pub fn of(reference: &OwnerReference, live: Option<&ObjectMeta>) -> Self {
        match live {
            Some(meta) if meta.uid.as_ref() != Some(&reference.uid) => Owner::Absent,
            Some(meta) if meta::is_deleting(meta) && meta::has_finalizer(meta, FOREGROUND) => Owner::Waiting,
            Some(_) => Owner::Present,
            None => Owner::Absent,
        }
    }
}

/// How an object is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// What is to be done with an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Keep,
    /// Delete it, as long as it is the same object.
    Delete(Propagation),
    /// Write these owners.
    SetOwners(Vec<OwnerReference>),
    /// Write these owners, which no longer hold each other, and delete in the foreground.
    UnblockAndDelete(Vec<OwnerReference>),
    /// Nothing holds it back any longer: take [`FOREGROUND`] away.
    Finish,
    /// Look at those that hold it back.
    Chase(Vec<String>),
}

/// Judges a live object by its owners, in the order of its references.
pub fn judge(live: &ObjectMeta, owners: &[Owner], situation: &Situation) -> Verdict {
    let foreground = meta::is_deleting(live) && meta::has_finalizer(live, FOREGROUND);
    if foreground {
        return if situation.blocked { Verdict::Chase(situation.blocking.clone()) } else { Verdict::Finish };
    }
    let references = live.owner_references.as_deref().unwrap_or_default();
    if meta::is_deleting(live) || references.is_empty() {
        return Verdict::Keep;
    }
    let with = |state: Owner| references.iter().zip(owners).filter(move |(_, o)| **o == state).map(|(r, _)| r.clone());
    let present: Vec<OwnerReference> = with(Owner::Present).collect();
    if !present.is_empty() {
        return if present.len() == references.len() { Verdict::Keep } else { Verdict::SetOwners(present) };
    }
    if owners.contains(&Owner::Waiting) && situation.has_dependents {
        if situation.dependents_wait {
            // A circle: if all wait for one another in the foreground, none would ever go.
            let unblock =
                |owner: &OwnerReference| OwnerReference { block_owner_deletion: Some(false), ..owner.clone() };
            return Verdict::UnblockAndDelete(references.iter().map(unblock).collect());
        }
        return Verdict::Delete(Propagation::Foreground);
    }
    // An earlier wish about the dependents is respected.
    let propagation = if meta::has_finalizer(live, ORPHAN) {
        Propagation::Orphan
    } else if meta::has_finalizer(live, FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    Verdict::Delete(propagation)
}

/// The owners without the one that lets go.
pub fn without_owner(meta: &ObjectMeta, uid: &str) -> Option<Vec<OwnerReference>> {
    let owners = meta.owner_references.as_ref()?;
    owners.iter().any(|owner| owner.uid == uid).then(|| owners.iter().filter(|o| o.uid != uid).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(uid: &str, owners: &[(&str, bool)], finalizer: Option<&str>) -> ObjectMeta {
        let owners: Vec<_> = owners
            .iter()
            .map(|(uid, block)| {
                json!({"apiVersion": "v1", "kind": "K", "name": uid, "uid": uid, "blockOwnerDeletion": block})
            })
            .collect();
        let mut value = json!({"name": uid, "uid": uid, "ownerReferences": owners});
        if let Some(finalizer) = finalizer {
            value["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            value["finalizers"] = json!([finalizer]);
        }
        serde_json::from_value(value).unwrap()
    }

    fn put(graph: &mut Graph, meta: &ObjectMeta) -> Vec<String> {
        let uid = meta.uid.clone().unwrap();
        let identity =
            Identity { api_version: "v1".into(), kind: "K".into(), namespace: String::new(), name: uid.clone(), uid };
        told(graph.upsert(identity, meta))
    }

    fn told(work: Vec<Work>) -> Vec<String> {
        let mut told: Vec<String> = work
            .into_iter()
            .map(|one| match one {
                Work::Examine(uid) => format!("examine {uid}"),
                Work::Orphan(uid) => format!("orphan {uid}"),
            })
            .collect();
        told.sort();
        told.dedup();
        told
    }

    #[test]
    fn what_deserves_a_look() {
        let mut graph = Graph::default();
        assert!(put(&mut graph, &object("a", &[], None)).is_empty());
        assert!(put(&mut graph, &object("b", &[("a", true)], None)).is_empty());
        assert_eq!(put(&mut graph, &object("lost", &[("nobody", false)], None)), ["examine lost"]);
        assert_eq!(put(&mut graph, &object("a", &[], Some(FOREGROUND))), ["examine a", "examine b"]);
        assert_eq!(put(&mut graph, &object("late", &[("a", true)], None)), ["examine late"]);
        assert_eq!(told(graph.remove("b")), ["examine a"]);
        assert_eq!(told(graph.remove("a")), ["examine late"]);
        assert_eq!(told(graph.dangling()), ["examine late", "examine lost"]);
        assert_eq!(put(&mut graph, &object("o", &[], Some(ORPHAN))), ["orphan o"]);
    }

    #[test]
    fn an_owner_in_the_foreground_waits_for_those_that_hold_it() {
        let mut graph = Graph::default();
        let owner = object("a", &[], Some(FOREGROUND));
        put(&mut graph, &owner);
        put(&mut graph, &object("b", &[("a", true)], None));
        put(&mut graph, &object("c", &[("a", false)], None));
        assert_eq!(judge(&owner, &[], &graph.situation("a")), Verdict::Chase(vec!["b".into()]));
        // Letting go of the owner is a reason to look at it again.
        assert_eq!(put(&mut graph, &object("b", &[("a", false)], None)), ["examine a"]);
        assert_eq!(judge(&owner, &[], &graph.situation("a")), Verdict::Finish);
    }

    #[test]
    fn verdicts() {
        use Owner::*;
        let check = |owners: &[(&str, Owner)], situation: Situation, expected: &str| {
            let references: Vec<(&str, bool)> = owners.iter().map(|(uid, _)| (*uid, true)).collect();
            let states: Vec<Owner> = owners.iter().map(|(_, state)| *state).collect();
            let verdict = match judge(&object("x", &references, None), &states, &situation) {
                Verdict::SetOwners(left) => left.iter().map(|o| o.uid.clone()).collect::<Vec<_>>().join("+"),
                Verdict::UnblockAndDelete(_) => "unblock".into(),
                other => format!("{other:?}"),
            };
            assert_eq!(verdict, expected, "{owners:?}");
        };
        let alone = Situation::default;
        let parent = || Situation { has_dependents: true, ..Situation::default() };
        check(&[], alone(), "Keep");
        check(&[("a", Present)], alone(), "Keep");
        check(&[("a", Present), ("b", Absent)], alone(), "a");
        check(&[("a", Absent)], alone(), "Delete(Background)");
        check(&[("a", Waiting)], alone(), "Delete(Background)");
        check(&[("a", Waiting)], parent(), "Delete(Foreground)");
        check(&[("a", Waiting)], Situation { dependents_wait: true, ..parent() }, "unblock");
        check(&[("a", Absent)], parent(), "Delete(Background)");
    }

    #[test]
    fn a_name_taken_by_another_object_is_an_absent_owner() {
        let reference = object("x", &[("a", true)], None).owner_references.unwrap().remove(0);
        assert_eq!(Owner::of(&reference, Some(&object("a", &[], None))), Owner::Present);
        assert_eq!(Owner::of(&reference, Some(&object("b", &[], None))), Owner::Absent);
        assert_eq!(Owner::of(&reference, Some(&object("a", &[], Some(FOREGROUND)))), Owner::Waiting);
        assert_eq!(Owner::of(&reference, None), Owner::Absent);
    }
}
