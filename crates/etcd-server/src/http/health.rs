//! `/health`, `/livez` and `/readyz` with etcd's checks, texts and figures.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, RawQuery},
    http::{
        Method, StatusCode,
        header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
    routing::any,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use store_api::{AlarmKind, RangeRequest, StoreError};

use super::{method_not_allowed, not_found, refusal};
use crate::{alarms, codes, shared::Shared};

/// How long the read of a check may take: etcd's limit of a request with its default election timeout.
const READ_LIMIT: Duration = Duration::from_secs(7);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

/// A path and what must hold there.
#[derive(Clone, Copy)]
struct Probe {
    name: &'static str,
    checks: &'static [Check],
}

const LIVEZ: Probe = Probe { name: "livez", checks: &[Check::SerializableRead] };
const READYZ: Probe = Probe {
    name: "readyz",
    checks: &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner],
};

pub(super) fn router(shared: Arc<Shared>, metrics: Option<&telemetry::Metrics>) -> Router {
    let health = Health { shared, figures: Figures::default() };
    if let Some(metrics) = metrics {
        health.figures.register(metrics);
    }
    let overall = health.clone();
    let mut router = Router::new().route(
        "/health",
        any(async move |method: Method, RawQuery(query): RawQuery| overall.health(&method, &Query::read(query)).await),
    );
    for probe in [LIVEZ, READYZ] {
        let (all, one) = (health.clone(), health.clone());
        router = router
            .route(
                &format!("/{}", probe.name),
                any(async move |method: Method, RawQuery(query): RawQuery| {
                    let query = Query::read(query);
                    let checks = probe.checks.iter().copied().filter(|check| !query.excludes(check.name()));
                    all.probe(&method, probe, checks.collect(), &query).await
                }),
            )
            .route(
                &format!("/{}/{{check}}", probe.name),
                any(async move |method: Method, Path(name): Path<String>, RawQuery(query): RawQuery| {
                    match probe.checks.iter().find(|check| check.name() == name) {
                        Some(check) => one.probe(&method, probe, vec![*check], &Query::read(query)).await,
                        None => not_found(),
                    }
                }),
            );
    }
    router
}

#[derive(Clone)]
struct Health {
    shared: Arc<Shared>,
    figures: Figures,
}

impl Health {
    async fn health(&self, method: &Method, query: &Query) -> Response {
        if method != Method::GET {
            return method_not_allowed();
        }
        match self.find_fault(query).await {
            Ok(()) => {
                self.figures.success.inc();
                let body = r#"{"health":"true","reason":""}"#;
                ([(CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
            }
            Err(reason) => {
                self.figures.failures.inc();
                tracing::warn!(reason, "the member is not healthy");
                // As Go writes a string in JSON.
                let body = format!(r#"{{"health":"false","reason":{}}}"#, serde_json::Value::from(reason));
                refusal(StatusCode::SERVICE_UNAVAILABLE, &body)
            }
        }
    }

    async fn find_fault(&self, query: &Query) -> Result<(), String> {
        let range_error = |text: String| format!("RANGE ERROR:{text}");
        let serializable = query.value("serializable") == Some("true");
        let standing =
            alarms::standing(&self.shared).await.map_err(|status| range_error(status.message().to_owned()))?;
        let mut counted = standing.iter().map(|alarm| alarms::name(alarm.kind)).filter(|name| !query.excludes(name));
        if let Some(name) = counted.next() {
            return Err(format!("ALARM {name}"));
        }
        if !serializable && self.shared.status().await.is_ok_and(|status| status.leader == 0) {
            return Err("RAFT NO LEADER".to_owned());
        }
        self.read(serializable).await.map_err(range_error)
    }

    async fn probe(&self, method: &Method, probe: Probe, checks: Vec<Check>, query: &Query) -> Response {
        if method != Method::GET {
            return method_not_allowed();
        }
        let (mut report, mut failed) = (String::new(), false);
        for check in checks {
            let name = check.name();
            let result = self.check(check).await;
            self.figures.count(probe.name, name, result.is_ok());
            match result {
                Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
                Err(reason) => report.push_str(&format!("[-]{name} failed: {reason}\n")),
            }
            failed |= report.lines().last().is_some_and(|line| line.starts_with("[-]"));
        }
        if failed {
            tracing::warn!(probe = probe.name, report, "a health check failed");
            return refusal(StatusCode::SERVICE_UNAVAILABLE, &report);
        }
        let told = if query.has("verbose") { report } else { String::new() };
        let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
        (headers, format!("{told}ok\n")).into_response()
    }

    async fn check(&self, check: Check) -> Result<(), String> {
        match check {
            Check::SerializableRead => self.read(true).await,
            Check::LinearizableRead => self.read(false).await,
            Check::DataCorruption => {
                let standing = alarms::standing(&self.shared).await.map_err(|status| status.message().to_owned())?;
                let corrupt = standing.iter().any(|alarm| alarm.kind == AlarmKind::Corrupt);
                if corrupt { Err("alarm activated: CORRUPT".to_owned()) } else { Ok(()) }
            }
            Check::NonLearner => match self.shared.status().await {
                Ok(status) if status.is_learner => Err("not supported for learner".to_owned()),
                Ok(_) => Ok(()),
                Err(status) => Err(status.message().to_owned()),
            },
        }
    }

    /// A read that finds nothing goes the way of all reads.
    async fn read(&self, serializable: bool) -> Result<(), String> {
        let nothing = RangeRequest { count_only: true, serializable, ..RangeRequest::key(&[0][..]) };
        let read = match tokio::time::timeout(READ_LIMIT, self.shared.store.range(nothing)).await {
            Ok(read) => read.map(|_| ()),
            Err(_) => Err(StoreError::Timeout),
        };
        read.map_err(|error| codes::status(&error).message().to_owned())
    }
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }
}

/// The words after the question mark. None that is looked for needs escaping.
#[derive(Debug, Default)]
struct Query(Vec<(String, String)>);

impl Query {
    fn read(query: Option<String>) -> Self {
        let pair = |word: &str| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            (name.to_owned(), value.to_owned())
        };
        Query(query.unwrap_or_default().split('&').map(pair).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn excludes(&self, name: &str) -> bool {
        self.0.iter().any(|(known, value)| known == "exclude" && value == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    r#type: &'static str,
    name: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    r#type: &'static str,
    name: &'static str,
    status: &'static str,
}

/// etcd names its two counters without `_total`, which the text format would add to a counter: they are gauges here.
#[derive(Clone, Default)]
struct Figures {
    success: Gauge,
    failures: Gauge,
    last: Family<Kind, Gauge>,
    all: Family<Outcome, Counter>,
}

impl Figures {
    fn register(&self, metrics: &telemetry::Metrics) {
        let Figures { success, failures, last, all } = self.clone();
        metrics.register(|registry| {
            registry.register("etcd_server_health_success", "The total number of successful health checks", success);
            registry.register("etcd_server_health_failures", "The total number of failed health checks", failures);
            registry.register("etcd_server_healthcheck", "The result of each kind of healthcheck", last);
            registry.register("etcd_server_healthchecks", "The total number of each kind of healthcheck", all);
        });
    }

    fn count(&self, r#type: &'static str, name: &'static str, passed: bool) {
        self.last.get_or_create(&Kind { r#type, name }).set(i64::from(passed));
        let status = if passed { "success" } else { "error" };
        self.all.get_or_create(&Outcome { r#type, name, status }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_word_by_word() {
        let query = Query::read(Some("verbose&exclude=NOSPACE&exclude=non_learner&serializable=true".to_owned()));
        assert!(query.has("verbose") && query.excludes("NOSPACE") && query.excludes("non_learner"));
        assert!(!query.excludes("CORRUPT"));
        assert_eq!(query.value("serializable"), Some("true"));
        assert!(!Query::read(None).has("verbose"));
    }
}
