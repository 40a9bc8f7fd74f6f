//! A real kube-apiserver on this store, and the real kubectl before it: many objects, pages, watches, compaction by the
//! API server, a store that is killed under it, and three members of which the leader is killed.
//!
//! No package has a kube-apiserver: PLINTH_KUBE_APISERVER names one (v1.36). Without it these tests say so and do nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use test_support::{Kubectl, ports::free_port, run, tool, until};

use crate::{
    member::{BINARY, Member, Place, clean},
    trio::{Places, Trio},
};

const VARIABLE: &str = "PLINTH_KUBE_APISERVER";
const TOKEN: &str = "test";
/// For a start, and for what goes on after a loss, on a machine that others use.
const PATIENCE: Duration = Duration::from_secs(120);
/// Objects that are written at once: several pages, and history enough to be compacted.
const OBJECTS: usize = 250;
const PAGE: usize = 40;
const COMPACTION: &str = "10s";

/// The program, if there is one.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    if named.is_none() {
        eprintln!("LEFT OUT: {VARIABLE} names no kube-apiserver");
    }
    named.inspect(|path| assert!(path.is_file(), "{VARIABLE}: there is no {}", path.display()))
}

/// An API server that runs, and kubectl before it.
struct Api {
    child: Child,
    folder: TempDir,
    kubectl: Kubectl,
}

impl Api {
    fn start(program: &Path, stores: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let port = free_port();
        fs::write(path("tokens.csv"), format!("{TOKEN},admin,admin,system:masters\n")).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        fs::write(path("key.pub"), key.public_key_pem()).unwrap();
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
             clusters: [{{name: it, cluster: {{server: 'https://127.0.0.1:{port}', insecure-skip-tls-verify: true}}}}]\n\
             users: [{{name: it, user: {{token: {TOKEN}}}}}]\ncontexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n"
        );
        fs::write(path("kubeconfig"), config).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let child = Command::new(program)
            .args([
                format!("--etcd-servers={stores}"),
                format!("--etcd-compaction-interval={COMPACTION}"),
                format!("--secure-port={port}"),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--cert-dir={}", path("certs")),
                format!("--token-auth-file={}", path("tokens.csv")),
                "--authorization-mode=RBAC".to_owned(),
                format!("--service-account-key-file={}", path("key.pub")),
                format!("--service-account-signing-key-file={}", path("key")),
                "--service-account-issuer=https://it".to_owned(),
                "--service-cluster-ip-range=10.44.0.0/16".to_owned(),
                "--disable-admission-plugins=ServiceAccount".to_owned(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let kubectl = Kubectl::new(Path::new(&path("kubeconfig")), Path::new(&path("cache")));
        let api = Api { child, folder, kubectl };
        api.eventually("get --raw /readyz", "ok");
        api.eventually("get namespace default -o name", "namespace/default");
        api
    }

    /// A command says this in the end: what is refused meanwhile is asked again.
    fn eventually(&self, line: &str, expected: &str) {
        until(&format!("kubectl {line}"), PATIENCE, || {
            let ran = self.kubectl.run(line);
            if ran.ok() && ran.stdout.trim() == expected {
                return Ok(());
            }
            Err(format!("{ran:?}\n{}", self.log()))
        });
    }

    /// Applies until all of it was taken.
    fn applied(&self, manifest: &str) {
        until("the manifest is applied", PATIENCE, || {
            let ran = self.kubectl.with_input("apply --server-side --force-conflicts -f -", manifest);
            if ran.ok() { Ok(()) } else { Err(format!("{}\n{}", ran.stderr, self.log())) }
        });
    }

    fn names(&self, flags: &str) -> Vec<String> {
        let listed = self.kubectl.ok(&format!("get configmaps -n many -o name -l app=many {flags}"));
        listed.lines().map(str::to_owned).collect()
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        log.lines().rev().take(15).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// So many objects as one manifest, in the namespace `many`.
fn manifest(count: usize, value: &str) -> String {
    let object = |n: usize| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{n:04}, namespace: many, labels: {{app: many}}}}\n\
             data: {{value: '{value}', padding: '{}'}}\n",
            "x".repeat(1000)
        )
    };
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: many}\n".to_owned();
    std::iter::once(namespace).chain((0..count).map(object)).collect::<Vec<_>>().join("---\n")
}

#[test]
fn an_api_server_lives_on_one_member_that_is_killed() {
    let Some(program) = program() else { return };
    let place = Place::new();
    let start = || Member::start(clean(BINARY).args(place.flags("http")));
    let mut member = start();
    let api = Api::start(&program, &place.url("http"));
    api.applied(&manifest(OBJECTS, "1"));
    let all = api.names("");
    assert_eq!(all.len(), OBJECTS);
    assert_eq!(api.names(&format!("--chunk-size={PAGE}")), all, "in pages");

    let seen = api.folder.path().join("seen");
    let mut watch = api.kubectl.spawn("get configmaps -n many --watch-only --output-watch-events", &seen);
    let count = |event: &str| fs::read_to_string(&seen).unwrap().lines().filter(|line| line.starts_with(event)).count();
    // A watch that began is one that sees something.
    until("the watch begins", PATIENCE, || {
        api.kubectl.ok("label configmap c0000 -n many touched=yes --overwrite");
        api.kubectl.ok("label configmap c0000 -n many touched-");
        if count("MODIFIED") > 0 { Ok(()) } else { Err("nothing is seen".to_owned()) }
    });
    api.applied(&manifest(OBJECTS, "2"));
    api.kubectl.ok("patch configmap c0001 -n many --type=merge -p {\"data\":{\"value\":\"3\"}}");
    assert_eq!(api.kubectl.ok("get configmap c0001 -n many -o jsonpath={.data.value}"), "3");
    until("all changes are seen", PATIENCE, || {
        let modified = count("MODIFIED");
        if modified > OBJECTS { Ok(()) } else { Err(format!("{modified} seen")) }
    });
    let _ = watch.kill();
    let _ = watch.wait();

    let endpoint = ["--endpoints".to_owned(), place.url("http")];
    until("the API server compacts", PATIENCE, || {
        let old = place.etcdctl(&endpoint, "get --rev=2 none");
        if old.stderr.contains("required revision has been compacted") { Ok(()) } else { Err(format!("{old:?}")) }
    });
    member.signal("KILL");
    assert_eq!(member.wait(), -9);
    let _member = start();
    api.eventually("get configmap c0002 -n many -o jsonpath={.data.value}", "2");
    assert_eq!(api.names(&format!("--chunk-size={PAGE}")), all, "after the restart");
    api.applied(&manifest(OBJECTS, "4"));
    api.kubectl.ok("delete configmaps -n many -l app=many --wait=false");
    assert_eq!(api.names(""), Vec::<String>::new());
}

#[test]
fn an_api_server_lives_on_three_members_whose_leader_is_killed() {
    let Some(program) = program() else { return };
    let places = Places::new();
    let mut trio = Trio::start(&places, Path::new(BINARY), "ours", &[]);
    let api = Api::start(&program, &places.urls());
    api.applied(&manifest(OBJECTS / 2, "1"));
    for round in 0..2 {
        let leader = trio.leader();
        let writing = std::thread::scope(|scope| {
            let writing = scope.spawn(|| api.applied(&manifest(OBJECTS, &format!("round {round}"))));
            until("writing has begun", PATIENCE, || {
                let ran = api.kubectl.run("get configmap c0010 -n many -o jsonpath={.data.value}");
                if ran.stdout == format!("round {round}") { Ok(()) } else { Err(ran.stdout) }
            });
            trio.kill(leader);
            writing.join()
        });
        writing.unwrap();
        assert_eq!(api.names(&format!("--chunk-size={PAGE}")).len(), OBJECTS, "round {round}");
        api.eventually("get configmap c0249 -n many -o jsonpath={.data.value}", &format!("round {round}"));
        trio.restart(leader, Path::new(BINARY), "ours");
    }
    // Each member has the same.
    until("all hashes agree", PATIENCE, || {
        let mut command = clean(tool("etcdctl"));
        command.env("ETCDCTL_ENDPOINTS", places.urls()).args(["endpoint", "hashkv"]);
        let said = run(&mut command, None, 20).stdout;
        let hashes: Vec<_> = said.lines().filter_map(|line| line.split(", ").nth(1)).collect();
        if hashes.len() == 3 && hashes.iter().all(|hash| *hash == hashes[0]) { Ok(()) } else { Err(said) }
    });
}
