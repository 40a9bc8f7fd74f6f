//! What a pure engine must be told: the time, and randomness for fresh identifiers.

use jiff::{Timestamp, tz::Offset};

/// The circumstances of one request.
#[derive(Clone, Debug)]
pub struct Context {
    /// Wall time, for creationTimestamp and the like.
    pub now: Timestamp,
    random: [u8; 32],
}

/// Letters and digits that spell no words and are not mistaken for each other, as Kubernetes takes them.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

impl Context {
    /// What is to be fresh is made of 32 random bytes.
    pub fn new(now: Timestamp, random: [u8; 32]) -> Self {
        Context { now, random }
    }

    /// The uid of an object that is created.
    pub fn uid(&self) -> String {
        uid_from(&self.random[..16])
    }

    /// What generateName appends; see [`name_suffix`].
    pub fn name_suffix(&self) -> String {
        name_suffix(&self.random[16..])
    }

    /// `now` as objects carry it: RFC 3339 in whole seconds.
    pub fn timestamp(&self) -> String {
        format_time(self.now)
    }
}

/// RFC 3339, UTC, whole seconds.
pub fn format_time(time: Timestamp) -> String {
    let at = Offset::UTC.to_datetime(time);
    let (date, clock) = (at.date(), at.time());
    // By hand, because every write has one: formatting by a pattern takes ten times as long.
    let Ok(year @ 0..10_000) = u16::try_from(date.year()) else {
        return time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    };
    let mut out = String::with_capacity(20);
    let parts = [date.month(), date.day(), clock.hour(), clock.minute(), clock.second()];
    two_digits(&mut out, (year / 100) as u8);
    two_digits(&mut out, (year % 100) as u8);
    for (before, part) in "--T::".chars().zip(parts) {
        out.push(before);
        two_digits(&mut out, part.unsigned_abs());
    }
    out.push('Z');
    out
}

fn two_digits(out: &mut String, number: u8) {
    out.push(char::from(b'0' + number / 10));
    out.push(char::from(b'0' + number % 10));
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
        let context = Context::new(Timestamp::UNIX_EPOCH, [0xff; 32]);
        assert_eq!(context.uid(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(context.name_suffix().len(), 5);
        assert_eq!(context.timestamp(), "1970-01-01T00:00:00Z");
        assert_eq!(name_suffix(&[]), "bbbbb");
    }

    #[test]
    fn times_are_written_as_their_pattern_says() {
        for seconds in
            [0, 1, 951_782_399, 951_782_400, 1_709_164_800, -62_135_596_800, -62_167_219_201, 253_402_207_200]
        {
            let time = Timestamp::from_second(seconds).unwrap();
            assert_eq!(format_time(time), time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
    }
}
