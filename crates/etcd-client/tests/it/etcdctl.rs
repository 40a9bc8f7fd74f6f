//! The real `etcdctl`, and what a person does with it first.

use std::{path::PathBuf, time::Duration};

/// How long one command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(15);

/// A program of `tools/install.sh`: from PLINTH_TOOLS, from the repository's own folder, or from the search path.
pub fn tool(name: &str) -> Option<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin");
    let folders = std::env::var_os("PLINTH_TOOLS").map(PathBuf::from).into_iter().chain([own]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = folders.chain(std::env::split_paths(&path)).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("SKIPPED: there is no {name} on this machine; run tools/install.sh");
    }
    found
}

/// A transcript: a command, its answer, the next.
pub async fn session(url: &str) {
    let Some(program) = tool("etcdctl") else { return };
    let run = async |line: &str| {
        let mut command = tokio::process::Command::new(&program);
        command.env("ETCDCTL_API", "3").args(["--endpoints", url]).args(line.split(' ')).kill_on_drop(true);
        let output = tokio::time::timeout(COMMAND_LIMIT, command.output()).await.expect("etcdctl ends").unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let check = async |line: &str, expected: &str| assert_eq!(run(line).await, expected, "etcdctl {line}");
    let told = async |line: &str, part: &str| {
        let answer = run(line).await;
        assert!(answer.contains(part), "etcdctl {line}: {answer}");
    };
    check("put ctl/a 1", "OK").await;
    check("put ctl/b 2", "OK").await;
    check("get ctl/ --prefix", "ctl/a\n1\nctl/b\n2").await;
    check("get ctl/ --prefix --keys-only --order=DESCEND --sort-by=KEY", "ctl/b\n\nctl/a").await;
    check("put ctl/a 3 --prev-kv", "OK\nctl/a\n1").await;
    check("del ctl/b --prev-kv", "1\nctl/b\n2").await;
    told("get ctl/a -w json", r#""value":"Mw==""#).await;
    told("put --ignore-value ctl/none", "etcdserver: key not found").await;
    told("put --lease=123 ctl/c 1", "etcdserver: requested lease not found").await;
    told("lease grant 300", "granted with TTL(300s)").await;
    told("lease list", "found 1 leases").await;
    told("lease timetolive 1234", "lease 0000000000001234 already expired").await;
    let granted = run("lease grant 300").await;
    let lease = granted.split(' ').nth(1).unwrap_or_else(|| panic!("{granted}")).to_owned();
    check(&format!("put --lease={lease} ctl/l 1"), "OK").await;
    told(&format!("lease timetolive {lease} --keys"), "attached keys([ctl/l])").await;
    told(&format!("lease keep-alive --once {lease}"), "keepalived with TTL(300)").await;
    told(&format!("lease revoke {lease}"), "revoked").await;
    check("get ctl/l", "").await;
    told("lock ctl/lock echo held", "held").await;
    told("endpoint status -w table", " 3.5").await;
    told("endpoint health", "is healthy").await;
    told("endpoint hashkv", url.trim_start_matches("http://")).await;
    told("member list", url).await;
    check("alarm list", "").await;
    told("compaction 3", "compacted revision 3").await;
    told("compaction 3", "etcdserver: mvcc: required revision has been compacted").await;
    told("watch ctl/ --prefix --rev=2", "etcdserver: mvcc: required revision has been compacted").await;
    told("get ctl/a --rev=1000", "etcdserver: mvcc: required revision is a future revision").await;
    told("snapshot save /nonexistent/file", "Error").await;
}
