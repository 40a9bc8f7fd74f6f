//! Ours and a real kube-scheduler on the same cluster states, made by chance: the same nodes fit, who fits nowhere is told the
//! same, who is placed is placed by the real one on a node that ours holds for one of the best, and evictions do equally little
//! harm.
//!
//! `PLINTH_DIFFERENTIAL` is the number of states (40), or `seed=N` for one alone. `PLINTH_DIFFERENTIAL_KUBECONFIG` names an API
//! server elsewhere, where nothing else runs: its nodes and the pods of namespace `default` are deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use runtime::{Clock, Tasks};
use sched_config::{Catalogue, Configuration, Gates, GoDuration};
use scheduler::why::{ANNOTATION, Attempt};
use serde_json::{Value, json};

use crate::{
    api::Api,
    devices::{self, CLAIMS, CLASSES, SLICES},
    listener::Listener,
    scheduler::{Scheduler, real},
    states::{self, PROBE, State},
};

const PODS: &str = "/api/v1/namespaces/default/pods";
const NODES: &str = "/api/v1/nodes";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const THEIRS: &str = "theirs";
const OURS: &str = "ours";
/// What a pod is told for which a claim is freed.
const DEALLOCATED: &str = "deallocation of ResourceClaim completed";
/// Who has bound a pod after evictions has done so by then.
const IN_VAIN_AFTER: Duration = Duration::from_secs(10);
/// More nodes than any state has.
const ALL: usize = 64;

/// What became of the pod in question.
#[derive(Debug)]
struct Outcome {
    node: Option<String>,
    /// Why it found no node at first.
    message: Option<String>,
    /// The priorities of those that were evicted for it, the highest first.
    evicted: Vec<i64>,
    /// How many of these evictions break a budget.
    violations: i64,
    /// The nodes that fitted it, if it was placed at once.
    fitting: Option<BTreeSet<String>>,
    /// The devices that its claims have, by claim.
    devices: BTreeMap<String, Vec<String>>,
    /// What ours says of the nodes.
    attempt: Option<Attempt>,
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_decides_as_a_real_one_does() {
    let Some(real) = real() else { return };
    let asked = std::env::var("PLINTH_DIFFERENTIAL").unwrap_or_default();
    let seeds: Vec<u64> = match asked.strip_prefix("seed=") {
        Some(seed) => vec![seed.parse().unwrap()],
        None => (0..asked.parse().unwrap_or(40)).collect(),
    };
    let closely = seeds.len() == 1;
    let cluster = Cluster::start(&real, closely).await;
    let (mut differing, states) = (Vec::new(), seeds.len());
    let (mut sets, mut evictions, mut guarded) = (0, 0, 0);
    for seed in seeds {
        let state = State::of(seed);
        let theirs = cluster.outcome(&state, THEIRS).await;
        let ours = cluster.outcome(&state, OURS).await;
        sets += usize::from(theirs.fitting.is_some());
        evictions += usize::from(!theirs.evicted.is_empty());
        guarded += usize::from(!theirs.evicted.is_empty() && !state.budgets.is_empty());
        if let Err(difference) = compare(&theirs, &ours) {
            println!(
                "seed {seed}: {difference}\n  theirs {theirs:?}\n  ours   {ours:?}\n  pod {}",
                state.pod(seed, OURS)
            );
            differing.push(seed);
        }
        if closely {
            let devices = state.slices.iter().chain(&state.claims);
            devices.for_each(|object| println!("{object}"));
            // What theirs gave to each node.
            let log = cluster.theirs.log();
            let scores = log.lines().filter(|line| line.contains("scored node") || line.contains("final score"));
            scores.for_each(|line| println!("{line}"));
        }
    }
    println!(
        "{states} states: {sets} sets of nodes that fit, {evictions} with evictions, {guarded} of them with budgets"
    );
    assert!(differing.is_empty(), "decided otherwise: seeds {differing:?}");
    assert!(states < 40 || (sets > 10 && guarded > 0), "too little was compared");
}

fn compare(theirs: &Outcome, ours: &Outcome) -> Result<(), String> {
    let freed = |one: &Outcome| one.message.as_ref().is_some_and(|message| message.contains(DEALLOCATED));
    if freed(theirs) || freed(ours) {
        // It is tried again at once with the devices that are free then, which one of them may have done already.
        return Ok(());
    }
    // A pod that others were evicted for may be bound before it was seen what it was told.
    // Likewise, one that is tried again before all of them are gone is told something else.
    let again = |one: &Outcome| one.message.as_ref().is_some_and(|message| message.contains("a terminating pod on"));
    let seen = [theirs, ours].iter().all(|one| one.message.is_some() && !again(one));
    if theirs.message != ours.message && (seen || theirs.evicted.is_empty()) {
        return Err("not told the same".to_owned());
    }
    if (&theirs.evicted, theirs.violations) != (&ours.evicted, ours.violations) {
        return Err("not the same harm".to_owned());
    }
    match (&theirs.node, &ours.node) {
        (None, None) => Ok(()),
        // After an eviction there was one node to go to. A real one may not hear of it that the victims are gone, and look again
        // after minutes.
        (_, Some(_)) if !theirs.evicted.is_empty() => Ok(()),
        _ if theirs.fitting != ours.fitting => Err("not the same nodes fit".to_owned()),
        (Some(node), Some(own)) if node == own && theirs.devices != ours.devices => {
            Err("not the same devices".to_owned())
        }
        (Some(node), Some(_)) => {
            let attempt = ours.attempt.as_ref().ok_or("ours does not say why")?;
            let best = attempt.scores.first().map(|best| best.score);
            let found = attempt.scores.iter().find(|scores| scores.node == *node);
            match found {
                Some(scores) if Some(scores.score) == best => Ok(()),
                Some(scores) => Err(format!("theirs took {scores:?}, not {:?}", attempt.scores.first())),
                None => Err(format!("theirs took {node}, which does not fit by ours")),
            }
        }
        _ => Err("placed by one only".to_owned()),
    }
}

struct Cluster {
    api: Api,
    tasks: Tasks,
    theirs: Scheduler,
    /// Hears which nodes fit by theirs.
    listener: Listener,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Cluster {
    async fn start(real: &Path, closely: bool) -> Self {
        let api = match std::env::var_os("PLINTH_DIFFERENTIAL_KUBECONFIG") {
            Some(path) => Api::elsewhere(path.into()).await,
            None => Api::start().await,
        };
        for priority in 0..states::PRIORITIES {
            let class = json!({"metadata": {"name": format!("p{priority}")}, "value": priority * 100});
            api.make("/apis/scheduling.k8s.io/v1/priorityclasses", class).await;
        }
        let never = json!({"metadata": {"name": states::NEVER}, "value": 1000, "preemptionPolicy": "Never"});
        api.make("/apis/scheduling.k8s.io/v1/priorityclasses", never).await;
        let account = json!({"metadata": {"name": "default"}});
        api.make("/api/v1/namespaces/default/serviceaccounts", account).await;
        for class in devices::classes() {
            api.make(CLASSES, class).await;
        }
        let config = api.dir.path().join("theirs.yaml");
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        let connection = format!("{{kubeconfig: {}, qps: 10000, burst: 10000}}", api.kubeconfig().display());
        let rest = "leaderElection: {leaderElect: false}\npodInitialBackoffSeconds: 1\n";
        let profile = format!("profiles: [{{schedulerName: {THEIRS}}}]\n");
        let tasks = Tasks::root();
        let (listener, extenders) = Listener::start(&tasks).await;
        std::fs::write(&config, format!("{head}clientConnection: {connection}\n{rest}{profile}{extenders}")).unwrap();
        let verbosity = if closely { "-v=10" } else { "-v=1" };
        let theirs = Scheduler::start(real, &[format!("--config={}", config.display()), verbosity.to_owned()]);
        let gates = Gates::default();
        let ours = format!("{head}profiles: [{{schedulerName: {OURS}}}]\n");
        let read = sched_config::read(ours.as_bytes(), &gates).unwrap();
        let long = GoDuration::seconds(300);
        let configuration = Configuration::new(&read, long, &gates, &Catalogue::in_tree()).unwrap();
        let options =
            scheduler::Options::new(api.client(), Clock::system(), tasks.clone(), telemetry::Metrics::default());
        scheduler::start(scheduler::Options { configuration, named: ALL, ..options }).unwrap().lead();
        Cluster { api, tasks, theirs, listener }
    }

    /// Makes the state anew and the pod with it, and looks what the scheduler of this name does.
    async fn outcome(&self, state: &State, side: &str) -> Outcome {
        self.clear().await;
        for budget in &state.budgets {
            let mut made = self.api.send("POST", BUDGETS, budget.clone()).await;
            made["status"] = budget["status"].clone();
            let path = format!("{BUDGETS}/{}/status", budget["metadata"]["name"].as_str().unwrap());
            self.api.send("PUT", &path, made).await;
        }
        for node in &state.nodes {
            let status = node["status"].clone();
            let mut made = self.api.send("POST", NODES, node.clone()).await;
            made["status"] = status;
            let path = format!("{NODES}/{}/status", node["metadata"]["name"].as_str().unwrap());
            self.api.send("PUT", &path, made).await;
        }
        for pod in &state.pods {
            self.api.send("POST", PODS, pod.clone()).await;
        }
        let (slice, claim) = devices::probe();
        for slice in state.slices.iter().chain([&slice]) {
            self.api.send("POST", SLICES, slice.clone()).await;
        }
        for claim in state.claims.iter().chain([&claim]) {
            let mut made = self.api.send("POST", CLAIMS, claim.clone()).await;
            if let Some(status) = claim.get("status") {
                made["status"] = status.clone();
                let path = format!("{CLAIMS}/{}/status", claim["metadata"]["name"].as_str().unwrap());
                self.api.send("PUT", &path, made).await;
            }
        }
        // The last node, slice and claim, and the last pod: whoever has seen them has seen all.
        self.api.send("POST", PODS, states::probe(side)).await;
        self.api.wait(&format!("{PODS}/{PROBE}"), "probe", |pod| pod["spec"]["nodeName"].is_string()).await;
        let pod = state.pod(state.seed, side);
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        self.api.send("POST", PODS, pod).await;
        let path = format!("{PODS}/{name}");
        let told = |pod: &Value| {
            let all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let found =
                all.into_iter().find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False");
            found.map(|condition| condition["message"].as_str().unwrap_or_default().to_owned())
        };
        let placed = |pod: &Value| pod["spec"]["nodeName"].is_string();
        let mut pod = self.api.wait(&path, "decision", |pod| placed(pod) || told(pod).is_some()).await;
        let message = told(&pod);
        if !placed(&pod) && !pod["status"]["nominatedNodeName"].is_null() {
            // It may be in vain: a claim that is allocated on the node may be given up meanwhile.
            let since = Instant::now();
            let ended = |pod: &Value| placed(pod) || since.elapsed() > IN_VAIN_AFTER;
            pod = self.api.wait(&path, "binding after an eviction", ended).await;
        }
        let left = self.names(PODS).await;
        let gone = |pod: &&Value| !left.contains_key(pod["metadata"]["name"].as_str().unwrap());
        let victims: Vec<&Value> = state.pods.iter().filter(gone).collect();
        let violations = states::violations(&state.budgets, &victims);
        let mut evicted: Vec<i64> = victims.into_iter().map(states::priority).collect();
        evicted.sort_by_key(|priority| std::cmp::Reverse(*priority));
        let at_once = message.is_none() && evicted.is_empty();
        let attempt = if side == OURS && at_once { Some(self.attempt(&name).await) } else { None };
        let fitting = match &attempt {
            Some(attempt) => Some(attempt.scores.iter().map(|scores| scores.node.clone()).collect()),
            None if side == THEIRS && at_once => self.listener.fitting(&name),
            None => None,
        };
        let node = pod["spec"]["nodeName"].as_str().map(str::to_owned);
        Outcome { node, message, evicted, violations, fitting, devices: self.devices(&pod).await, attempt }
    }

    /// The devices of the pod's claims.
    async fn devices(&self, pod: &Value) -> BTreeMap<String, Vec<String>> {
        let mut all = BTreeMap::new();
        for wanted in pod["spec"]["resourceClaims"].as_array().into_iter().flatten() {
            let name = wanted["resourceClaimName"].as_str().unwrap();
            let claim = self.api.get(&format!("{CLAIMS}/{name}")).await;
            let results = claim["status"]["allocation"]["devices"]["results"].as_array().cloned().unwrap_or_default();
            let device = |result: &Value| format!("{} {}/{}", result["request"], result["pool"], result["device"]);
            all.insert(name.to_owned(), results.iter().map(device).collect());
        }
        all
    }

    async fn attempt(&self, pod: &str) -> Attempt {
        let about = |events: &Value| {
            let all = events["items"].as_array().cloned().unwrap_or_default();
            let of = |event: &Value| event["reason"] == "Scheduled" && event["involvedObject"]["name"] == pod;
            let event = all.into_iter().find(of)?;
            serde_json::from_str::<Attempt>(event["metadata"]["annotations"][ANNOTATION].as_str()?).ok()
        };
        let events =
            self.api.wait("/api/v1/namespaces/default/events", "event", |events| about(events).is_some()).await;
        about(&events).unwrap()
    }

    async fn names(&self, path: &str) -> BTreeMap<String, ()> {
        let list = self.api.get(path).await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| (item["metadata"]["name"].as_str().unwrap().to_owned(), ())).collect()
    }

    async fn clear(&self) {
        for path in [PODS, NODES, SLICES, CLAIMS, BUDGETS] {
            for name in self.names(path).await.into_keys() {
                let path = format!("{path}/{name}");
                let mut object = self.api.get(&path).await;
                if object["metadata"]["finalizers"].is_array() {
                    object["metadata"]["finalizers"] = json!([]);
                    self.api.send("PUT", &path, object).await;
                }
                self.api.delete(&path).await;
            }
        }
    }
}
