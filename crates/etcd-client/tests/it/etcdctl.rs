//! The real `etcdctl`, and what a person does with it first.

use std::{path::PathBuf, time::Duration};

use test_support::tool;

/// How long one command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(15);

/// The program before one server.
pub struct Ctl {
    program: PathBuf,
    url: String,
}

impl Ctl {
    pub fn new(url: &str) -> Self {
        Ctl { program: tool("etcdctl"), url: url.to_owned() }
    }

    /// What a command says.
    pub async fn run(&self, line: &str) -> String {
        let mut command = tokio::process::Command::new(&self.program);
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.url]).args(line.split(' ')).kill_on_drop(true);
        let output = tokio::time::timeout(COMMAND_LIMIT, command.output()).await.expect("etcdctl ends").unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).trim().to_owned()
    }

    /// It says exactly this.
    pub async fn check(&self, line: &str, expected: &str) {
        assert_eq!(self.run(line).await, expected, "etcdctl {line}");
    }

    /// It says this and more.
    pub async fn told(&self, line: &str, part: &str) {
        let answer = self.run(line).await;
        assert!(answer.contains(part), "etcdctl {line}: {answer}");
    }
}

/// A transcript: a command, its answer, the next.
pub async fn session(url: &str) {
    let ctl = Ctl::new(url);
    ctl.check("put ctl/a 1", "OK").await;
    ctl.check("put ctl/b 2", "OK").await;
    ctl.check("get ctl/ --prefix", "ctl/a\n1\nctl/b\n2").await;
    ctl.check("get ctl/ --prefix --keys-only --order=DESCEND --sort-by=KEY", "ctl/b\n\nctl/a").await;
    ctl.check("put ctl/a 3 --prev-kv", "OK\nctl/a\n1").await;
    ctl.check("del ctl/b --prev-kv", "1\nctl/b\n2").await;
    ctl.told("get ctl/a -w json", r#""value":"Mw==""#).await;
    ctl.told("put --ignore-value ctl/none", "etcdserver: key not found").await;
    ctl.told("put --lease=123 ctl/c 1", "etcdserver: requested lease not found").await;
    ctl.told("lease grant 300", "granted with TTL(300s)").await;
    ctl.told("lease list", "found 1 leases").await;
    ctl.told("lease timetolive 1234", "lease 0000000000001234 already expired").await;
    let granted = ctl.run("lease grant 300").await;
    let lease = granted.split(' ').nth(1).unwrap_or_else(|| panic!("{granted}")).to_owned();
    ctl.check(&format!("put --lease={lease} ctl/l 1"), "OK").await;
    ctl.told(&format!("lease timetolive {lease} --keys"), "attached keys([ctl/l])").await;
    ctl.told(&format!("lease keep-alive --once {lease}"), "keepalived with TTL(300)").await;
    ctl.told(&format!("lease revoke {lease}"), "revoked").await;
    ctl.check("get ctl/l", "").await;
    ctl.told("lock ctl/lock echo held", "held").await;
    ctl.told("endpoint status -w table", " 3.5").await;
    ctl.told("endpoint health", "is healthy").await;
    ctl.told("endpoint hashkv", url.trim_start_matches("http://")).await;
    ctl.told("member list", url).await;
    ctl.check("alarm list", "").await;
    ctl.told("compaction 3", "compacted revision 3").await;
    ctl.told("compaction 3", "etcdserver: mvcc: required revision has been compacted").await;
    ctl.told("watch ctl/ --prefix --rev=2", "etcdserver: mvcc: required revision has been compacted").await;
    ctl.told("get ctl/a --rev=1000", "etcdserver: mvcc: required revision is a future revision").await;
    ctl.told("snapshot save /nonexistent/file", "Error").await;
}
