//! ResourceClaim: devices that a pod wants, and which ones it got.

use std::{collections::HashSet, net::IpAddr};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    common,
    devices::{self, Requests},
    persistentvolume::validate_driver_name,
    pod_spec,
};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    table::Column,
    value::{copy, items, object_mut, remove, set, text},
};

pub(crate) struct ResourceClaim;

const MAX_CONSUMERS: usize = 256;
const MAX_DEVICE_CONDITIONS: usize = 8;
const MAX_DATA_BYTES: usize = 10 * 1024;
const MAX_IPS: usize = 16;
const MAX_INTERFACE_BYTES: usize = 256;
const MAX_HARDWARE_BYTES: usize = 128;

impl Strategy for ResourceClaim {
    fn default(&self, object: &mut Value) {
        devices::default_claim(object_mut(object, "spec"));
        object_mut(object, "status");
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object, "status", json!({}));
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        copy(new, old, "status");
    }

    fn prepare_status(&self, _context: &Context, new: &mut Value, old: &Value) {
        drop_released(new, old);
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        devices::validate_claim(&object["spec"], &Path::root("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        common::validate_immutable(&new["spec"], &old["spec"], &Path::root("spec"), errors);
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (status, before, path) = (&new["status"], &old["status"], Path::root("status"));
        validate_consumers(new, before, &path.field("reservedFor"), errors);
        validate_devices(status, &path.field("devices"), errors);
        let (allocation, place) = (&status["allocation"], path.field("allocation"));
        if allocation.is_object() && before["allocation"].is_object() {
            common::validate_immutable(allocation, &before["allocation"], &place, errors);
        } else if allocation.is_object() {
            validate_allocation(allocation, &devices::requests(&new["spec"]), &place, errors);
        }
    }

    fn status_keeps(&self) -> &'static [&'static str] {
        common::ALL_METADATA
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text("State", "A summary of the current state (allocated, pending, reserved, etc.)."),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let status = &object["status"];
        let deleted = !text(&object["metadata"], "deletionTimestamp").is_empty();
        let allocated = status["allocation"].is_object();
        let words = [
            (deleted, "deleted"),
            (!allocated && !deleted, "pending"),
            (allocated, "allocated"),
            (allocated && !items(&status["reservedFor"]).is_empty(), "reserved"),
        ];
        let state: Vec<&str> = words.into_iter().filter(|(holds, _)| *holds).map(|(_, word)| word).collect();
        vec![common::name(object), state.join(",").into(), common::age(object, now)]
    }
}

/// Which device, and which share of it.
fn device_id(device: &Value) -> [&str; 4] {
    ["driver", "pool", "device", "shareID"].map(|field| text(device, field))
}

fn allocated(status: &Value) -> HashSet<[&str; 4]> {
    items(&status["allocation"]["devices"]["results"]).iter().map(device_id).collect()
}

/// What drivers reported about devices goes with the devices, so that clients that do not know of it leave nothing stale.
fn drop_released(new: &mut Value, old: &Value) {
    let kept: Vec<Value> = {
        let (now, before) = (allocated(&new["status"]), allocated(&old["status"]));
        let stays = |device: &&Value| !before.contains(&device_id(device)) || now.contains(&device_id(device));
        items(&new["status"]["devices"]).iter().filter(stays).cloned().collect()
    };
    let status = object_mut(new, "status");
    if kept.is_empty() {
        remove(status, "devices");
    } else {
        set(status, "devices", kept);
    }
}

fn validate_consumers(claim: &Value, before: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (status, consumers) = (&claim["status"], items(&claim["status"]["reservedFor"]));
    if devices::fits(consumers, MAX_CONSUMERS, path, errors) {
        for (at, consumer) in consumers.iter().enumerate() {
            for field in ["resource", "name", "uid"] {
                if text(consumer, field).is_empty() {
                    errors.required(&path.index(at).field(field), "");
                }
            }
        }
        devices::refuse_doubles(consumers.iter().map(|consumer| text(consumer, "uid")), path, errors);
    }
    let added = consumers.iter().any(|consumer| !items(&before["reservedFor"]).contains(consumer));
    if !consumers.is_empty() && status["allocation"].is_null() {
        errors.forbidden(path, "may not be specified when `allocated` is not set");
    } else if added && !text(&claim["metadata"], "deletionTimestamp").is_empty() {
        let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.forbidden(path, why);
    }
}

fn validate_devices(status: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (known, list) = (allocated(status), items(&status["devices"]));
    let mut seen = HashSet::new();
    for (at, device) in list.iter().enumerate() {
        let path = path.index(at);
        validate_driver_name(text(device, "driver"), &path.field("driver"), errors);
        devices::validate_pool(text(device, "pool"), &path.field("pool"), errors);
        devices::validate_label(text(device, "device"), &path.field("device"), errors);
        let id = device_id(device);
        if !known.contains(&id) {
            let [driver, pool, name, share] = id;
            let shown = format!(r#"{{"Driver":{driver:?},"Pool":{pool:?},"Device":{name:?},"ShareID":{share:?}}}"#);
            errors.invalid_as(&path, &shown, "must be an allocated device in the claim");
        }
        if !seen.insert(id) {
            errors.duplicate(&path, &id.join("/").into());
        }
        let (conditions, place) = (items(&device["conditions"]), path.field("conditions"));
        devices::fits(conditions, MAX_DEVICE_CONDITIONS, &place, errors);
        common::validate_conditions(&device["conditions"], &place, errors);
        if !device["data"].is_null() {
            devices::validate_raw(&device["data"], MAX_DATA_BYTES, &path.field("data"), errors);
        }
        validate_network(&device["networkData"], &path.field("networkData"), errors);
    }
}

fn validate_network(data: &Value, path: &Path<'_>, errors: &mut Errors) {
    for (field, max) in [("interfaceName", MAX_INTERFACE_BYTES), ("hardwareAddress", MAX_HARDWARE_BYTES)] {
        if text(data, field).len() > max {
            errors.too_long(&path.field(field), max);
        }
    }
    let (ips, place) = (items(&data["ips"]), path.field("ips"));
    if devices::fits(ips, MAX_IPS, &place, errors) {
        for (at, ip) in ips.iter().enumerate() {
            let address = ip.as_str().unwrap_or_default();
            if !is_interface_address(address) {
                let why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
                errors.invalid_text(&place.index(at), address, why);
            }
        }
        devices::refuse_doubles(ips.iter().map(|ip| ip.as_str().unwrap_or_default()), &place, errors);
    }
}

fn validate_allocation(allocation: &Value, known: &Requests<'_>, path: &Path<'_>, errors: &mut Errors) {
    let (given, place) = (&allocation["devices"], path.field("devices"));
    let (results, list) = (items(&given["results"]), place.field("results"));
    if devices::fits(results, devices::MAX_REQUESTS, &list, errors) {
        for (at, result) in results.iter().enumerate() {
            let path = list.index(at);
            devices::validate_request_name(text(result, "request"), known, &path.field("request"), errors);
            validate_driver_name(text(result, "driver"), &path.field("driver"), errors);
            devices::validate_pool(text(result, "pool"), &path.field("pool"), errors);
            devices::validate_label(text(result, "device"), &path.field("device"), errors);
            devices::validate_binding(result, &path, errors);
        }
    }
    let (configs, list) = (items(&given["config"]), place.field("config"));
    // The class's and the claim's.
    if devices::fits(configs, 2 * devices::MAX_CONFIGS, &list, errors) {
        for (at, config) in configs.iter().enumerate() {
            let path = list.index(at);
            match text(config, "source") {
                "" => errors.required(&path.field("source"), ""),
                "FromClaim" | "FromClass" => {}
                _ => {
                    let known = ["FromClaim", "FromClass"];
                    errors.not_supported(&path.field("source"), &config["source"], &known);
                }
            }
            devices::validate_names(&config["requests"], known, &path.field("requests"), errors);
            devices::validate_config(config, &path, errors);
        }
    }
    pod_spec::validate_node_selector(&allocation["nodeSelector"], &path.field("nodeSelector"), errors);
}

/// An address with the length of its network's prefix.
fn is_interface_address(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let max = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|bits| bits <= max)
}
