//! `plinth up`: puts the parts together, in the order in which they need each other, and takes them apart again.
//!
//! ```text
//!   settings, credentials ▶ store ▶ API server ▶ datapath, containers ▶ node, scheduler, controllers, DNS
//! ```
//!
//! Flags leave out the scheduler, the controllers, and all that makes this machine a node.
//!
//! Nothing is touched on the machine before flags, data folder and ports are known to be good.

mod accounts;
mod api;
mod checks;
mod cluster_dns;
mod credentials;
mod dialer;
mod network;
mod parts;
mod settings;
mod storage;

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use runtime::{Clock, Tasks};
use telemetry::Metrics;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{credentials::Credentials, settings::Settings};
use crate::{
    cli::{LogFormat, Paths, UpArgs},
    data_dir::{self, DataDir},
    kubeconfig,
    terminal::{self, Step},
};

/// The cgroup above all pods.
pub const CGROUP_ROOT: &str = "/plinth";
/// For one layer of the process to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// For the node to become Ready before the progress line says where to look.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// Where the datapath keeps its things.
pub fn datapath_paths(paths: &Paths) -> datapath::Paths {
    datapath::Paths::new(data_dir::agent(&paths.data_dir).join("network"), paths.run_dir.clone())
}

/// What every part is given.
pub struct Ground {
    pub clock: Clock,
    pub metrics: Metrics,
    /// Stops with the parts that use the API.
    pub agents: Tasks,
    /// Stops after them, with the API server.
    pub api: Tasks,
    /// Stops last.
    pub store: Tasks,
    root: Tasks,
}

impl Ground {
    fn new() -> Self {
        let root = Tasks::root();
        Ground {
            clock: Clock::system(),
            metrics: Metrics::default(),
            agents: root.child("agents"),
            api: root.child("api"),
            store: root.child("store"),
            root,
        }
    }

    /// Stops layer by layer, so that the last writes of a layer find the one below.
    async fn stop(&self) {
        for layer in [&self.agents, &self.api, &self.store] {
            layer.stop();
            if !layer.join(STOP_PATIENCE).await {
                tracing::warn!("a layer did not stop within {STOP_PATIENCE:?}");
            }
        }
        self.root.stop();
    }
}

pub async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    if !args.disable_agent {
        crate::require_root("plinth up")?;
    }
    let settings = Settings::derive(&args)?;
    let _telemetry = telemetry::init(&telemetry_options(&args))?;
    let mut signals = Signals::new()?;
    let ground = Ground::new();
    let started = tokio::select! {
        started = start(&args, &settings, &ground) => started,
        () = signals.next() => {
            println!("stopped before it was ready");
            ground.stop().await;
            return Ok(ExitCode::SUCCESS);
        }
        failure = ground.root.failure() => Err(failure.into()),
    };
    let _data_dir = match started {
        Ok(data_dir) => data_dir,
        Err(error) => {
            ground.stop().await;
            return Err(error);
        }
    };
    let failure = tokio::select! {
        () = signals.next() => None,
        failure = ground.root.failure() => Some(failure),
    };
    let step = Step::begin("Stopping");
    tokio::select! {
        () = ground.stop() => {}
        // Whoever presses Ctrl-C twice does not want to wait.
        () = signals.next() => {}
    }
    match failure {
        None => {
            step.done(match args.disable_agent {
                true => "the data stays",
                false => "pods and services go on; `plinth up` adopts them, `plinth down` removes them",
            });
            Ok(ExitCode::SUCCESS)
        }
        Some(failure) => {
            step.failed(&failure.to_string());
            Err(failure.into())
        }
    }
}

/// Starts everything. The data folder stays locked for as long as the returned value lives.
async fn start(args: &UpArgs, settings: &Settings, ground: &Ground) -> anyhow::Result<DataDir> {
    let began = ground.clock.monotonic();
    let data_dir = DataDir::open(&args.paths.data_dir)?;
    data_dir::make_private(&args.paths.run_dir)?;
    let credentials = Credentials::load(&data_dir, args, settings, ground.clock.now())?;

    let step = Step::begin("Store");
    let (storage, told) = storage::open(args, &data_dir, ground).await?;
    step.done(&told);

    let step = Step::begin("API server");
    let node_slot = dialer::NodeSlot::default();
    let api = api::start(args, settings, &credentials, storage.store.clone(), &node_slot, ground).await?;
    let path = &args.kubeconfig.write_kubeconfig;
    kubeconfig::write(path, args.write_kubeconfig_mode, &settings.api_url, &credentials.ca_pem, &credentials.admin)?;
    storage::serve_etcd(settings, &credentials, storage, ground).await?;
    step.done(&settings.api_url);

    let step = Step::begin(if args.disable_agent { "Control plane" } else { "Node" });
    let agent = parts::start(args, settings, &credentials, &data_dir, &api, ground).await?;
    let client = api.admin();
    if args.disable_controller_manager {
        accounts::ensure(&client).await.context("cannot make the default service account")?;
    }
    checks::serve(args, settings, agent.as_ref(), api.store.clone(), ground)?;
    match agent {
        None => step.done("no node here: --disable-agent"),
        Some(agent) => {
            node_slot.set(agent.node.clone(), ground.agents.child("node-http"));
            cluster_dns::ensure(&client, settings).await.context("cannot register the cluster's DNS")?;
            step.detail("waiting until it is Ready");
            let name = &settings.node_name;
            let waited = tokio::time::timeout(READY_PATIENCE, agent.node.ready()).await;
            waited.with_context(|| format!("the node did not become Ready: kubectl describe node {name}"))?;
            step.done(&format!("{name} is Ready"));
        }
    }
    welcome(args, ground.clock.monotonic().saturating_sub(began));
    Ok(data_dir)
}

fn telemetry_options(args: &UpArgs) -> telemetry::Options {
    let default = if std::io::IsTerminal::is_terminal(&std::io::stderr()) { "warn" } else { "info" };
    telemetry::Options {
        format: match args.log_format {
            LogFormat::Text => telemetry::LogFormat::Text,
            LogFormat::Json => telemetry::LogFormat::Json,
        },
        filter: args.log_level.clone().unwrap_or_else(|| default.to_owned()),
        otlp_endpoint: args.otlp_endpoint.clone(),
    }
}

fn welcome(args: &UpArgs, took: Duration) {
    let path = args.kubeconfig.write_kubeconfig.display();
    println!("\nReady after {:.2} s. In another terminal:", took.as_secs_f64());
    println!("  {}", terminal::strong(&format!("export KUBECONFIG={path}")));
    if args.disable_agent {
        println!("  {}", terminal::strong("kubectl get namespaces"));
        return;
    }
    println!("  {}", terminal::strong("kubectl apply -f examples/web.yaml"));
    println!("  {}", terminal::strong("kubectl get pods -o wide"));
    println!("Ctrl-C stops the cluster and leaves its containers running; `plinth down` removes them.");
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
