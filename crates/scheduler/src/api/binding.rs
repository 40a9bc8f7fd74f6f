//! Binding a pod until it is known what came of it.
//!
//! An answer can be lost though the binding was carried out. Whoever takes that for a failure gives the room to another pod,
//! and the node has both. So the pod itself is asked, and if it has no node yet, the binding is sent again.

use std::time::Duration;

use client::is_not_found;
use http::Request;
use sched::{Binder, Reservation, framework::Bind, object};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{Api, JSON, Unbound, path};

/// How long to wait for one answer.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// For so long a binding is sent again.
const SEND_LIMIT: Duration = Duration::from_secs(30);
/// The pause before the pod is asked, and the binding is sent again; doubled each time.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What has come of a binding.
enum Settled {
    Bound,
    Refused(String),
    /// There is no such pod to bind any more; nobody need be told.
    Lost(String),
    /// Somebody else has bound it.
    Elsewhere(String),
}

/// What has come of one request.
enum Sent {
    Settled(Settled),
    /// It may have been carried out, or may be the next time.
    Open(String),
}

/// Where the pod is, as the API says.
enum Found {
    Here,
    /// It has no node.
    Waiting,
    /// There is no such pod to bind any more.
    Lost,
    /// It has another node.
    Elsewhere,
    /// This cannot be asked, for good.
    Hidden,
}

impl Api {
    /// Binds the pod to its node. An error means that it is not there, and will not be by what was sent.
    pub(super) async fn write_binding(
        &self,
        reservation: &Reservation,
        binder: Option<&Binder>,
    ) -> Result<(), Unbound> {
        let Some(Binder { plugin, how }) = binder else {
            return Err(Unbound::Refused("no Bind plugin binds the pod".to_owned()));
        };
        match self.settle(reservation, how).await {
            Settled::Bound => Ok(()),
            Settled::Lost(error) => Err(Unbound::Lost(error)),
            Settled::Elsewhere(error) => Err(Unbound::Elsewhere(error)),
            Settled::Refused(error) => Err(Unbound::Refused(format!("running Bind plugin {plugin:?}: {error}"))),
        }
    }

    async fn settle(&self, reservation: &Reservation, how: &Bind) -> Settled {
        let until = self.clock.monotonic() + SEND_LIMIT;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.send_binding(reservation, how).await {
                Sent::Settled(settled) => return settled,
                Sent::Open(error) => error,
            };
            let (pod, node) = (&reservation.pod, &reservation.node);
            tracing::warn!(pod = %pod.name, namespace = %pod.namespace, %node, error, "binding is not settled yet");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match self.find(reservation).await {
                Found::Here => return Settled::Bound,
                Found::Lost => return Settled::Lost(error),
                Found::Elsewhere => return Settled::Elsewhere(error),
                Found::Hidden => return Settled::Refused(error),
                Found::Waiting if self.clock.monotonic() >= until => return Settled::Refused(error),
                Found::Waiting => {}
            }
        }
    }

    /// Whether the pod is on its node, for a binding that somebody else has tried and failed.
    pub(super) async fn is_bound(&self, reservation: &Reservation) -> bool {
        matches!(self.find(reservation).await, Found::Here)
    }

    async fn send_binding(&self, reservation: &Reservation, how: &Bind) -> Sent {
        let sent = async {
            match how {
                Bind::Request(request) => self.request(request).await,
                Bind::Binding | Bind::Skip => self.create_binding(reservation).await,
            }
        };
        // What else a request is about may be missing though the pod is not.
        let is_lost = |error: &kube::Error| is_not_found(error) && *how == Bind::Binding;
        match timeout(ANSWER_LIMIT, sent).await {
            Ok(Ok(())) => Sent::Settled(Settled::Bound),
            Ok(Err(error)) if is_lost(&error) => Sent::Settled(Settled::Lost(error.to_string())),
            Ok(Err(error)) if is_final(&error) => Sent::Settled(Settled::Refused(error.to_string())),
            Ok(Err(error)) => Sent::Open(error.to_string()),
            Err(_) => Sent::Open(format!("no answer within {ANSWER_LIMIT:?}")),
        }
    }

    async fn create_binding(&self, Reservation { pod, node, .. }: &Reservation) -> kube::Result<()> {
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": &*pod.name, "namespace": &*pod.namespace, "uid": &*pod.uid},
            "target": {"kind": "Node", "name": &**node},
        });
        self.send(Request::post(format!("{}/binding", path(pod))), JSON, &binding).await
    }

    /// Asks until somebody answers: as long as nobody does, nothing can be bound anyway.
    async fn find(&self, reservation: &Reservation) -> Found {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(found) = self.look(reservation).await {
                return found;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn look(&self, Reservation { pod, node, .. }: &Reservation) -> Option<Found> {
        let Ok(request) = Request::get(path(pod)).body(Vec::new()) else { return Some(Found::Hidden) };
        let text = match timeout(ANSWER_LIMIT, self.client.request_text(request)).await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) if is_not_found(&error) => return Some(Found::Lost),
            Ok(Err(error)) if is_final(&error) => return Some(Found::Hidden),
            Ok(Err(_)) | Err(_) => return None,
        };
        let Ok(object::Pod { metadata, spec, .. }) = serde_json::from_str(&text) else { return Some(Found::Hidden) };
        let on = spec.and_then(|spec| spec.node_name).filter(|on| !on.is_empty());
        Some(match on {
            _ if metadata.uid.as_deref() != Some(&*pod.uid) => Found::Lost,
            Some(on) if *on == **node => Found::Here,
            Some(_) => Found::Elsewhere,
            None if metadata.deletion_timestamp.is_some() => Found::Lost,
            None => Found::Waiting,
        })
    }
}

/// Whether the same request would be refused again. Conflicts, an overloaded server and one that failed are not final.
pub(super) fn is_final(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    (400..500).contains(&status.code) && ![408, 409, 429].contains(&status.code)
}
