//! What a person does with etcdctl and etcdutl, before three members of a real etcd and three of ours: the same list,
//! the same answers. Times are masked, and so is what a server draws by chance or counts in its own way.

use std::path::PathBuf;

use serde_json::Value;
use test_support::{run, tool, until};

use crate::{
    member::{BINARY, SOON, clean},
    trio::{Places, Trio},
};

/// The lines of a session: `< text` is what a line reads, `> $NAME` keeps the second word that it says for later lines.
const KEYS: &[&str] = &[
    "version",
    "put a 1",
    "put a 2 --prev-kv",
    "put b/1 x -w json",
    "put b/2 y",
    "put --ignore-value none",
    "put --ignore-lease a 3",
    "put a",
    "get a",
    "get a -w fields",
    "get a --print-value-only",
    "get a --rev=2",
    "get a --rev=1000",
    "get b/ --prefix --keys-only",
    "get b/ --prefix --count-only -w fields",
    "get a c --order=DESCEND --sort-by=MODIFY",
    "get a --from-key --limit=2 -w json",
    "get nothing",
    "get a --consistency=s",
    "get a --consistency=x",
    "del b/1 --prev-kv",
    "del b/ --prefix",
    "del nothing",
    "txn < value(\"a\") = \"3\"\n\nput t yes\nget t\n\nput t no\n\n",
    "txn -w json < mod(\"a\") > \"2\"\nversion(\"none\") = \"0\"\n\nget a\ndel t\n\nget none\n\n",
    "txn < bad\n\n\n\n",
    "compaction 4",
    "compaction 4",
    "compaction 4000",
    "compaction x",
    "get a --rev=3",
    "defrag",
    "defrag --endpoints=$B",
];

const LEASES: &[&str] = &[
    "lease grant 300 > $LEASE",
    "lease grant 0",
    "lease grant x",
    "put --lease=$LEASE l/1 1",
    "put --lease=1234 l/2 1",
    "lease list",
    "lease timetolive $LEASE --keys",
    "lease timetolive $LEASE -w fields",
    "lease keep-alive $LEASE --once",
    "lease revoke $LEASE",
    "lease revoke $LEASE",
    "lease timetolive $LEASE",
    "lease keep-alive 1234 --once",
    "get l/ --prefix",
    "lock door echo inside",
    "lock door --ttl=5 false",
];

const MEMBERS: &[&str] = &[
    "member list",
    "member list -w table",
    "member list -w json",
    "member list -w fields",
    "member add d --peer-urls=http://127.0.0.1:1 > $ADDED",
    "member add f --peer-urls=http://127.0.0.1:1",
    "member update $ADDED --peer-urls=http://127.0.0.1:3",
    "member list",
    "member remove $ADDED",
    "member remove 1234",
    "member remove x",
    "member add e --learner --peer-urls=http://127.0.0.1:2 > $ADDED",
    "member add g --learner --peer-urls=http://127.0.0.1:4",
    "member list",
    "member promote $ADDED",
    "member remove $ADDED",
    "member promote 1234",
    "endpoint health",
    "endpoint health --cluster -w json",
    "endpoint health --endpoints=127.0.0.1:1 --command-timeout=1s",
    "endpoint status",
    "endpoint status -w json",
    "endpoint status --cluster -w fields",
    "endpoint hashkv",
    "endpoint hashkv -w json --endpoints=$B",
    "move-leader 1234",
    "move-leader $ID --endpoints=$B",
    "move-leader $ID",
    "move-leader $FIRST",
    "alarm list",
    "alarm disarm",
    "snapshot save $FILE --endpoints=$HERE",
    "snapshot save $FILE",
];

const USERS: &[&str] = &[
    "auth status",
    "auth enable",
    "role add own",
    "role add own",
    "role grant-permission own readwrite own/ --prefix",
    "role grant-permission own read x",
    "role revoke-permission own x",
    "role revoke-permission own x",
    "role get own",
    "role get none",
    "role list",
    "user add root:secret",
    "user add alice:pass",
    "user add alice:pass",
    "user grant-role root root",
    "user grant-role alice own",
    "user grant-role alice none",
    "user get alice",
    "user get alice --detail",
    "user list",
    "auth enable",
    "auth status --user=root:secret",
    "put own/1 x",
    "put own/1 x --user=alice:pass",
    "put own/1 x --user=alice:wrong",
    "put other x --user=alice:pass",
    "get own/1 --user=alice --password=pass",
    "get other --user=alice:pass",
    "lease grant 100 --user=alice:pass > $LEASE",
    "put own/2 x --lease=$LEASE --user=alice:pass",
    "lease revoke $LEASE --user=alice:pass",
    "member list --user=alice:pass",
    "user list --user=alice:pass",
    "user passwd alice --interactive=false --user=root:secret < new\n",
    "get own/1 --user=alice:new",
    "user revoke-role alice own --user=root:secret",
    "get own/1 --user=alice:new",
    "user delete alice --user=root:secret",
    "role delete own --user=root:secret",
    "auth disable --user=root:secret",
    "auth status",
];

/// What each server counts in its own way, as JSON and as lines of fields have it.
const OWN: [&str; 12] = [
    "raftterm",
    "raft_term",
    "raftindex",
    "raftappliedindex",
    "dbsize",
    "dbsizeinuse",
    "took",
    "ttl",
    "hash",
    "id",
    "leaseid",
    // Any of the members may answer.
    "member_id",
];
/// A word of so many hexadecimal digits is an id.
const ID_DIGITS: usize = 13;

/// The list before one cluster whose first member leads; each answer beside its line.
fn play(trio: &Trio<'_>) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.db").display().to_string();
    let mut names = [
        ("$HERE", trio.places.url(0)),
        ("$B", trio.places.url(1)),
        ("$FILE", file.clone()),
        ("$ID", format!("{:x}", trio.id(1))),
        ("$FIRST", format!("{:x}", trio.id(0))),
        ("$LEASE", String::new()),
        ("$ADDED", String::new()),
    ];
    let mut answers = Vec::new();
    for line in [KEYS, LEASES, MEMBERS, USERS].concat() {
        let (words, input) = line.split_once(" < ").map_or((line, None), |(words, input)| (words, Some(input)));
        let (words, kept) = words.split_once(" > ").map_or((words, None), |(words, kept)| (words, Some(kept)));
        let words = names.iter().fold(words.to_owned(), |words, (name, value)| words.replace(name, value));
        let ran = until(line, SOON, || {
            let ran = trio.ctl(&words, input);
            // Members must have been connected for a while before others are let in.
            if ran.stderr.contains("etcdserver: unhealthy cluster") { Err(ran.stderr) } else { Ok(ran) }
        });
        if let Some(kept) = kept {
            let told = ran.stdout.split_whitespace().nth(1).unwrap_or_default().to_owned();
            names.iter_mut().filter(|(name, _)| *name == kept).for_each(|(_, value)| value.clone_from(&told));
        }
        let told = [ran.stdout, ran.stderr].map(|text| masked(&text.replace(&file, "$FILE")));
        answers.push((line.to_owned(), format!("{:?} {}", ran.code, told.join("\n"))));
    }
    let restored = folder.path().join("restored").display().to_string();
    for line in [format!("snapshot status {file} -w json"), format!("snapshot restore {file} --data-dir={restored}")] {
        let ran = run(clean(tool("etcdutl")).args(line.split(' ')), None, 60);
        let of = |text: &str| serde_json::from_str::<Value>(text).map_or(Value::Null, |said| said["revision"].clone());
        answers.push((
            line.split(' ').take(2).collect::<Vec<_>>().join(" "),
            format!("{:?} {}", ran.code, of(&ran.stdout)),
        ));
    }
    answers
}

/// A text without what belongs to one run only. The endpoints' answers come in any order.
pub fn masked(text: &str) -> String {
    // The client's own account of its attempts.
    let lines = text.lines().filter(|line| !line.starts_with("{\"level\""));
    let mut lines: Vec<String> = lines.map(line).collect();
    // Health comes as each member answers, and members come in the order of ids, of which one is drawn by the clock.
    if text.contains(" is healthy: ") || text.contains("started, ") {
        lines.sort();
    }
    lines.join("\n")
}

fn line(text: &str) -> String {
    if let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
        return common(value).to_string();
    }
    if let Some((name, _)) = text.split_once("\" : ")
        && OWN.contains(&name.trim_start_matches('"').to_lowercase().as_str())
    {
        return name.to_owned();
    }
    if let Some(cluster) = text.strip_prefix("ETCD_INITIAL_CLUSTER=") {
        let mut members: Vec<&str> = cluster.trim_matches('"').split(',').collect();
        members.sort();
        return format!("ETCD_INITIAL_CLUSTER={}", members.join(","));
    }
    let mut columns: Vec<&str> = text.split(", ").collect();
    match columns.len() {
        // A member's status: its size, term and indexes.
        10 => [3, 6, 7, 8].into_iter().for_each(|n| columns[n] = "#"),
        // A hash.
        2 if columns[1].parse::<u32>().is_ok() => columns[1] = "#",
        _ => {}
    }
    columns
        .join(", ")
        .split_inclusive([' ', '(', ')', ',', '/'])
        // A short id is filled up with blanks.
        .filter(|word| *word != " ")
        .map(word)
        .collect()
}

fn word(text: &str) -> String {
    let bare = text.trim_end_matches([' ', '(', ')', ',', '/']);
    let number = bare.trim_end_matches(['m', 'µ', 's', 'n']);
    let time = number.len() < bare.len() && number.parse::<f64>().is_ok();
    let id = bare.len() >= ID_DIGITS && bare.chars().all(|digit| digit.is_ascii_hexdigit());
    if time && (number.contains('.') || text.ends_with(')')) || id { "#".to_owned() } else { text.to_owned() }
}

fn common(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let own = |name: &str| OWN.contains(&name.to_lowercase().as_str());
            let kept = fields.into_iter().filter(|(name, _)| !own(name));
            Value::Object(kept.map(|(name, value)| (name, common(value))).collect())
        }
        Value::Array(values) => {
            let mut values: Vec<Value> = values.into_iter().map(common).collect();
            values.sort_by_key(Value::to_string);
            Value::Array(values)
        }
        other => other,
    }
}

#[test]
fn three_members_answer_as_three_of_etcd() {
    let places = Places::new();
    let [theirs, ours] = [(tool("etcd"), "etcd"), (PathBuf::from(BINARY), "ours")].map(|(program, folder)| {
        let trio = Trio::start(&places, &program, folder, &["--bcrypt-cost=4"]);
        trio.lead(0);
        play(&trio)
    });
    let differ: Vec<String> = ours
        .iter()
        .zip(&theirs)
        .filter(|(ours, theirs)| ours != theirs)
        .map(|((line, ours), (_, theirs))| format!("etcdctl {line}\n  ours   {ours}\n  theirs {theirs}"))
        .collect();
    assert!(differ.is_empty(), "{} of {} answers differ:\n{}", differ.len(), ours.len(), differ.join("\n"));
}
