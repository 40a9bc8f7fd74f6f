//! Damaged files: any bytes give an answer or an error, soon and in little memory.

use std::io::Cursor;

use bolt::{Db, PAGE_SIZE, ReadError, Stream};
use proptest::{prelude::*, sample::Index};

use crate::model::{Map, Node, maps, read, write};

/// What a walk may hold of these files, which are far smaller.
const LIMIT: u64 = 8 << 20;

/// Reads everything in every way; only errors may come of it.
fn survive(file: &[u8]) {
    if let Ok(mut db) = Db::open_with_limit(file, LIMIT) {
        let sound = db.check();
        let read = read(&mut db);
        assert!(sound.is_err() || read.is_ok(), "sound, and yet {read:?}");
        let _ = db.bucket(&[&[1], &[2]]);
    }
    if let Ok(mut db) = Db::open_with_limit(Stream::new(Cursor::new(file)).unwrap(), LIMIT) {
        let _ = read(&mut db);
    }
}

/// Where a file is changed, and to what.
#[derive(Clone, Debug)]
enum Change {
    Byte(Index, u8),
    /// A number of a page's header or first elements: what steers the reader.
    Number(Index, usize, u32),
    /// A page as a copy of another: pages that are led to twice, and circles.
    Copy(Index, Index),
    Cut(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![0..8u32, any::<u32>(), Just(u32::MAX), Just(0x10_0000)];
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        8 => (any::<Index>(), 0..24usize, number).prop_map(|(page, at, n)| Change::Number(page, at, n)),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Copy(from, to)),
        1 => any::<Index>().prop_map(Change::Cut),
    ]
}

fn apply(file: &mut Vec<u8>, change: &Change) {
    let pages = file.len() / PAGE_SIZE;
    if pages == 0 {
        return;
    }
    match change {
        Change::Byte(at, byte) => {
            let at = at.index(file.len());
            file[at] = *byte;
        }
        Change::Number(page, at, n) => {
            let start = page.index(pages) * PAGE_SIZE + at * 4;
            file[start..start + 4].copy_from_slice(&n.to_le_bytes());
        }
        Change::Copy(from, to) => {
            // The number of the page stays, so that the copy is believed.
            let (from, to) = (from.index(pages) * PAGE_SIZE, to.index(pages) * PAGE_SIZE);
            file.copy_within(from + 8..from + PAGE_SIZE, to + 8);
        }
        Change::Cut(at) => file.truncate(at.index(file.len())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_damaged_file_is_survived(map in maps(40, 20_000), changes in prop::collection::vec(change(), 1..6)) {
        let sound = write(&map).unwrap();
        // Alone, a change goes deeper than behind others that stop the reader first.
        for change in &changes {
            let mut file = sound.clone();
            apply(&mut file, change);
            survive(&file);
        }
        let mut file = sound;
        changes.iter().for_each(|change| apply(&mut file, change));
        survive(&file);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        survive(&bytes);
    }
}

fn numbered(count: u32) -> Vec<u8> {
    let bucket = (0..count).map(|n| (n.to_be_bytes().to_vec(), Node::Value(vec![1; 90]))).collect::<Map>();
    write(&[(b"b".to_vec(), Node::Bucket(bucket))].into()).unwrap()
}

/// The page of that flag that comes first.
fn page_with(file: &[u8], flags: u16) -> usize {
    (2..file.len() / PAGE_SIZE)
        .map(|page| page * PAGE_SIZE)
        .find(|at| file[at + 8..at + 10] == flags.to_le_bytes())
        .unwrap()
}

#[test]
fn errors_name_the_page() {
    let check = |damage: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let mut file = numbered(1000);
        damage(&mut file);
        let result = Db::open(&file[..]).and_then(|mut db| read(&mut db));
        assert_eq!(result.map(|_| ()).unwrap_err().to_string(), expected);
    };
    check(&|file| file.truncate(79), "not a bbolt file: shorter than its meta pages");
    check(&|file| file.clear(), "not a bbolt file: shorter than its meta pages");
    check(&|file| file.truncate(8 * PAGE_SIZE), "the file is cut short: 32768 bytes, but its pages take 147456");
    check(&|file| file[3 * PAGE_SIZE] = 9, "page 3: it says that it is another page");
    check(&|file| file[3 * PAGE_SIZE + 8] = 4, "page 3: neither branch, leaf nor freelist");
    check(&|file| file[3 * PAGE_SIZE + 13] = 1, "page 3: it goes on behind the last page");
    check(&|file| file[3 * PAGE_SIZE + 11] = 9, "page 3: more elements than the page has room for");
    check(&|file| file[3 * PAGE_SIZE + 20] = 255, "page 3: a key is not greater than the one before it");
    check(&|file| file[3 * PAGE_SIZE + 22] = 255, "page 3: an element lies outside of its page");
    // A branch whose second child is its first one again.
    let circle = |file: &mut Vec<u8>| {
        let branch = page_with(file, 1);
        file.copy_within(branch + 24..branch + 32, branch + 40);
    };
    check(&circle, "page 3: a key is not greater than the one before it");
    let empty = |file: &mut Vec<u8>| {
        circle(file);
        file[3 * PAGE_SIZE + 10] = 0;
    };
    // An empty leaf has no keys that tell that it was read before; the number of pages does.
    let all = |file: &mut Vec<u8>| {
        empty(file);
        let branch = page_with(file, 1);
        let children = usize::from(file[branch + 10]);
        (1..children).for_each(|child| file.copy_within(branch + 24..branch + 32, branch + 24 + child * 16));
    };
    let mut file = numbered(1000);
    all(&mut file);
    let mut db = Db::open(&file[..]).unwrap();
    assert!(read(&mut db).is_ok(), "fewer visits than pages: nothing is wrong enough to be seen");
    assert_eq!(db.check().unwrap_err().to_string(), "page 3: used twice, or used and free");
    let own = |file: &mut Vec<u8>| {
        let branch = page_with(file, 1);
        let itself = (branch / PAGE_SIZE) as u64;
        file[branch + 24..branch + 32].copy_from_slice(&itself.to_le_bytes());
    };
    check(&own, "page 34: the tree leads here more than once");
}

#[test]
fn a_page_over_the_limit_is_refused() {
    let bucket: Map = [(b"k".to_vec(), Node::Value(vec![1; 100_000]))].into();
    let file = write(&[(b"b".to_vec(), Node::Bucket(bucket))].into()).unwrap();
    let error = Db::open_with_limit(&file[..], 50_000).and_then(|mut db| read(&mut db)).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { page: 3, wanted: 102_400, limit: 50_000 }), "{error}");
}

#[test]
fn a_torn_meta_page_leaves_the_other() {
    for page in [0, 1] {
        let mut file = numbered(100);
        file[page * PAGE_SIZE + 40] ^= 0xff;
        assert!(Db::open(&file[..]).and_then(|mut db| db.check()).is_ok(), "page {page}");
        file[(1 - page) * PAGE_SIZE + 40] ^= 0xff;
        assert!(Db::open(&file[..]).is_err());
    }
}
