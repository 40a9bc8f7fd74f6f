//! The two ways to change a template: step by step (`RollingUpdate`), or all away first (`Recreate`).

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::{Member, Rollout};
use crate::{meta, pod};

impl Rollout {
    /// One step of a rolling update: up, or down, or done.
    pub(super) fn roll(&mut self) {
        self.find_new_set(true);
        if !self.grow_new() && !self.shrink_old() && self.is_complete() {
            self.clean_up();
        }
        self.sync_status();
    }

    /// One step of a replacement: all old pods go before the first new one comes.
    pub(super) fn recreate(&mut self, pods: &[Arc<Pod>]) {
        self.find_new_set(false);
        let mut shrunk = false;
        for index in self.old_indices() {
            shrunk |= self.resize(index, 0);
        }
        if !shrunk && !self.old_pods_run(pods) {
            if self.new.is_none() {
                self.find_new_set(true);
            }
            self.resize(0, self.replicas());
            if self.is_complete() {
                self.clean_up();
            }
        }
        self.sync_status();
    }

    fn old_pods_run(&self, pods: &[Arc<Pod>]) -> bool {
        let new = self.new.as_ref().map(|new| meta::uid(&new.set.metadata));
        pods.iter()
            .any(|pod| !pod::is_finished(pod) && meta::controller_of(&pod.metadata).map(|o| o.uid.as_str()) != new)
    }

    fn grow_new(&mut self) -> bool {
        let Some(present) = self.new.as_ref().map(Member::wanted) else { return false };
        let size = if present > self.replicas() { self.replicas() } else { self.new_set_size() };
        self.resize(0, size)
    }

    /// Takes pods from the old sets as far as availability allows: first those that are not available anyway.
    fn shrink_old(&mut self) -> bool {
        let old_total: i32 = self.old.iter().map(Member::wanted).sum();
        if old_total == 0 {
            return false;
        }
        let minimum = self.replicas() - self.max_unavailable();
        let new_unavailable = self.new.as_ref().map_or(0, |new| new.wanted() - new.available());
        let most = self.total_wanted() - minimum - new_unavailable;
        if most <= 0 {
            return false;
        }
        let unhealthy = self.take_from_old(most, |member| member.wanted() - member.available());
        let spare = self.members().map(Member::available).sum::<i32>() - minimum;
        let healthy = self.take_from_old(spare.min(most - unhealthy), Member::wanted);
        unhealthy + healthy > 0
    }

    /// Takes up to `most` pods from the old sets, the oldest first, from each up to what `from` says.
    fn take_from_old(&mut self, most: i32, from: impl Fn(&Member) -> i32) -> i32 {
        let mut taken = 0;
        for index in self.old_indices() {
            let member = self.member_mut(index);
            let (size, share) = (member.wanted(), from(member).min(most - taken));
            if share > 0 {
                self.resize(index, size - share);
                taken += share;
            }
        }
        taken
    }

    fn old_indices(&self) -> Vec<usize> {
        let first = usize::from(self.new.is_some());
        (first..first + self.old.len()).filter(|index| self.old[index - first].wanted() > 0).collect()
    }
}
