//! The example: three pods behind a Service, names, updates under load, adoption after kill -9.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use test_support::{Cluster, until};

use crate::{SOON, apply_example, cluster, pod, wait_for_web_pods, web_pods};

/// One request; the body of its answer.
fn get(address: &str, path: &str) -> Result<String, String> {
    let parsed = address.parse().map_err(|error| format!("{address}: {error}"))?;
    let mut stream = TcpStream::connect_timeout(&parsed, Duration::from_secs(5)).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").map_err(|e| e.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(format!("{answer:?}")),
    }
}

fn service_address(cluster: &Cluster) -> String {
    let ip = cluster.kubectl.ok("get service web -o jsonpath={.spec.clusterIP}");
    format!("{ip}:80")
}

/// Which pod said `Hello from NAME (v1)`.
fn speaker(body: &str) -> String {
    let rest = body.strip_prefix("Hello from ").unwrap_or_else(|| panic!("{body:?}"));
    rest.split([' ', '\n']).next().unwrap().to_owned()
}

#[test]
fn the_service_answers_spread_over_three_pods() {
    let cluster = cluster();
    apply_example(&cluster);
    let pods = wait_for_web_pods(&cluster, 3);
    let address = service_address(&cluster);

    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..90 {
        *seen.entry(speaker(&get(&address, "/").unwrap())).or_default() += 1;
    }
    assert_eq!(seen.keys().cloned().collect::<Vec<_>>(), pods);
    assert!(seen.values().all(|n| *n >= 10), "an even spread gives 30 each: {seen:?}");
    assert_eq!(get(&address, "/config").unwrap().trim(), "Hello from a ConfigMap");

    // Each has its own address, and it is that of the pod network.
    let addresses: std::collections::BTreeSet<String> =
        pods.iter().map(|name| pod(&cluster, name)["status"]["podIP"].as_str().unwrap().to_owned()).collect();
    assert_eq!(addresses.len(), 3);
    assert!(addresses.iter().all(|ip| ip.starts_with("10.42.")), "{addresses:?}");

    from_inside_a_pod(&cluster, &pods);
    node_port(&cluster);
    deleted_pods_come_back_and_scale(&cluster, &pods);
}

/// busybox out of the machine's own static binary: a pod with a shell, without a registry.
fn from_inside_a_pod(cluster: &Cluster, pods: &[String]) {
    crate::pods::import_busybox(cluster);
    cluster.kubectl.ok("run shell --image=example.test/busybox:1 --restart=Never --command -- sleep 3600");
    cluster.kubectl.ok("wait --for=condition=Ready pod/shell --timeout=60s");
    for name in ["web", "web.default", "web.default.svc.cluster.local"] {
        let body = cluster.kubectl.ok(&format!("exec shell -- curl -sf -m 5 http://{name}/"));
        assert!(pods.contains(&speaker(&body)), "{name}: {body}");
    }
    let lookup = cluster.kubectl.ok("exec shell -- nslookup web.default.svc.cluster.local");
    let ip = cluster.kubectl.ok("get service web -o jsonpath={.spec.clusterIP}");
    assert!(lookup.contains(&ip), "{lookup}");
    let missing = cluster.kubectl.run("exec shell -- nslookup nothing.default.svc.cluster.local");
    assert!(!missing.ok() && missing.stdout.contains("NXDOMAIN"), "{missing:?}");
    // And the API, through its Service and with the mounted CA: known, and without rights.
    let mounted = "/var/run/secrets/kubernetes.io/serviceaccount";
    let line = format!(
        "exec shell -- sh -c 'curl -s -m 5 --cacert {mounted}/ca.crt -H \"Authorization: Bearer $(cat {mounted}/token)\" \
         https://kubernetes.default.svc/api/v1/pods'"
    );
    let answer = cluster.kubectl.ok(&line);
    assert!(answer.contains("system:serviceaccount:default:default") && answer.contains("403"), "{answer}");
    cluster.kubectl.ok("delete pod shell --grace-period=0 --force --wait=false");
}

fn node_port(cluster: &Cluster) {
    cluster.kubectl.ok("expose deployment web --name=web-node --type=NodePort --port=80 --target-port=8080");
    let port = cluster.kubectl.ok("get service web-node -o jsonpath={.spec.ports[0].nodePort}");
    let port: u16 = port.parse().unwrap();
    assert!((30000..=32767).contains(&port));
    let node = cluster.kubectl.ok("get nodes -o jsonpath={.items[0].status.addresses[0].address}");
    for address in ["127.0.0.1", node.as_str()] {
        until(&format!("node port on {address}"), SOON, || get(&format!("{address}:{port}"), "/"));
    }
    cluster.kubectl.ok("delete service web-node");
    until("the node port is closed", SOON, || match get(&format!("127.0.0.1:{port}"), "/") {
        Ok(body) => Err(body),
        Err(_) => Ok(()),
    });
}

fn deleted_pods_come_back_and_scale(cluster: &Cluster, before: &[String]) {
    cluster.kubectl.ok(&format!("delete pod {}", before[0]));
    let after = wait_for_web_pods(cluster, 3);
    assert!(!after.contains(&before[0]));
    cluster.kubectl.ok("scale deployment web --replicas=20");
    cluster.kubectl.ok("rollout status deployment/web --timeout=90s");
    wait_for_web_pods(cluster, 20);
    cluster.kubectl.ok("scale deployment web --replicas=3");
    wait_for_web_pods(cluster, 3);
    until("the other pods are gone", SOON, || {
        let list = cluster.kubectl.ok("get pods -l app=web -o name");
        if list.lines().count() == 3 { Ok(()) } else { Err(list) }
    });
}

/// Asks until told to stop; returns answers and the first failure.
fn load(address: String, stop: Arc<AtomicBool>) -> thread::JoinHandle<(u32, BTreeMap<String, u32>, Option<String>)> {
    thread::spawn(move || {
        let (mut answered, mut versions, mut failure) = (0, BTreeMap::new(), None);
        while !stop.load(Ordering::Relaxed) {
            match get(&address, "/") {
                Ok(body) => {
                    answered += 1;
                    let version = body.lines().next().and_then(|l| l.rsplit_once('(')).map_or("", |(_, v)| v);
                    *versions.entry(version.to_owned()).or_default() += 1;
                }
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        (answered, versions, failure)
    })
}

#[test]
fn a_rolling_update_under_load_drops_nothing() {
    let cluster = cluster();
    apply_example(&cluster);
    let address = service_address(&cluster);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4).map(|_| load(address.clone(), stop.clone())).collect();

    cluster.kubectl.ok("set image deployment/web web=plinth.io/demo:v2");
    cluster.kubectl.ok("rollout status deployment/web --timeout=90s");
    let undo = cluster.kubectl.ok("rollout undo deployment/web");
    assert!(undo.contains("rolled back"), "{undo}");
    cluster.kubectl.ok("rollout status deployment/web --timeout=90s");
    cluster.kubectl.ok("rollout restart deployment/web");
    cluster.kubectl.ok("rollout status deployment/web --timeout=90s");
    let history = cluster.kubectl.ok("rollout history deployment/web");
    assert!(history.contains('4'), "{history}");

    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let (answered, versions, failure) = client.join().unwrap();
        assert_eq!(failure, None, "after {answered} answers");
        assert!(answered > 100, "{answered}");
        assert_eq!(versions.len(), 2, "both versions answered: {versions:?}");
    }
}

#[test]
fn containers_outlive_the_process_and_are_adopted() {
    let mut cluster = cluster();
    apply_example(&cluster);
    let pods = wait_for_web_pods(&cluster, 3);
    let address = service_address(&cluster);
    let facts = |cluster: &Cluster| -> Vec<(String, String)> {
        web_pods(cluster)
            .iter()
            .map(|name| {
                let status = &pod(cluster, name)["status"]["containerStatuses"][0];
                assert_eq!(status["restartCount"], 0);
                (name.clone(), status["containerID"].as_str().unwrap().to_owned())
            })
            .collect()
    };
    let before = facts(&cluster);
    for round in 0..3 {
        cluster.kubectl.ok(&format!("create configmap kept-{round} --from-literal=a=b"));
        cluster.kill();
        // Nobody runs the cluster now, and the service answers all the same.
        for _ in 0..30 {
            assert!(pods.contains(&speaker(&get(&address, "/").unwrap())));
        }
        cluster.up();
        cluster.kubectl.ok(&format!("get configmap kept-{round}"));
        wait_for_web_pods(&cluster, 3);
        assert_eq!(facts(&cluster), before);
    }
    // What is adopted is under control: a deleted pod goes, its logs and exec work before.
    let logs = cluster.kubectl.ok(&format!("logs {}", pods[1]));
    assert!(!logs.is_empty());
    cluster.kubectl.ok(&format!("delete pod {}", pods[1]));
    wait_for_web_pods(&cluster, 3);
    assert_eq!(cluster.interrupt(), Some(0));
    cluster.up();
    wait_for_web_pods(&cluster, 3);
}

#[test]
fn the_demo_runs_by_itself() {
    let cluster = cluster();
    let ran = cluster.plinth(&["demo", "--seconds", "2"]);
    assert!(ran.ok(), "{ran:?}");
    assert!(ran.stdout.contains("requests answered") && ran.stdout.contains("answered by"), "{}", ran.stdout);
    let left = cluster.kubectl.ok("get deployments,pods -o name");
    assert_eq!(left, "");
}
