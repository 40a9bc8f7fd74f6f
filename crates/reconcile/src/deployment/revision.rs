//! Revisions: which ReplicaSet is the newest, how it is made, and how many old ones are kept.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::apps::v1::{ReplicaSet, ReplicaSetSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Change, Member, Rollout, scale, status};
use crate::{meta, template};

/// The number of a template in the order in which templates were rolled out, on the set and on the Deployment.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier numbers of a template that was rolled out again.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The history is cut past so many characters.
const HISTORY_LIMIT: usize = 2000;

/// Annotations of the Deployment that are its own business and not its sets'.
fn is_own(annotation: &str) -> bool {
    annotation == "kubectl.kubernetes.io/last-applied-configuration"
        || annotation == "deprecated.deployment.rollback.to"
        || annotation == REVISION
        || annotation == REVISION_HISTORY
        || annotation == scale::DESIRED
        || annotation == scale::MAXIMUM
}

fn revision(meta: &ObjectMeta) -> i64 {
    meta::annotation(meta, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Rollout {
    /// Numbers the newest set, and makes it if it is not there and `create` says so.
    pub(super) fn find_new_set(&mut self, create: bool) {
        let number = self.old.iter().map(|member| revision(&member.set.metadata)).max().unwrap_or(0) + 1;
        let inherited = self.deployment.metadata.annotations.clone().unwrap_or_default();
        if let Some(new) = &mut self.new {
            let min_ready = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
            let changed = annotate(&mut new.set.metadata, &inherited, number);
            let spec = new.set.spec.get_or_insert_default();
            if spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0) {
                spec.min_ready_seconds = min_ready;
                new.touch();
            }
            if changed {
                new.touch();
            }
            let (name, shown) = (meta::name(&new.set.metadata).to_owned(), revision(&new.set.metadata));
            self.show_revision(shown);
            if self.has_deadline() && self.current_condition("Progressing").is_none() {
                let message = format!("Found new replica set \"{name}\"");
                self.set_condition(status::condition("Progressing", "True", "FoundNewReplicaSet", message, self.now));
            }
        } else if create {
            self.make_new_set(&inherited, number);
        }
    }

    fn make_new_set(&mut self, inherited: &BTreeMap<String, String>, number: i64) {
        let Some(spec) = self.deployment.spec.clone() else { return };
        let collisions = self.deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = template::hash(&spec.template, collisions);
        let mut template = spec.template;
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(template::HASH_LABEL.into(), hash.clone());
        let labels = labels.clone();
        let mut selector = spec.selector;
        selector.match_labels.get_or_insert_default().insert(template::HASH_LABEL.into(), hash.clone());
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", meta::name(&self.deployment.metadata))),
                namespace: self.deployment.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![meta::controller_reference(&self.deployment)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(0),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        };
        annotate(&mut set.metadata, inherited, number);
        let name = meta::name(&set.metadata).to_owned();
        self.new = Some(Member { set, change: Change::Create });
        // It is born with its first pods, which saves a write and a round through the caches.
        let replicas = self.new_set_size();
        self.resize(0, replicas);
        self.show_revision(number);
        if self.has_deadline() {
            let message = format!("Created new replica set \"{name}\"");
            self.set_condition(status::condition("Progressing", "True", "NewReplicaSetCreated", message, self.now));
        }
    }

    /// The Deployment carries the revision of its newest set.
    fn show_revision(&mut self, number: i64) {
        let annotations = self.deployment.metadata.annotations.get_or_insert_default();
        if annotations.get(REVISION).map(String::as_str) != Some(number.to_string().as_str()) {
            annotations.insert(REVISION.into(), number.to_string());
            self.annotations = Some(annotations.clone());
        }
    }

    /// Deletes old sets that are empty, oldest revision first, until the history is as long as it may be.
    pub(super) fn clean_up(&mut self) {
        let Some(limit) = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit) else { return };
        let mut kept: Vec<usize> =
            (0..self.old.len()).filter(|at| !meta::is_deleting(&self.old[*at].set.metadata)).collect();
        let surplus = kept.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        kept.sort_by_key(|at| revision(&self.old[*at].set.metadata));
        for at in kept.into_iter().take(surplus) {
            let member = &mut self.old[at];
            let status = member.set.status.clone().unwrap_or_default();
            let observed = status.observed_generation.unwrap_or(0) >= member.set.metadata.generation.unwrap_or(0);
            if status.replicas == 0 && member.wanted() == 0 && observed {
                member.change = Change::Delete;
            }
        }
    }
}

/// Gives a set the Deployment's annotations and its revision; says whether that changed anything.
fn annotate(meta: &mut ObjectMeta, inherited: &BTreeMap<String, String>, number: i64) -> bool {
    let before = meta.annotations.clone().unwrap_or_default();
    let old_number = revision(meta);
    let annotations = meta.annotations.get_or_insert_default();
    for (key, value) in inherited.iter().filter(|(key, _)| !is_own(key)) {
        annotations.insert(key.clone(), value.clone());
    }
    if old_number < number {
        if old_number > 0 {
            let mut history: Vec<String> = annotations
                .get(REVISION_HISTORY)
                .map(|h| h.split(',').map(str::to_owned).collect())
                .unwrap_or_default();
            history.push(old_number.to_string());
            while history.len() > 1 && history.iter().map(|one| one.len() + 1).sum::<usize>() > HISTORY_LIMIT {
                history.remove(0);
            }
            annotations.insert(REVISION_HISTORY.into(), history.join(","));
        }
        annotations.insert(REVISION.into(), number.to_string());
    }
    *annotations != before
}
