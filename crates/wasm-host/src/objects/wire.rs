//! The messages of k8s.io/api/core/v1 as far as guests get them. The numbers are those of its generated.proto.

use std::collections::BTreeMap;

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct Meta {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub namespace: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub uid: Option<String>,
    #[prost(int64, optional, tag = "7")]
    pub generation: Option<i64>,
    #[prost(btree_map = "string, string", tag = "11")]
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Amount {
    #[prost(string, optional, tag = "1")]
    pub text: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Requirements {
    #[prost(btree_map = "string, message", tag = "2")]
    pub requests: BTreeMap<String, Amount>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Port {
    #[prost(int32, optional, tag = "2")]
    pub host_port: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub container_port: Option<i32>,
    #[prost(string, optional, tag = "4")]
    pub protocol: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub host_ip: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Container {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub image: Option<String>,
    #[prost(message, repeated, tag = "6")]
    pub ports: Vec<Port>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Toleration {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub operator: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub value: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub effect: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SelectorRequirement {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub operator: Option<String>,
    #[prost(string, repeated, tag = "3")]
    pub values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SelectorTerm {
    #[prost(message, repeated, tag = "1")]
    pub expressions: Vec<SelectorRequirement>,
    #[prost(message, repeated, tag = "2")]
    pub fields: Vec<SelectorRequirement>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Selector {
    #[prost(message, repeated, tag = "1")]
    pub terms: Vec<SelectorTerm>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Preferred {
    #[prost(int32, optional, tag = "1")]
    pub weight: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub preference: Option<SelectorTerm>,
}

#[derive(Clone, PartialEq, Message)]
pub struct NodeAffinity {
    #[prost(message, optional, tag = "1")]
    pub required: Option<Selector>,
    #[prost(message, repeated, tag = "2")]
    pub preferred: Vec<Preferred>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Affinity {
    #[prost(message, optional, tag = "1")]
    pub node: Option<NodeAffinity>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Claim {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(bool, optional, tag = "2")]
    pub read_only: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub struct VolumeSource {
    #[prost(message, optional, tag = "10")]
    pub claim: Option<Claim>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Volume {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub source: Option<VolumeSource>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Gate {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PodSpec {
    #[prost(message, repeated, tag = "1")]
    pub volumes: Vec<Volume>,
    #[prost(message, repeated, tag = "2")]
    pub containers: Vec<Container>,
    #[prost(btree_map = "string, string", tag = "7")]
    pub node_selector: BTreeMap<String, String>,
    #[prost(string, optional, tag = "10")]
    pub node_name: Option<String>,
    #[prost(message, optional, tag = "18")]
    pub affinity: Option<Affinity>,
    #[prost(string, optional, tag = "19")]
    pub scheduler_name: Option<String>,
    #[prost(message, repeated, tag = "22")]
    pub tolerations: Vec<Toleration>,
    #[prost(int32, optional, tag = "25")]
    pub priority: Option<i32>,
    #[prost(string, optional, tag = "31")]
    pub preemption_policy: Option<String>,
    #[prost(message, repeated, tag = "38")]
    pub gates: Vec<Gate>,
    #[prost(message, optional, tag = "40")]
    pub resources: Option<Requirements>,
}

#[derive(Clone, PartialEq, Message)]
pub struct PodStatus {
    #[prost(string, optional, tag = "11")]
    pub nominated: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Pod {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Meta>,
    #[prost(message, optional, tag = "2")]
    pub spec: Option<PodSpec>,
    #[prost(message, optional, tag = "3")]
    pub status: Option<PodStatus>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Taint {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub effect: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct NodeSpec {
    #[prost(bool, optional, tag = "4")]
    pub unschedulable: Option<bool>,
    #[prost(message, repeated, tag = "5")]
    pub taints: Vec<Taint>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Image {
    #[prost(string, repeated, tag = "1")]
    pub names: Vec<String>,
    #[prost(int64, optional, tag = "2")]
    pub size_bytes: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct NodeStatus {
    #[prost(btree_map = "string, message", tag = "2")]
    pub allocatable: BTreeMap<String, Amount>,
    #[prost(message, repeated, tag = "8")]
    pub images: Vec<Image>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Meta>,
    #[prost(message, optional, tag = "2")]
    pub spec: Option<NodeSpec>,
    #[prost(message, optional, tag = "3")]
    pub status: Option<NodeStatus>,
}
