//! Strategic merge patch: a merge patch that knows from the schema which lists merge, and by which key.
//!
//! Directives: `$patch: delete|replace|merge` in an object or list item, `$retainKeys` beside an object's fields,
//! `$deleteFromPrimitiveList/<field>` and `$setElementOrder/<field>` beside a list.

use kube_schema::{Field, Object, PatchStrategy, Schema, Shape};
use serde_json::{Map, Value};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

/// Applies `patch` to `live`, whose type is `shape`.
pub fn strategic_merge(schema: &Schema, shape: &Shape, live: &mut Value, patch: Value) -> Result<(), String> {
    let Value::Object(patch) = patch else { return Err("a strategic merge patch must be an object".to_owned()) };
    merge_object(schema, shape, live, patch)
}

fn merge_object(schema: &Schema, shape: &Shape, live: &mut Value, mut patch: Map<String, Value>) -> Result<(), String> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(directive) => match directive.as_str() {
            Some("replace") => {
                *live = Value::Object(patch);
                return Ok(());
            }
            Some("delete") => {
                *live = Value::Object(Map::new());
                return Ok(());
            }
            Some("merge") => {}
            _ => return Err(format!("Unknown patch type: {directive}")),
        },
    }
    if !live.is_object() {
        *live = Value::Object(Map::new());
    }
    let fields = live.as_object_mut().expect("it was made an object just above");
    let retained = patch.remove(RETAIN_KEYS);
    if let Some(retained) = retained {
        retain_keys(fields, &patch, &retained)?;
    }
    let object = match shape {
        Shape::Object(id) => Some(schema.object(*id)),
        _ => None,
    };
    let mut orders = vec![];
    let mut deletions = vec![];
    // The order of a list before the patch: what only the server has keeps its place relative to it.
    let mut before: Vec<(String, Vec<Value>)> = vec![];
    let merge_key = |field: &str| object.and_then(|o| o.field(field)).and_then(|f| f.patch.merge_key.as_deref());
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(ORDER_PREFIX) {
            orders.push((field.to_owned(), value));
        } else if let Some(field) = key.strip_prefix(DELETE_PREFIX) {
            deletions.push((field.to_owned(), value));
        } else {
            if let Some(Value::Array(live)) = fields.get(&key) {
                let name = merge_key(&key);
                before.push((key.clone(), live.iter().map(|item| sort_key(item, name).clone()).collect()));
            }
            merge_field(schema, shape, object, fields, key, value)?;
        }
    }
    for (field, doomed) in deletions {
        let doomed = doomed.as_array().ok_or_else(|| format!("{DELETE_PREFIX}{field} must be a list"))?;
        if let Some(Value::Array(live)) = fields.get_mut(&field) {
            live.retain(|item| !doomed.contains(item));
        }
    }
    for (field, order) in orders {
        let Value::Array(order) = order else {
            return Err(format!("{ORDER_PREFIX}{field} must be a list"));
        };
        let name = merge_key(&field);
        let order: Vec<Value> = order.iter().map(|item| sort_key(item, name).clone()).collect();
        if let Some(Value::Array(live)) = fields.get_mut(&field) {
            let known = before.iter().find(|(known, _)| *known == field).map(|(_, keys)| keys.clone());
            let known = known.unwrap_or_else(|| live.iter().map(|item| sort_key(item, name).clone()).collect());
            sort(live, &order, &known, name);
        }
    }
    Ok(())
}

/// Drops every field that the patch does not list.
fn retain_keys(fields: &mut Map<String, Value>, patch: &Map<String, Value>, retained: &Value) -> Result<(), String> {
    let names: Option<Vec<&str>> = retained.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    let names = names.ok_or("invalid $retainKeys: it must be a list of strings")?;
    let stray = patch.iter().find(|(key, value)| {
        let field = key.strip_prefix(ORDER_PREFIX).or(key.strip_prefix(DELETE_PREFIX)).unwrap_or(key);
        !value.is_null() && !names.contains(&field)
    });
    if let Some((key, _)) = stray {
        return Err(format!("retainKeys list doesn't contain key {key} that is in the patch"));
    }
    fields.retain(|key, _| names.contains(&key.as_str()));
    Ok(())
}

fn merge_field(
    schema: &Schema,
    shape: &Shape,
    object: Option<&Object>,
    fields: &mut Map<String, Value>,
    key: String,
    patch: Value,
) -> Result<(), String> {
    if patch.is_null() {
        fields.remove(&key);
        return Ok(());
    }
    let field = object.and_then(|o| o.field(&key));
    let no_strategy = PatchStrategy::default();
    let (child, strategy) = match (field, shape) {
        (Some(Field { shape, patch, .. }), _) => (shape, patch),
        (None, Shape::Map { value, .. }) => (value.as_ref(), &no_strategy),
        _ => (&Shape::Any, &no_strategy),
    };
    match patch {
        Value::Object(patch) if patch.get(DIRECTIVE).is_some_and(|d| d == "delete") => {
            fields.remove(&key);
        }
        Value::Object(patch) => {
            // Even where nothing is there yet the patch is merged into emptiness, so that no directive is stored.
            let slot = fields.entry(key).or_insert_with(|| Value::Object(Map::new()));
            merge_object(schema, child, slot, patch)?;
        }
        Value::Array(patch) => {
            let slot = fields.entry(key).or_insert_with(|| Value::Array(vec![]));
            merge_list(schema, child, strategy, slot, patch)?;
        }
        scalar => {
            fields.insert(key, scalar);
        }
    }
    Ok(())
}

fn merge_list(
    schema: &Schema,
    shape: &Shape,
    strategy: &PatchStrategy,
    live: &mut Value,
    patch: Vec<Value>,
) -> Result<(), String> {
    let item_shape = match shape {
        Shape::List { item, .. } => item.as_ref(),
        _ => &Shape::Any,
    };
    let replaces = |item: &Value| item.get(DIRECTIVE).is_some_and(|d| d == "replace");
    let replace = patch.iter().any(|item| replaces(item) && item.as_object().is_some_and(|o| o.len() == 1));
    if !strategy.merge || replace {
        let mut kept: Vec<Value> = patch.into_iter().filter(|item| item.get(DIRECTIVE).is_none()).collect();
        kept.iter_mut().for_each(strip_directives);
        *live = Value::Array(kept);
        return Ok(());
    }
    if !live.is_array() {
        *live = Value::Array(vec![]);
    }
    let live = live.as_array_mut().expect("it was made a list just above");
    let Some(merge_key) = strategy.merge_key.as_deref() else {
        for item in patch {
            if !live.contains(&item) {
                live.push(item);
            }
        }
        return Ok(());
    };
    let known: Vec<Value> = live.iter().map(|item| item[merge_key].clone()).collect();
    let named: Vec<Value> = patch.iter().map(|item| item[merge_key].clone()).collect();
    for item in patch {
        let Value::Object(mut item) = item else {
            return Err(format!("a list merged by {merge_key:?} must hold objects"));
        };
        let directive = item.get(DIRECTIVE).and_then(Value::as_str).map(str::to_owned);
        let key = item.get(merge_key).cloned().filter(|key| !key.is_null());
        let Some(key) = key else {
            return Err(format!("map: {} does not contain declared merge key: {merge_key}", Value::Object(item)));
        };
        let same = |other: &Value| other.get(merge_key) == Some(&key);
        match directive.as_deref() {
            Some("delete") => live.retain(|other| !same(other)),
            Some("replace") => {
                item.remove(DIRECTIVE);
                live.retain(|other| !same(other));
                live.push(Value::Object(item));
            }
            _ => match live.iter_mut().find(|other| same(other)) {
                Some(found) => merge_object(schema, item_shape, found, item)?,
                None => {
                    let mut fresh = Value::Object(Map::new());
                    merge_object(schema, item_shape, &mut fresh, item)?;
                    live.push(fresh);
                }
            },
        }
    }
    sort(live, &named, &known, Some(merge_key));
    Ok(())
}

/// Directives inside a value that is taken over whole mean nothing and must not be stored.
fn strip_directives(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, value| {
                let directive = key == DIRECTIVE
                    || key == RETAIN_KEYS
                    || key.starts_with(DELETE_PREFIX)
                    || key.starts_with(ORDER_PREFIX);
                !directive && !value.is_null()
            });
            fields.values_mut().for_each(strip_directives);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_directives),
        _ => {}
    }
}

/// What an item is told by: its merge key, or itself.
fn sort_key<'v>(item: &'v Value, merge_key: Option<&str>) -> &'v Value {
    merge_key.map_or(item, |name| &item[name])
}

/// Brings `live` into the order that the patch names. Items that only the server has come before a named one only where
/// both were there already, in that order: so new items of a patch come first, as in kube-apiserver.
fn sort(live: &mut Vec<Value>, order: &[Value], before: &[Value], merge_key: Option<&str>) {
    let place = |keys: &[Value], item: &Value| keys.iter().position(|key| key == sort_key(item, merge_key));
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        live.drain(..).partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    others.sort_by_key(|item| place(before, item));
    let mut others = others.into_iter().peekable();
    for item in named {
        let at = place(before, &item);
        while let (Some(at), Some(other)) = (at, others.peek())
            && place(before, other).is_some_and(|other| other < at)
        {
            live.extend(others.next());
        }
        live.push(item);
    }
    live.extend(others);
}
