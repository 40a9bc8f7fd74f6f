//! `--strict-reconfig-check`: which changes of the membership are let through, beside a real etcd.

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use test_support::{run, tool, until};

use crate::{
    member::{BINARY, Member, Place, SOON, clean},
    trio::{Places, Trio},
};

/// What the JSON gateway answers: "" where all is well, else the error's words.
fn post(url: &str, path: &str, body: &Value) -> String {
    let mut command = Command::new("curl");
    command.args(["-sS", "-X", "POST", "-d", &body.to_string(), &format!("{url}/v3/cluster/member/{path}")]);
    let said = run(&mut command, None, 30).expect_ok();
    let answer: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    answer["message"].as_str().unwrap_or_default().to_owned()
}

fn add(url: &str, n: u16) -> String {
    post(url, "add", &json!({ "peerURLs": [format!("http://127.0.0.1:{n}")] }))
}

fn remove(url: &str, id: u64) -> String {
    post(url, "remove", &json!({ "ID": id.to_string() }))
}

const FEW: &str = "etcdserver: re-configuration failed due to not enough started members";
const UNHEALTHY: &str = "etcdserver: unhealthy cluster";

/// The answers to the same questions.
fn of_one(program: &Path) -> Vec<String> {
    let place = Place::new();
    let _member = Member::start(clean(program).args(place.flags("http")));
    let status = place.etcdctl(&["--endpoints".into(), place.url("http")], "endpoint status -w json").expect_ok();
    let status: Value = serde_json::from_str(&status).unwrap();
    let id = status[0]["Status"]["header"]["member_id"].as_u64().unwrap();
    let url = place.url("http");
    vec![remove(&url, id), add(&url, 1), add(&url, 2)]
}

#[test]
fn one_member() {
    let ours = of_one(Path::new(BINARY));
    assert_eq!(ours, [FEW, "", FEW]);
    assert_eq!(of_one(&tool("etcd")), ours);
}

fn of_three(program: &Path, folder: &str, places: &Places, strict: bool) {
    let flag = format!("--strict-reconfig-check={strict}");
    let mut trio = Trio::start(places, program, folder, &[&flag]);
    trio.leader();
    let ids = [0, 1, 2].map(|n| trio.id(n));
    if strict {
        // Members that have just met are not trusted yet.
        until("a member is added and goes", SOON, || match add(&places.url(0), 1) {
            said if said.is_empty() => Ok(()),
            said => Err(said),
        });
        let list: Value = serde_json::from_str(&trio.ctl("member list -w json", None).expect_ok()).unwrap();
        let members = list["members"].as_array().unwrap();
        let new = members.iter().filter_map(|member| member["ID"].as_u64()).find(|id| !ids.contains(id)).unwrap();
        assert_eq!(remove(&places.url(0), new), "");
    }
    trio.kill(2);
    trio.leader_of_two();
    let url = places.url(0);
    if strict {
        until("the loss is noticed", SOON, || match add(&url, 2) {
            said if said == UNHEALTHY => Ok(()),
            said => Err(said),
        });
        assert_eq!(remove(&url, ids[1]), UNHEALTHY, "{folder}");
        assert_eq!(remove(&url, ids[2]), "", "who is down may go");
    } else {
        assert_eq!(add(&url, 2), "", "{folder}");
    }
}

#[test]
fn three_members() {
    for strict in [true, false] {
        let places = Places::new();
        of_three(&tool("etcd"), "etcd", &places, strict);
        of_three(Path::new(BINARY), "ours", &places, strict);
    }
}
