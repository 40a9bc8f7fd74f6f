//! Watches: a stream of lines that ends by its timeout, by the client, or by the client's not reading.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::{Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use prometheus_client::metrics::counter::Counter;
use registry::{Resource, Selection, Status, table};
use runtime::entropy;
use serde_json::json;
use store_api::Revision;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    body::{Body, BodyError},
    cache::{
        Next, Subscription,
        entry::{Change, Entry, Event, line, metadata_line, write_number},
    },
    core::Served,
    list::{parse_revision, scope, selection, wait, wait_most_recent},
    negotiate::View,
    pipeline::Call,
    respond,
    view::{Shape, write_json},
};

/// How often a client that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch lasts when the client does not say: from this to twice this, so that they do not all end at once.
const DEFAULT_TIMEOUT: u64 = 1800;
/// Bytes of the initial state that are made at once.
const CHUNK: usize = 64 * 1024;

/// Where a watch begins.
enum Start {
    /// With everything there is, then changes. The revision says how new "everything" must be.
    State(Option<Revision>),
    /// With the changes after a revision.
    After(Revision),
}

/// Answers a watch.
pub(crate) async fn watch(call: Call, served: &Served) -> Result<Response<Body>, Status> {
    let shape = Shape::of(&call)?;
    let resource = served.resource;
    let cache = served.cache.as_ref().ok_or_else(Status::method_not_allowed)?;
    let query = &call.info.query;
    let selection = selection(&call, resource)?;
    let scope = scope(&call, resource, &selection);
    let initial_events = initial_events(&call)?;
    let bookmarks = query.flag("allowWatchBookmarks");
    let timeout = match query.given("timeoutSeconds") {
        Some(text) => text.parse::<u64>().ok().filter(|n| *n > 0),
        None => None,
    };
    let timeout = timeout.unwrap_or_else(|| DEFAULT_TIMEOUT + entropy::random_u64() % DEFAULT_TIMEOUT);
    let version = query.given("resourceVersion").map(parse_revision).transpose()?;
    let start = match (version, initial_events) {
        (Some(revision), Some(true)) => Start::State(Some(revision)),
        (None, Some(true)) => Start::State(None),
        (Some(0), None) => Start::State(Some(0)),
        (None, None) => Start::State(None),
        (Some(revision), _) if revision > 0 => Start::After(revision),
        // Without initial events and without a revision: from now on.
        (_, _) => Start::After(0),
    };
    let connection = call.own_connection();
    let (initial, initial_revision, subscription) = match start {
        Start::State(None) => {
            wait_most_recent(&call.core, cache).await?;
            cache.list_and_watch(scope, connection)
        }
        Start::State(Some(revision)) => {
            wait(cache, revision).await?;
            cache.list_and_watch(scope, connection)
        }
        Start::After(0) => {
            wait_most_recent(&call.core, cache).await?;
            let (_, revision, subscription) = cache.list_and_watch(scope, connection);
            (Vec::new(), revision, subscription)
        }
        Start::After(revision) => {
            wait(cache, 0).await?;
            match cache.watch(scope, revision, connection) {
                Ok(subscription) => (Vec::new(), revision, subscription),
                Err(old) => return Ok(too_old(revision, old.oldest)),
            }
        }
    };
    let encoder = Encoder { resource, selection, shape, columns_sent: false };
    let body = WatchBody {
        subscription,
        initial: initial.into_iter(),
        initial_end: (initial_events == Some(true) && bookmarks).then_some(initial_revision),
        pending: VecDeque::new(),
        bookmark_timer: bookmarks.then(|| Box::pin(sleep(BOOKMARK_EVERY))),
        deadline: Box::pin(sleep(Duration::from_secs(timeout))),
        stopping: Box::pin(call.core.stopping.clone().cancelled_owned()),
        ended: false,
        sent: call.core.metrics.watch_events(resource.kind()),
        encoder,
    };
    Ok(respond::with_body(StatusCode::OK, Body::stream(body)))
}

/// Reads `sendInitialEvents` with the rules that bind it to `resourceVersionMatch`.
fn initial_events(call: &Call) -> Result<Option<bool>, Status> {
    let query = &call.info.query;
    let invalid = |field: &str, why: &str| {
        Status::new(422, "Invalid", format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: Forbidden: {why}"))
    };
    let asked = query.given("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
    match (asked, query.given("resourceVersionMatch")) {
        (None, None) | (Some(_), Some("NotOlderThan")) => Ok(asked),
        (None, Some(_)) => Err(invalid(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
        (Some(_), _) => Err(invalid(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
    }
}

/// A watch that says at once that it cannot begin where it was asked to.
fn too_old(asked: Revision, oldest: Revision) -> Response<Body> {
    let status = Status::expired(format!("too old resource version: {asked} ({oldest})"));
    let mut line = serde_json::to_vec(&json!({ "type": "ERROR", "object": status.to_value() })).unwrap_or_default();
    line.push(b'\n');
    respond::bytes(StatusCode::OK, line)
}

/// Turns changes into the lines that this watcher sees.
struct Encoder {
    resource: &'static Resource,
    selection: Selection,
    shape: Shape,
    /// Tables name their columns in the first event only.
    columns_sent: bool,
}

impl Encoder {
    /// What a change means to this watcher, by whether the object belonged to the selection and does now.
    fn meaning(&self, event: &Event) -> Option<Change> {
        if self.selection.is_everything() {
            return Some(event.change);
        }
        let selected = |entry: &Arc<Entry>| self.selection.matches(entry.attributes(self.resource));
        let before = event.before.as_ref().is_some_and(selected);
        let now = event.change != Change::Deleted && selected(&event.entry);
        match (before, now) {
            (false, true) => Some(Change::Added),
            (true, true) => Some(Change::Modified),
            (true, false) => Some(Change::Deleted),
            (false, false) => None,
        }
    }

    fn event(&mut self, event: &Event) -> Option<Bytes> {
        let change = self.meaning(event)?;
        Some(match self.shape.view {
            View::Object => event.line(change),
            View::Metadata => event.metadata_line(change),
            View::Table => self.table(change, event.shown(change), event.revision),
        })
    }

    fn initial(&mut self, entry: &Entry, out: &mut BytesMut) -> bool {
        if !self.selection.is_everything() && !self.selection.matches(entry.attributes(self.resource)) {
            return false;
        }
        out.extend_from_slice(&match self.shape.view {
            View::Object => line(Change::Added, entry, entry.revision),
            View::Metadata => metadata_line(Change::Added, entry, entry.revision),
            View::Table => self.table(Change::Added, entry, entry.revision),
        });
        true
    }

    fn table(&mut self, change: Change, entry: &Entry, revision: Revision) -> Bytes {
        let mut object = entry.decode();
        registry::set_resource_version(&mut object, revision.unsigned_abs());
        let columns = (!std::mem::replace(&mut self.columns_sent, true)).then(|| self.resource.columns());
        let metadata = json!({ "resourceVersion": revision.to_string() });
        let shown = table::document(columns, vec![self.shape.row(self.resource, object)], metadata);
        let mut out = BytesMut::new();
        write_json(&json!({ "type": change.text(), "object": shown }), &mut out);
        out.extend_from_slice(b"\n");
        out.freeze()
    }

    /// A line that carries nothing but a revision.
    fn bookmark(&self, revision: Revision, initial_end: bool) -> Bytes {
        let kind = self.resource.kind();
        let (api_version, kind) = match self.shape.view {
            View::Object => (kind.api_version().into_owned(), kind.kind.as_ref()),
            View::Metadata => ("meta.k8s.io/v1".into(), "PartialObjectMetadata"),
            View::Table => ("meta.k8s.io/v1".into(), "Table"),
        };
        let mut out = BytesMut::new();
        out.extend_from_slice(
            format!("{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{{\"resourceVersion\":\"")
                .as_bytes(),
        );
        write_number(revision, &mut out);
        out.extend_from_slice(b"\"");
        if self.shape.view != View::Table {
            out.extend_from_slice(b",\"creationTimestamp\":null");
            if initial_end {
                out.extend_from_slice(b",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}");
            }
        }
        out.extend_from_slice(b"}");
        if self.shape.view == View::Table {
            out.extend_from_slice(b",\"columnDefinitions\":null,\"rows\":[]");
        }
        out.extend_from_slice(b"}}\n");
        out.freeze()
    }
}

struct WatchBody {
    subscription: Subscription,
    initial: std::vec::IntoIter<Arc<Entry>>,
    /// The initial state is followed by a bookmark with this revision.
    initial_end: Option<Revision>,
    pending: VecDeque<Bytes>,
    encoder: Encoder,
    bookmark_timer: Option<Pin<Box<Sleep>>>,
    deadline: Pin<Box<Sleep>>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
    sent: Counter,
}

impl WatchBody {
    fn initial_chunk(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        while out.len() < CHUNK {
            let Some(entry) = self.initial.next() else { break };
            if self.encoder.initial(&entry, &mut out) {
                self.sent.inc();
            }
        }
        if out.is_empty() {
            // The state has been sent: its memory is not needed any more.
            self.initial = Vec::new().into_iter();
            return self.initial_end.take().map(|revision| self.encoder.bookmark(revision, true));
        }
        Some(out.freeze())
    }
}

impl HttpBody for WatchBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if let Some(line) = this.pending.pop_front().or_else(|| this.initial_chunk()) {
                return Poll::Ready(Some(Ok(Frame::data(line))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if let Poll::Ready(next) = this.subscription.poll_next(context) {
                match next {
                    Next::Events(events) => {
                        let before = this.pending.len();
                        this.pending.extend(events.iter().filter_map(|event| this.encoder.event(event)));
                        this.sent.inc_by((this.pending.len() - before) as u64);
                    }
                    Next::Cut => {
                        let resource = this.encoder.resource.kind().plural.as_ref();
                        tracing::debug!(resource, "a watcher that did not read was cut off");
                        this.ended = true;
                    }
                }
                continue;
            }
            if let Some(timer) = &mut this.bookmark_timer
                && timer.as_mut().poll_unpin(context).is_ready()
            {
                let revision = this.subscription.cursor();
                // So that the next one is fresh also where nothing happens.
                this.subscription.cache().ask_progress();
                *timer = Box::pin(sleep(BOOKMARK_EVERY));
                this.pending.push_back(this.encoder.bookmark(revision, false));
                continue;
            }
            if this.deadline.poll_unpin(context).is_ready() || this.stopping.poll_unpin(context).is_ready() {
                this.ended = true;
                if this.bookmark_timer.is_some() {
                    this.pending.push_back(this.encoder.bookmark(this.subscription.cursor(), false));
                }
                continue;
            }
            return Poll::Pending;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry::Registry;

    fn encoder(labels: &str) -> Encoder {
        let resource = Registry::builtin().find("", "v1", "configmaps").unwrap();
        let shape =
            Shape { view: View::Object, include: Default::default(), pretty: false, now: jiff::Timestamp::UNIX_EPOCH };
        Encoder { resource, selection: resource.selection(labels, "").unwrap(), shape, columns_sent: false }
    }

    fn entry(label: Option<&str>) -> Option<Arc<Entry>> {
        let value = format!(r#"{{"metadata":{{"name":"x","labels":{{"a":"{}"}}}}}}"#, label?);
        Some(Arc::new(Entry::new("/k".into(), value.into(), 1)))
    }

    #[test]
    fn a_change_means_what_the_selection_makes_of_it() {
        for (before, after, expected) in [
            (None, Some("1"), Some(Change::Added)),
            (None, Some("2"), None),
            (Some("1"), Some("1"), Some(Change::Modified)),
            (Some("1"), Some("2"), Some(Change::Deleted)),
            (Some("2"), Some("1"), Some(Change::Added)),
            (Some("2"), Some("2"), None),
            (Some("1"), None, Some(Change::Deleted)),
            (Some("2"), None, None),
        ] {
            let (old, new) = (entry(before), entry(after));
            let change = match (&old, &new) {
                (None, _) => Change::Added,
                (_, Some(_)) => Change::Modified,
                (_, None) => Change::Deleted,
            };
            let current = new.or(old.clone()).unwrap();
            let event = Event::new(change, 5, current, old);
            assert_eq!(encoder("a=1").meaning(&event), expected, "{before:?} -> {after:?}");
        }
    }

    #[test]
    fn bookmarks_say_where_the_initial_state_ends() {
        let line = encoder("").bookmark(9, true);
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["object"]["metadata"]["resourceVersion"], "9");
        assert_eq!(value["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    }
}
