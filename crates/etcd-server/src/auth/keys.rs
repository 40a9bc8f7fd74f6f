//! Keys for signed tokens: the methods of RFC 7518 that `ring` has, and the PEM files that openssl writes.

use std::ops::Deref as _;

use ring::{
    hmac,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaEncoding, RsaKeyPair, UnparsedPublicKey},
};
use x509_parser::{
    der_parser::asn1_rs::FromDer as _, oid_registry, pem::Pem, prelude::X509Certificate, x509::SubjectPublicKeyInfo,
};

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("auth: missing key data")]
    Missing,
    #[error("auth: public and private keys don't match")]
    Mismatch,
    #[error("auth: the {what} key for {method} cannot be used: {reason}")]
    Unusable { what: &'static str, method: &'static str, reason: String },
}

/// A signing method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Hs256,
    Hs384,
    Hs512,
}

use Method::{Es256, Es384, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};

impl Method {
    const ALL: [Method; 11] = [Rs256, Rs384, Rs512, Ps256, Ps384, Ps512, Es256, Es384, Hs256, Hs384, Hs512];
    pub(crate) const NAMES: [&str; 11] =
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "HS256", "HS384", "HS512"];

    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|place| Self::ALL[place])
    }

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Whether one secret signs and checks.
    pub fn is_symmetric(self) -> bool {
        matches!(self, Hs256 | Hs384 | Hs512)
    }

    fn how(self) -> How {
        match self {
            Rs256 => How::Rsa(&signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
            Rs384 => How::Rsa(&signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384),
            Rs512 => How::Rsa(&signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512),
            Ps256 => How::Rsa(&signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
            Ps384 => How::Rsa(&signature::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384),
            Ps512 => How::Rsa(&signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
            Es256 => How::Ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &signature::ECDSA_P256_SHA256_FIXED),
            Es384 => How::Ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, &signature::ECDSA_P384_SHA384_FIXED),
            Hs256 => How::Hmac(hmac::HMAC_SHA256),
            Hs384 => How::Hmac(hmac::HMAC_SHA384),
            Hs512 => How::Hmac(hmac::HMAC_SHA512),
        }
    }

    fn unusable(self, what: &'static str, reason: impl ToString) -> KeyError {
        KeyError::Unusable { what, method: self.name(), reason: reason.to_string() }
    }
}

type Verification = &'static dyn signature::VerificationAlgorithm;

/// A method in `ring`'s terms.
enum How {
    Rsa(&'static dyn RsaEncoding, Verification),
    Ec(&'static EcdsaSigningAlgorithm, Verification),
    Hmac(hmac::Algorithm),
}

/// The half that is kept secret.
pub(crate) struct Signer {
    method: Method,
    key: SecretKey,
    random: SystemRandom,
}

enum SecretKey {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Hmac(hmac::Key, Vec<u8>),
}

/// The half that others may have: the key's bytes as its method takes them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Verifier {
    method: Method,
    key: Vec<u8>,
}

impl Signer {
    pub fn new(method: Method, file: &[u8]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let unusable = |reason: &dyn ToString| method.unusable("private", reason.to_string());
        let key = match method.how() {
            How::Hmac(algorithm) if !file.is_empty() => {
                SecretKey::Hmac(hmac::Key::new(algorithm, file), file.to_owned())
            }
            How::Hmac(_) => return Err(KeyError::Missing),
            How::Rsa(encoding, _) => {
                let (label, der) = pem(file, "PRIVATE KEY").ok_or(KeyError::Missing)?;
                let pair =
                    if label == "RSA PRIVATE KEY" { RsaKeyPair::from_der(&der) } else { RsaKeyPair::from_pkcs8(&der) };
                SecretKey::Rsa(pair.map_err(|e| unusable(&e))?, encoding)
            }
            How::Ec(algorithm, _) => {
                let (label, der) = pem(file, "PRIVATE KEY").ok_or(KeyError::Missing)?;
                let der = if label == "EC PRIVATE KEY" { sec1_in_pkcs8(method, &der) } else { der };
                SecretKey::Ec(EcdsaKeyPair::from_pkcs8(algorithm, &der, &random).map_err(|e| unusable(&e))?)
            }
        };
        Ok(Signer { method, key, random })
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        const ENTROPY: &str = "signing fails only where the kernel has no entropy";
        match &self.key {
            SecretKey::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &self.random, message, &mut signature).expect(ENTROPY);
                signature
            }
            SecretKey::Ec(pair) => pair.sign(&self.random, message).expect(ENTROPY).as_ref().to_vec(),
            SecretKey::Hmac(key, _) => hmac::sign(key, message).as_ref().to_vec(),
        }
    }

    /// What checks this signer's signatures.
    pub fn verifier(&self) -> Verifier {
        let key = match &self.key {
            SecretKey::Rsa(pair, _) => pair.public_key().as_ref().to_vec(),
            SecretKey::Ec(pair) => pair.public_key().as_ref().to_vec(),
            SecretKey::Hmac(_, secret) => secret.clone(),
        };
        Verifier { method: self.method, key }
    }
}

impl Verifier {
    /// A public key, or the one in a certificate.
    pub fn new(method: Method, file: &[u8]) -> Result<Self, KeyError> {
        let (label, der) = pem(file, "PUBLIC KEY").or_else(|| pem(file, "CERTIFICATE")).ok_or(KeyError::Missing)?;
        let unusable = |reason: &dyn ToString| method.unusable("public", reason.to_string());
        if label == "RSA PUBLIC KEY" {
            return Ok(Verifier { method, key: der });
        }
        let key = if label == "CERTIFICATE" {
            let (_, certificate) = X509Certificate::from_der(&der).map_err(|e| unusable(&e))?;
            key_for(method, certificate.public_key())
        } else {
            key_for(method, &SubjectPublicKeyInfo::from_der(&der).map_err(|e| unusable(&e))?.1)
        };
        let key = key.ok_or_else(|| unusable(&"it is of another kind"))?;
        Ok(Verifier { method, key })
    }

    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self.method.how() {
            How::Rsa(_, algorithm) | How::Ec(_, algorithm) => {
                UnparsedPublicKey::new(algorithm, &self.key).verify(message, signature).is_ok()
            }
            How::Hmac(algorithm) => hmac::verify(&hmac::Key::new(algorithm, &self.key), message, signature).is_ok(),
        }
    }
}

/// A public key's bytes, if it is of the kind that the method wants.
fn key_for(method: Method, info: &SubjectPublicKeyInfo<'_>) -> Option<Vec<u8>> {
    let is_rsa = info.algorithm.algorithm == oid_registry::OID_PKCS1_RSAENCRYPTION;
    let is_ec = info.algorithm.algorithm == oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY;
    let fits = match method.how() {
        How::Rsa(..) => is_rsa,
        How::Ec(..) => is_ec,
        How::Hmac(_) => false,
    };
    fits.then(|| info.subject_public_key.data.deref().to_vec())
}

/// The first block of a PEM file whose label ends so: its label and content.
fn pem(file: &[u8], label: &str) -> Option<(String, Vec<u8>)> {
    let blocks = Pem::iter_from_buffer(file).map_while(Result::ok);
    blocks.filter(|block| block.label.ends_with(label)).map(|block| (block.label, block.contents)).next()
}

/// Wraps openssl's older form of a key (RFC 5915) in the newer one (RFC 5208), which is all that `ring` reads.
fn sec1_in_pkcs8(method: Method, sec1: &[u8]) -> Vec<u8> {
    const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
    const VERSION_0: &[u8] = &[0x02, 0x01, 0x00];
    let curve = if method == Es384 { P384 } else { P256 };
    let algorithm = der(0x30, &[EC_PUBLIC_KEY, curve].concat());
    der(0x30, &[VERSION_0, &algorithm, &der(0x04, sec1)].concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head: &[u8] = match content.len() {
        0..0x80 => &[tag, len[1]],
        0x80..0x100 => &[tag, 0x81, len[1]],
        _ => &[tag, 0x82, len[0], len[1]],
    };
    [head, content].concat()
}
