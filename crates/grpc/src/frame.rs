//! Frames of HTTP/2 (RFC 9113, 4 and 6): their heads, flags and error codes, and those that a server writes.
//!
//! Knows how frames look, not what they mean for a connection.

use bytes::{BufMut, BytesMut};

/// What a client sends before its first frame.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
pub(crate) const HEAD_BYTES: usize = 9;
/// The largest payload where nothing else was settled, in both directions.
pub(crate) const DEFAULT_MAX_FRAME: usize = 16_384;
/// The largest that can be settled.
pub(crate) const LARGEST_MAX_FRAME: usize = (1 << 24) - 1;
/// The window where nothing else was settled.
pub(crate) const DEFAULT_WINDOW: i64 = 65_535;
/// No window may grow past this.
pub(crate) const MAX_WINDOW: i64 = (1 << 31) - 1;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const PRIORITY: u8 = 0x20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Headers,
    Priority,
    ResetStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// To be ignored (RFC 9113, 4.1).
    Unknown,
}

/// Why a stream or a connection ends (RFC 9113, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(dead_code, reason = "the list is the specification's")]
pub(crate) enum Reason {
    NoError = 0x0,
    ProtocolError = 0x1,
    InternalError = 0x2,
    FlowControlError = 0x3,
    SettingsTimeout = 0x4,
    StreamClosed = 0x5,
    FrameSizeError = 0x6,
    RefusedStream = 0x7,
    Cancel = 0x8,
    CompressionError = 0x9,
    EnhanceYourCalm = 0xb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub len: usize,
    pub kind: Kind,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The head at the front of `bytes`, if it is there whole.
pub(crate) fn head(bytes: &[u8]) -> Option<Head> {
    let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes.first_chunk::<HEAD_BYTES>()?;
    let kind = match kind {
        0x0 => Kind::Data,
        0x1 => Kind::Headers,
        0x2 => Kind::Priority,
        0x3 => Kind::ResetStream,
        0x4 => Kind::Settings,
        0x5 => Kind::PushPromise,
        0x6 => Kind::Ping,
        0x7 => Kind::GoAway,
        0x8 => Kind::WindowUpdate,
        0x9 => Kind::Continuation,
        _ => Kind::Unknown,
    };
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    Some(Head { len, kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff })
}

/// Where the content of a DATA or HEADERS payload lies, without padding and priority.
pub(crate) fn content(head: &Head, payload: &[u8]) -> Result<std::ops::Range<usize>, Reason> {
    let (mut start, mut end) = (0, payload.len());
    if head.has(PADDED) {
        let padding = usize::from(*payload.first().ok_or(Reason::FrameSizeError)?);
        start = 1;
        end = end.checked_sub(padding).ok_or(Reason::ProtocolError)?;
    }
    if head.kind == Kind::Headers && head.has(PRIORITY) {
        start += 5;
    }
    if start > end { Err(Reason::ProtocolError) } else { Ok(start..end) }
}

/// Appends a head for `len` bytes that follow.
pub(crate) fn put_head(len: usize, kind: u8, flags: u8, stream: u32, into: &mut BytesMut) {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let [s0, s1, s2, s3] = stream.to_be_bytes();
    into.put_slice(&[a, b, c, kind, flags, s0, s1, s2, s3]);
}

pub(crate) fn put_data_head(len: usize, stream: u32, into: &mut BytesMut) {
    put_head(len, 0x0, 0, stream, into);
}

/// Appends a block as HEADERS, with as many CONTINUATIONs as the peer's frame size asks for.
pub(crate) fn put_headers(block: &[u8], end_stream: bool, stream: u32, max_frame: usize, into: &mut BytesMut) {
    let mut parts = block.chunks(max_frame).peekable();
    let (mut kind, mut flags) = (0x1, if end_stream { END_STREAM } else { 0 });
    loop {
        let part = parts.next().unwrap_or_default();
        let last = parts.peek().is_none();
        put_head(part.len(), kind, if last { flags | END_HEADERS } else { flags }, stream, into);
        into.put_slice(part);
        if last {
            return;
        }
        (kind, flags) = (0x9, 0);
    }
}

pub(crate) fn put_reset(stream: u32, reason: Reason, into: &mut BytesMut) {
    put_head(4, 0x3, 0, stream, into);
    into.put_u32(reason as u32);
}

pub(crate) fn put_settings(settings: &[(u16, u32)], into: &mut BytesMut) {
    put_head(settings.len() * 6, 0x4, 0, 0, into);
    for (name, value) in settings {
        into.put_u16(*name);
        into.put_u32(*value);
    }
}

pub(crate) fn put_settings_ack(into: &mut BytesMut) {
    put_head(0, 0x4, ACK, 0, into);
}

pub(crate) fn put_ping(payload: [u8; 8], ack: bool, into: &mut BytesMut) {
    put_head(8, 0x6, if ack { ACK } else { 0 }, 0, into);
    into.put_slice(&payload);
}

/// `more` is for people.
pub(crate) fn put_go_away(last: u32, reason: Reason, more: &[u8], into: &mut BytesMut) {
    put_head(8 + more.len(), 0x7, 0, 0, into);
    into.put_u32(last);
    into.put_u32(reason as u32);
    into.put_slice(more);
}

pub(crate) fn put_window_update(stream: u32, by: u32, into: &mut BytesMut) {
    put_head(4, 0x8, 0, stream, into);
    into.put_u32(by);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_long_block_goes_on_in_continuations() {
        let mut out = BytesMut::new();
        put_headers(&[7; 25], true, 3, 10, &mut out);
        let heads: Vec<Head> = [0, 19, 38].map(|at| head(&out[at..]).unwrap()).to_vec();
        let told: Vec<_> = heads.iter().map(|h| (h.len, h.kind, h.flags, h.stream)).collect();
        let expected =
            [(10, Kind::Headers, 1, 3), (10, Kind::Continuation, 0, 3), (5, Kind::Continuation, END_HEADERS, 3)];
        assert_eq!(told, expected);
    }

    #[test]
    fn padding_and_priority_are_cut_off() {
        let check = |kind: Kind, flags: u8, payload: &[u8], expected: Result<std::ops::Range<usize>, Reason>| {
            assert_eq!(content(&Head { len: payload.len(), kind, flags, stream: 1 }, payload), expected);
        };
        check(Kind::Data, PADDED, &[2, 9, 0, 0], Ok(1..2));
        check(Kind::Data, PADDED, &[4, 9, 0, 0], Err(Reason::ProtocolError));
        check(Kind::Data, PADDED, &[], Err(Reason::FrameSizeError));
        check(Kind::Headers, PRIORITY, &[0, 0, 0, 0, 1, 5], Ok(5..6));
        check(Kind::Headers, PRIORITY, &[0, 0], Err(Reason::ProtocolError));
    }

    proptest! {
        #[test]
        fn any_payload_is_safe(kind in 0u8..12, flags: u8, payload: Vec<u8>) {
            let mut out = BytesMut::new();
            put_head(payload.len(), kind, flags, 1, &mut out);
            let head = head(&out).unwrap();
            if let Ok(range) = content(&head, &payload) {
                prop_assert!(range.end <= payload.len());
            }
        }
    }
}
