//! `plinth why pod NAME`: a pod's life so far, and what the scheduler thought of the nodes. It needs nothing but the API: the
//! pod, and the events about it.

mod print;
mod timeline;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use client::Protocol;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{Api, api::ListParams};

use crate::{
    cli::{Output, WhyArgs, WhyPodArgs, WhyWhat},
    kubeconfig,
};
use timeline::Timeline;

pub async fn run(args: WhyArgs) -> anyhow::Result<ExitCode> {
    let WhyWhat::Pod(args) = args.what;
    let path = kubeconfig_path(&args);
    let config = client::configuration(Some(&path), None)
        .await
        .with_context(|| format!("cannot use the kubeconfig {}; --kubeconfig names another", path.display()))?;
    let client = client::connect(&config, Protocol::Http1)?;
    let namespace = args.namespace.as_deref().unwrap_or(&config.default_namespace);
    let pod = match Api::<Pod>::namespaced(client.clone(), namespace).get(&args.name).await {
        Ok(pod) => pod,
        Err(kube::Error::Api(status)) => anyhow::bail!("Error from server ({}): {}", status.reason, status.message),
        Err(error) => return Err(error).with_context(|| format!("cannot reach {}", config.cluster_url)),
    };
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let events = Api::<Event>::namespaced(client, namespace).list(&about).await.context("cannot list events")?;
    let timeline = Timeline::of(&pod, &events.items);
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&timeline)?),
        Output::Text => print!("{}", print::text(&timeline)),
    }
    Ok(ExitCode::SUCCESS)
}

/// As kubectl finds it, and where `plinth up` writes it if nobody said otherwise.
fn kubeconfig_path(args: &WhyPodArgs) -> PathBuf {
    let from_environment = || std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    args.kubeconfig.clone().or_else(from_environment).unwrap_or_else(|| PathBuf::from(kubeconfig::DEFAULT_PATH))
}
