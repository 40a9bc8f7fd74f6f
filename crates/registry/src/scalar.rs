//! Scalars with a meaning: base64, times and quantities are checked and brought to the one form that is stored.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::Value;

use crate::context::format_time;

/// Base64 with padding. Kept as written: it decodes to the same bytes.
pub(crate) fn bytes(text: Cow<'_, str>) -> Result<Value, String> {
    // Go's decoder skips line ends, and so the stored form must not carry them.
    let text = if text.contains(['\n', '\r']) { Cow::Owned(text.replace(['\n', '\r'], "")) } else { text };
    match STANDARD.decode(text.as_bytes()) {
        Ok(_) => Ok(Value::String(text.into_owned())),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => text.len(),
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}

/// RFC 3339 in UTC and whole seconds. Empty stands for no time.
pub(crate) fn time(text: Cow<'_, str>) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let time = parse_time(&text)?;
    let canonical = text.len() == 20 && text.ends_with('Z');
    Ok(Value::String(if canonical { text.into_owned() } else { format_time(time) }))
}

/// RFC 3339 in UTC and microseconds. Empty stands for no time.
pub(crate) fn micro_time(text: Cow<'_, str>) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let time = parse_time(&text)?;
    let canonical = text.len() == 27 && text.ends_with('Z') && text.as_bytes()[19] == b'.';
    let text = if canonical { text.into_owned() } else { time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string() };
    Ok(Value::String(text))
}

/// Reads RFC 3339; the error is Go's.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    // jiff reads more than RFC 3339 (basic formats, zone names in brackets); Go does not.
    let plausible = text.len() >= 20
        && text.as_bytes()[4] == b'-'
        && text.as_bytes()[10] == b'T'
        && text.as_bytes()[13] == b':'
        && !text.contains('[');
    let parsed = if plausible { text.parse::<Timestamp>().ok() } else { None };
    parsed.ok_or_else(|| {
        format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\"")
    })
}

/// A quantity in its canonical form: `1000m` becomes `1`, `1024Mi` becomes `1Gi`.
pub(crate) fn quantity(text: Cow<'_, str>) -> Result<Value, String> {
    match kube_schema::quantity::parse(text.trim()) {
        Ok(quantity) => Ok(Value::String(quantity.to_string())),
        Err(why) => Err(why.to_string()),
    }
}
