//! A small world of one Job: actions are carried out on it, and the test says which pods end and how.

use serde_json::{Value, json};

use super::*;

struct World {
    job: Job,
    pods: Vec<Pod>,
    now: Timestamp,
    made: usize,
    deleted: bool,
    log: Vec<String>,
}

impl World {
    fn new(spec: Value) -> Self {
        let mut full = json!({"backoffLimit": 6, "parallelism": 1, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c"}]}}});
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let job = json!({"metadata": {"name": "work", "namespace": "default", "uid": "j"}, "spec": full});
        World {
            job: serde_json::from_value(job).unwrap(),
            pods: Vec::new(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            made: 0,
            deleted: false,
            log: Vec::new(),
        }
    }

    /// Passes until nothing is asked for any longer.
    fn run(&mut self) -> Option<Duration> {
        for _ in 0..50 {
            let pods: Vec<Arc<Pod>> = self.pods.iter().cloned().map(Arc::new).collect();
            let input = Input { job: &self.job, pods: &pods, settled: true, now: self.now };
            let actions = reconcile(&input);
            let mut again = None;
            let mut busy = false;
            for action in actions {
                busy |= !matches!(action, Action::Again(_));
                match action {
                    Action::Status(status) => self.job.status = Some(*status),
                    Action::Untrack(pods) => self.each(&pods, |pod| pod.metadata.finalizers = None),
                    Action::Delete(pods) => {
                        let uids: Vec<_> = pods.iter().map(|pod| pod.metadata.uid.clone()).collect();
                        self.pods.retain(|pod| !uids.contains(&pod.metadata.uid));
                    }
                    Action::Create(pods) => pods.into_iter().for_each(|pod| self.add(pod)),
                    Action::DeleteJob => {
                        self.deleted = true;
                        return None;
                    }
                    Action::Notice(notice) => self.log.push(format!("{}: {}", notice.reason, notice.message)),
                    Action::Again(after) => again = Some(after),
                }
            }
            if !busy {
                return again;
            }
        }
        panic!("does not come to rest: {:?}", self.job.status);
    }

    fn each(&mut self, pods: &[Arc<Pod>], change: impl Fn(&mut Pod)) {
        for pod in &mut self.pods {
            if pods.iter().any(|other| other.metadata.uid == pod.metadata.uid) {
                change(pod);
            }
        }
    }

    fn add(&mut self, mut pod: Pod) {
        self.made += 1;
        pod.metadata.name = Some(format!("p{}", self.made));
        pod.metadata.uid = pod.metadata.name.clone();
        pod.metadata.creation_timestamp = Some(meta::api_time(self.now));
        self.pods.push(pod);
    }

    fn running(&self) -> Vec<usize> {
        (0..self.pods.len()).filter(|at| pod::is_active(&self.pods[*at])).collect()
    }

    fn end(&mut self, count: usize, phase: &str, code: i32) {
        for at in self.running().into_iter().take(count) {
            self.pods[at].status = serde_json::from_value(json!({"phase": phase, "containerStatuses": [{
                "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code, "finishedAt": self.now.to_string()}}}]}))
            .unwrap();
        }
    }

    fn counts(&self) -> (i32, i32, i32) {
        let status = self.job.status.as_ref().unwrap();
        (status.active.unwrap_or(0), status.succeeded.unwrap_or(0), status.failed.unwrap_or(0))
    }

    fn is(&self, kind: &str) -> bool {
        status::is_true(self.job.status.as_ref().unwrap(), kind)
    }
}

#[test]
fn completions_one_after_another() {
    let mut world = World::new(json!({"completions": 3, "parallelism": 2}));
    world.run();
    assert_eq!(world.counts(), (2, 0, 0));
    assert!(meta::has_finalizer(&world.pods[0].metadata, FINALIZER));
    world.end(1, "Succeeded", 0);
    world.run();
    assert_eq!(world.counts(), (2, 1, 0));
    world.end(2, "Succeeded", 0);
    world.run();
    assert_eq!(world.counts(), (0, 3, 0));
    assert!(world.is("SuccessCriteriaMet") && world.is("Complete"));
    assert_eq!(world.log, ["Completed: Job completed"]);
    assert!(world.pods.iter().all(|pod| pod.metadata.finalizers.is_none()));
    assert!(world.job.status.as_ref().unwrap().completion_time.is_some());
}

#[test]
fn failures_wait_longer_each_time_and_end_at_the_limit() {
    let mut world = World::new(json!({"completions": 1, "backoffLimit": 2}));
    world.run();
    for pause in [10, 20] {
        world.end(1, "Failed", 1);
        let again = world.run();
        assert_eq!((again, world.running().len()), (Some(Duration::from_secs(pause)), 0));
        world.now = meta::after(world.now, Duration::from_secs(pause));
        world.run();
        assert_eq!(world.running().len(), 1);
    }
    world.end(1, "Failed", 1);
    world.run();
    assert_eq!(world.counts(), (0, 0, 3));
    assert!(world.is("FailureTarget") && world.is("Failed"));
    assert_eq!(world.log, ["BackoffLimitExceeded: Job has reached the specified backoff limit"]);
}

#[test]
fn a_deadline_ends_it() {
    let mut world = World::new(json!({"completions": 1, "activeDeadlineSeconds": 30}));
    assert_eq!(world.run(), Some(Duration::from_secs(30)));
    world.now = meta::after(world.now, Duration::from_secs(30));
    world.run();
    assert!(world.is("Failed") && world.pods.is_empty());
    assert_eq!(world.log, ["DeadlineExceeded: Job was active longer than specified deadline"]);
}

#[test]
fn indexes_complete_once_each() {
    let mut world = World::new(json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed"}));
    world.run();
    let indexes: Vec<_> = world.pods.iter().filter_map(indexes::of).collect();
    assert_eq!(indexes, [0, 1, 2]);
    assert_eq!(world.pods[1].spec.as_ref().unwrap().hostname.as_deref(), Some("work-1"));
    assert_eq!(world.pods[1].metadata.generate_name.as_deref(), Some("work-1-"));
    world.end(2, "Succeeded", 0);
    world.run();
    assert_eq!(world.job.status.as_ref().unwrap().completed_indexes.as_deref(), Some("0,1"));
    world.end(1, "Failed", 1);
    let again = world.run().unwrap();
    world.now = meta::after(world.now, again);
    world.run();
    assert_eq!(indexes::of(world.pods.last().unwrap()), Some(2));
    world.end(1, "Succeeded", 0);
    world.run();
    assert!(world.is("Complete"));
    assert_eq!(world.job.status.as_ref().unwrap().completed_indexes.as_deref(), Some("0-2"));
    assert_eq!(world.counts(), (0, 3, 1));
}

#[test]
fn suspend_and_resume() {
    let mut world = World::new(json!({"completions": 1}));
    world.run();
    world.job.spec.as_mut().unwrap().suspend = Some(true);
    world.run();
    assert!(world.pods.is_empty() && world.is("Suspended"));
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    world.run();
    assert!(!world.is("Suspended"));
    assert_eq!(world.running().len(), 1);
    assert_eq!(world.log, ["Suspended: Job suspended", "Resumed: Job resumed"]);
}

#[test]
fn a_failure_policy_decides() {
    let rules = json!([
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [7]}},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]);
    let mut world = World::new(json!({"completions": 1, "podFailurePolicy": {"rules": rules}}));
    world.run();
    world.end(1, "Failed", 7);
    let again = world.run().unwrap();
    assert_eq!(world.counts().2, 0);
    world.now = meta::after(world.now, again);
    world.run();
    world.end(1, "Failed", 42);
    world.run();
    let message = "Container c for pod default/p2 failed with exit code 42 matching FailJob rule at index 1";
    assert_eq!(world.log, [format!("PodFailurePolicy: {message}")]);
}

#[test]
fn it_goes_when_its_time_is_up() {
    let mut world = World::new(json!({"completions": 1, "ttlSecondsAfterFinished": 5}));
    world.run();
    world.end(1, "Succeeded", 0);
    assert_eq!(world.run(), Some(Duration::from_secs(5)));
    world.now = meta::after(world.now, Duration::from_secs(5));
    world.run();
    assert!(world.deleted);
}

#[test]
fn without_completions_one_success_decides() {
    let mut world = World::new(json!({"parallelism": 3}));
    world.run();
    world.end(1, "Succeeded", 0);
    world.run();
    assert!(!world.is("SuccessCriteriaMet"));
    assert_eq!(world.running().len(), 2);
    world.end(2, "Succeeded", 0);
    world.run();
    assert!(world.is("Complete"));
}

#[test]
fn unsettled_caches_make_no_pods() {
    let world = World::new(json!({"completions": 1}));
    let actions = reconcile(&Input { job: &world.job, pods: &[], settled: false, now: world.now });
    assert!(!actions.iter().any(|action| matches!(action, Action::Create(_))));
}

#[test]
fn ranges() {
    for text in ["0", "0,1", "0-2", "0-2,4", "1,3,5-9"] {
        assert_eq!(indexes::format(&indexes::parse(text)).as_deref(), Some(text));
    }
    assert_eq!(indexes::format(&indexes::parse("")), None);
    assert_eq!(indexes::format(&indexes::parse("x,-1,2")), Some("2".into()));
}
