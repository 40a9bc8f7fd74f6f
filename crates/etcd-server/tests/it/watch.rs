//! The watch stream as the protocol has it, message by message.

use std::time::Duration;

use etcd_proto::{
    etcdserverpb::{
        self as pb, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        kv_client::KvClient, watch_request::RequestUnion,
    },
    mvccpb,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::served::Served;

const LIMIT: Duration = Duration::from_secs(10);

struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Stream {
    async fn open(served: &Served) -> Self {
        let (requests, queue) = mpsc::channel(16);
        let mut client = served.watch().await.max_decoding_message_size(64 << 20);
        let responses = client.watch(ReceiverStream::new(queue)).await.unwrap().into_inner();
        Stream { requests, responses }
    }

    async fn send(&self, request: RequestUnion) {
        self.requests.send(WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    async fn create(&self, create: WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(create)).await;
    }

    async fn next(&mut self) -> WatchResponse {
        let message = tokio::time::timeout(LIMIT, self.responses.message()).await.expect("the stream says something");
        message.unwrap().expect("the stream goes on")
    }

    /// The next message in words.
    async fn told(&mut self) -> String {
        let r = self.next().await;
        let mut words = vec![format!("watch {}", r.watch_id)];
        for (holds, word) in [(r.created, "created"), (r.canceled, "canceled"), (r.fragment, "fragment")] {
            if holds {
                words.push(word.to_owned());
            }
        }
        if r.compact_revision != 0 {
            words.push(format!("compacted {}", r.compact_revision));
        }
        if !r.cancel_reason.is_empty() {
            words.push(r.cancel_reason.clone());
        }
        words.extend(r.events.iter().map(event));
        words.push(format!("at {}", r.header.unwrap().revision));
        words.join(" ")
    }
}

fn event(event: &mvccpb::Event) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let kv = event.kv.as_ref().unwrap();
    let before = event.prev_kv.as_ref().map(|kv| format!("(was {})", text(&kv.value))).unwrap_or_default();
    format!("{}:{}={}{before}", event.r#type().as_str_name(), text(&kv.key), text(&kv.value))
}

fn key(key: &str) -> WatchCreateRequest {
    WatchCreateRequest { key: key.to_owned().into(), ..Default::default() }
}

async fn put(kv: &mut KvClient<Channel>, key: &str, value: impl Into<Vec<u8>>) -> i64 {
    let value: Vec<u8> = value.into();
    let request = pb::PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() };
    kv.put(request).await.unwrap().into_inner().header.unwrap().revision
}

#[tokio::test]
async fn many_watches_share_a_stream() {
    let served = Served::start().await;
    let (mut kv, mut stream) = (served.kv().await, Stream::open(&served).await);
    stream.create(key("a")).await;
    assert_eq!(stream.told().await, "watch 0 created at 1");
    stream.create(WatchCreateRequest { watch_id: 7, prev_kv: true, ..key("b") }).await;
    assert_eq!(stream.told().await, "watch 7 created at 1");
    stream.create(WatchCreateRequest { watch_id: 7, ..key("c") }).await;
    let refused = "watch -1 created canceled mvcc: duplicate watch ID provided on the WatchStream at 1";
    assert_eq!(stream.told().await, refused);
    stream.create(WatchCreateRequest { range_end: "a".into(), ..key("b") }).await;
    assert_eq!(stream.told().await, "watch -1 created canceled mvcc: watcher range is empty at 1");
    put(&mut kv, "a", "1").await;
    assert_eq!(stream.told().await, "watch 0 PUT:a=1 at 2");
    put(&mut kv, "b", "1").await;
    assert_eq!(stream.told().await, "watch 7 PUT:b=1 at 3");
    put(&mut kv, "b", "2").await;
    assert_eq!(stream.told().await, "watch 7 PUT:b=2(was 1) at 4");
    stream.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 7 })).await;
    assert!(stream.told().await.starts_with("watch 7 canceled"));
    put(&mut kv, "b", "3").await;
    put(&mut kv, "a", "2").await;
    assert_eq!(stream.told().await, "watch 0 PUT:a=2 at 6");
    // A cancelled id is free again, and history is told from the revision asked for.
    stream.create(WatchCreateRequest { watch_id: 7, start_revision: 4, ..key("b") }).await;
    assert_eq!(stream.told().await, "watch 7 created at 6");
    let mut history = String::new();
    while !history.contains("b=3") {
        history += &stream.told().await;
    }
    assert!(history.contains("PUT:b=2") && !history.contains("b=1"), "{history}");
}

#[tokio::test]
async fn progress_is_told_once_for_the_whole_stream() {
    let served = Served::start().await;
    let (mut kv, mut stream) = (served.kv().await, Stream::open(&served).await);
    for name in ["a", "b", "c"] {
        stream.create(key(name)).await;
        assert!(stream.told().await.contains("created"));
    }
    let revision = put(&mut kv, "other", "1").await;
    stream.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    assert_eq!(stream.told().await, format!("watch -1 at {revision}"));
    put(&mut kv, "c", "1").await;
    assert_eq!(stream.told().await, format!("watch 2 PUT:c=1 at {}", revision + 1));
}

#[tokio::test]
async fn a_compacted_start_cancels_the_watch_and_not_the_stream() {
    let served = Served::start().await;
    let (mut kv, mut stream) = (served.kv().await, Stream::open(&served).await);
    put(&mut kv, "a", "1").await;
    let revision = put(&mut kv, "a", "2").await;
    kv.compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();
    stream.create(WatchCreateRequest { start_revision: 1, ..key("a") }).await;
    assert_eq!(stream.told().await, "watch 0 created at 3");
    assert_eq!(stream.told().await, "watch 0 canceled compacted 3 at 3");
    stream.create(WatchCreateRequest { start_revision: revision, ..key("a") }).await;
    assert_eq!(stream.told().await, "watch 1 created at 3");
    assert_eq!(stream.told().await, "watch 1 PUT:a=2 at 3");
}

#[tokio::test]
async fn large_responses_come_in_fragments_when_asked() {
    let served = Served::start().await;
    let (mut kv, mut stream) = (served.kv().await, Stream::open(&served).await);
    for n in 0..5 {
        put(&mut kv, &format!("k{n}"), vec![b'x'; 600 * 1024]).await;
    }
    stream.create(WatchCreateRequest { range_end: "l".into(), start_revision: 2, fragment: true, ..key("k") }).await;
    assert!(stream.next().await.created);
    let (mut keys, mut fragments) = (Vec::new(), 0);
    while keys.len() < 5 {
        let response = stream.next().await;
        assert!(response.events.len() <= 2, "{} events of 600 KiB in one message", response.events.len());
        fragments += usize::from(response.fragment);
        keys.extend(response.events.into_iter().map(|e| String::from_utf8_lossy(&e.kv.unwrap().key).into_owned()));
    }
    assert_eq!(keys, ["k0", "k1", "k2", "k3", "k4"]);
    assert!(fragments > 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_misses_nothing_later() {
    /// Far more than the windows, the queue and the store's buffer hold together.
    const EVENTS: i64 = 3000;
    let served = Served::with(None, |store| store.watch_buffer_events = 32).await;
    let (kv, mut stream) = (served.kv().await, Stream::open(&served).await);
    stream.create(key("k")).await;
    assert!(stream.next().await.created);
    for _ in 0..EVENTS / 100 {
        let puts = (0..100).map(|_| {
            let mut kv = kv.clone();
            async move { put(&mut kv, "k", vec![b'x'; 2048]).await }
        });
        futures::future::join_all(puts).await;
    }
    let mut versions = Vec::new();
    while versions.last() != Some(&EVENTS) {
        versions.extend(stream.next().await.events.into_iter().map(|event| event.kv.unwrap().version));
    }
    assert_eq!(versions, (1..=EVENTS).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_stop_of_the_server_ends_streams() {
    let served = Served::start().await;
    let mut stream = Stream::open(&served).await;
    stream.create(key("a")).await;
    assert!(stream.next().await.created);
    served.tasks.stop();
    let ended = async {
        loop {
            match stream.responses.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return "ended".to_owned(),
                Err(status) => return status.message().to_owned(),
            }
        }
    };
    let told = tokio::time::timeout(LIMIT, ended).await.unwrap();
    assert_eq!(told, "etcdserver: server stopped");
}
