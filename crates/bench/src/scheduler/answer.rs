//! HTTP/1.1 answers as they come: status, end and body, and nothing else of them.
//!
//! Knows no socket; bytes may be cut anywhere.

use anyhow::{Context, bail, ensure};

/// The longest head of an answer, and the longest line that announces a chunk.
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_CHUNK_LINE_BYTES: usize = 1 << 10;

/// The answers on one connection, one after the other.
#[derive(Default)]
pub struct Answers {
    state: State,
    /// A head or a chunk's line that has not come whole.
    line: Vec<u8>,
    status: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the empty line that ends the head.
    #[default]
    Head,
    /// In a body of which so many bytes are to come.
    Sized(usize),
    /// Before a chunk's length.
    ChunkLine,
    /// In a chunk, its line end included.
    Chunk(usize),
    /// After the last chunk, before the empty line that ends the trailers.
    Trailer,
}

impl Answers {
    /// Takes in bytes up to an answer's end. Gives how many it took, and the status if the answer has ended.
    pub fn take(&mut self, bytes: &[u8], body: &mut impl FnMut(&[u8])) -> anyhow::Result<(usize, Option<u16>)> {
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            match self.state {
                State::Head => {
                    let (count, whole) = self.line_until(rest, b"\r\n\r\n", MAX_HEAD_BYTES)?;
                    taken += count;
                    if whole && self.head()? {
                        return Ok((taken, Some(self.status)));
                    }
                }
                State::Sized(left) => {
                    let count = left.min(rest.len());
                    body(&rest[..count]);
                    taken += count;
                    self.state = State::Sized(left - count);
                    if left == count {
                        self.state = State::Head;
                        return Ok((taken, Some(self.status)));
                    }
                }
                State::ChunkLine => {
                    let (count, whole) = self.line_until(rest, b"\r\n", MAX_CHUNK_LINE_BYTES)?;
                    taken += count;
                    if whole {
                        self.chunk_line()?;
                    }
                }
                State::Chunk(left) => {
                    let count = left.min(rest.len());
                    // The line end behind a chunk is no part of it.
                    body(&rest[..count.min(left.saturating_sub(2))]);
                    taken += count;
                    self.state = if left == count { State::ChunkLine } else { State::Chunk(left - count) };
                }
                State::Trailer => {
                    let (count, whole) = self.line_until(rest, b"\r\n", MAX_CHUNK_LINE_BYTES)?;
                    taken += count;
                    let last = whole && self.line == b"\r\n";
                    if whole {
                        self.line.clear();
                    }
                    if last {
                        self.state = State::Head;
                        return Ok((taken, Some(self.status)));
                    }
                }
            }
        }
        Ok((taken, None))
    }

    /// Moves bytes into the line until it ends with `end`. Gives how many, and whether it does.
    fn line_until(&mut self, bytes: &[u8], end: &[u8], limit: usize) -> anyhow::Result<(usize, bool)> {
        let before = self.line.len();
        // The end may have begun in what came before.
        let from = before.saturating_sub(end.len() - 1);
        self.line.extend_from_slice(&bytes[..bytes.len().min(limit)]);
        let found = memchr::memmem::find(&self.line[from..], end).map(|at| from + at + end.len());
        match found {
            Some(length) => {
                self.line.truncate(length);
                Ok((length - before, true))
            }
            None => {
                ensure!(self.line.len() < limit, "an answer's head or chunk line is longer than {limit} bytes");
                Ok((self.line.len() - before, false))
            }
        }
    }

    /// Reads the head that is in the line. Whether the answer has ended with it.
    fn head(&mut self) -> anyhow::Result<bool> {
        let head = std::mem::take(&mut self.line);
        let text = std::str::from_utf8(&head).context("an answer's head is no text")?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        self.status = status.context("an answer begins without a status")?;
        let header = |name: &str| {
            lines.clone().filter_map(|line| line.split_once(':')).find(|(found, _)| found.eq_ignore_ascii_case(name))
        };
        if let Some((_, length)) = header("content-length") {
            let length = length.trim().parse().context("a content-length that is no number")?;
            self.state = State::Sized(length);
            if length == 0 {
                self.state = State::Head;
            }
            return Ok(length == 0);
        }
        match header("transfer-encoding") {
            Some((_, how)) if how.trim().eq_ignore_ascii_case("chunked") => {
                self.state = State::ChunkLine;
                Ok(false)
            }
            Some((_, how)) => bail!("a transfer-encoding that is not known here:{how}"),
            None => {
                self.state = State::Head;
                Ok(true)
            }
        }
    }

    fn chunk_line(&mut self) -> anyhow::Result<()> {
        let line = std::mem::take(&mut self.line);
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let digits = std::str::from_utf8(&line[..digits]).expect("hexadecimal digits are text");
        let length = u32::from_str_radix(digits, 16).context("a chunk without a length")? as usize;
        self.state = if length == 0 { State::Trailer } else { State::Chunk(length + 2) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the answers in pieces of so many bytes; gives status and body of each.
    fn answers(bytes: &[u8], piece: usize) -> Vec<(u16, String)> {
        let (mut answers, mut body, mut all) = (Answers::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            let mut rest = piece;
            while !rest.is_empty() {
                let (taken, ended) = answers.take(rest, &mut |bytes| body.extend_from_slice(bytes)).unwrap();
                rest = &rest[taken..];
                if let Some(status) = ended {
                    all.push((status, String::from_utf8(std::mem::take(&mut body)).unwrap()));
                }
            }
        }
        all
    }

    #[test]
    fn answers_may_be_cut_anywhere() {
        let bytes = b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\nx: y\r\n\r\nhello\
            HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\n\r\n\r\n\r\n0\r\na: b\r\n\r\n\
            HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n";
        let expected = [(201, "hello"), (200, "abc\r\n\r\n"), (204, ""), (409, "")]
            .map(|(status, body)| (status, body.to_owned()));
        for piece in 1..=bytes.len() {
            assert_eq!(answers(bytes, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let check = |bytes: &[u8], says: &str| {
            let error = Answers::default().take(bytes, &mut |_| {}).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{error:#}");
        };
        check(b"SSH-2.0-OpenSSH\r\n\r\n", "without a status");
        check(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", "no number");
        check(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", "not known");
        check(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", "without a length");
        check(&[b'x'; MAX_HEAD_BYTES], "longer than");
    }
}
