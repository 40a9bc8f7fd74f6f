//! Sizes: what a resize of the Deployment means for each of its sets, and the bounds that a rolling update keeps.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Member, Rollout};
use crate::{
    Notice,
    intstr::{Round, scaled},
    meta,
};

/// The Deployment's size when the set was last sized; tells a resize from a rollout.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The most pods that the Deployment could have then.
pub(super) const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";

impl Rollout {
    /// Whether the Deployment's size has changed since its active sets were sized.
    pub(super) fn was_resized(&self) -> bool {
        let replicas = self.replicas().to_string();
        self.members()
            .filter(|member| member.wanted() > 0)
            .any(|member| meta::annotation(&member.set.metadata, DESIRED).is_some_and(|desired| desired != replicas))
    }

    /// Pods above the size and below it that a rolling update may have at any time; never both zero.
    fn fence(&self) -> (i32, i32) {
        let strategy = self.deployment.spec.as_ref().and_then(|spec| spec.strategy.clone()).unwrap_or_default();
        let rolling = strategy.rolling_update.unwrap_or_default();
        let quarter = || IntOrString::String("25%".into());
        let surge = scaled(&rolling.max_surge.unwrap_or_else(quarter), self.replicas(), Round::Up);
        let unavailable = scaled(&rolling.max_unavailable.unwrap_or_else(quarter), self.replicas(), Round::Down);
        if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
    }

    pub(super) fn max_surge(&self) -> i32 {
        if self.is_recreate() { 0 } else { self.fence().0 }
    }

    pub(super) fn max_unavailable(&self) -> i32 {
        if self.is_recreate() || self.replicas() == 0 { 0 } else { self.fence().1.min(self.replicas()) }
    }

    /// The size that the newest set may have now.
    pub(super) fn new_set_size(&self) -> i32 {
        let present = self.new.as_ref().map_or(0, Member::wanted);
        if self.is_recreate() {
            return self.replicas();
        }
        let room = self.replicas() + self.max_surge() - self.total_wanted();
        present + room.min(self.replicas() - present).max(0)
    }

    /// Sizes member `index` (the newest is the first). Says whether its size changed.
    pub(super) fn resize(&mut self, index: usize, size: i32) -> bool {
        let desired = self.replicas().to_string();
        let maximum = (self.replicas() + self.max_surge()).to_string();
        let member = self.member_mut(index);
        let before = member.wanted();
        let annotations = member.set.metadata.annotations.get_or_insert_default();
        let outdated = annotations.get(DESIRED) != Some(&desired) || annotations.get(MAXIMUM) != Some(&maximum);
        if before == size && !outdated {
            return false;
        }
        annotations.insert(DESIRED.into(), desired);
        annotations.insert(MAXIMUM.into(), maximum);
        member.set.spec.get_or_insert_default().replicas = Some(size);
        member.touch();
        if before == size {
            return false;
        }
        let direction = if before < size { "up" } else { "down" };
        let name = meta::name(&member.set.metadata);
        let message = format!("Scaled {direction} replica set {name} from {before} to {size}");
        self.notices.push(Notice::normal("ScalingReplicaSet", message));
        true
    }

    /// Follows a resize of the Deployment without rolling anything.
    pub(super) fn scale(&mut self) {
        let active: Vec<usize> = self.indices(|member| member.wanted() > 0);
        let single = match active.as_slice() {
            [] if self.new.is_some() => Some(0),
            // The old ones stand in order of their creation, so the last is the latest.
            [] => self.old.len().checked_sub(1),
            [one] => Some(*one),
            _ => None,
        };
        if let Some(index) = single {
            self.resize(index, self.replicas());
        } else if self.is_saturated() {
            for index in active.into_iter().filter(|index| *index != 0) {
                self.resize(index, 0);
            }
        } else if !self.is_recreate() && !active.is_empty() {
            self.scale_in_proportion(active);
        }
    }

    /// Whether the newest set has all the pods that the Deployment wants, and they are available.
    fn is_saturated(&self) -> bool {
        self.new.as_ref().is_some_and(|new| {
            new.wanted() == self.replicas()
                && new.available() == self.replicas()
                && meta::annotation(&new.set.metadata, DESIRED) == Some(self.replicas().to_string().as_str())
        })
    }

    /// In the middle of a rollout each set grows and shrinks in proportion to its size, so that a resize takes no side
    /// between the old template and the new one.
    fn scale_in_proportion(&mut self, mut active: Vec<usize>) {
        let allowed = if self.replicas() > 0 { self.replicas() + self.max_surge() } else { 0 };
        let members: Vec<&Member> = self.members().collect();
        let change = allowed - active.iter().map(|index| members[*index].wanted()).sum::<i32>();
        active.sort_by_key(|index| {
            let created = meta::created(&members[*index].set.metadata);
            let age = if change > 0 { -created.as_nanosecond() } else { created.as_nanosecond() };
            (std::cmp::Reverse(members[*index].wanted()), age)
        });
        let mut sizes = Vec::with_capacity(active.len());
        let mut done = 0;
        for index in &active {
            let share = self.share(members[*index]);
            let left = change - done;
            let share = if change > 0 { share.clamp(0, left) } else { share.clamp(left, 0) };
            done += share;
            sizes.push(members[*index].wanted() + share);
        }
        // What rounding left over goes to the largest.
        sizes[0] = (sizes[0] + change - done).max(0);
        for (index, size) in active.into_iter().zip(sizes) {
            self.resize(index, size);
        }
    }

    /// How much a set would change to keep its part of the whole.
    fn share(&self, member: &Member) -> i32 {
        let size = member.wanted();
        if self.replicas() == 0 {
            return -size;
        }
        let noted = meta::annotation(&member.set.metadata, MAXIMUM).and_then(|text| text.parse::<i32>().ok());
        let shown = self.deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
        let whole = noted.unwrap_or(shown);
        if size == 0 || whole <= 0 {
            return 0;
        }
        let target = f64::from(size) * f64::from(self.replicas() + self.max_surge()) / f64::from(whole);
        // Sizes are far below the point where a double loses whole numbers.
        target.round() as i32 - size
    }

    /// The indices (for [`Rollout::member_mut`]) of the members for which `keep` holds.
    pub(super) fn indices(&self, keep: impl Fn(&Member) -> bool) -> Vec<usize> {
        self.members().enumerate().filter(|(_, member)| keep(member)).map(|(index, _)| index).collect()
    }
}
