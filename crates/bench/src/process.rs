//! What the kernel says about a process: its processor time and memory.

use std::fs;

use anyhow::Context;

/// The kernel counts processor time in hundredths of a second, whatever its own tick is.
const TICK_MICROS: u64 = 10_000;

pub struct Usage {
    pub resident_kib: u64,
    /// The most that was ever resident.
    pub peak_kib: u64,
    /// Shared pages counted in parts.
    pub proportional_kib: u64,
    /// Hundredths of a second of processor time, in the process and in the kernel for it.
    pub ticks: u64,
}

impl Usage {
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |name: &str| read(pid, name);
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
        };
        Ok(Usage {
            resident_kib: field(&read("status")?, "VmRSS:"),
            peak_kib: field(&read("status")?, "VmHWM:"),
            proportional_kib: field(&read("smaps_rollup")?, "Pss:"),
            ticks: ticks(pid)?,
        })
    }
}

/// Microseconds of processor time so far. Reads little, so that it can be asked while something is measured.
pub fn cpu_micros(pid: u32) -> anyhow::Result<u64> {
    Ok(ticks(pid)? * TICK_MICROS)
}

/// The process's own and the kernel's for it, in hundredths of a second.
fn ticks(pid: u32) -> anyhow::Result<u64> {
    let stat = read(pid, "stat")?;
    let times = stat.rsplit_once(')').context("stat")?.1.split_whitespace().skip(11).take(2);
    Ok(times.filter_map(|time| time.parse::<u64>().ok()).sum())
}

fn read(pid: u32, name: &str) -> anyhow::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{name}")).with_context(|| format!("the process {pid} is not there"))
}
