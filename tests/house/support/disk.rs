//! Where does a test get a disk that it may fill?

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own, as small as this; gone when it is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(label: &str, size: &str) -> Option<SmallDisk> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("small-disk-{label}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let options = format!("size={size}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "weir-test"]).arg(&folder).status();
        status.is_ok_and(|status| status.success()).then_some(SmallDisk(folder))
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}
