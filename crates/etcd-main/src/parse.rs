//! From arguments, environment and file to what is to be done. Pure: what it asks of the machine comes in as functions.

use std::{io, net::IpAddr};

use crate::{
    arguments::{self, ArgumentsError},
    assemble,
    config::{Config, Log},
    environment::{self, EnvironmentError},
    file::{self, FileError},
    note::Note,
    shards,
    transfer::command::{self, Export, Import},
    validate::{self, ConfigError},
    values::Values,
};

/// What the process is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Serve(Box<Config>),
    Help,
    Version,
    Import(Import),
    Export(Export),
    Shards(shards::Command),
}

/// Why there is nothing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// The command line is none; the usage text goes below.
    Usage(String),
    /// Told before there is a log.
    Plain(String),
    /// Told as Go ends a process that cannot go on.
    Panic(String),
    /// Told in the log, as the last line.
    Fatal(Note),
    /// The configuration is none.
    Config(ConfigError),
}

/// What was found, and what is to be logged about it.
#[derive(Debug)]
pub struct Parsed {
    pub outcome: Result<Command, Stop>,
    /// Known as soon as the log's own flags are good.
    pub log: Option<Log>,
    /// To be logged before the line that repeats the arguments.
    pub early: Vec<Note>,
    /// To be logged after it.
    pub late: Vec<Note>,
}

/// What the parser asks of the machine.
pub struct Machine<'a> {
    pub environment: &'a [(String, String)],
    pub read: &'a dyn Fn(&str) -> io::Result<String>,
    /// The machine's address, for who listens everywhere.
    pub host: &'a dyn Fn() -> Option<IpAddr>,
}

/// Flags that go away with etcd 3.6, and are told so.
const DEPRECATED: [&str; 8] = [
    "enable-v2",
    "experimental-enable-v2v3",
    "proxy",
    "proxy-failure-wait",
    "proxy-refresh-interval",
    "proxy-dial-timeout",
    "proxy-write-timeout",
    "proxy-read-timeout",
];

/// Reads a command line without the program's name. `commands`: whether it may be one of ours and not only etcd's.
pub fn parse(arguments: &[String], commands: bool, machine: &Machine<'_>) -> Parsed {
    let mut parsed = Parsed { outcome: Ok(Command::Help), log: None, early: Vec::new(), late: Vec::new() };
    parsed.outcome = match (arguments.first().map(String::as_str), commands) {
        (Some("import"), true) => command::import(&arguments[1..]).map(Command::Import).map_err(Stop::Plain),
        (Some("export"), true) => command::export(&arguments[1..]).map(Command::Export).map_err(Stop::Plain),
        (Some("shards"), true) => shards::command(&arguments[1..]).map(Command::Shards).map_err(Stop::Plain),
        (Some(command @ ("gateway" | "grpc-proxy")), _) => {
            Err(Stop::Plain(format!("{command} is not part of this store: run etcd's own in front of it")))
        }
        _ => serve(arguments, machine, &mut parsed),
    };
    parsed
}

fn serve(arguments: &[String], machine: &Machine<'_>, parsed: &mut Parsed) -> Result<Command, Stop> {
    let read = match arguments::parse(arguments) {
        Ok(read) => read,
        Err(ArgumentsError::Help) => return Ok(Command::Help),
        Err(ArgumentsError::Bad(why)) => return Err(Stop::Usage(why)),
    };
    if let Some(stray) = read.rest.first() {
        return Err(Stop::Config(ConfigError::NotAFlag(stray.clone())));
    }
    if read.values.bool("version") {
        return Ok(Command::Version);
    }
    let variable =
        |name: &str| machine.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let path = match read.values.text("config-file") {
        "" => variable("ETCD_CONFIG_FILE").unwrap_or_default().to_owned(),
        path => path.to_owned(),
    };
    let mut given = read.values.clone();
    let values = if path.is_empty() {
        given = from_environment(read.values, machine, parsed)?;
        given.clone()
    } else {
        from_file(&path, machine, parsed)?
    };
    match assemble::log(&values) {
        Ok(log) => parsed.log = Some(log),
        Err(ConfigError::Level(level)) => return Err(Stop::Panic(format!("unrecognized level: {level:?}"))),
        Err(error) => return Err(Stop::Config(error)),
    }
    let checked = validate::validate(&values, &mut parsed.early);
    for flag in given.names().filter(|flag| DEPRECATED.contains(flag)) {
        parsed.early.push(Note::warn(format!("--{flag} is deprecated in 3.5 and will be decommissioned in 3.6.")));
    }
    checked.map_err(Stop::Config)?;
    let host = values.urls("listen-peer-urls").into_iter().chain(values.urls("listen-client-urls"));
    let host = host.map(|url| url.hostname().to_owned()).any(|host| host == "0.0.0.0").then(machine.host).flatten();
    let config = assemble::assemble(&values, host, &mut parsed.late).map_err(Stop::Config)?;
    Ok(Command::Serve(Box::new(config)))
}

fn from_environment(mut values: Values, machine: &Machine<'_>, parsed: &mut Parsed) -> Result<Values, Stop> {
    match environment::apply(&mut values, machine.environment, &mut parsed.early) {
        Ok(()) => Ok(values),
        Err(EnvironmentError::Value(error)) => Err(Stop::Config(error)),
        Err(EnvironmentError::Shadowed(shadowed)) => {
            Err(Stop::Fatal(Note::fatal(shadowed.to_string()).with("environment-variable", shadowed.variable)))
        }
    }
}

fn from_file(path: &str, machine: &Machine<'_>, parsed: &mut Parsed) -> Result<Values, Stop> {
    let text = (machine.read)(path)
        .map_err(|error| Stop::Config(ConfigError::File { path: path.to_owned(), reason: words(&error) }))?;
    let values = file::read(&text, &mut parsed.early).map_err(|error| match error {
        FileError::Config(error) => Stop::Config(error),
        told @ FileError::Value { .. } => Stop::Plain(told.to_string()),
    })?;
    let loaded = "loaded server configuration, other configuration command line flags and environment variables will \
                  be ignored if provided";
    parsed.early.push(Note::info(loaded).with("path", path));
    Ok(values)
}

/// The system's words for an error, as Go has them: without the number, in lower case.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;
    use crate::{config::AutoCompaction, url};

    fn outcome(line: &str, environment: &[(&str, &str)], file: &str) -> (Result<Command, Stop>, Vec<String>) {
        let arguments: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let machine = Machine {
            environment: &environment,
            read: &|_| Ok(file.to_owned()),
            host: &|| Some(Ipv4Addr::new(10, 0, 0, 5).into()),
        };
        let parsed = parse(&arguments, true, &machine);
        let notes = parsed.early.iter().chain(&parsed.late).map(|note| note.message.clone()).collect();
        (parsed.outcome, notes)
    }

    fn config(line: &str, environment: &[(&str, &str)], file: &str) -> Config {
        match outcome(line, environment, file).0 {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn etcds_defaults() {
        let config = config("", &[], "");
        assert_eq!((config.name.as_str(), config.data_dir.to_str()), ("default", Some("default.etcd")));
        assert_eq!(url::joined(&config.listen_client_urls), "http://localhost:2379");
        assert_eq!(config.initial_cluster_text, "default=http://localhost:2380");
        assert_eq!((config.raft.heartbeat_ms, config.raft.election_ms), (100, 1000));
        assert_eq!((config.limits.max_request_bytes, config.limits.max_txn_ops), (1_572_864, 128));
        assert_eq!(config.limits.max_concurrent_streams, u32::MAX);
        assert_eq!(config.auto_compaction, AutoCompaction::Off);
        assert_eq!(config.keepalive.interval, Duration::from_secs(7200));
        assert_eq!((config.auth.token.as_str(), config.auth.bcrypt_cost), ("simple", 10));
        assert!(config.raft.pre_vote && config.strict_reconfig_check && config.grpc_gateway);
        assert_eq!((config.shards, config.tls.min.as_str(), config.log.outputs.len()), (1, "TLS1.2", 1));
    }

    #[test]
    fn a_name_names_the_folder_and_the_cluster() {
        let config = config("--name a --initial-advertise-peer-urls http://b:1", &[], "");
        assert_eq!(config.data_dir.to_str(), Some("a.etcd"));
        assert_eq!(config.initial_cluster_text, "a=http://b:1");
        assert_eq!(config.initial_cluster().unwrap().len(), 1);
    }

    #[test]
    fn who_listens_everywhere_advertises_the_machine() {
        let listen = "--listen-peer-urls http://0.0.0.0:2380 --listen-client-urls http://0.0.0.0:2479";
        let config = config(&format!("{listen} --advertise-client-urls http://localhost:2379 --name a"), &[], "");
        assert_eq!(url::joined(&config.advertise_peer_urls), "http://10.0.0.5:2380");
        assert_eq!(url::joined(&config.advertise_client_urls), "http://10.0.0.5:2479");
        assert_eq!(config.initial_cluster_text, "a=http://10.0.0.5:2380");
    }

    #[test]
    fn every_spelling_of_compaction() {
        let hours = |hours: u64| AutoCompaction::Period(Duration::from_secs(hours * 3600));
        for (mode, retention, expected) in [
            ("periodic", "10", hours(10)),
            ("periodic", "1h", hours(1)),
            ("periodic", "5m", AutoCompaction::Period(Duration::from_secs(300))),
            ("periodic", "0", AutoCompaction::Off),
            ("revision", "1000", AutoCompaction::Revisions(1000)),
            ("revision", "0", AutoCompaction::Off),
        ] {
            let line = format!("--auto-compaction-mode {mode} --auto-compaction-retention {retention}");
            assert_eq!(config(&line, &[], "").auto_compaction, expected, "{line}");
        }
        let file = "auto-compaction-mode: periodic\nauto-compaction-retention: \"1\"\n";
        assert_eq!(config("--config-file f", &[], file).auto_compaction, hours(1));
        assert_eq!(config("--auto-compaction-retention 1", &[], "").auto_compaction, hours(1));
    }

    #[test]
    fn a_file_puts_everything_else_aside() {
        let file = "name: f\nlisten-client-urls: http://127.0.0.1:1\n";
        let config = config("--config-file x --name a --discovery b", &[("ETCD_MAX_TXN_OPS", "7")], file);
        assert_eq!((config.name.as_str(), config.limits.max_txn_ops), ("f", 128));
        assert_eq!(url::joined(&config.advertise_client_urls), "http://localhost:2379");
    }

    #[test]
    fn a_variable_fills_in_for_a_flag() {
        let config =
            config("--name a", &[("ETCD_MAX_TXN_OPS", "7"), ("ETCD_AUTO_TLS", "true"), ("ETCD_WAL_DIR", "")], "");
        assert_eq!((config.limits.max_txn_ops, config.client_tls.auto_tls, config.wal_dir), (7, true, None));
        let (shadowed, _) = outcome("--name a", &[("ETCD_NAME", "a")], "");
        assert!(matches!(shadowed, Err(Stop::Fatal(_))), "{shadowed:?}");
        let (_, notes) = outcome("", &[("ETCD_NAM", "a"), ("ETCD_VERSION", "3")], "");
        assert!(notes.contains(&"unrecognized environment variable".to_owned()), "{notes:?}");
        assert!(notes.contains(&"cannot set special environment variable".to_owned()), "{notes:?}");
    }

    #[test]
    fn lease_reads_are_off_until_they_are_asked_for() {
        let check = |line: &str, environment: &[(&str, &str)], file: &str, expected: bool| {
            assert_eq!(config(line, environment, file).raft.lease_reads, expected, "{line} {environment:?} {file}");
        };
        check("", &[], "", false);
        check("--experimental-lease-reads", &[], "", true);
        check("--experimental-lease-reads=false", &[], "", false);
        check("", &[("ETCD_EXPERIMENTAL_LEASE_READS", "true")], "", true);
        check("--config-file f", &[], "experimental-lease-reads: true\n", true);
    }

    #[test]
    fn commands_of_ours() {
        let check =
            |line: &str, expected: Option<Command>| assert_eq!(outcome(line, &[], "").0.ok(), expected, "{line}");
        check("import", None);
        check("export", None);
        let from = command::From::DataDir("d".into(), None);
        check("export f --data-dir d", Some(Command::Export(Export { file: "f".into(), from })));
        check("--version", Some(Command::Version));
        check("-h", Some(Command::Help));
    }
}
