//! `plinth status`: one screen of health. Each line is a check that can fail; a failed one says what to do.

use std::{path::Path, process::ExitCode, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, api::ListParams};
use serde::{Deserialize, Serialize};

use crate::{
    cli::{Output, StatusArgs},
    control::{self, Answer, Request},
    data_dir, kubeconfig, terminal,
};

/// A part that does not answer within this time is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// The outcome of one check.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do when it is not well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

impl Check {
    pub fn good(name: &str, detail: impl Into<String>) -> Self {
        Check { name: name.to_owned(), ok: true, detail: detail.into(), hint: None }
    }

    pub fn bad(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Check { name: name.to_owned(), ok: false, detail: detail.into(), hint: Some(hint.into()) }
    }
}

pub async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let clock = runtime::Clock::system();
    let deadline = clock.monotonic() + Duration::from_secs(args.wait.unwrap_or(0));
    let checks = loop {
        let checks = look(&args).await;
        if checks.iter().all(|check| check.ok) || clock.monotonic() >= deadline {
            break checks;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&checks)?),
        Output::Text => print(&checks),
    }
    Ok(if checks.iter().all(|check| check.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn look(args: &StatusArgs) -> Vec<Check> {
    let Some(pid) = data_dir::holder(&args.paths.data_dir) else {
        let detail = format!("nothing runs on {}", args.paths.data_dir.display());
        return vec![Check::bad("Process", detail, "start it: make up (or: plinth up)")];
    };
    let mut checks = vec![process(pid)];
    match tokio::time::timeout(PATIENCE, control::ask(&args.paths.run_dir, &Request::Checks)).await {
        Ok(Ok(Some(Answer::Checks(parts)))) => checks.extend(parts),
        Ok(Err(error)) => checks.push(Check::bad("Parts", format!("{error:#}"), "look at the log of plinth up")),
        _ => checks.push(Check::bad(
            "Parts",
            "the control socket does not answer",
            "it may still be starting: plinth status --wait 30; else look at the log of plinth up",
        )),
    }
    checks.extend(cluster(&args.kubeconfig.write_kubeconfig).await);
    checks
}

fn process(pid: i32) -> Check {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).map_or("?", str::trim);
    Check::good("Process", format!("pid {pid}, {resident} resident"))
}

async fn cluster(path: &Path) -> Vec<Check> {
    let client = match kubeconfig::client(path).await {
        Ok(client) => client,
        Err(error) => {
            let hint = "name the file with --write-kubeconfig, or start the cluster: make up";
            return vec![Check::bad("Kubeconfig", format!("{error:#}"), hint)];
        }
    };
    let looked = tokio::time::timeout(PATIENCE, async {
        let version = client.apiserver_version().await?;
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
        let pods = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await?;
        Ok::<_, kube::Error>((version, nodes, pods))
    });
    let (version, nodes, pods) = match looked.await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => return vec![Check::bad("API", format!("{error}"), "look at the log of plinth up")],
        Err(_) => return vec![Check::bad("API", "no answer within 5 s", "look at the log of plinth up")],
    };
    let mut checks = vec![Check::good("API", format!("{} with {}", version.git_version, path.display()))];
    checks.extend(nodes.items.iter().map(node));
    checks.push(pod_summary(&pods.items));
    checks
}

fn node(node: &Node) -> Check {
    let name = node.metadata.name.clone().unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    match conditions.and_then(|list| list.iter().find(|condition| condition.type_ == "Ready")) {
        Some(ready) if ready.status == "True" => Check::good("Node", format!("{name} is Ready")),
        Some(ready) => {
            let detail = format!("{name} is not Ready: {}", ready.message.clone().unwrap_or_default());
            Check::bad("Node", detail, format!("kubectl describe node {name}"))
        }
        None => Check::bad("Node", format!("{name} has not reported"), format!("kubectl describe node {name}")),
    }
}

fn pod_summary(pods: &[Pod]) -> Check {
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    let is_ready = |pod: &&Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|list| list.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    };
    let ended = |pod: &&Pod| matches!(phase(pod).as_str(), "Succeeded" | "Failed");
    let leaving = |pod: &&Pod| pod.metadata.deletion_timestamp.is_some();
    let live: Vec<&Pod> = pods.iter().filter(|pod| !ended(pod) && !leaving(pod)).collect();
    let finished = pods.iter().filter(ended).count();
    let ready = live.iter().copied().filter(|pod| is_ready(pod)).count();
    let detail = format!("{ready} of {} ready, {finished} finished", live.len());
    if ready == live.len() {
        return Check::good("Pods", detail);
    }
    let waiting: Vec<String> = live
        .iter()
        .filter(|pod| !is_ready(pod))
        .take(3)
        .map(|pod| {
            let meta = &pod.metadata;
            format!("{}/{}", meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""))
        })
        .collect();
    Check::bad(
        "Pods",
        format!("{detail}; waiting: {}", waiting.join(", ")),
        "kubectl get pods -A; kubectl describe pod",
    )
}

fn print(checks: &[Check]) {
    for check in checks {
        let sign = if check.ok { terminal::good("√") } else { terminal::bad("×") };
        println!("{sign} {:<12} {}", check.name, check.detail);
        if let Some(hint) = &check.hint {
            println!("  {:<12} {}", "", terminal::faint(&format!("→ {hint}")));
        }
    }
    let failed = checks.iter().filter(|check| !check.ok).count();
    match failed {
        0 => println!("\n{}", terminal::good("Everything is well.")),
        n => println!("\n{}", terminal::bad(&format!("{n} of {} checks failed.", checks.len()))),
    }
}
