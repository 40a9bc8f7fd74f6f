//! What plugins of others can do at the extension points, and what follows: the behaviours of kube-scheduler's framework tests.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sched::{
    Decision, NodeInfo, Pod, World,
    diagnosis::Rejection,
    framework::{Bind, Event, Plugin, Point, PostFilter, PreFilter, Unplaced},
    pre_bind::{Progress, Request, Verb},
    world::NodeId,
};
use serde_json::json;

use crate::{
    made::{apply, at, cluster, labelled, marked, node, pod, profile},
    storage::{Cluster, with},
};

/// What was asked of whom, in order.
type Log = Arc<Mutex<Vec<String>>>;

/// A plugin that writes down what it is asked, and answers as it is told.
#[derive(Clone)]
struct Spy {
    name: &'static str,
    log: Log,
    /// The points at which it takes part.
    points: &'static [Point],
    /// The point at which it rejects pods, while it does.
    rejects: Option<Point>,
    open: Arc<AtomicBool>,
    /// Only these nodes will do.
    only: Option<Vec<&'static str>>,
    /// So long a pod waits for its permit, unless it is open.
    waits: Option<u64>,
    /// The events that help.
    helped_by: fn(&Event) -> bool,
    binds: Bind,
    rescues: PostFilter,
}

impl Spy {
    fn new(name: &'static str, points: &'static [Point], log: &Log) -> Self {
        let (log, open) = (log.clone(), Arc::default());
        let (binds, rescues) = (Bind::Skip, PostFilter::Nothing);
        Spy { name, log, points, rejects: None, open, only: None, waits: None, helped_by: |_| false, binds, rescues }
    }

    fn rejecting(self, point: Point) -> Self {
        Spy { rejects: Some(point), ..self }
    }

    fn asked(&self, point: Point, what: &str) -> Result<(), Rejection> {
        self.log.lock().unwrap().push(format!("{} {what}", self.name));
        match self.rejects {
            Some(at) if at == point && !self.open.load(Ordering::Relaxed) => Err(Rejection::resolvable("not now")),
            _ => Ok(()),
        }
    }
}

impl Plugin for Spy {
    fn name(&self) -> &str {
        self.name
    }

    fn points(&self) -> &'static [Point] {
        self.points
    }

    fn pre_enqueue(&self, _pod: &Pod, _world: &World) -> Result<(), Rejection> {
        self.asked(Point::PreEnqueue, "pre_enqueue")
    }

    fn pre_filter(&self, _pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        self.asked(Point::PreFilter, "pre_filter")?;
        let only = self.only.as_ref().map(|names| names.iter().map(|name| Arc::from(*name)).collect());
        Ok(PreFilter { only, own: true, ..Default::default() })
    }

    fn reserve(&mut self, _pod: &Pod, _node: NodeId, _world: &mut World) -> Result<(), Rejection> {
        self.asked(Point::Reserve, "reserve")
    }

    fn unreserve(&mut self, _pod: &Pod, _node: &str, _world: &mut World) {
        self.log.lock().unwrap().push(format!("{} unreserve", self.name));
    }

    fn permit(&self, _pod: &Pod, _node: &str, _world: &World) -> Result<Option<Duration>, Rejection> {
        self.asked(Point::Permit, "permit")?;
        Ok(self.waits.filter(|_| !self.open.load(Ordering::Relaxed)).map(Duration::from_secs))
    }

    fn permitted(&self, _pod: &Pod, _node: &str, _world: &World) -> Progress {
        match (self.waits, self.open.load(Ordering::Relaxed)) {
            (Some(_), false) => Progress::Waiting,
            _ => Progress::Done,
        }
    }

    fn post_filter(&self, _pod: &Pod, found: &Unplaced<'_>, world: &World) -> PostFilter {
        let resolvable = |info: &&NodeInfo| found.is_resolvable(world.find(&info.node.name).unwrap(), world);
        let count = world.nodes().filter(resolvable).count();
        self.log.lock().unwrap().push(format!("{} post_filter {count}", self.name));
        self.rescues.clone()
    }

    fn bind(&self, _pod: &Pod, _node: &str, _world: &World) -> Result<Bind, Rejection> {
        self.asked(Point::Bind, "bind").map(|()| self.binds.clone())
    }

    fn post_bind(&mut self, _pod: &Pod, _node: &str, _world: &mut World) {
        self.log.lock().unwrap().push(format!("{} post_bind", self.name));
    }

    fn helps(&self, _pod: &Pod, event: &Event, _world: &World) -> bool {
        (self.helped_by)(event)
    }
}

/// Two nodes and a pod, and these plugins beside those that each profile has.
fn start(spies: &[Spy]) -> Cluster {
    let with_all = spies.iter().cloned().fold(profile(&[]), |profile, spy| profile.with(Box::new(spy), 1));
    cluster(with_all, &[node("a", json!({})), node("b", json!({})), pod("p", json!({}))])
}

fn logged(log: &Log) -> String {
    std::mem::take(&mut *log.lock().unwrap()).join(", ")
}

const HOLDS: &[Point] = &[Point::Reserve, Point::Permit, Point::PostBind];

#[test]
fn a_reservation_is_undone_by_all_whoever_refused() {
    let check = |refusing: Option<usize>, expected: &str| {
        let log = Log::default();
        let mut spies = ["A", "B", "C"].map(|name| Spy::new(name, &[Point::Reserve], &log));
        if let Some(at) = refusing {
            spies[at] = spies[at].clone().rejecting(Point::Reserve);
        }
        let mut cluster = start(&spies);
        assert_eq!(cluster.next().starts_with("p -> "), refusing.is_none());
        assert_eq!(logged(&log), expected);
        assert_eq!(cluster.engine.world().placed_pods(), usize::from(refusing.is_none()));
    };
    check(None, "A reserve, B reserve, C reserve");
    check(Some(0), "A reserve, C unreserve, B unreserve, A unreserve");
    check(Some(1), "A reserve, B reserve, C unreserve, B unreserve, A unreserve");
    check(Some(2), "A reserve, B reserve, C reserve, C unreserve, B unreserve, A unreserve");
}

#[test]
fn what_was_reserved_is_given_back_when_the_pod_is_not_bound() {
    let log = Log::default();
    // Not permitted.
    let mut cluster = start(&[Spy::new("A", HOLDS, &log).rejecting(Point::Permit)]);
    assert_eq!(cluster.next(), "p: 0/2 nodes are available: 1 not now.");
    assert_eq!(logged(&log), "A reserve, A permit, A unreserve");
    // Waited for in vain, or not bound: both are the driver's to say.
    let mut cluster = start(&[Spy { waits: Some(10), ..Spy::new("A", HOLDS, &log) }]);
    let reservation = cluster.placed();
    assert_eq!(reservation.permit, Some(Duration::from_secs(10)));
    cluster.engine.undo("p", cluster.now);
    assert_eq!(logged(&log), "A reserve, A permit, A unreserve");
    // Bound: whoever wants to know is told, and nothing is given back.
    let mut cluster = start(&[Spy::new("A", HOLDS, &log)]);
    let reservation = cluster.placed();
    cluster.engine.bound(&reservation);
    apply(&mut cluster, &pod("p", at(&reservation.node)));
    assert_eq!(logged(&log), "A reserve, A permit, A post_bind");
}

#[test]
fn a_pod_goes_on_when_all_permit_it() {
    let log = Log::default();
    let spy = |name, seconds| Spy { waits: Some(seconds), ..Spy::new(name, &[Point::Permit], &log) };
    let (first, second) = (spy("A", 10), spy("B", 20));
    let mut cluster = start(&[first.clone(), second.clone()]);
    assert_eq!(cluster.placed().permit, Some(Duration::from_secs(20)));
    assert_eq!(cluster.engine.permitted("p"), Some(Progress::Waiting));
    first.open.store(true, Ordering::Relaxed);
    assert_eq!(cluster.engine.permitted("p"), Some(Progress::Waiting));
    second.open.store(true, Ordering::Relaxed);
    assert_eq!(cluster.engine.permitted("p"), Some(Progress::Done));
    // Who rejects has the last word, even if another would have it wait.
    let mut cluster = start(&[spy("A", 10), spy("B", 20).rejecting(Point::Permit)]);
    assert!(cluster.next().starts_with("p: "));
}

#[test]
fn the_first_plugin_that_does_not_skip_a_pod_binds_it() {
    let log = Log::default();
    let spy = |name, binds: &Bind| Spy { binds: binds.clone(), ..Spy::new(name, &[Point::Bind], &log) };
    let path = "/apis/example.com/v1/namespaces/default/placements".to_owned();
    let own = Bind::Request(Request { verb: Verb::Create, path, body: "{}".to_owned() });
    let check = |spies: &[Spy], expected: Option<(&str, &Bind)>, asked: &str| {
        // Without DefaultBinder, which every other profile here has.
        let profile = spies
            .iter()
            .cloned()
            .fold(sched::Profile::new("default-scheduler"), |profile, spy| profile.with(Box::new(spy), 1));
        let mut cluster = cluster(profile, &[node("a", json!({})), pod("p", json!({}))]);
        assert_eq!(cluster.next(), "p -> a");
        let binder = cluster.engine.bind("p", cluster.now).unwrap().unwrap();
        assert_eq!(binder.as_ref().map(|binder| (&*binder.plugin, &binder.how)), expected);
        assert_eq!(logged(&log), asked);
    };
    check(&[spy("A", &Bind::Skip), spy("B", &own)], Some(("B", &own)), "A bind, B bind");
    check(&[spy("A", &Bind::Binding), spy("B", &own)], Some(("A", &Bind::Binding)), "A bind");
    check(&[spy("A", &Bind::Skip)], None, "A bind");
    // One that refuses gives the node back.
    let mut cluster = start(&[spy("A", &own).rejecting(Point::Bind)]);
    cluster.placed();
    // DefaultBinder comes before it.
    assert!(matches!(cluster.engine.bind("p", cluster.now), Some(Ok(Some(binder))) if binder.how == Bind::Binding));
    let refusing = sched::Profile::new("default-scheduler").with(Box::new(spy("A", &own).rejecting(Point::Bind)), 1);
    let mut cluster = crate::made::cluster(refusing, &[node("a", json!({})), pod("p", json!({}))]);
    cluster.placed();
    let Some(Err(refusal)) = cluster.engine.bind("p", cluster.now) else { panic!("nobody refuses") };
    assert_eq!(crate::words(Some(*refusal)), "p: 0/1 nodes are available: 1 not now.");
    assert_eq!(cluster.engine.world().placed_pods(), 0);
}

/// What a spy does for a pod that no node takes.
fn rescuing(name: &'static str, log: &Log, rescues: PostFilter) -> Spy {
    Spy { rescues, ..Spy::new(name, &[Point::PostFilter], log) }
}

#[test]
fn plugins_have_their_turns_until_one_has_made_room() {
    let log = Log::default();
    let nominates = |node: &str| PostFilter::Nominates(node.into(), "kept".into());
    // Node a is full of what may be evicted, b is tainted, and the pod is kept off c.
    let objects = [
        crate::made::sized("a", "100m"),
        crate::made::tainted("b", "k=v:NoSchedule"),
        crate::made::asking("victim", "100m", at("a")),
        crate::made::asking("p", "50m", crate::made::priority(10)),
    ];
    let check = |spies: &[Spy], preempts: bool, expected: &str, asked: &str| {
        let plugins: &[&str] = if preempts {
            &["NodeResourcesFit", "TaintToleration", "DefaultPreemption"]
        } else {
            &["NodeResourcesFit", "TaintToleration"]
        };
        let profile = spies.iter().cloned().fold(profile(plugins), |profile, spy| profile.with(Box::new(spy), 1));
        let mut cluster = cluster(profile, &objects);
        let Some(Decision::Unschedulable { diagnosis, victims, nominated, .. }) = cluster.engine.next(cluster.now)
        else {
            panic!("it fits nowhere")
        };
        let victims = victims.map(|victims| victims.node.to_string()).unwrap_or_default();
        let said: Vec<&str> = diagnosis.said.iter().map(|reason| &**reason).collect();
        let found = format!("victims on [{victims}], {nominated:?} nominated, said {said:?}");
        assert_eq!((found.as_str(), logged(&log).as_str()), (expected, asked));
        let kept = nominated.as_deref().unwrap_or(&victims);
        let world = cluster.engine.world();
        let nominee = world.nominated_node("p").map(|node| world.info(node).node.name.to_string());
        assert_eq!(nominee.as_deref().unwrap_or_default(), kept);
    };
    let says = || rescuing("A", &log, PostFilter::Says("sorry".into()));
    check(&[says()], false, "victims on [], None nominated, said [\"sorry\"]", "A post_filter 1");
    let two = [says(), rescuing("B", &log, nominates("b")), rescuing("C", &log, nominates("a"))];
    check(
        &two,
        false,
        "victims on [], Some(\"b\") nominated, said [\"sorry\", \"kept\"]",
        "A post_filter 1, B post_filter 1",
    );
    // Who finds somebody to evict comes first here, so that nobody else is asked.
    check(&two, true, "victims on [a], None nominated, said []", "");
    // A node that is not there is none.
    check(
        &[rescuing("A", &log, nominates("nowhere"))],
        false,
        "victims on [], None nominated, said [\"kept\"]",
        "A post_filter 1",
    );
}

#[test]
fn a_pod_has_the_node_that_a_plugin_has_kept_for_it() {
    let log = Log::default();
    let rescue = PostFilter::Nominates("b".into(), "kept".into());
    let profile = profile(&["NodeResourcesFit"]).with(Box::new(rescuing("A", &log, rescue)), 1);
    let full = |node: &str| crate::made::asking(&format!("on-{node}"), "100m", at(node));
    let objects = [crate::made::sized("a", "100m"), crate::made::sized("b", "100m"), full("a"), full("b")];
    let mut cluster = cluster(profile, &objects);
    apply(&mut cluster, &crate::made::asking("p", "50m", crate::made::priority(5)));
    assert!(cluster.next().starts_with("p: "));
    // There is room everywhere; another of no higher priority cannot have what is kept.
    apply(&mut cluster, &crate::made::asking("other", "80m", json!({})));
    assert!(cluster.next().starts_with("other: "));
    cluster.engine.remove_pod("on-b", cluster.now);
    assert_eq!(cluster.next(), "p -> b");
    assert!(cluster.next().starts_with("other: "));
    cluster.engine.remove_pod("on-a", cluster.now);
    assert_eq!(cluster.next(), "other -> a");
}

#[test]
fn a_pod_that_is_kept_out_for_long_is_told_why() {
    let log = Log::default();
    let spy = Spy::new("A", &[Point::PreEnqueue], &log).rejecting(Point::PreEnqueue);
    let mut cluster = start(std::slice::from_ref(&spy));
    assert_eq!(cluster.next(), "nothing");
    assert_eq!(cluster.engine.wake_at(), Some(cluster.now + Duration::from_secs(1)));
    cluster.now += Duration::from_secs(1);
    assert_eq!(cluster.next(), "p kept out by A: not now");
    // Once is enough.
    assert_eq!((cluster.next().as_str(), cluster.engine.wake_at()), ("nothing", None));
    // It has changed, and is still kept out.
    apply(&mut cluster, &pod("p", marked("x=y")));
    assert_eq!(cluster.next(), "p kept out by A: not now");
    // One that comes in before it was told never hears of it.
    apply(&mut cluster, &pod("q", json!({})));
    spy.open.store(true, Ordering::Relaxed);
    apply(&mut cluster, &pod("q", marked("x=y")));
    assert!(cluster.next().starts_with("q -> "));
    cluster.now += Duration::from_secs(10);
    assert_eq!(cluster.next(), "nothing");
    // What its own gates are, the API server has told.
    let gates = json!({"spec": {"schedulingGates": [{"name": "g"}]}});
    apply(&mut cluster, &pod("gated", gates));
    cluster.now += Duration::from_secs(10);
    assert_eq!(cluster.next(), "nothing");
}

#[test]
fn who_rejects_a_pod_says_what_helps_it() {
    for point in [Point::PreFilter, Point::Reserve, Point::Permit] {
        let log = Log::default();
        let points: &[Point] = &[Point::PreFilter, Point::Reserve, Point::Permit];
        let spy = Spy { helped_by: |event| matches!(event, Event::NodeAdded(_)), ..Spy::new("A", points, &log) };
        let spy = spy.rejecting(point);
        let mut cluster = start(std::slice::from_ref(&spy));
        assert!(cluster.next().starts_with("p: 0/2"), "{point:?}");
        spy.open.store(true, Ordering::Relaxed);
        // Another pod, and a node that changes, are nothing to it.
        apply(&mut cluster, &pod("other", at("a")));
        apply(&mut cluster, &labelled("a", "x=y"));
        assert_eq!(cluster.next(), "nothing", "{point:?}");
        apply(&mut cluster, &node("c", json!({})));
        assert!(cluster.next().starts_with("p -> "), "{point:?}");
    }
}

#[test]
fn a_plugin_may_single_nodes_out_that_need_not_be_there() {
    let log = Log::default();
    let check = |only: &[&'static str], expected: &str| {
        let spy = Spy { only: Some(only.to_vec()), ..Spy::new("A", &[Point::PreFilter], &log) };
        assert_eq!(start(&[spy]).next(), expected);
    };
    check(&["b"], "p -> b");
    check(&["nowhere", "b"], "p -> b");
    check(&["nowhere"], "p: 0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [A].");
}

#[test]
fn a_pod_that_is_kept_out_comes_in_when_something_helps() {
    for helps in [true, false] {
        let log = Log::default();
        let spy = Spy::new("A", &[Point::PreEnqueue], &log).rejecting(Point::PreEnqueue);
        let spy = if helps { Spy { helped_by: |event| matches!(event, Event::PodAdded(_)), ..spy } } else { spy };
        let mut cluster = start(std::slice::from_ref(&spy));
        assert_eq!((cluster.next(), cluster.engine.pending().gated), ("nothing".into(), 1));
        apply(&mut cluster, &node("c", json!({})));
        spy.open.store(true, Ordering::Relaxed);
        assert_eq!(cluster.next(), "nothing");
        apply(&mut cluster, &pod("other", at("a")));
        assert_eq!(cluster.next() != "nothing", helps);
        if !helps {
            // A change of the pod itself has everybody asked again.
            apply(&mut cluster, &pod("p", marked("x=y")));
            assert!(cluster.next().starts_with("p -> "));
        }
    }
}

/// The pods with the longest names go first.
struct LongNames;

impl Plugin for LongNames {
    fn name(&self) -> &str {
        "LongNames"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::QueueSort]
    }

    fn rank(&self, pod: &Pod) -> i64 {
        i64::try_from(pod.name.len()).unwrap()
    }
}

#[test]
fn a_plugin_may_sort_the_queue() {
    let order = |profile: sched::Profile| -> Vec<String> {
        let mut cluster = cluster(profile, &[node("a", json!({}))]);
        for (name, priority) in [("one", 5), ("three", 1), ("two", 5), ("seventeen", 3)] {
            apply(&mut cluster, &pod(name, json!({"spec": {"priority": priority}})));
        }
        std::iter::from_fn(|| match cluster.engine.next(cluster.now) {
            Some(Decision::Bind(reservation)) => Some(reservation.pod.name.to_string()),
            _ => None,
        })
        .collect()
    };
    assert_eq!(order(profile(&[])), ["one", "two", "seventeen", "three"]);
    assert_eq!(order(profile(&[]).with(Box::new(LongNames), 0)), ["seventeen", "three", "one", "two"]);
}

#[test]
fn each_profile_has_pods_of_its_own() {
    let profiles = ["default-scheduler", "custom"].map(|name| {
        let mut profile = profile(&["NodeResourcesFit"]);
        profile.scheduler_name = name.to_owned();
        profile
    });
    let options = sched::Options { profiles: profiles.into(), ..Default::default() };
    let mut cluster = crate::made::with_options(options, &[node("a", json!({}))]);
    for (name, scheduler) in
        [("plain", None), ("named", Some("default-scheduler")), ("custom", Some("custom")), ("foreign", Some("x"))]
    {
        let spec = scheduler.map_or_else(|| json!({}), |name| json!({"spec": {"schedulerName": name}}));
        apply(&mut cluster, &with(pod(name, json!({})), spec));
    }
    let decided: Vec<String> = (0..4).map(|_| cluster.next()).collect();
    assert_eq!(decided, ["plain -> a", "named -> a", "custom -> a", "nothing"]);
}
