//! One kind's operations, and the registry that finds a kind by its names.

use std::{borrow::Cow, sync::OnceLock};

use bytes::Bytes;
use jiff::Timestamp;
use kube_schema::{
    ObjectId, Schema, Shape,
    kinds::{self, Kind},
};
use serde_json::{Value, json};

use crate::{
    Attributes, Context, Decoded, DeleteOptions, DeleteOutcome, FieldSelector, FieldValidation, LabelSelector,
    Selection, Status, convert, decode,
    decode::DecodeError,
    delete,
    field::Errors,
    kinds::{Strategy, strategy_of},
    meta,
    names::Rule,
    patch,
    table::Column,
    value::{copy, object_mut, remove, set, text},
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
    /// Without its resource version, as [`crate::decode_stored`] reads it.
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

/// Namespaces that every cluster has, and that nothing would make again.
const IMMORTAL_NAMESPACES: [&str; 3] = ["default", "kube-public", "kube-system"];

/// The members of an object that a write of its status reads or changes.
const STATUS: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

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

    // ---- writing ----------------------------------------------------------------------------------------------------

    /// Makes a decoded object ready to be stored: defaults, system metadata, validation.
    ///
    /// `namespace` is the request's; empty for cluster-wide kinds. Admission comes before, allocation after.
    pub fn create(&self, context: &Context, namespace: &str, mut object: Value) -> Result<Value, Status> {
        meta::match_namespace(self.kind, namespace, &mut object)?;
        if !text(&object["metadata"], "resourceVersion").is_empty() {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        meta::prepare_create(context, &mut object);
        self.strategy.default(&mut object);
        self.strategy.prepare_create(context, &mut object);
        let mut errors = Errors::default();
        meta::validate(self.kind, self.strategy.name_rule(), &object, &mut errors);
        self.strategy.validate(&object, &mut errors);
        self.strategy.validate_create(&object, &mut errors);
        self.refuse(&object, errors)?;
        Ok(object)
    }

    /// Fills in defaults only, for objects from a store that another API server wrote.
    pub fn default(&self, object: &mut Value) {
        self.strategy.default(object);
    }

    /// Works out what a PUT's (or a patch's) new object means for the existing one.
    pub fn update(
        &self,
        context: &Context,
        target: Target,
        existing: Existing<'_>,
        new: Value,
    ) -> Result<Outcome, Status> {
        let old = existing.object;
        meta::match_existing(self.kind, existing, &new, self.strategy.requires_resource_version())?;
        let mut new = match target {
            Target::Scale => self.apply_scale(old, &new)?,
            _ => new,
        };
        let kept = if target == Target::Status { self.strategy.status_keeps() } else { &[] };
        meta::prepare_update(kept, &mut new, old);
        match target {
            Target::Object | Target::Scale => {
                self.strategy.default(&mut new);
                self.strategy.prepare_update(context, &mut new, old);
            }
            Target::Status => self.keep_all_but_status(context, &mut new, old),
            Target::Finalize => self.keep_all_but_finalizers(&mut new, old),
        }
        let mut errors = Errors::default();
        meta::validate_update(self.kind, self.strategy.name_rule(), &new, old, &mut errors);
        match target {
            Target::Status => self.strategy.validate_status(&new, old, &mut errors),
            Target::Finalize => {}
            Target::Object | Target::Scale => {
                self.strategy.validate(&new, &mut errors);
                self.strategy.validate_update(&new, old, &mut errors);
            }
        }
        self.refuse(&new, errors)?;
        Ok(if meta::deletion_is_due(&new) && self.strategy.may_be_removed(&new) {
            Outcome::Remove(new)
        } else if new == *old {
            Outcome::Unchanged
        } else {
            Outcome::Write(new)
        })
    }

    /// Applies a patch. The result is decoded and goes into [`Resource::update`]; it carries the existing resource
    /// version unless the patch sets one, which then is a precondition.
    pub fn patch(
        &self,
        target: Target,
        existing: Existing<'_>,
        kind: patch::PatchKind,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<Decoded, Status> {
        let mut live = match target {
            Target::Scale => self.scale(existing)?,
            // What else the patch speaks of is not taken up, whatever it would be merged into. A JSON patch may look at it.
            Target::Status if kind != patch::PatchKind::Json => members(existing.object, |name| STATUS.contains(&name)),
            _ => existing.object.clone(),
        };
        crate::set_resource_version(&mut live, existing.revision);
        let shape = self.target_shape(target);
        let (patched, mut warnings) = patch::apply(self.schema, &shape, kind, live, body, validation)?;
        let decoded = decode::from(self.schema, &shape, patched, validation).map_err(|error| match error {
            DecodeError::Strict(_) => patch::invalid_patch(&String::from_utf8_lossy(body), &error.to_string()),
            error => self.decode_status(target, error),
        })?;
        let mut decoded = self.check_type(target, decoded)?;
        warnings.append(&mut decoded.warnings);
        Ok(Decoded { value: decoded.value, warnings })
    }

    /// Works out what a DELETE means.
    pub fn delete(
        &self,
        context: &Context,
        existing: Existing<'_>,
        options: &DeleteOptions,
    ) -> Result<DeleteOutcome, Status> {
        let name = text(&existing.object["metadata"], "name");
        if self.kind.group.is_empty() && self.kind.kind == "Namespace" && IMMORTAL_NAMESPACES.contains(&name) {
            return Err(Status::forbidden(self.kind, name, "this namespace may not be deleted"));
        }
        delete::delete(self.kind, self.strategy, context, existing, options)
    }

    fn refuse(&self, object: &Value, errors: Errors) -> Result<(), Status> {
        if errors.is_empty() {
            return Ok(());
        }
        let metadata = &object["metadata"];
        let name = Some(text(metadata, "name")).filter(|n| !n.is_empty()).unwrap_or(text(metadata, "generateName"));
        // What is stored in the core group's form is refused in its name.
        let group = if self.converts() { "" } else { &self.kind.group };
        Err(Status::invalid(group, &self.kind.kind, name, errors.into_vec()))
    }

    fn keep_all_but_status(&self, context: &Context, new: &mut Value, old: &Value) {
        let mut kept = members(old, |name| name != "status" && name != "metadata");
        if let Some(status) = remove(new, "status") {
            set(&mut kept, "status", status);
        }
        match remove(new, "metadata") {
            Some(metadata) => set(&mut kept, "metadata", metadata),
            None => copy(&mut kept, old, "metadata"),
        }
        *new = kept;
        self.strategy.default(new);
        self.strategy.prepare_status(context, new, old);
    }

    fn keep_all_but_finalizers(&self, new: &mut Value, old: &Value) {
        let mut spec = remove(new, "spec").unwrap_or_default();
        let finalizers = remove(&mut spec, "finalizers");
        copy(new, old, "status");
        copy(new, old, "spec");
        let spec = object_mut(new, "spec");
        match finalizers {
            Some(finalizers) => set(spec, "finalizers", finalizers),
            None => {
                remove(spec, "finalizers");
            }
        }
    }

    // ---- subresources -----------------------------------------------------------------------------------------------

    /// The object's `/scale`.
    pub fn scale(&self, existing: Existing<'_>) -> Result<Value, Status> {
        let object = existing.object;
        let metadata = &object["metadata"];
        let mut scale = json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {"name": metadata["name"], "resourceVersion": existing.revision.to_string()},
            "spec": {"replicas": object["spec"]["replicas"].as_i64().unwrap_or(0)},
            "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)},
        });
        for field in ["namespace", "uid", "creationTimestamp"] {
            copy(&mut scale["metadata"], metadata, field);
        }
        let selector = self.strategy.scale_selector(object);
        if !selector.is_empty() {
            set(&mut scale["status"], "selector", selector);
        }
        Ok(scale)
    }

    fn apply_scale(&self, old: &Value, scale: &Value) -> Result<Value, Status> {
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let mut errors = Errors::default();
            errors.invalid(&"spec.replicas", &replicas.into(), "must be greater than or equal to 0");
            let name = text(&old["metadata"], "name");
            return Err(Status::invalid("autoscaling", "Scale", name, errors.into_vec()));
        }
        let mut new = old.clone();
        set(object_mut(&mut new, "spec"), "replicas", replicas);
        Ok(new)
    }

    /// Applies a `Binding` to a pod: sets its node, and PodScheduled.
    pub fn bind(&self, context: &Context, existing: Existing<'_>, binding: &Value) -> Result<Value, Status> {
        crate::kinds::bind_pod(self.kind, context, existing, binding)
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

/// An object with some of its members.
fn members(object: &Value, which: impl Fn(&str) -> bool) -> Value {
    let all = object.as_object().into_iter().flatten();
    all.filter(|(name, _)| which(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
