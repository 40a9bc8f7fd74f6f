//! Pods that come by the thousand from one template have the same spec, byte for byte. What became of it the first time
//! is remembered, so that the next pod costs no more than its metadata.
//!
//! ```text
//!   body ─▶ PodBody { metadata, spec } ─▶ RememberedSpec::create ─▶ name and stored bytes
//!                 an earlier pod's stored bytes ─▶ learn ┘
//! ```
//!
//! Only specs are remembered whose outcome depends on nothing but their bytes and the neighbours that admission was given:
//! the caller keeps these beside, and asks again when they have changed. Whatever is unusual goes the long way, which also
//! knows what is wrong with it.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{
    Context, FieldValidation, Resource,
    admission::{TOKEN_VOLUME_PREFIX, is_mirror},
    decode,
    encode::write_json,
    field::Errors,
    meta,
    raw::{Object, skip_value, walk},
    value::{object_mut, set, text},
};

/// A longer spec is not remembered.
const MAX_SPEC_BYTES: usize = 8 << 10;
/// Parts of a spec by which its outcome depends on more than its bytes: on the pod's labels, its node, the time. And those
/// that could hide one of these, or the name that is put into it.
const UNUSUAL: [&str; 5] = ["abelKeys\"", "\"nodeName\"", "\"schedulingGates\"", TOKEN_VOLUME_PREFIX, "\\u"];
/// Characters that are drawn for a token volume's name.
const SUFFIX: usize = 5;

/// A request's body that is a pod with metadata and a spec and nothing else, in pieces that are not read yet.
#[derive(Clone, Copy, Debug)]
pub struct PodBody<'b> {
    metadata: &'b [u8],
    spec: &'b [u8],
}

impl<'b> PodBody<'b> {
    /// Takes a body apart. None: it is to be decoded by the schema, which knows what is wrong with it if anything is.
    pub fn parse(body: &'b [u8]) -> Option<Self> {
        let body = body.strip_suffix(b"\n").unwrap_or(body);
        let (mut seen, mut metadata, mut spec) = (0u8, None, None);
        let behind = walk(body, 0, |key, start| {
            let end = skip_value(body, start)?;
            let value = &body[start..end];
            let part = match key {
                b"apiVersion" if value == b"\"v1\"" => 1,
                b"kind" if value == b"\"Pod\"" => 2,
                b"metadata" => 4,
                b"spec" => 8,
                // Go's clients write an empty one.
                b"status" if value == b"{}" => 16,
                _ => return None,
            };
            match part {
                4 => metadata = Some(value),
                8 => spec = Some(value),
                _ => {}
            }
            let again = seen & part != 0;
            seen |= part;
            (!again).then_some(end)
        })?;
        (behind == body.len()).then_some(PodBody { metadata: metadata?, spec: spec.filter(|spec| spec[0] == b'{')? })
    }

    /// The metadata, if nothing is to be said of it.
    fn metadata(&self, pods: &Resource, validation: FieldValidation) -> Option<Value> {
        let (_, field) = pods.schema().object(pods.type_id()).position("metadata")?;
        let decoded = decode::json(pods.schema(), &field.shape, self.metadata, validation).ok()?;
        Some(decoded.value).filter(|value| value.is_object() && decoded.warnings.is_empty())
    }

    /// By what the outcome is found again.
    pub fn spec(&self) -> &'b [u8] {
        self.spec
    }
}

/// What became of a spec: all that is stored of a pod behind its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedSpec {
    service_account: Box<str>,
    tail: Bytes,
    /// Where in it the drawn part of the token volume's name stands.
    suffixes: Box<[usize]>,
}

impl RememberedSpec {
    /// Learns from a pod that was created with this spec, decoded without a complaint. None: it is not of the kind that
    /// can be remembered.
    pub fn learn(spec: &[u8], stored: &Bytes) -> Option<Self> {
        let unusual = |part: &str| spec.windows(part.len()).any(|window| window == part.as_bytes());
        if spec.len() > MAX_SPEC_BYTES || UNUSUAL.into_iter().any(unusual) {
            return None;
        }
        let root = Object::at(stored, 0)?;
        let keys: Vec<&[u8]> = root.members.iter().map(|member| member.key).collect();
        let [b"kind", b"apiVersion", b"metadata", b"spec", b"status"] = keys[..] else { return None };
        let stored_spec = root.child(stored, "spec")?;
        let account = stored_spec.get("serviceAccountName")?;
        let service_account: String = serde_json::from_slice(&stored[account.start..account.end]).ok()?;
        // A copy: the whole pod must not be kept for it.
        let tail = Bytes::copy_from_slice(&stored[root.get("metadata")?.end..]);
        let names = tail.windows(TOKEN_VOLUME_PREFIX.len()).enumerate();
        let names = names.filter(|(_, window)| *window == TOKEN_VOLUME_PREFIX.as_bytes());
        let suffixes: Box<[usize]> = names.map(|(at, _)| at + TOKEN_VOLUME_PREFIX.len()).collect();
        let whole = |at: &usize| tail.get(at + SUFFIX) == Some(&b'"');
        suffixes.iter().all(whole).then_some(())?;
        Some(RememberedSpec { service_account: service_account.into(), tail, suffixes })
    }

    /// The neighbour that the outcome depends on, in the pod's namespace.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// The name and the stored bytes of a new pod with this spec. None: it is to go the long way.
    pub fn create(
        &self,
        pods: &Resource,
        context: &Context,
        namespace: &str,
        (body, validation): (&PodBody<'_>, FieldValidation),
    ) -> Option<(String, Bytes)> {
        let metadata = body.metadata(pods, validation)?;
        let mut object = Value::Object(Map::from_iter([("metadata".to_owned(), metadata)]));
        if is_mirror(&object) || !text(&object["metadata"], "resourceVersion").is_empty() {
            return None;
        }
        meta::match_namespace(pods.kind(), namespace, &mut object).ok()?;
        meta::prepare_create(context, &mut object);
        set(object_mut(&mut object, "metadata"), "generation", 1);
        let mut errors = Errors::default();
        meta::validate(pods.kind(), pods.name_rule(), &object, &mut errors);
        if !errors.is_empty() {
            return None;
        }
        let metadata = &object["metadata"];
        let mut out = Vec::with_capacity(self.tail.len() + 512);
        out.extend_from_slice(br#"{"kind":"Pod","apiVersion":"v1","metadata":"#);
        write_json(&mut out, metadata);
        let behind = out.len();
        out.extend_from_slice(&self.tail);
        if !self.suffixes.is_empty() {
            let suffix = context.name_suffix();
            for at in &self.suffixes {
                out[behind + at..behind + at + SUFFIX].copy_from_slice(suffix.as_bytes());
            }
        }
        Some((text(metadata, "name").to_owned(), out.into()))
    }
}
