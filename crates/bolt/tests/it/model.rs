//! Buckets as maps: what a file is made of in tests, and what it is compared with.

use std::collections::BTreeMap;

use bolt::{Bucket, Db, Measure, ReadError, Source, Value, WriteError, Writer};
use proptest::prelude::*;

pub type Map = BTreeMap<Vec<u8>, Node>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Value(Vec<u8>),
    Bucket(Map),
}

/// Buckets in buckets that a walk follows; a damaged file may have one that is within itself.
const MAX_NESTING: usize = 8;

pub fn write(map: &Map) -> Result<Vec<u8>, WriteError> {
    let mut measure = Measure::new();
    measure_into(&mut measure, map)?;
    let plan = measure.finish()?;
    let mut writer = Writer::new(plan);
    let mut file = Vec::new();
    write_into(&mut writer, map, &mut file)?;
    file.extend(writer.finish()?);
    assert_eq!(file.len() as u64, plan.size(), "the size was known before");
    Ok(file)
}

fn measure_into(measure: &mut Measure, map: &Map) -> Result<(), WriteError> {
    for (key, node) in map {
        match node {
            Node::Value(value) => measure.put(key, value.len())?,
            Node::Bucket(inner) => {
                measure.begin(key)?;
                measure_into(measure, inner)?;
                measure.end()?;
            }
        }
    }
    Ok(())
}

fn write_into(writer: &mut Writer, map: &Map, file: &mut Vec<u8>) -> Result<(), WriteError> {
    for (key, node) in map {
        match node {
            Node::Value(value) => writer.put(key, value)?,
            Node::Bucket(inner) => {
                writer.begin(key)?;
                write_into(writer, inner, file)?;
                writer.end()?;
            }
        }
        while let Some(portion) = writer.portion() {
            file.extend(portion);
        }
    }
    Ok(())
}

pub fn read<S: Source>(db: &mut Db<S>) -> Result<Map, ReadError> {
    let root = db.root();
    read_bucket(db, &root, 0)
}

fn read_bucket<S: Source>(db: &mut Db<S>, bucket: &Bucket, depth: usize) -> Result<Map, ReadError> {
    let mut map = Map::new();
    let mut inner = Vec::new();
    let mut cursor = db.cursor(bucket)?;
    while let Some(entry) = cursor.next()? {
        match entry.value {
            Value::Bytes(value) => drop(map.insert(entry.key.to_vec(), Node::Value(value.to_vec()))),
            Value::Bucket(bucket) => inner.push((entry.key.to_vec(), bucket)),
        }
    }
    for (name, bucket) in inner {
        let content = if depth < MAX_NESTING { read_bucket(db, &bucket, depth + 1)? } else { Map::new() };
        map.insert(name, Node::Bucket(content));
    }
    Ok(map)
}

/// The numbers of keys and buckets.
pub fn count(map: &Map) -> (u64, u64) {
    map.values().fold((0, 0), |(keys, buckets), node| match node {
        Node::Value(_) => (keys + 1, buckets),
        Node::Bucket(inner) => {
            let (more_keys, more_buckets) = count(inner);
            (keys + more_keys, buckets + 1 + more_buckets)
        }
    })
}

/// A value that is mostly short, at times over a page and at times around `large`.
pub fn value(large: usize) -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![40 => 0..200usize, 4 => 3000..9000usize, 1 => large..large + large / 4];
    (length, any::<u8>()).prop_map(|(length, byte)| vec![byte; length])
}

/// Short keys that often share their beginning, some of them padded to a good part of a page and more.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let padding = prop_oneof![20 => Just(0), 4 => 20..600usize, 1 => 3000..5000usize];
    (prop::collection::vec(0..4u8, 1..12), padding).prop_map(|(mut key, padding)| {
        key.resize(key.len() + padding, 1);
        key
    })
}

/// Buckets with keys and buckets in them. The outermost has only buckets.
pub fn maps(keys: usize, large: usize) -> impl Strategy<Value = Map> {
    let flat = prop::collection::btree_map(key(), value(large).prop_map(Node::Value), 0..keys);
    let inner = flat.prop_recursive(3, 64, 4, move |inner| {
        let nested = prop::collection::btree_map(key(), inner.prop_map(Node::Bucket), 0..4);
        let values = prop::collection::btree_map(key(), value(large).prop_map(Node::Value), 0..keys);
        (nested, values).prop_map(|(mut map, values)| {
            map.extend(values);
            map
        })
    });
    prop::collection::btree_map(key(), inner.prop_map(Node::Bucket), 0..4)
}
