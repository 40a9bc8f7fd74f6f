//! Machines in miniature: each a network namespace on one thread, all joined by a bridge in a namespace of its own, and
//! links that can be cut in either direction.
//!
//! ```text
//!   m1 10.77.0.1 ──p1─┐
//!   m2 10.77.0.2 ──p2─┤ bridge (namespace "hub"; nftables drops between ports)
//!   m3 10.77.0.3 ──p3─┤
//!   clients .9   ──p9─┘
//! ```
//!
//! Nothing has a name outside: namespaces, mounts and processes go with this process, also when it is killed.

use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::gettid,
};

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace. Processes that it starts are in it, too, and end with it.
pub struct Host {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
    namespace: String,
}

impl Host {
    fn start(name: &str) -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let body = move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            inbox.into_iter().for_each(|job| job());
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body).unwrap();
        let mut host = Host { jobs: Some(jobs), thread: Some(thread), namespace: String::new() };
        let task = host.run(gettid);
        host.namespace = format!("/proc/{}/task/{task}/ns/net", std::process::id());
        host
    }

    /// Runs `job` on the host's thread and waits for it; a panic goes on here.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, wait) = mpsc::channel();
        let job = move || drop(answer.send(catch_unwind(AssertUnwindSafe(job))));
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        wait.recv().unwrap().unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.jobs = None;
        let _ = self.thread.take().unwrap().join();
    }
}

pub struct Network {
    hub: Host,
    pub members: Vec<Host>,
}

/// One direction between two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub from: usize,
    pub to: usize,
}

/// The clients' number on the bridge.
pub const CLIENTS: usize = 9;

impl Network {
    /// Members have the numbers from 1; the other host is the clients'. Mounts made from now on are this process's own.
    pub fn new(members: usize) -> (Self, Host) {
        unshare(CloneFlags::CLONE_NEWNS).expect("these tests need root");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let hub = Host::start("hub");
        hub.run(|| {
            ip("link add br0 type bridge");
            ip("link set br0 up");
        });
        let clients = Host::start("clients");
        let members = (1..=members).map(|n| Host::start(&format!("m{n}"))).collect();
        let network = Network { members, hub };
        let numbered = network.members.iter().zip(1..).chain([(&clients, CLIENTS)]);
        numbered.for_each(|(host, n)| network.plug(host, n));
        network.cut(&[]);
        (network, clients)
    }

    fn plug(&self, host: &Host, n: usize) {
        let namespace = host.namespace.clone();
        self.hub.run(move || {
            ip(&format!("link add p{n} type veth peer name e{n}"));
            ip(&format!("link set e{n} netns {namespace}"));
            ip(&format!("link set p{n} master br0 up"));
        });
        host.run(move || {
            ip("link set lo up");
            ip(&format!("addr add {}/24 dev e{n}", address(n)));
            ip(&format!("link set e{n} up"));
        });
    }

    /// From now on exactly these directions are cut: what is sent there vanishes.
    pub fn cut(&self, cuts: &[Cut]) {
        let rule = |cut: &Cut| format!("add rule bridge cuts forward iifname p{} oifname p{} drop\n", cut.from, cut.to);
        let rules: String = cuts.iter().map(rule).collect();
        let text = format!(
            "add table bridge cuts\nadd chain bridge cuts forward {{ type filter hook forward priority 0; }}\n\
             flush chain bridge cuts forward\n{rules}"
        );
        self.hub.run(move || {
            let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            assert!(nft.wait().unwrap().success(), "nft refused:\n{text}");
        });
    }
}

pub fn address(n: usize) -> String {
    format!("10.77.0.{n}")
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}
