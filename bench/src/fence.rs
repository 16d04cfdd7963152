//! What did all processes of a server cost, those included that have come and gone meanwhile?
//!
//! A server may be one process or a hundred short ones. A cgroup of version 2 counts them all, to the microsecond, and none
//! can leave it; where none can be made, this process becomes the reaper of all its descendants and adds up /proc, to the
//! clock tick.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper};

/// Around the processes of one server.
#[derive(Clone, Debug)]
pub enum Fence {
    Cgroup(PathBuf),
    Tree,
}

/// Processor time used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub user_seconds: f64,
    pub system_seconds: f64,
}

impl Fence {
    pub fn raise() -> io::Result<Fence> {
        // Daemons that fork away come back to this process, which counts and reaps them.
        set_child_subreaper(Some(rustix::process::getpid()))?;
        if let Some(root) = cgroup2_root() {
            let path = root.join(format!("bench-{}", std::process::id()));
            if fs::create_dir(&path).is_ok() && path.join("cpu.stat").exists() {
                return Ok(Fence::Cgroup(path));
            }
        }
        Ok(Fence::Tree)
    }

    /// In words for the report.
    pub fn method(&self) -> &'static str {
        match self {
            Fence::Cgroup(_) => "cgroup v2 cpu.stat",
            Fence::Tree => "/proc, descendants and reaped children (subreaper)",
        }
    }

    /// The command, to be started inside.
    pub fn command(&self, words: &[String]) -> Command {
        let Fence::Cgroup(path) = self else {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            return command;
        };
        let mut command = Command::new("sh");
        // It enters before it becomes the server, so that no child can be born outside.
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(path.join("cgroup.procs")).args(words);
        command
    }

    pub fn cpu(&self) -> io::Result<Cpu> {
        match self {
            Fence::Cgroup(path) => cpu_of_cgroup(path),
            Fence::Tree => cpu_of_tree(),
        }
    }

    pub fn pids(&self) -> io::Result<Vec<u32>> {
        match self {
            Fence::Cgroup(path) => {
                let list = fs::read_to_string(path.join("cgroup.procs"))?;
                Ok(list.lines().filter_map(|line| line.parse().ok()).collect())
            }
            Fence::Tree => Ok(descendants()?.into_iter().map(|process| process.pid).collect()),
        }
    }

    /// Asks all processes inside to end, and ends those that have not within `patience`.
    pub fn clear(&self, patience: Duration) -> io::Result<()> {
        let asked = Instant::now();
        let mut signal = Signal::TERM;
        loop {
            let pids: Vec<u32> = self.pids()?.into_iter().filter(|pid| !is_zombie(*pid)).collect();
            if pids.is_empty() {
                break;
            }
            if asked.elapsed() >= patience {
                signal = Signal::KILL;
            }
            if signal == Signal::KILL || asked.elapsed() < Duration::from_millis(100) {
                for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid as i32)) {
                    // It may have ended by itself since it was listed.
                    let _ = kill_process(pid, signal);
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// After `clear`, when the server itself has been waited for: reaps the daemons it left to us and removes the fence.
    pub fn remove(self) -> io::Result<()> {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        match self {
            Fence::Cgroup(path) => fs::remove_dir(path),
            Fence::Tree => Ok(()),
        }
    }

    /// Watches how much memory the processes inside hold, until told to stop.
    pub fn watch_memory(&self) -> MemoryWatch {
        let peak = Arc::new(Peak::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (fence, its_peak, its_stop) = (self.clone(), Arc::clone(&peak), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !its_stop.load(Ordering::Relaxed) {
                its_peak.note(&fence.pids().unwrap_or_default());
                thread::sleep(Duration::from_millis(500));
            }
        });
        MemoryWatch { peak, stop, thread }
    }
}

pub struct MemoryWatch {
    peak: Arc<Peak>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The greatest sums seen, in KiB.
#[derive(Debug, Default)]
struct Peak {
    rss: AtomicU64,
    pss: AtomicU64,
    processes: AtomicU64,
}

impl Peak {
    fn note(&self, pids: &[u32]) {
        let rollups: Vec<String> =
            pids.iter().filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()).collect();
        let sum = |field: &str| rollups.iter().map(|text| kib(text, field)).sum();
        self.rss.fetch_max(sum("Rss:"), Ordering::Relaxed);
        self.pss.fetch_max(sum("Pss:"), Ordering::Relaxed);
        self.processes.fetch_max(pids.len() as u64, Ordering::Relaxed);
    }
}

pub struct Memory {
    /// Shared pages counted once per process.
    pub rss_kib: u64,
    /// Shared pages counted once.
    pub pss_kib: u64,
    pub processes: u64,
}

impl MemoryWatch {
    pub fn stop(self) -> Memory {
        self.stop.store(true, Ordering::Relaxed);
        // A watcher that panicked has still left what it saw before.
        let _ = self.thread.join();
        Memory {
            rss_kib: self.peak.rss.load(Ordering::Relaxed),
            pss_kib: self.peak.pss.load(Ordering::Relaxed),
            processes: self.peak.processes.load(Ordering::Relaxed),
        }
    }
}

/// Processor seconds of this process itself: what the generator and the sink took.
pub fn own_cpu_seconds() -> io::Result<f64> {
    let me = Process::read(std::process::id()).ok_or_else(|| io::Error::other("/proc/self/stat is not readable"))?;
    Ok((me.user_ticks + me.system_ticks) as f64 / ticks_per_second())
}

fn cgroup2_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let path = words.next()?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(path))
    })
}

fn cpu_of_cgroup(path: &Path) -> io::Result<Cpu> {
    let text = fs::read_to_string(path.join("cpu.stat"))?;
    let seconds = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        value.map(|usec| usec / 1e6).ok_or_else(|| io::Error::other(format!("cpu.stat has no {name}")))
    };
    Ok(Cpu { user_seconds: seconds("user_usec")?, system_seconds: seconds("system_usec")? })
}

/// The living and the unreaped by their own stat, with the children that they have reaped; those that we have reaped, by ours.
fn cpu_of_tree() -> io::Result<Cpu> {
    let me = Process::read(std::process::id()).ok_or_else(|| io::Error::other("/proc/self/stat is not readable"))?;
    let (mut user, mut system) = (me.reaped_user_ticks, me.reaped_system_ticks);
    for process in descendants()? {
        user += process.user_ticks + process.reaped_user_ticks;
        system += process.system_ticks + process.reaped_system_ticks;
    }
    let ticks = ticks_per_second();
    Ok(Cpu { user_seconds: user as f64 / ticks, system_seconds: system as f64 / ticks })
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

struct Process {
    pid: u32,
    parent: u32,
    state: char,
    user_ticks: u64,
    system_ticks: u64,
    reaped_user_ticks: u64,
    reaped_system_ticks: u64,
}

impl Process {
    fn read(pid: u32) -> Option<Process> {
        Process::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// proc(5): the second field is the name in parentheses, and may itself have spaces and parentheses.
    fn parse(pid: u32, stat: &str) -> Option<Process> {
        let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse().ok();
        Some(Process {
            pid,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            user_ticks: ticks(11)?,
            system_ticks: ticks(12)?,
            reaped_user_ticks: ticks(13)?,
            reaped_system_ticks: ticks(14)?,
        })
    }
}

fn is_zombie(pid: u32) -> bool {
    Process::read(pid).is_none_or(|process| process.state == 'Z')
}

fn descendants() -> io::Result<Vec<Process>> {
    let mut by_parent: HashMap<u32, Vec<Process>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since it was listed.
        if let Some(process) = Process::read(pid) {
            by_parent.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![std::process::id()];
    while let Some(parent) = open.pop() {
        for process in by_parent.remove(&parent).unwrap_or_default() {
            if seen.insert(process.pid) {
                open.push(process.pid);
                found.push(process);
            }
        }
    }
    Ok(found)
}

fn kib(text: &str, field: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.trim().parse().ok());
    value.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    // A failed unwrap is a failed test.
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 11 12 13 14 20 0 1 0";
        let process = Process::parse(7, stat).unwrap();
        assert_eq!((process.state, process.parent), ('S', 3));
        assert_eq!((process.user_ticks, process.system_ticks), (11, 12));
        assert_eq!((process.reaped_user_ticks, process.reaped_system_ticks), (13, 14));
    }

    #[test]
    fn memory_is_read_from_its_line() {
        let text =
            "55d0-7ff ---p 00000000 00:00 0   [rollup]\nRss:                1234 kB\nPss:                 567 kB\n";
        assert_eq!((kib(text, "Rss:"), kib(text, "Pss:"), kib(text, "Swap:")), (1234, 567, 0));
    }

    #[test]
    fn the_work_of_children_that_are_gone_is_counted() {
        for fence in [Fence::raise().unwrap(), Fence::Tree] {
            let before = fence.cpu().unwrap();
            let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done & wait";
            let words = ["sh", "-c", script].map(String::from);
            assert!(fence.command(&words).status().unwrap().success());
            let after = fence.cpu().unwrap();
            let spent = after.user_seconds + after.system_seconds - before.user_seconds - before.system_seconds;
            assert!(spent > 0.02, "{}: {spent}", fence.method());
            if let Fence::Cgroup(path) = fence {
                fs::remove_dir(path).unwrap();
            }
        }
    }
}
