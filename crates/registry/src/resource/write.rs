//! What a write makes of an object: creation, update, patch, deletion, and the subresources that change it.

use serde_json::{Value, json};

use super::{Existing, Outcome, Resource, Target};
use crate::{
    Context, Decoded, DeleteOptions, DeleteOutcome, FieldValidation, Status, decode,
    decode::DecodeError,
    delete,
    field::Errors,
    meta, patch,
    value::{copy, object_mut, remove, set, text},
};

/// Namespaces that every cluster has, and that nothing would make again.
const IMMORTAL_NAMESPACES: [&str; 3] = ["default", "kube-public", "kube-system"];

/// The members of an object that a write of its status changes.
const CHANGED_WITH_STATUS: [&str; 2] = ["metadata", "status"];

impl Resource {
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
        let unchanged = match target {
            // The rest is the old one's, of which defaults may have been filled in.
            Target::Status => CHANGED_WITH_STATUS.iter().all(|member| new[member] == old[member]),
            _ => new == *old,
        };
        Ok(if meta::deletion_is_due(&new) && self.strategy.may_be_removed(&new) {
            Outcome::Remove(new)
        } else if unchanged {
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
            // What the patch says of a spec is not taken up, whatever it would be merged into. A JSON patch may look at it.
            Target::Status if kind != patch::PatchKind::Json => members(existing.object, |name| name != "spec"),
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
}

/// An object with some of its members.
fn members(object: &Value, which: impl Fn(&str) -> bool) -> Value {
    let all = object.as_object().into_iter().flatten();
    all.filter(|(name, _)| which(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
