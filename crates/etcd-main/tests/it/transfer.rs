//! Data that goes from a real etcd to this store and back: by snapshot files, by folders and over the network, with
//! what etcd's own programs say of it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Stdio,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use test_support::{Ran, run, tool, until};

use crate::member::{BINARY, Member, Place, SOON, clean};

/// Keys of the larger history, and how many one transaction writes.
const MANY: usize = 50_000;
const BATCH: usize = 100;
/// For a command on all of them, on a busy machine.
const COMMAND_SECONDS: u32 = 120;

/// etcd's programs.
struct Tools {
    etcd: PathBuf,
    etcdctl: PathBuf,
    etcdutl: PathBuf,
}

fn tools() -> Tools {
    Tools { etcd: tool("etcd"), etcdctl: tool("etcdctl"), etcdutl: tool("etcdutl") }
}

/// A member of either kind on a place's folder and ports.
fn start(program: impl AsRef<std::ffi::OsStr>, place: &Place) -> Member {
    Member::start(clean(program).args(place.flags("http")))
}

fn ctl(tools: &Tools, place: &Place, line: &str) -> String {
    let mut command = clean(&tools.etcdctl);
    command.args(["--endpoints", &place.url("http"), "--command-timeout=60s"]);
    command.args(line.split(' ').map(|word| if word == "''" { "" } else { word }));
    run(&mut command, None, COMMAND_SECONDS).expect_ok()
}

fn ctl_json(tools: &Tools, place: &Place, line: &str) -> Value {
    serde_json::from_str(&ctl(tools, place, &format!("{line} -w json"))).unwrap()
}

fn utl(tools: &Tools, line: &str) -> String {
    run(clean(&tools.etcdutl).args(line.split(' ')), None, COMMAND_SECONDS).expect_ok()
}

fn plinth(line: &str) -> Ran {
    run(clean(BINARY).args(line.split(' ')), None, COMMAND_SECONDS)
}

/// One request over the JSON gateway, which both have.
fn post(place: &Place, path: &str, body: &Value) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", place.client)).unwrap();
    let body = body.to_string();
    let head = "Host: etcd\r\nConnection: close\r\nContent-Type: application/json";
    write!(stream, "POST /v3/{path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn text(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn put(key: &str, value: &str, lease: i64) -> Value {
    json!({"key": text(key), "value": text(value), "lease": lease.to_string()})
}

fn delete(key: &str, end: &str) -> Value {
    json!({"key": text(key), "range_end": text(end)})
}

/// Requests of all kinds, the same ones for the same seed: on few keys, so that they are written often.
fn history(seed: u64, count: usize) -> Vec<(&'static str, Value)> {
    let mut state = seed;
    let mut below = move |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let mut requests = vec![("lease/grant", json!({"ID": "77", "TTL": "3000"}))];
    for step in 0..count as u64 {
        let (key, other) = (format!("k{}", below(9)), format!("k{}", below(9)));
        let lease = if below(4) == 0 { 77 } else { 0 };
        requests.push(match below(10) {
            0..5 => ("kv/put", put(&key, &format!("{step}"), lease)),
            5 => ("kv/put", put(&key, "", lease)),
            6 => ("kv/deleterange", delete(&key, "")),
            7 => ("kv/deleterange", delete(&key, &other)),
            8 => {
                let first = json!({"requestPut": put("x", &format!("{step}"), 0)});
                let second = json!({"requestDeleteRange": delete(&key, "")});
                let third = json!({"requestPut": put("y", "z", lease)});
                ("kv/txn", json!({"success": [first, second, third]}))
            }
            _ => ("kv/compaction", json!({"revision": (2 + step * 2 / 3).to_string(), "physical": true})),
        });
    }
    requests
}

fn many(place: &Place) {
    for batch in 0..MANY / BATCH {
        let put = |i: usize| json!({"requestPut": put(&format!("many/{batch:04}/{i:03}"), &"v".repeat(i % 90), 0)});
        let puts: Vec<Value> = (0..BATCH).map(put).collect();
        let said = post(place, "kv/txn", &json!({"success": puts}));
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    }
}

/// The fields of `etcdctl endpoint hashkv` in which two stores with one history agree.
fn hash(tools: &Tools, place: &Place, revision: i64) -> (u64, i64, i64) {
    let said = ctl_json(tools, place, &format!("endpoint hashkv --rev {revision}"));
    let hash = &said[0]["HashKV"];
    let number = |name: &str| hash[name].as_i64().unwrap_or_default();
    (hash["hash"].as_u64().unwrap(), number("hash_revision"), number("compact_revision"))
}

/// What a client can see of a store: revision, keys at several revisions, leases with their keys, hash.
fn seen(tools: &Tools, place: &Place) -> Value {
    let revision = ctl_json(tools, place, "get any")["header"]["revision"].as_i64().unwrap();
    let compacted = hash(tools, place, 0).2.max(1);
    let mut keys = Vec::new();
    for at in [compacted, compacted + 1, (compacted + revision) / 2, revision - 1, revision] {
        let at = at.clamp(compacted, revision);
        keys.push(json!([at, ctl_json(tools, place, &format!("get '' --prefix --rev {at}"))["kvs"]]));
    }
    let mut leases = Vec::new();
    for lease in ctl_json(tools, place, "lease list")["leases"].as_array().into_iter().flatten() {
        let id = lease["id"].as_i64().unwrap();
        let lease = ctl_json(tools, place, &format!("lease timetolive {id:x} --keys"));
        leases.push(json!([id, lease["granted-ttl"], lease["keys"]]));
    }
    json!({"revision": revision, "keys": keys, "leases": leases, "hash": hash(tools, place, 0).0})
}

/// Restores a file with etcd's own program and starts a real etcd on it.
fn restored(tools: &Tools, file: &Path) -> (Place, Member) {
    let place = Place::new();
    let (data, peer) = (place.data_dir(), place.peer_url());
    let members = format!("--initial-cluster default={peer} --initial-advertise-peer-urls {peer}");
    utl(tools, &format!("snapshot restore {} --data-dir {data} {members}", file.display()));
    let member = start(&tools.etcd, &place);
    (place, member)
}

/// Imports and starts this store on it.
fn imported(flags: &str) -> (Place, Member) {
    let place = Place::new();
    let peer = place.peer_url();
    let members = format!("--initial-cluster default={peer} --initial-advertise-peer-urls {peer}");
    let said = plinth(&format!("import {flags} --data-dir {} {members}", place.data_dir())).expect_ok();
    assert!(said.starts_with("Imported into "), "{said}");
    let member = start(BINARY, &place);
    (place, member)
}

#[test]
fn hashes_are_etcds() {
    let tools = tools();
    let (theirs, ours) = (Place::new(), Place::new());
    let _members = (start(&tools.etcd, &theirs), start(BINARY, &ours));
    assert_eq!(hash(&tools, &ours, 0), hash(&tools, &theirs, 0), "nothing was written");
    for (step, (path, body)) in history(7, 240).into_iter().enumerate() {
        let status = |place| post(place, path, &body).lines().next().unwrap_or_default().to_owned();
        assert_eq!(status(&ours), status(&theirs), "{path} {body}");
        if step % 12 == 0 || path == "kv/compaction" && step % 3 == 0 {
            let (our, their) = (hash(&tools, &ours, 0), hash(&tools, &theirs, 0));
            assert_eq!(our, their, "after {step} requests, the last {path} {body}");
            let at = our.1 - 2;
            if at > our.2 {
                assert_eq!(hash(&tools, &ours, at), hash(&tools, &theirs, at), "at {at} after {step} requests");
            }
        }
    }
    // Where no key is left, etcd counts everything.
    for (path, body) in [
        ("kv/deleterange", delete("\0", "\0")),
        ("kv/compaction", json!({"revision": (hash(&tools, &ours, 0).1 + 1).to_string(), "physical": true})),
    ] {
        for place in [&ours, &theirs] {
            post(place, path, &body);
        }
        assert_eq!(hash(&tools, &ours, 0), hash(&tools, &theirs, 0), "{path}");
    }
    assert_eq!(seen(&tools, &ours), seen(&tools, &theirs));
}

#[test]
fn from_etcd_and_back() {
    let tools = tools();
    let theirs = Place::new();
    let mut etcd = start(&tools.etcd, &theirs);
    history(3, 200).iter().for_each(|(path, body)| drop(post(&theirs, path, body)));
    many(&theirs);
    history(4, 50).iter().filter(|(path, _)| *path != "kv/compaction").for_each(|(path, body)| {
        post(&theirs, path, body);
    });
    let expected = seen(&tools, &theirs);
    let file = theirs.path("etcd.db");
    ctl(&tools, &theirs, &format!("snapshot save {}", file.display()));

    // Three ways in.
    let (ours, mut member) = imported(&format!("--from-snapshot {}", file.display()));
    assert_eq!(seen(&tools, &ours), expected);
    let (again, mut other) = imported(&format!("--from-endpoints {}", theirs.url("http")));
    assert_eq!(seen(&tools, &again), expected);
    other.stop();
    let used = plinth(&format!("import --from-data-dir {} --data-dir {}", theirs.data_dir(), ours.path("x").display()));
    assert!(used.expect_error().contains("is in use"));
    etcd.signal("TERM");
    etcd.wait();
    let (again, mut other) = imported(&format!("--from-data-dir {}", theirs.data_dir()));
    assert_eq!(seen(&tools, &again), expected);
    other.stop();

    // Revisions go on, also after a restart.
    let revision = expected["revision"].as_i64().unwrap();
    assert_eq!(ctl_json(&tools, &ours, "put after import")["header"]["revision"], revision + 1);
    member.stop();
    let mut member = start(BINARY, &ours);
    let expected = seen(&tools, &ours);
    assert_eq!(expected["revision"], revision + 1);

    // Three ways out.
    let (saved, exported, stopped) = (ours.path("saved.db"), ours.path("exported.db"), ours.path("stopped.db"));
    ctl(&tools, &ours, &format!("snapshot save {}", saved.display()));
    let said = plinth(&format!("export {} --endpoints {}", exported.display(), ours.url("http"))).expect_ok();
    assert!(said.starts_with("Snapshot saved at "), "{said}");
    let status: Value =
        serde_json::from_str(&utl(&tools, &format!("snapshot status {} -w json", saved.display()))).unwrap();
    assert_eq!(status["revision"], revision + 1);
    member.stop();
    plinth(&format!("export {} --data-dir {}", stopped.display(), ours.data_dir())).expect_ok();
    for file in [&saved, &exported, &stopped] {
        let (place, _etcd) = restored(&tools, file);
        assert_eq!(seen(&tools, &place), expected, "{}", file.display());
    }
    // The folder was only read.
    let mut member = start(BINARY, &ours);
    assert_eq!(seen(&tools, &ours), expected);
    member.stop();
}

#[test]
fn a_backup_shows_one_moment_while_writes_go_on() {
    let tools = tools();
    let ours = Place::new();
    let mut member = start(BINARY, &ours);
    many(&ours);
    let file = ours.path("saved.db");
    let before = ctl_json(&tools, &ours, "get any")["header"]["revision"].as_i64().unwrap();
    let mut saving = clean(&tools.etcdctl)
        .args(["--endpoints", &ours.url("http"), "snapshot", "save"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut written = 0;
    let ended = until("the end of the backup", SOON, || {
        // Pairs that are written together, and a compaction on top of the history that is being read.
        let pair = |key| json!({"requestPut": put(key, &written.to_string(), 0)});
        post(&ours, "kv/txn", &json!({"success": [pair("left"), pair("right")]}));
        post(&ours, "kv/compaction", &json!({"revision": (before + written).to_string()}));
        written += 1;
        saving.try_wait().unwrap().ok_or_else(|| format!("{written} writes"))
    });
    assert!(ended.success());
    let (place, _etcd) = restored(&tools, &file);
    let value = |key: &str| ctl(&tools, &place, &format!("get {key} --print-value-only"));
    assert_eq!(value("left"), value("right"));
    let count = ctl_json(&tools, &place, "get many/ --prefix --limit 1")["count"].as_u64().unwrap();
    assert_eq!(count, MANY as u64);
    member.stop();
}

#[test]
fn what_is_damaged_or_taken_is_refused() {
    let tools = tools();
    let theirs = Place::new();
    let _etcd = start(&tools.etcd, &theirs);
    ctl(&tools, &theirs, "put a 1");
    let file = theirs.path("etcd.db");
    ctl(&tools, &theirs, &format!("snapshot save {}", file.display()));
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let data = theirs.path("new");
    let check = |bytes: &[u8], flags: &str, expected: &str| {
        let damaged = theirs.path("damaged.db");
        fs::write(&damaged, bytes).unwrap();
        let flags = format!("import --from-snapshot {} --data-dir {} {flags}", damaged.display(), data.display());
        let said = plinth(flags.trim_end()).expect_error();
        assert!(said.contains(expected), "{said}, expected {expected}");
        assert!(!data.exists(), "nothing is left of it");
    };
    check(&flipped, "", "does not match its hash");
    check(&whole[..whole.len() - 512], "", "does not match its hash");
    check(&whole[..whole.len() - 40], "", "ends without a hash");
    check(&whole[..whole.len() - 32], "", "ends without a hash");
    check(&whole[..5000], "--skip-hash-check", "cannot read the database");
    check(b"", "", "ends without a hash");
    check(&whole, "--name other", "couldn't find local name");

    let taken = format!("import --from-snapshot {} --data-dir {}", file.display(), theirs.data_dir());
    assert!(plinth(&taken).expect_error().contains("not empty or could not be read"));
    assert!(plinth("import").expect_error().contains("usage: plinth store import"));
    let away = format!("export {} --endpoints http://127.0.0.1:{}", data.display(), theirs.peer + 1);
    assert!(plinth(&away).expect_error().contains("does not answer"));
    assert!(
        plinth(&format!("export {} --data-dir {}", data.display(), theirs.data_dir())).expect_error().contains("etcd")
    );
    assert!(!data.exists());

    // Without its hash it is taken if that is said.
    let bare = theirs.path("bare.db");
    fs::write(&bare, &whole[..whole.len() - 32]).unwrap();
    plinth(&format!("import --from-snapshot {} --data-dir {} --skip-hash-check", bare.display(), data.display()))
        .expect_ok();

    // Users come along, unless they are to be left behind.
    ctl(&tools, &theirs, "user add root:secret");
    ctl(&tools, &theirs, "auth enable");
    let guarded =
        format!("import --from-endpoints {} --data-dir {}", theirs.url("http"), theirs.path("auth").display());
    assert!(plinth(&guarded).expect_error().contains("user name is empty"));
    let named = format!("{guarded} --user root:secret");
    plinth(&named).expect_ok();
    let exported = theirs.path("auth.db");
    let (folder, file) = (theirs.path("auth"), exported.display());
    plinth(&format!("export {file} --data-dir {}", folder.display())).expect_ok();
    let users = etcd_snapshot::folder::open_file(&exported, etcd_snapshot::HashCheck::Required).unwrap();
    assert_eq!(users.facts().auth_users.len(), 1);
    fs::remove_dir_all(&folder).unwrap();
    plinth(&format!("{named} --without-auth")).expect_ok();
}

#[test]
fn a_kill_leaves_nothing_half_begun() {
    let ours = Place::new();
    let mut member = start(BINARY, &ours);
    many(&ours);
    let (file, data) = (ours.path("whole.db"), ours.path("new"));
    plinth(&format!("export {} --endpoints {}", file.display(), ours.url("http"))).expect_ok();
    let line = format!("import --from-snapshot {} --data-dir {}", file.display(), data.display());
    let growing = data.join("member.importing");
    for deep in [growing.clone(), growing.join("snap"), growing.join("snap/0-next.tmp")] {
        let mut child = clean(BINARY).args(line.split(' ')).stdout(Stdio::null()).spawn().unwrap();
        until("the import is under way", SOON, || match (deep.exists(), child.try_wait().unwrap()) {
            (true, _) | (_, Some(_)) => Ok(()),
            _ => Err("it has not begun".to_owned()),
        });
        child.kill().unwrap();
        child.wait().unwrap();
        if data.join("member").exists() {
            // It was faster than the kill: then it is whole.
            fs::remove_dir_all(&data).unwrap();
        }
    }
    plinth(&line).expect_ok();
    assert!(!growing.exists());

    let (out, part) = (ours.path("out.db"), ours.path("out.db.part"));
    let mut child = clean(BINARY)
        .args(["export", &out.display().to_string(), "--endpoints", &ours.url("http")])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the export is under way", SOON, || if part.exists() { Ok(()) } else { Err("no file yet".to_owned()) });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!out.exists() || fs::metadata(&out).unwrap().len() == fs::metadata(&file).unwrap().len());
    member.stop();
}
