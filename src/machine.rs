//! How much memory may this process have?
//!
//! The machine's, or what a control group leaves it of that: whoever holds more is ended by the kernel without a word.

use std::fs;
use std::path::{Path, PathBuf};

/// The least of what the machine has and what the control groups above this process grant; `None` when nobody says.
pub fn memory_bytes() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    memory_of(&read)
}

/// `read` gives a file's text, where there is such a file.
fn memory_of(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| in_meminfo(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let granted = groups.lines().flat_map(limits_above).filter_map(|file| read(&file)?.trim().parse().ok());
    granted.chain(machine).min()
}

fn in_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

/// The files that limit the group of one line of `/proc/self/cgroup`, and those of the groups above it. In a container the path may
/// be the host's and lead nowhere here; the container's own group then is the root.
fn limits_above(line: &str) -> Vec<PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        names if names.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let group = Path::new(root).join(path.trim_start_matches('/'));
    group.ancestors().take_while(|above| above.starts_with(root)).map(|above| above.join(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn check(files: &[(&str, &str)], expected: Option<u64>) {
        let files: BTreeMap<&Path, &str> = files.iter().map(|(path, text)| (Path::new(*path), *text)).collect();
        assert_eq!(memory_of(&|path| files.get(path).map(ToString::to_string)), expected, "{files:?}");
    }

    // E1
    #[test]
    fn the_smallest_limit_counts() {
        let machine = ("/proc/meminfo", "MemTotal:       24000000 kB\nMemFree: 1 kB\n");
        check(&[], None);
        check(&[machine], Some(24_576_000_000));
        check(
            &[
                machine,
                ("/proc/self/cgroup", "0::/system.slice/weir.service\n"),
                ("/sys/fs/cgroup/system.slice/weir.service/memory.max", "max\n"),
                ("/sys/fs/cgroup/system.slice/memory.max", "1073741824\n"),
            ],
            Some(1 << 30),
        );
        check(
            &[
                machine,
                ("/proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/docker/7f3a\n0::/\n"),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
                ("/sys/fs/cgroup/cpu/memory.limit_in_bytes", "1\n"),
            ],
            Some(512 << 20),
        );
        // A limit that nobody set is a number larger than any machine.
        check(
            &[
                machine,
                ("/proc/self/cgroup", "4:memory:/\n"),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
            Some(24_576_000_000),
        );
    }
}
