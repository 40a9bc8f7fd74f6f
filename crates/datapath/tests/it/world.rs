//! A host in miniature for one test, and the clients that run in it.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use client::Informers;
use datapath::{Handle, Live, Options, Paths, PodAddress};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{CGROUP2_SUPER_MAGIC, statfs},
};
use runtime::{Clock, Tasks};
use serde_json::{Value, json};

use test_api::Api;
use test_support::traces;

const PATIENCE: Duration = Duration::from_secs(10);
const CGROUPS: &str = "plinth-datapath-";

/// Runs `test` on this thread, from which all threads and processes inherit the namespaces.
pub fn block_on(test: impl Future<Output = ()>) {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    ip("link set lo up");
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs") });
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

pub struct World {
    pub api: Api,
    pub paths: Paths,
    pub tasks: Tasks,
    root: Tasks,
    cgroup: Cgroup,
    folder: tempfile::TempDir,
}

/// A cgroup that goes when the test ends, however it ends.
struct Cgroup(PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

impl World {
    pub fn new(name: &str) -> Self {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let is_cgroup2 = |path: &str| statfs(path).is_ok_and(|f| f.filesystem_type() == CGROUP2_SUPER_MAGIC);
        let tree = roots.into_iter().find(|path| is_cgroup2(path)).expect("a cgroup2 tree");
        // What a killed test has left; nothing lives in it any more, or it stays.
        traces::abandoned(Path::new(tree), CGROUPS).iter().for_each(|left| drop(fs::remove_dir(left)));
        let cgroup = Path::new(tree).join(format!("{CGROUPS}{}-{name}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        let cgroup = Cgroup(cgroup);
        let folder = tempfile::tempdir().unwrap();
        let bpf = folder.path().join("bpf");
        fs::create_dir(&bpf).unwrap();
        let mut paths = Paths::new(folder.path().join("state"), folder.path().join("run"));
        paths.bpf_dir = bpf.join("plinth");
        paths.cgroup = Some(cgroup.0.clone());
        let root = Tasks::root();
        World { api: Api::new(), paths, tasks: root.child("first"), root, cgroup, folder }
    }

    pub async fn start(&self) -> Handle {
        let tasks = self.root.child("datapath");
        let tasks = if self.tasks.stopping().is_cancelled() { tasks } else { self.tasks.clone() };
        let options = Options {
            paths: self.paths.clone(),
            informers: Informers::new(self.api.client(), tasks.clone()),
            node_name: "node".to_owned(),
            pod_cidr: "10.42.0.0/24".parse().unwrap(),
            cluster_cidr: "10.42.0.0/16".parse().unwrap(),
            metrics: datapath::Metrics::default(),
            clock: Clock::system(),
            tasks,
        };
        let handle = datapath::start(options).await.unwrap();
        let live = handle.live();
        assert_eq!((live.sockets_error, live.outside_error), (None, None));
        handle
    }

    /// Waits for a state of the running datapath.
    pub async fn wait(&self, datapath: &Handle, good: impl Fn(&Live) -> bool) {
        let clock = Clock::system();
        let deadline = clock.monotonic() + PATIENCE;
        while !good(&datapath.live()) {
            assert!(clock.monotonic() < deadline, "still {:?}", datapath.live());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until new connections are answered by exactly these.
    pub async fn wait_for_answers(&self, service: &str, names: &str) {
        let clock = Clock::system();
        let deadline = clock.monotonic() + PATIENCE;
        loop {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let mut seen: Vec<String> = self.client(None, &format!("tcp {service} 40"));
            seen.sort();
            seen.dedup();
            if seen.concat() == names {
                return;
            }
            assert!(clock.monotonic() < deadline, "answers come from {seen:?}");
        }
    }

    /// Answers with `name` on each connection and again for each byte received; the same port echoes over UDP.
    pub fn serve(&self, pod: &PodAddress, port: u16, name: &'static str) {
        let netns = File::open(&pod.netns).unwrap();
        let (ready, wait) = std::sync::mpsc::channel();
        let tasks = self.root.child("servers");
        self.root.spawn_thread("server", move || {
            setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
            let datagrams = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5353)).unwrap();
            ready.send(()).unwrap();
            tasks.spawn_thread("udp", move || {
                let mut buffer = [0; 64];
                while let Ok((length, from)) = datagrams.recv_from(&mut buffer) {
                    datagrams.send_to(&buffer[..length], from).unwrap();
                }
            });
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                tasks.spawn_thread("connection", move || {
                    let mut byte = [0];
                    while stream.write_all(name.as_bytes()).is_ok() && stream.read(&mut byte).is_ok_and(|n| n > 0) {}
                });
            }
        });
        wait.recv().unwrap();
    }

    /// Runs a client command in the test's cgroup, on the host's network or a pod's. Returns its lines.
    pub fn client(&self, pod: Option<&PodAddress>, command: &str) -> Vec<String> {
        let output = self.client_command(pod, command).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{command}: {text} {}", String::from_utf8_lossy(&output.stderr));
        text.lines().filter_map(|line| line.strip_prefix("> ")).map(str::to_owned).collect()
    }

    /// Runs a client command beside the test.
    pub fn spawn_client(&self, command: &str) -> Load {
        let mut command = self.client_command(None, command);
        let (sender, lines) = std::sync::mpsc::channel();
        self.root.spawn_thread("load", move || {
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let _ = sender.send(text.lines().filter_map(|line| line.strip_prefix("> ")).map(str::to_owned).collect());
        });
        Load { lines, done: std::cell::OnceCell::new() }
    }

    fn client_command(&self, pod: Option<&PodAddress>, command: &str) -> Command {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "client_process", "--nocapture", "--test-threads", "1"]);
        child.env("PLINTH_CLIENT", command).env("PLINTH_CLIENT_CGROUP", &self.cgroup.0);
        if let Some(pod) = pod {
            child.env("PLINTH_CLIENT_NETNS", &pod.netns);
        }
        child
    }

    /// Opens a connection and keeps it.
    pub fn hold(&self, service: &str) -> Held {
        let mut command = self.client_command(None, &format!("hold {service}"));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut held = Held { child, backend: String::new() };
        held.backend = held.read();
        held
    }

    pub fn links(&self) -> Vec<String> {
        let output = Command::new("ip").args(["-o", "link"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|l| l.split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned()).collect()
    }

    /// Link files, not counting any that wait to be renamed.
    pub fn attached_programs(&self) -> usize {
        let version = fs::read_dir(&self.paths.bpf_dir).unwrap().next().unwrap().unwrap().path();
        let names = fs::read_dir(version).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("link_")).count()
    }

    /// Another host at 192.0.2.2, while this one is 192.0.2.1.
    pub fn neighbour(&self) -> PodAddress {
        let path = self.folder.path().join("neighbour");
        File::create(&path).unwrap();
        let target = path.clone();
        let (ready, wait) = std::sync::mpsc::channel();
        self.root.spawn_thread("neighbour", move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            mount(Some("/proc/thread-self/ns/net"), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
            ready.send(()).unwrap();
        });
        wait.recv().unwrap();
        let netns = path.display();
        ip("link add up0 type veth peer name up1");
        ip("addr add 192.0.2.1/24 dev up0");
        ip("link set up0 up");
        let inside = |arguments: &str| {
            let command = format!("--net={netns} ip {arguments}");
            assert!(Command::new("nsenter").args(command.split(' ')).status().unwrap().success(), "{command}");
        };
        let status = Command::new("ip").args(["link", "set", "up1", "netns", path.to_str().unwrap()]).status().unwrap();
        assert!(status.success());
        inside("addr add 192.0.2.2/24 dev up1");
        inside("link set up1 up");
        inside("link set lo up");
        PodAddress {
            uid: String::new(),
            namespace: String::new(),
            name: String::new(),
            ip: Ipv4Addr::new(192, 0, 2, 2),
            gateway: Ipv4Addr::new(192, 0, 2, 1),
            netns: path,
        }
    }

    pub async fn wait_for_neighbour_answer(&self, host: &PodAddress, address: &str, expected: &str) {
        let clock = Clock::system();
        let deadline = clock.monotonic() + PATIENCE;
        loop {
            let mut command = self.client_command(Some(host), &format!("tcp {address}"));
            // Outside the cgroup: another host has no eBPF programs of ours.
            let output = command.env_remove("PLINTH_CLIENT_CGROUP").output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.contains(&format!("> {expected}\n")) {
                return;
            }
            assert!(clock.monotonic() < deadline, "the neighbour got {text}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Cleans up twice and checks that nothing is left.
    pub async fn end(self) {
        self.root.stop();
        datapath::cleanup(&self.paths).await.unwrap();
        datapath::cleanup(&self.paths).await.unwrap();
        assert!(self.links().iter().all(|name| !name.starts_with("pl")), "{:?}", self.links());
        let bpf = self.paths.bpf_dir.parent().unwrap();
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        assert_eq!(device(bpf), device(self.folder.path()), "the BPF file system is still mounted");
        assert_eq!(fs::read_dir(bpf).unwrap().count(), 0);
        let status = datapath::status(&self.paths).await;
        assert_eq!((status.attached.len(), status.bridge, status.rules, status.pods), (0, false, false, 0));
    }
}

/// A client that runs beside the test.
pub struct Load {
    lines: std::sync::mpsc::Receiver<Vec<String>>,
    done: std::cell::OnceCell<Vec<String>>,
}

impl Load {
    pub fn is_finished(&self) -> bool {
        if self.done.get().is_none()
            && let Ok(lines) = self.lines.try_recv()
        {
            let _ = self.done.set(lines);
        }
        self.done.get().is_some()
    }

    pub fn lines(self) -> Vec<String> {
        match self.done.into_inner() {
            Some(lines) => lines,
            None => self.lines.recv().unwrap(),
        }
    }
}

/// A client with an open connection.
pub struct Held {
    child: Child,
    pub backend: String,
}

impl Held {
    /// Sends a byte and returns who answers.
    pub fn ask(&mut self) -> String {
        self.child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        self.read()
    }

    fn read(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            self.child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            match byte[0] {
                b'\n' if line.starts_with(b"> ") => return String::from_utf8(line[2..].to_vec()).unwrap(),
                b'\n' => line.clear(),
                other => line.push(other),
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

pub fn slice(service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    json!({
        "metadata": {"name": format!("{service}-1"), "namespace": "default",
                     "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "t", "port": 8080, "protocol": "TCP"}, {"name": "u", "port": 5353, "protocol": "UDP"}],
    })
}

/// The other side of [`World::client`].
pub fn run_client() {
    let Ok(command) = std::env::var("PLINTH_CLIENT") else { return };
    if let Ok(cgroup) = std::env::var("PLINTH_CLIENT_CGROUP") {
        fs::write(Path::new(&cgroup).join("cgroup.procs"), "0").unwrap();
    }
    if let Ok(netns) = std::env::var("PLINTH_CLIENT_NETNS") {
        setns(File::open(netns).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
    }
    println!();
    let mut words = command.split(' ');
    let (verb, address) = (words.next().unwrap(), words.next().unwrap());
    let address: SocketAddr = address.parse().unwrap();
    let times = words.next().map_or(1, |times| times.parse().unwrap());
    for _ in 0..times {
        println!("> {}", once(verb, address));
    }
}

fn once(verb: &str, address: SocketAddr) -> String {
    let limit = Duration::from_secs(5);
    let connect = || TcpStream::connect_timeout(&address, limit);
    match verb {
        "tcp" => match connect() {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(limit)).unwrap();
                read_name(&mut stream)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => "refused".to_owned(),
            Err(error) if error.raw_os_error() == Some(nix::libc::ENETUNREACH) => "unreachable".to_owned(),
            Err(error) => error.to_string(),
        },
        "hold" => {
            let mut stream = connect().unwrap();
            println!("> {}", read_name(&mut stream));
            let mut byte = [0];
            io::stdin().read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
            read_name(&mut stream)
        }
        "peer" => connect().unwrap().peer_addr().unwrap().to_string(),
        "udp" | "udp-connected" => {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.set_read_timeout(Some(limit)).unwrap();
            if verb == "udp" {
                socket.send_to(b"ping", address).unwrap();
            } else {
                socket.connect(address).unwrap();
                socket.send(b"ping").unwrap();
                assert_eq!(socket.peer_addr().unwrap(), address);
            }
            let (_, from) = socket.recv_from(&mut [0; 64]).unwrap();
            from.to_string()
        }
        other => panic!("unknown command {other}"),
    }
}

fn read_name(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 64];
    let length = stream.read(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}
