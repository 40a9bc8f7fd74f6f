//! One device of a slice, read once: what expressions see of it, what it holds and what it takes from its pool.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::NodeSelector,
        resource::v1::{self as api, DeviceAttribute},
    },
    apimachinery::pkg::api::resource,
};
use kube_schema::quantity::{self, Quantity};

use super::Features;
use crate::{
    NodeFacts,
    cel::{Key, Map, Subject, Value},
    node,
};

/// A device, ready to be asked about.
#[derive(Debug)]
pub(crate) struct Device {
    /// Never the same for two devices, not even for the same one after its slice has changed.
    pub serial: u64,
    pub subject: Arc<Subject>,
    pub capacity: BTreeMap<String, Capacity>,
    /// Shared by several allocations.
    pub shareable: bool,
    /// Where it is, if its slice leaves that to it.
    pub place: Place,
    /// Its taints that keep it away from those who do not tolerate them.
    pub taints: Vec<api::DeviceTaint>,
}

/// How much of something a device has, and what may be asked of it.
#[derive(Debug)]
pub(crate) struct Capacity {
    pub value: Quantity,
    pub policy: Option<Policy>,
}

#[derive(Debug)]
pub(crate) struct Policy {
    pub default: Option<Quantity>,
    pub range: Option<Range>,
    pub values: Vec<Quantity>,
}

#[derive(Debug)]
pub(crate) struct Range {
    pub min: Option<Quantity>,
    pub max: Option<Quantity>,
    pub step: Option<Quantity>,
}

/// Which nodes reach devices.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Node(String),
    Everywhere,
    Selected(NodeSelector),
    /// Of a slice: its devices say so.
    PerDevice,
    /// Nothing that is known.
    Nowhere,
}

impl Place {
    pub fn of(node: Option<&String>, everywhere: Option<bool>, selector: Option<&NodeSelector>) -> Place {
        match (node.filter(|node| !node.is_empty()), everywhere, selector) {
            (Some(node), _, _) => Place::Node(node.clone()),
            (_, Some(true), _) => Place::Everywhere,
            (_, _, Some(selector)) => Place::Selected(selector.clone()),
            _ => Place::Nowhere,
        }
    }

    /// Whether the node reaches it. What is left to the devices is not answered here.
    pub fn reached_from(&self, node: &NodeFacts<'_>) -> Result<bool, String> {
        match self {
            Place::Node(name) => Ok(name == node.name),
            Place::Everywhere | Place::PerDevice => Ok(true),
            Place::Selected(selector) => node::matches(selector, node),
            Place::Nowhere => Ok(false),
        }
    }
}

impl Device {
    /// Reads a device. Says what is wrong if it cannot be one.
    pub fn of(
        device: &api::Device,
        driver: &str,
        per_device: bool,
        serial: u64,
        features: &Features,
    ) -> Result<Device, String> {
        let mut capacity = BTreeMap::new();
        for (name, found) in device.capacity.iter().flatten() {
            let read =
                Capacity::of(found).map_err(|error| format!("device {}: capacity {name}: {error}", device.name))?;
            capacity.insert(name.clone(), read);
        }
        let place = match per_device {
            true => Place::of(device.node_name.as_ref(), device.all_nodes, device.node_selector.as_ref()),
            false => Place::Everywhere,
        };
        let blocking = |taint: &&api::DeviceTaint| matches!(&*taint.effect, "NoSchedule" | "NoExecute");
        Ok(Device {
            serial,
            subject: Arc::new(subject(device, driver, &capacity, features)),
            capacity,
            shareable: features.consumable_capacity && device.allow_multiple_allocations == Some(true),
            place,
            taints: device.taints.iter().flatten().filter(blocking).cloned().collect(),
        })
    }
}

fn read(text: &resource::Quantity) -> Result<Quantity, String> {
    quantity::parse(&text.0).map_err(|error| error.to_string())
}

fn read_any(text: Option<&resource::Quantity>) -> Result<Option<Quantity>, String> {
    text.map(read).transpose()
}

impl Capacity {
    fn of(capacity: &api::DeviceCapacity) -> Result<Capacity, String> {
        let policy = match &capacity.request_policy {
            Some(policy) => Some(Policy {
                default: read_any(policy.default.as_ref())?,
                range: policy.valid_range.as_ref().map(Range::of).transpose()?,
                values: policy.valid_values.iter().flatten().map(read).collect::<Result<_, _>>()?,
            }),
            None => None,
        };
        Ok(Capacity { value: read(&capacity.value)?, policy })
    }
}

impl Range {
    fn of(range: &api::CapacityRequestPolicyRange) -> Result<Range, String> {
        // A range without a lower end has an empty text there.
        let min = Some(&range.min).filter(|min| !min.0.is_empty());
        Ok(Range {
            min: read_any(min)?,
            max: read_any(range.max.as_ref())?,
            // Steps of nothing would be no steps.
            step: read_any(range.step.as_ref())?.filter(|step| step.value() > 0),
        })
    }
}

/// What expressions see.
fn subject(device: &api::Device, driver: &str, capacity: &BTreeMap<String, Capacity>, features: &Features) -> Subject {
    let mut flaw = None;
    let mut attributes = BTreeMap::new();
    for (name, attribute) in device.attributes.iter().flatten() {
        match attribute_value(attribute, features) {
            Ok(value) => insert(&mut attributes, name, driver, value),
            Err(error) => flaw = flaw.or(Some(format!("attribute {name}: {error}"))),
        }
    }
    let mut amounts = BTreeMap::new();
    for (name, capacity) in capacity {
        insert(&mut amounts, name, driver, Value::Quantity(capacity.value));
    }
    Subject {
        driver: Value::text(driver),
        allow_multiple_allocations: device.allow_multiple_allocations == Some(true),
        attributes: by_domain(attributes),
        capacity: by_domain(amounts),
        flaw,
    }
}

type Domains = BTreeMap<String, BTreeMap<Key, Value>>;

fn insert(domains: &mut Domains, name: &str, driver: &str, value: Value) {
    let (domain, name) = name.split_once('/').unwrap_or((driver, name));
    domains.entry(domain.to_owned()).or_default().insert(Key::String(name.into()), value);
}

fn by_domain(domains: Domains) -> Value {
    let inner = |entries| Value::Map(Arc::new(Map { entries, lenient: false }));
    let entries = domains.into_iter().map(|(domain, entries)| (Key::String(domain.into()), inner(entries))).collect();
    Value::Map(Arc::new(Map { entries, lenient: true }))
}

fn attribute_value(attribute: &DeviceAttribute, features: &Features) -> Result<Value, String> {
    let version = |text: &String| match semver::Version::parse(text) {
        Ok(version) => Ok(Value::Semver(Arc::new(version))),
        Err(error) => Err(format!("parse semantic version: {error}")),
    };
    if features.list_type_attributes {
        let list = match attribute {
            DeviceAttribute { ints: Some(list), .. } => Some(list.iter().copied().map(Value::Int).collect()),
            DeviceAttribute { bools: Some(list), .. } => Some(list.iter().copied().map(Value::Bool).collect()),
            DeviceAttribute { strings: Some(list), .. } => Some(list.iter().map(|text| Value::text(text)).collect()),
            DeviceAttribute { versions: Some(list), .. } => Some(list.iter().map(version).collect::<Result<_, _>>()?),
            _ => None,
        };
        if let Some(list) = list {
            return Ok(Value::List(list));
        }
    }
    match attribute {
        DeviceAttribute { int: Some(value), .. } => Ok(Value::Int(*value)),
        DeviceAttribute { bool: Some(value), .. } => Ok(Value::Bool(*value)),
        DeviceAttribute { string: Some(value), .. } => Ok(Value::text(value)),
        DeviceAttribute { version: Some(value), .. } => version(value),
        _ => Err("unsupported attribute value".to_owned()),
    }
}
