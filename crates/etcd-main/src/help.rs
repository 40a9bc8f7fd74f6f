//! The texts of `--help` and `--version`.

use std::fmt::Write;

use crate::flags::{Effect, GROUPS};

/// The etcd whose command line and behaviour this is. Scripts read the version from the first line of `--version`.
pub const ETCD_VERSION: &str = "3.5.30";

/// How the program is called; also told below a bad command line.
pub fn usage(program: &str) -> String {
    format!(
        "Usage:\n\n  {program} [flags]\n    Start a member.\n\n  {program} --version\n    Print the version.\n\n  \
         {program} -h | --help\n    Print all flags.\n\n  {program} --config-file FILE\n    Read the flags from a YAML \
         file; other flags and the environment are then not read.\n"
    )
}

/// All flags, in etcd's groups.
pub fn flags() -> String {
    let mut text = String::new();
    for group in GROUPS {
        let _ = writeln!(text, "\n{}:", group.title);
        for flag in group.flags {
            let default = if flag.name == "data-dir" { "${name}.etcd" } else { flag.default };
            let _ = writeln!(text, "  --{} '{default}'\n    {}", flag.name, flag.help);
            match flag.effect {
                Effect::Applied => {}
                Effect::Nothing(why) => {
                    let _ = writeln!(text, "    Without effect: {why}.");
                }
                Effect::Refused(why) => {
                    let _ = writeln!(text, "    Not supported: {why}.");
                }
            }
        }
    }
    text
}

pub fn version() -> String {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let arch = match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: none (this is Plinth)\nGo Version: none (this is Rust)\n\
         Go OS/Arch: {os}/{arch}\nPlinth Version: {}\n",
        env!("CARGO_PKG_VERSION")
    )
}
