//! Bad input: each gets a clear error or a bound, and the rest goes on.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use test_support::{Cluster, Setup, run, until};

use crate::{BINARY, SOON, cluster};

fn prepared(flags: &[&str]) -> Cluster {
    Cluster::prepare(BINARY, Setup { flags: flags.iter().map(|f| (*f).to_owned()).collect() })
}

#[test]
fn starts_that_cannot_succeed_say_why() {
    let cluster = prepared(&[]);
    let error = cluster.plinth(&["up", "--no-such-flag"]).expect_error();
    assert!(error.contains("unexpected argument '--no-such-flag'"), "{error}");
    let error = cluster.plinth(&["up", "--service-cidr", "banana"]).expect_error();
    assert!(error.contains("--service-cidr"), "{error}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let error = cluster.plinth(&["up", "--https-listen-port", &port]).expect_error();
    assert!(error.contains(&port) && error.to_lowercase().contains("in use"), "{error}");

    let foreign = cluster.path("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter"), "dear").unwrap();
    let mut command = Command::new(BINARY);
    command.args(["up", "--data-dir", foreign.to_str().unwrap()]);
    let error = run(&mut command, None, 30).expect_error();
    assert!(error.contains("is not a plinth data folder"), "{error}");
    fs::write(foreign.join("plinth.version"), "99\n").unwrap();
    let error = run(&mut command, None, 30).expect_error();
    assert!(error.contains("from a newer plinth"), "{error}");

    let file = cluster.path("config.yaml");
    fs::write(&file, "no-such-key: 1\n").unwrap();
    let error = cluster.plinth(&["up", "--config", file.to_str().unwrap()]).expect_error();
    assert!(error.contains("--no-such-key"), "{error}");
    fs::write(&file, "a: [b\n").unwrap();
    let error = cluster.plinth(&["up", "--config", file.to_str().unwrap()]).expect_error();
    assert!(error.contains("config.yaml") && error.contains("not valid YAML"), "{error}");

    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--clear-groups", BINARY, "up"]);
    let error = run(&mut command, None, 30).expect_error();
    assert!(error.contains("needs root"), "{error}");

    let error = cluster.plinth(&["image", "import", "/etc/passwd"]).expect_error();
    assert!(!error.contains("panicked"), "{error}");
    let status = cluster.plinth(&["status"]);
    assert!(status.code == Some(1) && status.stdout.contains("make up"), "{status:?}");
}

#[test]
fn abuse_of_the_api_is_bounded() {
    let cluster = cluster();
    let k = &cluster.kubectl;
    let error = k.with_input("apply -f -", "apiVersion: v1\nkind: Pod\nmetadata: [\n").expect_error();
    assert!(error.contains("error"), "{error}");
    let error = k.with_input("apply -f -", "apiVersion: v1\nkind: Nothing\nmetadata: {name: a}\n").expect_error();
    assert!(error.contains("no matches for kind \"Nothing\""), "{error}");

    let big = cluster.path("big.json");
    let text = "x".repeat(2 << 20);
    fs::write(
        &big,
        format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"big"}},"data":{{"a":"{text}"}}}}"#),
    )
    .unwrap();
    let error = k.fails(&format!("create -f {}", big.to_str().unwrap()));
    assert!(error.contains("too large") || error.contains("Too long"), "{error}");

    huge_body(&cluster);
    idle_connections(&cluster);
    a_watcher_that_never_reads(&cluster);
    k.ok("get nodes");
    let status = cluster.plinth(&["status"]);
    assert!(status.ok(), "{status:?}");
}

/// curl with the administrator's certificate.
fn curl(cluster: &Cluster) -> Command {
    let view = cluster
        .kubectl
        .ok("config view --raw -o jsonpath={.users[0].user.client-certificate-data}:{.users[0].user.client-key-data}");
    let (cert, key) = view.split_once(':').unwrap();
    for (name, data) in [("admin.crt", cert), ("admin.key", key)] {
        let decoded = run(Command::new("base64").arg("-d"), Some(data), 5).expect_ok();
        fs::write(cluster.path(name), decoded).unwrap();
    }
    let mut command = Command::new("curl");
    command
        .args(["-sk", "-m", "30", "--cert"])
        .arg(cluster.path("admin.crt"))
        .arg("--key")
        .arg(cluster.path("admin.key"));
    command
}

fn server(cluster: &Cluster) -> String {
    cluster.kubectl.ok("config view --minify -o jsonpath={.clusters[0].cluster.server}")
}

fn huge_body(cluster: &Cluster) {
    let body = cluster.path("huge");
    fs::File::create(&body).unwrap().set_len(100 << 20).unwrap();
    let mut command = curl(cluster);
    command
        // On HTTP/2 the answer comes as well, but Debian's curl drops it when the server then resets the stream.
        .args(["--http1.1", "-X", "POST", "-H", "Content-Type: application/json", "-T"])
        .arg(&body)
        .arg(format!("{}/api/v1/namespaces/default/configmaps", server(cluster)));
    let ran = run(&mut command, None, 60);
    assert!(ran.stdout.contains("Request entity too large: limit is 3145728"), "{ran:?}");
}

fn idle_connections(cluster: &Cluster) {
    let address = server(cluster).trim_start_matches("https://").to_owned();
    let held: Vec<TcpStream> = (0..1000).filter_map(|_| TcpStream::connect(&address).ok()).collect();
    assert!(held.len() >= 1000, "{}", held.len());
    cluster.kubectl.ok("get nodes");
    drop(held);
}

fn a_watcher_that_never_reads(cluster: &Cluster) {
    let mut command = curl(cluster);
    command.arg("-N").arg(format!("{}/api/v1/namespaces/default/configmaps?watch=true", server(cluster)));
    // Its pipe is never read, so that curl stops reading too.
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let text = "y".repeat(500_000);
    for n in 0..40 {
        let manifest = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"fill"}},"data":{{"a":"{n}{text}"}}}}"#
        );
        let verb = if n == 0 { "create -f -" } else { "replace -f -" };
        cluster.kubectl.with_input(verb, &manifest).expect_ok();
    }
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", cluster.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap().to_owned();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() / 1024
    };
    assert!(resident() < 600, "{} MiB", resident());
    let _ = child.kill();
    let _ = child.wait();
    cluster.kubectl.ok("delete configmap fill");
}

#[test]
fn ctrl_c_and_down_leave_nothing() {
    let mut cluster = cluster();
    crate::apply_example(&cluster);
    assert_eq!(cluster.interrupt(), Some(0));
    let ran = cluster.down(&["--purge"]);
    assert!(ran.ok(), "{ran:?}");
    until("nothing is left", SOON, || {
        let mut left = String::new();
        for (program, args, sign) in [
            ("ip", &["link"][..], "plinth"),
            ("nft", &["list", "tables"][..], "plinth"),
            ("mount", &[][..], "plinth"),
            ("mount", &[][..], "favordynmods"),
            ("find", &["/sys/fs/bpf", "-name", "*plinth*"][..], "plinth"),
            ("find", &["/sys/fs/cgroup", "-maxdepth", "3", "-name", "plinth"][..], "plinth"),
            ("ps", &["-eo", "args"][..], "plinth shim"),
        ] {
            let Ok(output) = Command::new(program).args(args).output() else { continue };
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            left.extend(text.lines().filter(|line| line.contains(sign)).map(|line| format!("{program}: {line}\n")));
        }
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    assert!(!cluster.data_dir().exists());
    // And once more: it starts from nothing again.
    cluster.up();
    let mut stream = TcpStream::connect(server(&cluster).trim_start_matches("https://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = [0; 64];
    // Plain HTTP on the TLS port is answered by an alert or an end, not by silence.
    let _ = stream.read(&mut answer).unwrap();
}
