//! How is a process given only so much memory? By a control group, of whichever kind this machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A group whose members may have so many octets together, page cache included; gone when it is dropped.
pub struct MemoryLimit {
    folder: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    One,
    Two,
}

impl MemoryLimit {
    /// Or why this machine grants none.
    pub fn of(octets: u64) -> Result<MemoryLimit, String> {
        let (parent, kind) = own_group()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("weir-test-{}-{number}", std::process::id()));
        let fault = |doing: &str, cause: std::io::Error| format!("{doing} {}: {cause}", folder.display());
        fs::create_dir(&folder).map_err(|cause| fault("cannot create the control group", cause))?;
        let limit = MemoryLimit { folder: folder.clone(), kind };
        let file = limit.folder.join(match kind {
            Kind::One => "memory.limit_in_bytes",
            Kind::Two => "memory.max",
        });
        fs::write(&file, octets.to_string()).map_err(|cause| fault("cannot limit the control group", cause))?;
        Ok(limit)
    }

    /// A process that writes its number here belongs to the group.
    pub fn members(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// The most that was ever in use.
    pub fn peak_bytes(&self) -> u64 {
        let file = self.folder.join(match self.kind {
            Kind::One => "memory.max_usage_in_bytes",
            Kind::Two => "memory.peak",
        });
        fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
    }

    /// Processes that the kernel ended because the group had too much.
    pub fn killed(&self) -> u64 {
        let file = self.folder.join(match self.kind {
            Kind::One => "memory.oom_control",
            Kind::Two => "memory.events",
        });
        let text = fs::read_to_string(file).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.expect("the kernel counts what it kills").trim().parse().unwrap()
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// The group this process is in, where the controller for memory is.
fn own_group() -> Result<(PathBuf, Kind), String> {
    let text = fs::read_to_string("/proc/self/cgroup").map_err(|cause| format!("/proc/self/cgroup: {cause}"))?;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or("/"));
        if controllers.split(',').any(|name| name == "memory") {
            return Ok((Path::new("/sys/fs/cgroup/memory").join(path.trim_start_matches('/')), Kind::One));
        }
        if controllers.is_empty() && Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            // A group that has members itself may not pass controllers on: a new one stands beside it.
            let own = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
            let parent = own.parent().filter(|parent| parent.starts_with("/sys/fs/cgroup")).unwrap_or(&own);
            return Ok((parent.to_owned(), Kind::Two));
        }
    }
    Err("no controller for memory is mounted".to_owned())
}
