//! What `--help` and `--version` show.

use std::fmt::Write;

use sched_config::Gates;

use crate::flags::{self, Flag, Kind};

/// The version of Kubernetes whose scheduler this one stands in for.
pub const KUBERNETES: &str = "v1.36.2";
pub const MAJOR_MINOR: (&str, &str) = ("1", "36");
/// The oldest version that the rest of a control plane may have when nothing else is said.
pub const COMPATIBLE: &str = "1.35";

const ABOUT: &str = "\
Places pods onto nodes: a kube-scheduler with the same flags, the same configuration file
(KubeSchedulerConfiguration of kubescheduler.config.k8s.io/v1) and the same lease, so that it can run beside one or in
its place, in any Kubernetes cluster.
";

/// The whole help.
pub fn help(program: &str) -> String {
    format!("{ABOUT}\n{}", usage(program))
}

/// The flags by group, as pflag lays them out.
pub fn usage(program: &str) -> String {
    let mut text = format!("Usage:\n  {program} [flags]\n");
    for group in &flags::GROUPS {
        let _ = write!(text, "\n{} flags:\n\n", group.title);
        let heads: Vec<String> = group.flags.iter().map(head).collect();
        let width = heads.iter().map(String::len).max().unwrap_or(0) + 3;
        for (flag, head) in group.flags.iter().zip(heads) {
            let mut help = flag.help.to_owned() + &default(flag);
            if flag.name == "feature-gates" {
                help.extend(Gates::help().map(|line| format!("\n{line}")));
            }
            let indented = help.replace('\n', &format!("\n{}", " ".repeat(width)));
            let _ = writeln!(text, "{head:width$}{indented}");
        }
    }
    text
}

fn head(flag: &Flag) -> String {
    let short = match flag.name {
        "v" => "  -v, ",
        "help" => "  -h, ",
        _ => "      ",
    };
    let kind = flag.kind.name();
    let space = if kind.is_empty() { "" } else { " " };
    format!("{short}--{}{space}{kind}", flag.name)
}

/// The default, where it is not nothing.
fn default(flag: &Flag) -> String {
    match (flag.kind, flag.default) {
        (_, "" | "0" | "false") => String::new(),
        (Kind::Text, text) => format!(" (default {text:?})"),
        (Kind::Texts, list) => format!(" (default [{list}])"),
        (_, other) => format!(" (default {other})"),
    }
}

/// What `--version` with this value prints; `None`: it was not asked for.
pub fn version(value: &str) -> Option<String> {
    let (major, minor) = MAJOR_MINOR;
    match value {
        "raw" => Some(format!(
            "version.Info{{Major:{major:?}, Minor:{minor:?}, GitVersion:{KUBERNETES:?}, Plinth:{:?}, Platform:\"{}/{}\"}}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH,
        )),
        // It is an instruction to tell another version, not to tell it.
        other if other.starts_with('v') => None,
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(format!("Kubernetes {KUBERNETES}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_is_laid_out_as_pflag_does() {
        let usage = usage("kube-scheduler");
        let check = |line: &str| assert!(usage.lines().any(|have| have.starts_with(line)), "{line} in\n{usage}");
        check("Usage:");
        check("  kube-scheduler [flags]");
        check("Secure serving flags:");
        check("      --secure-port int                        Port");
        check("  -v, --v Level                              How");
        check("  -h, --help                     Show");
        check("      --version version[=true]   Show");
        assert!(usage.contains("(default 10259)") && usage.contains("(default [/healthz,/readyz,/livez])"));
        assert!(
            usage.contains("(default \"kube-scheduler\")") && usage.contains("kube:GangScheduling=true|false (ALPHA")
        );
    }
}
