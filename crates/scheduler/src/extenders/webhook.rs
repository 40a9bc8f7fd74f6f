//! One extender: its connection, its verbs, and the time and size that an answer may take.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use client::{
    Client, Protocol, connect,
    kube::{Config, client::Body},
};
use http::{Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sched::{Extender, Reservation, extender::Eviction};

use super::{
    nodes::Nodes,
    wire::{self, Filtered, Names},
};
use crate::profiles::ProfileError;

/// How long a call may take when the configuration does not say it; kube-scheduler's.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer: 5,000 nodes of 6 KiB each.
const MAX_ANSWER_BYTES: usize = 32 << 20;

pub(super) struct Webhook {
    pub facts: Extender,
    pub weight: i64,
    pub ignorable: bool,
    /// It knows nodes by their names, and pods by their uids.
    pub node_cache_capable: bool,
    verbs: Verbs,
    timeout: Duration,
    client: Client,
}

/// The paths below the extender's own; empty: it does not do that.
struct Verbs {
    filter: String,
    prioritize: String,
    preempt: String,
    bind: String,
}

impl Webhook {
    pub fn new(given: &sched_config::Extender) -> Result<Self, ProfileError> {
        let error = |reason: String| ProfileError::Extender { url: given.url_prefix.clone(), reason };
        let client = client(given).map_err(error)?;
        Ok(Webhook {
            facts: Extender {
                name: given.url_prefix.clone(),
                resources: given.managed_resources.iter().map(|resource| resource.name.as_str().into()).collect(),
                nodes: !given.filter_verb.is_empty() || !given.prioritize_verb.is_empty(),
                victims: !given.preempt_verb.is_empty(),
            },
            weight: given.weight,
            ignorable: given.ignorable,
            node_cache_capable: given.node_cache_capable,
            verbs: Verbs {
                filter: given.filter_verb.clone(),
                prioritize: given.prioritize_verb.clone(),
                preempt: given.preempt_verb.clone(),
                bind: given.bind_verb.clone(),
            },
            timeout: Some(given.http_timeout.get()).filter(|time| !time.is_zero()).unwrap_or(DEFAULT_TIMEOUT),
            client,
        })
    }

    /// Whether it must be sent nodes in full.
    pub fn needs_nodes(&self) -> bool {
        self.facts.nodes && !self.node_cache_capable
    }

    pub fn binds(&self) -> bool {
        !self.verbs.bind.is_empty()
    }

    pub async fn filter(&self, pod: &str, nodes: &[Arc<str>], objects: &Nodes) -> Result<Filtered, String> {
        if self.verbs.filter.is_empty() {
            return Ok(Filtered { nodes: nodes.to_vec(), failed: Names::default() });
        }
        let answer = self.send(&self.verbs.filter, self.about(pod, nodes, objects)).await?;
        wire::filtered(&self.facts.name, &answer, nodes)
    }

    /// The priorities that it gives, by node.
    pub async fn prioritize(&self, pod: &str, nodes: &[Arc<str>], objects: &Nodes) -> Result<Names<i64>, String> {
        if self.verbs.prioritize.is_empty() {
            return Ok(Names::default());
        }
        let answer = self.send(&self.verbs.prioritize, self.about(pod, nodes, objects)).await?;
        wire::priorities(&answer)
    }

    fn about(&self, pod: &str, nodes: &[Arc<str>], objects: &Nodes) -> String {
        if self.node_cache_capable {
            return wire::arguments_by_name(pod, nodes);
        }
        // One that has gone meanwhile is not chosen either.
        let objects: Vec<Arc<str>> = nodes.iter().filter_map(|name| objects.get(name)).collect();
        wire::arguments(pod, &objects)
    }

    /// `objects`: the pods in full, by uid, if it does not know them.
    pub async fn preempt(
        &self,
        pod: &str,
        evictions: &[Eviction],
        objects: &BTreeMap<Arc<str>, String>,
    ) -> Result<Vec<Eviction>, String> {
        let body = match self.node_cache_capable {
            true => wire::victims_by_uid(pod, evictions),
            false => wire::victims(pod, evictions, objects)?,
        };
        let answer = wire::evictions(&self.send(&self.verbs.preempt, body).await?)?;
        match answer.iter().find(|eviction| eviction.pods.is_empty()) {
            Some(empty) if !self.ignorable => Err(format!("expected at least one victim pod on node {:?}", empty.node)),
            _ => Ok(answer.into_iter().filter(|eviction| !eviction.pods.is_empty()).collect()),
        }
    }

    pub async fn bind(&self, reservation: &Reservation) -> Result<(), String> {
        let answer = self.send(&self.verbs.bind, wire::binding(reservation)).await?;
        wire::error_of(&answer)
    }

    async fn send(&self, verb: &str, body: String) -> Result<Vec<u8>, String> {
        let path = format!("/{}", verb.trim_start_matches('/'));
        let request = Request::post(path).header(CONTENT_TYPE, "application/json").body(Body::from(body.into_bytes()));
        let request = request.map_err(|error| self.failed(verb, &error.to_string()))?;
        let answered = tokio::time::timeout(self.timeout, async {
            let answer = self.client.send(request).await.map_err(|error| error_chain(&error))?;
            let status = answer.status();
            if status != StatusCode::OK {
                return Err(format!("code {}", status.as_u16()));
            }
            let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
            body.map(|body| body.to_bytes().to_vec()).map_err(|error| error.to_string())
        });
        match answered.await {
            Ok(answer) => answer.map_err(|error| self.failed(verb, &error)),
            Err(_) => Err(self.failed(verb, &format!("no answer within {:?}", self.timeout))),
        }
    }

    fn failed(&self, verb: &str, error: &str) -> String {
        format!("failed {verb} with extender at URL {}: {error}", self.facts.name)
    }
}

/// The error and what caused it: what a library says first is often not what a person needs.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

fn client(given: &sched_config::Extender) -> Result<Client, String> {
    let url = given.url_prefix.trim_end_matches('/');
    let mut config = Config::new(url.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?);
    config.proxy_url = None;
    let mut authority = false;
    if let Some(tls) = &given.tls_config {
        config.accept_invalid_certs = tls.insecure;
        config.tls_server_name = Some(tls.server_name.clone()).filter(|name| !name.is_empty());
        if let Some(pem) = given_or_read(&tls.ca_data.0, &tls.ca_file)? {
            authority = true;
            config.root_cert = Some(certificates(&pem)?);
        }
        let certificate = given_or_read(&tls.cert_data.0, &tls.cert_file)?;
        let key = given_or_read(&tls.key_data.0, &tls.key_file)?;
        if let (Some(certificate), Some(key)) = (certificate, key) {
            config.auth_info.client_certificate_data = Some(wire::base64(&certificate));
            config.auth_info.client_key_data = Some(wire::base64(&key).into());
        }
    }
    // As kube-scheduler has it: HTTPS without an authority trusts everybody.
    config.accept_invalid_certs |= given.enable_https && !authority;
    connect(&config, Protocol::Http1).map_err(|error| error.to_string())
}

fn given_or_read(data: &[u8], file: &str) -> Result<Option<Vec<u8>>, String> {
    match (data.is_empty(), file.is_empty()) {
        (false, _) => Ok(Some(data.to_vec())),
        (true, true) => Ok(None),
        (true, false) => std::fs::read(file).map(Some).map_err(|error| format!("{file}: {error}")),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem).map(|found| found.map(|der| der.to_vec()));
    certificates.collect::<Result<_, _>>().map_err(|error| format!("the authority's certificate: {error}"))
}
