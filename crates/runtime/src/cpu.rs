//! How many worker threads this process deserves: the cores it may run on, cut by its cgroup's CPU quota.

use std::{fs, path::Path};

/// Worker threads for the async runtime: at least one.
pub fn worker_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match cgroup_quota(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup")) {
        Some(quota) => cores.min((quota.ceil() as usize).max(1)),
        None => cores,
    }
}

/// The CPU quota of this process's cgroup in cores, or `None` where it has no quota. Reads v2 (`cpu.max`) and v1
/// (`cpu.cfs_quota_us`), and takes the smallest on the way up to the root.
fn cgroup_quota(membership: &Path, mount: &Path) -> Option<f64> {
    let text = fs::read_to_string(membership).ok()?;
    let mut smallest: Option<f64> = None;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let base = match controllers {
            "" => mount.to_path_buf(),
            list if list.split(',').any(|c| c == "cpu") => mount.join("cpu"),
            _ => continue,
        };
        let mut dir = base.join(path.trim_start_matches('/'));
        while dir.starts_with(&base) {
            if let Some(quota) = quota_of(&dir) {
                smallest = Some(smallest.map_or(quota, |s: f64| s.min(quota)));
            }
            if !dir.pop() {
                break;
            }
        }
    }
    smallest
}

fn quota_of(dir: &Path) -> Option<f64> {
    let number = |name: &str| fs::read_to_string(dir.join(name)).ok()?.trim().parse::<f64>().ok();
    if let Ok(max) = fs::read_to_string(dir.join("cpu.max")) {
        let (quota, period) = max.trim().split_once(' ')?;
        return Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?);
    }
    let quota = number("cpu.cfs_quota_us").filter(|q| *q > 0.0)?;
    Some(quota / number("cpu.cfs_period_us")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_quota_on_the_way_up_wins() {
        let dir = std::env::temp_dir().join(format!("plinth-cpu-{}", std::process::id()));
        fs::create_dir_all(dir.join("a/b")).unwrap();
        fs::write(dir.join("cgroup"), "0::/a/b\n").unwrap();
        fs::write(dir.join("a/cpu.max"), "150000 100000\n").unwrap();
        fs::write(dir.join("a/b/cpu.max"), "max 100000\n").unwrap();
        assert_eq!(cgroup_quota(&dir.join("cgroup"), &dir), Some(1.5));
        fs::remove_dir_all(&dir).unwrap();
    }
}
