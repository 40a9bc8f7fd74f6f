//! Spans: taken over from a caller's `traceparent` header (W3C Trace Context) and exported by OTLP when asked.

use std::collections::HashMap;

use opentelemetry::{propagation::TextMapPropagator, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::LevelFilter, registry::LookupSpan};

use crate::Error;

pub(crate) fn provider(endpoint: &str) -> Result<SdkTracerProvider, Error> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|error| Error::Exporter { endpoint: endpoint.to_owned(), reason: error.to_string() })?;
    let resource = Resource::builder().with_service_name("plinth").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
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
