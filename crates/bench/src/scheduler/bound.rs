//! Sees pods become bound, through a watch: reads each event only as far as the pod's number and its node.
//!
//! Asks for pods with a node only, which both API servers send once they have one.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use memchr::memmem::Finder;

use super::{objects, wire::Connection};
use crate::{api::Target, interrupt};

/// The longest event; ours have two thousand bytes.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// How often a watch that the server has ended is begun again: it ends those that lag.
const ATTEMPTS: usize = 10;

/// The pods whose names are a prefix and a number.
pub struct Bound<'t> {
    target: &'t Target,
    request: Vec<u8>,
    connection: Connection,
    lines: Lines,
}

/// Takes lines apart as they come.
struct Lines {
    rest: Vec<u8>,
    name: Finder<'static>,
    node: Finder<'static>,
    seen: Vec<bool>,
    times: Vec<Duration>,
    error: Option<anyhow::Error>,
}

impl<'t> Bound<'t> {
    /// Begins to watch for so many pods, in a namespace or in all.
    pub fn watch(target: &'t Target, namespace: Option<&str>, prefix: &str, count: usize) -> anyhow::Result<Self> {
        let namespace = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        let path = format!("/api/v1{namespace}/pods?watch=1&fieldSelector=spec.nodeName%21%3D&timeoutSeconds=3600");
        let mut request = Vec::new();
        objects::head(target, "GET", &path, None, &mut request);
        let mut connection = Connection::open(target, true)?;
        connection.send(&request)?;
        Ok(Bound { target, request, connection, lines: Lines::new(prefix, count) })
    }

    /// Waits until all are bound. Gives when each was seen to be, counted from `began`, in the order of events.
    pub fn wait(mut self, began: Instant, patience: Duration) -> anyhow::Result<Vec<Duration>> {
        let (mut last, mut count, mut attempts) = (Instant::now(), 0, 1);
        while self.lines.times.len() < self.lines.seen.len() {
            interrupt::check()?;
            let lines = &mut self.lines;
            let ended = self.connection.read(|status| status == 200, &mut |bytes| lines.take(bytes, began))?;
            if let Some(error) = self.lines.error.take() {
                return Err(error);
            }
            if ended > 0 {
                ensure!(attempts < ATTEMPTS, "the API server has ended the watch {ATTEMPTS} times");
                attempts += 1;
                // It begins with all that are bound by now; those that were seen do not count again.
                self.lines.rest.clear();
                self.connection = Connection::open(self.target, true)?;
                self.connection.send(&self.request)?;
            }
            if self.lines.times.len() > count {
                (last, count) = (Instant::now(), self.lines.times.len());
            }
            if last.elapsed() > patience {
                bail!("{count} of {} pods are bound, and none for {patience:?}", self.lines.seen.len());
            }
        }
        Ok(self.lines.times)
    }
}

impl Lines {
    fn new(prefix: &str, count: usize) -> Self {
        Lines {
            rest: Vec::new(),
            name: Finder::new(&format!("\"name\":\"{prefix}")).into_owned(),
            node: Finder::new(b"\"nodeName\":\"").into_owned(),
            seen: vec![false; count],
            times: Vec::with_capacity(count),
            error: None,
        }
    }

    fn take(&mut self, bytes: &[u8], began: Instant) {
        let mut bytes = bytes;
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, after) = bytes.split_at(end + 1);
            bytes = after;
            if self.rest.is_empty() {
                self.line(line, began);
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(line);
                self.line(&whole, began);
                whole.clear();
                self.rest = whole;
            }
        }
        self.rest.extend_from_slice(bytes);
        if self.rest.len() > MAX_EVENT_BYTES {
            self.error = Some(anyhow::anyhow!("an event of the watch is longer than {MAX_EVENT_BYTES} bytes"));
        }
    }

    fn line(&mut self, line: &[u8], began: Instant) {
        if line.starts_with(b"{\"type\":\"ERROR\"") {
            self.error = Some(anyhow::anyhow!("the watch has failed: {}", String::from_utf8_lossy(line)));
        }
        if line.starts_with(b"{\"type\":\"DELETED\"") || self.node.find(line).is_none() {
            return;
        }
        let Some(at) = self.name.find(line) else { return };
        let digits = &line[at + self.name.needle().len()..];
        let number = digits.iter().take_while(|byte| byte.is_ascii_digit());
        let number = number.fold(0usize, |sum, digit| sum.saturating_mul(10) + usize::from(digit - b'0'));
        if let Some(seen @ false) = self.seen.get_mut(number) {
            *seen = true;
            self.times.push(began.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_pods_are_counted_once() {
        let pod = |kind: &str, number: usize, node: &str| {
            format!(
                "{{\"type\":\"{kind}\",\"object\":{{\"metadata\":{{\"name\":\"m-{number}\"}},\"spec\":{{{node}}}}}}}\n"
            )
        };
        let on = "\"nodeName\":\"n-1\"";
        let cases = [
            (vec![pod("ADDED", 0, on), pod("ADDED", 2, on)], 2),
            (vec![pod("ADDED", 0, on), pod("MODIFIED", 0, on)], 1),
            (vec![pod("ADDED", 0, ""), pod("DELETED", 1, on)], 0),
            (vec![pod("ADDED", 7, on)], 0),
        ];
        for (events, expected) in cases {
            let bytes = events.concat().into_bytes();
            for piece in 1..=bytes.len() {
                let mut lines = Lines::new("m-", 3);
                bytes.chunks(piece).for_each(|bytes| lines.take(bytes, Instant::now()));
                assert_eq!(lines.times.len(), expected, "in pieces of {piece}: {events:?}");
            }
        }
    }
}
