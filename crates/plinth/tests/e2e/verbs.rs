//! kubectl's verbs, each as a user types it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::Duration,
};

use test_support::{Cluster, run, until};

use crate::{SOON, apply_example, cluster, pods::import_busybox, wait_for_web_pods};

#[test]
fn kubectl_works_as_users_know_it() {
    let cluster = cluster();
    apply_example(&cluster);
    let pods = wait_for_web_pods(&cluster, 3);
    reading(&cluster, &pods);
    discovery(&cluster);
    changing(&cluster);
    applying(&cluster);
    access(&cluster);
    watching(&cluster);
    jobs_and_owners(&cluster);
    namespaces(&cluster);
    import_busybox(&cluster);
    streams(&cluster, &pods);
}

fn reading(cluster: &Cluster, pods: &[String]) {
    let k = &cluster.kubectl;
    let table = k.ok("get pods");
    assert!(table.starts_with("NAME") && table.contains("READY   STATUS    RESTARTS   AGE"), "{table}");
    assert!(table.lines().nth(1).unwrap().contains("1/1     Running   0"), "{table}");
    let wide = k.ok("get pods -o wide");
    assert!(wide.contains("IP") && wide.contains("NODE") && wide.contains("10.42."), "{wide}");
    assert!(k.ok("get deployment web").contains("3/3     3            3"));
    assert!(k.ok("get svc").contains("ClusterIP   10.43."));
    assert!(k.ok("get endpointslices").contains("IPv4"));
    assert!(k.ok("get endpoints web").contains(":8080"));
    assert!(k.ok("get all").contains("replicaset.apps/web-"));
    assert!(k.ok("get cm,secrets,sa,ns,nodes,leases,priorityclasses,events -A").contains("system-node-critical"));
    assert!(k.ok("get pods -l app=web -o yaml").contains("kind: List"));
    assert_eq!(k.ok("get pods -l app!=web").trim(), "");
    let name = k.ok(&format!("get pods --field-selector metadata.name={} -o name", pods[0]));
    assert_eq!(name.trim(), format!("pod/{}", pods[0]));
    let described = k.ok(&format!("describe pod {}", pods[0]));
    for part in [
        "Controlled By:  ReplicaSet/web-",
        "QoS Class:                   Burstable",
        "Scheduled",
        "Pulled",
        "Created",
        "Started",
    ] {
        assert!(described.contains(part), "{part} in {described}");
    }
    assert!(k.ok("describe deployment web").contains("ScalingReplicaSet"));
    assert!(k.ok("describe svc web").contains("Endpoints:"));
    assert!(k.ok("describe node").contains("KubeletReady"));
    assert!(k.ok("get events").contains("ScalingReplicaSet"));
    assert!(k.ok("events --for deployment/web").contains("ScalingReplicaSet"));
    assert!(k.fails("get pod nothing").contains("Error from server (NotFound): pods \"nothing\" not found"));
}

fn discovery(cluster: &Cluster) {
    let k = &cluster.kubectl;
    let resources = k.ok("api-resources");
    for line in ["deployments", "endpointslices", "priorityclasses", "leases"] {
        assert!(resources.contains(line), "{line} in {resources}");
    }
    assert!(k.ok("api-versions").contains("discovery.k8s.io/v1"));
    assert!(k.ok("version").contains("Server Version: v1.36"));
    assert!(k.ok("cluster-info").contains("is running at"));
    let explained = k.ok("explain deployment.spec.strategy.rollingUpdate");
    assert!(explained.contains("maxSurge") && explained.contains("The maximum number of pods"), "{explained}");
    assert!(k.ok("explain pod --recursive").contains("ephemeralContainers"));
    for path in ["/readyz?verbose", "/livez", "/healthz", "/metrics", "/version", "/openapi/v2"] {
        assert!(!k.ok(&format!("get --raw {path}")).is_empty(), "{path}");
    }
    assert!(k.ok("get --raw /metrics").contains("apiserver_request_total"));
}

fn changing(cluster: &Cluster) {
    let k = &cluster.kubectl;
    k.ok("create configmap c --from-literal=a=1");
    assert!(k.fails("create configmap c --from-literal=a=1").contains("configmaps \"c\" already exists"));
    k.ok("label configmap c tier=front");
    k.ok("annotate configmap c note=hello");
    assert_eq!(k.ok("get cm c -o jsonpath={.metadata.labels.tier}/{.metadata.annotations.note}"), "front/hello");
    k.ok("label configmap c tier-");
    assert!(k.ok("patch configmap c --type merge -p '{\"data\":{\"a\":\"2\",\"b\":\"3\"}}'").contains("patched"));
    assert!(k.ok("patch configmap c --type merge -p '{\"data\":{\"a\":\"2\"}}'").contains("no change"));
    k.ok("patch configmap c --type json -p '[{\"op\":\"remove\",\"path\":\"/data/b\"}]'");
    assert_eq!(k.ok("get cm c -o jsonpath={.data}"), r#"{"a":"2"}"#);
    let mut edit = k.command("edit configmap c");
    edit.env("KUBE_EDITOR", "sed -i 's/a: \"2\"/a: \"5\"/'");
    run(&mut edit, None, 30).expect_ok();
    assert_eq!(k.ok("get cm c -o jsonpath={.data.a}"), "5");
    k.ok("create secret generic s --from-literal=p=q");
    k.ok("create serviceaccount robot");
    assert_eq!(k.ok("create token robot").trim().split('.').count(), 3);
    k.ok("create namespace other");
    k.ok("create deployment extra --image=plinth.io/demo:v1 --replicas=0");
    k.ok("set image deployment/extra demo=plinth.io/demo:v2");
    k.ok("set env deployment/extra A=B");
    k.ok("rollout pause deployment/extra");
    k.ok("rollout resume deployment/extra");
    k.ok("delete deployment extra");
    k.ok("delete configmap c");
    k.ok("delete secret,serviceaccount -l none=none");
}

fn applying(cluster: &Cluster) {
    let k = &cluster.kubectl;
    let manifest =
        |value: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: applied}}\ndata:\n  {value}\n");
    assert_eq!(k.apply(&manifest("a: zero")), "configmap/applied created\n");
    assert_eq!(k.apply(&manifest("a: zero")), "configmap/applied unchanged\n");
    assert_eq!(k.apply(&manifest("b: one")), "configmap/applied configured\n");
    assert_eq!(k.ok("get cm applied -o jsonpath={.data}"), r#"{"b":"one"}"#);
    let dry = k.with_input("apply --dry-run=server -f -", &manifest("c: three")).expect_ok();
    assert!(dry.contains("server dry run"), "{dry}");
    assert_eq!(k.ok("get cm applied -o jsonpath={.data}"), r#"{"b":"one"}"#);
    let diff = k.with_input("diff -f -", &manifest("b: two"));
    assert!(diff.code == Some(1) && diff.stdout.contains("+  b: two"), "{diff:?}");
    let error = k
        .with_input(
            "apply -f -",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec:\n  replicaz: 1\n",
        )
        .expect_error();
    assert!(error.contains("unknown field \"spec.replicaz\""), "{error}");
    let error = k
        .with_input(
            "apply -f -",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: Bad_Name}\nspec: {containers: [{name: a}]}\n",
        )
        .expect_error();
    assert!(
        error.contains("metadata.name: Invalid value") && error.contains("spec.containers[0].image: Required value"),
        "{error}"
    );
    // Strategic merge: the other container and its environment stay.
    k.apply("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: two}\nspec:\n  replicas: 0\n  selector: {matchLabels: {a: b}}\n  template:\n    metadata: {labels: {a: b}}\n    spec:\n      containers:\n      - {name: one, image: 'plinth.io/demo:v1', env: [{name: X, value: '1'}]}\n      - {name: two, image: 'plinth.io/demo:v1'}\n");
    k.ok("patch deployment two -p '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"one\",\"env\":[{\"name\":\"Y\",\"value\":\"2\"}]}]}}}}'");
    assert_eq!(k.ok("get deployment two -o jsonpath={.spec.template.spec.containers[*].name}"), "one two");
    assert_eq!(k.ok("get deployment two -o jsonpath={.spec.template.spec.containers[0].env[*].name}"), "Y X");
    k.ok("delete deployment two");
    let error = k
        .with_input(
            "replace -f -",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied, resourceVersion: '1'}\ndata: {a: b}\n",
        )
        .expect_error();
    assert!(error.contains("the object has been modified"), "{error}");
}

fn access(cluster: &Cluster) {
    let k = &cluster.kubectl;
    assert_eq!(k.ok("auth can-i create deployments").trim(), "yes");
    assert!(k.ok("auth can-i --list").contains("*.*"));
    assert!(k.ok("auth whoami").contains("system:masters"));
    let token = k.ok("create token robot");
    let server = k.ok("config view --minify -o jsonpath={.clusters[0].cluster.server}");
    let ask = |path: &str, token: Option<&str>| {
        let mut command = Command::new("curl");
        command.args(["-sk", "-m", "10"]).arg(format!("{server}{path}"));
        if let Some(token) = token {
            command.arg("-H").arg(format!("Authorization: Bearer {}", token.trim()));
        }
        run(&mut command, None, 20).expect_ok()
    };
    assert!(ask("/api/v1/pods", None).contains("\"code\":401") || ask("/api/v1/pods", None).contains("\"code\": 401"));
    assert!(ask("/api/v1/pods", Some("nonsense")).contains("Unauthorized"));
    let forbidden = ask("/api/v1/namespaces/default/secrets", Some(&token));
    assert!(
        forbidden.contains("system:serviceaccount:default:robot") && forbidden.contains("cannot list resource"),
        "{forbidden}"
    );
}

fn watching(cluster: &Cluster) {
    let k = &cluster.kubectl;
    let file = cluster.path("watch.txt");
    let mut child = k.spawn("get configmaps --watch --no-headers", &file);
    until("the watch has begun", SOON, || {
        let text = fs::read_to_string(&file).unwrap();
        if text.contains("kube-root-ca.crt") { Ok(()) } else { Err(text) }
    });
    k.ok("create configmap seen --from-literal=a=b");
    k.ok("delete configmap seen");
    until("creation and deletion are seen", SOON, || {
        let text = fs::read_to_string(&file).unwrap();
        if text.matches("seen ").count() >= 2 { Ok(()) } else { Err(text) }
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

fn jobs_and_owners(cluster: &Cluster) {
    let k = &cluster.kubectl;
    k.apply("apiVersion: batch/v1\nkind: Job\nmetadata: {name: fails}\nspec:\n  backoffLimit: 0\n  template:\n    spec:\n      restartPolicy: Never\n      containers: [{name: a, image: 'plinth.io/demo:v1', command: [/nothing]}]\n");
    k.ok("wait --for=condition=Failed job/fails --timeout=60s");
    k.ok("delete job fails");
    until("the job's pods are gone with it", SOON, || {
        let left = k.ok("get pods -l job-name=fails -o name");
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    k.ok("create deployment owner --image=plinth.io/demo:v1 --replicas=1");
    k.ok("rollout status deployment/owner --timeout=60s");
    k.ok("delete deployment owner --cascade=orphan");
    assert!(k.ok("get replicasets -l app=owner -o name").contains("owner-"));
    k.ok("delete replicasets -l app=owner --cascade=foreground");
    assert_eq!(k.ok("get replicasets,pods -l app=owner -o name"), "");
}

fn namespaces(cluster: &Cluster) {
    let k = &cluster.kubectl;
    k.ok("create namespace shortlived");
    k.ok("create deployment a --image=plinth.io/demo:v1 -n shortlived");
    k.ok("create configmap b --from-literal=a=b -n shortlived");
    k.ok("rollout status deployment/a -n shortlived --timeout=60s");
    k.ok("delete namespace shortlived --timeout=60s");
    assert!(k.fails("get namespace shortlived").contains("NotFound"));
    assert_eq!(k.ok("get pods,configmaps -n shortlived -o name"), "");
    assert!(k.fails("create configmap b --from-literal=a=b -n nowhere").contains("namespaces \"nowhere\" not found"));
}

fn streams(cluster: &Cluster, pods: &[String]) {
    let k = &cluster.kubectl;
    k.ok("run shell --image=example.test/busybox:1 --restart=Never --command -- sh -c 'for i in 1 2 3; do echo line $i; done; exec sleep 3600'");
    k.ok("wait --for=condition=Ready pod/shell --timeout=60s");
    assert_eq!(k.ok("logs shell"), "line 1\nline 2\nline 3\n");
    assert_eq!(k.ok("logs shell --tail=1"), "line 3\n");
    assert!(k.ok("logs shell --timestamps --tail=1").contains("Z line 3"));

    assert_eq!(k.ok("exec shell -- echo hello"), "hello\n");
    let ran = k.run("exec shell -- sh -c 'echo out; echo err >&2; exit 7'");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), "out\n"));
    assert!(ran.stderr.contains("err"), "{ran:?}");
    let echoed = k.with_input("exec -i shell -- sh -c 'cat; echo end'", "through the pipe\n").expect_ok();
    assert_eq!(echoed, "through the pipe\nend\n");
    // A terminal: `script` gives kubectl one.
    let mut command = Command::new("script");
    let line = format!("{} exec -it shell -- sh -c 'tty; stty size'", k.command("").get_program().to_str().unwrap());
    command.args(["-qec", &line, "/dev/null"]);
    for (name, value) in k.command("").get_envs() {
        command.env(name, value.unwrap());
    }
    let terminal = run(&mut command, Some(""), 30).expect_ok();
    assert!(terminal.contains("/dev/pts/"), "{terminal}");

    let big = cluster.path("big");
    fs::write(&big, vec![b'x'; 3 << 20]).unwrap();
    k.ok(&format!("cp {} shell:/tmp/big", big.to_str().unwrap()));
    assert_eq!(k.ok("exec shell -- wc -c /tmp/big").trim(), format!("{} /tmp/big", 3 << 20));
    let back = cluster.path("back");
    k.ok(&format!("cp shell:/tmp/big {}", back.to_str().unwrap()));
    assert_eq!(fs::metadata(&back).unwrap().len(), 3 << 20);

    k.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: echo}\nspec:\n  restartPolicy: Never\n  containers:\n  \
         - {name: a, image: 'example.test/busybox:1', command: [cat], stdin: true, stdinOnce: true}\n",
    );
    k.ok("wait --for=condition=Ready pod/echo --timeout=60s");
    let attached = k.with_input("attach -i echo", "said to the container\n").expect_ok();
    assert!(attached.contains("said to the container"), "{attached}");
    k.ok("wait --for=jsonpath={.status.phase}=Succeeded pod/echo --timeout=60s");

    follow_logs(cluster, pods);
    forward(cluster);
}

fn follow_logs(cluster: &Cluster, pods: &[String]) {
    let file = cluster.path("follow.txt");
    let mut child = cluster.kubectl.spawn(&format!("logs -f {}", pods[0]), &file);
    until("what stands in the log has come", SOON, || {
        let text = fs::read_to_string(&file).unwrap();
        if text.contains("listening") { Ok(()) } else { Err(text) }
    });
    // Only a follower sees a line that is written from here on.
    let ip = cluster.kubectl.ok(&format!("get pod {} -o jsonpath={{.status.podIP}}", pods[0]));
    run(Command::new("curl").args(["-s", "-m", "5", &format!("http://{ip}:8080/seen-by-followers")]), None, 10)
        .expect_ok();
    until("the log is followed", SOON, || {
        let text = fs::read_to_string(&file).unwrap();
        if text.contains("/seen-by-followers") { Ok(()) } else { Err(text) }
    });
    assert!(child.try_wait().unwrap().is_none(), "it goes on following");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn forward(cluster: &Cluster) {
    let file = cluster.path("forward.txt");
    let mut child = cluster.kubectl.spawn("port-forward service/web :80", &file);
    let port = until("port-forward listens", SOON, || {
        let text = fs::read_to_string(&file).unwrap();
        let port =
            text.lines().next().and_then(|line| line.split(['>', ' ']).find_map(|w| w.strip_prefix("127.0.0.1:")));
        port.and_then(|port| port.parse::<u16>().ok()).ok_or(text)
    });
    for _ in 0..5 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("Hello from web-"), "{answer}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn etcdctl_reads_and_writes() {
    let cluster = cluster();
    let tls = cluster.data_dir().join("server/tls/etcd");
    let etcdctl = |line: &str| {
        let mut command = Command::new(test_support::tool("etcdctl"));
        command
            .arg("--endpoints=https://127.0.0.1:2379")
            .arg(format!("--cacert={}", cluster.data_dir().join("server/tls/ca.crt").display()))
            .arg(format!("--cert={}", tls.join("client.crt").display()))
            .arg(format!("--key={}", tls.join("client.key").display()))
            .args(line.split_whitespace())
            .stdin(Stdio::null());
        run(&mut command, None, 20)
    };
    let keys = etcdctl("get /registry/ --prefix --keys-only").expect_ok();
    assert!(keys.contains("/registry/namespaces/default") && keys.contains("/registry/minions/"), "{keys}");
    assert_eq!(etcdctl("put greeting hello").expect_ok().trim(), "OK");
    assert_eq!(etcdctl("get greeting").expect_ok(), "greeting\nhello\n");
    assert!(etcdctl("endpoint status -w table").expect_ok().contains("3.5"));
    assert!(etcdctl("endpoint health").expect_ok().is_empty() || etcdctl("endpoint health").ok());
    assert!(etcdctl("lease grant 60").expect_ok().contains("granted with TTL(60s)"));
    assert_eq!(etcdctl("del greeting").expect_ok().trim(), "1");
    // Without a client certificate nothing is open.
    let mut bare = Command::new(test_support::tool("etcdctl"));
    bare.args(["--endpoints=https://127.0.0.1:2379", "--insecure-skip-tls-verify", "--command-timeout=3s", "get", "a"]);
    run(&mut bare, None, 20).expect_error();
}
