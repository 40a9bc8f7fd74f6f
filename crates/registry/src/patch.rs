//! The three patches: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch (Kubernetes' own).

use kube_schema::{Schema, Shape};
use serde_json::Value;

use crate::{
    FieldValidation, Status,
    decode::{self, DecodeError},
    field::Errors,
};

mod merge;
mod strategic;

pub use strategic::strategic_merge;

/// Which patch a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json`
    Json,
    /// `application/merge-patch+json`
    Merge,
    /// `application/strategic-merge-patch+json`
    Strategic,
}

/// A JSON patch may hold this many operations, as in Kubernetes.
const MAX_OPERATIONS: usize = 10_000;

impl PatchKind {
    /// The media types taken, for `415`.
    pub const MEDIA_TYPES: [&str; 3] =
        ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

    /// By the request's content type, with or without parameters.
    pub fn from_media_type(media_type: &str) -> Option<Self> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let at = Self::MEDIA_TYPES.iter().position(|known| essence.eq_ignore_ascii_case(known))?;
        Some([PatchKind::Json, PatchKind::Merge, PatchKind::Strategic][at])
    }
}

/// Applies a patch to `live`. The result is not yet checked against its type.
pub(crate) fn apply(
    schema: &Schema,
    shape: &Shape,
    kind: PatchKind,
    mut live: Value,
    body: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    if kind == PatchKind::Json {
        let patch: json_patch::Patch =
            serde_json::from_slice(body).map_err(|why| Status::bad_request(format!("error decoding patch: {why}")))?;
        if patch.0.len() > MAX_OPERATIONS {
            return Err(Status::request_entity_too_large(format!(
                "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                patch.0.len()
            )));
        }
        json_patch::patch(&mut live, &patch).map_err(|_| Status::patch_does_not_apply())?;
        return Ok((live, vec![]));
    }
    let decoded = decode::json(schema, &Shape::Any, body, validation).map_err(|error| match error {
        DecodeError::Strict(_) => invalid_patch(&String::from_utf8_lossy(body), &error.to_string()),
        error => Status::bad_request(format!("error decoding patch: {error}")),
    })?;
    if !decoded.value.is_object() {
        return Err(Status::bad_request("error decoding patch: a patch must be a JSON object"));
    }
    match kind {
        PatchKind::Merge => merge::merge(&mut live, decoded.value),
        _ => strategic_merge(schema, shape, &mut live, decoded.value).map_err(Status::bad_request)?,
    }
    Ok((live, decoded.warnings))
}

/// 422 about the patch itself.
pub(crate) fn invalid_patch(body: &str, why: &str) -> Status {
    let mut errors = Errors::default();
    errors.invalid_text(&"patch", body, why);
    Status::invalid("", "", "", errors.into_vec())
}
