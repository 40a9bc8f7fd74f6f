//! Decisions without an API server: the engine of crate `sched` in this process, with the workloads' nodes and pods.
//! What it decides is carried out at once, and none of that is timed.
//!
//! Time stands still but where all wait for a pause to end: then it is that late.

use std::time::{Duration, Instant};

use anyhow::ensure;
use sched::{Decision, Engine, Options, convert, framework::Gang, labels::Labels, object};

use super::{
    measure::{init_namespace, present_namespace},
    objects::{self, GANG, INIT_NAMESPACE, MEASURED_NAMESPACE, SELECTED, Shape, Template},
    workloads::{Plan, Size, Workload},
};
use crate::{
    interrupt,
    report::{
        Goal::{self, AtMost, Open},
        Report,
    },
};

/// Where the curve is measured, with so many decisions at each point.
const CURVE: [usize; 7] = [500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000];
const CURVE_PODS: usize = 10_000;
/// Attempts per pod after which a run is given up: preemption takes two.
const ATTEMPTS: usize = 20;

/// Those in which something comes and goes beside are no other decisions.
const SAME: [Workload; 2] = [Workload::PreemptionAsync, Workload::MixedChurn];

/// Tells the time of decisions for each kind of workload, and how it grows with the nodes.
pub fn run(only: &[Workload], size: Size, report: &mut Report) -> anyhow::Result<()> {
    let wanted = |workload: &Workload| only.is_empty() || only.contains(workload);
    for workload in Workload::ALL.iter().filter(|workload| wanted(workload) && !SAME.contains(workload)) {
        let plan = Plan::new(*workload, size);
        let goals = if *workload == Workload::Basic { [AtMost(20.0), AtMost(200.0)] } else { [Open, Open] };
        tell(report, &plan.title(), &time(&plan)?, goals);
    }
    if wanted(&Workload::Basic) && size.nodes.is_none() {
        for nodes in CURVE {
            let pods = if size.quick { CURVE_PODS / 10 } else { CURVE_PODS };
            let plan = Plan::new(Workload::Basic, Size { nodes: Some(nodes), pods: Some(pods), quick: false });
            tell(report, &format!("curve: {nodes} nodes"), &time(&plan)?, [Open, Open]);
        }
    }
    Ok(())
}

fn tell(report: &mut Report, what: &str, times: &[Duration], goals: [Goal; 2]) {
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    let sum: Duration = times.iter().sum();
    report.plinth(&format!("{what}: a decision, p50"), at(0.5), "µs", goals[0]);
    report.plinth(&format!("{what}: p99"), at(0.99), "µs", goals[1]);
    report.plinth(&format!("{what}: decisions"), times.len() as f64 / sum.as_secs_f64(), "/s", Open);
}

/// How long each decision about the measured pods took, in rising order.
fn time(plan: &Plan) -> anyhow::Result<Vec<Duration>> {
    let mut bench = Bench { engine: Engine::new(Options::default()), now: Duration::ZERO, times: Vec::new() };
    bench.fill(plan)?;
    let (shape, count) = plan.init;
    let namespaces: Vec<String> = (0..plan.init_namespaces).map(|index| init_namespace(plan, index)).collect();
    bench.place(shape, count, "init-", &namespaces)?;
    bench.times.clear();
    let (shape, count) = plan.measured;
    bench.place(shape, count, "pod-", &[MEASURED_NAMESPACE.to_owned()])?;
    let mut times = bench.times;
    times.sort();
    Ok(times)
}

struct Bench {
    engine: Engine,
    now: Duration,
    times: Vec<Duration>,
}

impl Bench {
    /// What is there from the beginning.
    fn fill(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let zones: Vec<Template> = match plan.zones {
            [] => vec![objects::node(None)],
            zones => zones.iter().map(|zone| objects::node(Some(zone))).collect(),
        };
        for n in 0..plan.nodes {
            let mut body = Vec::new();
            zones[n % zones.len()].write(&format!("node-{n}"), &mut body);
            self.engine.upsert_node(convert::node(&serde_json::from_slice(&body)?)?, self.now);
        }
        let namespaces = (0..plan.init_namespaces).map(|index| init_namespace(plan, index));
        let present = (0..plan.present).map(present_namespace);
        for name in namespaces.chain(present).chain([MEASURED_NAMESPACE.to_owned(), INIT_NAMESPACE.to_owned()]) {
            let labels: Labels = [(SELECTED.0.into(), SELECTED.1.into())].into_iter().collect();
            self.engine.set_namespace(&name.as_str().into(), Some(labels), self.now);
        }
        if plan.init.0 == Shape::Guarded {
            let mut body = Vec::new();
            objects::budget().write("guard", &mut body);
            let mut budget = convert::budget(&serde_json::from_slice(&body)?)?;
            budget.namespace = INIT_NAMESPACE.into();
            self.engine.set_budget(&INIT_NAMESPACE.into(), &"guard".into(), Some(budget));
        }
        let gang = Gang { min_count: plan.measured.1 };
        self.engine.set_group(&MEASURED_NAMESPACE.into(), &GANG.into(), Some(Some(gang)), self.now);
        let template = Shape::Default.template(true);
        for round in 0..plan.present {
            for n in 0..plan.nodes {
                let pod = pod(&template, Shape::Default, &format!("node-{n}"), &present_namespace(round))?;
                self.engine.upsert_pod(pod, self.now);
            }
        }
        Ok(())
    }

    /// Makes so many pods and decides about them until each has a node.
    fn place(&mut self, shape: Shape, count: usize, prefix: &str, namespaces: &[String]) -> anyhow::Result<()> {
        let template = shape.template(false);
        for n in 0..count {
            let pod = pod(&template, shape, &format!("{prefix}{n}"), &namespaces[n % namespaces.len()])?;
            self.engine.upsert_pod(pod, self.now);
        }
        let mut left = count;
        for attempt in 0.. {
            if left == 0 {
                return Ok(());
            }
            ensure!(attempt < count * ATTEMPTS, "{left} of {count} pods have no node after {attempt} attempts");
            let began = Instant::now();
            let decision = self.engine.next(self.now);
            let took = began.elapsed();
            match decision {
                Some(decision) => {
                    self.times.push(took);
                    left -= usize::from(self.carry_out(decision));
                }
                None => {
                    let at = self.engine.wake_at();
                    ensure!(at.is_some(), "{left} of {count} pods fit nowhere");
                    self.now = at.unwrap_or_default().max(self.now);
                }
            }
            if attempt % 1024 == 0 {
                interrupt::check()?;
            }
        }
        Ok(())
    }

    /// Does as an API server and a kubelet would. Whether a pod has got its node.
    fn carry_out(&mut self, decision: Decision) -> bool {
        match decision {
            Decision::Bind(reservation) => {
                let mut pod = (*reservation.pod).clone();
                pod.node_name = Some(reservation.node);
                self.engine.upsert_pod(pod, self.now);
                true
            }
            Decision::Unschedulable { victims, .. } => {
                for victim in victims.into_iter().flat_map(|victims| victims.pods) {
                    self.engine.remove_pod(&victim.uid, self.now);
                }
                false
            }
            // Nobody is asked here.
            Decision::Consult { .. }
            | Decision::ConsultVictims { .. }
            | Decision::KeptOut { .. }
            | Decision::Failed { .. } => false,
        }
    }
}

/// A pod as it would be read from the API.
fn pod(template: &Template, shape: Shape, name: &str, namespace: &str) -> anyhow::Result<sched::Pod> {
    let mut body = Vec::new();
    template.write(name, &mut body);
    let mut object: object::Pod = serde_json::from_slice(&body)?;
    object.metadata.uid = Some(format!("{namespace}/{name}"));
    object.metadata.namespace = Some(namespace.to_owned());
    if let Some(spec) = &mut object.spec {
        spec.priority = Some(shape.priority());
    }
    Ok(convert::pod(&object)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_is_decided() {
        for workload in Workload::ALL {
            let plan = Plan::new(workload, Size { nodes: Some(60), pods: Some(20), quick: false });
            let times = time(&plan).unwrap_or_else(|error| panic!("{workload:?}: {error:#}"));
            assert!(times.len() >= 20, "{workload:?}: {}", times.len());
        }
    }
}
