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
        &["store", "apiserver"],
        "it reaches the world through client only",
    ),
];

/// Crates that decide and do not act.
const ENGINES: [&str; 6] = ["mvcc", "registry", "sched", "reconcile", "kube-schema", "store-api"];
/// What an engine may not depend on directly.
const ACTING: [&str; 6] = ["tokio", "hyper", "nix", "libc", "mio", "socket2"];

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
const HOME_IS_DATA: [&str; 3] = ["crates/containers/", "crates/node/", "docs/"];

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
    let metadata: Value = serde_json::from_slice(&output("cargo", &["metadata", "--format-version=1", "--no-deps"])?)
        .context("cargo metadata is not JSON")?;
    let root = PathBuf::from(metadata["workspace_root"].as_str().context("cargo metadata names no root")?);
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

/// The direct dependencies of each workspace crate, without those of tests.
fn dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().into_iter().flatten();
        all.filter(|dependency| dependency["kind"].as_str() != Some("dev")).map(name).collect()
    };
    packages.map(|package| (name(package), of(package))).collect()
}

fn check_edges(metadata: &Value, findings: &mut Findings) {
    let direct = dependencies(metadata);
    for (from, to, why) in EDGES {
        for (crate_name, forbidden) in from.iter().flat_map(|f| to.iter().map(move |t| (*f, *t))) {
            if let Some(way) = way(&direct, crate_name, forbidden) {
                let what = format!("{crate_name} may not depend on {forbidden} ({}): {why}", way.join(" -> "));
                findings.add(format!("crates/{crate_name}/Cargo.toml"), 0, what);
            }
        }
    }
    for engine in ENGINES {
        for acting in ACTING.iter().filter(|acting| direct.get(engine).is_some_and(|all| all.contains(**acting))) {
            let what = format!("{engine} may not depend on {acting}: an engine decides and does not act");
            findings.add(format!("crates/{engine}/Cargo.toml"), 0, what);
        }
    }
}

/// The shortest way from one crate to another.
fn way(direct: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> Option<Vec<String>> {
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
    for target in metadata["packages"].as_array().into_iter().flatten().flat_map(|p| p["targets"].as_array()).flatten()
    {
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
        let depend = |name: &str, kind: Option<&str>| json!({"name": name, "kind": kind});
        let metadata = json!({"packages": [
            {"name": "apiserver", "dependencies": [depend("store", Some("dev")), depend("store-api", None)]},
            {"name": "controllers", "dependencies": [depend("client", None)]},
            {"name": "client", "dependencies": [depend("store", None)]},
            {"name": "mvcc", "dependencies": [depend("tokio", None)]},
        ]});
        let mut findings = Findings::default();
        check_edges(&metadata, &mut findings);
        let files: Vec<&str> = findings.0.iter().map(|(file, _, _)| file.as_str()).collect();
        assert_eq!(files, ["crates/controllers/Cargo.toml", "crates/mvcc/Cargo.toml"]);
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
        check("README.md", concat!("see /wo", "rk/main\n"), &["1 `/wo"]);
    }
}
