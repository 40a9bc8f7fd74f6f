//! Plugins that change while the engine runs, that answer for one pod alone, or that fail to give a score.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use sched::{
    Decision, Engine, NodeInfo, Options, Pod, Profile, World,
    diagnosis::Rejection,
    framework::{Event, Group, GroupScore, Grouping, Plugin, Point, PreFilter, PreScore, Score},
};
use serde_json::json;

use super::{T0, node, pod, seconds};

#[derive(Default)]
struct State {
    /// What it becomes when it is renewed.
    opens: AtomicBool,
    own: AtomicBool,
    scoreless: AtomicBool,
    /// Nodes have scores, and all of them together have none.
    never_together: AtomicBool,
    asked: AtomicUsize,
}

struct Door {
    open: bool,
    state: Arc<State>,
}

struct Scoreless;

impl Score for Scoreless {
    fn score(&self, _node: &NodeInfo, _world: &World) -> Result<i64, Rejection> {
        Err(Rejection::unresolvable("no score"))
    }
}

impl Grouping for Scoreless {
    fn width(&self) -> usize {
        1
    }

    fn key(&self, _node: &NodeInfo, _world: &World, key: &mut Vec<i64>) {
        key.push(0);
    }
}

impl GroupScore for Scoreless {
    fn score(&self, _groups: &[Group<'_>], _world: &World, _scores: &mut [i64]) -> Result<(), Rejection> {
        Err(Rejection::resolvable("no score together"))
    }
}

impl Plugin for Door {
    fn name(&self) -> &str {
        "Door"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, _pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        self.state.asked.fetch_add(1, Ordering::Relaxed);
        let open = self.open;
        let filter = PreFilter::by_node(move |_: &NodeInfo, _: &World| match open {
            true => Ok(()),
            false => Err(Rejection::unresolvable("closed")),
        });
        Ok(PreFilter { own: self.state.own.load(Ordering::Relaxed), ..filter })
    }

    fn pre_score(&self, _pod: &Pod, _world: &mut World) -> PreScore {
        match self.state.scoreless.load(Ordering::Relaxed) {
            true => PreScore::by_node(Scoreless),
            false if self.state.never_together.load(Ordering::Relaxed) => PreScore::by_group(Scoreless),
            false => PreScore::default(),
        }
    }

    fn helps(&self, _pod: &Pod, _event: &Event, _world: &World) -> bool {
        false
    }

    fn renew(&mut self) {
        self.open = self.state.opens.load(Ordering::Relaxed);
    }
}

fn start(open: bool) -> (Engine, Arc<State>) {
    let state = Arc::new(State::default());
    let profile = Profile::new("default-scheduler").with(Box::new(Door { open, state: state.clone() }), 1);
    let mut engine = Engine::new(Options { profiles: vec![profile], ..Default::default() });
    engine.upsert_node(node("a", "8", "8Gi", json!({})), T0);
    (engine, state)
}

fn place(engine: &mut Engine, name: &str) -> Option<String> {
    engine.upsert_pod(pod(name, "1", json!({})), T0);
    match engine.next(T0) {
        Some(Decision::Bind(_)) => None,
        Some(Decision::Unschedulable { diagnosis, .. }) => Some(diagnosis.message()),
        other => panic!("{name} is not due: {other:?}"),
    }
}

#[test]
fn a_renewed_plugin_is_asked_anew_and_what_it_rejected_is_tried_again() {
    let (mut engine, state) = start(false);
    for name in ["p1", "p2", "p3"] {
        assert_eq!(place(&mut engine, name).unwrap(), "0/1 nodes are available: 1 closed.");
    }
    engine.renew("Another", seconds(60));
    assert!(engine.next(seconds(60)).is_none(), "nothing has changed for them");
    state.opens.store(true, Ordering::Relaxed);
    engine.renew("Door", seconds(60));
    for _ in 0..3 {
        assert!(matches!(engine.next(seconds(60)), Some(Decision::Bind(_))));
    }
}

#[test]
fn what_holds_for_one_pod_is_not_kept_for_its_like() {
    let check = |own: bool, expected: usize| {
        let (mut engine, state) = start(true);
        state.own.store(own, Ordering::Relaxed);
        for name in ["p1", "p2", "p3"] {
            assert_eq!(place(&mut engine, name), None);
        }
        assert_eq!(state.asked.load(Ordering::Relaxed), expected, "own: {own}");
    };
    // Once for the first that comes, and once for all that are like it.
    check(false, 2);
    check(true, 3);
}

#[test]
fn a_node_without_a_score_is_rejected() {
    let (mut engine, state) = start(true);
    state.scoreless.store(true, Ordering::Relaxed);
    assert_eq!(place(&mut engine, "p1").unwrap(), "0/1 nodes are available: 1 no score.");
}

#[test]
fn a_pod_whose_nodes_cannot_be_compared_waits() {
    let (mut engine, state) = start(true);
    state.never_together.store(true, Ordering::Relaxed);
    for name in ["p1", "p2", "p3"] {
        assert_eq!(place(&mut engine, name).unwrap(), "0/1 nodes are available: no score together.");
    }
    state.never_together.store(false, Ordering::Relaxed);
    state.opens.store(true, Ordering::Relaxed);
    engine.renew("Door", seconds(60));
    for _ in 0..3 {
        assert!(matches!(engine.next(seconds(60)), Some(Decision::Bind(_))));
    }
}
