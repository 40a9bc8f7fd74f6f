//! The static table (RFC 7541, appendix A) and the dynamic one.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Field;

/// Names and values by their index, which begins at 1.
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The newest entry has the lowest index. Never holds more than `limit` bytes as RFC 7541 counts them.
#[derive(Debug)]
pub(super) struct Dynamic {
    entries: VecDeque<Field>,
    size: usize,
    limit: usize,
}

impl Dynamic {
    pub fn new(limit: usize) -> Self {
        Dynamic { entries: VecDeque::new(), size: 0, limit }
    }

    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.shrink(limit);
    }

    /// An entry that is larger than the whole table empties it, which is no error.
    pub fn insert(&mut self, field: Field) {
        let size = field.size();
        self.shrink(self.limit.saturating_sub(size));
        if size <= self.limit {
            self.size += size;
            self.entries.push_front(field);
        }
    }

    fn shrink(&mut self, to: usize) {
        while self.size > to {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.size -= oldest.size();
        }
    }

    /// The field of an index over both tables.
    pub fn get(&self, index: usize) -> Option<Field> {
        let Some(dynamic) = index.checked_sub(STATIC.len() + 1) else {
            let (name, value) = STATIC.get(index.checked_sub(1)?)?;
            return Some(Field {
                name: Bytes::from_static(name.as_bytes()),
                value: Bytes::from_static(value.as_bytes()),
            });
        };
        self.entries.get(dynamic).cloned()
    }

    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.size
    }
}
