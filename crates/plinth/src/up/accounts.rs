//! The service account that a pod has when it names none, where no controller makes it: without it, admission refuses
//! every pod.
//!
//! Only those namespaces get one that the API server makes itself. Whoever makes another one without controllers makes
//! its account too, as with a kube-apiserver alone.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client, api::PostParams};
use serde_json::json;

/// The account's name.
const DEFAULT: &str = "default";
/// The namespaces in which people make pods.
const NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// Makes the accounts that are missing.
pub async fn ensure(api: &Client) -> kube::Result<()> {
    for namespace in NAMESPACES {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": DEFAULT}});
        let account: ServiceAccount = serde_json::from_value(account).map_err(kube::Error::SerdeError)?;
        let accounts = Api::<ServiceAccount>::namespaced(api.clone(), namespace);
        match accounts.create(&PostParams::default(), &account).await {
            Err(error) if !client::is_already_exists(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
