//! One kind's operations, and the registry that finds a kind by its names.

mod write;

use std::{borrow::Cow, sync::OnceLock};

use bytes::Bytes;
use jiff::Timestamp;
use kube_schema::{
    ObjectId, Schema, Shape,
    kinds::{self, Kind},
};
use serde_json::Value;

use crate::{
    Attributes, Decoded, FieldSelector, FieldValidation, LabelSelector, Reading, Selection, Status, StoredObject,
    convert, decode,
    decode::DecodeError,
    kinds::{Strategy, strategy_of},
    names::Rule,
    table::Column,
    value::{set, text},
};

/// All kinds served.
pub struct Registry {
    resources: Vec<Resource>,
}

impl Registry {
    /// Kubernetes' own kinds.
    pub fn builtin() -> &'static Registry {
        static BUILTIN: OnceLock<Registry> = OnceLock::new();
        BUILTIN.get_or_init(|| Registry {
            resources: kinds::builtin().iter().map(|kind| Resource::new(kind, Schema::builtin())).collect(),
        })
    }

    /// All of them: the core group first, then the groups by name.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// By the names in a URL.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.kind.plural == plural && r.kind.group == group && r.kind.version == version)
    }

    /// By the names in an object.
    pub fn find_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.resources.iter().find(|r| r.kind.kind == kind && r.kind.group == group && r.kind.version == version)
    }

    /// Groups with their versions, core first.
    pub fn group_versions(&self) -> Vec<(&str, &str)> {
        let mut out: Vec<(&str, &str)> = vec![];
        for resource in &self.resources {
            let pair = (resource.kind.group.as_ref(), resource.kind.version.as_ref());
            if !out.contains(&pair) {
                out.push(pair);
            }
        }
        out
    }
}

/// One kind: its names, its type and its rules.
pub struct Resource {
    kind: &'static Kind,
    schema: &'static Schema,
    shape: Shape,
    strategy: &'static dyn Strategy,
}

/// What of an object a write addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The object but its status.
    Object,
    /// `/status`: its status only.
    Status,
    /// `/scale`: its replica count, by way of an `autoscaling/v1` Scale.
    Scale,
    /// `/finalize`: a namespace's finalizers.
    Finalize,
}

impl Target {
    /// By the last part of a URL; none for subresources that are not written with PUT or PATCH.
    pub fn from_subresource(name: &str) -> Option<Self> {
        match name {
            "" => Some(Target::Object),
            "status" => Some(Target::Status),
            "scale" => Some(Target::Scale),
            "finalize" => Some(Target::Finalize),
            _ => None,
        }
    }
}

/// An object as it is in the store.
#[derive(Clone, Copy, Debug)]
pub struct Existing<'a> {
    /// Without its resource version, as [`crate::decode_stored`] reads it, or a [`StoredObject`] for this write.
    pub object: &'a Value,
    /// Its resource version.
    pub revision: u64,
}

/// What to do after an update.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Nothing changed: no write, the object keeps its resource version.
    Unchanged,
    /// Write this.
    Write(Value),
    /// The last finalizer of an object that was to be deleted is gone: delete it. This is its last state.
    Remove(Value),
}

impl Resource {
    fn new(kind: &'static Kind, schema: &'static Schema) -> Self {
        let id = schema.find(&kind.type_name).expect("kube-schema tests that every kind has a type");
        Resource { kind, schema, shape: Shape::Object(id), strategy: strategy_of(kind) }
    }

    /// Its names, scope, verbs and place in the store.
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// The schema its type is part of.
    pub fn schema(&self) -> &'static Schema {
        self.schema
    }

    /// Its type.
    pub fn type_id(&self) -> ObjectId {
        match self.shape {
            Shape::Object(id) => id,
            _ => unreachable!("the constructor makes it an object"),
        }
    }

    /// Whether the store keeps its objects in another kind's form.
    pub fn converts(&self) -> bool {
        convert::converts(self.kind)
    }

    /// Stored bytes in this kind's form.
    pub fn from_stored(&self, stored: Bytes) -> Bytes {
        if self.converts() { convert::from_stored(&stored) } else { stored }
    }

    /// Reads bytes in this kind's form, as far as a write of the object needs.
    pub fn read(&self, reading: Reading, encoded: Bytes) -> Result<StoredObject, serde_json::Error> {
        StoredObject::read(encoded, |status| self.strategy.reads(reading, status))
    }

    /// Encoded bytes in the form in which they are stored.
    pub fn to_stored(&self, encoded: Bytes) -> Bytes {
        if self.converts() { convert::to_stored(&encoded) } else { encoded }
    }

    /// The key of one object in the store.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        self.kind.key(namespace, name)
    }

    /// Which names its objects may have.
    pub(crate) fn name_rule(&self) -> Rule {
        self.strategy.name_rule()
    }

    /// Whether PUT or PATCH of an object that is not there creates it.
    pub fn creates_on_update(&self) -> bool {
        self.strategy.creates_on_update()
    }

    /// Whether DELETE answers with the object, rather than with a `Status`.
    pub fn returns_deleted_object(&self) -> bool {
        self.strategy.returns_deleted_object()
    }

    // ---- decoding ---------------------------------------------------------------------------------------------------

    /// Decodes a request's body: this kind for [`Target::Object`], a Scale for [`Target::Scale`], and so on.
    pub fn decode(&self, target: Target, body: &[u8], validation: FieldValidation) -> Result<Decoded, Status> {
        let shape = self.target_shape(target);
        let decoded = decode::json(self.schema, &shape, body, validation).map_err(|e| self.decode_status(target, e))?;
        self.check_type(target, decoded)
    }

    /// The same from a parsed value (a YAML body, the result of a patch).
    pub fn decode_value(&self, target: Target, value: Value, validation: FieldValidation) -> Result<Decoded, Status> {
        let shape = self.target_shape(target);
        let decoded =
            decode::from(self.schema, &shape, value, validation).map_err(|e| self.decode_status(target, e))?;
        self.check_type(target, decoded)
    }

    fn target_shape(&self, target: Target) -> Cow<'_, Shape> {
        match target {
            Target::Scale => {
                let id = self.schema.find("io.k8s.api.autoscaling.v1.Scale").expect("Scale is a built-in type");
                Cow::Owned(Shape::Object(id))
            }
            _ => Cow::Borrowed(&self.shape),
        }
    }

    fn target_names(&self, target: Target) -> (&str, &str, &str) {
        match target {
            Target::Scale => ("autoscaling", "v1", "Scale"),
            _ => (&self.kind.group, &self.kind.version, &self.kind.kind),
        }
    }

    fn decode_status(&self, target: Target, error: DecodeError) -> Status {
        let (_, version, kind) = self.target_names(target);
        Status::bad_request(match error {
            DecodeError::Syntax(why) => format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why}"
            ),
            error => format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"),
        })
    }

    /// Fills in or checks apiVersion and kind.
    fn check_type(&self, target: Target, mut decoded: Decoded) -> Result<Decoded, Status> {
        let (group, version, kind) = self.target_names(target);
        let wanted = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let object = &mut decoded.value;
        if !object.is_object() {
            return Err(Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: expected an object"
            )));
        }
        match text(object, "apiVersion") {
            "" => set(object, "apiVersion", wanted),
            given if given == wanted => {}
            given => {
                return Err(Status::bad_request(format!(
                    "the API version in the data ({given}) does not match the expected API version ({wanted})"
                )));
            }
        }
        match text(object, "kind") {
            "" => set(object, "kind", kind),
            given if given == kind => {}
            given => {
                return Err(Status::bad_request(format!(
                    "{given} in version {version:?} cannot be handled as a {kind}: no kind {given:?} is registered for this resource"
                )));
            }
        }
        Ok(decoded)
    }

    // ---- reading ----------------------------------------------------------------------------------------------------

    /// Parses both selectors of a list or watch, refusing fields that this kind cannot be selected by.
    pub fn selection(&self, labels: &str, fields: &str) -> Result<Selection, Status> {
        let selection = Selection {
            labels: LabelSelector::parse(labels).map_err(Status::bad_request)?,
            fields: FieldSelector::parse(fields).map_err(Status::bad_request)?,
        };
        for term in &selection.fields.terms {
            let known = matches!(term.field.as_str(), "metadata.name" | "metadata.namespace")
                || self.strategy.selectable_fields().contains(&term.field.as_str());
            if !known && self.strategy.selectable_fields().is_empty() {
                return Err(Status::bad_request(format!(
                    "{:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                    term.field
                )));
            }
            if !known {
                return Err(Status::bad_request(format!("field label not supported: {}", term.field)));
            }
        }
        Ok(selection)
    }

    /// What selectors look at in an object of this kind.
    pub fn attributes(&self, object: &Value) -> Attributes {
        let metadata = &object["metadata"];
        let fields = ["metadata.name", "metadata.namespace"].into_iter().zip(["name", "namespace"]);
        let own = self.strategy.selectable_fields().iter().map(|field| (*field, self.strategy.field(object, field)));
        Attributes::new(object, fields.map(|(field, key)| (field, text(metadata, key).to_owned())).chain(own))
    }

    /// The same in stored bytes, most of which need not be parsed for it.
    pub fn stored_attributes(&self, stored: &[u8]) -> Attributes {
        let own = self.strategy.selectable_fields();
        let fields = ["metadata.name", "metadata.namespace"].into_iter().chain(own.iter().copied());
        let unset = |field: &str| if own.contains(&field) { self.strategy.unset_field(field) } else { Some("") };
        let read = if fields.clone().all(|field| unset(field).is_some()) {
            Attributes::stored(stored, fields, |field| unset(field).unwrap_or_default())
        } else {
            None
        };
        read.unwrap_or_else(|| self.attributes(&serde_json::from_slice(stored).unwrap_or_default()))
    }

    /// The columns of the server-side table.
    pub fn columns(&self) -> &'static [Column] {
        self.strategy.columns()
    }

    /// An object's row: one cell per column.
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        self.strategy.cells(object, now)
    }
}
