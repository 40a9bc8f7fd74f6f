//! Keeping an idle shim small. There is one per pod, so what each holds counts many times.
//!
//! The shim is the whole product's binary, of which it uses little once a container runs: the pages that the start
//! has touched are given back, and those that are needed again come from the page cache.

use std::fs;

use crate::sys;

/// Gives back what is not needed while nothing happens.
pub(super) fn release() {
    sys::trim_allocator();
    let Ok(map) = fs::read_to_string("/proc/self/smaps") else { return };
    for (start, end) in clean_file_mappings(&map) {
        sys::forget_clean_pages(start, end - start);
    }
}

/// Mappings of files that cannot be written and of which no page was ever copied: program text and constants, but not
/// what the dynamic linker has filled in and then protected.
fn clean_file_mappings(map: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in map.lines() {
        let mut fields = line.split_whitespace();
        let (Some(first), Some(second)) = (fields.next(), fields.next()) else { continue };
        if first == "Anonymous:" {
            let range = candidate.take().filter(|_| second == "0");
            found.extend(range);
        } else if !first.ends_with(':') {
            let path = fields.nth(3).unwrap_or_default();
            let wanted = second.starts_with("r-") && second.ends_with('p') && path.starts_with('/');
            candidate = range(first).filter(|_| wanted);
        }
    }
    found
}

fn range(text: &str) -> Option<(usize, usize)> {
    let (start, end) = text.split_once('-')?;
    let range = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    (range.0 < range.1).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_untouched_file_pages_are_given_back() {
        let map = "1000-3000 r-xp 00000000 fd:00 12 /bin/x\nSize: 8 kB\nAnonymous:        0 kB\n\
            4000-5000 r--p 00000000 fd:00 12 /bin/x\nAnonymous:        4 kB\n\
            6000-7000 rw-p 00000000 fd:00 12 /bin/x\nAnonymous:        0 kB\n\
            7000-8000 r-xp 00000000 00:00 0 [vdso]\nAnonymous:        0 kB\n\
            9000-a000 r--p 00000000 00:00 0\nAnonymous:        0 kB\n";
        assert_eq!(clean_file_mappings(map), [(0x1000, 0x3000)]);
    }
}
