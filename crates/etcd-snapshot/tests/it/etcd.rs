//! A real etcd in a folder of its own, and the programs that ask it. Ended and removed when it is dropped.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use test_support::{Ran, ports::free_port, run, tool, until};

/// How long a program that was started may take to answer, or to end when told.
const LIMIT: Duration = Duration::from_secs(30);
/// How long one command may take.
const COMMAND_SECONDS: u32 = 60;

/// The three programs.
#[derive(Clone, Debug)]
pub struct Tools {
    etcd: PathBuf,
    etcdctl: PathBuf,
    etcdutl: PathBuf,
}

impl Tools {
    pub fn find() -> Self {
        Tools { etcd: tool("etcd"), etcdctl: tool("etcdctl"), etcdutl: tool("etcdutl") }
    }

    pub fn etcdutl(&self, line: &str) -> Ran {
        run(Command::new(&self.etcdutl).args(line.split(' ')), None, COMMAND_SECONDS)
    }

    /// `etcdutl snapshot status` as (hash, revision, totalKey, totalSize).
    pub fn status(&self, file: &Path) -> (u64, i64, u64, u64) {
        let line = format!("snapshot status {} -w json", file.display());
        let said: Value = serde_json::from_str(&self.etcdutl(&line).expect_ok()).unwrap();
        let number = |name: &str| said[name].as_u64().unwrap();
        (number("hash"), number("revision").cast_signed(), number("totalKey"), number("totalSize"))
    }
}

pub struct Etcd {
    pub tools: Tools,
    child: Child,
    pub data_dir: PathBuf,
    pub folder: tempfile::TempDir,
    url: String,
    peer: String,
}

/// What `etcdctl get` says of a key: value, create revision, mod revision, version, lease.
pub type Stored = (Vec<u8>, i64, i64, i64, i64);

impl Etcd {
    pub fn start(tools: &Tools) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let peer = format!("http://127.0.0.1:{}", free_port());
        Etcd::spawn(tools, folder, peer)
    }

    /// Restores a snapshot file with the real tool and starts on what it made.
    pub fn restore(tools: &Tools, file: &Path, flags: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let peer = format!("http://127.0.0.1:{}", free_port());
        let (file, data) = (file.display(), folder.path().join("data"));
        let members = format!("--initial-cluster default={peer} --initial-advertise-peer-urls {peer}");
        let line = format!("snapshot restore {file} --data-dir {} {members}{flags}", data.display());
        tools.etcdutl(&line).expect_ok();
        Etcd::spawn(tools, folder, peer)
    }

    fn spawn(tools: &Tools, folder: tempfile::TempDir, peer: String) -> Self {
        let url = format!("http://127.0.0.1:{}", free_port());
        let data_dir = folder.path().join("data");
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new(&tools.etcd)
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync"])
            .arg("--data-dir")
            .arg(&data_dir)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let etcd = Etcd { tools: tools.clone(), child, data_dir, folder, url, peer };
        until("etcd answers", LIMIT, || {
            // A linearizable read: it needs a leader, and no alarm stands in its way.
            let ran = etcd.run("get any", None);
            let log = || std::fs::read_to_string(etcd.folder.path().join("log")).unwrap_or_default();
            if ran.ok() { Ok(()) } else { Err(format!("{}\n{}\n{}", ran.stderr, etcd.peer, log())) }
        });
        etcd
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, line: &str, input: Option<&str>) -> Ran {
        let words = line.split(' ').map(|word| if word == "''" { "" } else { word });
        run(Command::new(&self.tools.etcdctl).args(["--endpoints", &self.url]).args(words), input, COMMAND_SECONDS)
    }

    /// What `etcdctl` answers; `''` in the line is an empty word.
    pub fn ctl(&self, line: &str) -> String {
        self.run(line, None).expect_ok()
    }

    /// What `etcdctl` answers when it is told something on its standard input.
    pub fn told(&self, line: &str, input: &str) -> String {
        self.run(line, Some(input)).expect_ok()
    }

    pub fn fails(&self, line: &str) -> String {
        self.run(line, None).expect_error()
    }

    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ctl(&format!("{line} -w json"))).unwrap()
    }

    /// All keys at a revision.
    pub fn all(&self, revision: i64) -> BTreeMap<Vec<u8>, Stored> {
        let answer = self.json(&format!("get '' --from-key --rev={revision}"));
        let kvs = answer["kvs"].as_array().cloned().unwrap_or_default();
        let bytes = |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).unwrap();
        let stored = |kv: &Value| {
            let number = |name: &str| kv[name].as_i64().unwrap_or_default();
            let (create, modified) = (number("create_revision"), number("mod_revision"));
            (bytes(&kv["key"]), (bytes(&kv["value"]), create, modified, number("version"), number("lease")))
        };
        kvs.iter().map(stored).collect()
    }

    pub fn revision(&self) -> i64 {
        self.json("endpoint status")[0]["Status"]["header"]["revision"].as_i64().unwrap()
    }

    /// The hash over the history up to a revision (0: all), and the revision up to which it was compacted.
    pub fn hash_kv(&self, revision: i64) -> (u64, i64) {
        let said = self.json(&format!("endpoint hashkv --rev={revision}"))[0]["HashKV"].clone();
        (said["hash"].as_u64().unwrap(), said["compact_revision"].as_i64().unwrap_or(-1))
    }

    /// Stops it as an operator does, so that it commits what it has.
    pub fn stop(&mut self) {
        run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]), None, COMMAND_SECONDS).expect_ok();
        until("etcd ends", LIMIT, || match self.child.try_wait().unwrap() {
            Some(_) => Ok(()),
            None => Err("it runs".into()),
        });
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
