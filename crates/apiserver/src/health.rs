//! Health, version and metrics.

use http::{HeaderValue, Response, StatusCode, header};
use registry::Status;
use serde_json::json;

use crate::{body::Body, pipeline::Call, respond};

/// The Kubernetes version whose API is served.
pub const KUBERNETES_VERSION: &str = "v1.36.2+plinth";

pub(crate) fn version() -> Response<Body> {
    respond::json(
        StatusCode::OK,
        &json!({
            "major": "1",
            "minor": "36",
            "emulationMajor": "1",
            "emulationMinor": "36",
            "minCompatibilityMajor": "1",
            "minCompatibilityMinor": "35",
            "gitVersion": KUBERNETES_VERSION,
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "rustc",
            "platform": format!("linux/{}", platform()),
        }),
    )
}

/// The machine's architecture in Go's words, which clients compare with.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(crate) fn metrics(call: &Call) -> Response<Body> {
    let accept = call.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let exposition = call.core.all_metrics.exposition(accept);
    let mut response = respond::text(StatusCode::OK, exposition.text);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(exposition.content_type));
    response
}

/// `/healthz`, `/livez` and `/readyz`, each with single checks below it and `?verbose`.
pub(crate) fn health(call: &Call, parts: &[&str]) -> Result<Response<Body>, Status> {
    let reason = call.core.not_ready.borrow().clone();
    let stopping = call.core.stopping.is_cancelled();
    let checks: Vec<(&str, Result<(), &str>)> = match parts[0] {
        "readyz" => vec![
            ("ping", Ok(())),
            ("bootstrap", if reason.is_empty() { Ok(()) } else { Err(reason.as_str()) }),
            ("shutdown", if stopping { Err("process is shutting down") } else { Ok(()) }),
        ],
        _ => vec![("ping", Ok(()))],
    };
    if let Some(wanted) = parts.get(1) {
        let Some((_, result)) = checks.iter().find(|(name, _)| name == wanted) else {
            return Err(Status::no_such_path());
        };
        return Ok(match result {
            Ok(()) => respond::text(StatusCode::OK, "ok"),
            Err(why) => respond::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
        });
    }
    let excluded: Vec<&str> = call.info.query.all("exclude").collect();
    let failed = checks.iter().any(|(name, result)| result.is_err() && !excluded.contains(name));
    let mut text = String::new();
    for (name, result) in &checks {
        text.push_str(&match result {
            _ if excluded.contains(name) => format!("[+]{name} excluded: ok\n"),
            Ok(()) => format!("[+]{name} ok\n"),
            Err(_) => format!("[-]{name} failed: reason withheld\n"),
        });
    }
    let kind = parts[0];
    if failed {
        text.push_str(&format!("{kind} check failed\n"));
        return Ok(respond::text(StatusCode::INTERNAL_SERVER_ERROR, text));
    }
    if call.info.query.flag("verbose") {
        text.push_str(&format!("{kind} check passed\n"));
        return Ok(respond::text(StatusCode::OK, text));
    }
    Ok(respond::text(StatusCode::OK, "ok"))
}
