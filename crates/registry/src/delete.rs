//! What a DELETE means: at once, with grace, or after finalizers.

use serde_json::{Value, json};

use kube_schema::kinds::Kind;

use crate::{
    Context, Existing, Status,
    context::format_time,
    kinds::Strategy,
    scalar::parse_time,
    value::{items, list_mut, object_mut, remove, set, text},
};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// The body and parameters of a DELETE.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteOptions {
    /// Overrides the object's own grace period; 0 deletes at once.
    pub grace_period_seconds: Option<i64>,
    /// What must hold, or nothing is deleted.
    pub preconditions: Preconditions,
    /// What becomes of dependents.
    pub propagation: Option<Propagation>,
    /// Answer as if, but change nothing (`dryRun=All`).
    pub dry_run: bool,
}

/// What must hold of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// Its uid.
    pub uid: Option<String>,
    /// Its resource version.
    pub resource_version: Option<String>,
}

/// What becomes of the objects that an owner's deletion leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
}

/// What to do after a DELETE.
#[derive(Clone, Debug, PartialEq)]
pub enum DeleteOutcome {
    /// Delete the key. This is the object's last state.
    Remove(Value),
    /// Write this: the object stays until its grace is over or its finalizers are gone. The answer is 200 with it.
    Write(Value),
    /// Nothing changes: it is already on its way out.
    Pending,
}

impl DeleteOptions {
    /// Reads a `DeleteOptions` body, over which query parameters were laid. `null` reads as all defaults.
    pub fn from_value(value: &Value) -> Result<Self, Status> {
        let name = |key: &str| value["preconditions"][key].as_str().map(str::to_owned);
        let propagation = match (value["propagationPolicy"].as_str(), value["orphanDependents"].as_bool()) {
            (Some(_), Some(_)) => {
                return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", {
                    let mut errors = crate::field::Errors::default();
                    let why = "orphanDependents and deletionPropagation cannot be both set";
                    errors.invalid(&"propagationPolicy", &value["propagationPolicy"], why);
                    errors.into_vec()
                }));
            }
            (Some("Orphan"), None) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), None) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), None) => Some(Propagation::Foreground),
            (Some(_), None) => {
                let mut errors = crate::field::Errors::default();
                let known = ["Foreground", "Background", "Orphan", "nil"];
                errors.not_supported(&"propagationPolicy", &value["propagationPolicy"], &known);
                return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", errors.into_vec()));
            }
            (None, None) => None,
        };
        let dry_run = items(&value["dryRun"]);
        if let Some(odd) = dry_run.iter().find(|v| *v != "All") {
            let mut errors = crate::field::Errors::default();
            errors.not_supported(&"dryRun", odd, &["All"]);
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", errors.into_vec()));
        }
        Ok(DeleteOptions {
            grace_period_seconds: value["gracePeriodSeconds"].as_i64(),
            preconditions: Preconditions { uid: name("uid"), resource_version: name("resourceVersion") },
            propagation,
            dry_run: !dry_run.is_empty(),
        })
    }
}

impl Preconditions {
    /// Whether they hold of an object.
    pub fn check(&self, kind: &Kind, existing: Existing<'_>) -> Result<(), Status> {
        let metadata = &existing.object["metadata"];
        let name = text(metadata, "name");
        if let Some(wanted) = &self.uid {
            let uid = text(metadata, "uid");
            if wanted != uid {
                let why = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}");
                return Err(Status::conflict(kind, name, &why));
            }
        }
        if let Some(wanted) = &self.resource_version {
            let revision = existing.revision.to_string();
            if *wanted != revision {
                let why = format!(
                    "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {revision}"
                );
                return Err(Status::conflict(kind, name, &why));
            }
        }
        Ok(())
    }
}

pub(crate) fn delete(
    kind: &Kind,
    strategy: &dyn Strategy,
    context: &Context,
    existing: Existing<'_>,
    options: &DeleteOptions,
) -> Result<DeleteOutcome, Status> {
    options.preconditions.check(kind, existing)?;
    let old = existing.object;
    let deleting = !text(&old["metadata"], "deletionTimestamp").is_empty();
    let wanted = wanted_finalizers(strategy, old, options);
    let current: Vec<&str> = items(&old["metadata"]["finalizers"]).iter().filter_map(Value::as_str).collect();
    let grace = if strategy.deletes_gracefully() { grace_period(strategy, old, options) } else { 0 };
    let done = wanted.is_empty() && strategy.may_be_removed(old);
    if done && grace == 0 {
        // What goes at once, and was not told to go before, never was on its way out.
        let last = if strategy.deletes_gracefully() { marked(context, old, &wanted, grace) } else { old.clone() };
        return Ok(DeleteOutcome::Remove(last));
    }
    let shortened = deleting && strategy.deletes_gracefully() && grace < remaining_grace(old);
    if deleting && wanted == current && !shortened {
        return Ok(DeleteOutcome::Pending);
    }
    let mut new = if deleting && !shortened {
        let mut new = old.clone();
        set_finalizers(&mut new, &wanted);
        new
    } else {
        marked(context, old, &wanted, grace)
    };
    strategy.prepare_delete(&mut new);
    Ok(DeleteOutcome::Write(new))
}

fn remaining_grace(old: &Value) -> i64 {
    old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0)
}

/// How long the object may take to go: what is asked for, but never longer than it was told before.
fn grace_period(strategy: &dyn Strategy, old: &Value, options: &DeleteOptions) -> i64 {
    let grace = strategy.grace_period(old, options.grace_period_seconds).max(0);
    if text(&old["metadata"], "deletionTimestamp").is_empty() { grace } else { grace.min(remaining_grace(old)) }
}

/// The object with its deletion written down.
fn marked(context: &Context, old: &Value, finalizers: &[&str], grace: i64) -> Value {
    let mut new = old.clone();
    set_finalizers(&mut new, finalizers);
    let metadata = object_mut(&mut new, "metadata");
    let first_asked = parse_time(text(metadata, "deletionTimestamp")).ok().map(|due| {
        // The time of the first request is the due time less the grace it was given.
        due - jiff::SignedDuration::from_secs(remaining_grace(old))
    });
    let first = first_asked.is_none();
    let due = first_asked.unwrap_or(context.now) + jiff::SignedDuration::from_secs(grace.min(MAX_GRACE_SECONDS));
    set(metadata, "deletionTimestamp", format_time(due));
    set(metadata, "deletionGracePeriodSeconds", grace);
    // Deleting is a change of what is wanted, so controllers must see a new generation.
    if let (true, Some(generation)) = (first, metadata["generation"].as_i64().filter(|g| *g > 0)) {
        set(metadata, "generation", generation + 1);
    }
    new
}

/// A bound that keeps the due time within what a timestamp can say: a hundred years.
const MAX_GRACE_SECONDS: i64 = 100 * 366 * 24 * 3600;

fn wanted_finalizers<'o>(strategy: &dyn Strategy, old: &'o Value, options: &DeleteOptions) -> Vec<&'o str> {
    let current = items(&old["metadata"]["finalizers"]).iter().filter_map(Value::as_str);
    let has = |name: &str| items(&old["metadata"]["finalizers"]).iter().any(|f| f == name);
    let (orphan, foreground) = match options.propagation {
        Some(Propagation::Orphan) => (true, false),
        Some(Propagation::Foreground) => (false, true),
        Some(Propagation::Background) => (false, false),
        None if has(ORPHAN) || has(FOREGROUND) => (has(ORPHAN), has(FOREGROUND)),
        None => (strategy.orphans_by_default(), false),
    };
    let mut wanted: Vec<&str> = current.filter(|name| *name != ORPHAN && *name != FOREGROUND).collect();
    if orphan {
        wanted.push(ORPHAN);
    }
    if foreground {
        wanted.push(FOREGROUND);
    }
    wanted
}

fn set_finalizers(object: &mut Value, finalizers: &[&str]) {
    let metadata = object_mut(object, "metadata");
    if finalizers.is_empty() {
        remove(metadata, "finalizers");
    } else {
        *list_mut(metadata, "finalizers") = finalizers.iter().map(|name| json!(name)).collect();
    }
}
