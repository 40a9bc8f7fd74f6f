//! What every test needs: a context that stands still, and short ways to create and update.

use jiff::Timestamp;
use registry::{Context, Existing, FieldValidation, Outcome, Registry, Resource, Status, Target};
use serde_json::Value;

pub const UID: &str = "00000000-0000-4000-8000-000000000000";

pub fn context() -> Context {
    let mut random = [0; 32];
    // They spell x7k2p.
    random[16..21].copy_from_slice(&[18, 24, 7, 20, 11]);
    Context::new(Timestamp::from_second(1_000_000).unwrap(), random)
}

pub fn resource(plural: &str) -> &'static Resource {
    Registry::builtin().resources().iter().find(|r| r.kind().plural == plural).unwrap()
}

pub fn create(plural: &str, object: Value) -> Result<Value, Status> {
    let resource = resource(plural);
    let object = resource.decode_value(Target::Object, object, FieldValidation::Strict)?.value;
    let namespace = if resource.kind().namespaced { "default" } else { "" };
    resource.create(&context(), namespace, object)
}

pub fn update(plural: &str, target: Target, old: &Value, new: Value) -> Result<Outcome, Status> {
    let resource = resource(plural);
    let new = resource.decode_value(target, new, FieldValidation::Strict)?.value;
    resource.update(&context(), target, Existing { object: old, revision: 7 }, new)
}

pub fn written(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Write(object) => object,
        other => panic!("expected a write, got {other:?}"),
    }
}
