//! Runs one probe of one container: dials, counts, tells verdicts. It sleeps between attempts and ends when it is told
//! to; what a verdict means is the machine's affair.

pub(crate) mod grpc;
pub(crate) mod http;
mod tls;

use std::{net::IpAddr, sync::Arc, time::Duration};

use client::EventType;
use containers::ContainerId;
use k8s_openapi::{
    api::core::v1::{Container, Pod, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use runtime::CancellationToken;
use tokio::{net::TcpStream, sync::mpsc};

use super::{
    probe::{Counter, Figures, ProbeKind, Verdict},
    worker::Input,
};
use crate::{
    context::{Context, container_reference},
    metrics::ProbeLabels,
};

/// A process that has just started often listens a moment later than it is asked. So that one refused connection does
/// not cost a whole period, the first attempts without an initial delay are repeated after these pauses and not counted.
const WARM_UP: [Duration; 6] = [
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
    Duration::from_millis(320),
    Duration::from_millis(640),
];
/// Failure texts are cut for events.
const MAX_TEXT: usize = 1024;

pub struct Prober {
    pub context: Arc<Context>,
    pub pod: Arc<Pod>,
    pub container: Container,
    pub id: ContainerId,
    pub kind: ProbeKind,
    pub probe: Probe,
    pub ip: Option<IpAddr>,
    pub inbox: mpsc::Sender<Input>,
    pub stop: CancellationToken,
}

/// How one attempt went.
struct Attempt {
    healthy: bool,
    /// The connection was refused: nobody listens (yet).
    refused: bool,
    text: String,
}

impl Attempt {
    fn of(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Attempt { healthy: true, refused: false, text: String::new() },
            Err(text) => Attempt { healthy: false, refused: text.contains("connection refused"), text },
        }
    }
}

impl Prober {
    pub async fn run(self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.attempts() => {}
        }
        self.context.metrics.forget_probes(&self.labels("successful"));
    }

    async fn attempts(&self) {
        let figures = Figures::of(&self.probe);
        let mut counter = Counter::default();
        tokio::time::sleep(figures.initial_delay).await;
        let mut warm_up = if figures.initial_delay.is_zero() { WARM_UP.as_slice() } else { &[] };
        loop {
            let attempt = self.attempt(&figures).await;
            if let Some((pause, rest)) = warm_up.split_first()
                && attempt.refused
            {
                warm_up = rest;
                tokio::time::sleep(*pause).await;
                continue;
            }
            warm_up = &[];
            self.report(&attempt);
            if let Some(verdict) = counter.observe(attempt.healthy, &figures) {
                let input = Input::Probe { id: self.id.clone(), kind: self.kind, verdict };
                // The worker ends before its inbox closes; then nobody needs the verdict.
                if self.inbox.send(input).await.is_err() {
                    return;
                }
                let over = match self.kind {
                    ProbeKind::Startup => true,
                    ProbeKind::Liveness => verdict == Verdict::Failure,
                    ProbeKind::Readiness => false,
                };
                if over {
                    return;
                }
            }
            tokio::time::sleep(figures.period).await;
        }
    }

    fn report(&self, attempt: &Attempt) {
        let result = if attempt.healthy { "successful" } else { "failed" };
        self.context.metrics.probes.get_or_create(&self.labels(result)).inc();
        if attempt.healthy {
            return;
        }
        let text: String = attempt.text.chars().take(MAX_TEXT).collect();
        let message = format!("{} probe failed: {text}", self.kind.title());
        let about = container_reference(&self.pod, &self.container);
        self.context.recorder.event(&about, EventType::Warning, "Unhealthy", message);
    }

    fn labels(&self, result: &'static str) -> ProbeLabels {
        ProbeLabels {
            probe_type: self.kind.title(),
            result,
            container: self.container.name.clone(),
            pod: self.pod.metadata.name.clone().unwrap_or_default(),
            namespace: self.pod.metadata.namespace.clone().unwrap_or_default(),
        }
    }

    async fn attempt(&self, figures: &Figures) -> Attempt {
        let timeout = figures.timeout;
        let dialled = async {
            if let Some(exec) = &self.probe.exec {
                return self.exec(exec.command.as_deref().unwrap_or_default(), timeout).await;
            }
            if let Some(get) = &self.probe.http_get {
                let target = http::Target::of(get, &self.container, self.ip).ok_or("unknown port or host")?;
                return http::get(&target, timeout).await.map(|_| ());
            }
            if let Some(tcp) = &self.probe.tcp_socket {
                let port = port_of(&tcp.port, &self.container).ok_or("unknown port")?;
                let host = host_of(tcp.host.as_deref(), self.ip).ok_or("the pod has no address")?;
                let address = http::join(&host, port);
                let dial = tokio::time::timeout(timeout, TcpStream::connect(address.as_str())).await;
                return match dial {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(http::dial_error(&address, &error)),
                    Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
                };
            }
            if let Some(grpc) = &self.probe.grpc {
                let port = u16::try_from(grpc.port).map_err(|_| "port out of range")?;
                let host = host_of(None, self.ip).ok_or("the pod has no address")?;
                return grpc::check(&http::join(&host, port), grpc.service.as_deref().unwrap_or_default(), timeout)
                    .await;
            }
            Ok(())
        };
        Attempt::of(dialled.await)
    }

    async fn exec(&self, argv: &[String], timeout: Duration) -> Result<(), String> {
        match self.context.runtime.exec_sync(&self.id, argv, timeout).await {
            Ok(output) if output.exit_code == 0 => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.output).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A port by number or by the name that the container gives it.
pub(crate) fn port_of(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_deref() == Some(name));
            match named {
                Some(port) => u16::try_from(port.container_port).ok(),
                None => name.parse().ok(),
            }
        }
    }
}

/// The host of a probe: as it says, or the pod.
pub(crate) fn host_of(host: Option<&str>, ip: Option<IpAddr>) -> Option<String> {
    match host.filter(|host| !host.is_empty()) {
        Some(host) => Some(host.to_owned()),
        None => ip.map(|ip| ip.to_string()),
    }
}
