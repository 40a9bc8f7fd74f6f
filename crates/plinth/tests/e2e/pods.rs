//! Pods as the node runs them: volumes, environment, security, resources, probes, init containers, images.

use std::{fs, process::Command};

use serde_json::Value;
use test_support::{Cluster, run, until};

use crate::{SOON, cluster, pod};

/// Imports `example.test/busybox:1`, made of the machine's static busybox and its curl (a static C library cannot look
/// names up), as a docker-save tarball.
pub fn import_busybox(cluster: &Cluster) {
    let dir = cluster.path("busybox");
    fs::create_dir_all(&dir).unwrap();
    let script = r#"
set -e
mkdir -p root/bin root/etc root/tmp
cp /bin/busybox root/bin/
for name in $(/bin/busybox --list | grep -vx busybox); do ln -sf busybox root/bin/$name; done
for file in $(command -v curl) $(ldd $(command -v curl) | grep -o '/[^ ]*'); do cp --parents -L $file root/; done
cp --parents -L /lib/x86_64-linux-gnu/libnss_dns.so.2 root/ 2>/dev/null || true
echo 'hosts: files dns' > root/etc/nsswitch.conf
echo 'root:x:0:0:root:/root:/bin/sh' > root/etc/passwd
echo 'guest:x:1234:1234::/tmp:/bin/sh' >> root/etc/passwd
tar -C root -cf layer.tar .
sum=$(sha256sum layer.tar | cut -d' ' -f1)
cat > config.json <<END
{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"Env":["PATH=/bin:/usr/bin","FROM_IMAGE=yes"]},"rootfs":{"type":"layers","diff_ids":["sha256:$sum"]}}
END
echo '[{"Config":"config.json","RepoTags":["example.test/busybox:1"],"Layers":["layer.tar"]}]' > manifest.json
tar -cf ../busybox.tar manifest.json config.json layer.tar
"#;
    run(Command::new("sh").arg("-c").arg(script).current_dir(&dir), None, 60).expect_ok();
    let archive = cluster.path("busybox.tar");
    cluster.plinth(&["image", "import", archive.to_str().unwrap()]).expect_ok();
}

/// Applies a pod made of `spec` (YAML, indented by two) and waits until it has ended well; returns its log.
fn output_of(cluster: &Cluster, name: &str, spec: &str) -> String {
    cluster
        .kubectl
        .apply(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{a: b}}}}\nspec:\n{spec}"));
    until(&format!("pod {name} has ended"), SOON, || {
        let pod = pod(cluster, name);
        match pod["status"]["phase"].as_str() {
            Some("Succeeded") => Ok(()),
            Some("Failed") => panic!(
                "{name} failed: {}\n{}",
                pod["status"],
                cluster.kubectl.ok(&format!("logs {name} --all-containers"))
            ),
            _ => Err(pod["status"].to_string()),
        }
    });
    cluster.kubectl.ok(&format!("logs {name}"))
}

#[test]
fn volumes_environment_and_security_are_real() {
    let cluster = cluster();
    import_busybox(&cluster);
    let listed = cluster.plinth(&["image", "ls"]).expect_ok();
    assert!(listed.contains("example.test/busybox:1") && listed.contains("plinth.io/demo:v1"), "{listed}");
    cluster.kubectl.ok("create configmap settings --from-literal=colour=blue --from-literal=shape=round");
    cluster.kubectl.ok("create secret generic password --from-literal=word=sesame");
    let log = output_of(&cluster, "everything", VOLUMES);
    for line in [
        "colour=blue",
        "shape in file: round",
        "secret: sesame",
        "mode 400",
        "env secret: sesame",
        "from image: yes",
        "name everything",
        "namespace default",
        "ip 10.42.",
        "label: a=\"b\"",
        "limit 64",
        "scratch written",
        "token 3 parts",
        "ca BEGIN CERTIFICATE",
        "namespace file default",
        "host everything",
        "expanded blue/x",
        "init was here",
        "read-only volume",
    ] {
        assert!(log.contains(line), "{line:?} in\n{log}");
    }
    let log = output_of(&cluster, "secured", SECURITY);
    for line in [
        "uid=1234(guest) gid=2000 groups=2000,3000",
        "root is read-only",
        "CapBnd:\t0000000000000400",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(log.contains(line), "{line:?} in\n{log}");
    }
    limits(&cluster);
    live_update(&cluster);
    image_in_use(&cluster);
}

const VOLUMES: &str = r#"
  restartPolicy: Never
  initContainers:
  - name: first
    image: example.test/busybox:1
    command: [sh, -c, 'echo init was here > /shared/note']
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: main
    image: example.test/busybox:1
    command: [sh, -c]
    args:
    - |
      echo colour=$COLOUR
      echo shape in file: $(cat /settings/shape)
      echo secret: $(cat /secret/word)
      echo mode $(stat -Lc %a /secret/word)
      echo env secret: $WORD
      echo from image: $FROM_IMAGE
      echo name $POD_NAME
      echo namespace $POD_NAMESPACE
      echo ip $POD_IP
      echo label: $(cat /info/labels)
      echo limit $LIMIT
      echo x > /scratch/x && echo scratch written
      echo token $(tr . '\n' < /var/run/secrets/kubernetes.io/serviceaccount/token | grep -c .) parts
      echo ca $(grep -o 'BEGIN CERTIFICATE' /var/run/secrets/kubernetes.io/serviceaccount/ca.crt)
      echo namespace file $(cat /var/run/secrets/kubernetes.io/serviceaccount/namespace)
      echo host $(hostname)
      echo expanded $EXPANDED
      cat /shared/note
      touch /settings/x 2>/dev/null || echo read-only volume
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: WORD, valueFrom: {secretKeyRef: {name: password, key: word}}}
    - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: EXPANDED, value: $(COLOUR)/x}
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    volumeMounts:
    - {name: settings, mountPath: /settings, readOnly: true}
    - {name: secret, mountPath: /secret}
    - {name: info, mountPath: /info}
    - {name: scratch, mountPath: /scratch}
    - {name: shared, mountPath: /shared}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: secret, secret: {secretName: password, defaultMode: 0400}}
  - {name: info, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - {name: scratch, emptyDir: {medium: Memory}}
  - {name: shared, emptyDir: {}}
"#;

const SECURITY: &str = r#"
  restartPolicy: Never
  securityContext: {runAsUser: 1234, runAsGroup: 2000, fsGroup: 3000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: example.test/busybox:1
    command: [sh, -c, 'id; touch /x 2>/dev/null || echo root is read-only; cat /proc/self/status']
    securityContext:
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      runAsNonRoot: true
      capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}
"#;

fn limits(cluster: &Cluster) {
    cluster.kubectl.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: hungry}\nspec:\n  restartPolicy: Never\n  containers:\n  \
         - name: main\n    image: example.test/busybox:1\n    command: [sh, -c, 'x=a; while true; do x=$x$x; done']\n    \
         resources: {limits: {memory: 24Mi}}\n",
    );
    until("the pod is killed for memory", SOON, || {
        let status = pod(cluster, "hungry");
        let ended = &status["status"]["containerStatuses"][0]["state"]["terminated"];
        if ended["reason"] == "OOMKilled" && ended["exitCode"] == 137 {
            Ok(())
        } else {
            Err(status["status"].to_string())
        }
    });
}

fn live_update(cluster: &Cluster) {
    cluster.kubectl.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: watcher}\nspec:\n  containers:\n  - name: main\n    \
         image: example.test/busybox:1\n    command: [sleep, '3600']\n    volumeMounts: [{name: s, mountPath: /s}]\n  \
         volumes: [{name: s, configMap: {name: settings}}]\n",
    );
    cluster.kubectl.ok("wait --for=condition=Ready pod/watcher --timeout=60s");
    cluster.kubectl.ok("patch configmap settings --type merge -p '{\"data\":{\"colour\":\"green\"}}'");
    until("the mounted file follows the ConfigMap", SOON, || {
        let text = cluster.kubectl.run("exec watcher -- cat /s/colour").stdout;
        if text == "green" { Ok(()) } else { Err(text) }
    });
}

fn image_in_use(cluster: &Cluster) {
    let error = cluster.plinth(&["image", "rm", "example.test/busybox:1"]).expect_error();
    assert!(error.contains("in use"), "{error}");
    cluster.kubectl.ok("delete pods --all --grace-period=1");
    // The node frees a pod's files a moment after its object is gone.
    until("the image can be removed", SOON, || {
        let ran = cluster.plinth(&["image", "rm", "example.test/busybox:1"]);
        if ran.ok() { Ok(()) } else { Err(ran.stderr) }
    });
    let listed = cluster.plinth(&["image", "ls", "-o", "json"]).expect_ok();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert!(!listed.to_string().contains("busybox"), "{listed}");
}
