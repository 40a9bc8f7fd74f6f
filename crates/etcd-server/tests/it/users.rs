//! Users and permissions over the wire, before this server and before a real etcd: transcripts, sessions made by
//! chance, `etcdctl`, signed tokens, and certificates.

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use etcd_server::{AuthOptions, Listener, Options, PeerName, Service, TokenKind};
use runtime::{Clock, Tasks};
use store_api::{Auth, Store};
use test_support::{ports::free_port, tool};

use crate::{memory::Memory, session::Session};

/// How long a program that was started may take to answer.
const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
const COMMAND_LIMIT: Duration = Duration::from_secs(15);
/// The cheapest hash: these tests are not about its strength.
const BCRYPT_COST: u32 = 4;

/// This project's server, before one of its stores.
struct Ours {
    url: String,
    tasks: Tasks,
    _folder: Option<tempfile::TempDir>,
}

/// What the server is put before: the engines alone, and the store that keeps them on a disk.
#[derive(Clone, Copy, Debug)]
enum Before {
    Memory,
    Disk,
}

const STORES: [Before; 2] = [Before::Memory, Before::Disk];

impl Ours {
    async fn start(before: Before, tokens: &str) -> Self {
        let (tasks, clock) = (Tasks::root(), Clock::system());
        match before {
            Before::Memory => {
                let memory = Memory::new(clock.clone());
                Self::serve(memory.unguarded(), Arc::new(memory), tokens, tasks, None).await
            }
            Before::Disk => {
                let folder = tempfile::tempdir().unwrap();
                let store = store::Store::open(store::Options::new(folder.path(), clock, tasks.child("store")));
                let store = store.await.unwrap();
                Self::serve(Arc::new(store.clone()), Arc::new(store), tokens, tasks, Some(folder)).await
            }
        }
    }

    async fn serve(
        store: Arc<dyn Store>,
        auth: Arc<dyn Auth>,
        tokens: &str,
        tasks: Tasks,
        _folder: Option<tempfile::TempDir>,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut options = Options::new(store, tasks.clone());
        let mut guard = AuthOptions::new(auth, Clock::system());
        (guard.tokens, guard.bcrypt_cost) = (TokenKind::parse(tokens).unwrap(), BCRYPT_COST);
        options.auth = Some(guard);
        options.client_urls = vec![url.clone()];
        Service::start(options).await.unwrap().serve(Listener::Tcp(listener), None);
        Ours { url, tasks, _folder }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// A real etcd.
struct Real {
    url: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Real {
    async fn start(tokens: &str) -> Self {
        let program = tool("etcd");
        let folder = tempfile::tempdir().unwrap();
        let url = format!("http://127.0.0.1:{}", free_port());
        let peer = format!("http://127.0.0.1:{}", free_port());
        let child = Command::new(program)
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync", "--auth-token", tokens])
            .args(["--bcrypt-cost", &BCRYPT_COST.to_string(), "--data-dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let real = Real { url, child, _folder: folder };
        tokio::time::timeout(START_LIMIT, real.answers()).await.expect("etcd answers");
        real
    }

    async fn answers(&self) {
        let reached = async || {
            let endpoint = tonic::transport::Endpoint::from_shared(self.url.clone()).unwrap();
            endpoint.connect().await.is_ok() && Session::open(&self.url).await.run("-> get a").await.is_empty()
        };
        while !reached().await {
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays a transcript: each command has one line of answer.
async fn play(transcript: &str, url: &str) {
    let mut session = Session::open(url).await;
    let mut lines = transcript.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    while let Some(command) = lines.next() {
        let expected = lines.next().expect("every command has an answer");
        assert_eq!(session.run(command).await, expected, "{command}");
    }
}

/// Plays a transcript before each.
async fn check(transcript: &str, tokens: &str) {
    for store in STORES {
        play(transcript, &Ours::start(store, tokens).await.url).await;
    }
    let real = Real::start(tokens).await;
    play(transcript, &real.url).await;
}

#[tokio::test]
async fn a_session_goes_as_before_etcd() {
    check(include_str!("../auth/session.txt"), "simple").await;
}

#[tokio::test]
async fn signed_tokens_end_with_the_revision_that_they_were_made_at() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let pair = rcgen::KeyPair::generate().unwrap();
    let (private, public) = (write("key", &pair.serialize_pem()), write("pub", &pair.public_key_pem()));
    let secret = write("secret", "nobody knows");
    let transcript = include_str!("../auth/signed.txt");
    check(transcript, &format!("jwt,sign-method=HS256,priv-key={secret}")).await;
    check(transcript, &format!("jwt,sign-method=ES256,pub-key={public},priv-key={private},ttl=10m")).await;
    cross(&format!("jwt,sign-method=ES256,priv-key={private}")).await;
    cross(&format!("jwt,sign-method=HS512,priv-key={secret}")).await;
    let ours = Ours::start(Before::Disk, &format!("jwt,sign-method=ES256,pub-key={public}")).await;
    let mut session = Session::open(&ours.url).await;
    for line in ["-> user add root x", "-> user grant root root", "-> auth enable"] {
        assert_eq!(session.run(line).await, "ok", "{line}");
    }
    let refused = "Unknown auth: token signing attempted with verify-only key";
    assert_eq!(session.run("-> login root x").await, refused);
}

/// What one signs, the other accepts.
async fn cross(tokens: &str) {
    let real = Real::start(tokens).await;
    let ours = Ours::start(Before::Disk, tokens).await;
    let (mut one, mut other) = (Session::open(&ours.url).await, Session::open(&real.url).await);
    for line in ["-> user add root x", "-> user grant root root", "-> auth enable", "-> login root x"] {
        assert_eq!((one.run(line).await, other.run(line).await), ("ok".into(), "ok".into()), "{line}");
    }
    std::mem::swap(&mut one.tokens, &mut other.tokens);
    for session in [&mut one, &mut other] {
        assert_eq!(session.run("root> put a 1").await, "ok", "{tokens}");
    }
}

/// Steps of a session made by chance, and the sessions.
const STEPS: usize = 400;
const SEEDS: std::ops::Range<u64> = 1..4;

#[tokio::test]
async fn sessions_made_by_chance_go_as_before_etcd() {
    for seed in SEEDS {
        let real = Real::start("simple").await;
        let stores = [Ours::start(STORES[0], "simple").await, Ours::start(STORES[1], "simple").await];
        let [mut one, mut two] = [Session::open(&stores[0].url).await, Session::open(&stores[1].url).await];
        let mut other = Session::open(&real.url).await;
        let mut chance = Chance(seed);
        let mut refused = 0;
        for step in 0..STEPS {
            let line = SETUP.get(step).map_or_else(|| chance.line(), |line| (*line).to_owned());
            let (found, expected) = (one.run(&line).await, other.run(&line).await);
            assert_eq!(found, expected, "seed {seed}, step {step}: {line}");
            assert_eq!(two.run(&line).await, expected, "seed {seed}, step {step}, on a disk: {line}");
            refused += usize::from(found.contains("permission denied"));
        }
        assert!(refused > STEPS / 20, "seed {seed} refuses next to nothing: {refused}");
    }
}

const SETUP: [&str; 12] = [
    "-> user add root pw",
    "-> user grant root root",
    "-> user add alice pw",
    "-> user add bob pw",
    "-> role add one",
    "-> role add two",
    "-> user grant alice one",
    "-> user grant bob two",
    "-> auth enable",
    "-> login root pw",
    "-> login alice pw",
    "-> login bob pw",
];

/// Numbers that look random and come back with the same seed (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    fn line(&mut self) -> String {
        const USERS: [&str; 3] = ["root", "alice", "bob"];
        const ROLES: [&str; 3] = ["root", "one", "two"];
        const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
        const ENDS: [&str; 5] = ["c", "d", "f", "g", "\\0"];
        let (user, role, key, end) = (self.one(&USERS), self.one(&ROLES), self.one(&KEYS), self.one(&ENDS));
        let (kind, prev, lease) = (self.one(&["r", "w", "rw"]), self.one(&["", " prev"]), self.one(&["0", "1", "2"]));
        let range = if self.below(2) == 0 { key.to_owned() } else { format!("{key} {end}") };
        let manager = if self.below(8) == 0 { user } else { "root" };
        match self.below(30) {
            0 => format!("{manager}> user add {user} pw"),
            1 if user != "root" && self.below(3) == 0 => format!("{manager}> user del {user}"),
            2 => format!("{manager}> user get {user}"),
            3 => format!("{manager}> role get {role}"),
            4 if self.below(3) == 0 => format!("{manager}> role del {role}"),
            4 | 5 => format!("{manager}> role add {role}"),
            6 if user == "root" || role != "root" => format!("{manager}> user grant {user} {role}"),
            7 if self.below(2) == 0 => format!("{manager}> user revoke {user} {role}"),
            8..=11 => format!("{manager}> role allow {role} {kind} {range}"),
            12 => format!("{manager}> role forbid {role} {range}"),
            13 | 14 => format!("-> login {user} pw"),
            15 => format!("{user}> lease grant {lease}").replace(" 0", " 3"),
            16 if lease != "0" => format!("{user}> lease ttl {lease}{}", self.one(&["", " keys"])),
            17 if lease != "0" => format!("{user}> lease renew {lease}"),
            18 if lease != "0" => format!("{user}> lease revoke {lease}"),
            19 => format!("{user}> lease list"),
            20..=22 => format!("{user}> put {key} 1 {lease}{prev}"),
            23 => format!("{user}> del {range}{prev}"),
            24 => format!("{user}> txn {key}: get {range}, put f 1 {lease}{prev} | del {range}{prev}"),
            25 => format!("{user}> watch {range}"),
            26 => self.one(&["root> auth status", "alice> status", "bob> members", "alice> user list"]).to_owned(),
            _ => format!("{user}> get {range}"),
        }
    }
}

/// What a person does with `etcdctl`; the answers of both are compared, and the most telling ones are given here.
const BY_HAND: [(&str, &str); 19] = [
    ("user add root:secret", "User root created"),
    ("user add alice:pass", "User alice created"),
    ("role add reader", "Role reader created"),
    ("role grant-permission reader read conf/ --prefix", "Role reader updated"),
    ("role grant-permission reader readwrite own", "Role reader updated"),
    ("user grant-role alice reader", "Role reader is granted to user alice"),
    ("put conf/a 1", "OK"),
    ("auth enable", "Authentication Enabled"),
    ("get conf/a", "etcdserver: user name is empty"),
    ("--user alice:pass get conf/ --prefix", "conf/a\n1"),
    ("--user alice:wrong get conf/a", "etcdserver: authentication failed, invalid user ID or password"),
    ("--user alice:pass put conf/a 2", "etcdserver: permission denied"),
    ("--user alice:pass put own 2", "OK"),
    ("--user root:secret role get reader", "KV Read:\n\t[conf/, conf0) (prefix conf/)\n\town\nKV Write:\n\town"),
    ("--user root:secret user get alice --detail", "Role reader"),
    ("--user root:secret auth status", "Authentication Status: true"),
    ("--user root:secret user delete alice", "User alice deleted"),
    ("--user alice:pass get own", "etcdserver: authentication failed, invalid user ID or password"),
    ("--user root:secret auth disable", "Authentication Disabled"),
];

#[tokio::test]
async fn etcdctl_manages_users() {
    let program = tool("etcdctl");
    let ours = Ours::start(Before::Disk, "simple").await;
    let real = Real::start("simple").await;
    for (line, expected) in BY_HAND {
        let run = async |url: &str| {
            let mut command = tokio::process::Command::new(&program);
            command.env("ETCDCTL_API", "3").args(["--endpoints", url]).args(line.split(' ')).kill_on_drop(true);
            let output = tokio::time::timeout(COMMAND_LIMIT, command.output()).await.expect("etcdctl ends").unwrap();
            let words = [output.stdout, output.stderr].concat();
            // A failure is logged with its time before it is told.
            let words = String::from_utf8_lossy(&words).into_owned();
            let told: Vec<&str> = words.lines().filter(|line| !line.starts_with('{')).collect();
            told.join("\n").trim().to_owned()
        };
        let found = run(&ours.url).await;
        assert!(found.contains(expected), "etcdctl {line}: {found}");
        assert_eq!(found, run(&real.url).await, "etcdctl {line}");
    }
}

#[test]
fn a_certificate_names_its_holder() {
    let certificate = |name: Option<&str>| {
        let mut params = rcgen::CertificateParams::new(["host".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = name {
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
        }
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    };
    let name = |der: &[u8]| PeerName::of(der).map(|name| name.0.to_string());
    assert_eq!(name(&certificate(Some("alice"))).as_deref(), Some("alice"));
    assert_eq!(name(&certificate(None)).as_deref(), Some(""));
    assert_eq!(name(b"nothing"), None);
}
