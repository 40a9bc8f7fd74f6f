//! Times decisions.
use sched::{Decision, Engine, Options, convert};
use serde_json::json;
use std::time::{Duration, Instant};

fn main() {
    let kind = std::env::args().nth(1).unwrap_or("basic".into());
    let arg = |n: usize, d: usize| std::env::args().nth(n).map_or(d, |a| a.parse().unwrap());
    let (nodes, pods) = (arg(2, 5000), arg(3, 10000));
    let mut engine = Engine::new(Options::default());
    for n in 0..nodes {
        let name = format!("node-{n}");
        let object = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", n % 3)}},
            "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}}});
        engine.upsert_node(convert::node(&serde_json::from_value(object).unwrap()).unwrap(), Duration::ZERO);
    }
    let affinity = |which: &str, key: &str| {
        json!({which: {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"color": "green"}}, "topologyKey": key, "namespaces": ["default"]}]}})
    };
    let mut make = Vec::new();
    for p in 0..pods {
        let name = format!("pod-{p}");
        let mut object = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"color": "green"}},
          "spec": {"containers": [{"name": "pause", "image": "registry.k8s.io/pause:3.9", "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}}}]}});
        match kind.as_str() {
            "spread" => {
                object["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"color": "green"}}}])
            }
            "softspread" => {
                object["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"color": "green"}}}])
            }
            "hostspread" => {
                object["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"color": "green"}}}])
            }
            "anti" => object["spec"]["affinity"] = affinity("podAntiAffinity", "kubernetes.io/hostname"),
            "affinity" => object["spec"]["affinity"] = affinity("podAffinity", "topology.kubernetes.io/zone"),
            "unique" => object["metadata"]["labels"]["n"] = json!(name),
            "uniquespec" => {
                object["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": format!("node-{}", p % nodes)})
            }
            _ => {}
        }
        make.push(convert::pod(&serde_json::from_value(object).unwrap()).unwrap());
    }
    let start = Instant::now();
    for pod in make {
        engine.upsert_pod(pod, Duration::ZERO);
    }
    println!("queued in {:?}", start.elapsed());
    let mut times = Vec::new();
    let start = Instant::now();
    let mut failed = 0;
    loop {
        let begin = Instant::now();
        match engine.next(Duration::ZERO) {
            None => break,
            Some(Decision::Bind(_)) => {}
            Some(Decision::Unschedulable { diagnosis, .. }) => {
                if failed == 0 {
                    println!("{}", diagnosis.message());
                }
                failed += 1;
            }
        }
        times.push(begin.elapsed());
    }
    let total = start.elapsed();
    times.sort();
    let at = |p: f64| times[((times.len() - 1) as f64 * p) as usize];
    println!(
        "{kind} {nodes} nodes {} decisions ({failed} failed) in {total:?}: {:.0}/s p50 {:?} p99 {:?} max {:?}",
        times.len(),
        times.len() as f64 / total.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
