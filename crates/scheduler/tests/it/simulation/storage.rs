//! The controllers of volumes: one binds claims to the volumes that a scheduler has chosen for them, the other makes volumes where
//! a scheduler has said, late, and not always.

use std::{collections::BTreeMap, time::Duration};

use runtime::Tasks;
use serde_json::{Value, json};

use super::{
    api::{Api, State},
    random::Random,
    store::{Store, name, uid},
    volumes::{self, BY_CONTROLLER, LOCAL, MADE, Place, SELECTED_NODE, claim_of, selected_node, volume_of},
};

/// The longest that it takes to make a volume, in milliseconds, as long as things go wrong.
const LATE: u64 = 20_000;
/// So many of a thousand volumes are not made at the first attempt, likewise.
const FAILURES: u64 = 250;

/// A volume that is being made: for which node, when it is there, and whether it fails.
struct Making {
    node: String,
    due: Duration,
    fails: bool,
}

pub fn control(api: Api, tasks: &Tasks, mut random: Random) {
    tasks.spawn("volumes", async move {
        let (mut making, mut done, mut made) = (BTreeMap::new(), 0, 0);
        loop {
            tokio::time::sleep(Duration::from_millis(random.between(50, 1000))).await;
            if api.lock().store.version() == done && making.is_empty() {
                continue;
            }
            api.change(|state, now| {
                bind(&mut state.store);
                provision(state, &mut making, &mut made, &mut random, now);
                bind(&mut state.store);
                done = state.store.version();
            });
        }
    });
}

fn all(store: &Store, resource: &str) -> Vec<Value> {
    store.all(resource).cloned().collect()
}

/// A volume that is for a claim is bound to it, unless the claim has another already or is gone.
fn bind(store: &mut Store) {
    for mut volume in all(store, "persistentvolumes") {
        let Some(wanted) = claim_of(&volume) else { continue };
        let claim = store.all("persistentvolumeclaims").find(|claim| uid(claim) == wanted).cloned();
        match claim {
            None => give_up(store, volume),
            Some(mut claim) => match volume_of(&claim) {
                None => {
                    volumes::bind(&mut claim, &mut volume);
                    store.put("persistentvolumeclaims", claim);
                    store.put("persistentvolumes", volume);
                }
                Some(bound) if bound == name(&volume) => {}
                Some(_) => give_up(store, volume),
            },
        }
    }
}

/// A volume is nobody's any more: one that was made for a claim goes; any other is emptied and there again.
fn give_up(store: &mut Store, mut volume: Value) {
    if volumes::class(&volume) == MADE {
        return store.remove("persistentvolumes", name(&volume));
    }
    volume["spec"].as_object_mut().unwrap().remove("claimRef");
    if let Some(annotations) = volume["metadata"]["annotations"].as_object_mut() {
        annotations.remove(BY_CONTROLLER);
    }
    volume["status"]["phase"] = json!("Available");
    store.put("persistentvolumes", volume);
}

fn provision(
    state: &mut State,
    making: &mut BTreeMap<String, Making>,
    made: &mut u64,
    random: &mut Random,
    now: Duration,
) {
    let faults = state.faults.on;
    let claims = all(&state.store, "persistentvolumeclaims");
    making.retain(|of, _| claims.iter().any(|claim| uid(claim) == of && volume_of(claim).is_none()));
    for mut claim in claims {
        let Some(node) = selected_node(&claim).map(str::to_owned) else { continue };
        if volume_of(&claim).is_some() || volumes::class(&claim) == LOCAL {
            continue;
        }
        let due = now + Duration::from_millis(random.between(0, if faults { LATE } else { 1000 }));
        let fails = faults && random.chance(FAILURES);
        let job = making.entry(uid(&claim).to_owned()).or_insert(Making { node, due, fails });
        if job.due > now && faults {
            continue;
        }
        let Making { node, fails, .. } = making.remove(uid(&claim)).unwrap();
        let zone = state.judge.machine(&node).map(|machine| machine.zone);
        state.story.say(now, format_args!("volume for {} on {node}: {}", name(&claim), zone.is_some() && !fails));
        let Some(zone) = zone.filter(|_| !fails) else {
            claim["metadata"]["annotations"].as_object_mut().unwrap().remove(SELECTED_NODE);
            state.store.put("persistentvolumeclaims", claim);
            continue;
        };
        *made += 1;
        let place = if random.chance(500) { Place::Host(node) } else { Place::Zone(zone) };
        let name = format!("made-{made}");
        let mut volume = volumes::volume(&name, &name, MADE, volumes::request(&claim), &place);
        volumes::set_claim(&mut volume, &claim);
        state.store.put("persistentvolumes", volume);
    }
}
