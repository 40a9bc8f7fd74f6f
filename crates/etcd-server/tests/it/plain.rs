//! HTTP/1.1 as `curl` speaks it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Incoming};
use runtime::Tasks;

/// How long an answer, or the next line of one, may take.
const LIMIT: Duration = Duration::from_secs(10);

/// One request on a connection of its own.
pub async fn open(tasks: &Tasks, url: &str, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let stream = tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tasks.spawn("connection", async move {
        // It ends with an error when the test has seen enough.
        let _ = connection.await;
    });
    tokio::time::timeout(LIMIT, sender.send_request(request)).await.expect("it answers").unwrap()
}

pub fn request(method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    Request::builder().method(method).uri(path).header("host", "etcd").body(body).unwrap()
}

/// The status, the kind of content, and the body as text.
pub async fn ask(tasks: &Tasks, url: &str, method: Method, path: &str, body: &str) -> (u16, String, String) {
    let response = open(tasks, url, request(method, path, body)).await;
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    let code = response.status().as_u16();
    let body = tokio::time::timeout(LIMIT, response.into_body().collect()).await.expect("the answer ends").unwrap();
    (code, kind.unwrap_or_default(), String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

/// The lines of an answer that does not end.
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    pub async fn post(tasks: &Tasks, url: &str, path: &str, body: &str) -> Self {
        let response = open(tasks, url, request(Method::POST, path, body)).await;
        assert_eq!(response.status(), 200, "{path}");
        Lines { body: response.into_body(), buffer: Vec::new() }
    }

    pub async fn next(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return String::from_utf8(line).unwrap().trim_end().to_owned();
            }
            let frame = tokio::time::timeout(LIMIT, self.body.frame()).await.expect("another line comes");
            let frame = frame.expect("the answer goes on").unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }
}
