//! Service account tokens: signed by us (ES256, RFC 7515 and 7518), checked by us, and by others through the key set.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Longer tokens are refused unread.
const MAX_TOKEN: usize = 16 * 1024;
/// The fixed head of a P-256 public key's SubjectPublicKeyInfo (RFC 5480), before its 65 bytes.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The signing key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("service account signing key: {0}")]
pub struct KeyError(String);

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token is not one of this issuer's")]
    Foreign,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token is not valid at this time")]
    Time,
    #[error("the token is for another audience")]
    Audience,
}

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Claims {
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Bound,
    pub nbf: i64,
    pub sub: String,
}

/// Whom the token is for, and what must exist for it to be valid.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Bound {
    pub namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Reference {
    pub name: String,
    #[serde(default)]
    pub uid: String,
}

/// Signs and checks.
pub(crate) struct Tokens {
    key: EcdsaKeyPair,
    issuer: String,
    audiences: Vec<String>,
    key_id: String,
    random: SystemRandom,
}

/// A new signing key as PKCS#8 PEM, to be kept in a file and given to [`crate::Options`].
pub fn generate_signing_key() -> Result<String, KeyError> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| KeyError("the kernel gave no entropy".into()))?;
    let text = BASE64_STANDARD.encode(document.as_ref());
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|b| char::from(*b)));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem)
}

impl Tokens {
    /// `audiences` are those of this API server; the first one is given to tokens that ask for none.
    pub fn new(pem: &str, issuer: &str, audiences: Vec<String>) -> Result<Self, KeyError> {
        let body: String = pem
            .lines()
            .skip_while(|line| !line.starts_with("-----BEGIN PRIVATE KEY-----"))
            .skip(1)
            .take_while(|line| !line.starts_with("-----"))
            .map(str::trim)
            .collect();
        let der = BASE64_STANDARD.decode(&body).map_err(|error| KeyError(format!("not PEM: {error}")))?;
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random)
            .map_err(|error| KeyError(format!("not a P-256 key in PKCS#8: {error}")))?;
        let mut spki = Sha256::new();
        spki.update(SPKI_HEAD);
        spki.update(key.public_key().as_ref());
        let key_id = BASE64_URL_SAFE_NO_PAD.encode(spki.finalize());
        Ok(Tokens { key, issuer: issuer.to_owned(), audiences, key_id, random })
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub fn sign(&self, claims: &Claims) -> String {
        let head = json!({ "alg": "ES256", "kid": self.key_id });
        let claims = serde_json::to_vec(claims).expect("claims hold nothing but strings and numbers");
        let mut token =
            format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(head.to_string()), BASE64_URL_SAFE_NO_PAD.encode(claims));
        let signature =
            self.key.sign(&self.random, token.as_bytes()).expect("signing fails only where the kernel has no entropy");
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        token
    }

    /// The claims of a token that is ours, is valid at `now` (seconds) and is meant for one of `audiences`.
    pub fn verify(&self, token: &str, now: i64, audiences: &[String]) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Foreign);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Foreign)?;
        let (head, body) = signed.split_once('.').ok_or(TokenError::Foreign)?;
        let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Foreign);
        let head: Value = serde_json::from_slice(&decode(head)?).map_err(|_| TokenError::Foreign)?;
        if head["alg"] != "ES256" {
            return Err(TokenError::Foreign);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| TokenError::Signature)?;
        let claims: Claims = serde_json::from_slice(&decode(body)?).map_err(|_| TokenError::Foreign)?;
        if claims.iss != self.issuer {
            return Err(TokenError::Foreign);
        }
        check_time_and_audience(&claims, now, audiences)?;
        Ok(claims)
    }

    /// The public key as a JSON Web Key Set (RFC 7517).
    pub fn key_set(&self) -> Value {
        let point = self.key.public_key().as_ref();
        json!({ "keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": BASE64_URL_SAFE_NO_PAD.encode(&point[1..33]), "y": BASE64_URL_SAFE_NO_PAD.encode(&point[33..65]),
        }] })
    }

    /// The discovery document (OpenID Connect Discovery 1.0) that names the key set's place.
    pub fn configuration(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

/// The part of a check that changes with time, apart so that a remembered token is checked again.
pub(crate) fn check_time_and_audience(claims: &Claims, now: i64, audiences: &[String]) -> Result<(), TokenError> {
    if now < claims.nbf || now >= claims.exp {
        return Err(TokenError::Time);
    }
    if !claims.aud.iter().any(|a| audiences.contains(a)) {
        return Err(TokenError::Audience);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        Tokens::new(&generate_signing_key().unwrap(), "https://issuer", vec!["api".into()]).unwrap()
    }

    fn claims() -> Claims {
        Claims {
            aud: vec!["api".into()],
            exp: 200,
            iat: 100,
            iss: "https://issuer".into(),
            jti: "id".into(),
            kubernetes: Bound { namespace: "default".into(), ..Bound::default() },
            nbf: 100,
            sub: "system:serviceaccount:default:a".into(),
        }
    }

    #[test]
    fn a_token_is_valid_for_its_time_audience_and_signer() {
        let tokens = tokens();
        let token = tokens.sign(&claims());
        let api = ["api".to_owned()];
        assert_eq!(tokens.verify(&token, 150, &api), Ok(claims()));
        assert_eq!(tokens.verify(&token, 200, &api), Err(TokenError::Time));
        assert_eq!(tokens.verify(&token, 99, &api), Err(TokenError::Time));
        assert_eq!(tokens.verify(&token, 150, &["vault".to_owned()]), Err(TokenError::Audience));
        assert_eq!(super::tests::tokens().verify(&token, 150, &api), Err(TokenError::Signature));
        for broken in ["", "a.b", "a.b.c", &token[1..], &token.replacen('.', "", 1)] {
            assert!(tokens.verify(broken, 150, &api).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        assert!(Tokens::new("", "i", vec![]).is_err());
        assert!(Tokens::new("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "i", vec![]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_other_token_is_accepted(text in "[A-Za-z0-9_.-]{0,200}") {
            static TOKENS: std::sync::OnceLock<Tokens> = std::sync::OnceLock::new();
            proptest::prop_assert!(TOKENS.get_or_init(tokens).verify(&text, 150, &["api".to_owned()]).is_err());
        }
    }
}
