//! What every namespace has without asking: a ServiceAccount `default`, and the cluster's certificate authority.

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::meta;

/// The account of pods that name none.
pub const DEFAULT: &str = "default";
/// The ConfigMap with the certificate authority.
pub const ROOT_CA: &str = "kube-root-ca.crt";
const ROOT_CA_KEY: &str = "ca.crt";

/// A write that a namespace needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    CreateAccount(Box<ServiceAccount>),
    CreateConfig(Box<ConfigMap>),
    UpdateConfig(Box<ConfigMap>),
}

/// What is missing in `namespace`, given what it has.
pub fn reconcile(
    namespace: &Namespace,
    account: Option<&ServiceAccount>,
    config: Option<&ConfigMap>,
    ca_pem: &str,
) -> Vec<Action> {
    let terminating = namespace.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Terminating");
    if terminating || meta::is_deleting(&namespace.metadata) {
        return Vec::new();
    }
    let named = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.metadata.name.clone(),
        ..ObjectMeta::default()
    };
    let mut actions = Vec::new();
    if account.is_none() {
        let account = ServiceAccount { metadata: named(DEFAULT), ..ServiceAccount::default() };
        actions.push(Action::CreateAccount(Box::new(account)));
    }
    let data = Some([(ROOT_CA_KEY.to_owned(), ca_pem.to_owned())].into());
    match config {
        None => {
            let mut metadata = named(ROOT_CA);
            let note = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
                        such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
                        distributions of Kubernetes clusters.";
            metadata.annotations = Some([("kubernetes.io/description".to_owned(), note.to_owned())].into());
            actions.push(Action::CreateConfig(Box::new(ConfigMap { metadata, data, ..ConfigMap::default() })));
        }
        Some(config) if config.data != data => {
            actions.push(Action::UpdateConfig(Box::new(ConfigMap { data, ..config.clone() })));
        }
        Some(_) => {}
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn namespace(phase: &str) -> Namespace {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {"phase": phase}})).unwrap()
    }

    #[test]
    fn what_a_namespace_lacks() {
        let all = reconcile(&namespace("Active"), None, None, "PEM");
        let [Action::CreateAccount(account), Action::CreateConfig(config)] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(account.metadata.namespace.as_deref(), Some("a"));
        assert!(reconcile(&namespace("Active"), Some(account), Some(config), "PEM").is_empty());
        let renewed = reconcile(&namespace("Active"), Some(account), Some(config), "NEW");
        assert!(matches!(renewed.as_slice(), [Action::UpdateConfig(_)]));
        assert!(reconcile(&namespace("Terminating"), None, None, "PEM").is_empty());
    }
}
