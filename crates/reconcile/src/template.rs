//! Pods from templates, and the hash that tells templates apart.

use k8s_openapi::{
    api::core::v1::{Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use crate::meta;

/// The label that keeps the ReplicaSets of one Deployment, and their pods, apart.
pub const HASH_LABEL: &str = "pod-template-hash";

/// The alphabet of generated names: no vowels, so no accidental words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A pod made after `template`, to be named by the API from its owner's name.
pub fn pod(template: &PodTemplateSpec, namespace: &str, owner: OwnerReference) -> Pod {
    let from = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(generate_name(&owner.name)),
            namespace: Some(namespace.to_owned()),
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The beginning of the names of what `owner` makes.
pub fn generate_name(owner: &str) -> String {
    // The API appends five characters, and a pod's name is also a host name of at most 63.
    let kept: String = owner.chars().take(57).collect();
    format!("{kept}-")
}

/// A short hash of `template`, fit for a label and a name; `collisions` makes it another one.
pub fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut bytes = serde_json::to_vec(template).expect("a pod template holds nothing that JSON cannot");
    if let Some(count) = collisions {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    // FNV-1a, 32 bits: what is wanted is a short name, and collisions are counted and resolved.
    let sum = bytes.iter().fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    sum.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

/// Whether two templates are the same but for the hash label.
pub fn same(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let metadata = |template: &PodTemplateSpec| {
        let mut metadata = template.metadata.clone().unwrap_or_default();
        metadata.creation_timestamp = None;
        metadata.labels = metadata.labels.map(|mut labels| {
            labels.remove(HASH_LABEL);
            labels
        });
        metadata.labels = metadata.labels.filter(|labels| !labels.is_empty());
        metadata.annotations = metadata.annotations.filter(|annotations| !annotations.is_empty());
        metadata
    };
    a.spec == b.spec && metadata(a) == metadata(b)
}

/// What a controller calls a pod in its own events.
pub fn pod_name(pod: &Pod) -> &str {
    meta::name(&pod.metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(image: &str, hash: Option<&str>) -> PodTemplateSpec {
        let mut labels = json!({"app": "web"});
        if let Some(hash) = hash {
            labels[HASH_LABEL] = hash.into();
        }
        serde_json::from_value(json!({
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": image}]},
        }))
        .unwrap()
    }

    #[test]
    fn hash_follows_template_and_collisions() {
        let one = hash(&template("a", None), None);
        assert_eq!(one, hash(&template("a", None), None));
        assert_ne!(one, hash(&template("b", None), None));
        assert_ne!(one, hash(&template("a", None), Some(1)));
        assert!(one.bytes().all(|b| ALPHABET.contains(&b)), "{one}");
    }

    #[test]
    fn the_hash_label_makes_no_difference() {
        assert!(same(&template("a", None), &template("a", Some("x"))));
        assert!(!same(&template("a", None), &template("b", None)));
    }
}
