//! Passwords and their bcrypt hashes, as Go's library writes and reads them.
//!
//! A hash takes tens of milliseconds of a whole core on purpose. It is made on a blocking thread, few at one time, and
//! with a bound on those who wait, so that nobody slows the member down by guessing.

use base64::{
    Engine as _,
    alphabet::BCRYPT,
    engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::NO_PAD},
};
use bytes::Bytes;
use store_api::StoreError;
use tokio::sync::Semaphore;

/// `--bcrypt-cost` when it is not given, or when it is out of range.
pub const DEFAULT_BCRYPT_COST: u32 = 10;
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
/// Hashes made at one time.
const MAX_AT_ONCE: usize = 2;
/// Requests that wait for theirs; one more is refused.
const MAX_WAITING: usize = 256;
/// bcrypt looks at no more bytes, its own closing zero among them.
const MAX_BYTES: usize = 72;
const SALT_BYTES: usize = 16;
/// The 24th byte of the cipher is left out of the text.
const HASH_BYTES: usize = 23;
const SALT_CHARS: usize = 22;

const ALPHABET: GeneralPurpose = GeneralPurpose::new(&BCRYPT, ENCODING);
/// Older writers left rubbish in the bits that a salt's last character has to spare.
const ENCODING: GeneralPurposeConfig = NO_PAD.with_decode_allow_trailing_bits(true);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("bcrypt: password length exceeds 72 bytes")]
    TooLong,
    #[error(transparent)]
    Busy(StoreError),
}

/// Makes and compares hashes.
pub(crate) struct Passwords {
    cost: u32,
    waiting: Semaphore,
    running: Semaphore,
}

impl Passwords {
    pub fn new(cost: u32) -> Self {
        let cost = if COSTS.contains(&cost) { cost } else { DEFAULT_BCRYPT_COST };
        Passwords { cost, waiting: Semaphore::new(MAX_WAITING), running: Semaphore::new(MAX_AT_ONCE) }
    }

    /// The hash of a new password.
    pub async fn hash(&self, password: String) -> Result<Bytes, PasswordError> {
        if password.len() > MAX_BYTES {
            return Err(PasswordError::TooLong);
        }
        let (cost, mut salt) = (self.cost, [0; SALT_BYTES]);
        runtime::entropy::fill(&mut salt);
        self.run(move || format(cost, salt, &password).into()).await
    }

    /// Whether a password is the one that was hashed.
    pub async fn verify(&self, password: String, hash: Bytes) -> Result<bool, PasswordError> {
        self.run(move || verify(&password, &hash)).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| PasswordError::Busy(StoreError::TooManyRequests))?;
        let _running = self.running.acquire().await.expect("the semaphore is never closed");
        Ok(runtime::blocking(work).await)
    }
}

fn format(cost: u32, salt: [u8; SALT_BYTES], password: &str) -> String {
    let hash = digest(cost, salt, password);
    format!("$2a${cost:02}${}{}", ALPHABET.encode(salt), ALPHABET.encode(hash))
}

fn verify(password: &str, hash: &[u8]) -> bool {
    let Some((cost, salt, expected)) = parse(hash) else { return false };
    let found = digest(cost, salt, password);
    // Every byte is looked at, so that the time tells nothing.
    found.iter().zip(&expected).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

/// `$2<minor>$<cost>$<salt><hash>`.
fn parse(text: &[u8]) -> Option<(u32, [u8; SALT_BYTES], [u8; HASH_BYTES])> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.strip_prefix("$2")?.splitn(3, '$');
    let (minor, cost, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let cost = cost.parse().ok().filter(|cost| minor.len() <= 1 && COSTS.contains(cost))?;
    let (salt, hash) = rest.split_at_checked(SALT_CHARS)?;
    Some((cost, ALPHABET.decode(salt).ok()?.try_into().ok()?, ALPHABET.decode(hash).ok()?.try_into().ok()?))
}

fn digest(cost: u32, salt: [u8; SALT_BYTES], password: &str) -> [u8; HASH_BYTES] {
    let mut key = Vec::with_capacity(password.len() + 1);
    key.extend_from_slice(password.as_bytes());
    key.push(0);
    key.truncate(MAX_BYTES);
    let cipher = bcrypt::bcrypt(cost, salt, &key);
    cipher[..HASH_BYTES].try_into().expect("the cipher has 24 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_others_are_understood() {
        let check = |password: &str, hash: &str, expected: bool| {
            assert_eq!(verify(password, hash.as_bytes()), expected, "{password:?} {hash}");
        };
        // Published vectors of jBCrypt, OpenBSD's and Go's.
        check("", "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.", true);
        check("a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe", true);
        check("b", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe", false);
        check("a", "$2b$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe", true);
        check("a", "", false);
        check("a", "$1$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe", false);
        check("a", "$2a$99$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe", false);
        check("a", "$2a$06$m0CrhHm10qJ3lXRY", false);
    }

    #[tokio::test]
    async fn a_password_fits_its_own_hash() {
        let passwords = Passwords::new(4);
        let check = async |password: String, other: &str| {
            let hash = passwords.hash(password.clone()).await.unwrap();
            assert!(hash.starts_with(b"$2a$04$") && hash.len() == 60, "{hash:?}");
            assert_eq!(passwords.verify(password, hash.clone()).await, Ok(true));
            assert_eq!(passwords.verify(other.to_owned(), hash).await, Ok(false));
        };
        check("secret".to_owned(), "Secret").await;
        check(String::new(), "x").await;
        check("x".repeat(72), "x").await;
        assert_eq!(passwords.hash("x".repeat(73)).await, Err(PasswordError::TooLong));
        assert_eq!((Passwords::new(3).cost, Passwords::new(32).cost), (10, 10));
    }
}
