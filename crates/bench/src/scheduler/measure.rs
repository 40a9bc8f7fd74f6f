//! One workload on one API server with one scheduler: nodes, what is there before, then the pods that are measured.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{
    bound::Bound,
    contestants::{Api, Contestant, Cost, Scheduler},
    objects::{self, GANG, HIGH, INIT_NAMESPACE, MEASURED_NAMESPACE, Shape, Template},
    throughput::Throughput,
    wire::{Pool, is_success},
    workloads::{Churn, Plan},
};
use crate::interrupt;

/// Requests under way at once.
const CONCURRENCY: usize = 32;
/// How long nothing may be bound before a run is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the churn looks whether it has to end.
const TICK: Duration = Duration::from_millis(20);

/// What the pods' names begin with, before and then measured.
const INIT_PODS: &str = "init-";
const PODS: &str = "pod-";

pub struct Outcome {
    pub throughput: Throughput,
    /// The scheduler, where it is a process of its own; else it is in the server.
    pub scheduler: Option<Cost>,
    pub server: Cost,
    /// From the first creation until the last was answered.
    pub created: Duration,
}

pub fn measure(plan: &Plan, api: &Api, scheduler: &Scheduler) -> anyhow::Result<Outcome> {
    let mut contestant = Contestant::start(api, scheduler)?;
    prepare(plan, &contestant).context("the cluster could not be filled")?;
    contestant.schedule(scheduler)?;
    let outcome = placed(plan, &contestant);
    outcome.with_context(|| contestant.last_words())
}

/// Nodes, namespaces and pods that are there from the beginning.
fn prepare(plan: &Plan, contestant: &Contestant) -> anyhow::Result<()> {
    let target = contestant.target();
    let mut pool = Pool::open(target, CONCURRENCY)?;
    let init = (0..plan.init_namespaces).map(|index| init_namespace(plan, index));
    let present = (0..plan.present).map(present_namespace);
    let namespaces: Vec<String> = init.chain(present).chain([MEASURED_NAMESPACE.to_owned()]).collect();
    let kind = objects::namespace();
    create(&mut pool, namespaces.len(), |n, request| {
        kind.post(target, "/api/v1/namespaces", &namespaces[n], request);
    })?;
    let kind = objects::service_account();
    create(&mut pool, namespaces.len(), |n, request| {
        kind.post(target, &format!("/api/v1/namespaces/{}/serviceaccounts", namespaces[n]), "default", request);
    })?;
    let mut request = Vec::new();
    objects::priority_class().post(target, "/apis/scheduling.k8s.io/v1/priorityclasses", HIGH, &mut request);
    pool.call(is_success, &request)?;
    if plan.init.0 == Shape::Guarded {
        let path = format!("/apis/policy/v1/namespaces/{INIT_NAMESPACE}/poddisruptionbudgets");
        let mut request = Vec::new();
        objects::budget().post(target, &path, "guard", &mut request);
        pool.call(is_success, &request)?;
    }
    if plan.measured.0 == Shape::Gang {
        let path = format!("/apis/scheduling.k8s.io/v1alpha2/namespaces/{MEASURED_NAMESPACE}/podgroups");
        let mut request = Vec::new();
        objects::pod_group(plan.measured.1).post(target, &path, GANG, &mut request);
        pool.call(is_success, &request)?;
    }
    let zones: Vec<Template> = match plan.zones {
        [] => vec![objects::node(None)],
        zones => zones.iter().map(|zone| objects::node(Some(zone))).collect(),
    };
    create(&mut pool, plan.nodes, |n, request| {
        zones[n % zones.len()].post(target, "/api/v1/nodes", &format!("node-{n}"), request);
    })?;
    let pod = Shape::Default.template(true);
    for round in 0..plan.present {
        // A pod is named as its node is, so that one gap serves both; namespaces tell the rounds apart.
        let path = pods(&present_namespace(round));
        create(&mut pool, plan.nodes, |n, request| pod.post(target, &path, &format!("node-{n}"), request))?;
    }
    Ok(())
}

/// Places what has to be there before, then what is measured.
fn placed(plan: &Plan, contestant: &Contestant) -> anyhow::Result<Outcome> {
    let target = contestant.target();
    let mut pool = Pool::open(target, CONCURRENCY)?;
    let (shape, count) = plan.init;
    let pod = shape.template(false);
    let paths: Vec<String> = (0..plan.init_namespaces).map(|index| pods(&init_namespace(plan, index))).collect();
    // Where pods are present that nobody has to place, the watch must not begin with all of them.
    let namespace = (paths.len() == 1).then_some(INIT_NAMESPACE);
    let watch = Bound::watch(target, namespace, INIT_PODS, count)?;
    // The watch is read while pods are created, or the server would end it.
    let creating = || {
        create(&mut pool, count, |n, request| {
            pod.post(target, &paths[n % paths.len()], &format!("{INIT_PODS}{n}"), request);
        })
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let creating = scope.spawn(creating);
        let placed = watch.wait(Instant::now(), PATIENCE).context("pods before the measured ones");
        creating.join().expect("creating does not panic")?;
        placed.map(drop)
    })?;
    measured(plan, contestant, &mut pool)
}

fn measured(plan: &Plan, contestant: &Contestant, pool: &mut Pool) -> anyhow::Result<Outcome> {
    let target = contestant.target();
    let (shape, count) = plan.measured;
    let pod = shape.template(false);
    let path = pods(MEASURED_NAMESPACE);
    let watch = Bound::watch(target, Some(MEASURED_NAMESPACE), PODS, count)?;
    let (scheduler, server) = (contestant.scheduler_cost()?, contestant.server_cost()?);
    let began = Instant::now();
    let over = AtomicBool::new(false);
    let (times, created) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let creating = scope.spawn(|| -> anyhow::Result<Duration> {
            create(pool, count, |n, request| pod.post(target, &path, &format!("{PODS}{n}"), request))?;
            Ok(began.elapsed())
        });
        let churning = plan.churn.map(|churn| {
            scope.spawn({
                let over = &over;
                move || churn_until(over, churn, contestant)
            })
        });
        let times = watch.wait(began, PATIENCE);
        over.store(true, Ordering::Relaxed);
        let created = creating.join().expect("creating does not panic")?;
        if let Some(churning) = churning {
            churning.join().expect("churning does not panic")?;
        }
        Ok((times?, created))
    })?;
    let since = |after: Cost, before: Cost| Cost { cpu: after.cpu - before.cpu, peak: after.peak };
    Ok(Outcome {
        throughput: Throughput::new(&times),
        scheduler: contestant.scheduler_cost()?.map(|cost| since(cost, scheduler.unwrap_or_default())),
        server: since(contestant.server_cost()?, server),
        created,
    })
}

/// Creates so many objects.
fn create(pool: &mut Pool, count: usize, mut write: impl FnMut(usize, &mut Vec<u8>)) -> anyhow::Result<()> {
    let mut next = 0;
    pool.send_all(is_success, |request| {
        let more = next < count;
        if more {
            write(next, request);
            next += 1;
        }
        more
    })
}

fn churn_until(over: &AtomicBool, churn: Churn, contestant: &Contestant) -> anyhow::Result<()> {
    let target = contestant.target();
    let mut pool = Pool::open(target, 1)?;
    let pod = |shape: Shape| shape.template(false);
    let kinds = match churn {
        Churn::Preemptors => vec![(pod(Shape::HighPriority), pods(INIT_NAMESPACE))],
        Churn::Mixed => vec![
            (objects::churn_node(), "/api/v1/nodes".to_owned()),
            (pod(Shape::Large), pods(INIT_NAMESPACE)),
            (objects::churn_service(), format!("/api/v1/namespaces/{INIT_NAMESPACE}/services")),
        ],
    };
    let (mut count, mut due) = (0, Instant::now() + churn.interval());
    while !over.load(Ordering::Relaxed) {
        interrupt::check()?;
        if Instant::now() < due {
            std::thread::sleep(TICK);
            continue;
        }
        due += churn.interval();
        // What comes and goes has the same name each time it comes.
        let goes = churn == Churn::Mixed && count % 2 == 1;
        let name = if churn == Churn::Mixed { "churn".to_owned() } else { format!("churn-{count}") };
        count += 1;
        for (kind, path) in &kinds {
            let mut request = Vec::new();
            if goes {
                let path = format!("{path}/{name}?gracePeriodSeconds=0");
                objects::head(target, "DELETE", &path, None, &mut request);
            } else {
                kind.post(target, path, &name, &mut request);
            }
            pool.call(is_success, &request)?;
        }
    }
    Ok(())
}

fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

pub fn present_namespace(round: usize) -> String {
    format!("present-{round}")
}

pub fn init_namespace(plan: &Plan, index: usize) -> String {
    if plan.init_namespaces == 1 { INIT_NAMESPACE.to_owned() } else { format!("init-{index}") }
}
