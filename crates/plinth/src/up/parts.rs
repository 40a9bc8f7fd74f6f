//! Everything that uses the API: datapath, containers, node, scheduler, controllers, DNS; each unless a flag leaves it out.

use std::sync::Arc;

use anyhow::Context;
use client::{Informers, Recorder};

use super::{Ground, api::Server, credentials::Credentials, network::Network, settings::Settings};
use crate::{cli::UpArgs, data_dir::DataDir};

/// What others need of this machine's part in the cluster.
pub struct Agent {
    pub datapath: datapath::Handle,
    pub images: containers::Images,
    pub node: node::Handle,
}

/// The port that the node's object names; the API server reaches the node within the process.
const KUBELET_PORT: u16 = 10250;

pub async fn start(
    args: &UpArgs,
    settings: &Settings,
    credentials: &Credentials,
    data_dir: &DataDir,
    api: &Server,
    ground: &Ground,
) -> anyhow::Result<Option<Agent>> {
    let informers = Informers::new(api.admin(), ground.agents.child("informers"));
    let speaking_as = |user: &str| informers.speaking_as(api.component(user));
    let machine = match args.disable_agent {
        true => None,
        false => {
            let (datapath, runtime) = tokio::join!(
                start_datapath(args, settings, speaking_as("system:kube-proxy"), ground),
                open_runtime(args, data_dir, ground),
            );
            Some((datapath?, runtime?))
        }
    };
    if !args.disable_scheduler {
        start_scheduler(args, speaking_as("system:kube-scheduler"), ground)?;
    }
    if !args.disable_controller_manager {
        controllers::Service::start(controllers::Options::new(
            speaking_as("system:kube-controller-manager"),
            ground.clock.clone(),
            ground.agents.clone(),
            ground.metrics.clone(),
            credentials.ca_pem.clone(),
        ));
    }
    let Some((datapath, runtime)) = machine else { return Ok(None) };
    start_dns(args, settings, speaking_as("system:kube-dns"), ground).await?;
    let images = runtime.images().clone();
    let informers = informers.speaking_as(api.node(&settings.node_name));
    let node = start_node(args, settings, data_dir, informers, runtime, datapath.clone(), ground).await?;
    Ok(Some(Agent { datapath, images, node }))
}

fn start_scheduler(args: &UpArgs, informers: Informers, ground: &Ground) -> anyhow::Result<()> {
    let (tasks, metrics) = (ground.agents.child("scheduler"), ground.metrics.clone());
    let mut options = scheduler::Options::new(informers.client(), ground.clock.clone(), tasks, metrics);
    if let Some(path) = &args.scheduler_config {
        options.plugins = crate::scheduler_plugins();
        options.configuration = scheduler_main::configuration(path, &options.plugins).map_err(anyhow::Error::msg)?;
    }
    scheduler::start(options).context("the scheduler cannot start")?.lead();
    Ok(())
}

async fn start_datapath(
    args: &UpArgs,
    settings: &Settings,
    informers: Informers,
    ground: &Ground,
) -> anyhow::Result<datapath::Handle> {
    let options = datapath::Options {
        paths: super::datapath_paths(&args.paths),
        informers,
        node_name: settings.node_name.clone(),
        pod_cidr: settings.pod_cidr,
        cluster_cidr: args.cluster_cidr,
        metrics: ground.metrics.register(datapath::Metrics::register),
        clock: ground.clock.clone(),
        tasks: ground.agents.child("datapath"),
    };
    datapath::start(options).await.context("the datapath cannot start")
}

async fn open_runtime(args: &UpArgs, data_dir: &DataDir, ground: &Ground) -> anyhow::Result<containers::Runtime> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let options = containers::Options {
        state_dir: args.paths.run_dir.clone(),
        data_dir: data_dir.agent(),
        cgroup_root: super::CGROUP_ROOT.to_owned(),
        shim_command: vec![program.to_string_lossy().into_owned(), crate::SHIM.to_owned()],
        tasks: ground.agents.child("containers"),
        clock: ground.clock.clone(),
    };
    let folder = data_dir.agent();
    if let Err(error) = runtime::blocking(move || containers::favor_moves(&folder)).await {
        // Containers start all the same, only later.
        tracing::info!(%error, "moving processes between cgroups stays slow on this machine");
    }
    containers::Runtime::open(options).await.context("the container runtime cannot start")
}

async fn start_dns(
    args: &UpArgs,
    settings: &Settings,
    informers: Informers,
    ground: &Ground,
) -> anyhow::Result<dns::Handle> {
    let options = dns::Options {
        listen: vec![settings.dns_listen],
        zone: args.cluster_domain.clone(),
        address: Some(settings.dns_service_ip.into()),
        reverse: vec![args.cluster_cidr.into(), args.service_cidr.into()],
        resolv_conf: args.resolv_conf.clone(),
        informers,
        metrics: ground.metrics.register(dns::Metrics::register),
        clock: ground.clock.clone(),
        tasks: ground.agents.child("dns"),
    };
    dns::start(options).await.context("the DNS server cannot start")
}

async fn start_node(
    args: &UpArgs,
    settings: &Settings,
    data_dir: &DataDir,
    informers: Informers,
    runtime: containers::Runtime,
    datapath: datapath::Handle,
    ground: &Ground,
) -> anyhow::Result<node::Handle> {
    let tasks = ground.agents.child("node");
    let client = informers.client();
    let recorder = Recorder::new(client.clone(), "kubelet", &settings.node_name, ground.clock.clone(), &tasks);
    let discarded = recorder.discarded();
    ground.metrics.register(|registry| {
        registry.register("kubelet_events_discarded", "Events discarded because too many waited", discarded);
    });
    let options = node::Options {
        client,
        informers,
        runtime,
        network: Arc::new(Network(datapath)),
        node_name: settings.node_name.clone(),
        node_ips: vec![settings.node_ip.into()],
        data_dir: data_dir.agent(),
        cluster_dns: vec![settings.dns_service_ip.into()],
        cluster_domain: args.cluster_domain.clone(),
        pod_cidr: Some(settings.pod_cidr.to_string()),
        resolv_conf: args.resolv_conf.clone(),
        max_pods: args.max_pods,
        kubelet_port: KUBELET_PORT,
        recorder,
        metrics: ground.metrics.clone(),
        clock: ground.clock.clone(),
        tasks,
    };
    node::Node::start(options).await.context("the node cannot start")
}
