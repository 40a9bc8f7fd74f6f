//! A file with a million keys takes no more memory than one with a few.

use bolt::{Measure, Writer};

/// Growth of the process while it writes, in kB.
const GROWTH_LIMIT: i64 = 16 * 1024;
const KEYS: u64 = 1_000_000;

/// What the process holds that is not of a file, in kB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_million_keys_in_little_memory() {
    let before = resident();
    let mut most = before;
    let key = |n: u64| [&n.to_be_bytes()[..], b"_", &[0; 8]].concat();
    let mut measure = Measure::new();
    measure.begin(b"key").unwrap();
    (0..KEYS).for_each(|n| measure.put(&key(n), 60).unwrap());
    measure.end().unwrap();
    most = most.max(resident());
    let plan = measure.finish().unwrap();
    let mut writer = Writer::new(plan);
    let mut written = 0;
    writer.begin(b"key").unwrap();
    for n in 0..KEYS {
        writer.put(&key(n), &[7; 60]).unwrap();
        if let Some(portion) = writer.portion() {
            written += portion.len() as u64;
        }
        if n % 50_000 == 0 {
            most = most.max(resident());
        }
    }
    writer.end().unwrap();
    most = most.max(resident());
    written += writer.finish().unwrap().len() as u64;
    assert_eq!(written, plan.size());
    assert!(written > 90 << 20, "{written}");
    assert!(most - before < GROWTH_LIMIT, "the process grew from {before} to {most} kB");
    println!("{written} bytes written, memory grew by {} kB", most - before);
}
