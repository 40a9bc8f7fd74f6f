//! A client that watches one member, asks it again and again how far the watch has come, and goes on with a new watch
//! where the old one broke.

use std::time::Duration;

use checker::history::{Event, Keys, Revision, Watch, WatchResponse};
use etcd_proto::{
    etcdserverpb::{self as pb, watch_client::WatchClient, watch_request::RequestUnion},
    mvccpb,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    client::{bytes, channel, key_value},
    record::Recorder,
};

/// How often the watch is asked for a bookmark.
const BOOKMARKS: Duration = Duration::from_millis(200);
/// A stream that says nothing for this time, although it is asked, leads nowhere.
const SILENCE: Duration = Duration::from_secs(3);
const BACKOFF: Duration = Duration::from_millis(100);
/// etcd sends what a watch has missed at once, and its own clients take responses of any size.
const MAX_RESPONSE_BYTES: usize = 256 << 20;
/// Requests on their way to the server.
const REQUESTS: usize = 8;

/// What a watcher looks at.
#[derive(Clone)]
pub struct Wish {
    pub client: u32,
    pub url: String,
    pub keys: Keys,
    pub start: Revision,
    pub prev_kv: bool,
    pub fragment: bool,
    pub no_delete: bool,
}

/// Watches until everything up to the revision that `until` names at some time has come.
pub async fn run(mut wish: Wish, recorder: Recorder, until: watch::Receiver<Option<Revision>>) {
    let mut passed = 0;
    loop {
        let mut watch = Watch {
            id: recorder.number(),
            client: wish.client,
            member: 0,
            keys: wish.keys.clone(),
            start: wish.start,
            prev_kv: wish.prev_kv,
            fragment: wish.fragment,
            no_put: false,
            no_delete: wish.no_delete,
            responses: Vec::new(),
        };
        let _ = follow(&wish, &mut watch, &recorder, &until).await;
        passed = watch.passed().max(passed);
        wish.start = next_start(&wish, &watch);
        if !watch.responses.is_empty() {
            recorder.watch(watch);
        }
        if until.borrow().is_some_and(|until| passed >= until) {
            return;
        }
        tokio::time::sleep(BACKOFF).await;
    }
}

/// Where to go on: behind everything that is known to have come, and not before what is compacted.
fn next_start(wish: &Wish, watch: &Watch) -> Revision {
    let compacted = watch.responses.iter().map(|response| response.compact_revision).max().unwrap_or(0);
    let next = match watch.from() {
        // Of a revision in fragments only its beginning may have come; it is asked for again.
        Some(from) => watch.passed().max(from - 1) + 1,
        None => wish.start,
    };
    next.max(compacted)
}

async fn follow(
    wish: &Wish,
    watch: &mut Watch,
    recorder: &Recorder,
    until: &watch::Receiver<Option<Revision>>,
) -> Result<(), Status> {
    let (requests, outbox) = mpsc::channel(REQUESTS);
    let ask = |request| {
        let request = pb::WatchRequest { request_union: Some(request) };
        // Without room nobody reads any more.
        requests.try_send(request).map_err(|_| Status::cancelled("the stream takes no requests"))
    };
    ask(create(wish))?;
    let client = WatchClient::new(channel(&wish.url));
    let mut client = client.max_decoding_message_size(MAX_RESPONSE_BYTES);
    let opened = tokio::time::timeout(SILENCE, client.watch(ReceiverStream::new(outbox))).await;
    let mut stream = opened.map_err(|_| Status::cancelled("silence"))??.into_inner();
    let began = recorder.now();
    loop {
        while let Ok(response) = tokio::time::timeout(BOOKMARKS, next(&mut stream, watch, recorder)).await {
            response?;
            if until.borrow().is_some_and(|until| watch.passed() >= until) {
                return Ok(());
            }
        }
        let heard = watch.responses.last().map_or(began, |response| response.at);
        if recorder.now() > heard + SILENCE.as_micros() as u64 {
            return Err(Status::cancelled("silence"));
        }
        ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))?;
    }
}

async fn next(stream: &mut Streaming<pb::WatchResponse>, watch: &mut Watch, recorder: &Recorder) -> Result<(), Status> {
    let response = stream.message().await?.ok_or_else(|| Status::cancelled("the stream ended"))?;
    let header = response.header.unwrap_or_default();
    watch.member = header.member_id;
    let recorded = WatchResponse {
        at: recorder.now(),
        revision: header.revision,
        created: response.created,
        canceled: response.canceled,
        compact_revision: response.compact_revision,
        fragment: response.fragment,
        events: response.events.into_iter().map(event).collect(),
    };
    let canceled = recorded.canceled;
    watch.responses.push(recorded);
    if canceled { Err(Status::cancelled(response.cancel_reason)) } else { Ok(()) }
}

fn create(wish: &Wish) -> RequestUnion {
    let (key, range_end) = bytes(&wish.keys);
    let mut filters = Vec::new();
    if wish.no_delete {
        filters.push(pb::watch_create_request::FilterType::Nodelete.into());
    }
    RequestUnion::CreateRequest(pb::WatchCreateRequest {
        key,
        range_end,
        start_revision: wish.start,
        progress_notify: true,
        filters,
        prev_kv: wish.prev_kv,
        watch_id: 0,
        fragment: wish.fragment,
    })
}

fn event(event: mvccpb::Event) -> Event {
    Event {
        deleted: event.r#type() == mvccpb::event::EventType::Delete,
        kv: key_value(event.kv.unwrap_or_default()),
        prev: event.prev_kv.map(key_value),
    }
}
