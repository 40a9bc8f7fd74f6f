//! Endpoints.

use jiff::Timestamp;
use serde_json::Value;

use super::common;
use crate::{
    field::{Errors, Path},
    kinds::Strategy,
    table::Column,
    value::{default, items, items_mut, text},
};

pub(crate) struct Endpoints;

/// So many addresses are shown; the rest is counted.
const SHOWN: usize = 3;

impl Strategy for Endpoints {
    fn default(&self, object: &mut Value) {
        for subset in items_mut(object, "subsets") {
            for port in items_mut(subset, "ports") {
                default(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let list = Path::root("subsets");
        for (at, subset) in items(&object["subsets"]).iter().enumerate() {
            let path = list.index(at);
            if items(&subset["addresses"]).is_empty() && items(&subset["notReadyAddresses"]).is_empty() {
                errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
            }
            let addresses = path.field("addresses");
            for (at, address) in items(&subset["addresses"]).iter().enumerate() {
                if text(address, "ip").parse::<std::net::IpAddr>().is_err() {
                    let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                    errors.invalid_text(&addresses.index(at).field("ip"), text(address, "ip"), why);
                }
            }
            let ports = path.field("ports");
            for (at, port) in items(&subset["ports"]).iter().enumerate() {
                common::validate_port(&port["port"], &ports.index(at).field("port"), errors);
                if text(port, "name").is_empty() && items(&subset["ports"]).len() > 1 {
                    errors.required(&ports.index(at).field("name"), "");
                }
            }
        }
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text("Endpoints", "The set of all endpoints is the union of all subsets."),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![common::name(object), list(object).into(), common::age(object, now)]
    }
}

fn list(object: &Value) -> String {
    let mut all = vec![];
    for subset in items(&object["subsets"]) {
        let addresses = items(&subset["addresses"]);
        if items(&subset["ports"]).is_empty() {
            all.extend(addresses.iter().map(|address| text(address, "ip").to_owned()));
        }
        for port in items(&subset["ports"]) {
            let port = port["port"].as_i64().unwrap_or(0);
            all.extend(addresses.iter().map(|address| format!("{}:{port}", text(address, "ip"))));
        }
    }
    shorten(&all, "<none>")
}

/// The first few of a list, and how many more there are.
pub(super) fn shorten(all: &[String], none: &str) -> String {
    match all.len() {
        0 => none.to_owned(),
        1..=SHOWN => all.join(","),
        count => format!("{} + {} more...", all[..SHOWN].join(","), count - SHOWN),
    }
}
