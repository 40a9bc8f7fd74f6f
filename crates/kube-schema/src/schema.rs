//! The shape of types: objects with fields, lists with their merge keys, and the scalar formats Kubernetes gives meaning.

use std::{borrow::Cow, collections::HashMap, sync::OnceLock};

use crate::table;

/// A set of object types that refer to each other by [`ObjectId`].
///
/// Objects sit in one arena because Kubernetes' types are recursive (`JSONSchemaProps`).
#[derive(Clone, Debug, Default)]
pub struct Schema {
    objects: Vec<Object>,
    by_name: HashMap<Cow<'static, str>, ObjectId>,
    /// Empty lists and maps mean the same as absent ones, as they do in Kubernetes' built-in types (Go's `omitempty`).
    /// False for custom resources, whose objects keep what was written.
    pub prune_empty: bool,
}

/// Names an [`Object`] within its [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId(u32);

/// One object type with named fields.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// The full name, such as `io.k8s.api.core.v1.Container`.
    pub name: Cow<'static, str>,
    /// Sorted by name.
    pub fields: Vec<Field>,
    /// Group, version and kind, for types that are API objects themselves.
    pub gvk: Option<(Cow<'static, str>, Cow<'static, str>, Cow<'static, str>)>,
    /// Appliers own the whole object or nothing of it.
    pub atomic: bool,
    /// Fields that are not listed are kept as they are, instead of dropped.
    pub preserve_unknown: bool,
}

/// One field of an object.
#[derive(Clone, Debug)]
pub struct Field {
    /// The JSON name.
    pub name: Cow<'static, str>,
    /// What its value looks like.
    pub shape: Shape,
    /// The OpenAPI document lists it under `required`.
    pub required: bool,
    /// How a strategic merge patch treats it.
    pub patch: PatchStrategy,
}

/// The shape of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Any JSON, kept as it is: RawExtension, FieldsV1, JSON.
    Any,
    /// A string.
    String,
    /// Base64 of bytes.
    Bytes,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    /// A number with a unit, such as `100m` or `1Gi`.
    Quantity,
    /// A 32-bit integer or a string.
    IntOrString,
    /// A boolean.
    Bool,
    /// A 32-bit signed integer.
    Int32,
    /// A 64-bit signed integer.
    Int64,
    /// A floating point number.
    Double,
    /// An object with named fields.
    Object(ObjectId),
    /// An object with free keys and values of one shape. `atomic`: appliers own the whole map or nothing of it.
    Map { value: Box<Shape>, atomic: bool },
    /// A list of items of one shape.
    List { item: Box<Shape>, kind: ListKind },
}

/// Which items of a list are the same item (`x-kubernetes-list-type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// The list is one value.
    Atomic,
    /// Items are told apart by their value.
    Set,
    /// Items are told apart by these fields.
    Map(Vec<Cow<'static, str>>),
}

/// How a strategic merge patch treats a field (`x-kubernetes-patch-strategy`, `x-kubernetes-patch-merge-key`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// A list is merged instead of replaced.
    pub merge: bool,
    /// Keys of an object that a patch lists under `$retainKeys` stay, all others go.
    pub retain_keys: bool,
    /// The field that tells items of a merged list apart; none for lists of scalars.
    pub merge_key: Option<Cow<'static, str>>,
}

/// The committed table that [`Schema::builtin`] decodes, for whoever needs to know whether it changed.
pub static SCHEMA_TABLE: &str = include_str!("schema.txt");

impl Schema {
    /// The types of Kubernetes v1.36's own API, decoded on first use.
    pub fn builtin() -> &'static Schema {
        static BUILTIN: OnceLock<Schema> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            let mut schema = table::decode(SCHEMA_TABLE).expect("the committed table is tested to decode");
            schema.prune_empty = true;
            schema
        })
    }

    /// The object type called `name`.
    pub fn find(&self, name: &str) -> Option<ObjectId> {
        self.by_name.get(name).copied()
    }

    /// The object type behind an id of this schema. An id of another schema gives another type, or panics.
    pub fn object(&self, id: ObjectId) -> &Object {
        &self.objects[id.0 as usize]
    }

    /// All object types.
    pub fn objects(&self) -> impl Iterator<Item = (ObjectId, &Object)> {
        (0..).map(ObjectId).zip(&self.objects)
    }

    /// Makes room for a type, so that others can refer to it before its fields are known.
    pub fn declare(&mut self, name: impl Into<Cow<'static, str>>) -> ObjectId {
        let name = name.into();
        if let Some(id) = self.find(&name) {
            return id;
        }
        let id = ObjectId(u32::try_from(self.objects.len()).expect("fewer types than u32 counts"));
        self.objects.push(Object { name: name.clone(), ..Object::default() });
        self.by_name.insert(name, id);
        id
    }

    /// Fills in a declared type. Fields are sorted here.
    pub fn define(&mut self, id: ObjectId, mut object: Object) {
        object.fields.sort_by(|a, b| a.name.cmp(&b.name));
        object.name = self.objects[id.0 as usize].name.clone();
        self.objects[id.0 as usize] = object;
    }
}

impl Object {
    /// The field called `name`.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.position(name).map(|(_, field)| field)
    }

    /// The field called `name`, and its place in `fields`.
    pub fn position(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields.binary_search_by(|f| f.name.as_ref().cmp(name)).ok().map(|at| (at, &self.fields[at]))
    }

    /// The last part of the name, such as `Container`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}
