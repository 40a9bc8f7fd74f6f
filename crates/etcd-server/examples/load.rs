//! What the server costs per call: serves a store in one process and loads it from another, and tells the server's CPU
//! time (user and system, from /proc) by the number of calls.
//!
//! ```text
//!   load serve FOLDER ADDRESS
//!   load put|get|list|watch ADDRESS SERVER_PID CLIENTS SECONDS
//! ```

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a tool for developers stops at the first surprise")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use etcd_proto::etcdserverpb::{
    PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, kv_client::KvClient, watch_client::WatchClient,
    watch_request::RequestUnion,
};
use etcd_server::{Listener, Options, Service};
use runtime::{Clock, Tasks};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::transport::{Channel, Endpoint};

/// Connections that the clients share, at most.
const CONNECTIONS: usize = 64;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", folder, address] => serve(folder, address).await,
        [what, address, pid, clients, seconds] => {
            let load = Load::new(address, clients.parse().unwrap()).await;
            load.run(what, pid, Duration::from_secs(seconds.parse().unwrap())).await;
        }
        _ => eprintln!("see the head of this file"),
    }
}

async fn serve(folder: &str, address: &str) {
    let tasks = Tasks::root();
    let store = store::Store::open(store::Options::new(folder, Clock::system(), tasks.child("store"))).await;
    let mut options = Options::new(Arc::new(store.unwrap()), tasks.child("etcd"));
    options.metrics = Some(telemetry::Metrics::default());
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    Service::start(options).await.unwrap().serve(Listener::Tcp(listener), None);
    println!("{}", std::process::id());
    tasks.failure().await;
}

struct Load {
    channels: Vec<Channel>,
    clients: usize,
    done: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

/// Microseconds of CPU that a process has used, in ticks of ten milliseconds.
fn cpu_micros(pid: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks * 10_000
}

impl Load {
    async fn new(address: &str, clients: usize) -> Self {
        let mut channels = Vec::new();
        for _ in 0..clients.min(CONNECTIONS) {
            channels.push(Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap());
        }
        Load { channels, clients, done: Arc::default(), over: Arc::default() }
    }

    async fn run(self, what: &str, pid: &str, time: Duration) {
        if what == "list" || what == "get" {
            self.fill().await;
        }
        let mut tasks = Vec::new();
        for client in 0..self.clients {
            let channel = self.channels[client % self.channels.len()].clone();
            let (done, over) = (self.done.clone(), self.over.clone());
            match what {
                "put" => tasks.push(tokio::spawn(put(channel, client, done, over))),
                "get" => tasks.push(tokio::spawn(get(channel, done, over, &[]))),
                "list" => tasks.push(tokio::spawn(get(channel, done, over, b"l0"))),
                "watch" => tasks.push(tokio::spawn(watch(channel, done).await)),
                other => panic!("no such load: {other}"),
            }
        }
        if what == "watch" {
            // One writer; its own cost is in the figure.
            tasks.push(tokio::spawn(put(self.channels[0].clone(), 0, Arc::default(), self.over.clone())));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (cpu, done, start) = (cpu_micros(pid), self.done.load(Relaxed), Instant::now());
        tokio::time::sleep(time).await;
        let (cpu, done) = (cpu_micros(pid) - cpu, self.done.load(Relaxed) - done);
        self.over.store(true, Relaxed);
        let rate = done as f64 / start.elapsed().as_secs_f64();
        let clients = self.clients;
        println!("{what} clients={clients} rate={rate:.0}/s server_cpu={:.2}us/each", cpu as f64 / done as f64);
        std::process::exit(0);
    }

    /// A thousand keys of 100 bytes.
    async fn fill(&self) {
        let mut kv = KvClient::new(self.channels[0].clone());
        for n in 0..1000 {
            let key = format!("l/{n:016}");
            kv.put(PutRequest { key: key.into(), value: vec![b'x'; 100].into(), ..Default::default() }).await.unwrap();
        }
    }
}

async fn put(channel: Channel, client: usize, done: Arc<AtomicU64>, over: Arc<AtomicBool>) {
    let mut kv = KvClient::new(channel);
    let mut n = 0;
    while !over.load(Relaxed) {
        let key = format!("p/{client:08}/{:07}", n % 1000);
        kv.put(PutRequest { key: key.into(), value: vec![b'x'; 256].into(), ..Default::default() }).await.unwrap();
        n += 1;
        done.fetch_add(1, Relaxed);
    }
}

async fn get(channel: Channel, done: Arc<AtomicU64>, over: Arc<AtomicBool>, end: &'static [u8]) {
    let mut kv = KvClient::new(channel).max_decoding_message_size(64 << 20);
    let key = if end.is_empty() { format!("l/{:016}", 7) } else { "l/".to_owned() };
    while !over.load(Relaxed) {
        let request = RangeRequest { key: key.clone().into(), range_end: end.into(), ..Default::default() };
        let response = kv.range(request).await.unwrap().into_inner();
        assert_eq!(response.kvs.len(), if end.is_empty() { 1 } else { 1000 });
        done.fetch_add(1, Relaxed);
    }
}

/// One watch on a stream of its own.
async fn watch(channel: Channel, done: Arc<AtomicU64>) -> impl Future<Output = ()> {
    let (requests, queue) = tokio::sync::mpsc::channel(1);
    let create = WatchCreateRequest { key: "p/".into(), range_end: "p0".into(), ..Default::default() };
    requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await.unwrap();
    let mut answers = WatchClient::new(channel).watch(ReceiverStream::new(queue)).await.unwrap().into_inner();
    assert!(answers.next().await.unwrap().unwrap().created);
    async move {
        let _requests = requests;
        while let Some(answer) = answers.next().await {
            done.fetch_add(answer.unwrap().events.len() as u64, Relaxed);
        }
    }
}
