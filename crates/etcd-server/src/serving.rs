//! gRPC's health service, as far as etcd has it: whether the server as a whole serves. It says nothing of the cluster;
//! `/readyz` does.

use std::{future, pin::Pin};

use etcd_proto::healthpb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};
use futures::{Stream, StreamExt, stream};
use runtime::CancellationToken;
use tonic::{Request, Response, Status, async_trait};

pub(crate) struct Service {
    /// The server goes away.
    pub stop: CancellationToken,
}

#[async_trait]
impl Health for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match self.status(request.get_ref()) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("unknown service")),
            status => Ok(Response::new(response(status))),
        }
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (now, stop) = (self.status(request.get_ref()), self.stop.clone());
        let end = stream::once(async move {
            stop.cancelled_owned().await;
            Ok(response(ServingStatus::NotServing))
        });
        Ok(Response::new(Box::pin(stream::once(future::ready(Ok(response(now)))).chain(end))))
    }
}

impl Service {
    fn status(&self, request: &HealthCheckRequest) -> ServingStatus {
        match request.service.as_str() {
            "" if self.stop.is_cancelled() => ServingStatus::NotServing,
            "" => ServingStatus::Serving,
            _ => ServingStatus::ServiceUnknown,
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
