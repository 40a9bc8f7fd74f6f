//! The real `kubectl` against the server over TLS. Its path is `.tools/bin/kubectl`, which `tools/install.sh` fills.

use std::{path::PathBuf, process::Stdio};

use crate::harness::{ADMIN_TOKEN, Server, server, within};

struct Kubectl {
    program: PathBuf,
    server: Server,
}

impl Kubectl {
    async fn start() -> Self {
        let program = test_support::tool("kubectl");
        let server = server().await;
        std::fs::write(server.dir.path().join("ca.crt"), &server.pki.ca).unwrap();
        Kubectl { program, server }
    }

    /// Runs with the words of `line`, and `input` on stdin; gives success, stdout and stderr.
    async fn run(&self, line: &str, input: &str) -> (bool, String, String) {
        use tokio::io::AsyncWriteExt;
        let dir = self.server.dir.path();
        let mut child = tokio::process::Command::new(&self.program)
            .env_clear()
            // `kubectl diff` runs the system's diff.
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", dir)
            .env("KUBECONFIG", "/dev/null")
            .arg(format!("--server=https://{}", self.server.address()))
            .arg(format!("--certificate-authority={}", dir.join("ca.crt").display()))
            .arg(format!("--token={ADMIN_TOKEN}"))
            .args(line.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that does not read its input may have closed it.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = within(line, child.wait_with_output()).await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    /// Runs and expects `expected` to be part of what it prints.
    async fn check(&self, line: &str, input: &str, expected: &str) {
        let (ok, out, err) = self.run(line, input).await;
        assert!(ok && out.contains(expected), "kubectl {line}\nexpected {expected:?}\nstdout: {out}\nstderr: {err}");
    }

    async fn fails(&self, line: &str, input: &str, expected: &str) {
        let (ok, out, err) = self.run(line, input).await;
        assert!(!ok && err.contains(expected), "kubectl {line}\nexpected {expected:?}\nstdout: {out}\nstderr: {err}");
    }
}

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "demo:1", ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data: {index.html: hello}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_applied_shown_changed_and_deleted() {
    let kubectl = Kubectl::start().await;
    kubectl.check("apply -f -", MANIFEST, "deployment.apps/web created").await;
    kubectl.check("apply -f -", MANIFEST, "deployment.apps/web unchanged").await;
    kubectl.check("apply -f -", &MANIFEST.replace("hello", "bye"), "configmap/web configured").await;
    kubectl.check("get deploy,svc,cm", "", "deployment.apps/web").await;
    kubectl.check("get deploy web -o wide", "", "demo:1").await;
    kubectl.check("get cm web -o jsonpath={.data}", "", "bye").await;
    kubectl.check("get all", "", "service/kubernetes").await;
    kubectl.check("get ns", "", "kube-node-lease").await;
    kubectl.check("scale deploy web --replicas=5", "", "deployment.apps/web scaled").await;
    kubectl.check("get deploy web -o jsonpath={.spec.replicas}", "", "5").await;
    kubectl.check("set image deploy/web web=demo:2", "", "image updated").await;
    kubectl.check("label cm web a=b", "", "labeled").await;
    kubectl.check("annotate cm web c=d", "", "annotated").await;
    kubectl.check("get cm -l a=b -o name", "", "configmap/web").await;
    kubectl.check("patch cm web -p {\"data\":{\"x\":\"y\"}}", "", "patched").await;
    kubectl.check("describe cm web", "", "x:").await;
    kubectl.check("describe deploy web", "", "demo:2").await;
    kubectl.check("describe svc web", "", "Type:").await;
    kubectl.check("create cm other --from-literal=a=b", "", "created").await;
    kubectl.check("expose deploy web --name=web2 --port=81", "", "exposed").await;
    kubectl.check("get cm --chunk-size=1 -o name", "", "configmap/other").await;
    kubectl
        .check(
            "diff -f -",
            &MANIFEST.replace("hello", "bye").replace("replicas: 3", "replicas: 5").replace("demo:1", "demo:2"),
            "",
        )
        .await;
    kubectl.check("wait --for=jsonpath={.spec.replicas}=5 deploy/web --timeout=5s", "", "condition met").await;
    kubectl.check("delete deploy,svc,cm web", "", "configmap \"web\" deleted").await;
    kubectl.fails("get cm web", "", "Error from server (NotFound): configmaps \"web\" not found").await;
    kubectl
        .fails("apply -f -", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: z}\nfoo: 1\n", "unknown field \"foo\"")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generators_make_every_kind() {
    let kubectl = Kubectl::start().await;
    kubectl.check("create ns team", "", "namespace/team created").await;
    kubectl.check("create sa default -n team", "", "created").await;
    for line in [
        "deployment web --image=demo:1 --replicas=2 --port=80",
        "secret generic s --from-literal=a=b",
        "secret docker-registry r --docker-server=x --docker-username=u --docker-password=p",
        "service nodeport np --tcp=80:8080",
        "service clusterip none --clusterip=None",
        "service externalname ext --external-name=example.com",
        "job once --image=demo:1 -- run me",
        "priorityclass high --value=1000",
    ] {
        kubectl.check(&format!("create -n team {line}"), "", "created").await;
    }
    kubectl.check("run one -n team --image=demo:1 --env=A=b --labels=x=y", "", "pod/one created").await;
    kubectl.check("get pod one -n team -o jsonpath={.spec.containers[0].env[0].value}", "", "b").await;
    kubectl
        .check("get pod one -n team -o jsonpath={.spec.volumes[0].projected.sources[0]}", "", "serviceAccountToken")
        .await;
    kubectl.check("get deploy web -n team -o jsonpath={.spec.strategy.rollingUpdate.maxSurge}", "", "25%").await;
    kubectl.check("get job once -n team -o jsonpath={.spec.template.spec.containers[0].command}", "", "run").await;
    kubectl.check("get secret s -n team -o jsonpath={.data.a}", "", "Yg==").await;
    kubectl.check("get pods -n team", "", "Pending").await;
    kubectl.check("get pods -A -o wide", "", "NOMINATED NODE").await;
    kubectl.check("rollout restart deploy/web -n team", "", "restarted").await;
    kubectl.check("rollout history deploy/web -n team", "", "web").await;
    kubectl
        .check(
            "replace -n team -f -",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: c}\n",
            "replaced",
        )
        .await;
    kubectl.check("get secret s -n team -o jsonpath={.data.a}", "", "Yw==").await;
    kubectl.check("delete pod one -n team --now", "", "deleted").await;
    kubectl.fails("run one -n team --image= ", "", "--image is required").await;
    kubectl.fails("create cm a.b_c", "", "a lowercase RFC 1123 subdomain must consist of").await;
    kubectl.fails("apply --server-side -f -", MANIFEST, "server-side apply is not served yet").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_explains_itself() {
    let kubectl = Kubectl::start().await;
    kubectl.check("version", "", "Server Version: v1.36.2+plinth").await;
    kubectl.check("api-resources", "", "priorityclasses").await;
    kubectl.check("api-versions", "", "discovery.k8s.io/v1").await;
    kubectl.check("explain deployment.spec.replicas", "", "Number of desired pods").await;
    kubectl.check("explain pod.spec.containers --recursive", "", "livenessProbe").await;
    kubectl.check("cluster-info", "", "is running at").await;
    kubectl.check("auth can-i create pods", "", "yes").await;
    kubectl.check("auth can-i --list", "", "*.*").await;
    kubectl.check("auth whoami", "", "system:admin").await;
    kubectl.check("get --raw /readyz?verbose", "", "readyz check passed").await;
    kubectl.check("create sa default", "", "created").await;
    kubectl.check("create token default -n default --duration=1h", "", ".").await;
    let (_, no, _) = kubectl.run("auth can-i create pods --as=jane", "").await;
    assert_eq!(no.trim(), "no");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watching_shows_rows() {
    let kubectl = Kubectl::start().await;
    let line = "get ns default -w --request-timeout=2s";
    let (_, out, _) = kubectl.run(line, "").await;
    assert!(out.contains("Active"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_kinds_are_told_as_a_real_cluster_tells_them() {
    let kubectl = Kubectl::start().await;
    let nothing = "apiVersion: v1\nkind: Nothing\nmetadata: {name: a}\n";
    let expected = "error: resource mapping not found for name: \"a\" namespace: \"\" from \"STDIN\": no matches for kind \"Nothing\" in version \"v1\"";
    kubectl.fails("apply -f -", nothing, expected).await;
    kubectl.check("explain cm --output=plaintext-openapiv2", "", "data").await;
    kubectl.check("explain deployment.spec.strategy.rollingUpdate", "", "maxSurge").await;
}
