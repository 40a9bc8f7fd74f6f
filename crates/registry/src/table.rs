//! Server-side tables: what `kubectl get` shows.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::scalar::parse_time;

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The head, as `kubectl` upper-cases it.
    pub name: &'static str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: &'static str,
    /// `name` for the column that names the object; else empty.
    pub format: &'static str,
    /// What it means.
    pub description: &'static str,
    /// 0: always shown; 1: with `-o wide`.
    pub priority: u8,
}

impl Column {
    /// The object's name.
    pub const NAME: Column =
        Column { format: "name", ..Column::text("Name", "Name must be unique within a namespace.") };
    /// How old the object is.
    pub const AGE: Column = Column::text(
        "Age",
        "CreationTimestamp is a timestamp representing the server time when this object was created.",
    );

    /// When the object was created, for kinds that Kubernetes shows no columns of their own for.
    pub const CREATED: Column = Column { kind: "date", ..Column::text("Created At", "When the object was created.") };

    /// A column of strings.
    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Column { name, kind: "string", format: "", description, priority: 0 }
    }

    /// A column of integers.
    pub const fn integer(name: &'static str, description: &'static str) -> Self {
        Column { name, kind: "integer", format: "", description, priority: 0 }
    }

    /// A column of yes and no.
    pub const fn boolean(name: &'static str, description: &'static str) -> Self {
        Column { name, kind: "boolean", format: "", description, priority: 0 }
    }

    /// Shown with `-o wide` only.
    pub const fn wide(self) -> Self {
        Column { priority: 1, ..self }
    }
}

/// What a row carries beside its cells (`includeObject=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// The object's metadata.
    #[default]
    Metadata,
    /// The object.
    Object,
}

impl IncludeObject {
    /// The value of the query parameter; none for an unknown word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// A table's `columnDefinitions`.
pub fn column_definitions(columns: &[Column]) -> Value {
    let define = |c: &Column| json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority});
    columns.iter().map(define).collect()
}

/// One of a table's `rows`. `object` carries its resource version.
pub fn row(cells: Vec<Value>, object: Value, include: IncludeObject) -> Value {
    let mut row = json!({"cells": cells});
    match include {
        IncludeObject::None => {}
        IncludeObject::Object => row["object"] = object,
        IncludeObject::Metadata => row["object"] = partial_object(object),
    }
    row
}

/// An object's metadata as an object of its own.
pub fn partial_object(mut object: Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"].take(),
    })
}

/// A whole table. `metadata` is the list's. Watch events but the first leave the columns out (`None`).
pub fn document(columns: Option<&[Column]>, rows: Vec<Value>, metadata: Value) -> Value {
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns.map_or(json!([]), column_definitions), "rows": rows,
    })
}

/// How long ago a time was, as `kubectl` shows it; `<unknown>` for no time.
pub(crate) fn age(time: &Value, now: Timestamp) -> String {
    match time.as_str().and_then(|text| parse_time(text).ok()) {
        Some(time) => duration(now.as_second() - time.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// A duration as `kubectl` shows it: two units at most, and fewer the longer it is.
pub(crate) fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let pair = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    match seconds {
        // A clock that is a little ahead is no reason for alarm.
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => pair(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if years < 8 => pair(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_kubectl_shows_them() {
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 61, "3h1m"),
            (8 * 3600, "8h"),
            (48 * 3600, "2d"),
            (50 * 3600, "2d2h"),
            (8 * 86400, "8d"),
            (730 * 86400, "2y"),
            (731 * 86400, "2y1d"),
            (3000 * 86400, "8y"),
        ] {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }
}
