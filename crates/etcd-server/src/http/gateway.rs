//! The JSON gateway: every method of the gRPC services as `POST /v3/...`, with messages in proto3's JSON.
//!
//! ```text
//!   POST /v3/kv/range ─▶ values: JSON ─▶ message ─▶ the gRPC services, in this process ─▶ answers: message ─▶ JSON
//! ```
//!
//! Knows the services by their descriptors alone: what they do, and who may ask them, is decided behind them as for
//! every other client.

mod answers;
mod codec;
mod values;

use std::sync::LazyLock;

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header::AUTHORIZATION, uri::PathAndQuery},
    response::Response,
    routing::any,
};
use futures::stream;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use tonic::{Status, client::Grpc, metadata::MetadataMap};

use crate::{codes, methods};
use codec::DynamicCodec;
use values::Values;

/// A body may be longer than the message in it: base64 makes four bytes of three, and there are names and quotes.
const BODY_PER_MESSAGE: usize = 2;
const BODY_OVERHEAD_BYTES: usize = 64 * 1024;
/// What a header's name begins with that is to reach the service as it is.
const METADATA_PREFIX: &str = "grpc-metadata-";
/// Where etcd's services look for the token first.
const TOKEN: &str = "token";

/// Read when the first request comes: most servers never see one.
static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(etcd_proto::DESCRIPTORS).expect("they were written by the compiler of the .proto files")
});

/// The paths of the gateway, before `grpc`, which serves the services. `v3beta` is what old clients write.
pub(super) fn router(grpc: Router, max_request_bytes: usize) -> Router {
    let limit = max_request_bytes.saturating_mul(BODY_PER_MESSAGE).saturating_add(BODY_OVERHEAD_BYTES);
    let gateway = Gateway { grpc, limit };
    ["/v3/", "/v3beta/"].into_iter().fold(Router::new(), |router, prefix| {
        let gateway = gateway.clone();
        let serve = async move |request: Request| {
            let path = request.uri().path().strip_prefix(prefix).unwrap_or_default().to_owned();
            gateway.serve(&path, request).await.unwrap_or_else(|status| answers::error(&status))
        };
        router.route(&format!("{prefix}{{*path}}"), any(serve))
    })
}

#[derive(Clone)]
struct Gateway {
    grpc: Router,
    /// The longest JSON value that is read.
    limit: usize,
}

impl Gateway {
    async fn serve(&self, path: &str, request: Request) -> Result<Response, Status> {
        let Some((service, method)) = methods::at_gateway(path) else {
            return Ok(answers::refusal(StatusCode::NOT_FOUND, &Status::not_found("Not Found")));
        };
        if request.method() != Method::POST {
            let status = Status::unimplemented("Method Not Allowed");
            return Ok(answers::refusal(StatusCode::METHOD_NOT_ALLOWED, &status));
        }
        let grpc_path = format!("/{service}/{}", method.name);
        let Some(method) = descriptor(service, method.name) else { return Err(codes::no_such_method(&grpc_path)) };
        let grpc_path: PathAndQuery = grpc_path.parse().map_err(|_| codes::no_such_method(&grpc_path))?;
        let (parts, body) = request.into_parts();
        self.call(&method, grpc_path, metadata(&parts.headers), Values::new(body, self.limit)).await
    }

    async fn call(
        &self,
        method: &MethodDescriptor,
        path: PathAndQuery,
        metadata: MetadataMap,
        mut values: Values,
    ) -> Result<Response, Status> {
        let (input, codec) = (method.input(), DynamicCodec(method.output()));
        // It never fails and is always ready, as every router.
        let mut client = Grpc::new(self.grpc.clone()).max_decoding_message_size(usize::MAX);
        let Ok(()) = client.ready().await;
        let first = values.message(&input).await?;
        if !method.is_client_streaming() {
            let message = first.unwrap_or_else(|| prost_reflect::DynamicMessage::new(input));
            let request = tonic::Request::from_parts(metadata, tonic::Extensions::default(), message);
            return Ok(if method.is_server_streaming() {
                answers::lines(client.server_streaming(request, path, codec).await?.into_inner())
            } else {
                answers::message(&client.unary(request, path, codec).await?.into_inner())?
            });
        }
        // A value that cannot be read ends the requests, and the answers to those before it go on.
        let messages = stream::unfold((first, values, input), |(first, mut values, input)| async move {
            let message = match first {
                Some(first) => Some(first),
                None => values.message(&input).await.ok().flatten(),
            };
            message.map(|message| (message, (None, values, input)))
        });
        let request = tonic::Request::from_parts(metadata, tonic::Extensions::default(), messages);
        Ok(answers::lines(client.streaming(request, path, codec).await?.into_inner()))
    }
}

fn descriptor(service: &str, method: &str) -> Option<MethodDescriptor> {
    DESCRIPTORS.get_service_by_name(service)?.methods().find(|known| known.name() == method)
}

/// What of a request's headers the service is told: who asks, and what is marked for it.
fn metadata(headers: &HeaderMap) -> MetadataMap {
    let mut told = HeaderMap::new();
    if let Some(authorization) = headers.get(AUTHORIZATION) {
        told.insert(AUTHORIZATION, authorization.clone());
        told.insert(TOKEN, authorization.clone());
    }
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(METADATA_PREFIX) else { continue };
        // gRPC's own words are not the client's to say.
        let reserved = name.starts_with("grpc-") || matches!(name, "content-type" | "te" | "user-agent");
        if let Ok(name) = name.parse::<axum::http::HeaderName>()
            && !reserved
        {
            told.insert(name, value.clone());
        }
    }
    MetadataMap::from_headers(told)
}
