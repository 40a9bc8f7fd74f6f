//! The committed table's text form, and its decoder.
//!
//! ```text
//! type io.k8s.api.core.v1.Container [gvk=group/version/Kind] [atomic]
//!  args [string atomic
//!  env [@io.k8s.api.core.v1.EnvVar keys=name merge=name
//!  name string required
//! ```
//!
//! A line that begins with a blank is a field of the type above it. Shapes: a scalar's name, `@` and an object's name,
//! `[` and the shape of a list's items, `{` and the shape of a map's values.

use std::borrow::Cow;

use crate::schema::{Field, ListKind, Object, ObjectId, PatchStrategy, Schema, Shape};

/// The table is not well-formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schema table, line {line}: {reason}")]
pub struct TableError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Reads a table.
pub(crate) fn decode(text: &'static str) -> Result<Schema, TableError> {
    let mut schema = Schema::default();
    let mut open: Option<(ObjectId, Object)> = None;
    for (number, line) in text.lines().enumerate() {
        let fail = |reason| TableError { line: number + 1, reason };
        if let Some(field) = line.strip_prefix(' ') {
            let field = decode_field(&mut schema, field).map_err(fail)?;
            open.as_mut().ok_or(fail("a field before any type"))?.1.fields.push(field);
        } else if let Some(head) = line.strip_prefix("type ") {
            if let Some((id, object)) = open.take() {
                schema.define(id, object);
            }
            open = Some(decode_head(&mut schema, head).map_err(fail)?);
        } else if !line.is_empty() && !line.starts_with('#') {
            return Err(fail("neither a type, a field nor a comment"));
        }
    }
    if let Some((id, object)) = open {
        schema.define(id, object);
    }
    Ok(schema)
}

fn decode_head(schema: &mut Schema, head: &'static str) -> Result<(ObjectId, Object), &'static str> {
    let mut words = head.split(' ');
    let id = schema.declare(words.next().ok_or("a type without a name")?);
    let mut object = Object::default();
    for word in words {
        if let Some(gvk) = word.strip_prefix("gvk=") {
            let mut parts = gvk.splitn(3, '/').map(Cow::Borrowed);
            let mut part = || parts.next().ok_or("gvk= needs group/version/Kind");
            object.gvk = Some((part()?, part()?, part()?));
        } else if word == "atomic" {
            object.atomic = true;
        } else {
            return Err("unknown word after a type's name");
        }
    }
    Ok((id, object))
}

fn decode_field(schema: &mut Schema, line: &'static str) -> Result<Field, &'static str> {
    let mut words = line.split(' ');
    let name = words.next().ok_or("a field without a name")?;
    let shape = decode_shape(schema, words.next().ok_or("a field without a shape")?)?;
    let mut field = Field { name: Cow::Borrowed(name), shape, required: false, patch: PatchStrategy::default() };
    for word in words {
        match (word.split_once('='), &mut field.shape) {
            (Some(("merge", key)), _) => {
                field.patch.merge = true;
                field.patch.merge_key = Some(Cow::Borrowed(key));
            }
            (Some(("keys", keys)), Shape::List { kind, .. }) => {
                *kind = ListKind::Map(keys.split(',').map(Cow::Borrowed).collect());
            }
            (None, shape) => decode_flag(word, shape, &mut field.required, &mut field.patch)?,
            _ => return Err("unknown word after a field's shape"),
        }
    }
    Ok(field)
}

fn decode_flag(
    word: &str,
    shape: &mut Shape,
    required: &mut bool,
    patch: &mut PatchStrategy,
) -> Result<(), &'static str> {
    match (word, shape) {
        ("required", _) => *required = true,
        ("merge", _) => patch.merge = true,
        ("retainKeys", _) => patch.retain_keys = true,
        ("atomic", Shape::List { kind, .. }) => *kind = ListKind::Atomic,
        ("set", Shape::List { kind, .. }) => *kind = ListKind::Set,
        ("atomic", Shape::Map { atomic, .. }) => *atomic = true,
        _ => return Err("unknown word after a field's shape"),
    }
    Ok(())
}

fn decode_shape(schema: &mut Schema, word: &'static str) -> Result<Shape, &'static str> {
    if let Some(name) = word.strip_prefix('@') {
        return Ok(Shape::Object(schema.declare(name)));
    }
    if let Some(item) = word.strip_prefix('[') {
        return Ok(Shape::List { item: Box::new(decode_shape(schema, item)?), kind: ListKind::Atomic });
    }
    if let Some(value) = word.strip_prefix('{') {
        return Ok(Shape::Map { value: Box::new(decode_shape(schema, value)?), atomic: false });
    }
    Ok(match word {
        "any" => Shape::Any,
        "string" => Shape::String,
        "bytes" => Shape::Bytes,
        "time" => Shape::Time,
        "microtime" => Shape::MicroTime,
        "quantity" => Shape::Quantity,
        "intorstring" => Shape::IntOrString,
        "bool" => Shape::Bool,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "double" => Shape::Double,
        _ => return Err("unknown shape"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_table_decodes_and_every_reference_is_defined() {
        let schema = decode(include_str!("schema.txt")).unwrap();
        assert!(schema.objects().count() > 700);
        for (_, object) in schema.objects() {
            assert!(!object.fields.is_empty(), "{} has no fields", object.name);
        }
        let container = schema.object(schema.find("io.k8s.api.core.v1.Container").unwrap());
        let ports = container.field("ports").unwrap();
        assert_eq!(ports.patch.merge_key.as_deref(), Some("containerPort"));
        let Shape::List { kind: ListKind::Map(keys), .. } = &ports.shape else { panic!("{ports:?}") };
        assert_eq!(keys, &["containerPort", "protocol"]);
        assert!(container.field("name").unwrap().required);
    }

    #[test]
    fn malformed_lines_are_refused_with_their_number() {
        for (text, line) in [(" a string", 1), ("type a\n b nothing", 2), ("what", 1), ("type a\n b string odd", 2)] {
            assert_eq!(decode(text).unwrap_err().line, line, "{text}");
        }
    }
}
