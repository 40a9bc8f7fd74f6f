//! `plinth demo`: the example by itself. Applies examples/web.yaml, shows pods starting and requests answered, rolls an
//! update through under load, and sums up. Starts a cluster of its own where none runs, and takes it down again.

mod cluster;
mod load;

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use comfy_table::{Table, presets};
use futures::StreamExt;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod, Service},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use runtime::{Clock, Tasks};
use serde::de::DeserializeOwned;
use serde_json::json;

use self::load::{Load, Report};
use crate::{cli::DemoArgs, kubeconfig, terminal};

/// The example, as it lies in the repository.
const MANIFEST: &str = include_str!("../../../examples/web.yaml");
const NAMESPACE: &str = "default";
const NAME: &str = "web";
const NEXT_IMAGE: &str = "plinth.io/demo:v2";
/// For a step of the demo, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let own = cluster::ensure(&args).await?;
    let client = kubeconfig::client(&args.kubeconfig.write_kubeconfig).await?;
    let tasks = Tasks::root();
    let interrupted = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    let result = tokio::select! {
        result = play(&client, &args, &tasks) => result,
        () = interrupted => Err(anyhow::anyhow!("interrupted")),
    };
    tasks.stop();
    if !args.keep {
        remove(&client).await;
    }
    if let Some(own) = own {
        own.stop(args.keep).await?;
    }
    result
}

async fn play(client: &Client, args: &DemoArgs, tasks: &Tasks) -> anyhow::Result<ExitCode> {
    let clock = Clock::system();
    println!(
        "{}",
        terminal::strong("A Deployment of three, a Service, a ConfigMap mounted as a file (examples/web.yaml)")
    );
    let began = clock.monotonic();
    let replicas = apply(client).await?;
    watch_pods(client, replicas).await?;
    let started = clock.monotonic() - began;

    let service = Api::<Service>::namespaced(client.clone(), NAMESPACE).get(NAME).await?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).context("the Service has no cluster IP")?;
    println!("\n{}", terminal::strong(&format!("Requests to the Service's address, http://{address}")));
    let load = Load::start(format!("{address}:80"), clock.clone(), tasks);
    show(&load, Duration::from_secs(args.seconds)).await;
    let steady = load.take();

    println!("\n{}", terminal::strong(&format!("The same while an update to {NEXT_IMAGE} rolls through")));
    let began = clock.monotonic();
    let deployments = Api::<Deployment>::namespaced(client.clone(), NAMESPACE);
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": NAME, "image": NEXT_IMAGE}]}}}});
    deployments.patch(NAME, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    let rollout = wait_for_rollout(&deployments, replicas);
    tokio::pin!(rollout);
    let bars = load::Bars::new(&load);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            result = &mut rollout => { result?; break }
            _ = tick.tick() => bars.draw(&load),
        }
    }
    let rolled = clock.monotonic() - began;
    bars.finish();
    show(&load, Duration::from_secs(args.seconds.min(2))).await;
    let update = load.stop().await;

    println!("\n{}", summary(started, &steady, rolled, &update));
    match steady.failed + update.failed {
        0 => Ok(ExitCode::SUCCESS),
        n => bail!("{n} requests failed; the first: {}", steady.error.or(update.error).unwrap_or_default()),
    }
}

/// Applies the example and returns how many pods it asks for.
async fn apply(client: &Client) -> anyhow::Result<i32> {
    let documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(MANIFEST).context("the example is not valid YAML")?;
    let mut replicas = 0;
    for document in documents {
        match document["kind"].as_str() {
            Some("ConfigMap") => put(Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE), document).await?,
            Some("Service") => put(Api::<Service>::namespaced(client.clone(), NAMESPACE), document).await?,
            Some("Deployment") => {
                replicas = document["spec"]["replicas"].as_i64().and_then(|n| n.try_into().ok()).unwrap_or(1);
                put(Api::<Deployment>::namespaced(client.clone(), NAMESPACE), document).await?;
            }
            kind => bail!("the example holds a {kind:?}, which the demo does not know"),
        }
    }
    Ok(replicas)
}

/// Creates the object, or brings an existing one to what is wanted.
async fn put<K>(api: Api<K>, document: serde_json::Value) -> anyhow::Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(document.clone())?;
    match api.create(&PostParams::default(), &object).await {
        Err(error) if client::is_already_exists(&error) => {
            api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(document)).await?;
        }
        result => drop(result?),
    }
    Ok(())
}

/// Shows the pods live until all are ready.
async fn watch_pods(client: &Client, wanted: i32) -> anyhow::Result<()> {
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let screen = MultiProgress::new();
    let style = ProgressStyle::with_template("  {spinner:.cyan} {prefix:<24} {msg}").expect("the template is valid");
    let mut lines: BTreeMap<String, ProgressBar> = BTreeMap::new();
    let mut ready: BTreeMap<String, bool> = BTreeMap::new();
    let stream = watcher(pods, watcher::Config::default().labels("app=web")).default_backoff().applied_objects();
    futures::pin_mut!(stream);
    let done = async {
        while let Some(event) = stream.next().await {
            let Ok(pod) = event else { continue };
            let name = pod.name_any();
            let (text, is_ready) = describe(&pod);
            let line = lines.entry(name.clone()).or_insert_with(|| {
                let line = screen.add(ProgressBar::new_spinner().with_style(style.clone()).with_prefix(name.clone()));
                line.enable_steady_tick(Duration::from_millis(100));
                line
            });
            line.set_message(text.clone());
            if is_ready && ready.insert(name.clone(), true).is_none() {
                line.finish_with_message(terminal::good(&text));
                if screen.is_hidden() {
                    println!("  {name} {text}");
                }
            }
            if ready.len() >= usize::try_from(wanted).unwrap_or(0) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, done)
        .await
        .context("the pods did not become ready in time: kubectl describe pods -l app=web")
}

fn describe(pod: &Pod) -> (String, bool) {
    let status = pod.status.clone().unwrap_or_default();
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let is_ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let phase = waiting.or(status.phase).unwrap_or_else(|| "Pending".into());
    let address = status.pod_ip.unwrap_or_default();
    (format!("{phase:<18} {address}{}", if is_ready { "  ready" } else { "" }), is_ready)
}

async fn wait_for_rollout(deployments: &Api<Deployment>, replicas: i32) -> anyhow::Result<()> {
    let done = async {
        loop {
            let deployment = deployments.get(NAME).await?;
            let status = deployment.status.unwrap_or_default();
            if status.observed_generation >= deployment.metadata.generation
                && status.updated_replicas == Some(replicas)
                && status.available_replicas == Some(replicas)
                && status.replicas == Some(replicas)
            {
                return Ok::<_, kube::Error>(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    Ok(tokio::time::timeout(PATIENCE, done).await.context("the update did not finish in time")??)
}

async fn show(load: &Load, time: Duration) {
    let bars = load::Bars::new(load);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let end = tokio::time::sleep(time);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = tick.tick() => bars.draw(load),
        }
    }
    bars.finish();
}

fn summary(started: Duration, steady: &Report, rolled: Duration, update: &Report) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_header(["", "steady", "during the update"]);
    let took = |took: Duration| format!("{:.2} s", took.as_secs_f64());
    table.add_row(["apply → pods ready / update done".to_owned(), took(started), took(rolled)]);
    table.add_row(["requests answered".to_owned(), steady.answered.to_string(), update.answered.to_string()]);
    table.add_row(["requests failed".to_owned(), steady.failed.to_string(), update.failed.to_string()]);
    let rate = |report: &Report| format!("{:.0}", report.answered as f64 / report.time.as_secs_f64().max(0.001));
    table.add_row(["per second".to_owned(), rate(steady), rate(update)]);
    let times = |report: &Report| {
        let ms = |q: f64| report.quantile(q).as_secs_f64() * 1e3;
        format!("{:.2} / {:.2} ms", ms(0.5), ms(0.99))
    };
    table.add_row(["latency p50 / p99".to_owned(), times(steady), times(update)]);
    let spread =
        |report: &Report| report.by_pod.iter().map(|(pod, n)| format!("{pod}: {n}")).collect::<Vec<_>>().join("\n");
    table.add_row(["answered by".to_owned(), spread(steady), spread(update)]);
    table
}

async fn remove(client: &Client) {
    let params = DeleteParams::background();
    let _ = Api::<Service>::namespaced(client.clone(), NAMESPACE).delete(NAME, &params).await;
    let _ = Api::<Deployment>::namespaced(client.clone(), NAMESPACE).delete(NAME, &params).await;
    let _ = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE).delete(NAME, &params).await;
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let gone = async {
        let selector = ListParams::default().labels("app=web");
        while pods.list(&selector).await.is_ok_and(|list| !list.items.is_empty()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, gone).await;
}
