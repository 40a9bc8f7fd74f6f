//! What types and fields mean, for `kubectl explain`: taken from the Kubernetes types' own JSON schemas.

use std::collections::HashMap;

use k8s_openapi::api::{
    apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
    autoscaling::v1 as autoscaling, batch::v1 as batch, coordination::v1 as coordination, core::v1 as core,
    discovery::v1 as discovery, events::v1 as events, policy::v1 as policy, resource::v1 as resource,
    scheduling::v1 as scheduling, scheduling::v1alpha2 as groups, storage::v1 as storage,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

/// The descriptions of every type that a served kind reaches. Some megabytes: make it for one document and drop it.
pub struct Descriptions(Map<String, Value>, HashMap<&'static str, &'static str>);

impl Descriptions {
    /// Collects them.
    pub fn load() -> Self {
        let mut generator: SchemaGenerator = SchemaSettings::draft07().into_generator();
        macro_rules! collect {
            ($($kind:ty),* $(,)?) => { $(generator.subschema_for::<$kind>();)* };
        }
        collect!(
            core::Binding,
            core::ConfigMap,
            core::Endpoints,
            core::Event,
            core::LimitRange,
            core::Namespace,
            core::Node,
            core::PersistentVolume,
            core::PersistentVolumeClaim,
            core::Pod,
            core::ReplicationController,
            core::Secret,
            core::Service,
            core::ServiceAccount,
            apps::Deployment,
            apps::ReplicaSet,
            apps::StatefulSet,
            authentication::SelfSubjectReview,
            authentication::TokenRequest,
            authentication::TokenReview,
            authorization::SelfSubjectAccessReview,
            authorization::SelfSubjectRulesReview,
            authorization::SubjectAccessReview,
            autoscaling::Scale,
            batch::Job,
            coordination::Lease,
            discovery::EndpointSlice,
            events::Event,
            policy::Eviction,
            policy::PodDisruptionBudget,
            resource::DeviceClass,
            resource::ResourceClaim,
            resource::ResourceClaimTemplate,
            resource::ResourceSlice,
            groups::PodGroup,
            groups::Workload,
            scheduling::PriorityClass,
            storage::CSIDriver,
            storage::CSINode,
            storage::CSIStorageCapacity,
            storage::StorageClass,
            storage::VolumeAttachment,
            meta::DeleteOptions,
            meta::Status,
        );
        let lists = HashMap::from([
            ("items", "Items is the list of objects."),
            ("metadata", "Standard list metadata."),
            ("apiVersion", "APIVersion defines the versioned schema of this representation of an object."),
            ("kind", "Kind is a string value representing the REST resource this object represents."),
        ]);
        Descriptions(generator.take_definitions(true), lists)
    }

    /// What a type is.
    pub fn of_type(&self, name: &str) -> Option<&str> {
        self.0.get(name)?["description"].as_str()
    }

    /// What a field is.
    pub fn of_field(&self, type_name: &str, field: &str) -> Option<&str> {
        match self.0.get(type_name) {
            Some(definition) => definition["properties"][field]["description"].as_str(),
            None if type_name.ends_with("List") => self.1.get(field).copied(),
            None => None,
        }
    }
}
