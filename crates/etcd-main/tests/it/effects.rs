//! Flags by what they change, each before a real etcd and before this member.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};
use test_support::{run, tool};

use crate::{
    member::{BINARY, Member, Place, SOON, clean},
    trio::{Places, Trio},
};

fn both(flags: &[&str], check: impl Fn(&Place, &Member)) {
    for program in [tool("etcd").as_path(), Path::new(BINARY)] {
        let place = Place::new();
        let member = Member::start(clean(program).args(place.flags("http")).args(flags));
        check(&place, &member);
    }
}

/// The status of a request, its header of the origin let in, and its body.
fn curl(place: &Place, path: &str, more: &[&str]) -> (String, String, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "-w", "\n%{http_code} %header{access-control-allow-origin}"]).args(more);
    let said = run(command.arg(format!("{}{path}", place.url("http"))), None, 20).expect_ok();
    let (body, last) = said.rsplit_once('\n').unwrap();
    let (code, origin) = last.split_once(' ').unwrap_or((last, ""));
    (code.to_owned(), origin.to_owned(), body.to_owned())
}

fn code(place: &Place, path: &str, more: &[&str]) -> String {
    curl(place, path, more).0
}

#[test]
fn without_the_gateway_health_remains() {
    let range = ["-X", "POST", "-d", r#"{"key":"YQ=="}"#];
    both(&["--enable-grpc-gateway=false"], |place, _| {
        assert_eq!(code(place, "/v3/kv/range", &range), "404");
        for path in ["/health", "/version", "/metrics"] {
            assert_eq!(code(place, path, &[]), "200", "{path}");
        }
        place.etcdctl(&["--endpoints".into(), place.url("http")], "put a 1").expect_ok();
    });
    both(&[], |place, _| assert_eq!(code(place, "/v3/kv/range", &range), "200"));
}

#[test]
fn pages_and_names_that_may_ask() {
    both(&["--cors=http://x.example:1,https://y.example:1"], |place, _| {
        for (origin, told) in [("http://x.example:1", "http://x.example:1"), ("http://z.example:1", "")] {
            let header = format!("Origin: {origin}");
            let (code, origin, _) = curl(place, "/version", &["-H", &header]);
            assert_eq!((code.as_str(), origin.as_str()), ("200", told));
        }
    });
    both(&["--host-whitelist=x.example"], |place, _| {
        assert_eq!(code(place, "/version", &[]), "421");
        assert_eq!(code(place, "/version", &["-H", "Host: x.example:1234"]), "200");
        place.etcdctl(&["--endpoints".into(), place.url("http")], "put a 1").expect_ok();
    });
}

#[test]
fn transactions_have_so_many_operations() {
    let body = |count: usize| {
        let puts = vec![r#"{"requestPut":{"key":"YQ==","value":"YQ=="}}"#; count];
        // One key may be written once, hence reads.
        format!(r#"{{"success":[{}]}}"#, puts.join(",").replace(r#","value":"YQ==""#, "").replace("Put", "Range"))
    };
    both(&["--max-txn-ops=3"], |place, _| {
        let ask = |count| curl(place, "/v3/kv/txn", &["-X", "POST", "-d", &body(count)]);
        assert_eq!(ask(3).0, "200");
        let (code, _, said) = ask(4);
        assert!(code == "400" && said.contains("etcdserver: too many operations in txn request"), "{said}");
    });
}

/// The labels of the histogram's lines for one method.
fn buckets(place: &Place) -> BTreeSet<String> {
    place.etcdctl(&["--endpoints".into(), place.url("http")], "put a 1").expect_ok();
    place.etcdctl(&["--endpoints".into(), place.url("http")], "lease grant 60").expect_ok();
    let page = curl(place, "/metrics", &[]).2;
    let lines = page.lines().filter(|line| line.starts_with("grpc_server_handling_seconds"));
    let told = lines.filter_map(|line| {
        let (name, rest) = line.split_once('{')?;
        let (labels, count) = rest.split_once('}')?;
        let mut labels: Vec<&str> = labels.split(',').collect();
        labels.sort_unstable();
        let called = ["\"Put\"", "\"LeaseGrant\"", "\"Range\""].iter().any(|name| labels.join(",").contains(name));
        // How many, where it does not depend on the time.
        let certain = name.ends_with("_count") || labels.iter().any(|label| label.contains("+Inf"));
        let count = if certain { count.trim() } else { "" };
        called.then(|| format!("{name} {} {count}", labels.join(",")))
    });
    told.collect()
}

#[test]
fn extensive_metrics_have_the_times_of_calls() {
    let told = std::cell::RefCell::new(Vec::new());
    both(&["--metrics=extensive"], |place, _| told.borrow_mut().push(buckets(place)));
    let told = told.into_inner();
    assert_eq!(told[0], told[1]);
    assert!(told[1].len() > 30, "{told:?}");
    both(&[], |place, _| assert_eq!(buckets(place), BTreeSet::new()));
}

#[test]
fn a_port_may_be_shared() {
    let bind = |place: &Place| {
        let socket = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
        socket::setsockopt(&socket, sockopt::ReusePort, &true).unwrap();
        socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::new(127, 0, 0, 1, place.client)).is_ok()
    };
    both(&["--socket-reuse-port"], |place, _| assert!(bind(place)));
    both(&[], |place, _| assert!(!bind(place)));
}

/// KiB that a process has locked.
fn locked(member: &Member) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", member.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn memory_is_locked() {
    both(&["--experimental-memory-mlock"], |_, member| assert!(locked(member) > 0));
    both(&[], |_, member| assert_eq!(locked(member), 0));
}

#[test]
fn the_first_election_is_sooner() {
    const LINE: &str = "initialized peer connections; fast-forwarding election ticks";
    for program in [tool("etcd").as_path(), Path::new(BINARY)] {
        for advance in [true, false] {
            let places = Places::new();
            let begun = Instant::now();
            let flag = format!("--initial-election-tick-advance={advance}");
            let trio = Trio::start(&places, program, "m", &[&flag, "--election-timeout=3000"]);
            if advance {
                trio.members.iter().flatten().for_each(|member| drop(member.wait_for(LINE)));
            } else {
                assert!(begun.elapsed() >= Duration::from_secs(3), "nobody stands before the time is up");
                trio.members.iter().flatten().for_each(|member| assert!(!member.log().contains(LINE)));
            }
        }
    }
}

/// Collects what is sent to it until all of the words have come, and answers nothing.
fn collected(listener: &TcpListener, words: &[&str]) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // Empty settings: the peer may begin.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    let has = |all: &[u8], word: &str| all.windows(word.len()).any(|part| part == word.as_bytes());
    while !words.iter().all(|word| has(&all, word)) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..count]);
    }
}

#[test]
fn spans_are_exported() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("--experimental-distributed-tracing-address={}", listener.local_addr().unwrap());
    let place = Place::new();
    let flags = [
        "--experimental-enable-distributed-tracing",
        &address,
        "--experimental-distributed-tracing-service-name=my-store",
        "--experimental-distributed-tracing-instance-id=number-7",
        "--experimental-distributed-tracing-sampling-rate=1000000",
    ];
    let _member = Member::start(clean(BINARY).args(place.flags("http")).args(flags));
    place.etcdctl(&["--endpoints".into(), place.url("http")], "put a 1").expect_ok();
    collected(&listener, &["my-store", "number-7", "etcd/Put"]);
}
