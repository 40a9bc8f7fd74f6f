//! Objects in the shape that the client asked for: as they are, as rows of a table, or their metadata only.

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use jiff::Timestamp;
use registry::{
    Resource, Status, set_resource_version,
    table::{self, IncludeObject},
};
use serde_json::{Value, json};
use store_api::Revision;

use crate::{
    body::Body,
    cache::entry::{Entry, splice},
    negotiate::{self, View},
    pipeline::Call,
    respond,
};

/// The shape of an answer, read from the request once.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub view: View,
    pub include: IncludeObject,
    pub pretty: bool,
    pub now: Timestamp,
}

impl Shape {
    pub fn of(call: &Call) -> Result<Self, Status> {
        let view = negotiate::view(&call.headers)?;
        let word = call.info.query.get("includeObject").unwrap_or_default();
        let include = IncludeObject::parse(word)
            .ok_or_else(|| Status::bad_request(format!("unrecognized includeObject value: {word:?}")))?;
        Ok(Shape { view, include, pretty: call.pretty(), now: call.core.now() })
    }

    /// An object's row.
    pub fn row(&self, resource: &Resource, object: Value) -> Value {
        table::row(resource.cells(&object, self.now), object, self.include)
    }

    /// The object as one item of a list.
    pub fn write_item(&self, resource: &Resource, entry: &Entry, out: &mut BytesMut) {
        match self.view {
            View::Object => entry.write(out),
            View::Table => write_json(&self.row(resource, entry.decode_with_revision()), out),
            View::Metadata => entry.write_metadata_as_of(entry.revision, out),
        }
    }

    /// An answer that is one object.
    pub fn one(
        &self,
        code: StatusCode,
        resource: &Resource,
        encoded: &Bytes,
        revision: Option<Revision>,
    ) -> Response<Body> {
        if self.view == View::Object && !self.pretty {
            let Some(revision) = revision else { return respond::bytes(code, encoded.clone()) };
            let mut out = BytesMut::with_capacity(encoded.len() + 48);
            splice(encoded, revision, &mut out);
            return respond::bytes(code, out.freeze());
        }
        let mut object: Value = serde_json::from_slice(encoded).unwrap_or_default();
        if let Some(revision) = revision {
            set_resource_version(&mut object, revision.unsigned_abs());
        }
        self.value(code, resource, object)
    }

    /// An answer that is one parsed object.
    pub fn value(&self, code: StatusCode, resource: &Resource, object: Value) -> Response<Body> {
        let shown = match self.view {
            View::Object => object,
            View::Metadata => table::partial_object(object),
            View::Table => {
                let metadata = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
                let row = self.row(resource, object);
                table::document(Some(resource.columns()), vec![row], metadata)
            }
        };
        if self.pretty { pretty(code, &shown) } else { respond::json(code, &shown) }
    }
}

/// A JSON response that people read.
pub(crate) fn pretty(code: StatusCode, value: &Value) -> Response<Body> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    respond::bytes(code, text)
}

/// Appends a value.
pub(crate) fn write_json(value: &Value, out: &mut BytesMut) {
    use bytes::BufMut;
    // Writing to memory does not fail, and a JSON value has string keys only.
    let _ = serde_json::to_writer(out.writer(), value);
}
