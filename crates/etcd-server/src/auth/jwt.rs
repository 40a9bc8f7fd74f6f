//! Signed tokens (RFC 7519) with etcd's claims: `username`, `revision` and `exp`.
//!
//! Nobody remembers them: every member with the public key accepts what one with the private key has signed, until it
//! ends or users and roles change. Knows no user; time comes as an argument.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use store_api::{AuthError, Caller};

pub use super::keys::{KeyError, Method};
use super::keys::{Signer, Verifier};

/// Longer tokens are refused unread.
const MAX_TOKEN: usize = 16 * 1024;

/// Signs and checks tokens by one method.
pub struct Jwt {
    method: Method,
    /// Absent with a public key alone: such a member only checks.
    signer: Option<Signer>,
    verifier: Verifier,
    ttl: Duration,
}

impl Jwt {
    /// `public` and `private` are PEM files, or the secret itself for the methods that have one; at least one is given.
    pub fn new(method: Method, public: Option<&[u8]>, private: Option<&[u8]>, ttl: Duration) -> Result<Self, KeyError> {
        let signer = private.map(|key| Signer::new(method, key)).transpose()?;
        let public = public.filter(|_| !method.is_symmetric()).map(|key| Verifier::new(method, key)).transpose()?;
        let verifier = match (&signer, public) {
            (None, public) => public.ok_or(KeyError::Missing)?,
            (Some(signer), None) => signer.verifier(),
            (Some(signer), Some(public)) if signer.verifier() == public => public,
            (Some(_), Some(_)) => return Err(KeyError::Mismatch),
        };
        Ok(Jwt { method, signer, verifier, ttl })
    }

    /// A token for a user whose password was right, signed at `now` (seconds of the wall clock).
    pub(crate) fn sign(&self, caller: &Caller, now: i64) -> Result<String, AuthError> {
        let signer = self.signer.as_ref().ok_or(AuthError::VerifyOnly)?;
        let head = json!({ "alg": self.method.name(), "typ": "JWT" });
        let end = now.saturating_add(i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX));
        let claims = json!({ "exp": end, "revision": caller.revision, "username": &*caller.name });
        let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let mut token = format!("{}.{}", encode(head), encode(claims));
        let signature = signer.sign(token.as_bytes());
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Whose token it is; `None` where it is not a token of ours that is valid at `now`.
    pub(crate) fn verify(&self, token: &str, now: i64) -> Option<Caller> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, claims) = signed.split_once('.')?;
        let json = |text: &str| serde_json::from_slice::<Value>(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok();
        if json(head)?["alg"] != self.method.name() {
            return None;
        }
        if !self.verifier.verify(signed.as_bytes(), &BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?) {
            return None;
        }
        let claims = json(claims)?;
        if !in_time(&claims, now) {
            return None;
        }
        let revision = claims["revision"].as_u64().or_else(|| Some(claims["revision"].as_f64()? as u64))?;
        Some(Caller::new(claims["username"].as_str()?, revision))
    }
}

/// A time that is not given does not bind.
fn in_time(claims: &Value, now: i64) -> bool {
    let time = |name: &str| match &claims[name] {
        Value::Null => Some(None),
        value => value.as_f64().map(Some),
    };
    let now = now as f64;
    match (time("exp"), time("nbf"), time("iat")) {
        (Some(exp), Some(nbf), Some(iat)) => {
            exp.is_none_or(|exp| now < exp) && nbf.is_none_or(|nbf| now >= nbf) && iat.is_none_or(|iat| now >= iat)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &[u8] = include_bytes!("../../tests/auth/keys/rsa.pem");
    const RSA_PKCS8: &[u8] = include_bytes!("../../tests/auth/keys/rsa8.pem");
    const RSA_PUBLIC: &[u8] = include_bytes!("../../tests/auth/keys/rsa.pub");
    const EC: &[u8] = include_bytes!("../../tests/auth/keys/ec.pem");
    const EC_PUBLIC: &[u8] = include_bytes!("../../tests/auth/keys/ec.pub");
    const EC384: &[u8] = include_bytes!("../../tests/auth/keys/ec384.pem");

    /// What openssl writes, in its older and newer forms, signs and checks.
    #[test]
    fn tokens_of_every_method_come_back_until_they_end() {
        let check = |method: &str, private: &[u8], public: Option<&[u8]>| {
            let method = Method::parse(method).unwrap();
            let new = |public, private| Jwt::new(method, public, private, Duration::from_secs(60));
            let jwt = new(public, Some(private)).unwrap_or_else(|error| panic!("{error}"));
            let caller = Caller::new("alice", 7);
            let token = jwt.sign(&caller, 1000).unwrap();
            assert_eq!(jwt.verify(&token, 1059), Some(caller.clone()), "{method:?}");
            assert_eq!(jwt.verify(&token, 1060), None);
            let other = token.replacen('.', ".e", 1);
            assert_eq!((jwt.verify(&other, 1001), jwt.verify(&token[..token.len() - 4], 1001)), (None, None));
            if public.is_some() {
                let checks_only = new(public, None).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(checks_only.verify(&token, 1001), Some(caller.clone()));
                assert_eq!(checks_only.sign(&caller, 1000), Err(AuthError::VerifyOnly));
            }
        };
        for method in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
            check(method, RSA, Some(RSA_PUBLIC));
            check(method, RSA_PKCS8, None);
        }
        check("ES256", EC, Some(EC_PUBLIC));
        check("ES384", EC384, None);
        for method in ["HS256", "HS384", "HS512"] {
            check(method, b"secret", None);
        }
    }

    #[test]
    fn keys_that_do_not_fit_are_refused() {
        let check = |method: &str, public: Option<&[u8]>, private: Option<&[u8]>| {
            let jwt = Jwt::new(Method::parse(method).unwrap(), public, private, Duration::from_secs(60));
            jwt.map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(check("RS256", None, None), "auth: missing key data");
        assert_eq!(check("RS256", Some(b"nothing"), None), "auth: missing key data");
        assert!(check("ES256", None, Some(RSA_PKCS8)).starts_with("auth: the private key for ES256 cannot be used"));
        assert!(check("RS256", Some(EC_PUBLIC), None).starts_with("auth: the public key for RS256 cannot be used"));
        let other = rcgen::KeyPair::generate().unwrap().public_key_pem();
        assert_eq!(check("ES256", Some(other.as_bytes()), Some(EC)), "auth: public and private keys don't match");
    }
}
