//! The command line. Flags carry k3s's names where k3s has them.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::Ipv4Net;

const ABOUT: &str = "A whole Kubernetes-compatible cluster in one process";
const LONG_ABOUT: &str = "\
A whole Kubernetes-compatible cluster in one process: an etcd-compatible store, the API server, scheduler, controllers, \
node agent, service load balancing in eBPF and DNS. Use it with kubectl, etcdctl and client libraries as they are.

  plinth up               start the cluster here (root; Ctrl-C stops it, containers go on)
  plinth status           one screen of health
  plinth demo             run the example and watch it answer
  plinth why pod NAME     say what happened to a pod, and what the scheduler thought of the nodes
  plinth down             stop it and remove what it left on this machine
  plinth store            run the store alone, in place of etcd and with its flags: plinth store --help
  plinth scheduler        run the scheduler alone, in place of kube-scheduler and with its flags: plinth scheduler --help";

#[derive(Debug, Parser)]
#[command(name = "plinth", version, args_override_self = true, about = ABOUT, long_about = LONG_ABOUT, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the cluster on this machine and stay in the foreground.
    #[command(visible_alias = "server")]
    Up(Box<UpArgs>),
    /// Stop the cluster and remove its containers, mounts, namespaces, cgroups, network devices and BPF programs.
    Down(DownArgs),
    /// Show the health of every part; exits with 1 when something is wrong.
    Status(StatusArgs),
    /// Run the example: pods start, requests are answered, an update rolls through.
    Demo(DemoArgs),
    /// Import, list or remove container images.
    Image(ImageArgs),
    /// Say why a pod is where it is, or is not: what happened to it, and what the scheduler thought of the nodes.
    Why(WhyArgs),
}

/// Where things are. Shared by all commands.
#[derive(Clone, Debug, Args)]
pub struct Paths {
    /// Folder for the cluster's state.
    #[arg(short, long, value_name = "DIR", env = "PLINTH_DATA_DIR", default_value = "/var/lib/plinth")]
    pub data_dir: PathBuf,
    /// Folder for sockets, namespaces and container state that a reboot may clear.
    #[arg(long, value_name = "DIR", env = "PLINTH_RUN_DIR", default_value = "/run/plinth")]
    pub run_dir: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct KubeconfigPath {
    /// Where the administrator's kubeconfig is.
    #[arg(long, value_name = "FILE", env = "PLINTH_KUBECONFIG_OUTPUT", default_value = crate::kubeconfig::DEFAULT_PATH)]
    pub write_kubeconfig: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub paths: Paths,
    /// Read flags from this YAML file: the same names without dashes in front. Flags given here win.
    #[arg(short, long, value_name = "FILE", env = "PLINTH_CONFIG_FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub kubeconfig: KubeconfigPath,
    /// File mode of the kubeconfig, in octal.
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = octal)]
    pub write_kubeconfig_mode: u32,

    /// Address on which the API listens. Default: loopback and, with a node, the pod network only.
    #[arg(long, value_name = "ADDRESS", help_heading = "API server")]
    pub bind_address: Option<IpAddr>,
    /// Port of the API.
    #[arg(long, value_name = "PORT", default_value_t = 6443, help_heading = "API server")]
    pub https_listen_port: u16,
    /// Address that the API is advertised under to pods. Default: the pod network's gateway; without a node, the node
    /// address.
    #[arg(long, value_name = "ADDRESS", help_heading = "API server")]
    pub advertise_address: Option<Ipv4Addr>,
    /// More names or addresses for the API's certificate.
    #[arg(long, value_name = "NAME", help_heading = "API server")]
    pub tls_san: Vec<String>,
    /// Ports for Services of type NodePort.
    #[arg(long, value_name = "FIRST-LAST", default_value = "30000-32767", value_parser = port_range, help_heading = "API server")]
    pub service_node_port_range: (u16, u16),

    /// Use this etcd instead of the built-in store (comma-separated URLs).
    #[arg(long, visible_alias = "etcd-servers", value_name = "URL", value_delimiter = ',', help_heading = "Store")]
    pub datastore_endpoint: Vec<String>,
    /// CA that signed the etcd's certificate.
    #[arg(long, visible_alias = "etcd-cafile", value_name = "FILE", help_heading = "Store")]
    pub datastore_cafile: Option<PathBuf>,
    /// Client certificate for the etcd.
    #[arg(long, visible_alias = "etcd-certfile", value_name = "FILE", help_heading = "Store")]
    pub datastore_certfile: Option<PathBuf>,
    /// Key of the client certificate for the etcd.
    #[arg(long, visible_alias = "etcd-keyfile", value_name = "FILE", help_heading = "Store")]
    pub datastore_keyfile: Option<PathBuf>,
    /// Raft groups that the built-in store divides its keys among, all in one log; chosen when it begins.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64), help_heading = "Store")]
    pub shards: u32,
    /// Which keys are not group 0's from the beginning. Default: the kinds of objects that are written most have groups
    /// of their own.
    #[arg(long, value_name = "PREFIX=GROUP", value_delimiter = ',', help_heading = "Store")]
    pub shard_map: Vec<store_api::Shard>,
    /// Address on which the built-in store speaks etcd v3 (TLS with client certificates); `none` turns it off.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:2379", help_heading = "Store")]
    pub etcd_listen_address: String,

    /// Name of this node. Default: the host name.
    #[arg(long, value_name = "NAME", env = "PLINTH_NODE_NAME", help_heading = "Node")]
    pub node_name: Option<String>,
    /// Address of this node. Default: that of the interface with the default route.
    #[arg(short = 'i', long, value_name = "ADDRESS", help_heading = "Node")]
    pub node_ip: Option<Ipv4Addr>,
    /// Pods that this node takes.
    #[arg(long, value_name = "COUNT", default_value_t = 110, help_heading = "Node")]
    pub max_pods: u32,

    /// No node on this machine: no containers, no pod network, no DNS. Needs no root where the folders are writable.
    #[arg(long, help_heading = "Components")]
    pub disable_agent: bool,
    /// No scheduler: another one places pods, or nobody does.
    #[arg(long, help_heading = "Components")]
    pub disable_scheduler: bool,
    /// A KubeSchedulerConfiguration for the scheduler: profiles with their plugins, also Wasm plugins. What it says of clients
    /// and of leader election has no effect here.
    #[arg(long, value_name = "FILE", conflicts_with = "disable_scheduler", help_heading = "Components")]
    pub scheduler_config: Option<PathBuf>,
    /// No controllers: another controller manager runs them, or nobody does.
    #[arg(long, help_heading = "Components")]
    pub disable_controller_manager: bool,

    /// Addresses for pods.
    #[arg(long, value_name = "CIDR", default_value = "10.42.0.0/16", help_heading = "Network")]
    pub cluster_cidr: Ipv4Net,
    /// Addresses for Services.
    #[arg(long, value_name = "CIDR", default_value = "10.43.0.0/16", help_heading = "Network")]
    pub service_cidr: Ipv4Net,
    /// Address of the cluster's DNS. Default: the tenth of the service addresses.
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    pub cluster_dns: Option<Ipv4Addr>,
    /// Domain of the cluster.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", help_heading = "Network")]
    pub cluster_domain: String,
    /// Resolver configuration for names outside the cluster.
    #[arg(
        long,
        value_name = "FILE",
        env = "PLINTH_RESOLV_CONF",
        default_value = "/etc/resolv.conf",
        help_heading = "Network"
    )]
    pub resolv_conf: PathBuf,

    /// Log filter, for example `info` or `warn,store=debug`. Default: `warn` on a terminal, else `info`.
    #[arg(long, value_name = "FILTER", env = "PLINTH_LOG", help_heading = "Logs and traces")]
    pub log_level: Option<String>,
    /// Log format.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text, help_heading = "Logs and traces")]
    pub log_format: LogFormat,
    /// Export a span per request to this OTLP/gRPC collector.
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT", help_heading = "Logs and traces")]
    pub otlp_endpoint: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, Args)]
pub struct DownArgs {
    #[command(flatten)]
    pub paths: Paths,
    #[command(flatten)]
    pub kubeconfig: KubeconfigPath,
    /// Also remove the data folder and the kubeconfig: every object and image is gone.
    #[arg(long)]
    pub purge: bool,
}

#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub paths: Paths,
    #[command(flatten)]
    pub kubeconfig: KubeconfigPath,
    /// Output for machines.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Wait so many seconds for everything to be well.
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub struct WhyArgs {
    #[command(subcommand)]
    pub what: WhyWhat,
}

#[derive(Clone, Debug, Subcommand)]
pub enum WhyWhat {
    /// A pod: from its creation until it runs, attempt by attempt.
    #[command(visible_aliases = ["po", "pods"])]
    Pod(WhyPodArgs),
}

#[derive(Clone, Debug, Args)]
pub struct WhyPodArgs {
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The pod's namespace; without it, the kubeconfig's.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Kubeconfig of the cluster, which may be any Kubernetes cluster with Plinth's scheduler. Without it, $KUBECONFIG, and
    /// then the one that plinth up has written.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Output for machines.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    #[command(flatten)]
    pub paths: Paths,
    #[command(flatten)]
    pub kubeconfig: KubeconfigPath,
    /// Seconds of load before and during the update.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Leave the example running at the end.
    #[arg(long)]
    pub keep: bool,
}

#[derive(Clone, Debug, Args)]
pub struct ImageArgs {
    #[command(flatten)]
    pub paths: Paths,
    #[command(subcommand)]
    pub command: ImageCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ImageCommand {
    /// Add the images of a tarball (docker save or OCI layout) or of an OCI layout folder.
    Import {
        /// The tarball or folder.
        file: PathBuf,
    },
    /// List images.
    #[command(visible_alias = "list")]
    Ls {
        /// Output for machines.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Remove images by name or digest.
    Rm {
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Pull an image from its registry.
    Pull { image: String },
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("expected an octal file mode such as 600".to_owned()),
    }
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let parse = || {
        let (first, last) = text.split_once('-')?;
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    match parse() {
        Some((first, last)) if first > 0 && first <= last => Ok((first, last)),
        _ => Err("expected two ports such as 30000-32767".to_owned()),
    }
}
