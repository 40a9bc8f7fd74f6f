//! What the process says about itself: logs (text or JSON), metrics (one registry for all parts), traces (OTLP).
//!
//! Parts use the `tracing` macros and register `prometheus_client` metrics; where it all goes is decided here, once.

mod exposition;
pub mod klog;
mod metrics;
mod trace;
pub mod zap;

pub use exposition::{Exposition, Format};
pub use metrics::{Metrics, open_files};
pub use trace::{Traces, set_parent};

use std::io::IsTerminal;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, LevelFilter, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

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
    let provider = options.otlp_endpoint.as_deref().map(Traces::all).as_ref().map(trace::provider).transpose()?;
    let layers = layers(options, provider.as_ref())?;
    tracing_subscriber::registry().with(layers).try_init().map_err(|_| Error::Twice)?;
    Ok(Guard { provider })
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Every layer has a filter of its own, so that what no layer wants is never made: a span that is only for the exporter
/// costs an atomic load where there is none.
fn layers(options: &Options, provider: Option<&SdkTracerProvider>) -> Result<Vec<BoxedLayer>, Error> {
    let filter = EnvFilter::try_new(&options.filter)
        .map_err(|error| Error::Filter { filter: options.filter.clone(), reason: error.to_string() })?;
    // A line names the spans around it for those who look for detail. Otherwise spans are none of the log's business: one
    // per request, formatted for a line that is hardly ever written, costs more than it tells.
    let detailed = filter.max_level_hint().is_none_or(|level| level > LevelFilter::INFO);
    let filter = filter.and(filter_fn(move |metadata| detailed || !metadata.is_span()));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs: BoxedLayer = match options.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed(),
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
    };
    let mut layers = vec![logs];
    layers.extend(provider.map(|provider| trace::layer(provider).boxed()));
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a request's span is made, and whether a warning is logged, with this log filter and no exporter.
    fn check(filter: &str, expected: (bool, bool)) {
        let options = Options { filter: filter.to_owned(), ..Options::default() };
        let subscriber = tracing_subscriber::registry().with(layers(&options, None).unwrap());
        let seen = tracing::subscriber::with_default(subscriber, || {
            (!tracing::info_span!("request").is_disabled(), tracing::enabled!(tracing::Level::WARN))
        });
        assert_eq!(seen, expected, "{filter}");
    }

    #[test]
    fn spans_are_made_only_for_who_wants_them() {
        check("off", (false, false));
        check("warn", (false, true));
        check("info", (false, true));
        check("debug", (true, true));
        check("warn,telemetry=debug", (true, true));
    }

    #[test]
    fn spans_are_made_for_the_exporter_at_any_log_level() {
        let provider = SdkTracerProvider::builder().build();
        let options = Options { filter: "error".to_owned(), ..Options::default() };
        let subscriber = tracing_subscriber::registry().with(layers(&options, Some(&provider)).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::info_span!("request").is_disabled());
            assert!(tracing::debug_span!("detail").is_disabled());
        });
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_told() {
        let options = Options { filter: "store=loud".to_owned(), ..Options::default() };
        let told = layers(&options, None).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(told.starts_with("log filter \"store=loud\" is not valid: "), "{told}");
    }
}
