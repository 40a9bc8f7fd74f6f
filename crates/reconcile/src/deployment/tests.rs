//! A small world of one Deployment: actions are carried out on it, its sets make their pods at once, and pods become
//! available when the test says so.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Severity;

struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    pods: Vec<Arc<Pod>>,
    now: Timestamp,
    log: Vec<String>,
}

impl World {
    fn new(replicas: i32, strategy: Value) -> Self {
        let deployment = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "one"}]}},
                "strategy": strategy,
                "progressDeadlineSeconds": 600,
                "revisionHistoryLimit": 2,
            },
        }));
        World {
            deployment: deployment.unwrap(),
            sets: Vec::new(),
            pods: Vec::new(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            log: Vec::new(),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut k8s_openapi::api::apps::v1::DeploymentSpec)) {
        change(self.deployment.spec.as_mut().unwrap());
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    fn image(&mut self, image: &str) {
        let image = image.to_owned();
        self.change(|spec| spec.template.spec.as_mut().unwrap().containers[0].image = Some(image));
    }

    fn step(&mut self) -> Vec<Action> {
        let sets: Vec<Arc<ReplicaSet>> = self.sets.iter().cloned().map(Arc::new).collect();
        let input = Input { deployment: &self.deployment, sets: &sets, pods: &self.pods, now: self.now };
        let actions = reconcile(&input);
        for action in &actions {
            self.execute(action);
        }
        actions
    }

    fn execute(&mut self, action: &Action) {
        match action {
            Action::CreateSet(set) => {
                let mut set = (**set).clone();
                set.metadata.uid = Some(format!("rs{}", self.log.len() + self.sets.len()));
                set.metadata.generation = Some(1);
                set.metadata.creation_timestamp = Some(meta::api_time(self.now));
                self.now = meta::after(self.now, Duration::from_secs(1));
                self.sets.push(set);
            }
            Action::UpdateSet(set) => {
                let at = self.sets.iter().position(|s| s.metadata.name == set.metadata.name).unwrap();
                self.sets[at] = (**set).clone();
            }
            Action::DeleteSet(set) => self.sets.retain(|s| s.metadata.name != set.metadata.name),
            Action::Annotate(annotations) => self.deployment.metadata.annotations = Some(annotations.clone()),
            Action::Status(status) => self.deployment.status = Some((**status).clone()),
            Action::Notice(notice) => {
                assert_eq!(notice.severity, Severity::Normal);
                self.log.push(notice.message.clone());
            }
            Action::Adopt(_) | Action::Release(_) | Action::Again(_) => {}
        }
    }

    /// The sets' controllers make or take their pods; up to `ready` of those that are not become available.
    fn settle(&mut self, mut ready: i32) {
        for set in self.sets.iter_mut().rev() {
            let wanted = set.spec.as_ref().unwrap().replicas.unwrap();
            let status = set.status.get_or_insert_default();
            let before = status.available_replicas.unwrap_or(0).min(wanted);
            let grown = ready.min(wanted - before);
            ready -= grown;
            status.replicas = wanted;
            status.ready_replicas = Some(before + grown);
            status.available_replicas = Some(before + grown);
            status.observed_generation = set.metadata.generation;
        }
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(|set| set.spec.as_ref().unwrap().replicas.unwrap()).collect()
    }

    fn available(&self) -> i32 {
        self.sets.iter().filter_map(|set| set.status.as_ref()).map(|s| s.available_replicas.unwrap_or(0)).sum()
    }

    /// Steps until nothing is asked for any longer.
    fn converge(&mut self) {
        let mut quiet = 0;
        for _ in 0..200 {
            self.settle(i32::MAX);
            let idle = self.step().iter().all(|action| matches!(action, Action::Again(_)));
            // Twice, as what was idle may have been waiting for pods that have settled since.
            quiet = if idle { quiet + 1 } else { 0 };
            if quiet == 2 {
                return;
            }
        }
        panic!("does not converge: {:?}", self.sizes());
    }

    fn reason(&self, kind: &str) -> (String, String, String) {
        let status = self.deployment.status.as_ref().unwrap();
        let found = status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap();
        (found.status.clone(), found.reason.clone().unwrap(), found.message.clone().unwrap())
    }
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

#[test]
fn first_rollout() {
    let mut world = World::new(3, rolling("25%".into(), "25%".into()));
    world.step();
    assert_eq!(world.sizes(), [3]);
    let name = world.sets[0].metadata.name.clone().unwrap();
    assert_eq!(world.log, [format!("Scaled up replica set {name} from 0 to 3")]);
    assert_eq!(meta::annotation(&world.deployment.metadata, REVISION), Some("1"));
    let created = format!("Created new replica set \"{name}\"");
    assert_eq!(world.reason("Progressing"), ("True".into(), "NewReplicaSetCreated".into(), created));
    assert_eq!(world.reason("Available").1, "MinimumReplicasUnavailable");
    world.converge();
    let done = format!("ReplicaSet \"{name}\" has successfully progressed.");
    assert_eq!(world.reason("Progressing"), ("True".into(), "NewReplicaSetAvailable".into(), done));
    assert_eq!(world.reason("Available").1, "MinimumReplicasAvailable");
}

#[test]
fn rolling_update_step_by_step() {
    let mut world = World::new(3, rolling("25%".into(), "25%".into()));
    world.converge();
    world.image("two");
    world.log.clear();
    world.converge();
    let steps: Vec<&str> = world.log.iter().map(|line| line.rsplit_once(" from ").unwrap().1).collect();
    assert_eq!(steps, ["0 to 1", "3 to 2", "1 to 2", "2 to 1", "2 to 3", "1 to 0"]);
    assert_eq!(world.sizes(), [0, 3]);
    assert_eq!(meta::annotation(&world.deployment.metadata, REVISION), Some("2"));
}

#[test]
fn undo_adopts_the_old_set_under_a_new_revision() {
    let mut world = World::new(2, rolling(1.into(), 0.into()));
    world.converge();
    world.image("two");
    world.converge();
    world.image("one");
    world.converge();
    assert_eq!(world.sizes(), [2, 0]);
    let annotation = |key: &str| meta::annotation(&world.sets[0].metadata, key).map(str::to_owned);
    assert_eq!(annotation(REVISION).as_deref(), Some("3"));
    assert_eq!(annotation("deployment.kubernetes.io/revision-history").as_deref(), Some("1"));
    assert_eq!(meta::annotation(&world.deployment.metadata, REVISION), Some("3"));
}

#[test]
fn history_is_cut() {
    let mut world = World::new(1, rolling(1.into(), 0.into()));
    for image in ["one", "two", "three", "four", "five"] {
        world.image(image);
        world.converge();
    }
    let revisions: Vec<_> = world.sets.iter().map(|s| meta::annotation(&s.metadata, REVISION).unwrap()).collect();
    assert_eq!(revisions, ["3", "4", "5"]);
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut world = World::new(2, json!({"type": "Recreate"}));
    world.converge();
    world.image("two");
    let old = world.sets[0].metadata.uid.clone().unwrap();
    let pod = json!({"metadata": {"name": "p", "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "o", "uid": old, "controller": true}]},
        "status": {"phase": "Running"}});
    world.pods = vec![Arc::new(serde_json::from_value(pod).unwrap())];
    world.converge();
    assert_eq!(world.sizes(), [0]);
    world.pods.clear();
    world.converge();
    assert_eq!(world.sizes(), [0, 2]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(2, rolling(1.into(), 0.into()));
    world.converge();
    world.change(|spec| spec.paused = Some(true));
    world.image("two");
    world.change(|spec| spec.replicas = Some(4));
    world.converge();
    assert_eq!(world.sizes(), [4]);
    assert_eq!(world.reason("Progressing").1, "DeploymentPaused");
    world.change(|spec| spec.paused = Some(false));
    world.converge();
    assert_eq!(world.sizes(), [0, 4]);
}

#[test]
fn a_resize_in_the_middle_is_shared_in_proportion() {
    let mut world = World::new(10, rolling(3.into(), 2.into()));
    world.converge();
    world.image("two");
    // The new pods never become ready: the rollout stands at 8 old and 5 new.
    for _ in 0..4 {
        world.step();
        world.settle(0);
    }
    assert_eq!(world.sizes(), [8, 5]);
    world.change(|spec| spec.replicas = Some(15));
    world.step();
    assert_eq!(world.sizes(), [11, 7]);
}

#[test]
fn a_stuck_rollout_times_out() {
    let mut world = World::new(1, rolling(1.into(), 0.into()));
    world.step();
    world.settle(0);
    world.step();
    let again = world.step().into_iter().find_map(|a| if let Action::Again(d) = a { Some(d) } else { None }).unwrap();
    world.now = meta::after(world.now, again);
    world.step();
    let (status, reason, message) = world.reason("Progressing");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ProgressDeadlineExceeded"));
    assert!(message.ends_with("has timed out progressing."), "{message}");
}

#[test]
fn sets_are_adopted_and_released() {
    let mut world = World::new(1, rolling(1.into(), 0.into()));
    world.converge();
    world.sets[0].metadata.owner_references = None;
    assert!(matches!(world.step().as_slice(), [Action::Adopt(_)]));
    world.sets[0].metadata.owner_references = Some(vec![meta::controller_reference(&world.deployment)]);
    world.sets[0].metadata.labels = None;
    assert!(matches!(world.step()[0], Action::Release(_)));
}

#[test]
fn a_collision_is_counted_unless_it_is_our_own() {
    let mut world = World::new(1, rolling(1.into(), 0.into()));
    world.converge();
    assert_eq!(collision(&world.deployment, &world.sets[0]), None);
    let mut foreign = world.sets[0].clone();
    foreign.metadata.owner_references = None;
    assert_eq!(collision(&world.deployment, &foreign).unwrap().collision_count, Some(1));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    /// However slowly pods become ready and however the Deployment is changed meanwhile, a rollout never takes
    /// availability below its floor, never has more pods than its ceiling, and ends where it should.
    #[test]
    fn rollouts_keep_their_bounds(
        replicas in 1..12i32,
        surge in 0..5i32,
        unavailable in 0..5i32,
        ready in proptest::collection::vec(0..3i32, 1..40),
        swap in 0..40usize,
    ) {
        let mut world = World::new(replicas, rolling(surge.into(), unavailable.into()));
        world.converge();
        let (surge, unavailable) = if surge + unavailable == 0 { (0, 1) } else { (surge, unavailable) };
        world.image("two");
        for (n, ready) in ready.into_iter().enumerate() {
            if n == swap {
                world.image("three");
            }
            world.step();
            prop_assert!(world.sizes().iter().sum::<i32>() <= replicas + surge, "{:?}", world.sizes());
            world.settle(0);
            prop_assert!(world.available() >= replicas - unavailable.min(replicas), "{:?}", world.sizes());
            world.settle(ready);
        }
        world.converge();
        prop_assert_eq!(world.sizes().iter().sum::<i32>(), replicas);
        let newest = world.sets.last().unwrap().spec.as_ref().unwrap().replicas;
        prop_assert_eq!(newest, Some(replicas));
    }

    /// Resizing at any moment ends at the size asked for.
    #[test]
    fn resizes_converge(first in 0..12i32, second in 0..12i32, steps in 0..6usize) {
        let mut world = World::new(first, rolling("25%".into(), "25%".into()));
        world.converge();
        world.image("two");
        for _ in 0..steps {
            world.step();
            world.settle(1);
        }
        world.change(|spec| spec.replicas = Some(second));
        world.converge();
        prop_assert_eq!(world.sizes().iter().sum::<i32>(), second);
    }
}
