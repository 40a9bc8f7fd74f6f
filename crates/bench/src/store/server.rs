//! Servers as processes: one launcher for both, because both take etcd's flags.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::control::Control;
use crate::{
    interrupt, ports,
    process::{self, Usage},
};

/// How long a server may take until it serves, or until it has ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is asked whether it serves.
const POLL: Duration = Duration::from_millis(2);
/// Room for everything that a run writes.
const QUOTA_BYTES: u64 = 16 << 30;

/// What to start: a program and the words before its flags.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    words: Vec<String>,
}

impl FromStr for Program {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Self> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let path = words.next().context("no program is named")?;
        Ok(Program { path: path.into(), words: words.collect() })
    }
}

impl Program {
    /// The same with more flags.
    pub fn with(&self, flags: Vec<String>) -> Self {
        let words = self.words.iter().cloned().chain(flags).collect();
        Program { path: self.path.clone(), words }
    }

    /// The first line of what it says about its version.
    pub fn version(&self) -> anyhow::Result<String> {
        let mut command = Command::new(&self.path);
        let output = command.args(&self.words).arg("--version").output();
        let output = output.with_context(|| format!("cannot start {}", self.path.display()))?;
        ensure!(output.status.success(), "{} {} --version fails", self.path.display(), self.words.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    }
}

/// One or more members, ended with the value.
pub struct Cluster {
    members: Vec<Member>,
}

struct Member {
    program: Program,
    flags: Vec<String>,
    log: PathBuf,
    address: SocketAddr,
    child: Child,
}

impl Cluster {
    /// Starts so many members on empty folders below `dir` and waits until each serves.
    pub fn start(program: &Program, dir: &Path, count: usize) -> anyhow::Result<Self> {
        let ports: Vec<(u16, u16)> =
            (0..count).map(|_| Ok((ports::free()?, ports::free()?))).collect::<anyhow::Result<_>>()?;
        let name = |index: usize| format!("m{index}");
        let all = ports.iter().enumerate().map(|(index, (_, peer))| format!("{}={}", name(index), url(*peer)));
        let all = all.collect::<Vec<_>>().join(",");
        let mut cluster = Cluster { members: Vec::new() };
        for (index, (client, peer)) in ports.iter().enumerate() {
            let folder = dir.join(name(index));
            let flags = [
                format!("--name={}", name(index)),
                format!("--data-dir={}", folder.display()),
                format!("--listen-client-urls={}", url(*client)),
                format!("--advertise-client-urls={}", url(*client)),
                format!("--listen-peer-urls={}", url(*peer)),
                format!("--initial-advertise-peer-urls={}", url(*peer)),
                format!("--initial-cluster={all}"),
                "--initial-cluster-token=bench".to_owned(),
                "--initial-cluster-state=new".to_owned(),
                format!("--quota-backend-bytes={QUOTA_BYTES}"),
                "--log-level=error".to_owned(),
            ];
            let log = dir.join(format!("{}.log", name(index)));
            cluster.members.push(Member::start(program.clone(), flags.into(), log, *client)?);
        }
        for index in 0..count {
            cluster.wait(index)?;
        }
        Ok(cluster)
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// A connection to the first member.
    pub fn control(&self) -> anyhow::Result<Control> {
        Control::open(self.members[0].address, PATIENCE)
    }

    /// Processor time of all members so far, in microseconds.
    pub fn cpu(&self) -> anyhow::Result<u64> {
        self.members.iter().map(|member| process::cpu_micros(member.child.id())).sum()
    }

    /// Resident memory of all members, in MB.
    pub fn resident(&self) -> anyhow::Result<f64> {
        let each = self.members.iter().map(|member| Ok(Usage::of(member.child.id())?.resident_kib));
        Ok(each.sum::<anyhow::Result<u64>>()? as f64 * 1024.0 / 1e6)
    }

    /// Holds the members where they are, so that the other server has the machine to itself.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal_all(Signal::SIGSTOP)
    }

    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal_all(Signal::SIGCONT)
    }

    fn signal_all(&self, signal: Signal) -> anyhow::Result<()> {
        self.members.iter().try_for_each(|member| member.signal(signal))
    }

    /// Kills a member at once.
    pub fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        self.members[index].signal(Signal::SIGKILL)?;
        self.members[index].child.wait()?;
        Ok(())
    }

    /// Ends a member in good order.
    pub fn stop(&mut self, index: usize) -> anyhow::Result<()> {
        let member = &mut self.members[index];
        member.signal(Signal::SIGTERM)?;
        let began = Instant::now();
        while member.child.try_wait()?.is_none() {
            interrupt::check()?;
            ensure!(began.elapsed() < PATIENCE, "a server did not end within {PATIENCE:?}");
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Starts a member that has ended; returns how long it takes until it serves.
    pub fn start_again(&mut self, index: usize) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let member = &mut self.members[index];
        member.child = member.spawn()?;
        self.wait(index)?;
        Ok(began.elapsed())
    }

    /// Waits until a member answers a linearizable read.
    fn wait(&mut self, index: usize) -> anyhow::Result<()> {
        let member = &mut self.members[index];
        let began = Instant::now();
        loop {
            interrupt::check()?;
            // Short at first: a server that has just begun to listen may lose a request.
            let patience = Duration::from_secs(2);
            let asked = Control::open(member.address, patience).and_then(|mut control| control.get(b"ready"));
            let Err(error) = asked else { return Ok(()) };
            let ended = member.child.try_wait()?.is_some();
            if ended || began.elapsed() > PATIENCE {
                let log = fs::read_to_string(&member.log).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                let what = if ended { "has ended" } else { "does not serve" };
                bail!("{} {what} ({error:#}): {}", member.program.path.display(), tail.join("\n"));
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            // Fails only for a process that has ended already.
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
    }
}

impl Member {
    fn start(program: Program, flags: Vec<String>, log: PathBuf, client: u16) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, client));
        let child = spawn(&program, &flags, &log)?;
        Ok(Member { program, flags, log, address, child })
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        spawn(&self.program, &self.flags, &self.log)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.child.id() as i32), signal)?)
    }
}

fn spawn(program: &Program, flags: &[String], log: &Path) -> anyhow::Result<Child> {
    let out = fs::File::options().create(true).append(true).open(log)?;
    Command::new(&program.path)
        .args(&program.words)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .with_context(|| format!("cannot start {}", program.path.display()))
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
