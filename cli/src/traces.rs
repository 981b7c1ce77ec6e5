//! Traces for a collector: spans by OTLP over HTTP, to where the standard variables say (`OTEL_EXPORTER_OTLP_ENDPOINT` and its
//! kin). Without one of them nothing is exported.
//!
//! A thread of the exporter's own gathers spans and sends them now and then; the requests themselves are made by the runtime and
//! the HTTP client that everything else uses, so that there is one TLS stack.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use promptfield_client::Connection;
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::filter::{Filtered, Targets};
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

/// The name of this service, unless `OTEL_SERVICE_NAME` has another.
const SERVICE: &str = "promptfield";
/// For a batch of spans.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last spans may take at the end.
const LAST_CALL: Duration = Duration::from_secs(5);

/// Exports spans as long as it lives, and the last ones when it's dropped.
pub(crate) struct Export(SdkTracerProvider);

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_CALL) {
            crate::print::talk(format_args!("warning: the last traces could not be exported: {error}"));
        }
    }
}

/// Takes spans in a subscriber `S`.
type Spans<S> = Filtered<OpenTelemetryLayer<S, Tracer>, Targets, S>;

/// What takes the spans, if the variables name a collector.
pub(crate) fn layer<S>(runtime: &Handle) -> anyhow::Result<Option<(Spans<S>, Export)>>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let endpoints = [OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT];
    let Some(endpoint) = endpoints.into_iter().find_map(|name| std::env::var(name).ok().filter(|url| !url.is_empty()))
    else {
        return Ok(None);
    };
    let client = Connection::default().client(&endpoint)?.timeout(ANSWER_TIMEOUT).build()?;
    let client = Client { http: client, runtime: runtime.clone() };
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build();
    let exporter = exporter.with_context(|| format!("can't export traces to {endpoint}"))?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(SERVICE);
    }
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.with_attribute(version).build())
        .with_batch_exporter(exporter)
        .build();
    // Spans of this software's own: those of the HTTP client would lead to further ones.
    let own = Targets::new().with_target("promptfield", LevelFilter::INFO);
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer(SERVICE)).with_filter(own);
    Ok(Some((layer, Export(provider))))
}

/// Sends requests by the runtime, whoever asks.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (http, request) = (self.http.clone(), reqwest::Request::try_from(request)?);
        let sent = self.runtime.spawn(async move {
            let answer = http.execute(request).await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            Ok::<_, reqwest::Error>((status, headers, answer.bytes().await?))
        });
        let (status, headers, body) = sent.await??;
        let mut response = Response::new(body);
        (*response.status_mut(), *response.headers_mut()) = (status, headers);
        Ok(response)
    }
}
