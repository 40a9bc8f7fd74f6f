//! Servers without a node: an ordinary user starts them, and kubectl finds an API server whose parts are those asked for.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use test_support::{Kubectl, ports::free_port, until};

use crate::{BINARY, SOON};

/// `nobody`, who may make no namespace, cgroup, device or BPF program.
const USER: u32 = 65_534;

/// A server that an ordinary user has started.
struct Server {
    dir: tempfile::TempDir,
    child: Child,
    kubectl: Kubectl,
}

impl Server {
    /// Starts it without a node and with these flags, and waits until it serves.
    fn start(flags: &[&str]) -> Self {
        let dir = folder();
        // Where the program was built, not everybody may go.
        let program = dir.path().join("plinth");
        fs::copy(BINARY, &program).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = plinth(dir.path(), "up");
        command.args(["--disable-agent", "--etcd-listen-address=none"]).args(flags);
        command.arg(format!("--https-listen-port={}", free_port()));
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let kubectl = Kubectl::new(&dir.path().join("kubeconfig.yaml"), &dir.path().join("cache"));
        let mut server = Server { dir, child, kubectl };
        until("the control socket is there", SOON, || {
            let log = || fs::read_to_string(server.dir.path().join("log")).unwrap();
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("it ended with {status}:\n{}", log());
            }
            if server.dir.path().join("run/control.sock").exists() { Ok(()) } else { Err(log()) }
        });
        server
    }

    /// What `plinth status` says of each part.
    fn status(&self) -> Vec<(String, bool)> {
        let output = plinth(self.dir.path(), "status").arg("--output=json").output().unwrap();
        let checks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let check = |check: &Value| (check["name"].as_str().unwrap().to_owned(), check["ok"].as_bool().unwrap());
        checks.iter().map(check).collect()
    }

    fn why(&self, args: &[&str]) -> Output {
        let kubeconfig = self.dir.path().join("kubeconfig.yaml");
        let mut command = Command::new(self.dir.path().join("plinth"));
        command.args(["why", "pod"]).args(args).arg(format!("--kubeconfig={}", kubeconfig.display()));
        command.uid(USER).gid(USER).output().unwrap()
    }

    /// The parts of the control plane that have figures.
    fn parts(&self) -> [bool; 2] {
        let metrics = self.kubectl.ok("get --raw /metrics");
        ["scheduler_pending_pods{", "workqueue_depth{"].map(|name| metrics.lines().any(|line| line.starts_with(name)))
    }
}

/// A folder of the user's.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("plinth-e2e-").tempdir().unwrap();
    chown(dir.path(), Some(USER), Some(USER)).unwrap();
    dir
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn plinth(dir: &Path, subcommand: &str) -> Command {
    let mut command = Command::new(dir.join("plinth"));
    command.arg(subcommand).uid(USER).gid(USER);
    for (flag, name) in [("data-dir", "data"), ("run-dir", "run"), ("write-kubeconfig", "kubeconfig.yaml")] {
        command.arg(format!("--{flag}={}", dir.join(name).display()));
    }
    command
}

fn node() -> String {
    let room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "far"},
        "status": {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]}})
    .to_string()
}

#[test]
fn pods_are_made_and_placed_without_a_node_or_controllers() {
    let mut server = Server::start(&["--disable-controller-manager"]);
    let names = ["Process", "Store", "Disk", "API", "Pods"].map(|name| (name.to_owned(), true));
    assert_eq!(server.status(), names);
    assert_eq!(server.parts(), [true, false]);
    assert_eq!(server.kubectl.json("get nodes")["items"], json!([]));

    server.kubectl.with_input("create -f -", &node()).expect_ok();
    server.kubectl.ok("run a --image=plinth.io/demo:v1");
    until("the pod is placed", SOON, || match server.kubectl.ok("get pod a -o jsonpath={.spec.nodeName}") {
        node if node == "far" => Ok(()),
        node => Err(node),
    });
    let told = until("the event that says why is there", SOON, || {
        let told = server.why(&["a", "--output=json"]);
        let told: Value = serde_json::from_slice(&told.stdout).map_err(|error| error.to_string())?;
        let scheduled =
            told["steps"].as_array().into_iter().flatten().find(|step| step["what"] == "Scheduled").cloned();
        scheduled.ok_or_else(|| told.to_string())
    });
    assert_eq!((&told["attempt"]["feasible"], &told["attempt"]["scores"][0]["node"]), (&json!(1), &json!("far")));
    let text = String::from_utf8(server.why(&["a"]).stdout).unwrap();
    assert!(text.starts_with("Pod default/a: Pending on node far\n"), "{text}");
    assert!(text.contains("default-scheduler  Scheduled: Successfully assigned default/a to far\n"), "{text}");
    assert!(text.contains("1 of 1 nodes fit\n") && text.contains("NodeResourcesFit"), "{text}");
    let missing = server.why(&["b"]);
    let error = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(error.trim(), "error: Error from server (NotFound): pods \"b\" not found");

    // Nobody gives a new namespace its account.
    server.kubectl.ok("create namespace other");
    let refused = server.kubectl.fails("-n other run a --image=plinth.io/demo:v1");
    assert!(refused.contains("serviceaccount \"default\" not found"), "{refused}");

    kill(Pid::from_raw(i32::try_from(server.child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn parts_are_left_out_one_by_one() {
    let server = Server::start(&["--disable-scheduler"]);
    assert_eq!(server.parts(), [false, true]);
    server.kubectl.ok("create deployment web --image=plinth.io/demo:v1");
    until("the controllers make the pod", SOON, || {
        match server.kubectl.ok("get pods -l app=web -o name").lines().count() {
            1 => Ok(()),
            count => Err(format!("{count} pods")),
        }
    });
}

#[test]
fn a_wasm_plugin_keeps_pods_from_a_node_until_its_label_changes() {
    let dir = folder();
    let (module, config) = (dir.path().join("plugin.wasm"), dir.path().join("scheduler.json"));
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/scheduler-plugin/build.sh");
    assert!(Command::new(example).arg(&module).status().unwrap().success());
    let document = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "profiles": [{
            "plugins": {"multiPoint": {"enabled": [{"name": "green"}]}},
            "pluginConfig": [{"name": "green", "args": {"guestURL": format!("file://{}", module.display())}}],
        }],
    });
    fs::write(&config, document.to_string()).unwrap();
    let flag = format!("--scheduler-config={}", config.display());
    let server = Server::start(&["--disable-controller-manager", &flag]);
    server.kubectl.with_input("create -f -", &node()).expect_ok();
    server.kubectl.ok("label node far example.com/maintenance=soon");
    server.kubectl.ok("run a --image=plinth.io/demo:v1");
    until("the pod says why it waits", SOON, || {
        let message = server.kubectl.ok("get pod a -o jsonpath={.status.conditions[0].message}");
        if message.contains("1 node(s) are about to be serviced") { Ok(()) } else { Err(message) }
    });
    server.kubectl.ok("label node far example.com/maintenance-");
    until("the pod is placed", SOON, || match server.kubectl.ok("get pod a -o jsonpath={.spec.nodeName}") {
        node if node == "far" => Ok(()),
        node => Err(node),
    });
}
