//! Constraints over the devices of a claim, kept while devices come and go.

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute};

use crate::{
    inventory::Features,
    wanted::{Alternative, Constraint, Request},
};

/// A constraint and what the devices so far have left of it. Devices leave in the reverse order of their coming.
pub(super) struct Held<'a> {
    constraint: &'a Constraint,
    lists: bool,
    /// Of one that wants a match: what all devices up to each have in common. Of one that wants differences: the
    /// values of each.
    values: Vec<Vec<Scalar<'a>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    Int(i64),
    Bool(bool),
    String(&'a str),
    /// Versions are in their shortest form, so that equal ones have equal texts.
    Version(&'a str),
}

impl<'a> Held<'a> {
    pub fn new(constraint: &'a Constraint, features: &Features) -> Self {
        Held { constraint, lists: features.list_type_attributes, values: Vec::new() }
    }

    fn applies(&self, request: &Request, alternative: &Alternative) -> bool {
        let requests = &self.constraint.requests;
        requests.is_empty() || requests.contains(&request.name) || requests.contains(&alternative.full_name)
    }

    /// Takes a device in, if the constraint still holds then.
    pub fn add(&mut self, request: &Request, alternative: &Alternative, driver: &str, device: &'a Device) -> bool {
        if !self.applies(request, alternative) {
            return true;
        }
        let values = values(device, driver, &self.constraint.attribute, self.lists);
        if values.is_empty() {
            return false;
        }
        let kept = if self.constraint.distinct {
            let mut earlier = self.values.iter().flatten();
            if earlier.any(|known| values.contains(known)) {
                return false;
            }
            values
        } else {
            match self.values.last() {
                Some(common) => common.iter().filter(|known| values.contains(known)).cloned().collect(),
                None => values,
            }
        };
        let holds = !kept.is_empty();
        if holds {
            self.values.push(kept);
        }
        holds
    }

    /// Lets the last device go that was taken in.
    pub fn remove(&mut self, request: &Request, alternative: &Alternative) {
        if self.applies(request, alternative) {
            self.values.pop();
        }
    }
}

/// The values of an attribute: none if the device does not have it, or in no form that is known.
pub(super) fn values<'a>(device: &'a Device, driver: &str, name: &str, lists: bool) -> Vec<Scalar<'a>> {
    attribute(device, driver, name).map_or_else(Vec::new, |attribute| scalars(attribute, lists))
}

/// An attribute by its full name. A driver may leave its own domain out.
fn attribute<'a>(device: &'a Device, driver: &str, name: &str) -> Option<&'a DeviceAttribute> {
    let attributes = device.attributes.as_ref()?;
    attributes.get(name).or_else(|| {
        let (domain, short) = name.split_once('/')?;
        attributes.get(short).filter(|_| domain == driver)
    })
}

fn scalars(attribute: &DeviceAttribute, lists: bool) -> Vec<Scalar<'_>> {
    if lists {
        let ints = attribute.ints.iter().flatten().copied().map(Scalar::Int);
        let bools = attribute.bools.iter().flatten().copied().map(Scalar::Bool);
        let strings = attribute.strings.iter().flatten().map(|text| Scalar::String(text));
        let versions = attribute.versions.iter().flatten().map(|text| Scalar::Version(text));
        // Validation leaves at most one of them.
        let found: Vec<_> = ints.chain(bools).chain(strings).chain(versions).collect();
        if !found.is_empty() {
            return found;
        }
    }
    let int = attribute.int.map(Scalar::Int);
    let bool = attribute.bool.map(Scalar::Bool);
    let string = attribute.string.as_deref().map(Scalar::String);
    let version = attribute.version.as_deref().map(Scalar::Version);
    int.or(bool).or(string).or(version).into_iter().collect()
}
