//! One HTTP/2 connection that carries gRPC calls, from the client's side and as lean as it can be: requests are written
//! behind each other into one buffer, answers are read only as far as their end and status.
//!
//! Knows frames, windows and header blocks; knows no message. It never waits by itself: who owns the connection decides
//! when to read and when to write. Windows towards us are as large as they can be, so that no server ever waits for us.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use anyhow::{Context, bail, ensure};

use super::hpack::{Decoder, Encoder, Said};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
/// No side has asked for more, and this one does not either.
const MAX_FRAME_BYTES: usize = 16 * 1024;
/// What one read may bring.
const INBOUND_BYTES: usize = 1 << 20;
const DEFAULT_WINDOW: i64 = 65_535;
const LARGEST_WINDOW: u32 = i32::MAX as u32;
/// The connection's window is opened again after so many bytes.
const WINDOW_STEP: u32 = 1 << 28;
/// gRPC's prefix of each message: not compressed, and its length.
const PREFIX_BYTES: usize = 5;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

const INITIAL_WINDOW_SIZE: u16 = 4;

/// Who is told what a read has brought.
pub trait Sink {
    /// Bytes of a stream's body, gRPC's prefixes included.
    fn data(&mut self, stream: u32, bytes: &[u8]) -> anyhow::Result<()>;
    /// The call succeeded.
    fn succeeded(&mut self, stream: u32) -> anyhow::Result<()>;
    /// The call failed, which most measurements take as their own end.
    fn failed(&mut self, _stream: u32, why: String) -> anyhow::Result<()> {
        bail!("a call failed: {why}")
    }
}

pub struct Connection {
    socket: TcpStream,
    inbound: Vec<u8>,
    filled: usize,
    outbound: Vec<u8>,
    encoder: Encoder,
    decoder: Decoder,
    next_stream: u32,
    /// What we may send on the connection, and at first on each stream.
    window: i64,
    stream_window: i64,
    /// Bytes taken in since we last opened the connection's window.
    taken: u32,
}

impl Connection {
    /// Connects; the first bytes go out with the first request. Reads wait at most `patience`, or not at all without.
    pub fn open(address: SocketAddr, patience: Option<Duration>) -> anyhow::Result<Self> {
        let socket =
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).with_context(|| format!("{address}"))?;
        socket.set_nodelay(true)?;
        match patience {
            Some(_) => socket.set_read_timeout(patience)?,
            None => socket.set_nonblocking(true)?,
        }
        let mut outbound = PREFACE.to_vec();
        frame(&mut outbound, SETTINGS, 0, 0, 6);
        outbound.extend_from_slice(&INITIAL_WINDOW_SIZE.to_be_bytes());
        outbound.extend_from_slice(&LARGEST_WINDOW.to_be_bytes());
        open_window(&mut outbound, LARGEST_WINDOW - DEFAULT_WINDOW as u32);
        Ok(Connection {
            socket,
            inbound: vec![0; INBOUND_BYTES],
            filled: 0,
            outbound,
            encoder: Encoder::new(address.to_string()),
            decoder: Decoder::default(),
            next_stream: 1,
            window: DEFAULT_WINDOW,
            stream_window: DEFAULT_WINDOW,
            taken: 0,
        })
    }

    /// Writes a request into the buffer and gives its stream; `None` while the server's window has no room for it.
    /// With `last`, the client's half of the stream ends here.
    pub fn begin(&mut self, path: &'static str, message: &[u8], last: bool) -> anyhow::Result<Option<u32>> {
        ensure!((message.len() + PREFIX_BYTES) as i64 <= self.stream_window, "a request larger than a stream's window");
        if !self.has_room(message) {
            return Ok(None);
        }
        let stream = self.next_stream;
        ensure!(stream < LARGEST_WINDOW, "the connection has used up its stream numbers");
        self.next_stream += 2;
        let head = self.outbound.len();
        frame(&mut self.outbound, HEADERS, END_HEADERS, stream, 0);
        self.encoder.request(path, &mut self.outbound);
        let length = self.outbound.len() - head - HEAD_BYTES;
        self.outbound[head..head + 3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
        self.message(stream, message, last);
        Ok(Some(stream))
    }

    /// One more message on a stream. The caller sees to it that the windows have room: these are a few at the start.
    pub fn more(&mut self, stream: u32, message: &[u8]) -> anyhow::Result<()> {
        ensure!(self.has_room(message), "no room for another message");
        self.message(stream, message, false);
        Ok(())
    }

    fn has_room(&self, message: &[u8]) -> bool {
        (message.len() + PREFIX_BYTES) as i64 <= self.window
    }

    fn message(&mut self, stream: u32, message: &[u8], last: bool) {
        let mut prefix = [0; PREFIX_BYTES];
        prefix[1..].copy_from_slice(&(message.len() as u32).to_be_bytes());
        self.window -= (message.len() + PREFIX_BYTES) as i64;
        let first = message.len().min(MAX_FRAME_BYTES - PREFIX_BYTES);
        let mut rest = message.chunks(MAX_FRAME_BYTES - PREFIX_BYTES);
        let flags = |more: bool| if last && !more { END_STREAM } else { 0 };
        frame(&mut self.outbound, DATA, flags(first < message.len()), stream, first + PREFIX_BYTES);
        self.outbound.extend_from_slice(&prefix);
        self.outbound.extend_from_slice(rest.next().unwrap_or_default());
        while let Some(chunk) = rest.next() {
            frame(&mut self.outbound, DATA, flags(rest.len() > 0), stream, chunk.len());
            self.outbound.extend_from_slice(chunk);
        }
    }

    /// Writes what is in the buffer, as far as the socket takes it. Whether all went out.
    pub fn flush(&mut self) -> anyhow::Result<bool> {
        let mut sent = 0;
        while sent < self.outbound.len() {
            match self.socket.write(&self.outbound[sent..]) {
                Ok(0) => bail!("the server has closed the connection"),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot write to the server"),
            }
        }
        self.outbound.drain(..sent);
        Ok(self.outbound.is_empty())
    }

    /// Reads once and hands on what came. `false`: nothing was there (within the connection's patience).
    pub fn read(&mut self, sink: &mut impl Sink) -> anyhow::Result<bool> {
        match self.socket.read(&mut self.inbound[self.filled..]) {
            Ok(0) => bail!("the server has closed the connection"),
            Ok(count) => self.filled += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(false),
            Err(error) => return Err(error).context("cannot read from the server"),
        }
        // Taken out for the loop, so that a frame can be looked at while the rest of the connection changes.
        let inbound = std::mem::take(&mut self.inbound);
        let mut at = 0;
        let mut outcome = Ok(());
        while outcome.is_ok() && self.filled - at >= HEAD_BYTES {
            let head = &inbound[at..at + HEAD_BYTES];
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if self.filled - at < HEAD_BYTES + length {
                break;
            }
            let stream = number(&head[5..9]) & LARGEST_WINDOW;
            let payload = &inbound[at + HEAD_BYTES..at + HEAD_BYTES + length];
            outcome = self.frame(head[3], head[4], stream, payload, sink);
            at += HEAD_BYTES + length;
        }
        self.inbound = inbound;
        self.inbound.copy_within(at..self.filled, 0);
        self.filled -= at;
        outcome.map(|()| true)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], sink: &mut impl Sink) -> anyhow::Result<()> {
        match kind {
            DATA => {
                self.take(payload.len() as u32);
                let bytes = unpadded(payload, flags)?;
                if !bytes.is_empty() {
                    sink.data(stream, bytes)?;
                }
                if flags & END_STREAM != 0 {
                    sink.failed(stream, "the answer has no status".to_owned())?;
                }
                Ok(())
            }
            HEADERS => {
                ensure!(flags & END_HEADERS != 0, "headers longer than a frame");
                let block = unpadded(payload, flags)?;
                let block = if flags & PRIORITY != 0 { block.get(5..).context("a short frame")? } else { block };
                let said = self.decoder.block(block)?;
                match flags & END_STREAM != 0 {
                    true if said.grpc_status == Some(0) => sink.succeeded(stream),
                    false if said.http_status.is_none() => Ok(()),
                    _ => sink.failed(stream, in_words(&said)),
                }
            }
            RST_STREAM => sink.failed(stream, format!("the stream was reset, code {}", number(payload))),
            SETTINGS if flags & ACK == 0 => self.settings(payload),
            PING if flags & ACK == 0 => {
                frame(&mut self.outbound, PING, ACK, 0, payload.len());
                self.outbound.extend_from_slice(payload);
                Ok(())
            }
            GOAWAY => bail!("the server goes away: {}", String::from_utf8_lossy(payload.get(8..).unwrap_or_default())),
            WINDOW_UPDATE if stream == 0 => {
                self.window += i64::from(number(payload));
                Ok(())
            }
            CONTINUATION => bail!("headers longer than a frame"),
            _ => Ok(()),
        }
    }

    fn settings(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        for setting in payload.chunks_exact(6) {
            if u16::from_be_bytes([setting[0], setting[1]]) == INITIAL_WINDOW_SIZE {
                self.stream_window = i64::from(number(&setting[2..]));
            }
        }
        frame(&mut self.outbound, SETTINGS, ACK, 0, 0);
        Ok(())
    }

    fn take(&mut self, bytes: u32) {
        self.taken += bytes;
        if self.taken >= WINDOW_STEP {
            open_window(&mut self.outbound, self.taken);
            self.taken = 0;
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: usize) {
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn open_window(out: &mut Vec<u8>, by: u32) {
    frame(out, WINDOW_UPDATE, 0, 0, 4);
    out.extend_from_slice(&by.to_be_bytes());
}

/// A big-endian number; 0 where there are not four bytes.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn unpadded(payload: &[u8], flags: u8) -> anyhow::Result<&[u8]> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().context("a padded frame without padding")?;
    rest.get(..rest.len().saturating_sub(usize::from(*padding))).context("more padding than frame")
}

fn in_words(said: &Said) -> String {
    match (&said.http_status, said.grpc_status) {
        (Some(status), _) => format!("HTTP status {status}"),
        (None, Some(code)) => format!("gRPC code {code}: {}", said.grpc_message.as_deref().unwrap_or_default()),
        (None, None) => "the answer has no status".to_owned(),
    }
}
