//! Randomness from the kernel, drawn many bytes at a time: a system call for sixteen costs as much as one for thousands.

use std::cell::RefCell;

/// Bytes drawn at once, per thread.
const POOL: usize = 4096;

struct Pool {
    bytes: [u8; POOL],
    used: usize,
}

thread_local! {
    static BYTES: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL], used: POOL }) };
}

/// Random bytes. None is given out twice, and none stays in the pool.
pub fn bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= POOL) };
    BYTES.with_borrow_mut(|pool| {
        if pool.used + N > POOL {
            fill(&mut pool.bytes);
            pool.used = 0;
        }
        let mut out = [0; N];
        let given = &mut pool.bytes[pool.used..pool.used + N];
        out.copy_from_slice(given);
        given.fill(0);
        pool.used += N;
        out
    })
}

/// Fills `buffer` with random bytes.
#[expect(clippy::disallowed_methods, reason = "this is the one place that draws entropy")]
pub fn fill(buffer: &mut [u8]) {
    getrandom::fill(buffer).expect("getrandom(2) fails only on kernels older than 3.17");
}

/// A random 64-bit number.
pub fn random_u64() -> u64 {
    u64::from_le_bytes(bytes())
}

/// A random (version 4) UUID in its usual text form (RFC 9562).
pub fn uuid() -> String {
    let mut b = bytes::<16>();
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    let mut out = String::with_capacity(36);
    for (at, byte) in b.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push(hex(byte >> 4));
        out.push(hex(byte & 0x0f));
    }
    out
}

fn hex(nibble: u8) -> char {
    char::from(b"0123456789abcdef"[usize::from(nibble)])
}

/// `len` characters of the alphabet that Kubernetes appends to generated names: no vowels, so no accidental words.
pub fn name_suffix(len: usize) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut bytes = vec![0; len];
    fill(&mut bytes);
    bytes.into_iter().map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nothing_comes_twice() {
        let drawn: HashSet<[u8; 16]> = (0..3 * POOL / 16).map(|_| bytes()).collect();
        assert_eq!(drawn.len(), 3 * POOL / 16);
        assert!(!drawn.contains(&[0; 16]));
    }

    #[test]
    fn uuid_has_version_and_variant() {
        let id = uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
        assert_ne!(id, uuid());
    }
}
