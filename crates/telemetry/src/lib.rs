//! What the process says about itself: logs (text or JSON), metrics (one registry for all parts), traces (OTLP).
//!
//! Parts use the `tracing` macros and register `prometheus_client` metrics; where it all goes is decided here, once.

mod metrics;
mod trace;

pub use metrics::Metrics;
pub use trace::set_parent;

use std::io::IsTerminal;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line per event for people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub format: LogFormat,
    /// Directives such as `info,store=debug`.
    pub filter: String,
    /// The OTLP/gRPC collector, for example `http://127.0.0.1:4317`; `None`: spans are not exported.
    pub otlp_endpoint: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log filter {filter:?} is not valid: {reason}")]
    Filter { filter: String, reason: String },
    #[error("cannot export traces to {endpoint}: {reason}")]
    Exporter { endpoint: String, reason: String },
    #[error("logging was set up twice")]
    Twice,
}

/// Flushes what is buffered when the process ends.
#[must_use]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// Sets up logs and traces for the process. Called inside the async runtime, because the exporter's connection lives
/// there.
pub fn init(options: &Options) -> Result<Guard, Error> {
    let filter = EnvFilter::try_new(&options.filter)
        .map_err(|error| Error::Filter { filter: options.filter.clone(), reason: error.to_string() })?;
    let logs: Box<dyn Layer<Registry> + Send + Sync> = match options.format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).with_filter(filter).boxed()
        }
    };
    let provider = options.otlp_endpoint.as_deref().map(trace::provider).transpose()?;
    let traces = provider.as_ref().map(trace::layer);
    tracing_subscriber::registry().with(logs).with(traces).try_init().map_err(|_| Error::Twice)?;
    Ok(Guard { provider })
}
