//! Arms failpoints over HTTP, for tests only: a process serves this when `PLINTH_FAILPOINTS_HTTP` names an address.
//!
//! ```text
//!   GET /                     what is armed, one "name=action hits" a line
//!   PUT /name  sleep(50)*2    arms one
//!   DELETE /name              takes it back
//! ```
//!
//! One request a connection, and nothing of HTTP that these three do not need.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{Tasks, failpoint};

/// The environment variable with the address to serve at.
pub const ENVIRONMENT: &str = "PLINTH_FAILPOINTS_HTTP";
/// A request is a name and an action; one that is longer or slower is refused.
const MAX_REQUEST_BYTES: usize = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves at the address that the environment names, if it names one.
pub async fn from_environment(tasks: &Tasks) -> io::Result<()> {
    match std::env::var(ENVIRONMENT) {
        Ok(address) => serve(TcpListener::bind(address).await?, tasks),
        Err(_) => Ok(()),
    }
}

/// Answers on a listener until the tasks stop.
pub fn serve(listener: TcpListener, tasks: &Tasks) -> io::Result<()> {
    tasks.spawn("failpoints", async move {
        while let Ok((stream, _)) = listener.accept().await {
            // One after another: a test asks one thing at a time.
            let _ = tokio::time::timeout(PATIENCE, answer(stream)).await;
        }
    });
    Ok(())
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    let (status, body) = loop {
        if let Some(answer) = complete(&request) {
            break answer;
        }
        let mut portion = [0; 1024];
        let length = stream.read(&mut portion).await?;
        request.extend_from_slice(&portion[..length]);
        if length == 0 || request.len() > MAX_REQUEST_BYTES {
            break ("400 Bad Request", "the request is cut off or too long\n".to_owned());
        }
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

/// The answer to a request, once all of it is there.
fn complete(request: &[u8]) -> Option<(&'static str, String)> {
    let text = std::str::from_utf8(request).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?, words.next()?.trim_start_matches('/'));
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    };
    let length = lines.find_map(header).unwrap_or(0);
    let body = body.get(..length)?;
    let armed = match method {
        "GET" if path.is_empty() => return Some(("200 OK", failpoint::list())),
        "PUT" => failpoint::arm(&format!("{path}={body}")),
        "DELETE" => failpoint::arm(&format!("{path}=off")),
        _ => return Some(("405 Method Not Allowed", "GET /, PUT /name or DELETE /name is wanted\n".to_owned())),
    };
    Some(match armed {
        Ok(()) => ("200 OK", String::new()),
        Err(error) => ("400 Bad Request", format!("{error}\n")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn arms_lists_and_takes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = Tasks::root();
        serve(listener, &tasks).unwrap();
        let check = async |request: &str, expected: &[&str]| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(expected.iter().all(|part| answer.contains(part)), "{request}: {answer}");
        };
        check("PUT /test/http HTTP/1.1\r\nContent-Length: 9\r\n\r\nsleep(1)*", &["400 Bad Request", "is no failpoint"])
            .await;
        check("PUT /test/http HTTP/1.1\r\ncontent-length: 10\r\n\r\nsleep(1)*2", &["200 OK"]).await;
        crate::failpoint!("test/http");
        check("GET / HTTP/1.1\r\n\r\n", &["200 OK", "test/http=sleep(1)*1 1"]).await;
        check("DELETE /test/http HTTP/1.1\r\n\r\n", &["200 OK"]).await;
        assert_eq!(failpoint::hits("test/http"), None);
        check("POST / HTTP/1.1\r\n\r\n", &["405"]).await;
        tasks.stop();
    }
}
