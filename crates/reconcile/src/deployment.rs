//! Deployment: moves pods from one template to the next through ReplicaSets, within the bounds that its strategy sets.
//!
//! ```text
//!   claim ─▶ find or make the newest set (revision) ─▶ paused or resized? scale : roll ─▶ status
//! ```
//!
//! Works on copies and asks at the end for what changed, so that each ReplicaSet is written at most once in a pass.

mod revision;
mod scale;
mod status;
mod strategy;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, DeploymentStatus, ReplicaSet},
    core::v1::Pod,
};

use crate::{Notice, meta, selector, template};

pub use revision::REVISION;

/// What is to be done, in the order in which it is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the Deployment the manager of this set.
    Adopt(Arc<ReplicaSet>),
    /// Let go of a set that does not match any longer.
    Release(Arc<ReplicaSet>),
    /// If a set of this name exists, see [`collision`].
    CreateSet(Box<ReplicaSet>),
    /// The whole object, guarded by the resource version that the decision saw.
    UpdateSet(Box<ReplicaSet>),
    DeleteSet(Box<ReplicaSet>),
    /// The Deployment's annotations as they should be.
    Annotate(BTreeMap<String, String>),
    Status(Box<DeploymentStatus>),
    /// To be recorded about the Deployment.
    Notice(Notice),
    /// Decide again after so long, even if nothing changes.
    Again(Duration),
}

/// What the caches show.
pub struct Input<'a> {
    pub deployment: &'a Deployment,
    /// The namespace's sets that the Deployment manages or that nobody does.
    pub sets: &'a [Arc<ReplicaSet>],
    /// The pods of the Deployment's sets; looked at by the strategy `Recreate` only.
    pub pods: &'a [Arc<Pod>],
    pub now: Timestamp,
}

/// One pass over a Deployment.
pub fn reconcile(input: &Input<'_>) -> Vec<Action> {
    let Some(spec) = &input.deployment.spec else { return Vec::new() };
    let mut rollout = Rollout::new(input);
    if selector::is_empty(&spec.selector) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        rollout.notices.push(Notice::warning("SelectingAll", message));
        rollout.observe();
    } else if rollout.unclaimed() {
        // The sets are looked at again when the adoption shows in the cache.
    } else if meta::is_deleting(&input.deployment.metadata) {
        rollout.sync_status();
    } else {
        rollout.check_paused();
        if rollout.is_paused() || rollout.was_resized() {
            rollout.find_new_set(false);
            rollout.scale();
            if rollout.is_paused() {
                rollout.clean_up();
            }
            rollout.sync_status();
        } else if rollout.is_recreate() {
            rollout.recreate(input.pods);
        } else {
            rollout.roll();
        }
    }
    rollout.actions()
}

/// What to do when the set that was to be created exists already. `None`: it is the one that was wanted, written by an
/// earlier pass that this one did not see. Otherwise the status with which the next pass finds another name.
pub fn collision(deployment: &Deployment, existing: &ReplicaSet) -> Option<DeploymentStatus> {
    let wanted = deployment.spec.as_ref().map(|spec| &spec.template)?;
    let same = existing.spec.as_ref().and_then(|s| s.template.as_ref()).is_some_and(|t| template::same(t, wanted));
    if same && meta::is_controlled_by(&existing.metadata, meta::uid(&deployment.metadata)) {
        return None;
    }
    let mut status = deployment.status.clone().unwrap_or_default();
    status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
    Some(status)
}

/// The status after a set could not be created for another reason.
pub fn create_failed(deployment: &Deployment, message: &str, now: Timestamp) -> DeploymentStatus {
    let mut status = deployment.status.clone().unwrap_or_default();
    let message = format!("Failed to create new replica set: {message}");
    status::set_condition(
        &mut status,
        status::condition("Progressing", "False", "ReplicaSetCreateError", message, now),
    );
    status
}

/// A set and what has become of it in this pass.
struct Member {
    set: ReplicaSet,
    change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Create,
    Update,
    Delete,
}

impl Member {
    fn wanted(&self) -> i32 {
        self.set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn available(&self) -> i32 {
        self.set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
    }

    fn touch(&mut self) {
        if self.change == Change::None {
            self.change = Change::Update;
        }
    }
}

/// The state of one pass.
struct Rollout {
    deployment: Deployment,
    /// The set of the present template.
    new: Option<Member>,
    old: Vec<Member>,
    claims: Vec<Action>,
    notices: Vec<Notice>,
    status: Option<DeploymentStatus>,
    annotations: Option<BTreeMap<String, String>>,
    again: Option<Duration>,
    now: Timestamp,
}

impl Rollout {
    fn new(input: &Input<'_>) -> Self {
        let mut rollout = Rollout {
            deployment: input.deployment.clone(),
            new: None,
            old: Vec::new(),
            claims: Vec::new(),
            notices: Vec::new(),
            status: None,
            annotations: None,
            again: None,
            now: input.now,
        };
        rollout.claim(input.sets);
        rollout.split();
        rollout
    }

    /// Takes the Deployment's sets and asks for the adoption and release of others.
    fn claim(&mut self, sets: &[Arc<ReplicaSet>]) {
        let Some(spec) = self.deployment.spec.clone() else { return };
        let deleting = meta::is_deleting(&self.deployment.metadata);
        for set in sets {
            let matches = selector::matches(&spec.selector, set.metadata.labels.as_ref());
            match meta::controller_of(&set.metadata) {
                Some(owner) if owner.uid == meta::uid(&self.deployment.metadata) => {
                    if matches {
                        self.old.push(Member { set: (**set).clone(), change: Change::None });
                    } else if !deleting && !meta::is_deleting(&set.metadata) {
                        self.claims.push(Action::Release(set.clone()));
                    }
                }
                None if matches && !deleting && !meta::is_deleting(&set.metadata) => {
                    self.claims.push(Action::Adopt(set.clone()));
                }
                _ => {}
            }
        }
    }

    fn unclaimed(&self) -> bool {
        self.claims.iter().any(|claim| matches!(claim, Action::Adopt(_)))
    }

    /// Finds the newest set among the claimed: the oldest one with the present template, as it is the one that an
    /// earlier pass chose.
    fn split(&mut self) {
        let Some(spec) = &self.deployment.spec else { return };
        self.old.sort_by_cached_key(|m| (meta::created(&m.set.metadata), meta::name(&m.set.metadata).to_owned()));
        let same = |member: &Member| {
            let template = member.set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            template.is_some_and(|template| template::same(template, &spec.template))
        };
        if let Some(at) = self.old.iter().position(same) {
            self.new = Some(self.old.remove(at));
        }
    }

    fn replicas(&self) -> i32 {
        self.deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn is_paused(&self) -> bool {
        self.deployment.spec.as_ref().is_some_and(|spec| spec.paused == Some(true))
    }

    fn is_recreate(&self) -> bool {
        let strategy = self.deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
        strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        self.new.iter().chain(&self.old)
    }

    /// The members in the order in which their indices count: the newest first, then the old ones.
    fn member_mut(&mut self, index: usize) -> &mut Member {
        match (&mut self.new, index) {
            (Some(new), 0) => new,
            (Some(_), index) => &mut self.old[index - 1],
            (None, index) => &mut self.old[index],
        }
    }

    fn total_wanted(&self) -> i32 {
        self.members().map(Member::wanted).sum()
    }

    fn actions(self) -> Vec<Action> {
        let mut actions = self.claims;
        for member in self.new.into_iter().chain(self.old) {
            let set = Box::new(member.set);
            match member.change {
                Change::None => {}
                Change::Create => actions.push(Action::CreateSet(set)),
                Change::Update => actions.push(Action::UpdateSet(set)),
                Change::Delete => actions.push(Action::DeleteSet(set)),
            }
        }
        actions.extend(self.annotations.map(Action::Annotate));
        actions.extend(self.status.map(|status| Action::Status(Box::new(status))));
        actions.extend(self.notices.into_iter().map(Action::Notice));
        actions.extend(self.again.map(Action::Again));
        actions
    }
}
