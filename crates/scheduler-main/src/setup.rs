//! From flags to what is run: the configuration, the clients' configurations, the serving. In kube-scheduler's order, so
//! that of several things that are wrong the same one is told first.

use std::{io, path::Path, sync::Arc};

use client::{ConnectError, election::ElectionError};
use sched_config::{
    Aggregate, Configuration, GateError, Gates, GoDuration, KubeSchedulerConfiguration, MAX_BYTES, ReadError,
    ResolveError,
};
use scheduler::Plugins;

use crate::{
    help::KUBERNETES,
    parse::Values,
    serve::{self, ServeError},
};

/// The feature without which options of the log that are in alpha are refused.
const ALPHA_LOGS: &str = "LoggingAlphaOptions";
const PREVIOUS_MINOR: &str = "1.35";
/// Versions that the control plane may have beside this one's.
const COMPATIBLE: [&str; 4] = ["1.33", "1.34", "1.35", "1.36"];
const EMULATED: &str = "1.36";
/// How long a pod waits at most for an event that helps it, where no flag says otherwise.
const UNSCHEDULABLE: GoDuration = GoDuration::seconds(300);

/// All that a run needs.
pub struct Setup {
    pub configuration: Configuration,
    /// The configuration as it is told to who asks.
    pub document: KubeSchedulerConfiguration,
    pub api: kube::Config,
    pub serving: Option<serve::Serving>,
    /// Those that are not Kubernetes'.
    pub plugins: Vec<Arc<dyn Plugins>>,
}

/// What the flags ask for.
pub enum Outcome {
    Run(Box<Setup>),
    /// The configuration was written to a file, and that was all.
    Written,
}

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Gates(#[from] GateError),
    #[error("{0}")]
    Version(String),
    #[error(transparent)]
    Invalid(#[from] Aggregate),
    #[error("open {path}: {reason}")]
    File { path: String, reason: String },
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Serve(#[from] ServeError),
    #[error("{0}")]
    Resolve(#[from] ResolveError),
    #[error("couldn't create resource lock: Invalid lock-type {0}")]
    Lock(String),
    #[error("couldn't create leader elector: {0}")]
    Election(#[from] ElectionError),
}

/// What is wrong with the log's flags, told before there is a log.
pub fn check_logs(values: &Values, gates: &Gates) -> Result<(), String> {
    let format = values.text("logging-format");
    if !["text", "json"].contains(&format) {
        return Err(format!("format: Invalid value: {format:?}: Unsupported log format"));
    }
    for (flag, field) in [("log-text-split-stream", "text"), ("log-json-split-stream", "json")] {
        if values.bool(flag) && !gates.enabled(ALPHA_LOGS) {
            return Err(format!("options.{field}.splitStream: Forbidden: Feature {ALPHA_LOGS} is disabled"));
        }
    }
    for (flag, field) in [("log-text-info-buffer-size", "text"), ("log-json-info-buffer-size", "json")] {
        if values.text(flag) != "0" && !gates.enabled(ALPHA_LOGS) {
            return Err(format!("options.{field}.infoBufferSize: Forbidden: Feature {ALPHA_LOGS} is disabled"));
        }
    }
    Ok(())
}

/// The feature gates, and what is wrong with the versions beside them.
pub fn gates(values: &Values) -> Result<Gates, SetupError> {
    for (flag, allowed) in [("emulated-version", &[EMULATED][..]), ("min-compatibility-version", &COMPATIBLE[..])] {
        for value in values.list(flag) {
            let (component, version) = value.split_once('=').unwrap_or(("kube", &value));
            if component.trim() != "kube" {
                return Err(SetupError::Version(format!("component not registered: {component}")));
            }
            if !allowed.contains(&version.trim()) {
                let allowed = allowed.join(", ");
                return Err(SetupError::Version(format!("--{flag}={version} is not one of {allowed}")));
            }
        }
    }
    Ok(Gates::parse(values.raw("feature-gates").iter().map(String::as_str))?)
}

/// Reads and makes everything that is needed before a request is sent.
pub async fn setup(values: &Values, gates: &Gates, plugins: Vec<Arc<dyn Plugins>>) -> Result<Outcome, SetupError> {
    validate(values)?;
    let certificate = serve::certificate(values)?;
    let mut document = match values.text("config") {
        "" => {
            let mut document = sched_config::default(gates);
            deprecated(values, &mut document);
            document
        }
        path => sched_config::read(&read(path)?, gates)?,
    };
    leader_election(values, &mut document);
    if values.is_set("config") {
        sched_config::validate(&document, gates)?;
    }
    let kubeconfig = Some(document.client_connection.kubeconfig.as_str()).filter(|path| !path.is_empty());
    let master = Some(values.text("master")).filter(|address| !address.is_empty());
    let api = client::configuration(kubeconfig.map(Path::new), master).await?;
    let serving = serve::Serving::new(values, certificate).await?;
    let unschedulable = values.duration("pod-max-in-unschedulable-pods-duration");
    let catalogue = scheduler::catalogue(&plugins, &document);
    let configuration = Configuration::new(&document, unschedulable, gates, &catalogue)?;
    let document = configuration.completed(document);
    check_election(&configuration)?;
    let path = values.text("write-config-to");
    if !path.is_empty() {
        let wrote = std::fs::write(path, sched_config::write(&document));
        wrote.map_err(|error| SetupError::File { path: path.to_owned(), reason: words(&error) })?;
        tracing::info!(file = path, "Wrote configuration");
        return Ok(Outcome::Written);
    }
    Ok(Outcome::Run(Box::new(Setup { configuration, document, api, serving, plugins })))
}

/// The configuration in a file, with the features as they are by default.
pub fn configuration(path: &Path, plugins: &[Arc<dyn Plugins>]) -> Result<Configuration, SetupError> {
    let gates = Gates::default();
    let document = sched_config::read(&read(&path.to_string_lossy())?, &gates)?;
    sched_config::validate(&document, &gates)?;
    let catalogue = scheduler::catalogue(plugins, &document);
    Ok(Configuration::new(&document, UNSCHEDULABLE, &gates, &catalogue)?)
}

/// What can be said of flags by themselves.
fn validate(values: &Values) -> Result<(), Aggregate> {
    let mut told = Vec::new();
    let port = values.int("secure-port");
    if port > i64::from(u16::MAX) {
        let range = "between 1 and 65535, inclusive. It cannot be turned off with 0";
        told.push(format!("--secure-port {port} must be {range}"));
    } else if port < 0 {
        told.push(format!(
            "--secure-port {port} must be between 0 and 65535, inclusive. 0 for turning off secure port"
        ));
    }
    let lists = ["username-headers", "group-headers", "extra-headers-prefix", "allowed-names", "uid-headers"];
    for flag in lists.map(|name| format!("requestheader-{name}")) {
        if values.list(&flag).iter().any(|value| value.trim().is_empty()) {
            told.push(format!("empty value in {flag:?}"));
        }
    }
    let hidden = values.text("show-hidden-metrics-for-version");
    if ![PREVIOUS_MINOR, ""].contains(&hidden) {
        let rule = format!("must be omitted or have the value '{PREVIOUS_MINOR}'");
        let only = "only the previous minor version is allowed";
        told.push(format!("metrics.showHiddenMetricsForVersion: Invalid value: {hidden:?}: {rule}; {only}"));
    }
    if told.is_empty() { Ok(()) } else { Err(Aggregate(told)) }
}

/// A file, up to what a configuration may have.
fn read(path: &str) -> Result<Vec<u8>, SetupError> {
    use io::Read;
    let failed = |error: io::Error| SetupError::File { path: path.to_owned(), reason: words(&error) };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    // One byte more shows that there is more.
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The system's words for an error, as Go has them: without the number, in lower case.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_lowercase().to_string() + chars.as_str())
}

/// Flags that stand for fields of a configuration where there is no file of it.
fn deprecated(values: &Values, document: &mut KubeSchedulerConfiguration) {
    let connection = &mut document.client_connection;
    if values.is_set("profiling") {
        document.enable_profiling = values.bool("profiling");
    }
    if values.is_set("contention-profiling") {
        document.enable_contention_profiling = Some(values.bool("contention-profiling"));
    }
    if values.is_set("kubeconfig") {
        values.text("kubeconfig").clone_into(&mut connection.kubeconfig);
    }
    if values.is_set("kube-api-content-type") {
        values.text("kube-api-content-type").clone_into(&mut connection.content_type);
    }
    if values.is_set("kube-api-qps") {
        connection.qps = values.float("kube-api-qps");
    }
    if values.is_set("kube-api-burst") {
        connection.burst = i32::try_from(values.int("kube-api-burst")).unwrap_or(i32::MAX);
    }
}

/// Flags of the election win over the file's fields.
fn leader_election(values: &Values, document: &mut KubeSchedulerConfiguration) {
    let election = &mut document.leader_election;
    if values.is_set("leader-elect") {
        election.leader_elect = values.bool("leader-elect");
    }
    for (flag, field) in [
        ("leader-elect-lease-duration", &mut election.lease_duration),
        ("leader-elect-renew-deadline", &mut election.renew_deadline),
        ("leader-elect-retry-period", &mut election.retry_period),
    ] {
        if values.is_set(flag) {
            *field = values.duration(flag);
        }
    }
    for (flag, field) in [
        ("leader-elect-resource-lock", &mut election.resource_lock),
        ("leader-elect-resource-name", &mut election.resource_name),
        ("leader-elect-resource-namespace", &mut election.resource_namespace),
    ] {
        if values.is_set(flag) {
            values.text(flag).clone_into(field);
        }
    }
}

fn check_election(configuration: &Configuration) -> Result<(), SetupError> {
    let election = &configuration.leader_election;
    if !election.leader_elect {
        return Ok(());
    }
    if election.resource_lock != "leases" {
        return Err(SetupError::Lock(election.resource_lock.clone()));
    }
    Ok(election_options(configuration, "").check()?)
}

/// What the election is told.
pub fn election_options(configuration: &Configuration, identity: &str) -> client::election::Options {
    let election = &configuration.leader_election;
    client::election::Options {
        namespace: election.resource_namespace.clone(),
        name: election.resource_name.clone(),
        identity: identity.to_owned(),
        lease_duration: election.lease_duration.get(),
        renew_deadline: election.renew_deadline.get(),
        retry_period: election.retry_period.get(),
    }
}

/// The client's configuration with the name under which the API server logs its requests.
pub fn named(api: &kube::Config, part: &str) -> kube::Config {
    let mut api = api.clone();
    let agent = format!("kube-scheduler/{KUBERNETES} (plinth/{}) {part}", env!("CARGO_PKG_VERSION"));
    if let Ok(agent) = http::HeaderValue::from_str(&agent) {
        api.headers.push((http::header::USER_AGENT, agent));
    }
    api
}
