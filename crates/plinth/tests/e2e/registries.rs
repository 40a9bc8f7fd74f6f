//! Images from a real registry on loopback: anonymous, and with imagePullSecrets.

use std::{
    fs,
    net::TcpStream,
    process::{Command, Stdio},
};

use test_support::{Cluster, run, until};

use crate::{SOON, cluster, pod, pods::import_busybox, storage::Ended};

/// `robot:sesame`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "robot:$2y$05$sU1vIvWqC3IE6zwE6UQUPOpNQnjMIDQefn/lG.CMzsNDyjJRunDxC\n";

/// Starts docker-registry on `port` and pushes the busybox tarball into it.
fn registry(cluster: &Cluster, port: u16, login: bool) -> Ended {
    let dir = cluster.path(&format!("registry-{port}"));
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
    let auth = match login {
        true => format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", dir.join("htpasswd").display()),
        false => String::new(),
    };
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n{auth}",
        dir.join("data").display()
    );
    fs::write(dir.join("config.yml"), config).unwrap();
    let child = Command::new("docker-registry")
        .arg("serve")
        .arg(dir.join("config.yml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("docker-registry: tools/deps.sh test installs it");
    let running = Ended(child);
    until("the registry listens", SOON, || TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string()));
    let mut push = Command::new("skopeo");
    push.args(["copy", "--insecure-policy", "--dest-tls-verify=false"]);
    if login {
        push.arg("--dest-creds=robot:sesame");
    }
    push.arg(format!("docker-archive:{}", cluster.path("busybox.tar").display()));
    push.arg(format!("docker://127.0.0.1:{port}/team/busybox:1"));
    run(&mut push, None, 60).expect_ok();
    running
}

#[test]
fn images_come_from_registries() {
    let cluster = cluster();
    import_busybox(&cluster);
    let k = &cluster.kubectl;
    let _open = registry(&cluster, 15_000, false);
    k.ok("run open --image=127.0.0.1:15000/team/busybox:1 --restart=Never --command -- echo pulled");
    k.ok("wait --for=jsonpath={.status.phase}=Succeeded pod/open --timeout=60s");
    assert_eq!(k.ok("logs open"), "pulled\n");
    let events = k.ok("get events --field-selector involvedObject.name=open -o jsonpath={.items[*].reason}");
    assert!(events.contains("Pulling") && events.contains("Pulled"), "{events}");
    let id = k.ok("get pod open -o jsonpath={.status.containerStatuses[0].imageID}");
    assert!(id.contains("127.0.0.1:15000/team/busybox@sha256:"), "{id}");

    let _closed = registry(&cluster, 15_001, true);
    k.ok("run refused --image=127.0.0.1:15001/team/busybox:1 --restart=Never --command -- true");
    until("the pull is refused", SOON, || {
        let status = pod(&cluster, "refused")["status"].to_string();
        if status.contains("ErrImagePull") || status.contains("ImagePullBackOff") { Ok(()) } else { Err(status) }
    });
    k.ok("create secret docker-registry login --docker-server=127.0.0.1:15001 --docker-username=robot --docker-password=sesame");
    k.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: allowed}\nspec:\n  restartPolicy: Never\n  \
         imagePullSecrets: [{name: login}]\n  containers:\n  - {name: a, image: '127.0.0.1:15001/team/busybox:1', \
         command: [echo, let in]}\n",
    );
    k.ok("wait --for=jsonpath={.status.phase}=Succeeded pod/allowed --timeout=60s");
    assert_eq!(k.ok("logs allowed"), "let in\n");
}
