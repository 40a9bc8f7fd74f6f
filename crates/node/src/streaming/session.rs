//! Exec and attach: a container's streams on one side, a WebSocket's channels on the other. Each stream is read only as
//! fast as the client takes it, and the client only as fast as the command reads.

use std::{future::Future, time::Duration};

use containers::{AttachSession, ContainerId, ExecControl, ExecSession, Runtime};
use futures::{SinkExt, Stream, StreamExt};
use runtime::CancellationToken;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::{
    channels::{self, Input, Protocol, STDERR, STDOUT},
    websocket::{self, Socket},
};

/// Messages that wait to be written.
const QUEUE: usize = 4;
/// Bytes of a stream in one message.
const CHUNK: usize = 32 * 1024;
/// How long the client may take to read the end of it.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long output may follow after a command's end: something that it left running may hold the pipe.
const DRAIN: Duration = Duration::from_secs(1);

type Reader = containers::StreamReader;
type Writer = containers::StreamWriter;

/// The streams of one session and what else can be done to it.
pub struct Streams {
    pub stdin: Option<Writer>,
    pub stdout: Option<Reader>,
    pub stderr: Option<Reader>,
    pub control: Control,
}

/// Who resizes the terminal and knows the end.
pub enum Control {
    Exec(ExecControl),
    /// A container's own streams end when it does.
    Attach(Runtime, ContainerId),
}

impl Streams {
    pub fn of_exec(session: ExecSession) -> Self {
        let control = Control::Exec(session.control());
        Streams { stdin: session.stdin, stdout: session.stdout, stderr: session.stderr, control }
    }

    pub fn of_attach(session: AttachSession, runtime: Runtime, id: ContainerId) -> Self {
        let control = Control::Attach(runtime, id);
        Streams { stdin: session.stdin, stdout: Some(session.stdout), stderr: session.stderr, control }
    }
}

/// Runs a session to its end: the command's or the client's.
pub async fn run(socket: Socket, protocol: Protocol, streams: impl Future<Output = Result<Streams, String>>) {
    let (mut sink, mut source) = socket.split();
    let (queue, mut waiting) = mpsc::channel::<Message>(QUEUE);
    let write = async {
        while let Some(message) = waiting.recv().await {
            sink.send(message).await?;
        }
        sink.send(websocket::farewell()).await?;
        sink.close().await
    };
    tokio::pin!(write);
    let written = tokio::select! {
        // The client is gone: dropping the streams tells the command.
        result = &mut write => result,
        () = serve(&mut source, queue, protocol, streams) => match tokio::time::timeout(FAREWELL, write).await {
            Ok(result) => result,
            Err(_) => return tracing::debug!("a streaming client does not take the end of its session"),
        },
    };
    match written {
        Ok(()) => {
            // Closing with the client's bytes unread would throw away what it has not read yet itself.
            let rest = async { while let Some(Ok(_)) = source.next().await {} };
            let _ = tokio::time::timeout(FAREWELL, rest).await;
        }
        Err(SocketError::ConnectionClosed | SocketError::AlreadyClosed) => {}
        Err(error) => tracing::debug!(%error, "a streaming client went away"),
    }
}

async fn serve<S>(
    source: &mut S,
    queue: mpsc::Sender<Message>,
    protocol: Protocol,
    streams: impl Future<Output = Result<Streams, String>>,
) where
    S: Stream<Item = Result<Message, SocketError>> + Unpin,
{
    // An empty message tells the client that the other side stands. Errors of sending: the writer knows more.
    let _ = queue.send(protocol.write(STDOUT, b"")).await;
    let status = match streams.await {
        Ok(streams) => exchange(source, &queue, protocol, streams).await,
        Err(error) => Some(channels::failed(&error)),
    };
    if let Some(status) = status {
        let _ = tokio::time::timeout(FAREWELL, queue.send(protocol.end(&status))).await;
    }
}

/// Moves bytes both ways. `None` when the client went first.
async fn exchange<S>(
    source: &mut S,
    queue: &mpsc::Sender<Message>,
    protocol: Protocol,
    streams: Streams,
) -> Option<Value>
where
    S: Stream<Item = Result<Message, SocketError>> + Unpin,
{
    let Streams { stdin, stdout, stderr, control } = streams;
    let ended = CancellationToken::new();
    let output = async {
        let out = pump(stdout, queue, protocol, STDOUT, &ended);
        tokio::join!(out, pump(stderr, queue, protocol, STDERR, &ended));
    };
    let end = async {
        let Control::Exec(exec) = &control else {
            output.await;
            return channels::ended(0);
        };
        let code = async {
            let code = exec.wait().await;
            ended.cancel();
            code
        };
        match tokio::join!(code, output).0 {
            Ok(code) => channels::ended(code),
            Err(error) => channels::failed(&error.to_string()),
        }
    };
    tokio::select! {
        status = end => Some(status),
        () = feed(source, protocol, stdin, &control) => None,
    }
}

/// Does what the client says until it goes.
async fn feed<S>(source: &mut S, protocol: Protocol, mut stdin: Option<Writer>, control: &Control)
where
    S: Stream<Item = Result<Message, SocketError>> + Unpin,
{
    while let Some(Ok(message)) = source.next().await {
        match protocol.read(message) {
            Input::Stdin(bytes) => {
                // A command that does not read any more does not end the session.
                if let Some(writer) = &mut stdin
                    && writer.write_all(&bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Input::CloseStdin => {
                if let Some(mut writer) = stdin.take() {
                    let _ = writer.shutdown().await;
                }
            }
            Input::Resize { columns, rows } => resize(control, columns, rows).await,
            Input::Nothing => {}
            Input::Gone => return,
        }
    }
}

async fn resize(control: &Control, columns: u16, rows: u16) {
    let result = match control {
        Control::Exec(exec) => exec.resize(columns, rows),
        Control::Attach(runtime, id) => runtime.resize(id, columns, rows).await,
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a terminal could not be resized");
    }
}

/// Carries a stream's bytes to the client until its end, or until nothing has come for a while after the command's.
async fn pump<R: AsyncRead + Unpin>(
    reader: Option<R>,
    queue: &mpsc::Sender<Message>,
    protocol: Protocol,
    channel: u8,
    ended: &CancellationToken,
) {
    let Some(mut reader) = reader else { return };
    let mut buffer = vec![0; CHUNK];
    loop {
        let late = async {
            ended.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        let read = tokio::select! {
            read = reader.read(&mut buffer) => read,
            () = late => return,
        };
        let Ok(length @ 1..) = read else { return };
        if queue.send(protocol.write(channel, &buffer[..length])).await.is_err() {
            return;
        }
    }
}
