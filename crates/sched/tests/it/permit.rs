//! Plugins that have a say between reserve and bind, and one that wants to know when a pod is bound.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sched::{
    Decision, Engine, Options, Pod, Profile, World,
    diagnosis::Rejection,
    framework::{Plugin, Point},
    plugins,
    pre_bind::Progress,
};
use serde_json::json;

use crate::{T0, next, node, pod, seconds, words};

/// Has pods wait until as many as `together` have a node; nobody goes to a node whose name begins with "not", and nobody is bound
/// to one whose name begins with "late".
struct Together {
    together: usize,
    bound: Arc<AtomicUsize>,
}

impl Plugin for Together {
    fn name(&self) -> &str {
        "Together"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Permit, Point::PreBind, Point::PostBind]
    }

    fn permit(&self, _pod: &Pod, node: &str, world: &World) -> Result<Option<Duration>, Rejection> {
        if node.starts_with("not") {
            return Err(Rejection::resolvable("not there"));
        }
        Ok((world.placed_pods() < self.together).then_some(Duration::from_secs(10)))
    }

    fn permitted(&self, _pod: &Pod, _node: &str, world: &World) -> Progress {
        if world.placed_pods() >= self.together { Progress::Done } else { Progress::Waiting }
    }

    fn may_bind(&self, _pod: &Pod, node: &str, _world: &World) -> Result<(), Rejection> {
        if node.starts_with("late") { Err(Rejection::resolvable("too late")) } else { Ok(()) }
    }

    fn post_bind(&mut self, _pod: &Pod, _node: &str, _world: &mut World) {
        self.bound.fetch_add(1, Ordering::Relaxed);
    }
}

fn engine(together: usize, nodes: &[&str]) -> (Engine, Arc<AtomicUsize>) {
    let bound = Arc::new(AtomicUsize::new(0));
    let profile: Profile = plugins::default_profile("default-scheduler");
    let profile = profile.with(Box::new(Together { together, bound: bound.clone() }), 0);
    let mut engine = Engine::new(Options { profiles: vec![profile], ..Default::default() });
    for name in nodes {
        engine.upsert_node(node(name, "4", "8Gi", json!({})), T0);
    }
    (engine, bound)
}

#[test]
fn a_pod_waits_for_what_a_plugin_wants() {
    let (mut engine, bound) = engine(2, &["a"]);
    engine.upsert_pod(pod("p", "1", json!({})), T0);
    let Some(Decision::Bind(first)) = engine.next(T0) else { panic!("p is not placed") };
    assert_eq!((first.permit, engine.permitted("p")), (Some(Duration::from_secs(10)), Some(Progress::Waiting)));
    engine.upsert_pod(pod("q", "1", json!({})), T0);
    let Some(Decision::Bind(second)) = engine.next(T0) else { panic!("q is not placed") };
    assert_eq!((second.permit, engine.permitted("p")), (None, Some(Progress::Done)));
    engine.bound(&first);
    assert_eq!(bound.load(Ordering::Relaxed), 1);
    // One that has waited in vain gives its node back, and is tried again after its pause.
    engine.undo("q", T0);
    assert_eq!((engine.permitted("q"), engine.world().placed_pods()), (None, 1));
    assert_eq!(words(engine.next(T0)), "nothing");
    assert_eq!(next(&mut engine, seconds(1)), "q -> a");
}

#[test]
fn a_pod_that_is_not_permitted_holds_nothing() {
    let (mut engine, _) = engine(0, &["not-a"]);
    engine.upsert_pod(pod("p", "1", json!({})), T0);
    assert_eq!(next(&mut engine, T0), "p: 0/1 nodes are available: 1 not there.");
    assert_eq!((engine.world().placed_pods(), engine.pending().unschedulable), (0, 1));
}

#[test]
fn a_plugin_may_object_to_a_binding_that_is_due() {
    let (mut engine, _) = engine(0, &["late-a"]);
    engine.upsert_pod(pod("p", "1", json!({})), T0);
    assert_eq!(next(&mut engine, T0), "p -> late-a");
    let Some(Err(objection)) = engine.bind("p", T0) else { panic!("nobody objects") };
    assert_eq!(words(Some(*objection)), "p: 0/1 nodes are available: 1 too late.");
    assert_eq!((engine.world().placed_pods(), engine.pending().unschedulable), (0, 1));
    assert!(engine.bind("p", T0).is_none(), "it has no node any more");
    // Another node helps; nobody objects there.
    engine.upsert_node(node("b", "4", "8Gi", json!({})), seconds(10));
    engine.remove_node("late-a", seconds(10));
    assert_eq!(next(&mut engine, seconds(20)), "p -> b");
    assert!(matches!(engine.bind("p", seconds(20)), Some(Ok(Some(_)))));
}
