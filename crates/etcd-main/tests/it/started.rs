//! How a member starts and ends: its name, its folder, its log, signals, systemd.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    time::Duration,
};

use serde_json::Value;
use test_support::run;

use crate::member::{BINARY, Member, Place, READY_LINE, by_name_etcd, clean, write};

#[test]
fn version_and_help_have_etcds_shape() {
    let place = Place::new();
    let version = run(clean(by_name_etcd(&place)).arg("--version"), None, 10).expect_ok();
    let lines: Vec<&str> = version.lines().collect();
    assert_eq!(lines[0], "etcd Version: 3.5.30");
    assert!(lines[1].starts_with("Git SHA: ") && lines[2].starts_with("Go Version: "), "{version}");
    assert!(lines[3].starts_with("Go OS/Arch: linux/") && lines[4].starts_with("Plinth Version: "), "{version}");
    let help = run(clean(by_name_etcd(&Place::new())).arg("-h"), None, 10);
    assert!(help.ok() && help.stderr.starts_with("Usage:\n\n  etcd [flags]"), "{help:?}");
    for group in ["Member:", "Clustering:", "Security:", "Auth:", "Logging:", "Unsafe feature:"] {
        assert!(help.stdout.contains(&format!("\n{group}\n")), "{group}");
    }
    assert!(help.stdout.contains("\n  --election-timeout '1000'\n"), "{}", help.stdout);
}

#[test]
fn every_flag_of_etcds_help_is_known() {
    let etcd = test_support::tool("etcd");
    let help = run(clean(etcd).arg("--help"), None, 10).expect_ok();
    let names: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("  --")?.split(' ').next()).collect();
    assert!(names.len() > 90, "{names:?}");
    for name in names {
        // A flag that takes no such value says so by its name; one that is not known says that.
        let told = run(clean(BINARY).args([&format!("--{name}=\u{1}"), "stray"]), None, 10).stderr;
        assert!(!told.contains("flag provided but not defined"), "--{name}: {told}");
    }
}

#[test]
fn started_by_the_name_etcd_it_logs_etcds_lines_and_ends_by_the_signal() {
    let place = Place::new();
    let mut command = clean(by_name_etcd(&place));
    let mut member = Member::start(command.args(place.flags("http")));
    let serving = member.wait_for("serving client traffic insecurely; this is strongly discouraged!");
    let line: Value = serde_json::from_str(&serving).unwrap();
    assert_eq!((&line["level"], &line["traffic"]), (&"info".into(), &"grpc+http".into()), "{line}");
    assert_eq!(line["address"], format!("127.0.0.1:{}", place.client));
    let starting: Value = serde_json::from_str(&member.wait_for("starting an etcd server")).unwrap();
    assert_eq!((&starting["etcd-version"], &starting["name"]), (&"3.5.30".into(), &"default".into()), "{starting}");
    assert_eq!((&starting["heartbeat-interval"], &starting["election-timeout"]), (&"100ms".into(), &"1s".into()));
    assert_eq!(starting["listen-client-urls"], Value::from(vec![place.url("http")]));
    for text in [
        "\"Running: \"",
        "configuring peer listeners",
        "elected leader",
        "published local member to cluster through raft",
        "successfully notified init daemon",
        "now serving peer/client/metrics",
    ] {
        member.wait_for(text);
    }
    let health = place.etcdctl(&["--endpoints".into(), place.url("http")], "endpoint health");
    let told = format!("{}{}", health.stdout, health.stderr);
    assert!(health.ok() && told.contains("is healthy: successfully committed proposal"), "{told}");
    assert_eq!(fs::metadata(place.data_dir()).unwrap().permissions().mode() & 0o777, 0o700);
    member.stop();
    let ended: Value = serde_json::from_str(&member.wait_for("received signal; shutting down")).unwrap();
    assert_eq!(ended["signal"], "terminated");
    // Once more on the same data.
    let again = Member::start(clean(BINARY).args(place.flags("http")));
    again.wait_for("server has been already initialized");
}

#[test]
fn an_interrupt_ends_it_too() {
    let place = Place::new();
    let mut member = Member::start(clean(BINARY).args(place.flags("http")));
    member.signal("INT");
    assert_eq!(member.wait(), -2);
    member.wait_for("\"signal\":\"interrupt\"");
}

#[test]
fn systemd_is_told() {
    let place = Place::new();
    let path = place.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _member = Member::start(clean(BINARY).args(place.flags("http")).env("NOTIFY_SOCKET", &path));
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1");
}

#[test]
fn the_environment_and_a_file_configure_it() {
    let place = Place::new();
    let mut command = clean(BINARY);
    for flag in place.flags("http") {
        let (name, value) = flag.trim_start_matches("--").split_once('=').unwrap();
        command.env(format!("ETCD_{}", name.to_uppercase().replace('-', "_")), value);
    }
    command.env("ETCD_LOG_OUTPUTS", "stderr").env("ETCD_NO_SUCH_FLAG", "1").env("ETCD_SNAPSHOT_COUNT", "7");
    let mut member = Member::start(&mut command);
    member.wait_for("recognized and used environment variable");
    member.wait_for("\"environment-variable\":\"ETCD_NO_SUCH_FLAG=1\"");
    member.wait_for("\"snapshot-count\":7");
    member.stop();

    let mut text = "log-level: debug\nlog-outputs: [stderr]\nno-such-key: 1\n".to_owned();
    for flag in place.flags("http") {
        text.push_str(&flag.trim_start_matches("--").replacen('=', ": ", 1));
        text.push('\n');
    }
    let file = write(&place, "etcd.yml", &text);
    // Everything beside the file is ignored, also what would be refused.
    let member =
        Member::start(clean(BINARY).args(["--config-file", &file, "--name=x"]).env("ETCD_SNAPSHOT_COUNT", "8"));
    member.wait_for("loaded server configuration, other configuration command line flags and environment variables");
    member.wait_for("\"key\":\"no-such-key\"");
    let starting = member.wait_for("starting an etcd server");
    assert!(starting.contains("\"name\":\"default\"") && starting.contains("\"snapshot-count\":100000"), "{starting}");
}

#[test]
fn the_log_goes_where_it_is_told() {
    let place = Place::new();
    let file = place.path("log").display().to_string();
    let outputs = format!("--log-outputs={file},stderr");
    let console = "--log-format=console";
    let mut member = Member::start(clean(BINARY).args(place.flags("http")).args([&outputs, console]));
    let line = member.wait_for(READY_LINE);
    let columns: Vec<&str> = line.split('\t').collect();
    assert_eq!((columns[1], columns[3]), ("info", READY_LINE), "{line}");
    member.stop();
    assert!(fs::read_to_string(&file).unwrap().contains("closed etcd server"));
}

#[test]
fn folders_that_are_not_its_own_are_refused() {
    let place = Place::new();
    let refused = |words: &str| {
        let ran = run(clean(BINARY).args(place.flags("http")), None, 20);
        assert!(ran.code == Some(1) && ran.stderr.contains(words), "{ran:?}");
    };
    let member = place.path("data").join("member");
    fs::create_dir_all(member.join("snap")).unwrap();
    fs::write(member.join("snap/db"), "an etcd's").unwrap();
    refused("plinth store import --from-snapshot");
    fs::remove_dir_all(&member).unwrap();
    fs::create_dir_all(&member).unwrap();
    fs::write(member.join("letter"), "dear").unwrap();
    refused("is not a data folder of this store");
    fs::remove_dir_all(&member).unwrap();
    fs::set_permissions(place.path("data"), fs::Permissions::from_mode(0o755)).unwrap();
    let running = Member::start(clean(BINARY).args(place.flags("http")));
    running.wait_for("The recommended permission is \\\"-rwx------\\\"");
    let other = Place::new();
    let mut flags = other.flags("http");
    flags[0] = format!("--data-dir={}", place.data_dir());
    let ran = run(clean(BINARY).args(flags), None, 20);
    assert!(ran.code == Some(1) && ran.stderr.contains("is in use by another process"), "{ran:?}");
}

#[test]
fn flags_without_effect_are_said_to_have_none() {
    let place = Place::new();
    let flags = ["--enable-v2", "--enable-pprof", "--backend-batch-limit=5", "--snapshot"];
    let member = Member::start(clean(BINARY).args(place.flags("http")).args(flags));
    for flag in ["enable-v2", "enable-pprof", "backend-batch-limit", "snapshot"] {
        member.wait_for(&format!("\"flag-name\":\"{flag}\""));
    }
    member.wait_for("--enable-v2 is deprecated in 3.5 and will be decommissioned in 3.6.");
}
