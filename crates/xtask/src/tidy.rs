//! Keeps the house in order: the hard edges between crates, and habits that no lint knows.
//!
//! Reads `cargo metadata` for the edges and the files that git knows (or would take in) for the rest. Prints every
//! finding as `file:line: what`, so that an editor can jump there, and changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Lines past which a file is more than one thing.
const MAX_LINES: usize = 700;

/// Crates that may not (outside tests) depend on others of this workspace, even through a third.
const EDGES: [(&[&str], &[&str], &str); 2] = [
    (&["apiserver", "etcd-server"], &["store"], "it sees the trait in store-api, so that it also runs on a real etcd"),
    (
        &["scheduler", "controllers", "node", "mesh", "autoscaler", "datapath", "dns"],
        &["store", "store-api", "mvcc", "apiserver", "registry", "etcd-server", "etcd-client", "etcd-proto"],
        "it reaches the world through client only",
    ),
];

/// The ground and the vocabulary: they depend on no other crate of this workspace.
const BOTTOM: [&str; 8] =
    ["runtime", "telemetry", "grpc", "etcd-proto", "xds-proto", "cri-proto", "kube-schema", "datapath-abi"];
/// Crates that only these others may depend on, outside tests.
const TOP: [(&str, &[&str]); 9] = [
    ("wasm-host", &["plinth"]),
    ("etcd-main", &["plinth"]),
    ("scheduler-main", &["plinth"]),
    ("plinth", &[]),
    ("bench", &[]),
    ("xtask", &[]),
    ("robustness", &[]),
    ("test-support", &[]),
    ("test-api", &[]),
];

/// Crates that decide and do not act, and what such crates are described with.
const ENGINES: [&str; 15] = [
    "wal",
    "devices",
    "mvcc",
    "auth",
    "replica",
    "bolt",
    "registry",
    "sched",
    "sched-config",
    "reconcile",
    "routing",
    "forecast",
    "kube-schema",
    "store-api",
    "checker",
];
/// What an engine may not depend on, even through crates that are not ours: async runtimes, sockets, the system's
/// calls, entropy; and of ours what owns clocks and threads.
const ACTING: [&str; 17] = [
    "tokio",
    "async-std",
    "smol",
    "mio",
    "socket2",
    "hyper",
    "axum",
    "tonic",
    "nix",
    "libc",
    "rustix",
    "getrandom",
    "rand",
    "runtime",
    "telemetry",
    "client",
    "store",
];
/// Crates that are looked into by their users and not here: what `raft` draws by `rand` is replaced before it is used
/// (`consensus::Raft`).
const TRUSTED: [&str; 1] = ["raft"];
/// What an engine may not even name: the acting half of the standard library, split as above.
const ACTS: [&str; 10] = [
    concat!("std::", "fs"),
    concat!("std::", "process"),
    concat!("std::", "thread"),
    concat!("std::", "env::var"),
    concat!("std::", "os::"),
    concat!("Tcp", "Stream"),
    concat!("Tcp", "Listener"),
    concat!("Udp", "Socket"),
    concat!("Inst", "ant::"),
    concat!("System", "Time::"),
];

/// Words that stand for work not done or for one machine; split, so that this file does not find itself.
const BANNED: [(&str, &str); 7] = [
    (concat!("todo", "!("), "unfinished code"),
    (concat!("unimplemented", "!("), "unfinished code"),
    (concat!("dbg", "!("), "left over from debugging"),
    (concat!("#[ign", "ore]"), "a test that does not run is no test"),
    (concat!("#[ign", "ore ="), "a test that does not run is no test"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
];
/// Where `/ro…` is the path of a user's home inside a container or an image, and not of this machine.
const HOME_IS_DATA: [&str; 4] = ["crates/containers/", "crates/node/", "crates/test-support/src/image.rs", "docs/"];

/// Files that are read as text.
const TEXT: [&str; 12] = ["rs", "toml", "md", "sh", "yaml", "yml", "c", "h", "proto", "json", "txt", "html"];

/// Everything found, by file.
#[derive(Default)]
struct Findings(BTreeSet<(String, usize, String)>);

impl Findings {
    fn add(&mut self, file: impl Into<String>, line: usize, what: impl Into<String>) {
        self.0.insert((file.into(), line, what.into()));
    }
}

/// Checks the workspace that `cargo` finds from here.
pub fn run() -> Result<()> {
    // Linux only: another system's sockets are no dependency of ours.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let arguments = ["metadata", "--format-version=1", "--filter-platform", &platform];
    let metadata: Value =
        serde_json::from_slice(&output("cargo", &arguments)?).context("cargo metadata is not JSON")?;
    let root = PathBuf::from(metadata["workspace_root"].as_str().context("cargo metadata names no root")?);
    if metadata["resolve"]["nodes"].as_array().is_none_or(Vec::is_empty) {
        bail!("cargo metadata says nothing of who depends on whom");
    }
    let mut findings = Findings::default();
    check_edges(&metadata, &mut findings);
    let listed =
        output("git", &["-C", &root.to_string_lossy(), "ls-files", "--cached", "--others", "--exclude-standard"])?;
    let listed = String::from_utf8(listed).context("a file's name is not UTF-8")?;
    let files: Vec<&str> = listed.lines().filter(|file| root.join(file).is_file()).collect();
    for file in &files {
        let extension = Path::new(file).extension().and_then(|e| e.to_str()).unwrap_or_default();
        if TEXT.contains(&extension)
            && let Ok(text) = fs::read_to_string(root.join(file))
        {
            check_text(file, &text, &mut findings);
        }
    }
    check_reachable(&root, &files, &metadata, &mut findings);
    report(&findings)
}

fn output(program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

fn report(findings: &Findings) -> Result<()> {
    if findings.0.is_empty() {
        println!("tidy: nothing to complain about");
        return Ok(());
    }
    let mut text = String::new();
    for (file, line, what) in &findings.0 {
        let place = if *line == 0 { file.clone() } else { format!("{file}:{line}") };
        writeln!(text, "{place}: {what}")?;
    }
    print!("{text}");
    eprintln!("tidy: {} findings", findings.0.len());
    // The findings are the message; an error's backtrace would only bury them.
    std::process::exit(1);
}

type Graph = BTreeMap<String, BTreeSet<String>>;

/// The direct dependencies of each crate, other people's crates too: what its program is linked with. Without those of
/// tests; those of build scripts count for our own crates only.
fn dependencies(metadata: &Value) -> Graph {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = list(&metadata["packages"]);
    let names: BTreeMap<String, String> = packages.iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    let members: BTreeSet<String> = list(&metadata["workspace_members"]).iter().map(text).collect();
    let mut graph = Graph::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let id = text(&node["id"]);
        let counts = |kind: &Value| match kind["kind"].as_str() {
            None => true,
            Some(kind) => kind == "build" && members.contains(&id),
        };
        let all = list(&node["deps"]);
        let all = all.iter().filter(|dependency| list(&dependency["dep_kinds"]).iter().any(counts));
        let all = all.filter_map(|dependency| names.get(dependency["pkg"].as_str()?).cloned());
        let name = names.get(&id).cloned().unwrap_or(id.clone());
        if !TRUSTED.contains(&name.as_str()) {
            graph.entry(name).or_default().extend(all);
        }
    }
    graph
}

/// The names of our own crates.
fn own(metadata: &Value) -> BTreeSet<&str> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages.filter(|package| package["source"].is_null()).filter_map(|package| package["name"].as_str()).collect()
}

fn check_edges(metadata: &Value, findings: &mut Findings) {
    let direct = dependencies(metadata);
    let own = own(metadata);
    let mut refuse = |from: &str, to: &str, why: &str| {
        if let Some(way) = way(&direct, from, to) {
            let what = format!("{from} may not depend on {to} ({}): {why}", way.join(" -> "));
            findings.add(format!("crates/{from}/Cargo.toml"), 0, what);
        }
    };
    for (from, to, why) in EDGES {
        from.iter().flat_map(|from| to.iter().map(move |to| (from, to))).for_each(|(from, to)| refuse(from, to, why));
    }
    for engine in ENGINES {
        ACTING.iter().for_each(|acting| refuse(engine, acting, "an engine decides and does not act"));
    }
    for bottom in BOTTOM {
        own.iter().for_each(|other| refuse(bottom, other, "ground and vocabulary know nothing of ours"));
    }
    for (top, users) in TOP {
        let others = own.iter().filter(|other| !users.contains(other) && **other != top);
        // Who may use it may be used in turn, so that only direct edges count here.
        for other in others.filter(|other| direct.get(**other).is_some_and(|all| all.contains(top))) {
            findings.add(
                format!("crates/{other}/Cargo.toml"),
                0,
                format!("{other} may not depend on {top} outside its tests"),
            );
        }
    }
}

/// The shortest way from one crate to another.
fn way(direct: &Graph, from: &str, to: &str) -> Option<Vec<String>> {
    let mut seen: BTreeSet<&str> = [from].into();
    let mut ways = vec![vec![from.to_owned()]];
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in way.last().and_then(|last| direct.get(last)).into_iter().flatten() {
                let extended = || way.iter().chain([next]).cloned().collect::<Vec<_>>();
                if next == to {
                    return Some(extended());
                }
                if seen.insert(next) {
                    longer.push(extended());
                }
            }
        }
        ways = longer;
    }
    None
}

fn check_text(file: &str, text: &str, findings: &mut Findings) {
    let rust = file.ends_with(".rs");
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        if line.trim_end() != line && !file.ends_with(".txt") {
            findings.add(file, number, "trailing white space");
        }
        for (word, why) in BANNED {
            let home = word.starts_with("/ro") && HOME_IS_DATA.iter().any(|place| file.starts_with(place));
            if line.contains(word) && !home {
                findings.add(file, number, format!("`{word}`: {why}"));
            }
        }
    }
    let engine = file.strip_prefix("crates/").and_then(|path| path.split_once("/src/")).map(|(name, _)| name);
    if rust && engine.is_some_and(|name| ENGINES.contains(&name)) {
        for (number, line) in text.lines().enumerate() {
            for word in ACTS.iter().filter(|word| line.contains(**word)) {
                findings.add(file, number + 1, format!("`{word}`: an engine decides and does not act"));
            }
        }
    }
    if rust {
        if !text.trim_start().starts_with("//!") && !is_generated(text) {
            findings.add(file, 1, "no `//!` that says what the file does");
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            findings.add(file, 0, format!("{lines} lines, more than {MAX_LINES}: what is it really two of?"));
        }
    }
}

fn is_generated(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.contains("@generated"))
}

/// Finds Rust files that no target of their crate reaches through `mod`.
fn check_reachable(root: &Path, files: &[&str], metadata: &Value, findings: &mut Findings) {
    let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
    let mut waiting: Vec<(PathBuf, PathBuf)> = Vec::new();
    let packages = metadata["packages"].as_array().into_iter().flatten().filter(|package| package["source"].is_null());
    for target in packages.flat_map(|package| package["targets"].as_array()).flatten() {
        if let Some(path) = target["src_path"].as_str().map(PathBuf::from) {
            let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
            waiting.push((path, folder));
        }
    }
    // `folder` is where the file's own modules are looked for.
    while let Some((file, folder)) = waiting.pop() {
        if !reached.insert(file.clone()) {
            continue;
        }
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let beside = file.parent().unwrap_or(Path::new("")).to_path_buf();
        for module in modules(&text) {
            match module {
                Module::At(path) => waiting.push((beside.join(&path), parent_of(&beside.join(&path)))),
                Module::Named(name) => {
                    let flat = folder.join(format!("{name}.rs"));
                    let nested = folder.join(&name).join("mod.rs");
                    let found = if flat.is_file() { flat } else { nested };
                    waiting.push((found, folder.join(name)));
                }
            }
        }
    }
    for file in files.iter().filter(|file| file.ends_with(".rs") && file.starts_with("crates/")) {
        if !reached.contains(&root.join(file)) {
            findings.add(*file, 0, "no `mod` leads here: the file is dead");
        }
    }
}

/// A file named by `#[path]` looks for its modules beside a folder of its own name.
fn parent_of(file: &Path) -> PathBuf {
    file.with_extension("")
}

#[derive(Debug, PartialEq, Eq)]
enum Module {
    Named(String),
    At(PathBuf),
}

/// The modules that a file declares in files of their own, and the files that it takes in as they are.
fn modules(text: &str) -> Vec<Module> {
    let mut found = Vec::new();
    let mut path: Option<PathBuf> = None;
    for line in text.lines().map(str::trim) {
        let quoted = |line: &str| Some(PathBuf::from(line.split('"').nth(1)?));
        if line.starts_with("#[path") {
            path = quoted(line);
        } else if line.starts_with("include!(\"") {
            found.extend(quoted(line).map(Module::At));
        } else if let Some(name) = module_name(line) {
            found.push(path.take().map_or_else(|| Module::Named(name.to_owned()), Module::At));
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            path = None;
        }
    }
    found
}

fn module_name(line: &str) -> Option<&str> {
    let line = line.split("//").next()?.trim().strip_suffix(';')?;
    let (before, name) = line.rsplit_once("mod ")?;
    let visible = before.is_empty() || before.trim_end() == "pub" || before.trim_end().ends_with(')');
    (visible && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn modules_of_a_file() {
        let text = "mod a;\npub mod b;\npub(crate) mod c; // why\n#[path = \"x/y.rs\"]\nmod d;\nmod inline {\n}\nlet mod_ = e;";
        let named = |name: &str| Module::Named(name.into());
        assert_eq!(modules(text), [named("a"), named("b"), named("c"), Module::At("x/y.rs".into())]);
    }

    #[test]
    fn edges_are_found_through_a_third_crate_but_not_through_tests() {
        let package = |name: &str| json!({"id": name, "name": name, "source": null});
        let depend = |name: &str, kind: Option<&str>| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let bytes = json!({"id": "bytes", "name": "bytes", "source": "registry"});
        let tokio = json!({"id": "tokio", "name": "tokio", "source": "registry"});
        let ours = [
            "apiserver",
            "store",
            "store-api",
            "controllers",
            "client",
            "mvcc",
            "telemetry",
            "plinth",
            "wasm-host",
            "node",
        ];
        let packages: Vec<Value> = ours.iter().map(|name| package(name)).chain([bytes, tokio]).collect();
        let metadata = json!({"workspace_members": ours, "packages": packages, "resolve": {"nodes": [
            {"id": "apiserver", "deps": [depend("store", Some("dev")), depend("store-api", None)]},
            {"id": "controllers", "deps": [depend("client", None)]},
            {"id": "client", "deps": [depend("store", None)]},
            {"id": "mvcc", "deps": [depend("bytes", None)]},
            {"id": "bytes", "deps": [depend("tokio", None)]},
            {"id": "store-api", "deps": [depend("tokio", Some("dev"))]},
            {"id": "telemetry", "deps": [depend("store-api", Some("build"))]},
            {"id": "plinth", "deps": [depend("wasm-host", None)]},
            {"id": "node", "deps": [depend("wasm-host", None)]},
        ]}});
        let mut findings = Findings::default();
        check_edges(&metadata, &mut findings);
        let files: Vec<&str> = findings.0.iter().map(|(file, _, _)| file.as_str()).collect();
        let expected = ["controllers", "mvcc", "node", "telemetry"].map(|name| format!("crates/{name}/Cargo.toml"));
        assert_eq!(files, expected);
    }

    #[test]
    fn habits() {
        let check = |file: &str, text: &str, expected: &[&str]| {
            let mut findings = Findings::default();
            check_text(file, text, &mut findings);
            let found: Vec<String> = findings.0.into_iter().map(|(_, line, what)| format!("{line} {what}")).collect();
            assert_eq!(found.len(), expected.len(), "{found:?}");
            assert!(found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)), "{found:?}");
        };
        check("a.rs", "//! Good.\n", &[]);
        check("a.rs", "fn a() {} \n", &["1 no `//!`", "1 trailing"]);
        check("a.rs", concat!("//! A.\ntodo", "!();\n"), &["2 `todo"]);
        check("a.rs", &format!("//! A.\n{}", "\n".repeat(MAX_LINES)), &["0 701 lines"]);
        check("crates/sched/src/a.rs", concat!("//! A.\nuse std::", "fs;\n"), &["2 `std::"]);
        check("crates/node/src/a.rs", concat!("//! A.\nuse std::", "fs;\n"), &[]);
        check("README.md", concat!("see /wo", "rk/main\n"), &["1 `/wo"]);
    }
}
