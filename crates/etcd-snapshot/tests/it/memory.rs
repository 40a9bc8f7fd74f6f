//! A database with a million keys takes no more memory to write than one with a few.

use etcd_snapshot::{Facts, Measure, Record, Writer};

/// Growth of the process while it writes, in kB.
const GROWTH_LIMIT: i64 = 16 * 1024;
const KEYS: i64 = 1_000_000;

/// What the process holds that is not of a file, in kB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn each(mut take: impl FnMut(&Record<'_>)) {
    let mut key = Vec::new();
    for n in 0..KEYS {
        key.clear();
        key.extend_from_slice(b"registry/");
        key.extend_from_slice(&n.to_be_bytes());
        take(&Record { revision: n + 2, key: &key, value: &[7; 40], create: n + 2, version: 1, ..Record::default() });
    }
}

#[test]
fn a_million_keys_in_little_memory() {
    let before = resident();
    let mut most = before;
    let facts = Facts::default();
    let mut measure = Measure::new(&facts).unwrap();
    each(|record| measure.record(record).unwrap());
    most = most.max(resident());
    let plan = measure.finish().unwrap();
    let mut writer = Writer::new(&facts, plan).unwrap();
    let mut written = 0;
    each(|record| {
        writer.record(record).unwrap();
        if let Some(portion) = writer.portion() {
            written += portion.len() as u64;
        }
        if record.revision % 50_000 == 0 {
            most = most.max(resident());
        }
    });
    written += writer.finish().unwrap().portion.len() as u64;
    assert_eq!(written, plan.size());
    assert!(most - before < GROWTH_LIMIT, "the process grew from {before} to {most} kB");
    println!("{written} bytes written, memory grew by {} kB", most - before);
}
