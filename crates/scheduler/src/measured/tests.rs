//! Whatever a plugin can do, it does behind the decorator, too; and what it does is written down.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use runtime::Clock;
use sched::{
    Decision, Diagnosis, Engine, NodeInfo, Options, Profile, convert,
    framework::{Filter, Group, GroupFilter, GroupScore, Grouping, Score},
};
use serde_json::{Value, json};

use super::*;
use crate::metrics::PointLabels;

/// The file that has the trait.
const FRAMEWORK: &str = include_str!("../../../sched/src/framework.rs");

/// What was reached of a plugin that answers otherwise than the trait does by default.
#[derive(Clone, Default)]
struct Reached(Arc<Mutex<BTreeSet<&'static str>>>);

impl Reached {
    fn at<T>(&self, method: &'static str, answer: T) -> T {
        self.0.lock().insert(method);
        answer
    }
}

fn no() -> Rejection {
    Rejection::unresolvable("no")
}

#[deny(clippy::missing_trait_methods)]
impl Plugin for Reached {
    fn name(&self) -> &str {
        self.at("name", "Everything")
    }

    fn points(&self) -> &'static [Point] {
        self.at("points", &[Point::Reserve])
    }

    fn pre_enqueue(&self, _pod: &Pod, _world: &World) -> Result<(), Rejection> {
        self.at("pre_enqueue", Err(no()))
    }

    fn rank(&self, _pod: &Pod) -> i64 {
        self.at("rank", 77)
    }

    fn pre_filter(&self, _pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        let (filter, group): (Box<dyn Filter>, Box<dyn GroupFilter>) = (Box::new(self.clone()), Box::new(self.clone()));
        let only = Some(vec!["a".into()]);
        self.at("pre_filter", Ok(PreFilter { filter: Some(filter), group: Some(group), only, own: true }))
    }

    fn post_filter(&self, _pod: &Pod, _found: &Unplaced<'_>, _world: &World) -> PostFilter {
        self.at("post_filter", PostFilter::Says("said".into()))
    }

    fn pre_score(&self, _pod: &Pod, _world: &mut World) -> PreScore {
        let (score, group): (Box<dyn Score>, Box<dyn GroupScore>) = (Box::new(self.clone()), Box::new(self.clone()));
        self.at("pre_score", PreScore { score: Some(score), group: Some(group), own: true })
    }

    fn reserve(&mut self, _pod: &Pod, _node: NodeId, _world: &mut World) -> Result<(), Rejection> {
        self.at("reserve", Err(no()))
    }

    fn unreserve(&mut self, _pod: &Pod, _node: &str, _world: &mut World) {
        self.at("unreserve", ());
    }

    fn permit(&self, _pod: &Pod, _node: &str, _world: &World) -> Result<Option<Duration>, Rejection> {
        self.at("permit", Ok(Some(Duration::from_secs(7))))
    }

    fn permitted(&self, _pod: &Pod, _node: &str, _world: &World) -> Progress {
        self.at("permitted", Progress::Waiting)
    }

    fn pre_bind(&self, _pod: &Pod, _world: &World) -> PreBind {
        self.at("pre_bind", PreBind { wait: Some(Duration::from_secs(8)), ..PreBind::default() })
    }

    fn pre_bound(&self, _pod: &Pod, _node: &str, _world: &World) -> Progress {
        self.at("pre_bound", Progress::Waiting)
    }

    fn may_bind(&self, _pod: &Pod, _node: &str, _world: &World) -> Result<(), Rejection> {
        self.at("may_bind", Err(no()))
    }

    fn bind(&self, _pod: &Pod, _node: &str, _world: &World) -> Result<Bind, Rejection> {
        self.at("bind", Err(no()))
    }

    fn waited_in_vain(&self) -> String {
        self.at("waited_in_vain", "vain".to_owned())
    }

    fn take_back(&self, _pod: &Pod, _world: &World) -> Vec<Write> {
        let (claim, uid) = (("n".into(), "c".into()), "u".into());
        self.at("take_back", vec![Write::UnreserveClaim { claim, uid }])
    }

    fn post_bind(&mut self, _pod: &Pod, _node: &str, _world: &mut World) {
        self.at("post_bind", ());
    }

    fn renew(&mut self) {
        self.at("renew", ());
    }

    fn helps(&self, _pod: &Pod, _event: &Event, _world: &World) -> bool {
        self.at("helps", false)
    }

    fn helps_itself(&self, _old: &Pod, _new: &Pod) -> bool {
        self.at("helps_itself", false)
    }
}

impl Filter for Reached {
    fn filter(&self, _node: &NodeInfo, _world: &World) -> Result<(), Rejection> {
        self.at("Filter::filter", Err(no()))
    }
}

impl Score for Reached {
    fn score(&self, _node: &NodeInfo, _world: &World) -> Result<i64, Rejection> {
        self.at("Score::score", Ok(42))
    }
}

impl Grouping for Reached {
    fn width(&self) -> usize {
        self.at("Grouping::width", 1)
    }

    fn key(&self, _node: &NodeInfo, _world: &World, key: &mut Vec<i64>) {
        key.push(self.at("Grouping::key", 9));
    }
}

impl GroupFilter for Reached {
    fn filter(&self, _key: &[i64], _world: &World) -> Result<(), Rejection> {
        self.at("GroupFilter::filter", Err(no()))
    }
}

impl GroupScore for Reached {
    fn score(&self, _groups: &[Group<'_>], _world: &World, scores: &mut [i64]) -> Result<(), Rejection> {
        scores.fill(self.at("GroupScore::score", 43));
        Ok(())
    }
}

/// The names of a trait's methods, from its source.
fn methods(of: &str) -> BTreeSet<&'static str> {
    let start = FRAMEWORK.find(&format!("pub trait {of}:")).unwrap();
    let text = &FRAMEWORK[start..];
    let text = &text[..text.find("\n}\n").unwrap()];
    text.lines().filter_map(|line| line.trim().strip_prefix("fn ")?.split('(').next()).collect()
}

fn meter() -> (Arc<Meter>, Registry) {
    let points = prometheus_client::metrics::family::Family::<PointLabels, _>::new_with_constructor(
        (|| prometheus_client::metrics::histogram::Histogram::new([1.0])) as fn() -> _,
    );
    let (figures, mut registry) = (Figures::new(points.clone()), Registry::default());
    figures.register(&mut registry);
    registry.register("points", "Points", points);
    (Meter::new(Clock::system(), figures), registry)
}

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

fn made<T: serde::de::DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).unwrap()
}

fn node(name: &str) -> sched::Node {
    let amounts = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    convert::node(&made(&json!({"metadata": {"name": name}, "status": {"allocatable": amounts}}))).unwrap()
}

fn pod(name: &str) -> Pod {
    let metadata = json!({"name": name, "namespace": "d", "uid": name});
    convert::pod(&made(&json!({"metadata": metadata, "spec": {"schedulerName": "s", "containers": []}}))).unwrap()
}

/// Calls everything there is of a plugin, and checks its answers, in a turn that is measured or in one that is not.
fn everything(measured: bool) -> String {
    let ((meter, registry), reached) = (meter(), Reached::default());
    let points = [Point::PreFilter, Point::PreScore];
    let mut plugin = Measured::new(Box::new(reached.clone()), "s", &points, &meter);
    reached.0.lock().clear();
    let mut sampler = Sampler::new(meter);
    while sampler.is_due() != measured {
        sampler.takes_in();
        sampler.taken_in();
    }
    let (mut world, pod) = (World::default(), pod("p"));
    let node = {
        world.upsert_node(Arc::new(node("a")));
        world.find("a").unwrap()
    };
    sampler.takes_in();
    assert_eq!((plugin.name(), plugin.points()), ("Everything", &[Point::Reserve][..]));
    assert_eq!(plugin.pre_enqueue(&pod, &world), Err(no()));
    assert_eq!(plugin.rank(&pod), 77);
    let found = plugin.pre_filter(&pod, &mut world).unwrap();
    assert_eq!((found.only, found.own), (Some(vec!["a".into()]), true));
    let (filter, group) = (found.filter.unwrap(), found.group.unwrap());
    assert_eq!(filter.filter(world.info(node), &world), Err(no()));
    let mut key = Vec::new();
    group.key(world.info(node), &world, &mut key);
    assert_eq!((group.width(), &key[..], group.filter(&key, &world)), (1, &[9][..], Err(no())));
    let found = plugin.pre_score(&pod, &mut world);
    let (score, group) = (found.score.unwrap(), found.group.unwrap());
    assert_eq!((score.score(world.info(node), &world), found.own), (Ok(42), true));
    group.key(world.info(node), &world, &mut key);
    let mut scores = [0];
    group.score(&[Group { key: &key, nodes: 1 }], &world, &mut scores).unwrap();
    assert_eq!((group.width(), &key[..], scores), (1, &[9, 9][..], [43]));
    assert_eq!(plugin.reserve(&pod, node, &mut world), Err(no()));
    plugin.unreserve(&pod, "a", &mut world);
    assert_eq!(plugin.permit(&pod, "a", &world), Ok(Some(Duration::from_secs(7))));
    assert_eq!(plugin.permitted(&pod, "a", &world), Progress::Waiting);
    assert_eq!(plugin.pre_bind(&pod, &world).wait, Some(Duration::from_secs(8)));
    assert_eq!(plugin.pre_bound(&pod, "a", &world), Progress::Waiting);
    assert_eq!(plugin.may_bind(&pod, "a", &world), Err(no()));
    assert_eq!(plugin.bind(&pod, "a", &world), Err(no()));
    assert_eq!(plugin.waited_in_vain(), "vain");
    assert_eq!(plugin.take_back(&pod, &world).len(), 1);
    plugin.post_bind(&pod, "a", &mut world);
    plugin.renew();
    assert!(!plugin.helps(&pod, &Event::NamespaceChanged, &world));
    assert!(!plugin.helps_itself(&pod, &pod));
    assert_eq!(
        plugin.post_filter(&pod, &Unplaced::before_nodes(&Diagnosis::default()), &world),
        PostFilter::Says("said".into())
    );
    sampler.taken_in();
    let expected: BTreeSet<String> = methods("Plugin")
        .into_iter()
        .map(str::to_owned)
        .chain(
            ["Filter", "Score", "Grouping", "GroupFilter", "GroupScore"]
                .into_iter()
                .flat_map(|of| methods(of).into_iter().map(move |method| format!("{of}::{method}"))),
        )
        .collect();
    let reached: BTreeSet<String> = reached.0.lock().iter().map(|method| (*method).to_owned()).collect();
    assert_eq!(reached, expected, "what is missing is not handed on by Measured, or not called here");
    text(&registry)
}

#[test]
fn everything_is_handed_on() {
    let told = everything(false);
    assert!(!told.contains("scheduler_plugin_execution_duration_seconds_count"), "{told}");
    // Once for all nodes, so that each counts.
    assert!(told.contains("extension_point=\"PreFilter\",profile=\"s\"} 1\n"), "{told}");
    let told = everything(true);
    let check = |point: &str, status: &str, calls: u64| {
        let line = format!(
            "scheduler_plugin_execution_duration_seconds_count{{plugin=\"Everything\",extension_point=\"{point}\",\
             status=\"{status}\"}} {calls}\n"
        );
        assert!(told.contains(&line), "{line} in\n{told}");
    };
    check("PreEnqueue", "UnschedulableAndUnresolvable", 1);
    check("PreFilter", "Success", 1);
    check("Filter", "UnschedulableAndUnresolvable", 2);
    check("Filter", "Success", 1);
    check("PreScore", "Success", 1);
    check("Score", "Success", 3);
    check("Reserve", "UnschedulableAndUnresolvable", 1);
    check("Unreserve", "Success", 1);
    check("Permit", "Wait", 1);
    check("PostBind", "Success", 1);
    check("PostFilter", "Unschedulable", 1);
    for line in [
        "points_count{extension_point=\"Filter\",status=\"Success\",profile=\"s\"} 1\n",
        "points_count{extension_point=\"Permit\",status=\"Wait\",profile=\"s\"} 1\n",
        "points_count{extension_point=\"Reserve\",status=\"UnschedulableAndUnresolvable\",profile=\"s\"} 1\n",
        "{plugin=\"Everything\",event=\"NamespaceUpdate\",hint=\"QueueSkip\"} 1\n",
        "{plugin=\"Everything\",event=\"UnschedulablePodUpdate\",hint=\"QueueSkip\"} 1\n",
    ] {
        assert!(told.contains(line), "{line} in\n{told}");
    }
}

/// A plugin with a filter, which says yes, and a score.
struct Agreeable;

impl Plugin for Agreeable {
    fn name(&self) -> &'static str {
        "Agreeable"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, _pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        Ok(PreFilter::by_node(|_: &NodeInfo, _: &World| Ok(())))
    }

    fn pre_score(&self, _pod: &Pod, _world: &mut World) -> PreScore {
        PreScore::by_node(|_: &NodeInfo, _: &World| 1)
    }
}

#[test]
fn evaluations_are_estimated_from_what_is_measured() {
    let (meter, registry) = meter();
    let measured = Measured::new(Box::new(Agreeable), "s", Agreeable.points(), &meter);
    let profile = Profile::new("s").with(Box::new(measured), 1);
    let mut engine = Engine::new(Options { profiles: vec![profile], named: 0, ..Options::default() });
    (0..50).for_each(|n| engine.upsert_node(node(&format!("n{n}")), Duration::ZERO));
    let mut sampler = Sampler::new(meter);
    for n in 0..1000 {
        engine.upsert_pod(pod(&format!("p{n}")), Duration::ZERO);
        let decision = sampler.decision(|| engine.next(Duration::ZERO));
        assert!(matches!(decision, Some(Decision::Bind(_))), "{decision:?}");
    }
    let told = text(&registry);
    let of = |point: &str| -> u64 {
        let head = format!(
            "scheduler_plugin_evaluation_total{{plugin=\"Agreeable\",extension_point=\"{point}\",profile=\"s\"}} "
        );
        let line = told.lines().find_map(|line| line.strip_prefix(&head));
        line.unwrap_or_else(|| panic!("{head} in\n{told}")).parse().unwrap()
    };
    // Two plans, and from then on the one node that the decision before has filled.
    assert_eq!(of("PreScore"), 2);
    assert!((700..1400).contains(&of("Filter")), "{}", of("Filter"));
    // The node that is chosen is asked about once more, to tell why.
    assert!((1400..2800).contains(&of("Score")), "{}", of("Score"));
    assert!(!told.contains("extension_point=\"PreFilter\""), "it is not asked there:\n{told}");
}

/// A plugin that takes no node and has others evicted.
struct Ruthless;

impl Plugin for Ruthless {
    fn name(&self) -> &'static str {
        "Ruthless"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter, Point::PostFilter]
    }

    fn pre_filter(&self, _pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        Ok(PreFilter::by_node(|_: &NodeInfo, _: &World| Err(Rejection::resolvable("full"))))
    }

    fn post_filter(&self, _pod: &Pod, _found: &Unplaced<'_>, _world: &World) -> PostFilter {
        PostFilter::Preempts
    }
}

#[test]
fn looking_for_whom_to_evict_is_the_time_of_who_wants_it() {
    let (meter, registry) = meter();
    let measured = Measured::new(Box::new(Ruthless), "s", Ruthless.points(), &meter);
    let profile = Profile::new("s").with(Box::new(measured), 1);
    let mut engine = Engine::new(Options { profiles: vec![profile], ..Options::default() });
    engine.upsert_node(node("a"), Duration::ZERO);
    let mut sampler = Sampler::new(meter);
    for n in 0..50 {
        engine.upsert_pod(pod(&format!("p{n}")), Duration::ZERO);
        let decision = sampler.decision(|| engine.next(Duration::ZERO));
        assert!(matches!(decision, Some(Decision::Unschedulable { victims: None, .. })), "{decision:?}");
    }
    let told = text(&registry);
    for line in [
        "{plugin=\"Ruthless\",extension_point=\"PostFilter\",status=\"Unschedulable\"} ",
        "points_count{extension_point=\"PostFilter\",status=\"Unschedulable\",profile=\"s\"} ",
    ] {
        assert!(told.contains(line), "{line} in\n{told}");
    }
}
