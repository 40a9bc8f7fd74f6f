//! The registry that all parts of the process share, and the process's own figures.

use std::{fs, sync::Arc};

use parking_lot::RwLock;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use crate::exposition::{Exposition, Format};

/// A handle on the process's metrics. Names are the peers' own (Kubernetes, etcd, CoreDNS); a counter is registered
/// without `_total`, which the text format adds.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<RwLock<Registry>>);

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        Metrics(Arc::new(RwLock::new(registry)))
    }
}

impl Metrics {
    /// A registry of its own, without the process's figures.
    pub fn bare() -> Self {
        Metrics(Arc::new(RwLock::new(Registry::default())))
    }

    /// Adds metrics; called by each part at its start.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.0.write())
    }

    /// All metrics in the format that a request's `Accept` header asks for.
    pub fn exposition(&self, accept: Option<&str>) -> Exposition {
        let mut text = String::new();
        if let Err(error) = text::encode(&mut text, &self.0.read()) {
            tracing::error!(%error, "metrics could not be written down");
        }
        Format::accepted(accept).write(text)
    }

    /// All metrics in the Prometheus text format.
    pub fn encode(&self) -> String {
        self.exposition(None).text
    }
}

/// The standard `process_*` metrics, read from /proc when asked.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Some(bytes) = resident_bytes() {
            let gauge = ConstGauge::new(bytes);
            let name = "process_resident_memory";
            let metric =
                encoder.encode_descriptor(name, "Resident memory size", Some(&Unit::Bytes), gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        if let Some(seconds) = cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            let help = "Total user and system CPU time spent";
            let metric = encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), counter.metric_type())?;
            counter.encode(metric)?;
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            let gauge = ConstGauge::new(i64::try_from(entries.count()).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(
                "process_open_fds",
                "Number of open file descriptors",
                None,
                gauge.metric_type(),
            )?;
            gauge.encode(metric)?;
        }
        for (name, help, figure) in [
            ("process_max_fds", "Maximum number of open file descriptors", limit("Max open files")),
            ("process_virtual_memory_bytes", "Virtual memory size in bytes", virtual_bytes()),
            ("process_virtual_memory_max_bytes", "Maximum amount of virtual memory", limit("Max address space")),
        ] {
            let Some(figure) = figure else { continue };
            let gauge = ConstGauge::new(figure);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        for (name, help, column) in [
            ("process_network_receive_bytes", "Bytes received over the network", 0),
            ("process_network_transmit_bytes", "Bytes sent over the network", 8),
        ] {
            let Some(bytes) = network_bytes(column) else { continue };
            let counter = ConstCounter::new(bytes);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        if let Some(seconds) = start_seconds() {
            let gauge = ConstGauge::new(seconds);
            let help = "Start time of the process since unix epoch";
            let metric =
                encoder.encode_descriptor("process_start_time", help, Some(&Unit::Seconds), gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

/// Files that this process has open, and how many it may have.
pub fn open_files() -> (Option<i64>, Option<i64>) {
    let open = fs::read_dir("/proc/self/fd").ok().and_then(|entries| i64::try_from(entries.count()).ok());
    (open, limit("Max open files"))
}

/// The soft limit of that name; -1 for none.
fn limit(name: &str) -> Option<i64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let soft = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
    if soft == "unlimited" { Some(-1) } else { soft.parse().ok() }
}

fn virtual_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok()? * 1024)
}

/// A column of all the network namespace's devices together.
fn network_bytes(column: usize) -> Option<u64> {
    let devices = fs::read_to_string("/proc/self/net/dev").ok()?;
    let of = |line: &str| line.split_once(':')?.1.split_whitespace().nth(column)?.parse::<u64>().ok();
    Some(devices.lines().filter_map(of).sum())
}

/// `USER_HZ`, which the kernel fixes at 100 for what it shows in /proc.
const TICKS_PER_SECOND: f64 = 100.0;

/// The time of the machine's boot and the ticks from there to the process's start.
fn start_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let own = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: f64 = own.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(boot + ticks / TICKS_PER_SECOND)
}

fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok()? * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command in parentheses may hold spaces; utime and stime are the 12th and 13th fields after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_figures_are_there() {
        let text = Metrics::default().encode();
        for name in [
            "process_resident_memory_bytes ",
            "process_cpu_seconds_total ",
            "process_open_fds ",
            "process_start_time_seconds ",
            "process_max_fds ",
            "process_virtual_memory_bytes ",
            "process_network_receive_bytes_total ",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
        }
        assert!(text.contains("# TYPE process_cpu_seconds_total counter\n"), "{text}");
        let open = Metrics::default().exposition(Some("application/openmetrics-text"));
        assert!(open.text.ends_with("# EOF\n") && open.content_type.starts_with("application/openmetrics-text"));
    }
}
