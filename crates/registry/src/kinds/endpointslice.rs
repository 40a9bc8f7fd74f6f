//! EndpointSlice.

use jiff::Timestamp;
use serde_json::Value;

use super::{common, endpoints::shorten};
use crate::{
    Context,
    field::{Errors, Path},
    kinds::Strategy,
    names,
    table::Column,
    value::{default, items, items_mut, object_mut, set, text},
};

pub(crate) struct EndpointSlice;

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;

impl Strategy for EndpointSlice {
    fn default(&self, object: &mut Value) {
        for endpoint in items_mut(object, "endpoints") {
            // Not even an empty one is left out of the JSON form.
            object_mut(endpoint, "conditions");
        }
        for port in items_mut(object, "ports") {
            default(port, "name", "");
            default(port, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, _context: &Context, object: &mut Value) {
        set(object_mut(object, "metadata"), "generation", 1);
    }

    fn prepare_update(&self, _context: &Context, new: &mut Value, old: &Value) {
        let changed = ["endpoints", "ports", "addressType"].iter().any(|field| new[*field] != old[*field])
            || new["metadata"]["labels"] != old["metadata"]["labels"];
        if changed {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            set(object_mut(new, "metadata"), "generation", generation + 1);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let family = text(object, "addressType");
        let place = Path::root("addressType");
        if family.is_empty() {
            errors.required(&place, "");
        } else {
            common::validate_choice(&object["addressType"], &["FQDN", "IPv4", "IPv6"], &place, errors);
        }
        let list = Path::root("endpoints");
        let endpoints = items(&object["endpoints"]);
        if endpoints.len() > MAX_ENDPOINTS {
            errors.too_many(&list, endpoints.len(), MAX_ENDPOINTS);
            return;
        }
        for (at, endpoint) in endpoints.iter().enumerate() {
            let path = list.index(at);
            validate_addresses(&endpoint["addresses"], family, &path.field("addresses"), errors);
        }
        validate_ports(&object["ports"], errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        common::validate_immutable(&new["addressType"], &old["addressType"], &Path::root("addressType"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text("AddressType", "addressType specifies the type of address carried by this EndpointSlice."),
                Column::text(
                    "Ports",
                    "ports specifies the list of network ports exposed by each endpoint in this slice.",
                ),
                Column::text("Endpoints", "endpoints is a list of unique endpoints in this slice."),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let port = |port: &Value| {
            port["port"].as_i64().map_or_else(
                || if text(port, "name").is_empty() { "*".to_owned() } else { text(port, "name").to_owned() },
                |number| number.to_string(),
            )
        };
        let ports: Vec<String> = items(&object["ports"]).iter().map(port).collect();
        let addresses = items(&object["endpoints"]).iter().flat_map(|endpoint| items(&endpoint["addresses"]));
        let addresses: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
        vec![
            common::name(object),
            text(object, "addressType").into(),
            shorten(&ports, "<unset>").into(),
            shorten(&addresses, "<unset>").into(),
            common::age(object, now),
        ]
    }
}

fn validate_addresses(addresses: &Value, family: &str, path: &Path<'_>, errors: &mut Errors) {
    let addresses = items(addresses);
    if addresses.is_empty() {
        errors.required(path, "must contain at least 1 address");
    } else if addresses.len() > MAX_ADDRESSES {
        errors.too_many(path, addresses.len(), MAX_ADDRESSES);
    }
    for (at, address) in addresses.iter().enumerate() {
        let text = address.as_str().unwrap_or_default();
        let problem = match family {
            "IPv4" => text.parse::<std::net::Ipv4Addr>().err().map(|_| "must be an IPv4 address".to_owned()),
            "IPv6" => text.parse::<std::net::Ipv6Addr>().err().map(|_| "must be an IPv6 address".to_owned()),
            "FQDN" => names::dns_subdomain(text).into_iter().next(),
            _ => None,
        };
        if let Some(why) = problem {
            errors.invalid_text(&path.index(at), text, &why);
        }
    }
}

fn validate_ports(ports: &Value, errors: &mut Errors) {
    let list = Path::root("ports");
    let ports = items(ports);
    if ports.len() > MAX_PORTS {
        errors.too_many(&list, ports.len(), MAX_PORTS);
        return;
    }
    let mut seen = std::collections::HashSet::new();
    for (at, port) in ports.iter().enumerate() {
        let path = list.index(at);
        let name = text(port, "name");
        if !name.is_empty() {
            for why in names::dns_label(name) {
                errors.invalid_text(&path.field("name"), name, &why);
            }
        }
        if !seen.insert(name) {
            errors.duplicate(&path.field("name"), &port["name"]);
        }
        common::validate_choice(&port["protocol"], &["SCTP", "TCP", "UDP"], &path.field("protocol"), errors);
    }
}
