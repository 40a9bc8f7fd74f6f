//! What a pure engine must be told: the time, fresh identifiers, and who asks.

use jiff::Timestamp;

/// The circumstances of one request.
#[derive(Clone, Debug)]
pub struct Context {
    /// Wall time, for creationTimestamp and the like.
    pub now: Timestamp,
    /// The uid of an object that is created.
    pub uid: String,
    /// What generateName appends; see [`name_suffix`].
    pub name_suffix: String,
    /// Who asks.
    pub user: User,
}

/// An authenticated identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Such as `system:admin` or `system:serviceaccount:default:web`.
    pub name: String,
    /// Tells two holders of one name apart.
    pub uid: String,
    /// The groups it is in.
    pub groups: Vec<String>,
}

/// Letters and digits that spell no words and are not mistaken for each other, as Kubernetes takes them.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

impl Context {
    /// Draws uid and name suffix from 32 random bytes.
    pub fn new(now: Timestamp, random: &[u8; 32], user: User) -> Self {
        let (uid, suffix) = random.split_at(16);
        Context { now, uid: uid_from(uid), name_suffix: name_suffix(suffix), user }
    }

    /// `now` as objects carry it: RFC 3339 in whole seconds.
    pub fn timestamp(&self) -> String {
        format_time(self.now)
    }
}

/// RFC 3339, UTC, whole seconds.
pub fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Five characters for generateName, one per byte; missing bytes count as zero.
pub fn name_suffix(random: &[u8]) -> String {
    (0..5)
        .map(|at| {
            let byte = random.get(at).copied().unwrap_or_default();
            char::from(SUFFIX_ALPHABET[usize::from(byte) % SUFFIX_ALPHABET.len()])
        })
        .collect()
}

/// A random (version 4) UUID of the first 16 bytes; missing bytes count as zero.
pub fn uid_from(random: &[u8]) -> String {
    let mut bytes = [0u8; 16];
    for (to, from) in bytes.iter_mut().zip(random) {
        *to = *from;
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut out = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        for nibble in [byte >> 4, byte & 0x0f] {
            out.push(char::from_digit(u32::from(nibble), 16).expect("a nibble is a hexadecimal digit"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_kubernetes_form() {
        let context = Context::new(Timestamp::UNIX_EPOCH, &[0xff; 32], User::default());
        assert_eq!(context.uid, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(context.name_suffix.len(), 5);
        assert_eq!(context.timestamp(), "1970-01-01T00:00:00Z");
        assert_eq!(name_suffix(&[]), "bbbbb");
    }
}
