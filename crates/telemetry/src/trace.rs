//! Spans: taken over from a caller's `traceparent` header (W3C Trace Context) and exported by OTLP when asked.

use std::collections::HashMap;

use opentelemetry::{KeyValue, propagation::TextMapPropagator, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::LevelFilter, registry::LookupSpan};

use crate::Error;

/// Where spans go, under which names, and which of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// The OTLP/gRPC collector, for example `http://127.0.0.1:4317`.
    pub endpoint: String,
    pub service: String,
    /// Which of the service's processes this is, if it is said.
    pub instance: Option<String>,
    /// Of requests whose caller says nothing of it, so many of a million; the caller's word counts more.
    pub per_million: u32,
}

const MILLION: u32 = 1_000_000;

impl Traces {
    /// All spans, as this program's.
    pub(crate) fn all(endpoint: &str) -> Self {
        Traces { endpoint: endpoint.to_owned(), service: "plinth".to_owned(), instance: None, per_million: MILLION }
    }
}

pub(crate) fn provider(traces: &Traces) -> Result<SdkTracerProvider, Error> {
    let Traces { endpoint, service, instance, per_million } = traces;
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|error| Error::Exporter { endpoint: endpoint.to_owned(), reason: error.to_string() })?;
    let instance = instance.iter().map(|instance| KeyValue::new("service.instance.id", instance.clone()));
    let resource = Resource::builder().with_service_name(service.clone()).with_attributes(instance).build();
    let own = match *per_million {
        MILLION.. => Sampler::AlwaysOn,
        some => Sampler::TraceIdRatioBased(f64::from(some) / f64::from(MILLION)),
    };
    let builder = SdkTracerProvider::builder().with_sampler(Sampler::ParentBased(Box::new(own)));
    Ok(builder.with_batch_exporter(exporter).with_resource(resource).build())
}

pub(crate) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer().with_tracer(provider.tracer("plinth")).with_filter(LevelFilter::INFO)
}

/// Makes `span` a child of the caller's span that a `traceparent` header names. A header that cannot be read is
/// ignored, as the specification asks.
pub fn set_parent(span: &Span, traceparent: Option<&str>) {
    let Some(header) = traceparent.filter(|_| !span.is_disabled()) else { return };
    let carrier = HashMap::from([("traceparent".to_owned(), header.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    // It fails only where no exporter is set up: then nobody asks for the parent.
    let _ = span.set_parent(context);
}
