//! Identifiers of requests and objects, drawn from the kernel's randomness many at a time: each request needs some, and a
//! system call for sixteen bytes costs as much as one for thousands.

use std::cell::RefCell;

use runtime::entropy;

/// Bytes drawn at once, per thread.
const POOL: usize = 4096;

struct Pool {
    bytes: [u8; POOL],
    used: usize,
}

thread_local! {
    static BYTES: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL], used: POOL }) };
}

/// Random bytes. None is given out twice.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= POOL) };
    BYTES.with_borrow_mut(|pool| {
        if pool.used + N > POOL {
            entropy::fill(&mut pool.bytes);
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

/// A random (version 4) UUID.
pub(crate) fn uuid() -> String {
    registry::uid_from(&bytes::<16>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn nothing_comes_twice() {
        let drawn: HashSet<String> = (0..3 * POOL / 16).map(|_| uuid()).collect();
        assert_eq!(drawn.len(), 3 * POOL / 16);
        assert!(!drawn.contains(&registry::uid_from(&[0; 16])));
    }
}
