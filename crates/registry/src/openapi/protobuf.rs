//! The v2 document as gnostic's `openapi.v2.Document` message, which `kubectl` asks for.
//!
//! Knows the messages' layouts (github.com/google/gnostic-models, `openapiv2/OpenAPIv2.proto`) as far as our own
//! document uses them, and nothing of what the document says.

use serde_json::{Map, Value};

use crate::value::items;

/// Encodes a document that [`super::v2`] made.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    out.nested(2, |info| {
        info.text(1, &document["info"]["title"]);
        info.text(2, &document["info"]["version"]);
    });
    out.nested(8, |paths| {
        for (name, item) in entries(&document["paths"]) {
            paths.named(2, name, |out| path_item(out, item));
        }
    });
    out.nested(9, |definitions| {
        for (name, definition) in entries(&document["definitions"]) {
            definitions.named(1, name, |out| schema(out, definition));
        }
    });
    for requirement in items(&document["security"]) {
        out.nested(12, |out| {
            for (name, scopes) in entries(requirement) {
                out.named(1, name, |out| out.texts(1, scopes));
            }
        });
    }
    out.nested(13, |out| {
        for (name, definition) in entries(&document["securityDefinitions"]) {
            // All of ours are API keys.
            out.named(1, name, |out| out.nested(2, |out| api_key(out, definition)));
        }
    });
    out.0
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

/// A message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        const LENGTH_DELIMITED: u64 = 2;
        self.varint(u64::from(field) << 3 | LENGTH_DELIMITED);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A string; nothing when it is not one or is empty, as proto3 has it.
    fn text(&mut self, field: u32, value: &Value) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u32, values: &Value) {
        for text in items(values).iter().filter_map(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn flag(&mut self, field: u32, value: &Value) {
        if value == true {
            self.varint(u64::from(field) << 3);
            self.varint(1);
        }
    }

    fn nested(&mut self, field: u32, fill: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// One of the `Named…` messages that stand for a map's entry.
    fn named(&mut self, field: u32, name: &str, fill: impl FnOnce(&mut Message)) {
        self.nested(field, |entry| {
            entry.bytes(1, name.as_bytes());
            entry.nested(2, fill);
        });
    }

    /// Every `x-` field, as a `NamedAny` whose text is YAML; JSON is YAML.
    fn extensions(&mut self, field: u32, object: &Value) {
        for (name, value) in entries(object).filter(|(name, _)| name.starts_with("x-")) {
            self.named(field, name, |any| any.bytes(2, format!("{value}\n").as_bytes()));
        }
    }
}

fn path_item(out: &mut Message, item: &Value) {
    for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(found) = item.get(method) {
            out.nested(field, |out| operation(out, found));
        }
    }
    parameters(out, 9, &item["parameters"]);
}

fn operation(out: &mut Message, operation: &Value) {
    out.texts(1, &operation["tags"]);
    out.text(3, &operation["description"]);
    out.text(5, &operation["operationId"]);
    out.texts(6, &operation["produces"]);
    out.texts(7, &operation["consumes"]);
    parameters(out, 8, &operation["parameters"]);
    out.nested(9, |out| {
        for (code, response) in entries(&operation["responses"]) {
            out.named(1, code, |value| {
                value.nested(1, |out| {
                    out.text(1, &response["description"]);
                    if let Some(found) = response.get("schema") {
                        out.nested(2, |item| item.nested(1, |out| schema(out, found)));
                    }
                });
            });
        }
    });
    out.texts(10, &operation["schemes"]);
    out.extensions(13, operation);
}

fn parameters(out: &mut Message, field: u32, list: &Value) {
    for parameter in items(list) {
        // ParametersItem.parameter
        out.nested(field, |out| {
            out.nested(1, |out| match parameter["in"].as_str() {
                Some("body") => out.nested(1, |out| body_parameter(out, parameter)),
                Some("path") => out.nested(2, |out| out.nested(4, |out| plain_parameter(out, parameter, 5, 20))),
                _ => out.nested(2, |out| out.nested(3, |out| plain_parameter(out, parameter, 6, 21))),
            });
        });
    }
}

fn body_parameter(out: &mut Message, parameter: &Value) {
    out.text(1, &parameter["description"]);
    out.text(2, &parameter["name"]);
    out.text(3, &parameter["in"]);
    out.flag(4, &parameter["required"]);
    out.nested(5, |out| schema(out, &parameter["schema"]));
}

/// Path and query parameters differ in two field numbers.
fn plain_parameter(out: &mut Message, parameter: &Value, kind: u32, unique: u32) {
    out.flag(1, &parameter["required"]);
    out.text(2, &parameter["in"]);
    out.text(3, &parameter["description"]);
    out.text(4, &parameter["name"]);
    out.text(kind, &parameter["type"]);
    out.flag(unique, &parameter["uniqueItems"]);
}

fn schema(out: &mut Message, value: &Value) {
    out.text(1, &value["$ref"]);
    out.text(2, &value["format"]);
    out.text(4, &value["description"]);
    out.texts(19, &value["required"]);
    if let Some(found) = value.get("additionalProperties") {
        out.nested(21, |out| out.nested(1, |out| schema(out, found)));
    }
    if value["type"].is_string() {
        out.nested(22, |out| out.text(1, &value["type"]));
    }
    if let Some(found) = value.get("items") {
        out.nested(23, |out| out.nested(1, |out| schema(out, found)));
    }
    if let Some(properties) = value["properties"].as_object().filter(|map: &&Map<_, _>| !map.is_empty()) {
        out.nested(25, |out| {
            for (name, property) in properties {
                out.named(1, name, |out| schema(out, property));
            }
        });
    }
    out.extensions(31, value);
}

fn api_key(out: &mut Message, definition: &Value) {
    out.text(1, &definition["type"]);
    out.text(2, &definition["name"]);
    out.text(3, &definition["in"]);
    out.text(4, &definition["description"]);
}
