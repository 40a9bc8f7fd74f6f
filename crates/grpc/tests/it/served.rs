//! A server on a free port, with methods that a test can steer, and a tonic client of it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use grpc::{Body, Code, Methods, Observer, Rope, Sender, Server, Status};
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{Notify, watch};
use tonic::{
    client::Grpc,
    transport::{Channel, Endpoint},
};

/// Answers to one request of `Repeat`.
pub const REPEATS: usize = 10_000;

#[derive(Clone, PartialEq, Message)]
pub struct Text {
    #[prost(string, tag = "1")]
    pub text: String,
}

pub fn path(method: &str) -> http::uri::PathAndQuery {
    format!("/test.Test/{method}").parse().unwrap()
}

pub async fn unary(client: &Grpc<Channel>, method: &str, text: &str) -> Result<String, tonic::Status> {
    let mut client = client.clone().max_decoding_message_size(64 << 20);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Text, Text>::default();
    let answer = client.unary(tonic::Request::new(Text { text: text.to_owned() }), path(method), codec).await?;
    Ok(answer.into_inner().text)
}

/// A head of its own and a body shared with others.
struct Parts {
    body: Bytes,
}

impl grpc::Encode for Parts {
    fn encoded_len(&self) -> usize {
        let mut head = Vec::new();
        prost::encoding::encode_varint(self.body.len() as u64, &mut head);
        1 + head.len() + self.body.len()
    }

    fn encode(&self, into: &mut Rope) {
        into.put_slice(&[0x0a]);
        prost::encoding::encode_varint(self.body.len() as u64, into.tail());
        into.put_shared(&self.body);
    }
}

#[derive(Default)]
struct Steered {
    started: AtomicUsize,
    ended: AtomicUsize,
    ok: AtomicUsize,
    sent: AtomicUsize,
    /// Bytes of requests and of answers.
    moved: [AtomicUsize; 2],
    listeners: Mutex<Vec<Sender>>,
    listening: watch::Sender<usize>,
    gate: Notify,
    changed: Notify,
}

impl Observer for Steered {
    fn started(&self, _method: usize, _call: &grpc::Call) -> Option<std::time::Duration> {
        self.started.fetch_add(1, SeqCst);
        self.changed.notify_waiters();
        None
    }

    fn ended(&self, _method: usize, code: Code, _started: Option<std::time::Duration>) {
        self.ended.fetch_add(1, SeqCst);
        self.ok.fetch_add(usize::from(code == Code::Ok), SeqCst);
        self.changed.notify_waiters();
    }

    fn moved(&self, received: usize, sent: usize) {
        self.moved[0].fetch_add(received, SeqCst);
        self.moved[1].fetch_add(sent, SeqCst);
    }
}

pub struct Served {
    pub address: SocketAddr,
    steered: Arc<Steered>,
    stop: Arc<watch::Sender<bool>>,
    ended: watch::Receiver<usize>,
}

/// Counts down the listeners when its call ends.
struct Listening(Arc<Steered>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listening.send_modify(|count| *count -= 1);
    }
}

fn methods(steered: &Arc<Steered>) -> Methods<Bytes> {
    let (repeat, listen, gated) = (steered.clone(), steered.clone(), steered.clone());
    Methods::default()
        .unary("/test.Test/Echo", |_, message| Box::pin(async { Ok(message) }))
        .unary("/test.Test/Later", |_, message| {
            Box::pin(async {
                tokio::task::yield_now().await;
                Ok(message)
            })
        })
        .unary("/test.Test/Never", |_, _| Box::pin(std::future::pending()))
        .unary("/test.Test/Fail", |_, message| {
            let text = Text::decode(message).unwrap().text;
            Box::pin(async { Err(Status::new(Code::NotFound, text)) })
        })
        .unary("/test.Test/Metadata", |call, message| {
            let key = Text::decode(message).unwrap().text;
            let value = call.metadata(&key).map(|value| String::from_utf8(value.to_vec()).unwrap());
            let answer = Text { text: value.unwrap_or_default() }.encode_to_vec();
            Box::pin(async { Ok(answer.into()) })
        })
        .unary("/test.Test/Gated", move |_, message| {
            let steered = gated.clone();
            Box::pin(async move {
                steered.gate.notified().await;
                Ok(message)
            })
        })
        .streaming("/test.Test/Repeat", move |_, mut requests, sender| {
            let steered = repeat.clone();
            Box::pin(async move {
                while let Some(message) = requests.next().await? {
                    for _ in 0..REPEATS {
                        let _ = sender.send(&message).await;
                        steered.sent.fetch_add(1, SeqCst);
                        steered.changed.notify_waiters();
                    }
                }
                Ok(())
            })
        })
        .streaming("/test.Test/Listen", move |_, _, sender| {
            let steered = listen.clone();
            Box::pin(async move {
                // The head goes out with the first message.
                let _ = sender.send(&Bytes::from_static(b"")).await;
                steered.listeners.lock().push(sender);
                steered.listening.send_modify(|count| *count += 1);
                let _listening = Listening(steered);
                std::future::pending().await
            })
        })
}

async fn plain(
    request: http::Request<Body>,
) -> Result<http::Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let grpc = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc");
    let version = format!("{:?} ", request.version());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-end", "here".parse().unwrap());
    if grpc {
        trailers.insert("grpc-status", "12".parse().unwrap());
    }
    let frames = [
        Ok(http_body::Frame::data(Bytes::from(version))),
        Ok(http_body::Frame::data(body)),
        Ok(http_body::Frame::trailers(trailers)),
    ];
    let frames = frames.into_iter().skip(if grpc { 2 } else { 0 });
    Ok(http::Response::new(StreamBody::new(futures::stream::iter(frames))))
}

impl Served {
    pub async fn start() -> Self {
        let steered = Arc::new(Steered::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            Server::builder(methods(&steered)).observer(steered.clone()).fallback(tower::service_fn(plain)).build();
        let stop = Arc::new(watch::Sender::new(false));
        let (ends, ended) = watch::channel(0);
        let (stopping, ends) = (stop.clone(), Arc::new(ends));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (server, mut stop, ends) = (server.clone(), stopping.subscribe(), ends.clone());
                tokio::spawn(async move {
                    let stopped = async move {
                        let _ = stop.wait_for(|stop| *stop).await;
                    };
                    let _ = server.serve(stream, Arc::default(), stopped).await;
                    ends.send_modify(|ends| *ends += 1);
                });
            }
        });
        Served { address, steered, stop, ended }
    }

    pub async fn client(&self) -> Grpc<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        Grpc::new(endpoint.connect().await.unwrap())
    }

    pub fn counted(&self) -> String {
        format!("started {} ok {}", self.steered.started.load(SeqCst), self.steered.ok.load(SeqCst))
    }

    /// Bytes of requests and of answers.
    pub fn moved(&self) -> (usize, usize) {
        let [received, sent] = &self.steered.moved;
        (received.load(SeqCst), sent.load(SeqCst))
    }

    async fn wait(&self, mut holds: impl FnMut(&Steered) -> bool) {
        let wait = async {
            loop {
                let changed = self.steered.changed.notified();
                if holds(&self.steered) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(super::LIMIT, wait).await.expect("the state is reached");
    }

    /// Waits for counts in words.
    pub async fn until(&self, expected: &str) {
        self.wait(|s| format!("started {} ended {}", s.started.load(SeqCst), s.ended.load(SeqCst)) == expected).await;
    }

    pub async fn until_sent(&self, count: usize) {
        self.wait(|s| s.sent.load(SeqCst) >= count).await;
    }

    pub async fn listeners(&self, expected: usize) {
        let mut listening = self.steered.listening.subscribe();
        let wait = listening.wait_for(|count| *count == expected);
        tokio::time::timeout(super::LIMIT, wait).await.unwrap().unwrap();
    }

    /// Sends a message to all listeners, from a thread that is none of the runtime's.
    pub fn broadcast(&self, body: Bytes) {
        let steered = self.steered.clone();
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::spawn(move || {
            for sender in &*steered.listeners.lock() {
                runtime.block_on(sender.send(&Parts { body: body.clone() })).unwrap();
            }
        });
        thread.join().unwrap();
    }

    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub fn open_gate(&self) {
        self.steered.gate.notify_waiters();
    }

    /// Waits for the end of a connection.
    pub async fn ended(&self) {
        self.ended.clone().wait_for(|ends| *ends > 0).await.unwrap();
    }
}
