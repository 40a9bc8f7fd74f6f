//! What the client wants to read and what it has written: `Accept`, `Content-Type` and the `as=` of transformations.

use http::{HeaderMap, header};
use registry::{Status, patch::PatchKind};

/// The shape that an object is answered in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum View {
    #[default]
    Object,
    /// `as=Table;v=v1;g=meta.k8s.io`
    Table,
    /// `as=PartialObjectMetadata;v=v1;g=meta.k8s.io`, or its list.
    Metadata,
}

/// How a request's body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
    /// Kubernetes' protobuf form, which Go clients send for built-in kinds.
    Protobuf,
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const READABLE: &[&str] = &["application/json", "application/yaml", PROTOBUF];

/// One media range of an `Accept` header.
struct Range<'a> {
    media: &'a str,
    parameters: &'a str,
}

impl<'a> Range<'a> {
    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.split(';').find_map(|p| {
            let (key, value) = p.trim().split_once('=')?;
            (key.trim() == name).then(|| value.trim())
        })
    }

    fn is_json(&self) -> bool {
        matches!(self.media, "application/json" | "application/*" | "*/*" | "")
    }
}

fn ranges(headers: &HeaderMap) -> impl Iterator<Item = Range<'_>> {
    headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(|range| {
        let (media, parameters) = range.split_once(';').unwrap_or((range, ""));
        Range { media: media.trim(), parameters }
    })
}

/// The first acceptable range that can be made here. Without any, 406.
pub(crate) fn view(headers: &HeaderMap) -> Result<View, Status> {
    let mut any = false;
    for range in ranges(headers) {
        any = true;
        if !range.is_json() {
            continue;
        }
        let known_group = range.parameter("g").is_none_or(|g| g == "meta.k8s.io");
        let known_version = range.parameter("v").is_none_or(|v| v == "v1");
        match range.parameter("as") {
            None => return Ok(View::Object),
            Some("Table") if known_group && known_version => return Ok(View::Table),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if known_group && known_version => {
                return Ok(View::Metadata);
            }
            Some(_) => {}
        }
    }
    if any { Err(Status::not_acceptable(&["application/json"])) } else { Ok(View::Object) }
}

/// Whether the aggregated form of discovery is wanted, and in which version it is named.
pub(crate) fn aggregated_discovery(headers: &HeaderMap) -> Option<&'static str> {
    for range in ranges(headers).filter(Range::is_json) {
        match (range.parameter("as"), range.parameter("g"), range.parameter("v")) {
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => return Some("v2"),
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => return Some("v2beta1"),
            (None, ..) => return None,
            _ => {}
        }
    }
    None
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// The format of an object in the body. No content type means JSON.
pub(crate) fn format(headers: &HeaderMap) -> Result<Format, Status> {
    match content_type(headers) {
        "" | "application/json" | "*/*" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        PROTOBUF => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(READABLE)),
    }
}

/// The kind of a patch in the body.
pub(crate) fn patch_kind(headers: &HeaderMap) -> Result<PatchKind, Status> {
    if content_type(headers).starts_with("application/apply-patch") {
        let message = "server-side apply is not served yet: the content type application/apply-patch+yaml is not \
                       supported; use kubectl apply without --server-side";
        return Err(Status::new(415, "UnsupportedMediaType", message));
    }
    PatchKind::from_media_type(content_type(headers))
        .ok_or_else(|| Status::unsupported_media_type(&PatchKind::MEDIA_TYPES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, value.parse().unwrap())])
    }

    #[test]
    fn views() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (value, expected) in [
            ("application/json", Ok(View::Object)),
            ("application/vnd.kubernetes.protobuf, application/json", Ok(View::Object)),
            ("application/vnd.kubernetes.protobuf", Err(406)),
            (table, Ok(View::Table)),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Ok(View::Metadata)),
            ("application/json;as=Table;v=v9;g=meta.k8s.io", Err(406)),
            ("*/*", Ok(View::Object)),
            ("text/html", Err(406)),
        ] {
            assert_eq!(view(&accept(value)).map_err(|s| s.code), expected, "{value}");
        }
        assert_eq!(view(&HeaderMap::new()), Ok(View::Object));
    }

    #[test]
    fn discovery_versions() {
        let both = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(aggregated_discovery(&accept(both)), Some("v2"));
        assert_eq!(aggregated_discovery(&accept("application/json")), None);
    }

    #[test]
    fn formats() {
        let of = |value: &str| HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
        assert_eq!(format(&of("application/json; charset=utf-8")), Ok(Format::Json));
        assert_eq!(format(&of("application/yaml")), Ok(Format::Yaml));
        assert_eq!(format(&of("application/cbor")).map_err(|s| s.code), Err(415));
        assert_eq!(patch_kind(&of("application/merge-patch+json")), Ok(PatchKind::Merge));
        assert_eq!(patch_kind(&of("application/apply-patch+yaml")).map_err(|s| s.code), Err(415));
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_read(value in "[ -~]{0,120}") {
            let headers = HeaderMap::from_iter([
                (header::ACCEPT, value.parse().unwrap()),
                (header::CONTENT_TYPE, value.parse().unwrap()),
            ]);
            let _ = (view(&headers), aggregated_discovery(&headers), format(&headers), patch_kind(&headers));
        }
    }
}
