//! Decoding: unknown and duplicate fields, wrong types, normal forms.

use proptest::prelude::*;
use registry::{FieldValidation, Target, decode_stored, encode};
use serde_json::{Value, json};

use crate::support::resource;

fn strict(plural: &str, body: &str) -> Result<Value, String> {
    let decoded = resource(plural).decode(Target::Object, body.as_bytes(), FieldValidation::Strict);
    decoded.map(|d| d.value).map_err(|status| status.message)
}

#[test]
fn refusals_speak_kubernetes_words() {
    for (plural, body, expected) in [
        (
            "deployments",
            r#"{"spec":{"foo":1,"template":{"spec":{"containers":[{"name":"a","imag":"b"}]}}}}"#,
            r#"Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.foo", unknown field "spec.template.spec.containers[0].imag""#,
        ),
        (
            "configmaps",
            r#"{"data":{"a":"1","a":"2"},"data":{}}"#,
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "data.a", duplicate field "data""#,
        ),
        (
            "deployments",
            r#"{"spec":{"replicas":"3"}}"#,
            r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"#,
        ),
        (
            "pods",
            r#"{"spec":{"containers":[{"ports":{}}]}}"#,
            r#"Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal object into Go struct field Container.spec.containers.ports of type []v1.ContainerPort"#,
        ),
        (
            "pods",
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"1x"}}}]}}"#,
            r#"Pod in version "v1" cannot be handled as a Pod: unable to parse quantity's suffix"#,
        ),
        (
            "secrets",
            r#"{"data":{"a":"%"}}"#,
            r#"Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0"#,
        ),
        (
            "pods",
            r#"{"apiVersion":"apps/v1"}"#,
            "the API version in the data (apps/v1) does not match the expected API version (v1)",
        ),
    ] {
        assert_eq!(strict(plural, body).unwrap_err(), expected);
    }
}

#[test]
fn values_come_out_in_their_one_form() {
    let pod = strict(
        "pods",
        r#"{"metadata":{"creationTimestamp":null,"labels":{},"deletionTimestamp":"2024-01-01T02:00:00+01:00"},
            "spec":{"containers":[{"name":"a","resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}},"env":[]}],
            "volumes":[{"name":"v","emptyDir":{}}]}}"#,
    );
    assert_eq!(
        pod.unwrap(),
        json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"deletionTimestamp": "2024-01-01T01:00:00Z"},
            "spec": {
                "containers": [{"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}],
                "volumes": [{"name": "v", "emptyDir": {}}],
            },
        })
    );
}

#[test]
fn warnings_tell_and_ignore_keeps_silent() {
    let body = br#"{"metadata":{"name":"a"},"dta":{}}"#;
    let warned = resource("configmaps").decode(Target::Object, body, FieldValidation::Warn).unwrap();
    assert_eq!(warned.warnings, [r#"unknown field "dta""#]);
    let ignored = resource("configmaps").decode(Target::Object, body, FieldValidation::Ignore).unwrap();
    assert!(ignored.warnings.is_empty());
    assert_eq!(ignored.value, warned.value);
}

#[test]
fn depth_is_bounded() {
    let body = format!("{{\"metadata\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(strict("configmaps", &body).is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9:.\\-T]{0,24}".prop_map(Value::from),
    ];
    let names = prop_oneof![
        Just("metadata"),
        Just("spec"),
        Just("status"),
        Just("name"),
        Just("labels"),
        Just("containers"),
        Just("template"),
        Just("ports"),
        Just("replicas"),
        Just("selector"),
        Just("type"),
        Just("clusterIPs"),
        Just("volumes"),
        Just("finalizers"),
        Just("resources"),
        Just("limits"),
        Just("generateName"),
        Just("nodePort"),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6)
                .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn decode_never_panics_on_bytes(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = resource("pods").decode(Target::Object, &body, FieldValidation::Strict);
    }

    #[test]
    fn whatever_decodes_can_be_created_or_refused_and_decodes_to_itself(value in any_json(), at in 0usize..64) {
        let all = registry::Registry::builtin().resources();
        let resource = &all[at % all.len()];
        let Ok(decoded) = resource.decode_value(Target::Object, value, FieldValidation::Ignore) else { return Ok(()) };
        let object = decoded.value;
        let again = resource.decode_value(Target::Object, object.clone(), FieldValidation::Strict).unwrap();
        prop_assert_eq!(&again.value, &object);
        prop_assert_eq!(&decode_stored(&encode(&object)).unwrap(), &object);
        resource.cells(&object, jiff::Timestamp::UNIX_EPOCH);
        let _ = resource.create(&crate::support::context(), "default", object);
    }
}
