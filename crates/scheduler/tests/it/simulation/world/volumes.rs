//! Volumes and the claims to them come and go.

use std::time::Duration;

use super::{World, ZONES};
use crate::simulation::{
    model::Demand,
    store::name,
    volumes::{self, LOCAL, MADE, Place, claims_of},
};

/// A claim that comes after its pod is so late at most, in milliseconds.
const LATE: u64 = 3000;

impl World {
    pub(super) fn begin_volumes(&mut self) {
        self.api.change(|state, _| volumes::classes().for_each(|class| state.store.put("storageclasses", class)));
        for _ in 0..self.random.between(0, 4) {
            self.add_volume();
        }
    }

    /// One thing happens to volumes or claims.
    pub(super) fn act_on_volumes(&mut self) {
        match self.random.between(0, 2) {
            0 | 1 => self.add_volume(),
            _ => self.delete_claim(),
        }
    }

    /// Somebody has made a volume by hand; where there is no node yet, perhaps.
    fn add_volume(&mut self) {
        self.volumes += 1;
        let (name, random) = (format!("v{}", self.volumes), &mut self.random);
        let (host, zone) = (format!("n{}", random.between(0, 7)), random.pick(&ZONES).unwrap());
        let (place, size) =
            (if random.chance(700) { Place::Host(host) } else { Place::Zone(zone) }, random.between(1, 3));
        self.api.change(|state, now| {
            state.story.say(now, format_args!("volume {name} of {size} Gi at {place:?}"));
            state.store.put("persistentvolumes", volumes::volume(&name, &name, LOCAL, size, &place));
        });
    }

    /// A claim that no pod uses goes.
    fn delete_claim(&mut self) {
        let unused: Vec<String> = {
            let state = self.api.lock();
            let is_used = |claim: &str| state.store.all("pods").any(|pod| claims_of(pod).any(|used| used == claim));
            let all = state.store.all("persistentvolumeclaims").map(|claim| name(claim).to_owned());
            all.filter(|claim| !is_used(claim)).collect()
        };
        let Some(claim) = self.random.pick(&unused) else { return };
        self.api.change(|state, now| {
            state.story.say(now, format_args!("volume claim {claim} is gone"));
            state.store.remove("persistentvolumeclaims", &claim);
        });
    }

    /// A pod may want volumes: of claims of its own, or of one that another uses, too.
    pub(super) fn ask_for_volumes(&mut self, demand: &mut Demand) {
        let (count, shares) = (self.random.between(0, 6).saturating_sub(4), self.random.chance(100));
        for _ in 0..count {
            self.volumes += 1;
            let name = format!("c{}", self.volumes);
            let (class, size) = (self.random.pick(&[LOCAL, MADE]).unwrap(), self.random.between(1, 3));
            let claim = volumes::claim(&name, class, size);
            let pause = self.random.between(0, LATE).checked_sub(LATE / 2);
            self.story_of_claim(&name, class, size);
            let api = self.api.clone();
            let put = move || api.change(|state, _| state.store.put("persistentvolumeclaims", claim));
            match pause {
                None => put(),
                Some(pause) => self.tasks.spawn("claim", async move {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    put();
                }),
            }
            demand.volumes.push(name);
        }
        if shares {
            let all: Vec<String> = {
                let state = self.api.lock();
                state.store.all("persistentvolumeclaims").map(|claim| name(claim).to_owned()).collect()
            };
            let other = self.random.pick(&all).filter(|other| !demand.volumes.contains(other));
            demand.volumes.extend(other);
        }
    }

    fn story_of_claim(&self, name: &str, class: &str, size: u64) {
        self.api.change(|state, now| state.story.say(now, format_args!("volume claim {name} of {size} Gi, {class}")));
    }
}
