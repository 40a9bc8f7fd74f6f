//! Resource use of pods as kubelet tells it: `/stats/summary` (what `kubectl top` and metrics-server's older versions
//! read) and `/metrics/resource` (what metrics-server reads).

use std::fmt::Write as _;

use containers::Usage;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use hyper::Response;
use serde_json::{Value, json};

use super::{Body, Server, json as json_answer, text};

/// One pod's use: namespace, name, uid, the whole, and each container by name.
struct PodUse {
    namespace: String,
    name: String,
    uid: String,
    pod: Usage,
    containers: Vec<(String, Usage)>,
}

impl Server {
    pub(super) async fn summary(&self) -> Response<Body> {
        let now = self.shared.streaming.clock.now().to_string();
        let usage = |usage: &Usage| {
            json!({
                "cpu": { "time": now, "usageCoreNanoSeconds": usage.cpu_ns },
                "memory": {
                    "time": now,
                    "usageBytes": usage.memory_bytes,
                    "workingSetBytes": usage.memory_working_set_bytes,
                },
            })
        };
        let mut pods = Vec::new();
        for used in self.usage().await {
            let mut pod = usage(&used.pod);
            pod["podRef"] = json!({ "name": used.name, "namespace": used.namespace, "uid": used.uid });
            pod["process_stats"] = json!({ "process_count": used.pod.pids });
            let named = |(name, of): &(String, Usage)| {
                let mut container = usage(of);
                container["name"] = Value::from(name.clone());
                container
            };
            pod["containers"] = used.containers.iter().map(named).collect();
            pods.push(pod);
        }
        json_answer(&json!({ "node": { "nodeName": self.shared.node_name }, "pods": pods }))
    }

    pub(super) async fn resource_metrics(&self) -> Response<Body> {
        let (mut cpu, mut memory, mut pod_cpu, mut pod_memory) =
            (String::new(), String::new(), String::new(), String::new());
        for used in self.usage().await {
            let pod = format!("namespace=\"{}\",pod=\"{}\"", used.namespace, used.name);
            line(&mut pod_cpu, "pod_cpu_usage_seconds_total", &pod, used.pod.cpu_ns as f64 / 1e9);
            line(&mut pod_memory, "pod_memory_working_set_bytes", &pod, used.pod.memory_working_set_bytes as f64);
            for (name, of) in &used.containers {
                let labels = format!("container=\"{name}\",{pod}");
                line(&mut cpu, "container_cpu_usage_seconds_total", &labels, of.cpu_ns as f64 / 1e9);
                line(&mut memory, "container_memory_working_set_bytes", &labels, of.memory_working_set_bytes as f64);
            }
        }
        let mut body = String::new();
        for (name, kind, lines) in [
            ("container_cpu_usage_seconds_total", "counter", cpu),
            ("container_memory_working_set_bytes", "gauge", memory),
            ("pod_cpu_usage_seconds_total", "counter", pod_cpu),
            ("pod_memory_working_set_bytes", "gauge", pod_memory),
        ] {
            let _ = write!(body, "# TYPE {name} {kind}\n{lines}");
        }
        let mut response = text(StatusCode::OK, body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
        response
    }

    async fn usage(&self) -> Vec<PodUse> {
        let mut all = Vec::new();
        for entry in self.shared.directory.list() {
            let Some(sandbox) = &entry.sandbox else { continue };
            let Ok(stats) = self.shared.streaming.runtime.sandbox_stats(sandbox).await else { continue };
            let named = |(id, usage): &(containers::ContainerId, Usage)| {
                let (name, _) = entry.containers.iter().find(|(_, state)| state.current.as_ref() == Some(id))?;
                Some((name.clone(), *usage))
            };
            all.push(PodUse {
                namespace: entry.namespace.clone(),
                name: entry.name.clone(),
                uid: entry.uid.clone(),
                pod: stats.pod,
                containers: stats.containers.iter().filter_map(named).collect(),
            });
        }
        all
    }
}

fn line(to: &mut String, name: &str, labels: &str, value: f64) {
    // Writing to a String cannot fail.
    let _ = writeln!(to, "{name}{{{labels}}} {value}");
}
