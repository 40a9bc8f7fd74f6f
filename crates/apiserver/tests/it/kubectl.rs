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

/// One of each kind that the scheduler watches beside nodes and pods.
const SCHEDULING: &str = r#"
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: guard}
spec: {maxUnavailable: 25%, selector: {matchLabels: {app: web}}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: local, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce, ReadOnlyMany]
  storageClassName: local
  hostPath: {path: /data}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: disk.example.com}
spec: {storageCapacity: true}
---
apiVersion: storage.k8s.io/v1
kind: CSINode
metadata: {name: n1}
spec: {drivers: [{name: disk.example.com, nodeID: n1, topologyKeys: [zone]}]}
---
apiVersion: storage.k8s.io/v1
kind: VolumeAttachment
metadata: {name: held}
spec: {attacher: disk.example.com, nodeName: n1, source: {persistentVolumeName: disk}}
---
apiVersion: storage.k8s.io/v1
kind: CSIStorageCapacity
metadata: {name: left}
storageClassName: local
capacity: 5Gi
---
apiVersion: v1
kind: ReplicationController
metadata: {name: old}
spec:
  template:
    metadata: {labels: {app: old}}
    spec: {containers: [{name: c, image: "demo:1"}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: set}
spec:
  serviceName: set
  selector: {matchLabels: {app: set}}
  template:
    metadata: {labels: {app: set}}
    spec: {containers: [{name: c, image: "demo:1"}]}
---
apiVersion: scheduling.k8s.io/v1alpha2
kind: Workload
metadata: {name: train}
spec: {podGroupTemplates: [{name: workers, schedulingPolicy: {gang: {minCount: 3}}}]}
---
apiVersion: scheduling.k8s.io/v1alpha2
kind: PodGroup
metadata: {name: train-1}
spec:
  podGroupTemplateRef: {workload: {workloadName: train, podGroupTemplateName: workers}}
  schedulingPolicy: {gang: {minCount: 3}}
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpus}
spec: {selectors: [{cel: {expression: 'device.driver == "gpu.example.com"'}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: n1-gpus}
spec:
  driver: gpu.example.com
  nodeName: n1
  pool: {name: n1, resourceSliceCount: 1, generation: 1}
  devices: [{name: gpu-0}]
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: one-gpu}
spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpus}}]}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: a-gpu-each}
spec: {spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: gpus}}]}}}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schedulers_kinds_are_applied_and_shown() {
    let kubectl = Kubectl::start().await;
    kubectl.check("apply -f -", SCHEDULING, "resourceclaimtemplate.resource.k8s.io/a-gpu-each created").await;
    kubectl.check("apply -f -", SCHEDULING, "poddisruptionbudget.policy/guard unchanged").await;
    for (kind, row) in [
        ("pdb", "guard N/A 25% 0"),
        ("sc", "local (default) kubernetes.io/no-provisioner Delete WaitForFirstConsumer false"),
        ("pv", "disk 1Gi RWO,ROX Retain Pending local <unset>"),
        ("pvc", "data Pending local <unset>"),
        ("csidrivers", "disk.example.com true false true <unset> false Persistent"),
        ("csinodes", "n1 1"),
        ("volumeattachments", "held disk.example.com disk n1 false"),
        ("csistoragecapacities", "left"),
        ("rc", "old 1 0 0"),
        ("sts", "set 0/1"),
        ("workloads", "train"),
        ("podgroups", "train-1 Gang train Pending"),
        ("deviceclasses", "gpus"),
        ("resourceslices", "n1-gpus n1 gpu.example.com n1"),
        ("resourceclaims", "one-gpu pending"),
        ("resourceclaimtemplates", "a-gpu-each"),
    ] {
        let (ok, out, err) = kubectl.run(&format!("get {kind} --no-headers"), "").await;
        let words: Vec<&str> = out.split_whitespace().collect();
        assert!(ok && words.join(" ").starts_with(row), "{kind}: {out}{err}");
    }
    kubectl.check("get all", "", "statefulset.apps/set").await;
    kubectl
        .check("explain podgroup.spec.schedulingPolicy.gang --api-version=scheduling.k8s.io/v1alpha2", "", "minCount")
        .await;
    kubectl.check("explain pdb.spec.maxUnavailable", "", "maxUnavailable").await;
    kubectl.check("scale rc old --replicas=2", "", "scaled").await;
    kubectl.check("scale sts set --replicas=2", "", "scaled").await;
    kubectl.check("create pdb other --selector=app=x --min-available=1", "", "created").await;
    kubectl.check("describe pdb guard", "", "Max unavailable:").await;
    kubectl.check("describe pvc data", "", "StorageClass:  local").await;
    kubectl.fails("create pdb bad --selector=app=x --min-available=101%", "", "must not be greater than 100%").await;
}

/// Every field, so that `describe` shows all its columns.
const LIMITS: &str = r#"
apiVersion: v1
kind: LimitRange
metadata: {name: usual}
spec:
  limits:
  - type: Container
    min: {cpu: 50m, memory: 100Mi}
    max: {cpu: 500m, memory: 500Mi}
    defaultRequest: {cpu: 100m, memory: 200Mi}
    maxLimitRequestRatio: {cpu: "10"}
  - type: PersistentVolumeClaim
    max: {storage: 2Gi}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limit_ranges_are_made_shown_and_kept_to() {
    let kubectl = Kubectl::start().await;
    kubectl.check("create sa default", "", "created").await;
    kubectl.check("create -f -", LIMITS, "limitrange/usual created").await;
    kubectl.check("apply -f -", LIMITS, "limitrange/usual configured").await;
    kubectl.check("api-resources", "", "limitranges").await;
    kubectl.check("explain limitrange.spec.limits.maxLimitRequestRatio", "", "maxLimitRequestRatio").await;
    for (line, rows) in [
        ("get limits", &["NAME CREATED AT", "usual 20"][..]),
        (
            "describe limits usual",
            &[
                "Name: usual",
                "Namespace: default",
                "Type Resource Min Max Default Request Default Limit Max Limit/Request Ratio",
                "Container cpu 50m 500m 100m 500m 10",
                "Container memory 100Mi 500Mi 200Mi 500Mi -",
                "PersistentVolumeClaim storage - 2Gi - - -",
            ],
        ),
        ("describe ns default", &["Resource Limits", "Container cpu 50m 500m 100m 500m 10"]),
    ] {
        let (ok, out, err) = kubectl.run(line, "").await;
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        for row in rows {
            let found = out.lines().any(|line| words(line).starts_with(row));
            assert!(ok && found, "{line}: {row}\n{out}{err}");
        }
    }
    kubectl.check("run one --image=demo:1", "", "pod/one created").await;
    kubectl.check("get pod one -o jsonpath={.spec.containers[0].resources.limits.memory}", "", "500Mi").await;
    let note = "LimitRanger plugin set: cpu, memory request for container one; cpu, memory limit for container one";
    kubectl.check("describe pod one", "", note).await;
    let large = "apiVersion: v1\nkind: Pod\nmetadata: {name: two}\nspec: {containers: [{name: c, image: d, resources: {limits: {cpu: 2, memory: 1Mi}}}]}\n";
    let reasons = "pods \"two\" is forbidden: [minimum memory usage per Container is 100Mi, but request is 1Mi, maximum cpu usage per Container is 500m, but limit is 2]";
    kubectl.fails("create -f -", large, reasons).await;
    kubectl.check("delete limits --all", "", "limitrange \"usual\" deleted").await;
    kubectl.check("create -f -", large, "pod/two created").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_asks_the_budget() {
    let kubectl = Kubectl::start().await;
    kubectl.check("create sa default", "", "created").await;
    let manifest = r#"
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: web}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: r, uid: u, controller: true}]}
spec: {nodeName: n1, containers: [{name: c, image: "demo:1"}]}
"#;
    kubectl.check("apply -f -", manifest, "pod/p created").await;
    kubectl.check("create pdb guard --selector=app=web --min-available=1", "", "created").await;
    kubectl.check("patch pod p --subresource=status -p {\"status\":{\"phase\":\"Running\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}", "", "patched").await;
    let allow = |count: u8| {
        let counts = format!("\"disruptionsAllowed\":{count},\"currentHealthy\":2,\"desiredHealthy\":1");
        format!(
            "patch pdb guard --subresource=status --type=merge -p {{\"status\":{{\"observedGeneration\":1,{counts}}}}}"
        )
    };
    kubectl.check(&allow(0), "", "patched").await;
    let refused = "Cannot evict pod as it would violate the pod's disruption budget.";
    kubectl.fails("drain n1 --timeout=3s", "", refused).await;
    kubectl.check(&allow(1), "", "patched").await;
    kubectl
        .check("drain n1 --dry-run=server --disable-eviction=false", "", "evicting pod default/p (server dry run)")
        .await;
    kubectl.check("get pdb guard -o jsonpath={.status.disruptionsAllowed}", "", "1").await;
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
