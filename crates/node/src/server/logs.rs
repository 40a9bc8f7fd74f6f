//! `/containerLogs`: reads CRI-format log files and follows them, woken by the kernel when a file changes and by the
//! directory when the container ends; never by a timer.

mod follow;
mod line;
mod tail;

use std::{path::PathBuf, time::Duration};

use futures::TryStreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream_of::receiver_stream;

use super::Body;
use crate::{directory::PodEntry, streaming::StreamingState};

/// Chunks of log text that wait for a slow reader.
const CHUNKS: usize = 8;

/// What the query asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LogOptions {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    pub since: Option<Since>,
    pub stream: Streams,
}

/// Lines older than this are left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Since {
    Ago(Duration),
    Time(Timestamp),
}

/// Which of the container's streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Streams {
    #[default]
    All,
    Stdout,
    Stderr,
}

/// Why there is no log; the texts are kubelet's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("{0}")]
    PodNotFound(String),
    #[error("{0}")]
    NotAvailable(String),
}

impl LogOptions {
    /// Reads a URL query in the names of `PodLogOptions`.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut options = LogOptions::default();
        for (name, value) in url_pairs(query) {
            let flag = || value.parse::<bool>().unwrap_or(value == "1" || value.is_empty());
            let number = || value.parse::<u64>().map_err(|_| format!("invalid value {value:?} for {name}\n"));
            match name.as_str() {
                "follow" => options.follow = flag(),
                "previous" => options.previous = flag(),
                "timestamps" => options.timestamps = flag(),
                "tailLines" => options.tail_lines = Some(number()?),
                "limitBytes" => options.limit_bytes = Some(number()?),
                "sinceSeconds" => options.since = Some(Since::Ago(Duration::from_secs(number()?))),
                "sinceTime" => {
                    let time = value.parse().map_err(|_| format!("invalid value {value:?} for sinceTime\n"))?;
                    options.since = Some(Since::Time(time));
                }
                "stream" => {
                    options.stream = match value.as_str() {
                        "All" | "" => Streams::All,
                        "Stdout" => Streams::Stdout,
                        "Stderr" => Streams::Stderr,
                        _ => return Err(format!("invalid value {value:?} for stream\n")),
                    }
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

/// The pairs of a query with `%XX` and `+` resolved.
pub(crate) fn url_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(name), percent_decode(value))
    })
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (bytes[at], hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Finds the log and begins to read it.
pub(crate) async fn open(
    state: &StreamingState,
    namespace: &str,
    pod: &str,
    container: &str,
    options: LogOptions,
) -> Result<Body, LogError> {
    let Some(entries) = state.directory.follow(namespace, pod, None) else {
        return Err(LogError::PodNotFound(format!("pod \"{pod}\" does not exist\n")));
    };
    let path = log_path(&entries.borrow(), container, options.previous)?;
    let since = options.since.map(|since| match since {
        Since::Time(time) => time,
        Since::Ago(ago) => state.clock.now().checked_sub(ago).unwrap_or(Timestamp::MIN),
    });
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let reader = follow::Reader { path, container: container.to_owned(), options, since, entries, sender };
    state.tasks.spawn("logs", reader.run());
    Ok(StreamBody::new(receiver_stream(receiver).map_ok(Frame::data)).boxed())
}

fn log_path(entry: &PodEntry, container: &str, previous: bool) -> Result<PathBuf, LogError> {
    let refuse = |text: String| Err(LogError::NotAvailable(text));
    let pod = &entry.name;
    let Some(state) = entry.containers.get(container) else {
        return refuse(format!("container {container:?} in pod {pod:?} is not available\n"));
    };
    if previous {
        return match &state.previous_log_path {
            Some(path) => Ok(path.clone()),
            None => refuse(format!("previous terminated container {container:?} in pod {pod:?} not found\n")),
        };
    }
    match (&state.log_path, state.waiting.as_str()) {
        (Some(path), _) => Ok(path.clone()),
        (None, "ErrImagePull") => {
            refuse(format!("container {container:?} in pod {pod:?} is waiting to start: image can't be pulled\n"))
        }
        (None, "ImagePullBackOff") => refuse(format!(
            "container {container:?} in pod {pod:?} is waiting to start: trying and failing to pull image\n"
        )),
        (None, reason) => refuse(format!("container {container:?} in pod {pod:?} is waiting to start: {reason}\n")),
    }
}

mod tokio_stream_of {
    use futures::Stream;
    use tokio::sync::mpsc::Receiver;

    /// The receiver's values as a stream.
    pub fn receiver_stream<T>(receiver: Receiver<T>) -> impl Stream<Item = T> {
        futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|v| (v, receiver)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_the_query() {
        let options = LogOptions::parse("follow=true&tailLines=10&sinceTime=2026-01-01T00%3A00%3A00Z&stream=Stdout");
        let expected = LogOptions {
            follow: true,
            tail_lines: Some(10),
            since: Some(Since::Time("2026-01-01T00:00:00Z".parse().unwrap())),
            stream: Streams::Stdout,
            ..LogOptions::default()
        };
        assert_eq!(options, Ok(expected));
        assert!(LogOptions::parse("tailLines=-1").is_err());
        assert!(LogOptions::parse("sinceTime=yesterday").is_err());
    }
}
