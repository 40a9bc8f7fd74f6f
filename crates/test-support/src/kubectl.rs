//! Running programs and reading what they say, with a limit on time.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::tool;

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output; fails the test when the program failed.
    pub fn expect_ok(self) -> String {
        assert!(self.ok(), "exit {:?}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr);
        self.stdout
    }

    /// Its standard error; fails the test when the program succeeded.
    pub fn expect_error(self) -> String {
        assert!(!self.ok(), "it succeeded\nstdout: {}", self.stdout);
        self.stderr
    }
}

/// Runs a command to its end, at most `seconds`, with `input` as its standard input.
pub fn run(command: &mut Command, input: Option<&str>, seconds: u32) -> Ran {
    let program = command.get_program().to_owned();
    let mut limited = Command::new("timeout");
    limited.arg("--kill-after=5").arg(seconds.to_string()).arg(&program).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        limited.current_dir(dir);
    }
    limited.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = limited.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if let Some(input) = input {
        // A program that does not read its input to the end is no failure of the test's own.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    }
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `kubectl` with one kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    pub fn new(kubeconfig: &Path, cache: &Path) -> Self {
        Kubectl { program: tool("kubectl"), kubeconfig: kubeconfig.to_owned(), cache: cache.to_owned() }
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(split(line)).env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", &self.cache);
        command
    }

    /// Runs a command line (words, 'quoted words').
    pub fn run(&self, line: &str) -> Ran {
        run(&mut self.command(line), None, 90)
    }

    /// Its output; fails the test when it fails.
    pub fn ok(&self, line: &str) -> String {
        let ran = self.run(line);
        assert!(ran.ok(), "kubectl {line}: exit {:?}\nstdout: {}\nstderr: {}", ran.code, ran.stdout, ran.stderr);
        ran.stdout
    }

    /// Its standard error; fails the test when it succeeds.
    pub fn fails(&self, line: &str) -> String {
        let ran = self.run(line);
        assert!(!ran.ok(), "kubectl {line} succeeded: {}", ran.stdout);
        ran.stderr
    }

    /// Runs with a manifest on standard input.
    pub fn with_input(&self, line: &str, input: &str) -> Ran {
        run(&mut self.command(line), Some(input), 90)
    }

    pub fn apply(&self, manifest: &str) -> String {
        self.with_input("apply -f -", manifest).expect_ok()
    }

    /// `kubectl get … -o json`.
    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} -o json"))).unwrap()
    }

    /// Starts a command that goes on, its output into a file.
    pub fn spawn(&self, line: &str, output: &Path) -> Child {
        let file = fs::File::create(output).unwrap();
        let errors = file.try_clone().unwrap();
        self.command(line).stdin(Stdio::null()).stdout(file).stderr(errors).spawn().unwrap()
    }
}

/// Splits at blanks; single quotes keep words together.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in line.split('\'').enumerate() {
        if n % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
