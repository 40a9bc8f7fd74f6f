//! The same cluster on an etcd that stands already.

use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use test_support::{Cluster, Setup, run, tool, until};

use crate::{BINARY, SOON, apply_example, wait_for_web_pods};

const CLIENT: &str = "127.0.0.1:22379";

/// A program that ends with the value.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_cluster_runs_on_a_real_etcd() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = Command::new(tool("etcd"))
        .args([
            format!("--data-dir={}", dir.path().display()),
            format!("--listen-client-urls=http://{CLIENT}"),
            format!("--advertise-client-urls=http://{CLIENT}"),
            "--listen-peer-urls=http://127.0.0.1:22380".to_owned(),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _etcd = Ended(etcd);
    until("etcd listens", SOON, || TcpStream::connect(CLIENT).map_err(|error| error.to_string()));

    let flags = vec![format!("--datastore-endpoint=http://{CLIENT}")];
    let mut cluster = Cluster::start(BINARY, Setup { flags });
    apply_example(&cluster);
    let pods = wait_for_web_pods(&cluster, 3);
    let keys = |prefix: &str| {
        let mut command = Command::new(tool("etcdctl"));
        command.args([&format!("--endpoints={CLIENT}"), "get", prefix, "--prefix", "--keys-only"]);
        run(&mut command, None, 20).expect_ok()
    };
    let stored = keys("/registry/pods/default/");
    assert!(pods.iter().all(|pod| stored.contains(pod)), "{pods:?} in {stored}");

    cluster.kubectl.ok("scale deployment web --replicas=1");
    cluster.kill();
    cluster.up();
    wait_for_web_pods(&cluster, 1);
    cluster.kubectl.ok("delete deployment web");
    until("the pods are gone from etcd", SOON, || {
        let left = keys("/registry/pods/default/");
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn a_cluster_runs_on_a_store_of_four_shards() {
    let flags = vec!["--shards=4".to_owned()];
    let mut cluster = Cluster::start(BINARY, Setup { flags });
    apply_example(&cluster);
    wait_for_web_pods(&cluster, 3);
    let shards = |cluster: &Cluster, line: &str| {
        let tls = cluster.data_dir().join("server/tls");
        let file = |name: &str| tls.join(name).display().to_string();
        let mut command = Command::new(BINARY);
        command.args(["store", "shards"]).args(line.split(' ')).args(["--endpoints", "https://127.0.0.1:2379"]);
        command.args([
            "--cacert",
            &file("ca.crt"),
            "--cert",
            &file("etcd/client.crt"),
            "--key",
            &file("etcd/client.key"),
        ]);
        run(&mut command, None, 30).expect_ok()
    };
    let before = shards(&cluster, "list");
    assert!(before.contains("1, , /registry/pods/\n") && before.contains("2, , /registry/events/\n"), "{before}");
    // The pods move to another group while the cluster works, and it goes on.
    assert!(shards(&cluster, "move /registry/pods/ 3").contains("3, , /registry/pods/\n"));
    cluster.kubectl.ok("scale deployment web --replicas=1");
    wait_for_web_pods(&cluster, 1);
    cluster.kill();
    cluster.up();
    assert!(shards(&cluster, "list").contains("3, , /registry/pods/\n"));
    cluster.kubectl.ok("scale deployment web --replicas=2");
    wait_for_web_pods(&cluster, 2);
    cluster.kubectl.ok("delete deployment web");
}
