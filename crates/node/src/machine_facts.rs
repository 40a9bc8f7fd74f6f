//! What the machine is: cores, memory, disk, kernel, names. Read once from /proc, /sys and /etc.

use std::{fs, path::Path};

use nix::sys::{statvfs::statvfs, utsname::uname};

#[derive(Clone, Debug, Default)]
pub(crate) struct MachineFacts {
    pub cpus: i64,
    pub memory_bytes: i64,
    pub disk_bytes: i64,
    /// Size in kB and number of the huge pages that are set aside.
    pub huge_pages: Vec<(u64, u64)>,
    pub kernel: String,
    pub os_image: String,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub swap_bytes: i64,
}

/// What is free at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub memory: bool,
    pub disk: bool,
}

/// Less memory than this is pressure: kubelet's default.
const LEAST_MEMORY: i64 = 100 << 20;
/// Less disk than this share, in percent, is pressure…
const LEAST_DISK_PERCENT: u64 = 5;
/// …but not while so much is free: a share of a large disk is room enough.
const LEAST_DISK_BYTES: u64 = 1 << 30;

fn word(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn meminfo(name: &str) -> Option<i64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))?;
    let kib: i64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

impl MachineFacts {
    pub fn read(data_dir: &Path) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let disk = statvfs(data_dir).map_or(0, |fs| fs.blocks().saturating_mul(fs.fragment_size()));
        MachineFacts {
            cpus: i64::try_from(cpus).unwrap_or(1),
            memory_bytes: meminfo("MemTotal").unwrap_or(0),
            disk_bytes: i64::try_from(disk).unwrap_or(i64::MAX),
            huge_pages: huge_pages(),
            kernel: uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default(),
            os_image: os_image(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
            machine_id: word("/etc/machine-id"),
            system_uuid: match word("/sys/class/dmi/id/product_uuid") {
                uuid if uuid.is_empty() => word("/etc/machine-id"),
                uuid => uuid,
            },
            boot_id: word("/proc/sys/kernel/random/boot_id"),
            swap_bytes: meminfo("SwapTotal").unwrap_or(0),
        }
    }
}

impl Pressure {
    pub fn read(data_dir: &Path) -> Self {
        let disk = statvfs(data_dir).is_ok_and(|fs| {
            let free = fs.blocks_available().saturating_mul(fs.fragment_size());
            let share = fs.blocks().saturating_mul(fs.fragment_size()) / 100 * LEAST_DISK_PERCENT;
            free < share.min(LEAST_DISK_BYTES)
        });
        Pressure { memory: meminfo("MemAvailable").is_some_and(|free| free < LEAST_MEMORY), disk }
    }
}

fn huge_pages() -> Vec<(u64, u64)> {
    let folders = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut pages: Vec<(u64, u64)> = folders
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
            Some((size, count))
        })
        .collect();
    pages.sort_unstable();
    pages
}

/// The `PRETTY_NAME` of an os-release file.
fn os_image(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores_and_memory() {
        let facts = MachineFacts::read(Path::new("/"));
        assert!(facts.cpus > 0 && facts.memory_bytes > 0 && facts.disk_bytes > 0 && !facts.kernel.is_empty());
        assert_eq!(
            os_image("ID=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
    }
}
