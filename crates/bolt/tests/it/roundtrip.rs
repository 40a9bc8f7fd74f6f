//! What is written is read back, and the file is sound.

use std::io::Cursor;

use bolt::{Db, Measure, Stream, Value, WriteError, Writer};
use proptest::prelude::*;

use crate::model::{Map, Node, count, maps, read, write};

fn check(map: &Map) {
    let file = write(map).unwrap();
    let mut db = Db::open(&file[..]).unwrap();
    let checked = db.check().unwrap();
    assert_eq!((checked.keys, checked.buckets), count(map));
    assert_eq!((checked.free, db.size()), (0, file.len() as u64));
    assert!(read(&mut db).unwrap() == *map, "what was read is what was written");
    // By position, and with something behind the last page.
    let mut db = Db::open(Stream::new(Cursor::new([&file[..], b"more"].concat())).unwrap()).unwrap();
    assert!(read(&mut db).unwrap() == *map, "by position, too");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn buckets_come_back(map in maps(60, 1_000_000)) {
        check(&map);
    }

    #[test]
    fn a_seek_finds_the_next_key(map in maps(300, 10_000), wanted in prop::collection::vec(0..4u8, 0..8)) {
        let file = write(&map).unwrap();
        let mut db = Db::open(&file[..]).unwrap();
        for (name, node) in &map {
            let Node::Bucket(inner) = node else { continue };
            let bucket = db.bucket(&[name]).unwrap().unwrap();
            let mut cursor = db.cursor(&bucket).unwrap();
            cursor.seek(&wanted).unwrap();
            let found = cursor.next().unwrap().map(|entry| entry.key.to_vec());
            prop_assert_eq!(found.as_ref(), inner.range(wanted.clone()..).next().map(|(key, _)| key));
            for (key, node) in inner.iter().step_by(7) {
                let value = if let Node::Value(value) = node { Some(value.clone()) } else { None };
                prop_assert_eq!(db.get(&bucket, key).unwrap(), value);
            }
        }
    }
}

#[test]
fn trees_of_every_height_and_edge() {
    let numbered = |count: u32, value: usize| {
        (0..count).map(|n| (n.to_be_bytes().to_vec(), Node::Value(vec![7; value]))).collect::<Map>()
    };
    // Around the limits of inline buckets, of one page, and of one branch page.
    for (counts, value) in [(0..5, 0), (28..34, 9), (100..104, 9), (130..134, 9), (16_900..16_903, 9)] {
        counts.for_each(|count| check(&[(b"b".to_vec(), Node::Bucket(numbered(count, value)))].into()));
    }
    // One key to a page: the tree is as high as it gets with few keys, and its last branches have one child too many.
    for count in (1..700).step_by(37).chain([100_000]) {
        let value = if count > 1000 { 20 } else { 2100 };
        check(&[(b"b".to_vec(), Node::Bucket(numbered(count, value)))].into());
    }
    // Keys so long that a branch page holds few of them.
    let long = |n: u32| [vec![b'k'; 2000], n.to_be_bytes().to_vec()].concat();
    for count in 1..40 {
        let bucket = (0..count).map(|n| (long(n), Node::Value(Vec::new()))).collect();
        check(&[(b"b".to_vec(), Node::Bucket(bucket))].into());
    }
}

#[test]
fn a_file_may_have_no_bucket() {
    check(&Map::new());
}

#[test]
fn what_has_no_place_is_refused() {
    let mut measure = Measure::new();
    assert_eq!(measure.put(b"a", 1), Err(WriteError::Nesting));
    assert_eq!(measure.begin(b""), Err(WriteError::EmptyKey));
    measure.begin(b"b").unwrap();
    assert_eq!(measure.put(&[1; bolt::MAX_KEY + 1], 1), Err(WriteError::KeyTooLarge(bolt::MAX_KEY + 1)));
    assert_eq!(measure.put(b"a", bolt::MAX_VALUE + 1), Err(WriteError::ValueTooLarge(bolt::MAX_VALUE + 1)));
    measure.put(b"a", 1).unwrap();
    assert_eq!(measure.put(b"a", 1), Err(WriteError::Order));
    measure.end().unwrap();
    assert_eq!(measure.begin(b"a"), Err(WriteError::Order));
    assert_eq!(measure.end(), Err(WriteError::Nesting));
    let mut writer = Writer::new(measure.finish().unwrap());
    writer.begin(b"b").unwrap();
    (0..1000u32).for_each(|n| writer.put(&n.to_be_bytes(), b"more than was measured").unwrap());
    writer.end().unwrap();
    assert_eq!(writer.finish(), Err(WriteError::PlanChanged));
}

#[test]
fn buckets_are_found_by_path() {
    let inner: Map = [(b"k".to_vec(), Node::Value(b"v".to_vec()))].into();
    let outer: Map = [(b"in".to_vec(), Node::Bucket(inner)), (b"x".to_vec(), Node::Value(Vec::new()))].into();
    let file = write(&[(b"out".to_vec(), Node::Bucket(outer))].into()).unwrap();
    let mut db = Db::open(&file[..]).unwrap();
    let bucket = db.bucket(&[b"out", b"in"]).unwrap().unwrap();
    assert_eq!(db.get(&bucket, b"k").unwrap().as_deref(), Some(&b"v"[..]));
    for missing in [&[&b"in"[..]][..], &[b"out", b"x"], &[b"out", b"in", b"k"]] {
        assert!(db.bucket(missing).unwrap().is_none(), "{missing:?}");
    }
    let root = db.root();
    let mut cursor = db.cursor(&root).unwrap();
    assert!(matches!(cursor.next().unwrap().unwrap().value, Value::Bucket(_)));
    assert!(cursor.next().unwrap().is_none() && cursor.next().unwrap().is_none());
}
